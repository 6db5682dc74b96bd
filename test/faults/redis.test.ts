import { Redis } from 'ioredis'
import { errorCodes } from 'passport-jit'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { AppOptions } from '../rig/app.js'
import type { Failpoint } from '../rig/failpoints.js'
import {
  type App,
  Browser,
  baseUrl,
  type Ending,
  type Protocol,
  startApp,
  type World,
  world,
} from '../rig/fleet.js'
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { pausedSignIn } from '../rig/paused-sign-in.js'
import { needs, postgres, startRedis } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const database = await postgres()
const cache = await startRedis()

needs('Two processes with PostgreSQL and Redis', database && cache && { database, cache }, (services) => {
  let scene: World
  let drop: () => Promise<void>
  let proxy: TcpProxy
  let apps: readonly [App, App]
  let db: Reader
  let redis: Redis
  beforeAll(async () => {
    scene = await world()
    const fresh = await services.database.freshDatabase()
    drop = fresh.drop
    proxy = await tcpProxy({ port: services.cache.port })
    const store = { kind: 'postgres', url: fresh.url, connections: 10 } as const
    const through = proxy.through(services.cache.url)
    const options: AppOptions = { baseUrl, directory: scene.directory, store, redis: through }
    apps = await Promise.all([startApp(options), startApp(options)])
    db = await reader(store)
    redis = new Redis(services.cache.url, { retryStrategy: () => 100 }).on('error', () => {})
    for (const app of apps) {
      for (const protocol of protocols) await new Browser().signIn(app, scene.newcomer(protocol))
    }
  })
  afterEach(async () => {
    expect(await violations(db)).toEqual([])
    // What is left behind ends by itself, and a lock soon.
    for (const key of await redis.keys('*')) expect(await redis.pttl(key), key).not.toBe(-1)
    await expect.poll(() => redis.keys('jit:lock:*'), { timeout: 20_000 }).toEqual([])
  })
  afterAll(async () => {
    redis.disconnect()
    await db.close()
    await Promise.all(apps.map((app) => app.close()))
    await proxy.close()
    await drop()
    await scene.close()
    await services.cache.close()
  })

  const protocols: readonly Protocol[] = ['oidc', 'saml']
  const [hung, killed] = [
    { begin: () => services.cache.stop('SIGSTOP'), end: async () => services.cache.cont() },
    { begin: () => services.cache.stop('SIGKILL'), end: () => services.cache.restart() },
  ]
  const slow = (toServer: number, toClient: number) => ({
    begin: async () => proxy.delay({ toServer, toClient }),
    end: async () => proxy.delay({}),
  })
  const faults = {
    hung,
    killed,
    refused: {
      begin: async () => {
        proxy.refuse(true)
        proxy.reset()
      },
      end: async () => proxy.refuse(false),
    },
    '500 ms away': slow(250, 250),
    'further away than a lock lasts': slow(0, 6_000),
  }

  /** The work with Redis in this state; the processes have found it again in the end. */
  const during = async ({ begin, end }: typeof hung, work: () => Promise<void>) => {
    await begin()
    try {
      await work()
    } finally {
      await end()
      for (const app of apps) {
        const start = async () => (await new Browser().go(app, '/auth/sso/acme')).status
        await expect.poll(start, { timeout: 30_000 }).toBe(302)
      }
    }
  }

  /** A 503 with its code and when to try again, within the time that any answer may take. */
  const expectUnavailable = async (asked: Promise<Ending>) => {
    const started = performance.now()
    const answer = await asked
    expect(performance.now() - started).toBeLessThan(10_000)
    expect(answer).toMatchObject({ status: 503, retryAfter: '2' })
    expect(errorCodes).toContain(JSON.parse(answer.body).error)
  }

  describe.each(Object.entries(faults))('P16: Redis is %s', (state, fault) => {
    test('a start and the callbacks under way answer 503 in time, and a second try signs in', async () => {
      const people = protocols.map((protocol) => scene.newcomer(protocol))
      const answers = await Promise.all(people.map((person) => new Browser().arrive(apps[0], person)))
      await during(fault, async () => {
        await Promise.all([
          ...answers.map((answer) => expectUnavailable(answer(apps[1]))),
          expectUnavailable(new Browser().go(apps[0], '/auth/sso/acme')),
          expectUnavailable(new Browser().go(apps[1], '/auth/sso/globex')),
        ])
        for (const { email } of people) expect((await rowsOf(db, email)).users).toBe(0)
      })
      for (const person of people) {
        expect(await new Browser().signIn(apps[0], person)).toMatchObject({ status: 303, location: '/me' })
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      }
    })

    test('the signed-in are told to wait, never that they are nobody, and are who they were', async () => {
      const browser = new Browser()
      await browser.signIn(apps[0], scene.newcomer())
      const before = await browser.me(apps[1])
      expect(before).not.toBe(null)
      await during(fault, async () => {
        if (state === '500 ms away') expect(await browser.me(apps[1])).toEqual(before)
        else {
          await expectUnavailable(browser.go(apps[1], '/me'))
          await expectUnavailable(browser.go(apps[0], '/auth/logout', new URLSearchParams()))
        }
        // Whoever shows no session needs no Redis to be nobody.
        expect(await new Browser().me(apps[1])).toBe(null)
      })
      expect(await browser.me(apps[1])).toEqual(state === 'killed' ? null : before)
      await browser.go(apps[0], '/auth/logout', new URLSearchParams())
      expect(await browser.me(apps[1])).toBe(null)
    })
  })

  test('P16: Redis is 100 ms away: people sign in', async () => {
    proxy.delay({ toServer: 50, toClient: 50 })
    try {
      for (const protocol of protocols) {
        const person = scene.newcomer(protocol)
        // On a busy machine an answer may come later than Redis is waited for; then the person tries again.
        const tried = () =>
          new Browser().signIn(apps[0], person).then(
            ({ status }) => status,
            () => 'the start was refused',
          )
        await expect.poll(tried, { timeout: 30_000 }).toBe(303)
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      }
    } finally {
      proxy.delay({})
    }
  })

  /** A newcomer whose sign-in is paused at this point of it, on the first process. */
  const stopped = async (point: Failpoint, protocol: Protocol) => {
    const person = scene.newcomer(protocol)
    return { person, ...(await pausedSignIn(apps[0], person, point)) }
  }

  describe.each([
    { fault: 'killed', ...killed },
    { fault: 'hung', ...hung },
  ])('P16: Redis is $fault', ({ begin, end }) => {
    test.each<Failpoint>([
      { step: 'lock.acquire', moment: 'before' },
      { step: 'store.commit', moment: 'before' },
      { step: 'lease.release', moment: 'before' },
      { step: 'session.set', moment: 'before' },
    ])('$moment $step: one account, a 503, and a second try that finds it', async (point) => {
      const { person, browser, wake } = await stopped(point, 'oidc')
      await during({ begin, end }, async () => {
        await expectUnavailable(wake())
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      })
      expect(await browser.me(apps[1])).toBe(null)
      expect(await browser.signIn(apps[1], person)).toMatchObject({ status: 303, location: '/me' })
      expect(await browser.me(apps[0])).toMatchObject({ email: person.email })
      expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
    })
  })

  /** What is lost, and how those are answered who felt it. */
  const losses = {
    flushed: {
      lose: () => redis.flushall(),
      felt: ({ body }: Ending) => body.includes('attempt_unknown'),
    },
    'restarted without its data': {
      lose: async () => {
        await services.cache.stop('SIGKILL')
        await services.cache.restart()
      },
      felt: ({ status }: Ending) => status !== 303,
    },
  }

  describe.each(Object.entries(losses))('P16: Redis is %s', (_, { lose, felt }) => {
    test('while 60 callbacks of 10 new people are under way: a session, a 503, or to begin again', async () => {
      const people = Array.from({ length: 10 }, (_, index) => scene.newcomer(protocols[index % 2]))
      const arrived: Awaited<ReturnType<Browser['arrive']>>[] = []
      for (const person of people) {
        for (let browser = 0; browser < 6; browser++) {
          arrived.push(await new Browser().arrive(apps[browser % 2]!, person))
        }
      }
      let answered = 0
      let strike: () => void
      const struck = new Promise<void>((resolve) => {
        strike = resolve
      })
      const bring = async (answer: (typeof arrived)[number], index: number) => {
        const ending = await answer(apps[index % 2]!)
        answered += 1
        if (answered === 10) strike()
        return ending
      }
      // Half of them are on their way when it happens, the others come right behind it.
      const half = arrived.length / 2
      const endings = arrived.slice(0, half).map(bring)
      await struck
      await during({ begin: async () => void (await lose()), end: async () => {} }, async () => {
        const all = await Promise.all([...endings, ...arrived.slice(half).map(bring)])
        expect(all.filter(felt)).not.toEqual([])
        for (const { status, location, retryAfter, body } of all) {
          if (status === 303) expect(location).toBe('/me')
          else if (status === 503)
            expect([retryAfter, errorCodes.includes(JSON.parse(body).error)]).toEqual(['2', true])
          else expect([status, JSON.parse(body).error]).toEqual([400, 'attempt_unknown'])
        }
      })
      for (const person of people) {
        expect(await new Browser().signIn(apps[0], person)).toMatchObject({ status: 303, location: '/me' })
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      }
    })
  })

  describe('P16: Redis is flushed', () => {
    const nobodyGotIn = { status: 400, location: null }

    test.each(protocols)(
      'between start and callback by %s: nobody gets in, and may begin again',
      async (protocol) => {
        const [person, browser] = [scene.newcomer(protocol), new Browser()]
        const answer = await browser.arrive(apps[0], person)
        await redis.flushall()
        const ending = await answer(apps[1])
        expect(ending).toMatchObject(nobodyGotIn)
        expect(JSON.parse(ending.body).error).toBe('attempt_unknown')
        expect((await rowsOf(db, person.email)).users).toBe(0)
        expect(await browser.signIn(apps[1], person)).toMatchObject({ status: 303, location: '/me' })
      },
    )

    test('between callback and ticket: nobody gets in, nor by the same answer, whose use is forgotten', async () => {
      const { person, browser, answer, wake } = await stopped(
        { step: 'once.take#2', moment: 'before' },
        'saml',
      )
      expect(await redis.keys('jit:once:assertion:*')).not.toEqual([])
      await redis.flushall()
      expect(await wake()).toMatchObject(nobodyGotIn)
      expect(await answer(apps[1])).toMatchObject(nobodyGotIn)
      expect((await rowsOf(db, person.email)).users).toBe(0)
      expect(await browser.signIn(apps[1], person)).toMatchObject({ status: 303, location: '/me' })
    })

    test.each(protocols)(
      'while a lock is held, by %s: another takes it, and both are signed in',
      async (protocol) => {
        const { person, browser, wake } = await stopped({ step: 'store.commit', moment: 'before' }, protocol)
        expect(await redis.keys('jit:lock:*')).toHaveLength(1)
        await redis.flushall()
        const second = new Browser()
        expect(await second.signIn(apps[1], person)).toMatchObject({ status: 303, location: '/me' })
        expect(await wake()).toMatchObject({ status: 303, location: '/me' })
        expect(await browser.me(apps[1])).toEqual(await second.me(apps[0]))
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      },
    )
  })
})
