import { Redis } from 'ioredis'
import { memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import {
  type App,
  Browser,
  baseUrl,
  type Ending,
  type Person,
  type Protocol,
  startApp,
  type World,
  world,
} from '../rig/fleet.js'
import { exactlyOne, type Reader, reader, rowsOf } from '../rig/invariants.js'
import { type App as Server, startApp as startServer } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { forge, posted, replace } from '../rig/saml-answer.js'
import { alice, createIdp, type Idp, samlConnection } from '../rig/saml-scene.js'
import { needs, postgres, startRedis } from '../rig/services.js'

// Each process goes by a clock of its own, and one of two is wrong.

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
const wrong: [string, number][] = [
  ['an hour ahead', hour],
  ['an hour behind', -hour],
  ['a day ahead', day],
  ['a day behind', -day],
]

const database = await postgres()
const cache = await startRedis()
needs('PostgreSQL and Redis', database && cache && { database, cache }, (services) => {
  let scene: World
  let right: App
  let off: App
  let db: Reader
  let redis: Redis
  const closing: (() => unknown)[] = []
  beforeAll(async () => {
    scene = await world()
    const fresh = await services.database.freshDatabase()
    const store = { kind: 'postgres', url: fresh.url, connections: 5 } as const
    const options = { baseUrl, directory: scene.directory, store, redis: services.cache.url }
    right = await startApp(options)
    off = await startApp(options)
    db = await reader(store)
    redis = new Redis(services.cache.url)
    closing.push(
      () => Promise.all([right.close(), off.close(), db.close()]),
      () => redis.disconnect(),
      () => fresh.drop(),
      () => services.cache.close(),
      () => scene.close(),
    )
  })
  afterEach(() => off.clock(0))
  afterAll(async () => {
    for (const close of closing) await close()
  })

  const signedIn = async (app: App, protocol: Protocol) => {
    const person = scene.newcomer(protocol)
    const client = new Browser()
    expect(await patiently(client, person, app)).toMatchObject({ status: 303, location: '/me' })
    return { person, client }
  }
  /** Begins at one process and ends at another; tries again where a busy machine has it answer 503. */
  const patiently = async (client: Browser, person: Person, began: App, ended = began): Promise<Ending> => {
    for (let tries = 1; ; tries++) {
      const ending = await client.arrive(began, person).then(
        (answer) => answer(ended),
        (error: Error) => error,
      )
      const busy = ending instanceof Error ? /answered 503/.test(ending.message) : ending.status === 503
      if (!busy || tries === 20) {
        if (ending instanceof Error) throw ending
        return ending
      }
    }
  }
  const ask = async (app: App, verb: string, asked: object) => {
    const answer = await fetch(`${app.url}/admin`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ verb, asked: { by: 'root', organization: 'globex', ...asked } }),
    })
    expect(answer.status).toBe(200)
  }
  const organizations = async (client: Browser) =>
    ((await client.me(right)) as unknown as { memberships: { organization: string }[] }).memberships.map(
      ({ organization }) => organization,
    )

  describe.each(wrong)('P23 one of two processes is %s', (_, ahead) => {
    test.each<Protocol>(['oidc', 'saml'])(
      'P23 and takes no answer by %s, whoever began; the other does',
      async (protocol) => {
        const person = scene.newcomer(protocol)
        const client = new Browser()
        await off.clock(ahead)
        for (const began of [right, off]) {
          const refused = await patiently(client, person, began, off)
          expect([refused.status, JSON.parse(refused.body).error]).toEqual([403, 'assertion_refused'])
        }
        expect(await client.me(off)).toBeNull()
        expect(await rowsOf(db, person.email)).toEqual({
          users: 0,
          identities: 0,
          memberships: 0,
          created: 0,
        })
        // Begun by the wrong clock, ended by the right one: what waits for the answer waits by Redis's time.
        expect(await patiently(client, person, off, right)).toMatchObject({ status: 303 })
        await off.clock(0)
        expect(await patiently(new Browser(), person, off)).toMatchObject({ status: 303 })
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      },
    )

    test('P23 what is kept in Redis lives by Redis’s time', async () => {
      await redis.flushall()
      await off.clock(ahead)
      const begun = async () => (await new Browser().go(off, '/auth/sso/globex')).status
      await expect.poll(begun, { timeout: 10_000 }).toBe(302)
      const [attempt] = await redis.keys('jit:once:attempt:*')
      const left = await redis.pttl(attempt!)
      expect(left).toBeGreaterThan(9 * minute)
      expect(left).toBeLessThanOrEqual(10 * minute)
    })

    test('P23 a session is as long as its epochs say, and an administrator’s word counts at once, wherever it was given', async () => {
      const { person, client } = await signedIn(right, 'saml')
      await off.clock(ahead)
      const me = await client.me(off)
      expect(me).toMatchObject({ email: person.email })
      // Dated by the wrong clock: a day after the removal of it, or a day before.
      await ask(right, 'invite', { email: person.email, role: 'admin' })
      await ask(off, 'remove', { user: me!.id })
      expect(await client.me(right)).toBeNull()
      expect(await patiently(client, person, right)).toMatchObject({ status: 303 })
      expect(await organizations(client)).toEqual([])

      await ask(off, 'invite', { email: person.email, role: 'member' })
      expect(await patiently(client, person, right)).toMatchObject({ status: 303 })
      expect(await organizations(client)).toEqual(['globex'])
    })

    test('P23 an invitation counts that was written after the removal, by whichever clock', async () => {
      const { person, client } = await signedIn(right, 'saml')
      const { id } = (await client.me(right))!
      for (const [removing, inviting] of [
        [right, off],
        [off, right],
      ] as const) {
        await off.clock(ahead)
        await ask(removing, 'remove', { user: id })
        await ask(inviting, 'invite', { email: person.email, role: 'member' })
        expect(await patiently(client, person, right)).toMatchObject({ status: 303 })
        expect(await organizations(client)).toEqual(['globex'])
      }
    })
  })

  test.each([45_000, -45_000])(
    'P23 a clock that is off by %i ms is within what is allowed',
    async (ahead) => {
      await off.clock(ahead)
      for (const protocol of ['oidc', 'saml'] as const) await signedIn(off, protocol)
    },
  )
})

describe('P23, S14 an assertion that nobody asked for, and two servers whose clocks differ', () => {
  let idp: Idp
  const strategy = samlStrategy()
  beforeAll(async () => {
    idp = await createIdp('acme')
  })
  afterAll(() => strategy.close())

  const callback = '/auth/sso/acme/callback'
  const assertion = (at: number, until: number) =>
    posted(
      forge({
        issuer: idp.entityId,
        person: alice,
        to: {
          callbackUrl: `http://localhost${callback}`,
          audience: 'http://localhost/auth/sso/acme/metadata',
          requestId: null,
          at,
        },
        before: [replace(/NotOnOrAfter="[^"]*"/g, `NotOnOrAfter="${new Date(until).toISOString()}"`)],
        signing: { key: idp.key },
      }),
    )
  /** As a person does who confirms that it was meant: 303, or the code of the refusal. */
  const bring = async (server: Server, SAMLResponse: string) => {
    const client = browser()
    const send = (form: Record<string, string>) =>
      client.go(server.origin + callback, { method: 'POST', body: new URLSearchParams(form) })
    const parked = await send({ SAMLResponse })
    if (parked.status !== 303) return parked.json().error
    const page = await client.go(parked.location!)
    return (await send({ ticket: /name="ticket" value="([^"]+)"/.exec(page.text)![1]! })).status
  }

  test.each([
    ['right', 0, 'an hour behind', -hour],
    ['right', 0, 'a day behind', -day],
    ['an hour ahead', hour, 'right', 0],
    ['a day ahead', day, 'right', 0],
    ['an hour behind', -hour, 'right', 0],
    ['right', 0, 'an hour ahead', hour],
  ])(
    'S14 used at the one that is %s (%i ms), it is refused by the one that is %s (%i ms) as long as that would take it',
    async (_, first, __, second) => {
      let time = Date.now()
      const store = memoryStore()
      const once = memoryOnce(() => time)
      const servers: Server[] = []
      for (const ahead of [first, second]) {
        servers.push(
          await startServer({
            baseUrl: 'http://localhost',
            store,
            once,
            strategies: [strategy],
            connections: [samlConnection('acme', idp, { idpInitiated: true })],
            now: () => time + ahead,
          }),
        )
      }
      try {
        const [used, later] = servers as [Server, Server]
        const from = time + Math.min(first, second)
        const until = time + Math.max(first, second) + 5 * minute
        const brought = assertion(from, until)
        const unused = assertion(from, until)
        expect(await bring(used, brought)).toBe(303)
        expect(await bring(later, brought)).toBe('answer_replayed')
        // The last second of the skew that is allowed, by the clock of the second.
        time = until + minute - 1_000 - second
        expect(await bring(later, brought)).toBe('answer_replayed')
        expect(await bring(later, unused)).toBe(303)
        time += 1_000
        expect(await bring(later, assertion(from, until))).toBe('assertion_refused')
      } finally {
        for (const server of servers) await server.close()
      }
    },
  )
})
