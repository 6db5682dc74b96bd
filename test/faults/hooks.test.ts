import express from 'express'
import session from 'express-session'
import passport from 'passport'
import {
  createJit,
  DeliveryError,
  type JitOptions,
  type Limiter,
  type LogEntry,
  type OnConflict,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { type EmailOptions, emailStrategy } from 'passport-jit/strategies/email'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { provisionDefaults } from '../../lib/provision.js'
import { commit, kit, settle, start } from '../audit/kit.js'
import { eventually } from '../contract/runner.js'
import { onEveryStore } from '../directory/stores.js'
import { honest, oidc } from '../http/honest.js'
import { twoOrganizations } from '../rig/oidc-app.js'
import { type Browser, browser, listen } from '../rig/oidc-http.js'

// What an app hands to the kit may throw, hang, answer late, twice or nonsense. The kit answers all the same, in time.

vi.setConfig({ testTimeout: 60_000 })

/** Any refusal is given within five seconds; the rest is for a busy machine. */
const promised = 5_000 + 5_000

interface Given extends Partial<JitOptions> {
  email?: Partial<EmailOptions>
  sessions?: session.Store
  /** A serializer of the app's own, before that of the kit. */
  serializer?: (user: unknown, done: Done) => void
  /** Whether the app calls `jit.passport()`, as it should. */
  passport?: boolean
  /** What the app does about a refusal before its page is made. */
  refusing?: () => void
}
type Done = (error: unknown, id?: unknown) => void

let stop: (() => Promise<void>) | null = null
let stray: unknown[]
const note = (error: unknown) => stray.push(error)
beforeEach(() => {
  stray = []
  process.on('unhandledRejection', note)
})
afterEach(async () => {
  await stop?.()
  stop = null
  // Whatever would end a process without handlers of a test runner, a turn later.
  await new Promise((resolve) => setImmediate(resolve))
  process.off('unhandledRejection', note)
  expect(stray).toEqual([])
})

/** An app that speaks OpenID Connect with an issuer that believes everything, and mails codes. */
async function serve({
  email,
  sessions,
  serializer,
  passport: called = true,
  refusing,
  ...options
}: Given = {}) {
  const app = express()
  const server = await listen('localhost', app)
  stop = server.close
  const jit = createJit({
    baseUrl: server.origin,
    returnTo: '/me',
    store: memoryStore(),
    lock: memoryLock(),
    once: memoryOnce(),
    directory: staticDirectory({
      organizations: twoOrganizations.map((one) => ({ ...one, seatLimit: 1 })),
      connections: [oidc('acme')],
      email: { enabled: true },
    }),
    strategies: [
      honest('oidc'),
      emailStrategy({
        transport: { sendMail: async () => {} },
        from: 'a@app.example',
        appName: 'A',
        ...email,
      }),
    ],
    log: () => {},
    ...options,
  })
  const instance = new passport.Passport()
  if (serializer) instance.serializeUser(serializer as never)
  app.use(
    session({ secret: 't', resave: false, saveUninitialized: false, ...(sessions && { store: sessions }) }),
  )
  app.use(instance.session() as express.RequestHandler)
  if (called) jit.passport(instance as never)
  app.use(jit.routes())
  app.get('/me', (req, res) => void res.status(req.user ? 200 : 401).json({ id: req.user?.id }))
  app.use(((error, _req, _res, next) => {
    refusing?.()
    next(error)
  }) satisfies express.ErrorRequestHandler)
  app.use(jit.errorPage())
  await jit.ready()

  const timed = async (work: Promise<Awaited<ReturnType<Browser['go']>>>) => {
    const began = performance.now()
    const { status, text } = await work
    return { status, error: status < 400 ? null : JSON.parse(text).error, took: performance.now() - began }
  }
  const at = `${server.origin}/auth/sso/acme`
  const begin = (client: Browser) => timed(client.go(at))
  const arrive = async (client: Browser, subject = 'alice') => {
    const { status, location, text } = await client.go(at)
    expect(status, text).toBe(302)
    const state = new URL(location!).searchParams.get('state')
    return `${at}/callback?state=${state}&subject=${subject}&email=${subject}@acme.example`
  }
  return {
    jit,
    origin: server.origin,
    begin,
    arrive,
    finish: (client: Browser, callback: string) => timed(client.go(callback)),
    signIn: async (client: Browser, subject?: string) => timed(client.go(await arrive(client, subject))),
    me: async (client: Browser) => (await client.go(`${server.origin}/me`)).status,
    post: (path: string, fields: Record<string, string>) =>
      timed(
        browser().go(`${server.origin}/auth/${path}`, { method: 'POST', body: new URLSearchParams(fields) }),
      ),
  }
}

const hang = () => new Promise<never>(() => {})
const fail = () => {
  throw new Error('broken')
}
const reject = () => Promise.reject(new Error('broken'))

describe('P24 a log', () => {
  test.each<[string, (entry: LogEntry) => unknown]>([
    ['throws', fail],
    ['rejects', reject],
    ['hangs', hang],
  ])('P24 that %s undoes no answer, and no line is lost', async (how, log) => {
    const printed = vi.spyOn(console, 'error').mockImplementation(() => {})
    try {
      const app = await serve({ log: log as NonNullable<JitOptions['log']> })
      const client = browser()
      const refused = await app.finish(
        client,
        (await app.arrive(client)).replace(/state=[^&]*/, 'state=none'),
      )
      expect(refused).toMatchObject({ status: 400, error: 'attempt_unknown' })
      expect(await app.signIn(client)).toMatchObject({ status: 303 })
      expect(await app.me(client)).toBe(200)
      const lines = printed.mock.calls.map(([line]) => JSON.parse(line).code)
      expect(lines).toEqual(how === 'hangs' ? [] : ['attempt_unknown'])
    } finally {
      printed.mockRestore()
    }
  })
})

describe('P24 a limiter', () => {
  const broken: [string, Limiter['consume']][] = [
    ['throws', fail],
    ['rejects', reject],
    ['rejects with nonsense', () => Promise.reject('away')],
    ['hangs', hang],
  ]
  test.each(broken)(
    'P24 that %s closes the door in time, and keeps no attempt from a second try',
    async (_, consume) => {
      let well = true
      const limiter: Limiter = { consume: (key) => (well ? Promise.resolve(key) : consume(key)) }
      const app = await serve({ limits: { starts: limiter, answers: limiter } })
      const client = browser()
      const callback = await app.arrive(client)
      well = false
      for (const answer of [
        await app.begin(client),
        await app.finish(client, callback),
        await app.post('discover', { email: 'a@acme.example' }),
      ]) {
        expect(answer).toMatchObject({ status: 503, error: 'unavailable' })
        expect(answer.took).toBeLessThan(promised)
      }
      well = true
      expect(await app.finish(client, callback)).toMatchObject({ status: 303 })
    },
  )

  test('P24 that is slow is waited for', async () => {
    const slow = { consume: () => new Promise((resolve) => setTimeout(resolve, 200)) }
    const app = await serve({ limits: { starts: slow, answers: slow } })
    expect(await app.signIn(browser())).toMatchObject({ status: 303 })
  })
})

describe('P24 a mail transport', () => {
  test.each<[string, () => Promise<unknown>]>([
    ['throws', fail],
    ['rejects', reject],
    ['hangs', hang],
  ])('P24 that %s is a 503 in time, and the next mail goes out', async (_, sendMail) => {
    let well = false
    const transport = { sendMail: () => (well ? Promise.resolve() : sendMail()) }
    const app = await serve({ email: { transport } })
    const refused = await app.post('email', { email: 'a@nobody.example' })
    expect(refused).toMatchObject({ status: 503, error: 'unavailable' })
    expect(refused.took).toBeLessThan(promised)
    well = true
    expect(await app.post('email', { email: 'a@nobody.example' })).toMatchObject({ status: 200 })
  })
})

describe('P24 a fetch of the app’s own', () => {
  const endless = () => Promise.resolve(new Response(new ReadableStream({ pull: hang })))
  test.each<[string, () => Promise<Response>]>([
    ['throws', fail],
    ['rejects', reject],
    ['hangs', hang],
    ['answers without an end', endless],
    ['answers nonsense', () => Promise.resolve('a page' as never)],
  ])('P24 that %s is a 503 in time, without an attempt that waits', async (_, fetch) => {
    const app = await serve({ fetch, strategies: [oidcStrategy(), emailStrategyOf()] })
    const refused = await app.begin(browser())
    expect(refused).toMatchObject({ status: 503, error: 'idp_unreachable' })
    expect(refused.took).toBeLessThan(promised)
  })
  const emailStrategyOf = () =>
    emailStrategy({ transport: { sendMail: async () => {} }, from: 'a@app.example', appName: 'A' })
})

describe('P24 onConflict', () => {
  test.each<[string, OnConflict, number]>([
    ['hangs', hang, provisionDefaults.hook],
    ['throws', fail, 0],
    ['rejects', reject, 0],
    ['answers nonsense', () => 42 as never, 0],
    [
      'answers after its time',
      () => new Promise((done) => setTimeout(done, 1_500, 'deny')),
      provisionDefaults.hook,
    ],
  ])(
    'P24 that %s: the policy’s word stands, and the answer waits a second at most',
    async (_, hook, waited) => {
      let well = true
      const lines: string[] = []
      const app = await serve({
        onConflict: (conflict) => (well ? undefined : hook(conflict)),
        log: ({ message }) => lines.push(message),
      })
      expect(await app.signIn(browser(), 'alice')).toMatchObject({ status: 303 })
      well = false
      const full = await app.signIn(browser(), 'bob')
      expect(full).toMatchObject({ status: 403, error: 'seats_full' })
      expect(full.took).toBeGreaterThanOrEqual(waited - 50)
      expect(full.took).toBeLessThan(waited + 4_000)
      expect(lines.some((line) => /onConflict .* about seats_full; the policy says "deny"/.test(line))).toBe(
        true,
      )
      expect(await app.signIn(browser(), 'alice')).toMatchObject({ status: 303 })
    },
  )
})

describe('P24 the way to a session', () => {
  const twice = (_: unknown, done: Done) => {
    done('pass')
    done('pass')
  }

  test('P24 a serializer that calls back twice: one session', async () => {
    const sessions = new session.MemoryStore()
    const app = await serve({ serializer: twice, sessions })
    const client = browser()
    expect(await app.signIn(client)).toMatchObject({ status: 303 })
    expect(await app.me(client)).toBe(200)
    const kept = await new Promise<object>((done) => sessions.all!((_, all) => done(all as object)))
    expect(Object.keys(kept)).toHaveLength(1)
  })

  test('P24 a serializer that keeps users of the kit its own way: nobody is signed in where no suspension would end it', async () => {
    const sessions = new session.MemoryStore()
    const app = await serve({ serializer: (user, done) => done(null, user), sessions })
    const client = browser()
    expect(await app.signIn(client)).toMatchObject({ status: 500, error: 'session_missing' })
    expect(client.cookies(app.origin).has('connect.sid')).toBe(false)
    expect(await app.me(client)).toBe(401)
  })

  test('P24 without jit.passport(): an error that says so, before anything is written', async () => {
    const messages: string[] = []
    const app = await serve({ passport: false, log: ({ message }) => messages.push(message) })
    expect(await app.signIn(browser())).toMatchObject({ status: 500, error: 'session_missing' })
    expect(messages).toEqual([expect.stringMatching(/jit\.passport\(passport\)/)])
    expect((await app.jit.audit.decisions()).rows).toEqual([])
  })

  test.each<[string, (user: unknown, done: Done) => void]>([
    ['throws', fail],
    ['fails', (_, done) => done(new Error('broken'))],
  ])('P24 a serializer that %s: a 503, the account stands, and the next try signs in', async (_, broken) => {
    let well = false
    const app = await serve({ serializer: (user, done) => (well ? done('pass') : broken(user, done)) })
    const client = browser()
    expect(await app.signIn(client)).toMatchObject({ status: 503, error: 'unavailable' })
    expect(await app.me(client)).toBe(401)
    well = true
    expect(await app.signIn(client)).toMatchObject({ status: 303 })
    expect((await app.jit.audit.decisions()).rows).toHaveLength(1)
  })

  test.each<[string, Parameters<Done>]>([
    ['that leaves it to the next', ['pass']],
    ['of its own', [null, 'somebody']],
  ])(
    'P24 a serializer that never calls back: a 503 in time, and its late word %s signs nobody in',
    async (_, word) => {
      const late: Done[] = []
      let well = false
      const serializer = (_: unknown, done: Done) => void (well ? done('pass') : late.push(done))
      const app = await serve({ serializer })
      const client = browser()
      const refused = await app.signIn(client)
      expect(refused).toMatchObject({ status: 503, error: 'unavailable' })
      expect(refused.took).toBeLessThan(promised)
      expect(late).toHaveLength(1)
      late[0]!(...word)
      expect(await app.me(client)).toBe(401)
      well = true
      expect(await app.signIn(client)).toMatchObject({ status: 303 })
      expect((await app.jit.audit.decisions()).rows).toHaveLength(1)
    },
  )

  test('P24 a serializer that calls back while the refusal is made: nothing is thrown at it, and nobody is signed in', async () => {
    const late: Done[] = []
    const word = vi.fn(() => late[0]!(null, 'somebody'))
    const app = await serve({ serializer: (_, done) => void late.push(done), refusing: word })
    const client = browser()
    expect(await app.signIn(client)).toMatchObject({ status: 503, error: 'unavailable' })
    expect(word.mock.results).toMatchObject([{ type: 'return' }])
    expect(client.cookies(app.origin).has('connect.sid')).toBe(false)
    expect(await app.me(client)).toBe(401)
  })

  test('P24 a session store that never says that it has saved: the same', async () => {
    const sessions = new session.MemoryStore()
    const app = await serve({ sessions })
    const client = browser()
    const { set } = sessions
    const late: (() => void)[] = []
    sessions.set = (...asked) => void late.push(() => set.apply(sessions, asked))
    const refused = await app.signIn(client)
    expect(refused).toMatchObject({ status: 503, error: 'unavailable' })
    expect(refused.took).toBeLessThan(promised)
    for (const go of late) go()
    expect(await app.me(client)).toBe(401)
    sessions.set = set
    expect(await app.signIn(client)).toMatchObject({ status: 303 })
    expect(await app.me(client)).toBe(200)
  })

  test('P24 a session store that does not end the old session: a 503 in time for who signs in and for who signs out', async () => {
    const sessions = new session.MemoryStore()
    const app = await serve({ sessions })
    const client = browser()
    expect(await app.signIn(client)).toMatchObject({ status: 303 })
    const { destroy } = sessions
    sessions.destroy = () => {}
    const again = await app.signIn(client)
    expect(again).toMatchObject({ status: 503, error: 'unavailable' })
    expect(again.took).toBeLessThan(promised)
    sessions.destroy = destroy
    expect(await app.signIn(client)).toMatchObject({ status: 303 })
    expect(await app.me(client)).toBe(200)
  })
})

onEveryStore((factory) => {
  const nonsense: [string, () => unknown][] = [
    ['throws at once', fail],
    ['rejects', reject],
    ['hangs', hang],
    ['throws nothing', () => Promise.reject(undefined)],
    [
      'throws an error whose words are none',
      () => Promise.reject(Object.assign(new Error(), { message: 4 })),
    ],
    [
      'asks for a pause that is none',
      () => Promise.reject(new DeliveryError('no', { retryAfter: Number.NaN })),
    ],
  ]
  test.each(nonsense)(
    'P24 a listener that %s holds up nobody else, and gets it once it is well',
    async (_, broken) => {
      const { store, close } = await factory()
      try {
        await store.migrate()
        const clock = { at: start }
        const told: Record<'sick' | 'well', string[]> = { sick: [], well: [] }
        let ill = true
        const { jit } = kit(
          store,
          [
            {
              id: 'sick',
              timeout: 200,
              deliver: async ({ change }) => {
                if (ill) await broken()
                told.sick.push(change)
              },
            },
            { id: 'well', deliver: async ({ change }) => void told.well.push(change) },
          ],
          clock,
        )
        for (const name of ['a', 'b']) await commit(store, name, { user: 'ann' })
        expect(await jit.background.runOnce()).toEqual({ sealed: 2, delivered: 2, failed: 1 })
        expect(told).toEqual({ sick: [], well: ['a', 'b'] })
        const { rows } = await jit.outbox.deliveries({ endpoint: 'sick' })
        expect(rows).toMatchObject([{ attempts: 0 }, { change: 'a', attempts: 1, log: [{ at: start }] }])
        expect(rows[1]!.dueAt).toBeGreaterThan(start)
        ill = false
        clock.at = rows[1]!.dueAt
        await settle(jit)
        expect(told).toEqual({ sick: ['a', 'b'], well: ['a', 'b'] })
      } finally {
        await close()
      }
    },
  )
})

test('P24 round after round, a listener that hangs does not hold up the others, nor what is sealed', async () => {
  const store = memoryStore()
  const told: string[] = []
  const { jit } = kit(store, [
    { id: 'hangs', deliver: hang },
    { id: 'well', deliver: async ({ change }) => void told.push(change) },
  ])
  const running = jit.background.start({ interval: 10 })
  const names = ['a', 'b', 'c']
  for (const [n, name] of names.entries()) {
    await commit(store, name, { user: name })
    await eventually(async () => told.length === n + 1)
  }
  expect(told).toEqual(names)
  expect(await jit.audit.verify()).toMatchObject({ ok: true, seals: 3, waiting: 0 })
  // What hangs has fifteen seconds; `stop` would wait for it.
  void running.stop()
})
