import { Redis } from 'ioredis'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { AppOptions } from '../rig/app.js'
import { type App, type Browser, baseUrl, startApp, world } from '../rig/fleet.js'
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { needs, startPostgres, startRedis } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'
import {
  arrival,
  expectSignedInOnce,
  expectUnavailable,
  longest,
  noneAtAll,
  signIn,
  type Timed,
  timed,
} from './visits.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const connections = 4

const scene = await world()
afterAll(() => scene.close())

const [database, cache] = await Promise.all([startPostgres(), startRedis()])

needs('P17: Two processes with PostgreSQL', database && cache && { database, cache }, (services) => {
  let proxy: TcpProxy
  let apps: App[]
  let db: Reader
  let redis: Redis
  let resident: Browser
  beforeAll(async () => {
    proxy = await tcpProxy({ port: services.database.port })
    const store = { kind: 'postgres', url: proxy.through(services.database.url), connections } as const
    const options: AppOptions = { baseUrl, directory: scene.directory, store, redis: services.cache.url }
    apps = await Promise.all([startApp(options), startApp(options)])
    redis = new Redis(services.cache.url)
    await look()
    resident = await signIn(apps[0]!, scene.newcomer())
  })
  afterAll(async () => {
    await Promise.all(apps.map((app) => app.close()))
    redis.disconnect()
    await db.close()
    await proxy.close()
    await Promise.all([services.database.close(), services.cache.close()])
  })

  /** A connection of the test's own, past the proxy. */
  const look = async () => {
    db = await reader({ kind: 'postgres', url: services.database.url, connections })
  }
  const locks = () => redis.keys('jit:lock:*')
  const backends = () =>
    db.select<{ pid: number }>(
      `select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`,
    )
  let stopped: { pid: number }[] = []
  const kill = async () => {
    const serving = await backends()
    await db.close().catch(() => {})
    await services.database.stop('SIGKILL')
    // A process of it notices only when it next waits, and may serve a whole sign-in until then.
    for (const { pid } of serving) killed(pid)
  }
  const killed = (pid: number) => {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  const restart = async () => {
    await services.database.restart()
    await look()
  }

  /** Away until `end`. */
  const absences = [
    {
      fault: 'refuses connections',
      begin: async () => {
        proxy.refuse(true)
        proxy.reset()
      },
      end: async () => proxy.refuse(false),
    },
    {
      fault: 'hangs',
      begin: async () => {
        // The server first, so that no process of it is made meanwhile.
        await services.database.stop('SIGSTOP')
        stopped = await backends()
        for (const { pid } of stopped) process.kill(pid, 'SIGSTOP')
      },
      end: async () => {
        for (const { pid } of stopped) process.kill(pid, 'SIGCONT')
        services.database.cont()
      },
    },
    {
      fault: 'is behind a line on which nothing passes',
      begin: async () => proxy.stall(),
      end: async () => proxy.resume(),
    },
    { fault: 'is killed', begin: kill, end: restart },
  ]
  /** Over at once. */
  const interruptions = [
    { fault: 'has its connections reset', begin: async () => proxy.reset() },
    {
      fault: 'is killed and starts again',
      begin: async () => {
        await kill()
        await restart()
      },
    },
  ]

  /** Everything as before: the session that was there, nobody's lock, no connection held, no invariant broken. */
  const expectRecovered = async () => {
    for (const app of apps) {
      await expect.poll(async () => (await resident.go(app, '/me')).status, { timeout: 15_000 }).toBe(200)
      await expect
        .poll(
          async () => {
            const { total, idle, waiting } = (await app.held()).pool!
            return { waiting, busy: total - idle, tooMany: Math.max(0, total - connections) }
          },
          { timeout: 15_000 },
        )
        .toEqual({ waiting: 0, busy: 0, tooMany: 0 })
    }
    expect(await locks()).toEqual([])
    expect(await violations(db)).toEqual([])
  }

  /** Pauses a process where a first sign-in has just taken its lock. */
  const holdingTheLock = async (app: App) => {
    for (let tries = 0; tries < 5; tries++) {
      const person = scene.newcomer()
      const { browser, answer } = await arrival(app, person)
      await app.arm({ step: 'lock.acquire', moment: 'after', signal: 'SIGSTOP' })
      const ending = timed(answer(app))
      const paused = await Promise.race([app.paused().then(() => true), ending.then(() => false)])
      const goOn = () => {
        app.kill('SIGCONT')
        return ending
      }
      if (paused && (await locks()).length === 1) return { person, browser, goOn }
      // A Redis that is late on a busy machine is no Redis, and the sign-in goes on without its lock.
      await goOn()
    }
    throw new Error('no sign-in came to hold its lock')
  }
  afterEach(() => {
    for (const app of apps) app.kill('SIGCONT')
  })

  describe.each([
    ...absences.map((row) => ({ ...row, away: true })),
    ...interruptions.map((row) => ({ ...row, end: async () => {}, away: false })),
  ])('which $fault', ({ begin, end, away }) => {
    test('in the middle of 60 sign-ins of 20 new people: each signs in or is told to come again, and a second try signs in', async () => {
      const people = Array.from({ length: 20 }, () => scene.newcomer())
      const arrived = await Promise.all(
        people.flatMap((person) => [0, 1, 0].map((at) => arrival(apps[at]!, person))),
      )
      let answered = 0
      let strike: () => void
      const struck = new Promise<void>((resolve) => {
        strike = resolve
      })
      const endings = arrived.map(async ({ answer }, index) => {
        const ending = await timed(answer(apps[index % 2]!))
        answered += 1
        if (answered === 6) strike()
        return ending
      })
      await struck
      await begin()
      try {
        const all = await Promise.all(endings)
        if (away) expect(all.map(({ status }) => status)).toContain(503)
        for (const ending of all) {
          if (ending.status !== 303) expectUnavailable(ending)
          expect(ending.after).toBeLessThan(longest)
        }
      } finally {
        await end()
      }
      await expectRecovered()
      for (const [index, { person, browser }] of arrived.entries()) {
        const { status } = await endings[index]!
        const me = await browser.me(apps[0]!)
        if (status === 303) expect(me).toMatchObject({ email: person.email })
        else expect(me).toBeNull()
      }
      for (const person of people) {
        // An answer can be lost of a commit that landed; half of one cannot.
        expect([noneAtAll, exactlyOne]).toContainEqual(await rowsOf(db, person.email))
        await expectSignedInOnce(apps[1]!, db, person)
      }
      expect(await violations(db)).toEqual([])
    })
  })

  describe.each(absences)('which $fault', ({ begin, end }) => {
    test('with the lock held: 503 in time, the lock freed, nobody made, and sessions are neither ended nor broken', async () => {
      const [holding, other] = apps as [App, App]
      const unlucky = await arrival(other, scene.newcomer())
      const held = await holdingTheLock(holding)
      await begin()
      try {
        const asked = [held.goOn(), timed(unlucky.answer(other))]
        const sessions = apps.map((app) => timed(resident.go(app, '/me')))
        expectUnavailable(await asked[0]!)
        expect(await locks()).toEqual([])
        for (const ending of await Promise.all([...asked, ...sessions])) expectUnavailable(ending)
      } finally {
        await end()
      }
      await expectRecovered()
      for (const { person, browser } of [held, unlucky]) {
        expect(await browser.me(other)).toBeNull()
        await expectSignedInOnce(other, db, person)
      }
      expect(await violations(db)).toEqual([])
    })
  })

  test.each(interruptions)(
    'which $fault with the lock held: the sign-in goes on and ends as ever',
    async ({ begin }) => {
      const [holding] = apps as [App]
      const { person, browser, goOn } = await holdingTheLock(holding)
      await begin()
      const ending = await goOn()
      expect(ending, ending.body).toMatchObject({ status: 303, location: '/me' })
      expect(await locks()).toEqual([])
      expect(await browser.me(holding)).toMatchObject({ email: person.email })
      expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      await expectRecovered()
    },
  )

  test('which is so slow that a session takes most of the time: the request still has one deadline', async () => {
    const [app] = apps as [App]
    const person = scene.newcomer()
    const answer = await resident.arrive(app, person)
    proxy.delay({ toServer: 1_850, toClient: 1_850 })
    let ending: Timed
    try {
      ending = await timed(answer(app))
    } finally {
      proxy.delay({})
    }
    expectUnavailable(ending)
    expect(ending.after).toBeLessThan(8_000)
    await expectRecovered()
    await expectSignedInOnce(app, db, person)
  })

  test('whose one connection waits for a row: 503 for everybody in time, the lock freed, and one of everything afterwards', async () => {
    const store = { kind: 'postgres', url: services.database.url, connections: 1 } as const
    const { url } = services.cache
    const narrow = await startApp({ baseUrl, directory: scene.directory, store, redis: url })
    const blocker = new Client({ connectionString: services.database.url })
    await blocker.connect()
    try {
      const [first, second] = [
        await arrival(narrow, scene.newcomer()),
        await arrival(narrow, scene.newcomer()),
      ]
      await blocker.query(`begin; select from jit_organizations where id = 'acme' for update`)
      const stuck = timed(first.answer(narrow))
      await expect.poll(locks).toHaveLength(1)
      await expect
        .poll(() => db.select(`select from pg_stat_activity where wait_event_type = 'Lock'`))
        .toHaveLength(1)
      const another = timed(second.answer(narrow))
      // The connection is closed after a while, and whoever waits for one may be given a new one then.
      const session = timed(resident.go(narrow, '/me'))
      for (const ending of await Promise.all([stuck, another])) expectUnavailable(ending)
      const { status, after } = await session
      expect([200, 503]).toContain(status)
      expect(after).toBeLessThan(longest)
      expect(await locks()).toEqual([])
      for (const { person } of [first, second]) expect(await rowsOf(db, person.email)).toEqual(noneAtAll)
      await blocker.query('rollback')
      await expect
        .poll(() => db.select(`select from pg_stat_activity where wait_event_type = 'Lock'`))
        .toEqual([])
      for (const { person, browser } of [first, second]) {
        expect(await browser.me(narrow)).toBeNull()
        await expectSignedInOnce(narrow, db, person)
      }
      expect((await resident.go(narrow, '/me')).status).toBe(200)
      await expect.poll(async () => (await narrow.held()).pool).toEqual({ total: 1, idle: 1, waiting: 0 })
      expect(await violations(db)).toEqual([])
    } finally {
      await blocker.end()
      await narrow.close()
    }
  })
})
