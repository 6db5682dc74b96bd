import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { browser } from '../rig/oidc-http.js'
import {
  type App,
  answer,
  begin,
  expectRefused,
  type Preset,
  person,
  providers,
  signedIn,
  signIn,
  startApp,
} from '../rig/social-app.js'
import { startWorld, type World } from '../rig/social-world.js'

// Attacks on the flow, at each shape of provider: what travels through the browser, and the code behind it.

let world: World
let app: App

beforeEach(async () => {
  world = await startWorld()
  app = await startApp({
    organizations: [{ id: 'acme', name: 'Acme', roles: ['member'], domains: ['acme.example'] }],
    social: Object.values(providers),
    fetch: world.fetch,
  })
})
afterEach(() => app.close())

const presets = Object.keys(providers) as Preset[]
const openid = presets.filter((preset) => preset !== 'github' && preset !== 'oauth2')
const ann = (preset: Preset) => person(preset, 1, 'ann@gmail.com')
const tokens = () => world.requests.filter(({ body }) => body.includes('grant_type=')).length

/** Begins, and comes back with an answer that a test may change. */
async function arrived(preset: Preset, agent: ReturnType<typeof browser>) {
  const authorize = await begin(app, preset, agent)
  return { authorize, back: world.arrive(authorize.href, ann(preset)) }
}

describe.each(presets)('%s', (preset) => {
  it.each<[string, (back: URLSearchParams) => void, string]>([
    ['missing', (back) => back.delete('state'), 'attempt_unknown'],
    ['empty', (back) => back.set('state', ''), 'attempt_unknown'],
    ['altered', (back) => back.set('state', 'A'.repeat(43)), 'attempt_unknown'],
    ['duplicated', (back) => back.append('state', back.get('state')!), 'answer_malformed'],
  ])('O01 state %s is refused', async (_name, change, code) => {
    const agent = browser()
    const { back } = await arrived(preset, agent)
    const changed = new URLSearchParams(back)
    change(changed)
    await expectRefused(app, agent, await answer(app, preset, changed, agent), { code, status: 400 })
    expect((await answer(app, preset, back, agent)).status).toBe(303)
    expect(await app.me(agent)).toBe(200)
  })

  it('O01 S26 an answer serves once, and only the browser that asked', async () => {
    const attacker = browser()
    const victim = browser()
    const { back } = await arrived(preset, attacker)
    await begin(app, preset, victim)
    await expectRefused(app, victim, await answer(app, preset, back, victim), {
      code: 'attempt_foreign',
      status: 403,
    })
    const agent = browser()
    const own = await arrived(preset, agent)
    expect((await answer(app, preset, own.back, agent)).status).toBe(303)
    const before = await app.rows()
    const thief = browser()
    const again = await answer(app, preset, own.back, thief)
    await expectRefused(app, thief, again, { code: 'attempt_unknown', status: 400 }, before)
  })

  it('O03 a code with the verifier of another tab is refused', async () => {
    const agent = browser()
    const first = await arrived(preset, agent)
    const second = await arrived(preset, agent)
    const crossed = new URLSearchParams({ ...Object.fromEntries(first.back), code: second.back.get('code')! })
    await expectRefused(app, agent, await answer(app, preset, crossed, agent), {
      code: 'idp_refused',
      status: 403,
      message: /invalid_grant/,
    })
    await signedIn(app, world, preset, ann(preset), agent)
  })

  it('O04 an answer at the callback of another provider, or of a connection, is refused', async () => {
    const agent = browser()
    const other = preset === 'google' ? 'oidc' : 'google'
    const { back } = await arrived(preset, agent)
    const asked = tokens()
    const misled = await agent.go(`${app.callback(other)}?${back}`)
    await expectRefused(app, agent, misled, { code: 'attempt_unknown', status: 400 })
    expect(tokens()).toBe(asked)
    await signedIn(app, world, preset, ann(preset), agent)
  })

  it('O04 a code of another provider is worth nothing here, and its secret goes nowhere', async () => {
    const agent = browser()
    const other = preset === 'google' ? 'oidc' : 'google'
    const foreign = await arrived(other, agent)
    const { back } = await arrived(preset, agent)
    const mixed = new URLSearchParams({ ...Object.fromEntries(back), code: foreign.back.get('code')! })
    const answered = await answer(app, preset, mixed, agent)
    expect(answered.status).not.toBe(303)
    expect(await app.me(agent)).toBe(401)
    expect(await app.rows()).toEqual({ users: [], events: [] })
    const last = world.requests.at(-1)!
    expect(last.body).toContain(encodeURIComponent(`secret of ${preset}`).replaceAll('%20', '+'))
    expect(last.body).not.toContain(`secret+of+${other}`)
    await signedIn(app, world, preset, ann(preset), agent)
  })

  it.each<[string, (back: URLSearchParams) => void]>([
    ['neither code nor error', (back) => back.delete('code')],
    ['an empty code', (back) => back.set('code', '')],
    ['two codes', (back) => back.append('code', 'other')],
  ])('O22 an answer with %s is refused', async (_name, change) => {
    const agent = browser()
    const { back } = await arrived(preset, agent)
    change(back)
    await expectRefused(app, agent, await answer(app, preset, back, agent), {
      code: 'answer_malformed',
      status: 400,
    })
    await signedIn(app, world, preset, ann(preset), agent)
  })

  it('O22 a person who declines is told so, and nothing of the answer is shown', async () => {
    const agent = browser()
    const { back } = await arrived(preset, agent)
    back.delete('code')
    back.set('error', 'access_denied')
    back.set('error_description', '<script>alert(1)</script>\r\nforged log line')
    const answered = await answer(app, preset, back, agent)
    expect(answered.text).not.toMatch(/script|forged/)
    await expectRefused(app, agent, answered, {
      code: 'idp_refused',
      status: 403,
      message: /^[^\r\n<>]*access_denied[^\r\n<>]*$/,
    })
    await signedIn(app, world, preset, ann(preset), agent)
  })

  it('O22 the callback is the configured one, whatever the request headers say', async () => {
    const headers = { 'x-forwarded-host': 'evil.example', forwarded: 'host=evil.example' }
    const begun = await browser().go(app.start(preset), { headers })
    expect(new URL(begun.location!).searchParams.get('redirect_uri')).toBe(app.callback(preset))
  })

  it('P10 a provider that is switched off is none', async () => {
    const agent = browser()
    await signedIn(app, world, preset, ann(preset), agent)
    await app.close()
    app = await startApp({ social: [{ ...providers[preset], enabled: false }], fetch: world.fetch })
    for (const url of [app.start(preset), `${app.callback(preset)}?code=x&state=${'A'.repeat(43)}`]) {
      const answered = await agent.go(url)
      await expectRefused(app, agent, answered, { code: 'connection_unknown', status: 404 })
    }
  })
})

describe.each(presets.filter((preset) => preset !== 'apple'))('%s', (preset) => {
  it('an answer by POST is refused', async () => {
    const agent = browser()
    const { back } = await arrived(preset, agent)
    const posted = await agent.go(app.callback(preset), { method: 'POST', body: back })
    await expectRefused(app, agent, posted, { code: 'answer_malformed', status: 400, message: /POST/ })
    await signedIn(app, world, preset, ann(preset), agent)
  })
})

describe('the form of Apple', () => {
  it('S26 posted in a browser that did not ask ends there', async () => {
    const attacker = browser()
    const { back } = await arrived('apple', attacker)
    const victim = browser()
    const posted = await victim.go(app.callback('apple'), { method: 'POST', body: back })
    expect(posted.status).toBe(303)
    const ended = await victim.go(posted.location!)
    await expectRefused(app, victim, ended, { code: 'attempt_foreign', status: 403 })
    await signedIn(app, world, 'apple', ann('apple'))
  })

  it('O01 the state is read from the form, not from the address it is posted to', async () => {
    const agent = browser()
    const { back } = await arrived('apple', agent)
    const state = back.get('state')!
    const form = new URLSearchParams(back)
    form.delete('state')
    const posted = await agent.go(`${app.callback('apple')}?state=${state}`, { method: 'POST', body: form })
    await expectRefused(app, agent, posted, { code: 'attempt_unknown', status: 400 })
    expect((await answer(app, 'apple', back, agent)).status).toBe(303)
  })

  it('a ticket serves once', async () => {
    const agent = browser()
    const { back } = await arrived('apple', agent)
    const posted = await agent.go(app.callback('apple'), { method: 'POST', body: back })
    expect((await agent.go(posted.location!)).status).toBe(303)
    const thief = browser()
    const again = await thief.go(posted.location!)
    expect([again.status, again.json().error]).toEqual([400, 'attempt_unknown'])
    expect(await app.me(thief)).toBe(401)
  })
})

describe.each(openid)('ID tokens of %s', (preset) => {
  const seconds = () => Math.floor(Date.now() / 1000)

  it.each<[string, NonNullable<World['faults']['idToken']>]>([
    ['O02 without a nonce', ({ nonce: _, ...claims }) => world.sign(claims)],
    ['O02 with another nonce', (claims) => world.sign({ ...claims, nonce: 'A'.repeat(43) })],
    ['O05 unsigned', (claims) => `${encode({ alg: 'none' })}.${encode(claims)}.`],
    [
      'O05 signed with the client secret',
      (claims) =>
        world.sign(
          claims,
          { alg: 'HS256', kid: undefined },
          Buffer.from(`secret of ${preset}`.padEnd(32, '.')),
        ),
    ],
    ['O07 for another audience', (claims) => world.sign({ ...claims, aud: 'another-app' })],
    ['O07 for another party', (claims) => world.sign({ ...claims, azp: 'another-app' })],
    ['O04 of another issuer', (claims) => world.sign({ ...claims, iss: 'https://evil.example' })],
    ['O09 expired', (claims) => world.sign({ ...claims, exp: seconds() - 600 })],
    ['O09 from the future', (claims) => world.sign({ ...claims, iat: seconds() + 600 })],
    ['O09 of last year', (claims) => world.sign({ ...claims, iat: seconds() - 365 * 86_400 })],
    ['without a subject', ({ sub: _, oid: __, ...claims }) => world.sign(claims)],
  ])('%s are refused', async (_name, fault) => {
    world.faults.idToken = fault
    const agent = browser()
    const answered = await signIn(app, world, preset, ann(preset), agent)
    await expectRefused(app, agent, answered, { code: 'assertion_refused', status: 403 })
    delete world.faults.idToken
    await signedIn(app, world, preset, ann(preset), agent)
  })
})

describe.each(['github', 'oauth2'] as const)('access tokens of %s', (preset) => {
  it('O08 one that is no bearer token is refused, and shown to nobody; one of no stated type is a bearer’s', async () => {
    /** A sign-in whose token is good, whatever type it is said to have. */
    const typed = (type: unknown, agent: ReturnType<typeof browser>) => {
      world.faults.answer = (url, init) => {
        if (init.method !== 'POST') return
        delete world.faults.answer
        return world
          .fetch(url, init)
          .then((answered) => answered.json())
          .then((honest) => Response.json({ ...honest, token_type: type }))
      }
      return signIn(app, world, preset, ann(preset), agent)
    }
    for (const type of ['mac', 'DPoP', '', null, ['bearer', 'mac']]) {
      const agent = browser()
      const refusal = {
        code: 'idp_unreachable',
        status: 503,
        message: /"token_type" other than "bearer"/,
      } as const
      await expectRefused(app, agent, await typed(type, agent), refusal)
      expect(world.requests.at(-1)!.body).toContain('grant_type=')
    }
    for (const type of ['Bearer', undefined]) {
      const agent = browser()
      expect((await typed(type, agent)).status).toBe(303)
      expect(await app.me(agent)).toBe(200)
    }
  })
})

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

describe.each(['github', 'oauth2'] as const)('subjects of %s', (preset) => {
  it.each<[string, unknown]>([
    ['missing', undefined],
    ['null', null],
    ['empty', ''],
    ['an object', { id: 1 }],
    ['a list', [1]],
    ['a boolean', true],
    ['a fraction', 1.5],
    ['beyond what JSON carries exactly', 2 ** 53],
    ['a control character', 'a\u0000b'],
    ['a page of text', 'x'.repeat(2000)],
  ])('a subject that is %s is refused', async (_name, id) => {
    const agent = browser()
    const who = { ...ann(preset), profile: { id, name: 'Ann' } }
    const answered = await signIn(app, world, preset, who, agent)
    await expectRefused(app, agent, answered, { code: 'identity_invalid', status: 403 })
    await signedIn(app, world, preset, ann(preset), agent)
  })

  it('P02 a subject is no inherited property', async () => {
    await app.close()
    app = await startApp({ social: [{ ...providers.oauth2, subject: 'constructor' }], fetch: world.fetch })
    const agent = browser()
    const answered = await signIn(app, world, 'oauth2', ann('oauth2'), agent)
    await expectRefused(app, agent, answered, { code: 'identity_invalid', status: 403 })
  })

  it('the text and the number of one id are one person', async () => {
    const first = await signedIn(app, world, preset, ann(preset))
    const who = { ...ann(preset), profile: { id: '1', name: 'Ann' } }
    expect((await signedIn(app, world, preset, who)).user.id).toBe(first.user.id)
  })

  it('P02 what a profile says beyond its mapped names is ignored', async () => {
    const who = {
      profile: { id: 1, name: 'Ann', isAdmin: true, status: 'active', userId: 'x', role: 'owner' },
      emails: [{ email: 'ann@acme.example', primary: true, verified: true, organization: 'acme' }],
    }
    const { user } = await signedIn(app, world, preset, who)
    expect(user.memberships).toEqual([])
    expect((await app.rows()).users).toMatchObject([{ attributes: { name: 'Ann' } }])
  })
})
