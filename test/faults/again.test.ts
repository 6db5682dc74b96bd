import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import passport from 'passport'
import {
  assertIdentity,
  createJit,
  type SocialProvider,
  type Strategy,
  single,
  staticDirectory,
} from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { emailStrategy } from 'passport-jit/strategies/email'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { begin, honest, saml, startHonest } from '../http/honest.js'
import { Browser, baseUrl, type Ending, startApp, type World, world } from '../rig/fleet.js'
import { inbox } from '../rig/inbox.js'
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { twoOrganizations } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { needs, postgres, startRedis } from '../rig/services.js'

// The step that ends a sign-in, taken twice: by a double click, the reload button, or the way back.

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

type At = { readonly url: string }
type Which = (path: string, form?: URLSearchParams) => boolean

/** A browser in which one step is taken twice at once, at two processes; it goes on where that led further. */
class DoubleClick extends Browser {
  /** How both ended, after the step was taken. */
  endings: Ending[] = []
  #step: Parameters<Browser['go']> extends [unknown, ...infer Rest] ? Rest | null : never = null

  constructor(
    readonly apps: readonly At[],
    readonly twice: Which,
  ) {
    super()
  }

  override async go(app: At, path: string, form?: URLSearchParams): Promise<Ending> {
    if (!this.twice(path, form)) return super.go(app, path, form)
    this.#step = [path, form]
    this.endings = await Promise.all(this.apps.map((each) => super.go(each, path, form)))
    return this.endings.find(({ status }) => status < 400) ?? this.endings[0]!
  }

  /** The same step once more, at one process. */
  again(app: At): Promise<Ending> {
    return super.go(app, ...this.#step!)
  }
}

const errorOf = ({ body }: Ending) => JSON.parse(body).error as string

/**
 * Taken twice at once it signed in once; taken once more, at either process, it does nothing.
 * @returns the codes by which it was refused: at once, and then once more
 */
async function expectOnce(client: DoubleClick, sessionsOf: (id: string) => Promise<number>, refusal: string) {
  const refused = client.endings.filter(({ status }) => status >= 400)
  expect(refused).toHaveLength(1)
  const codes = [errorOf(refused[0]!)]
  const [me, there] = [await client.me(client.apps[0]!), await client.me(client.apps[1]!)]
  expect(me).not.toBeNull()
  expect(there).toEqual(me)
  expect(await sessionsOf(me!.id)).toBe(1)
  for (const app of client.apps) {
    codes.push(errorOf(await client.again(app)))
    expect(await client.me(app)).toEqual(me)
  }
  expect(await sessionsOf(me!.id)).toBe(1)
  // A busy machine may have had no answer of its Redis in time.
  for (const code of codes) expect([refusal, 'unavailable']).toContain(code)
  return codes
}

/** The refusal was that of the step itself, in one of the rounds at least. */
function expectTold(rounds: readonly string[][], refusal: string) {
  expect(rounds.map(([atOnce]) => atOnce)).toContain(refusal)
  expect(rounds.flatMap(([, ...onceMore]) => onceMore)).toContain(refusal)
}

/** As a person does whom a busy machine asks to try again; a step of which both copies failed was no test. */
async function patiently(client: DoubleClick, signIn: () => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries++) {
    client.endings = []
    const failure = await signIn().then(
      () => null,
      (error: unknown) => error,
    )
    const served = client.endings.some(({ status }) => status < 400) && (await client.me(client.apps[0]!))
    if (served) return
    const busy = JSON.stringify(client.endings).includes('unavailable') || String(failure).includes('503')
    if (!busy || tries === 10) throw failure ?? new Error(JSON.stringify(client.endings))
  }
}

test('P21 whoever goes back to the last step is told that they are signed in, and nobody else is', async () => {
  const app = await startHonest({ store: memoryStore() })
  try {
    const [client, other] = [browser(), browser()]
    const callback = `${app.callback('acme')}?state=${await begin(app, client)}`
    expect((await client.go(callback)).status).toBe(303)
    const asPerson = { headers: { accept: 'text/html' } }
    const pages = [await client.go(callback, asPerson), await other.go(callback, asPerson)]
    expect(pages.map(({ status }) => status)).toEqual([400, 400])
    for (const { text } of pages) expect(text).toContain('This sign-in was already used or has expired.')
    const told = pages.map(({ text }) => /You are (?:still|not) signed in/.exec(text)?.[0])
    expect(told).toEqual(['You are still signed in', 'You are not signed in'])
    expect(await app.me(client)).toBe(200)
  } finally {
    await app.close()
  }
})

const database = await postgres()
const cache = await startRedis()
needs('PostgreSQL and Redis', database && cache && { database, cache }, (services) => {
  let redis: Redis
  beforeAll(() => {
    redis = new Redis(services.cache.url)
  })
  afterAll(async () => {
    redis.disconnect()
    await services.cache.close()
  })
  const sessionsOf = async (id: string) => {
    const kept = await Promise.all((await redis.keys('sess:*')).map((key) => redis.get(key)))
    return kept.filter((text) => text !== null && JSON.parse(text).passport?.user?.id === id).length
  }

  describe('P21 at two processes', () => {
    let scene: World
    let db: Reader
    let apps: Awaited<ReturnType<typeof startApp>>[]
    let drop: () => Promise<void>
    beforeAll(async () => {
      scene = await world()
      const fresh = await services.database.freshDatabase()
      drop = fresh.drop
      const store = { kind: 'postgres', url: fresh.url, connections: 5 } as const
      const options = { baseUrl, directory: scene.directory, store, redis: services.cache.url }
      apps = [await startApp(options), await startApp(options)]
      db = await reader(store)
    })
    afterAll(async () => {
      await db.close()
      await Promise.all(apps.map((app) => app.close()))
      await scene.close()
      await drop()
    })

    test.each<['oidc' | 'saml', string, Which]>([
      ['oidc', 'the callback', (path) => path.includes('/callback?')],
      ['saml', 'the POST of the answer', (path, form) => form !== undefined && path.endsWith('/callback')],
      ['saml', 'the GET with the ticket', (path) => path.includes('?ticket=')],
    ])(
      'P21 by %s, %s twice: one account, one session, again and again in one browser',
      async (protocol, _, step) => {
        const person = scene.newcomer(protocol)
        const client = new DoubleClick(apps, step)
        const rounds: string[][] = []
        for (let round = 0; round < 5; round++) {
          await patiently(client, () => client.signIn(apps[round % 2]!, person))
          rounds.push(await expectOnce(client, sessionsOf, 'attempt_unknown'))
          expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
        }
        expectTold(rounds, 'attempt_unknown')
        expect(await violations(db)).toEqual([])
      },
    )
  })

  describe('P21 at two servers', () => {
    const mailbox = inbox()
    let servers: (At & { close(): Promise<unknown> })[]
    let db: Reader
    let drop: () => Promise<void>
    beforeAll(async () => {
      const { url, ...fresh } = await services.database.freshDatabase()
      drop = fresh.drop
      servers = [await server(url), await server(url)]
      db = await reader({ kind: 'postgres', url, connections: 1 })
    })
    afterAll(async () => {
      await db.close()
      await Promise.all(servers.map((each) => each.close()))
      await drop()
    })

    /** Believes what it is told, of an address that it does not answer for. */
    const pal: Strategy<SocialProvider> = {
      protocol: 'social',
      attemptKey: ({ query }) => single(query, 'state'),
      begin: async (_, attempt) => ({ redirect: `https://pal.test/?state=${attempt}`, secrets: {} }),
      complete: async ({ id, version }, { query }, _, { now }) => {
        const email = single(query, 'email')!
        const more = {
          issuer: 'https://pal.test',
          subject: email,
          email,
          emailVerified: 'yes',
          at: now(),
        } as const
        return assertIdentity({ source: `provider:${id}`, sourceVersion: version, ...more })
      },
    }

    /** With every part of its own but the two backends, as another machine has it. */
    async function server(url: string) {
      const pool = new Pool({ connectionString: url, max: 4 }).on('error', () => {})
      const client = new Redis(services.cache.url)
      const email = emailStrategy({ transport: mailbox.transport, from: 'a@app.example', appName: 'App' })
      const jit = createJit({
        baseUrl,
        returnTo: '/me',
        store: postgresStore({ pool }),
        lock: redisLock({ client }),
        once: redisOnce({ client }),
        directory: staticDirectory({
          organizations: twoOrganizations,
          connections: [saml('open', { idpInitiated: true })],
          social: [{ id: 'pal', preset: 'passport' }],
          email: { enabled: true },
        }),
        strategies: [honest('saml'), pal as Strategy, email],
        log: () => {},
      })
      await jit.ready()
      const instance = new passport.Passport()
      const store = new RedisStore({ client })
      const app = express()
        .use(session({ secret: 't', resave: false, saveUninitialized: false, store }))
        .use(instance.session() as express.RequestHandler)
        .use(jit.routes())
        .get('/me', (req, res) => void res.status(req.user ? 200 : 401).json({ id: req.user?.id }))
        .use(jit.errorPage())
      jit.passport(instance as never)
      const listening = createServer(app).listen(0, '127.0.0.1')
      await once(listening, 'listening')
      return {
        url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}`,
        close: async () => {
          listening.closeAllConnections()
          listening.close()
          client.disconnect()
          await pool.end()
        },
      }
    }

    let people = 0
    const somebody = () => `person-${++people}@nobody.example`
    const form = (fields: Record<string, string>) => new URLSearchParams(fields)
    const here = () => servers[0]!
    /** The next step of a sign-in, which only a busy machine refuses. */
    const step = async (client: Browser, path: string, fields?: Record<string, string>) => {
      const ending = await client.go(here(), path, fields && form(fields))
      if (ending.status >= 400) throw new Error(`${path} answered ${ending.status}: ${ending.body}`)
      return ending
    }

    /** As far as the code for an account that somebody has, at the provider that does not answer for it. */
    const untilCode = async (client: Browser, email: string) => {
      const begun = await step(client, '/auth/social/pal')
      const state = new URL(begun.location!).searchParams.get('state')!
      const asked = await step(client, `/auth/social/pal/callback?${form({ state, email })}`)
      const ticket = new URL(asked.location!, baseUrl).searchParams.get('ticket')!
      await step(client, '/auth/prove', { ticket })
      return mailbox.to(email).code
    }
    const signInByCode = async (client: Browser, email: string) => {
      await step(client, '/auth/email', { email })
      await step(client, '/auth/email/verify', { email, code: mailbox.to(email).code })
    }

    const ways: [string, string, Which, (client: Browser, email: string) => Promise<unknown>][] = [
      ['a mailed code', 'code_wrong', (path) => path === '/auth/email/verify', signInByCode],
      [
        'a mailed link',
        'code_wrong',
        (path) => path === '/auth/email/verify',
        async (client, email) => {
          await step(client, '/auth/email', { email })
          const link = new URL(mailbox.to(email).link!).searchParams.get('link')!
          await step(client, '/auth/email/verify', { link })
        },
      ],
      [
        'the code that proves an account',
        'code_wrong',
        (path, form) => path === '/auth/prove' && form?.has('code') === true,
        async (client, email) => {
          await patientlySignedUp(email)
          await step(client, '/auth/prove', { email, code: await untilCode(client, email) })
        },
      ],
      [
        'the button of a sign-in that began at the identity provider',
        'attempt_unknown',
        (_, form) => form?.has('ticket') === true,
        async (client, email) => {
          const path = '/auth/sso/open/callback'
          const subject = email.split('@')[0]!
          const posted = await step(client, path, { subject, email: `${subject}@acme.example` })
          const page = await step(client, posted.location!)
          await step(client, path, { ticket: /name="ticket" value="([^"]+)"/.exec(page.body)![1]! })
        },
      ],
    ]
    const patientlySignedUp = async (email: string) => {
      const first = new DoubleClick([here()], (path) => path === '/auth/email/verify')
      await patiently(first, () => signInByCode(first, email))
      await redis.flushall()
    }

    test.each(ways)('P21 %s, sent twice: one account, one session', async (_, refusal, twice, signIn) => {
      const rounds: string[][] = []
      for (let round = 0; round < 3; round++) {
        const client = new DoubleClick(servers, twice)
        let email = somebody()
        await patiently(client, () => {
          email = somebody()
          return signIn(client, email)
        })
        rounds.push(await expectOnce(client, sessionsOf, refusal))
        const { id } = (await client.me(here()))!
        const found = await db.select<{ count: string }>(
          `select count(*) from jit_events where user_id = '${id}' and type = 'created'`,
        )
        expect(Number(found[0]!.count)).toBe(1)
      }
      expectTold(rounds, refusal)
    })

    test('P21 the button that mails a proof, pressed twice: the sign-in waits on, and the code completes it', async () => {
      const email = somebody()
      await patientlySignedUp(email)
      const client = new DoubleClick(
        servers,
        (path, form) => path === '/auth/prove' && form?.has('code') !== true,
      )
      await expect
        .poll(
          () =>
            untilCode(client, email)
              .then((code) => step(client, '/auth/prove', { email, code }))
              .then(
                ({ status }) => status,
                (error: Error) => error.message,
              ),
          { timeout: 30_000 },
        )
        .toBe(200)
      expect(await client.me(here())).not.toBeNull()
    })
  })
})
