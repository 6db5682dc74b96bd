import { Redis } from 'ioredis'
import { errorCodes } from 'passport-jit'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { AppOptions } from '../rig/app.js'
import type { Failpoint } from '../rig/failpoints.js'
import { type App, Browser, baseUrl, type Person, startApp, type World, world } from '../rig/fleet.js'
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { type PausedSignIn, pausedSignIn } from '../rig/paused-sign-in.js'
import { needs, postgres, startRedis } from '../rig/services.js'

// A lock is waited for until it has expired, which takes five seconds.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

/** What is decided about a person while the process that signs them in is paused. */
const decisions = {
  'signs in elsewhere': null,
  'is suspended': { verb: 'suspend', about: {} },
  'is removed from the organization': { verb: 'remove', about: { organization: 'acme' } },
  'is removed altogether': { verb: 'removeUser', about: {} },
} as const
type Decision = keyof typeof decisions

/** A person whose sign-in is paused in a process of its own, and what is decided about them. */
interface Stopped extends PausedSignIn {
  readonly decision: Decision
  readonly person: Person
}

const database = await postgres()
const cache = await startRedis()

needs('Processes with PostgreSQL and Redis', database && cache && { database, cache }, (services) => {
  let scene: World
  let drop: () => Promise<void>
  let other: App
  let holders: App[]
  let db: Reader
  let redis: Redis
  beforeAll(async () => {
    scene = await world()
    const fresh = await services.database.freshDatabase()
    drop = fresh.drop
    const store = { kind: 'postgres', url: fresh.url, connections: 5 } as const
    const options: AppOptions = { baseUrl, directory: scene.directory, store, redis: services.cache.url }
    other = await startApp(options)
    holders = await Promise.all(Object.keys(decisions).map(() => startApp(options)))
    db = await reader(store)
    redis = new Redis(services.cache.url)
    for (const app of [other, ...holders]) await new Browser().signIn(app, scene.newcomer())
  })
  afterAll(async () => {
    redis.disconnect()
    await db.close()
    await Promise.all([other, ...holders].map((app) => app.close()))
    await drop()
    await scene.close()
    await services.cache.close()
  })

  afterEach(async () => {
    for (const app of holders) app.kill('SIGCONT')
    await redis.flushall()
  })

  const locks = () => redis.keys('jit:lock:*')

  const command = async (verb: string, asked: object): Promise<void> => {
    const response = await fetch(`${other.url}/admin`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ verb, asked: { by: 'an operator', ...asked } }),
    })
    expect(await response.json()).toMatchObject({ changed: true })
  }

  const idOf = async ({ email }: Person): Promise<string> => {
    const [row] = await db.select<{ id: string }>(
      `select id from jit_users where verified_email = '${email}'`,
    )
    return row!.id
  }

  /** For each decision a person whose sign-in is paused at this point of it. */
  const stopAll = (point: Failpoint, people: readonly Person[]): Promise<Stopped[]> =>
    Promise.all(
      (Object.keys(decisions) as Decision[]).map(async (decision, index) => {
        const person = people[index]!
        return { decision, person, ...(await pausedSignIn(holders[index]!, person, point)) }
      }),
    )

  const expired = async () => {
    expect(await locks()).toHaveLength(holders.length)
    await expect.poll(locks, { timeout: 30_000 }).toEqual([])
  }

  /** Wakes the process; its answer is a session or a refusal with a code, soon. */
  const wakes = async ({ wake }: Stopped) => {
    const woken = performance.now()
    const answer = await wake()
    expect(performance.now() - woken).toBeLessThan(5_000)
    if (answer.status === 303) return expect(answer.location).toBe('/me')
    expect([403, 503]).toContain(answer.status)
    expect(errorCodes).toContain(JSON.parse(answer.body).error)
    if (answer.status === 503) expect(answer.retryAfter).toBe('2')
  }

  /** What was decided is what counts, in the session of the woken process and at the next sign-in. */
  const stands = async ({ decision, person, browser }: Stopped) => {
    const seen = await browser.go(other, '/me')
    const again = new Browser()
    const next = await again.signIn(other, person)
    const rows = await rowsOf(db, person.email)
    if (decision === 'signs in elsewhere') {
      expect(rows).toEqual(exactlyOne)
      expect(next).toMatchObject({ status: 303, location: '/me' })
      if (seen.status !== 401) expect(JSON.parse(seen.body).id).toBe((await again.me(other))!.id)
    } else if (decision === 'is removed from the organization') {
      expect(rows).toEqual({ ...exactlyOne, memberships: 0 })
      expect(next).toMatchObject({ status: 303, location: '/me' })
      expect(JSON.parse((await again.go(other, '/me')).body).memberships).toEqual([])
      if (seen.status !== 401) expect(JSON.parse(seen.body).memberships).toEqual([])
    } else {
      expect(seen.status).toBe(401)
      expect(next.status).toBe(403)
      const suspended = decision === 'is suspended'
      expect(JSON.parse(next.body).error).toBe(suspended ? 'user_suspended' : 'user_removed')
      expect(rows).toEqual(suspended ? exactlyOne : { users: 0, identities: 0, memberships: 0, created: 0 })
    }
  }

  const decide = async ({ decision, person }: Stopped) => {
    const asked = decisions[decision]
    if (asked) await command(asked.verb, { user: await idOf(person), ...asked.about })
  }

  describe.each<Failpoint>([
    { step: 'lock.acquire', moment: 'after' },
    { step: 'store.commit', moment: 'before' },
    { step: 'store.commit', moment: 'during' },
    { step: 'lease.release', moment: 'before' },
  ])('P14: a process paused $moment $step until its lock has expired', (point) => {
    test('a newcomer signs in elsewhere meanwhile, and what is decided about them stands', async () => {
      const stopped = await stopAll(
        point,
        Object.keys(decisions).map(() => scene.newcomer()),
      )
      await expired()
      for (const { person } of stopped) {
        expect(await new Browser().signIn(other, person)).toMatchObject({ status: 303, location: '/me' })
      }
      for (const each of stopped) await decide(each)
      await Promise.all(stopped.map(wakes))
      for (const each of stopped) await stands(each)
      expect(await violations(db)).toEqual([])
    })

    test('somebody known loses a role elsewhere meanwhile, and what is decided about them stands', async () => {
      const people = Object.keys(decisions).map(() => scene.newcomer())
      for (const person of people) {
        expect(await new Browser().signIn(other, person)).toMatchObject({ status: 303 })
        Object.assign(person, { groups: [] })
      }
      const stopped = await stopAll(point, people)
      await expired()
      expect(await new Browser().signIn(other, people[0]!)).toMatchObject({ status: 303, location: '/me' })
      for (const each of stopped) await decide(each)
      await Promise.all(stopped.map(wakes))
      for (const each of stopped) await stands(each)
      const revoked = await db.select(
        `select 1 from jit_events where type = 'revoked' and user_id = '${await idOf(people[0]!)}'`,
      )
      expect(revoked).toHaveLength(1)
      expect(await violations(db)).toEqual([])
    })
  })

  test('P14: a process paused between what it read and its lock finds what was decided meanwhile', async () => {
    const people = Object.keys(decisions).map((_, index) => scene.newcomer(index === 2 ? 'oidc' : 'saml'))
    const stopped = await stopAll({ step: 'lock.acquire', moment: 'before' }, people)
    expect(await locks()).toEqual([])
    for (const { person } of stopped) {
      expect(await new Browser().signIn(other, person)).toMatchObject({ status: 303, location: '/me' })
    }
    for (const each of stopped) await decide(each)
    await Promise.all(stopped.map(wakes))
    for (const each of stopped) await stands(each)
    expect(await violations(db)).toEqual([])
  })

  test('P14: a process that wakes when the time of its sign-in is over writes nothing', async () => {
    const person = scene.newcomer()
    const { browser, wake } = await pausedSignIn(holders[0]!, person, {
      step: 'lock.acquire',
      moment: 'after',
    })
    expect(await locks()).toHaveLength(1)
    await expect.poll(locks, { timeout: 30_000 }).toEqual([])
    expect(await wake()).toMatchObject({ status: 503, retryAfter: '2' })
    expect(await rowsOf(db, person.email)).toEqual({ users: 0, identities: 0, memberships: 0, created: 0 })
    expect(await browser.signIn(holders[0]!, person)).toMatchObject({ status: 303, location: '/me' })
    expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
  })

  test.each<Failpoint>([
    { step: 'lock.acquire', moment: 'after' },
    { step: 'lease.release', moment: 'before' },
  ])(
    'P15: paused $moment $step, a process whose lock has expired does not free the next one',
    async (point) => {
      const person = scene.newcomer()
      const [late, next] = [holders[0]!, holders[1]!]
      const first = await pausedSignIn(late, person, point)
      const [key] = await locks()
      const token = await redis.get(key!)
      await expect.poll(() => redis.exists(key!), { timeout: 30_000 }).toBe(0)

      // A role to take, so that the one who is known by now is locked for once more.
      Object.assign(person, { groups: [] })
      const second = await pausedSignIn(next, person, { step: 'store.commit', moment: 'before' })
      const nextToken = await redis.get(key!)
      expect([null, token]).not.toContain(nextToken)
      // It must not end by itself while the late one is at it.
      await redis.pexpire(key!, 60_000)

      const monitor = await redis.monitor()
      const seen: string[][] = []
      monitor.on('monitor', (_time, words: string[]) => seen.push(words))
      await first.wake()
      const naming = (held: string) => seen.filter((words) => words.includes(held))
      await expect.poll(() => naming(token!), { timeout: 10_000 }).toHaveLength(1)
      expect(await redis.get(key!)).toBe(nextToken)

      expect(await second.wake()).toMatchObject({ status: 303, location: '/me' })
      await expect.poll(() => redis.exists(key!)).toBe(0)
      expect(naming(nextToken!)).toHaveLength(1)
      monitor.disconnect()
      expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      expect(await violations(db)).toEqual([])
    },
  )
})
