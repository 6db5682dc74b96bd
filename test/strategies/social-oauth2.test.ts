import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createOAuth2Provider, type OAuth2Provider } from '../../examples/identity-providers/social.js'
import { browser, listen } from '../rig/oidc-http.js'
import { type App, expectRefused, person, providers, signedIn, signIn, startApp } from '../rig/social-app.js'
import { startWorld, type World } from '../rig/social-world.js'

describe('over the network, at the provider of the examples', () => {
  const redirectUris: string[] = []
  let idp: OAuth2Provider
  let server: Awaited<ReturnType<typeof listen>>
  let app: App
  /** Where the token endpoint redirects to. */
  let astray: string | null = null

  beforeAll(async () => {
    server = await listen('127.0.0.1', (req, res) => {
      if (astray !== null && req.method === 'POST') res.writeHead(307, { location: astray }).end()
      else idp.handler(req, res)
    })
    idp = createOAuth2Provider({
      url: `${server.origin}/oauth`,
      people: [
        {
          id: 7,
          name: 'Grace <Guest>',
          login: 'grace',
          emails: [
            { email: 'grace@gmail.com', primary: true, verified: true },
            { email: 'grace@home.example', primary: false, verified: false },
          ],
        },
        {
          id: 8,
          name: 'Una',
          login: 'una',
          emails: [{ email: 'una@gmail.com', primary: true, verified: false }],
        },
      ],
      clients: [{ id: 'client-hub', secret: 'secret of hub: a&b', redirectUris }],
    })
  })
  afterAll(() => server.close())
  afterEach(async () => {
    redirectUris.length = 0
    await app.close()
  })

  const start = async (
    more: { clientSecret?: string; clientAuthentication?: 'client_secret_basic' } = {},
  ) => {
    const { handler: _, ...endpoints } = idp
    app = await startApp({
      social: [
        {
          id: 'hub',
          preset: 'oauth2',
          clientId: 'client-hub',
          clientSecret: 'secret of hub: a&b',
          allowInsecureRequests: true,
          ...endpoints,
          ...more,
        },
      ],
    })
    redirectUris.push(app.callback('hub'))
  }

  /** Clicks a link of the provider's page. */
  async function click(label: RegExp, agent = browser()) {
    const page = await agent.follow(app.start('hub'))
    expect(page.status, page.text).toBe(200)
    const link = [...page.text.matchAll(/<a class="\w+" href="([^"]+)">([\s\S]*?)<\/a>/g)].find((match) =>
      label.test(match[2]!),
    )!
    return agent
      .go(new URL(link[1]!.replaceAll('&#38;', '&')).href)
      .then(({ location }) => agent.go(location!))
  }

  it.each([{}, { clientAuthentication: 'client_secret_basic' } as const])(
    'a person picks themself and is signed in (%j)',
    async (more) => {
      await start(more)
      const agent = browser()
      const answered = await click(/Grace &#60;Guest&#62;/, agent)
      expect(answered.status, answered.text).toBe(303)
      expect((await agent.go(`${app.origin}/me`)).json().user.email).toBe('grace@gmail.com')
      expect((await app.rows()).users).toMatchObject([
        {
          attributes: { name: 'Grace <Guest>' },
          identities: [{ source: 'provider:hub', issuer: server.origin, subject: '7' }],
        },
      ])
    },
  )

  it('an unverified address makes an account without one', async () => {
    await start()
    const agent = browser()
    expect((await click(/una@gmail.com \(not verified\)/, agent)).status).toBe(303)
    expect((await agent.go(`${app.origin}/me`)).json().user.email).toBe(null)
  })

  it('a person who goes back is told so', async () => {
    await start()
    const agent = browser()
    const answered = await click(/Nobody/, agent)
    await expectRefused(app, agent, answered, { code: 'idp_refused', status: 403, message: /access_denied/ })
  })

  it('a wrong secret is told to the operator, and itself to nobody', async () => {
    await start({ clientSecret: 'not the secret' })
    const agent = browser()
    const answered = await click(/Grace/, agent)
    await expectRefused(app, agent, answered, {
      code: 'config_invalid',
      status: 500,
      message: /clientSecret/,
    })
    expect(JSON.stringify(app.log)).not.toContain('not the secret')
  })

  it('a redirect of the token endpoint is not followed, so no secret travels on', async () => {
    await start()
    const bodies: string[] = []
    const elsewhere = await listen('127.0.0.1', async (req, res) => {
      for await (const chunk of req) bodies.push(String(chunk))
      res.writeHead(200, { 'content-type': 'application/json' }).end('{"access_token":"x"}')
    })
    astray = elsewhere.origin
    const agent = browser()
    const answered = await click(/Grace/, agent)
    await expectRefused(app, agent, answered, { code: 'idp_unreachable', status: 503, message: /redirects/ })
    expect(bodies).toEqual([])
    astray = null
    await elsewhere.close()
    expect((await click(/Grace/)).status).toBe(303)
  })

  it('the provider sends nobody to an address that was not registered', async () => {
    await start()
    redirectUris.length = 0
    const page = await browser().follow(app.start('hub'))
    expect([page.status, page.location]).toEqual([400, null])
    expect(page.text).toContain('is not a callback URL')
  })
})

describe('a provider that fails', () => {
  let world: World
  let app: App

  beforeEach(async () => {
    world = await startWorld()
    app = await startApp({ social: [providers.oauth2], fetch: world.fetch })
  })
  afterEach(() => app.close())

  const ann = person('oauth2', 1, 'ann@gmail.com')
  const endpoints = ['/token', '/user', '/user/emails'] as const

  /** An endless answer, which nobody should read to its end. */
  const endless = () => {
    let sent = 0
    const body = new ReadableStream({
      pull: (controller) => {
        sent += 65_536
        if (sent > 64 * 1024 * 1024) controller.error(new Error('read far too much'))
        else controller.enqueue(new Uint8Array(65_536).fill(32))
      },
    })
    return new Response(body)
  }

  const faults: [string, () => Response | Promise<Response>][] = [
    ['status 500', () => Response.json({}, { status: 500 })],
    ['status 429', () => Response.json({ access_token: 'x', token_type: 'bearer' }, { status: 429 })],
    ['a redirect', () => Response.redirect('https://evil.example/', 302)],
    ['a page', () => new Response('<!doctype html><p>Sorry</p>')],
    ['a form', () => new Response('access_token=x&token_type=bearer')],
    ['nothing', () => new Response('')],
    ['null', () => Response.json(null)],
    ['text', () => Response.json('token')],
    ['half of an answer', () => new Response('{"access_token":"x"')],
    ['an answer without an end', endless],
    ['a broken connection', () => Promise.reject(new TypeError('fetch failed'))],
  ]

  it.each(endpoints.flatMap((path) => faults.map(([name, fault]) => [path, name, fault] as const)))(
    '%s answers with %s: 503, and the next try succeeds',
    async (path, _name, fault) => {
      world.faults.answer = (url) => (url.pathname === path ? fault() : undefined)
      const agent = browser()
      const answered = await signIn(app, world, 'oauth2', ann, agent)
      await expectRefused(app, agent, answered, {
        code: 'idp_unreachable',
        status: 503,
        message: new RegExp(`https://social.example${path}${fault === endless ? '.*larger than' : ''}`),
      })
      expect(world.requests.map(({ url }) => new URL(url).hostname)).not.toContain('evil.example')
      delete world.faults.answer
      await signedIn(app, world, 'oauth2', ann)
    },
  )

  it.each(endpoints)('%s hangs: 503 within the time, and the next try succeeds', async (path) => {
    world.faults.answer = (url, { signal }) =>
      url.pathname === path
        ? new Promise<Response>((_, reject) => {
            signal!.addEventListener('abort', () => reject(signal!.reason))
          })
        : undefined
    const agent = browser()
    const begun = performance.now()
    const answered = await signIn(app, world, 'oauth2', ann, agent)
    expect(performance.now() - begun).toBeLessThan(6_000)
    await expectRefused(app, agent, answered, { code: 'idp_unreachable', status: 503, message: /in time/ })
    delete world.faults.answer
    await signedIn(app, world, 'oauth2', ann)
  })

  it.each<[string, object, string, number]>([
    ['no token', { token_type: 'bearer' }, 'idp_unreachable', 503],
    [
      'a token with a line break',
      { access_token: 'secret\r\nx: y', token_type: 'bearer' },
      'idp_unreachable',
      503,
    ],
    ['invalid_grant', { error: 'invalid_grant' }, 'idp_refused', 403],
    ['bad_verification_code', { error: 'bad_verification_code' }, 'idp_refused', 403],
    ['incorrect_client_credentials', { error: 'incorrect_client_credentials' }, 'config_invalid', 500],
    ['redirect_uri_mismatch', { error: 'redirect_uri_mismatch' }, 'config_invalid', 500],
  ])('a token answer with %s', async (_name, body, code, status) => {
    world.faults.answer = (url) => (url.pathname === '/token' ? Response.json(body) : undefined)
    const agent = browser()
    const answered = await signIn(app, world, 'oauth2', ann, agent)
    await expectRefused(app, agent, answered, { code: code as 'idp_refused', status })
    expect(JSON.stringify(app.log)).not.toContain('secret')
    delete world.faults.answer
    await signedIn(app, world, 'oauth2', ann)
  })

  it('a list of addresses that may not be asked for hints at the scopes', async () => {
    world.faults.answer = (url) =>
      url.pathname === '/user/emails' ? Response.json({ message: 'Forbidden' }, { status: 403 }) : undefined
    const agent = browser()
    const answered = await signIn(app, world, 'oauth2', ann, agent)
    await expectRefused(app, agent, answered, { code: 'idp_unreachable', status: 503, message: /scopes/ })
  })
})
