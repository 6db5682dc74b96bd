import type { IncomingMessage, ServerResponse } from 'node:http'
import { JitError, type OidcConnection, type Services, staticDirectory } from 'passport-jit'
import { memoryOnce } from 'passport-jit/stores/memory'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { describe, expect, it } from 'vitest'
import { printable } from '../../strategies/oidc-http.js'
import { issuerDefaults } from '../../strategies/oidc-issuer.js'
import {
  clientOf,
  expectRefused,
  expectSignedIn,
  oidcConnection,
  signIn,
  startApp,
  twoOrganizations,
  untilCallback,
} from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { person, startProvider } from '../rig/oidc-provider.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'
import { testStore } from '../rig/store.js'

const at = scene()

const discovery = '/.well-known/openid-configuration'
const count = (path: string) => at.acme.requests.filter((entry) => entry === path).length

/** Answers one path of the provider by hand. */
const answering = (path: string, answer: (res: ServerResponse, req: IncomingMessage) => void) => {
  at.acme.faults.intercept = (req, res) => {
    if (!req.url!.split('?')[0]!.endsWith(path)) return false
    answer(res, req)
    return true
  }
}

const json = (res: ServerResponse, status: number, body: unknown, headers = {}) =>
  res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))

const faults: [string, (res: ServerResponse) => void][] = [
  ['answers 500', (res) => json(res, 500, {})],
  ['answers 429', (res) => json(res, 429, {})],
  ['answers 404', (res) => json(res, 404, {})],
  ['redirects', (res) => res.writeHead(302, { location: 'http://127.0.0.1:1/secret' }).end()],
  ['answers a page', (res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Welcome</h1>')],
  ['answers a list', (res) => json(res, 200, [])],
  ['breaks off', (res) => res.destroy()],
  ['never ends', (res) => endless(res)],
]

function endless(res: ServerResponse) {
  res.writeHead(200, { 'content-type': 'application/json' })
  const chunk = Buffer.alloc(64 * 1024, 32)
  const more = () => {
    while (!res.destroyed && res.write(chunk));
    if (!res.destroyed) res.once('drain', more)
  }
  more()
}

describe('discovery', () => {
  it.each(faults)('an issuer whose discovery %s: 503, and the next try succeeds', async (_name, fault) => {
    answering(discovery, fault)
    const client = browser()
    const answer = await client.go(at.app.start('acme'))
    await expectRefused(at.app, client, answer, {
      code: 'idp_unreachable',
      status: 503,
      message: /connection "acme"/,
    })
    expect(answer.headers.get('retry-after')).toBe('2')
    delete at.acme.faults.intercept
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('redirects are not followed, and an endless answer is cut off by its size', async () => {
    answering(discovery, (res) => res.writeHead(302, { location: `${at.acme.issuer}/inside` }).end())
    const client = browser()
    const redirected = await client.go(at.app.start('acme'))
    const expected = { code: 'idp_unreachable', status: 503 }
    await expectRefused(at.app, client, redirected, { ...expected, message: /redirects are not followed/ })
    expect(count('/inside')).toBe(0)
    answering(discovery, endless)
    const cut = await client.go(at.app.start('acme'))
    await expectRefused(at.app, client, cut, { ...expected, message: /larger than 1048576 bytes/ })
    delete at.acme.faults.intercept
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('a document that takes long to read at every start is refused, and an honest one is not near that', async () => {
    const issuer = 'https://idp.example'
    const endpoints = { authorization_endpoint: issuer, token_endpoint: issuer, jwks_uri: issuer }
    const bare = JSON.stringify({ issuer, ...endpoints, more: '' }).length
    let length = issuerDefaults.published
    const app = await startApp({
      connections: [oidcConnection('acme', { issuer })],
      fetch: async () => Response.json({ issuer, ...endpoints, more: 'x'.repeat(length - bare) }),
    })
    const client = browser()
    length += 1
    const refused = await client.go(app.start('acme'))
    const message = /openid-configuration is longer than 65536 characters$/
    await expectRefused(app, client, refused, { code: 'idp_unreachable', status: 503, message })
    length -= 1
    expect((await client.go(app.start('acme'))).status).toBe(302)
    await app.close()
  })

  it('an issuer that hangs: 503 within the time, others unharmed, and the next try succeeds', async () => {
    answering(discovery, () => {})
    const client = browser()
    const started = performance.now()
    const hung = client.go(at.app.start('acme'))
    await honestSignIn(at.app, 'globex', 'bob')
    const before = await at.app.rows()
    const answer = await hung
    expect(performance.now() - started).toBeLessThan(5_000)
    await expectRefused(
      at.app,
      client,
      answer,
      { code: 'idp_unreachable', status: 503, message: /in time/ },
      before,
    )
    delete at.acme.faults.intercept
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('an issuer that nobody listens at names the address and the system code', async () => {
    const app = await startApp({ connections: [oidcConnection('acme', { issuer: 'http://127.0.0.1:9' })] })
    const client = browser()
    const answer = await client.go(app.start('acme'))
    const expected = {
      code: 'idp_unreachable',
      status: 503,
      message: /127\.0\.0\.1:9\/.*(ECONNREFUSED|bad port)/,
    }
    await expectRefused(app, client, answer, expected)
    await app.close()
  })

  it.each([
    ['a final slash', (issuer: string) => `${issuer}/x/`, /final slash/],
    ['another issuer', () => 'https://another.example', /another\.example/],
    ['a text that is no address', () => 'not a url', /discovery document/],
  ])('an issuer that calls itself %s is named with both spellings', async (_name, claimed, message) => {
    const issuer = `${at.acme.issuer}/x`
    const app = await startApp({
      connections: [oidcConnection('acme', { issuer })],
      fetch: async () => Response.json({ issuer: claimed(at.acme.issuer) }),
    })
    const client = browser()
    const answer = await client.go(app.start('acme'))
    await expectRefused(app, client, answer, { code: 'idp_unreachable', status: 503, message })
    await app.close()
  })

  it.each([
    ['authorization_endpoint', undefined],
    ['token_endpoint', 'javascript:alert(1)'],
    ['jwks_uri', 17],
  ])('a document whose %s is %j is refused before anybody is sent away', async (endpoint, value) => {
    at.acme.faults.discovery = (document) => ({ ...document, [endpoint]: value })
    const client = browser()
    const answer = await client.go(at.app.start('acme'))
    const message = new RegExp(endpoint)
    await expectRefused(at.app, client, answer, { code: 'idp_unreachable', status: 503, message })
    at.acme.honest()
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('twenty first sign-ins at once share one request; later ones need none for an hour', async () => {
    let time = Date.now()
    const app = await startApp({ connections: [oidcConnection('acme', at.acme)], now: () => time })
    const started = await Promise.all(Array.from({ length: 20 }, () => browser().go(app.start('acme'))))
    expect(started.map(({ status }) => status)).toEqual(Array(20).fill(302))
    expect(count(discovery)).toBe(1)
    time += 59 * 60_000
    await browser().go(app.start('acme'))
    expect(count(discovery)).toBe(1)
    time += 2 * 60_000
    await browser().go(app.start('acme'))
    expect(count(discovery)).toBe(2)
    await app.close()
  })

  it('twenty that fail at once are refused, logged and counted each for itself', async () => {
    answering(discovery, (res) => json(res, 500, {}))
    const answers = await Promise.all(Array.from({ length: 20 }, () => browser().go(at.app.start('acme'))))
    const ids = answers.map((answer) => answer.json().correlationId)
    expect(new Set(ids).size).toBe(20)
    expect(at.app.jit.refusals()).toEqual({ idp_unreachable: 20 })
    expect(at.app.log.map((line) => line.correlationId).toSorted()).toEqual(ids.toSorted())
  })
})

describe('what is remembered of issuers', () => {
  /** A strategy at issuers that answer for discovery alone; `asked` are their hosts. */
  function remembering() {
    const strategy = oidcStrategy()
    const asked: string[] = []
    const services = {
      fetch: async (url: string) => {
        const { origin: issuer, host } = new URL(url)
        asked.push(host)
        return Response.json({
          ...{ issuer, authorization_endpoint: issuer, token_endpoint: issuer, jwks_uri: issuer },
          id_token_signing_alg_values_supported: ['RS256'],
        })
      },
      now: Date.now,
      random: (size: number) => new Uint8Array(size),
      callbackUrl: 'https://app.example/cb',
    } as unknown as Services
    /** The host that somebody is sent to. */
    const sentTo = async (id: string, issuer: string) => {
      const connections = [oidcConnection(id, { issuer }, { allowInsecureRequests: false })]
      const directory = staticDirectory({ organizations: twoOrganizations!, connections })
      const entry = (await directory.connection(id)) as OidcConnection
      const { redirect } = await strategy.begin(entry, 'attempt', services)
      return new URL(redirect).host
    }
    return { sentTo, asked }
  }

  it('a connection that moved to another issuer sends people there at once', async () => {
    const { sentTo, asked } = remembering()
    expect(await sentTo('acme', 'https://old.example')).toBe('old.example')
    expect(await sentTo('acme', 'https://old.example')).toBe('old.example')
    expect(asked).toEqual(['old.example'])
    expect(await sentTo('acme', 'https://new.example')).toBe('new.example')
    expect(asked).toEqual(['old.example', 'new.example'])
  })

  it('so many at most: the one longest unused is asked again, and no other', async () => {
    const { sentTo, asked } = remembering()
    const visit = (index: number) => sentTo(`c${index}`, `https://idp${index}.example`)
    for (let index = 0; index < issuerDefaults.issuers; index++) await visit(index)
    await visit(0)
    expect(asked).toHaveLength(issuerDefaults.issuers)
    await visit(issuerDefaults.issuers)
    asked.length = 0
    await visit(0)
    await visit(2)
    expect(asked).toEqual([])
    await visit(1)
    expect(asked).toEqual(['idp1.example'])
  })
})

describe('the other endpoints', () => {
  it.each(faults)(
    'a token endpoint that %s: 503, no session, and the next try succeeds',
    async (_name, fault) => {
      const client = browser()
      const callback = await untilCallback(at.app, 'acme', 'alice', client)
      answering('/token', fault)
      const answer = await client.go(callback.href)
      const { error } = answer.json()
      // A refusal of the code itself (4xx) is not an outage.
      expect(['idp_unreachable', 'assertion_refused']).toContain(error)
      await expectRefused(at.app, client, answer, {
        code: error,
        status: error === 'idp_unreachable' ? 503 : 403,
      })
      delete at.acme.faults.intercept
      await honestSignIn(at.app, 'acme', 'alice')
    },
  )

  it.each([...faults, ['hangs', () => {}] as (typeof faults)[number]])(
    'keys that cannot be had because their address %s: no session, and the next try succeeds',
    async (_name, fault) => {
      const client = browser()
      const callback = await untilCallback(at.app, 'acme', 'alice', client)
      answering('/jwks', fault)
      const started = performance.now()
      const answer = await client.go(callback.href)
      expect(performance.now() - started).toBeLessThan(5_500)
      await expectRefused(at.app, client, answer, { code: 'idp_unreachable', status: 503 })
      delete at.acme.faults.intercept
      await honestSignIn(at.app, 'acme', 'alice')
    },
  )

  it('O10 keys are fetched once, and a thousand unknown key ids do not change that', async () => {
    await honestSignIn(at.app, 'acme', 'alice')
    let kid = 0
    at.acme.faults.idToken = (claims) => at.acme.sign(claims, { kid: `random-${kid++}` })
    for (let round = 0; round < 20; round++) {
      expect((await signIn(at.app, 'acme', 'alice')).json().error).toBe('assertion_refused')
    }
    expect(count('/jwks')).toBe(1)
    at.acme.faults.idToken = (claims) => at.acme.sign(claims)
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it.each([
    ['a secret the provider does not know', { clientSecret: 'wrong' }],
    ['a client the provider does not know', { clientAuthentication: 'none' as const }],
  ])('%s is the operator’s to correct', async (_name, wrong) => {
    const app = await startApp({ connections: [oidcConnection('acme', at.acme, wrong)] })
    const client = browser()
    const begun = new URL((await client.go(app.start('acme'))).location!)
    begun.searchParams.set('redirect_uri', at.app.callback('acme'))
    begun.searchParams.set('person', 'alice')
    const answered = new URL((await client.go(begun.href)).location!)
    const answer = await client.go(app.callback('acme') + answered.search)
    const message = /clientId, clientSecret and clientAuthentication/
    await expectRefused(app, client, answer, { code: 'config_invalid', status: 500, message })
    await app.close()
    await honestSignIn(at.app, 'acme', 'alice')
  })
})

describe('a client secret that changed', () => {
  it('takes effect at a restart, where the sign-in under way ends, although no version tells of it', async () => {
    const redirectUris: string[] = []
    const provider = await startProvider({
      clients: [{ ...clientOf('acme'), redirectUris }],
      people: [person('alice', 'alice@acme.example')],
    })
    const { store, close } = await testStore()
    // Shared, so that what the process before knew of the issuer is there for the one after.
    const [once, strategies] = [memoryOnce(), [oidcStrategy()]]
    const start = (baseUrl: string | undefined, more: object) =>
      startApp({
        ...{ store, once, strategies, ...(baseUrl && { baseUrl }) },
        connections: [oidcConnection('acme', provider, more)],
      })
    const version = async () =>
      (await store.load({ source: 'connection:acme', email: null, organizations: [] })).connection!.version
    const before = await start(undefined, { clientSecret: 'revoked yesterday' })
    redirectUris.push(before.callback('acme'))
    const kept = await version()
    const client = browser()
    const refused = await signIn(before, 'acme', 'alice', client)
    await expectRefused(before, client, refused, { code: 'config_invalid', status: 500 })

    const underWay = await untilCallback(before, 'acme', 'alice', client)
    const after = await start(before.origin, {})
    for (const [name, value] of client.cookies(before.origin)) client.cookies(after.origin).set(name, value)
    const answer = await client.go(after.callback('acme') + underWay.search)
    await expectSignedIn(after, client, answer)
    expect(await version()).toBe(kept)
    expect(provider.requests.filter((path) => path === discovery)).toHaveLength(1)
    await Promise.all([before.close(), after.close(), provider.close()])
    await close()
  })
})

describe('UserInfo', () => {
  const bare = (...lacking: string[]) => {
    at.acme.faults.idToken = (claims) =>
      at.acme.sign(Object.fromEntries(Object.entries(claims).filter(([name]) => !lacking.includes(name))))
  }

  it('is not asked where the ID token says everything', async () => {
    await honestSignIn(at.app, 'acme', 'alice')
    expect(count('/userinfo')).toBe(0)
  })

  it('is asked for what is missing, and its flag goes with its address', async () => {
    bare('email', 'email_verified', 'name')
    at.acme.faults.userinfo = (claims) => ({ ...claims, email_verified: false })
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, { code: 'email_unverified', status: 403, denied: true })
    delete at.acme.faults.userinfo
    await honestSignIn(at.app, 'acme', 'alice')
    expect((await at.app.store.users()).rows[0]).toMatchObject({
      verifiedEmail: 'alice@acme.example',
      attributes: { name: 'Person alice' },
    })
  })

  it('does not change what the ID token says, nor whom it is about', async () => {
    bare('name', 'email_verified')
    at.acme.faults.userinfo = (claims) => ({
      ...claims,
      email: 'ann@acme.example',
      email_verified: false,
      iss: 'https://another.example',
    })
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    expect(user.email).toBe('alice@acme.example')
    expect((await at.app.store.users()).rows[0]!.identities[0]!.issuer).toBe(at.acme.issuer)
  })

  it('out of order: a name can wait, an address cannot', async () => {
    answering('/userinfo', (res) => json(res, 500, {}))
    bare('name')
    await honestSignIn(at.app, 'acme', 'alice')
    const before = await at.app.rows()
    bare('email')
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(
      at.app,
      client,
      answer,
      { code: 'idp_unreachable', status: 503, message: /userinfo/ },
      before,
    )
    delete at.acme.faults.intercept
    await honestSignIn(at.app, 'acme', 'alice')
  })
})

describe('check', () => {
  const check = (change: object) => () =>
    oidcStrategy().check!({
      ...oidcConnection('c', { issuer: 'https://idp.example' }),
      allowInsecureRequests: false,
      ...change,
    } as never)
  const problem = (key: string) =>
    expect.objectContaining({
      code: 'config_invalid',
      message: expect.stringContaining(`connection "c": ${key}`),
    })

  it.each([
    ['issuer', { issuer: 'idp.example' }],
    ['issuer', { issuer: 'http://idp.example' }],
    ['issuer', { issuer: 'ftp://idp.example', allowInsecureRequests: true }],
    ['issuer', { issuer: 'https://idp.example/.well-known/openid-configuration' }],
    ['issuer', { issuer: 'https://idp.example?tenant=1' }],
    ['clientSecret', { clientSecret: undefined }],
    ['clientSecret', { clientSecret: { env: 'UNRESOLVED' } }],
    ['tenants', { tenants: ['t'] }],
    ['tenants', { issuer: 'https://login.microsoftonline.com/common/v2.0' }],
    ['tenants', { issuer: 'https://login.microsoftonline.com/common/v2.0', tenants: [] }],
  ])('%s: %j is refused', (key, change) => {
    expect(check(change)).toThrowError(problem(key))
    expect(check({})()).toEqual([])
  })

  it('warns of what works but should not be', () => {
    expect(check({ issuer: 'http://idp.example', allowInsecureRequests: true })()).toEqual([
      expect.stringContaining('plain http'),
    ])
    expect(check({ issuer: 'http://127.0.0.1:8082/', allowInsecureRequests: true })()).toEqual([])
    expect(check({ clientAuthentication: 'none' })()).toEqual([expect.stringContaining('not used')])
  })

  it('is asked at every sign-in too, for connections that no schema saw', async () => {
    const services = { fetch, now: Date.now, callbackUrl: 'https://app.example/cb' } as never
    const connection = { ...oidcConnection('c', { issuer: 'nowhere' }) } as never
    await expect(oidcStrategy().begin(connection, 'id', services)).rejects.toBeInstanceOf(JitError)
    await expect(oidcStrategy().begin(connection, 'id', services)).rejects.toMatchObject({
      code: 'config_invalid',
    })
  })
})

/** What a strategy makes of an answer, whoever found its attempt. */
async function asked(state: string, secrets: Record<string, string>) {
  const connections = [oidcConnection('acme', at.acme)]
  const connection = await staticDirectory({ organizations: twoOrganizations!, connections }).connection(
    'acme',
  )
  const query = new URLSearchParams({ code: 'x', state, iss: at.acme.issuer })
  const attempt = { id: 'mine', at: Date.now(), secrets }
  const services = {
    fetch,
    now: Date.now,
    signal: AbortSignal.timeout(4_000),
    callbackUrl: 'https://app.example/cb',
  }
  return oidcStrategy().complete(
    connection as OidcConnection,
    { method: 'GET', query, body: null },
    attempt,
    services as never,
  )
}

it('an answer is refused whose state is not the attempt’s, though the flow looked it up by it', async () => {
  const secrets = { nonce: 'n', verifier: 'v' }
  const refusal = { code: 'assertion_refused', message: expect.stringContaining('state') }
  await expect(asked('another', secrets)).rejects.toMatchObject(refusal)
  expect(count('/token')).toBe(0)
  await expect(asked('mine', secrets)).rejects.toMatchObject({ code: 'idp_refused' })
  expect(count('/token')).toBe(1)
})

it.each<Record<string, string>>([{ nonce: 'n' }, { verifier: 'v' }, { nonce: '', verifier: 'v' }])(
  'O03 an attempt that holds %j and no more ends no sign-in, and no code is exchanged for it',
  async (secrets) => {
    const refusal = { code: 'answer_malformed', message: expect.stringContaining('nonce or verifier') }
    await expect(asked('mine', secrets)).rejects.toMatchObject(refusal)
    expect(count('/token')).toBe(0)
    await expect(asked('mine', { nonce: 'n', verifier: 'v' })).rejects.toMatchObject({ code: 'idp_refused' })
    expect(count('/token')).toBe(1)
  },
)

it('an answer that nobody asked for is refused', async () => {
  const connection = oidcConnection(
    'c',
    { issuer: 'https://idp.example' },
    { allowInsecureRequests: false },
  ) as never
  const incoming = { method: 'GET', query: new URLSearchParams({ code: 'x' }), body: null } as const
  const services = { callbackUrl: 'https://app.example/cb' } as never
  await expect(oidcStrategy().complete(connection, incoming, null, services)).rejects.toMatchObject({
    code: 'answer_unsolicited',
  })
  const client = browser()
  await expectSignedIn(at.app, client, await signIn(at.app, 'acme', 'alice', client))
})

it('of a long text from outside no more is read than is told', () => {
  const long = 'é<'.repeat(500_000)
  const times = Array.from({ length: 5 }, () => {
    const began = performance.now()
    expect(printable(long)).toBe('?<'.repeat(100))
    return performance.now() - began
  })
  expect(Math.min(...times)).toBeLessThan(2)
})
