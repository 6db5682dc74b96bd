import { inspect } from 'node:util'
import { JitError } from 'passport-jit'
import { fromPassport, socialStrategy } from 'passport-jit/strategies/social'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { browser } from '../rig/oidc-http.js'
import {
  type App,
  begin,
  expectProofAsked,
  expectRefused,
  person,
  providers,
  signedIn,
  signIn,
  startApp,
} from '../rig/social-app.js'
import { SessionStrategy, type StrategyOptions, TwitterishStrategy } from '../rig/social-passport.js'
import { startWorld, type World } from '../rig/social-world.js'

interface Profile {
  id: number
  name: string
  email: string
  confirmed: unknown
}

const mapping = ({ id, name, email, confirmed }: Profile) => ({
  subject: String(id),
  email,
  emailVerified: confirmed as boolean,
  profile: { name },
})

let world: World
let app: App
let strategy: TwitterishStrategy
let origin: string

type Make = (options: StrategyOptions) => TwitterishStrategy

const verify: ConstructorParameters<typeof TwitterishStrategy>[1] = (_access, _refresh, profile, done) =>
  done(null, profile)

/** The app on a port known beforehand, since the strategy's callback URL is set when it is made. */
async function start(make: Make, read: Parameters<typeof fromPassport<Profile>>[1] = mapping) {
  world = await startWorld()
  // The strategy is asked for its callback at use, so it may be made before the port is known.
  const late = {
    get callbackURL() {
      return `${origin}/auth/social/twitterish/callback`
    },
    fetch: world.fetch,
  }
  strategy = make(late)
  Object.defineProperty(strategy, '_callbackURL', { get: () => late.callbackURL, configurable: true })
  app = await startApp({
    social: [{ id: 'twitterish', preset: 'passport' }, providers.google],
    passport: { twitterish: fromPassport(strategy, read) },
    fetch: world.fetch,
  })
  origin = app.origin
}

beforeEach(() => start((options) => new TwitterishStrategy(options, verify)))
afterEach(() => app.close())
const restart = async (...args: Parameters<typeof start>) => {
  await app.close()
  await start(...args)
}

const profile = (id: number, email: string, more: object = { confirmed: true }) => ({
  profile: { id, name: `Person ${id}`, email, ...more },
})
const ann = profile(1, 'ann@gmail.com')

const kinds: [string, Make][] = [
  ['of the OAuth 2 family', (options) => new TwitterishStrategy(options, verify)],
  [
    'of the OAuth 2 family, with PKCE',
    (options) => new TwitterishStrategy({ ...options, pkce: true }, verify),
  ],
  [
    'that keeps its secrets in the session',
    (options) => new SessionStrategy({ ...options, pkce: true }, verify),
  ],
]

describe.each(kinds)('a Passport strategy %s', (_kind, make) => {
  beforeEach(() => restart(make))

  it('signs somebody in, and knows them the next time', async () => {
    const first = await signedIn(app, world, 'twitterish', ann)
    expect(first.user.email).toBe('ann@gmail.com')
    expect((await app.rows()).users).toMatchObject([
      {
        attributes: { name: 'Person 1' },
        identities: [{ source: 'provider:twitterish', issuer: `passport:${strategy.name}`, subject: '1' }],
      },
    ])
    const again = await signedIn(app, world, 'twitterish', ann)
    expect(again.user.id).toBe(first.user.id)
  })

  it('serves two people at once, each as themself', async () => {
    const [one, two] = [browser(), browser()]
    const [first, second] = [await begin(app, 'twitterish', one), await begin(app, 'twitterish', two)]
    const back = (url: URL, id: number) =>
      `${app.callback('twitterish')}?${world.arrive(url.href, profile(id, `p${id}@gmail.com`))}`
    await Promise.all([one.go(back(first, 1)), two.go(back(second, 2))])
    expect((await one.go(`${app.origin}/me`)).json().user.email).toBe('p1@gmail.com')
    expect((await two.go(`${app.origin}/me`)).json().user.email).toBe('p2@gmail.com')
    expect(Object.keys(strategy)).not.toContain('success')
  })

  it('O01 O03 the answer of another browser, or the code of another tab, is refused', async () => {
    const agent = browser()
    const victim = browser()
    const authorize = await begin(app, 'twitterish', agent)
    const other = await begin(app, 'twitterish', agent)
    const stolen = `${app.callback('twitterish')}?${world.arrive(authorize.href, ann)}`
    await expectRefused(app, victim, await victim.go(stolen), { code: 'attempt_foreign', status: 403 })
    if (strategy.options.pkce) {
      const crossed = world.arrive(authorize.href, ann)
      crossed.set('state', other.searchParams.get('state')!)
      const refused = await agent.go(`${app.callback('twitterish')}?${crossed}`)
      await expectRefused(app, agent, refused, { code: 'idp_refused', status: 403 })
    }
    await signedIn(app, world, 'twitterish', ann, agent)
  })
})

describe('the answer that it is shown', () => {
  it('O01 is the one of the attempt: a form that names another in its address is refused', async () => {
    const agent = browser()
    const [first, second] = [await begin(app, 'twitterish', agent), await begin(app, 'twitterish', agent)]
    const back = world.arrive(first.href, ann)
    const posted = ({ searchParams }: URL) =>
      agent.go(`${app.callback('twitterish')}?${back}`, {
        method: 'POST',
        body: new URLSearchParams({ state: searchParams.get('state')! }),
      })
    const requests = world.requests.length
    const refused = await posted(second)
    await expectRefused(app, agent, refused, { code: 'idp_refused', status: 403, message: /verify.*state/ })
    expect(world.requests).toHaveLength(requests)
    // From a form, it ends with a GET of ours.
    expect((await agent.go((await posted(first)).location!)).status).toBe(303)
    expect(await app.me(agent)).toBe(200)
  })

  it.each(['code', 'anything'])('O01 has no %s twice, whichever of them is right', async (name) => {
    const agent = browser()
    for (const where of ['before', 'behind']) {
      const back = world.arrive((await begin(app, 'twitterish', agent)).href, ann)
      const right = [name, back.get(name) ?? 'right'] as const
      back.delete(name)
      const twice = where === 'before' ? [[name, 'x'], right] : [right, [name, 'x']]
      for (const [key, value] of twice) back.append(key!, value!)
      const answered = await agent.go(`${app.callback('twitterish')}?${back}`)
      const refusal = { code: 'answer_malformed', status: 400, message: /2 times/ } as const
      await expectRefused(app, agent, answered, refusal)
    }
    const back = world.arrive((await begin(app, 'twitterish', agent)).href, ann)
    back.set(name, back.get(name) ?? 'right')
    expect((await agent.go(`${app.callback('twitterish')}?${back}`)).status).toBe(303)
  })
})

describe('what its profile is worth', () => {
  it.each([undefined, null, false, 'true', 1, {}])('emailVerified %j verifies nothing', async (confirmed) => {
    await signedIn(app, world, 'twitterish', profile(1, 'ann@gmail.com', { confirmed }))
    expect((await app.rows()).users).toMatchObject([{ verifiedEmail: null, contactEmail: 'ann@gmail.com' }])
  })

  it('a verified address leads to an existing account by proof only', async () => {
    await signedIn(app, world, 'google', person('google', 1, 'ann@gmail.com'))
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, 'twitterish', ann, agent), before)
  })

  it.each<[string, (profile: Profile) => unknown]>([
    ['a number for a subject', ({ id }) => ({ subject: id })],
    ['an empty subject', () => ({ subject: '' })],
    ['no subject', () => ({})],
    ['nothing', () => undefined],
    ['a number in the profile', ({ id }) => ({ subject: String(id), profile: { id } })],
    ['a list of addresses', ({ id, email }) => ({ subject: String(id), email: [email] })],
    ['two addresses in one', ({ id }) => ({ subject: String(id), email: 'a@gmail.com, b@gmail.com' })],
    [
      'an error',
      () => {
        throw new TypeError('profile.emails is undefined')
      },
    ],
  ])('a mapping that makes %s is refused', async (_name, read) => {
    await restart((options) => new TwitterishStrategy(options, verify), read as never)
    const agent = browser()
    const answered = await signIn(app, world, 'twitterish', ann, agent)
    await expectRefused(app, agent, answered, {
      code: 'identity_invalid',
      status: 403,
      message: /"twitterish"|provider:twitterish/,
    })
    await restart((options) => new TwitterishStrategy(options, verify))
    await signedIn(app, world, 'twitterish', ann)
  })
})

describe('what it says no to', () => {
  it('a person who declines is told so, and O22 nothing of the answer is shown', async () => {
    for (const error of ['access_denied', 'server_error']) {
      const agent = browser()
      const { searchParams } = await begin(app, 'twitterish', agent)
      const query = new URLSearchParams({
        error,
        error_description: '<script>alert(1)</script>\r\nforged',
        state: searchParams.get('state')!,
      })
      const answered = await agent.go(`${app.callback('twitterish')}?${query}`)
      expect(answered.text).not.toContain('script')
      await expectRefused(app, agent, answered, { code: 'idp_refused', status: 403 })
      expect(app.log.at(-1)!.message).not.toMatch(/[\r\n]/)
    }
    await signedIn(app, world, 'twitterish', ann)
  })

  it('a verify callback that finds nobody refuses', async () => {
    await restart(
      (options) =>
        new TwitterishStrategy(options, (_a, _r, _p, done) => done(null, false, { message: 'not you' })),
    )
    const agent = browser()
    const answered = await signIn(app, world, 'twitterish', ann, agent)
    await expectRefused(app, agent, answered, { code: 'idp_refused', status: 403, message: /not you/ })
  })

  it('O22 of an error that holds the access token, the token is in none that the app gets', async () => {
    let token = ''
    await restart(
      (options) =>
        new TwitterishStrategy(options, (access, _r, _p, done) => {
          token = access
          const headers = { authorization: `Bearer ${access}` }
          done(Object.assign(new Error('nobody at the directory'), { config: { headers } }))
        }),
    )
    const agent = browser()
    const answered = await signIn(app, world, 'twitterish', ann, agent)
    const message = /nobody at the directory/
    await expectRefused(app, agent, answered, { code: 'answer_malformed', status: 400, message })
    expect(app.errors).toEqual([expect.any(JitError)])
    const printed = inspect(app.errors, { depth: Number.POSITIVE_INFINITY, showHidden: true })
    expect(token).toMatch(/^access-/)
    expect(printed).not.toContain(token)
    await restart((options) => new TwitterishStrategy(options, verify))
    await signedIn(app, world, 'twitterish', ann)
  })

  it('a provider that fails is 503, and its answer is in no log', async () => {
    world.faults.answer = (url) =>
      url.pathname === '/token' ? new Response('token eyJhbGciOiJub25lIn0', { status: 500 }) : undefined
    const agent = browser()
    const answered = await signIn(app, world, 'twitterish', ann, agent)
    await expectRefused(app, agent, answered, { code: 'idp_unreachable', status: 503, message: /HTTP 500/ })
    delete world.faults.answer
    await signedIn(app, world, 'twitterish', ann)
  })

  it('a provider that hangs is 503 within the time', async () => {
    world.faults.answer = (url) => (url.pathname === '/token' ? new Promise<Response>(() => {}) : undefined)
    const agent = browser()
    const answered = await signIn(app, world, 'twitterish', ann, agent)
    await expectRefused(app, agent, answered, { code: 'idp_unreachable', status: 503 })
    delete world.faults.answer
    await signedIn(app, world, 'twitterish', ann)
  })

  it('an answer with neither a code nor an error is refused', async () => {
    const agent = browser()
    const { searchParams } = await begin(app, 'twitterish', agent)
    const answered = await agent.go(`${app.callback('twitterish')}?state=${searchParams.get('state')}`)
    await expectRefused(app, agent, answered, { code: 'answer_malformed', status: 400 })
    await signedIn(app, world, 'twitterish', ann)
  })
})

describe('what an operator got wrong', () => {
  class Odd extends TwitterishStrategy {
    constructor(
      options: StrategyOptions,
      readonly does: (actions: { [name: string]: (...args: unknown[]) => void }) => void,
    ) {
      super(options, verify)
    }
    override authenticate(): void {
      this.does(this as never)
    }
  }

  it('a callback URL that is not ours is named beside the right one', async () => {
    await restart((options) => new TwitterishStrategy(options, verify))
    Object.defineProperty(strategy, '_callbackURL', { value: 'https://app.example/auth/twitter/callback' })
    const agent = browser()
    const answered = await agent.go(app.start('twitterish'))
    await expectRefused(app, agent, answered, { code: 'config_invalid', status: 500 })
    expect(app.log.at(-1)!.message).toContain('"https://app.example/auth/twitter/callback"')
    expect(app.log.at(-1)!.message).toContain(`"${app.callback('twitterish')}"`)
  })

  it.each<[string, (actions: { [name: string]: (...args: unknown[]) => void }) => void, RegExp]>([
    ['sends no state', ({ redirect }) => redirect!('https://social.example/authorize'), /"state"/],
    [
      'sends a state of its own',
      ({ redirect }) => redirect!('https://social.example/authorize?state=x'),
      /"state"/,
    ],
    ['redirects to no web address', ({ redirect }) => redirect!('javascript:alert(1)'), /no http/],
    ['redirects nowhere', ({ redirect }) => redirect!(undefined), /no http/],
    ['succeeds at once', ({ success }) => success!({ id: 1 }), /did not send/],
    ['fails at once', ({ fail }) => fail!('no'), /did not send/],
    ['passes', ({ pass }) => pass!(), /did not send/],
  ])('a strategy that %s is refused as such', async (_name, does, message) => {
    await restart((options) => new Odd(options, does))
    const agent = browser()
    const answered = await agent.go(app.start('twitterish'))
    await expectRefused(app, agent, answered, { code: 'config_invalid', status: 500, message })
  })

  it('a strategy that throws or breaks while starting is 503', async () => {
    for (const does of [
      () => {
        throw new Error('boom')
      },
      ({ error }: { [name: string]: (...args: unknown[]) => void }) => error!(new Error('boom')),
    ]) {
      await restart((options) => new Odd(options, does))
      const agent = browser()
      const answered = await agent.go(app.start('twitterish'))
      await expectRefused(app, agent, answered, { code: 'idp_unreachable', status: 503, message: /boom/ })
    }
  })

  it('a provider without its strategy is named at start', async () => {
    const missing = startApp({ social: [{ id: 'other', preset: 'passport' }] })
    await expect(missing).rejects.toMatchObject({
      code: 'config_invalid',
      message: expect.stringContaining('"other"'),
    })
    await expect(missing).rejects.toThrow(/fromPassport/)
  })

  it.each<[string, () => unknown]>([
    ['no strategy', () => fromPassport(null as never, () => ({ subject: 'x' }))],
    ['no mapping', () => fromPassport(strategy, undefined as never)],
    ['a bare strategy', () => socialStrategy({ passport: { x: strategy as never } })],
  ])('%s is refused where it is made', (_name, make) => {
    expect(make).toThrow(JitError)
    expect(make).toThrow(/fromPassport/)
  })
})
