import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { errorCodes } from 'passport-jit'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { AppOptions } from '../rig/app.js'
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
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { needs, postgres, startRedis } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'

// Hundreds of sign-ins on whatever processors there are; what must be quick is asserted by itself.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

/** A browser whose identity provider has answered, so that only the callback is left. */
interface Arrival {
  readonly person: Person
  readonly browser: Browser
  readonly answer: Awaited<ReturnType<Browser['arrive']>>
}

let scene: World
beforeAll(async () => {
  scene = await world()
})
afterAll(() => scene.close())

const newcomers = (count: number, protocol: Protocol = 'oidc') =>
  Array.from({ length: count }, () => scene.newcomer(protocol))

/** A process that has served before: its code is compiled, its connections are open. */
async function warmUp(apps: readonly App[]) {
  for (const app of apps) {
    for (const person of [scene.newcomer('oidc'), scene.newcomer('saml')]) {
      expect(await new Browser().signIn(app, person)).toMatchObject({ status: 303 })
    }
  }
}

/** So many browsers for each of these people, begun on one process after another. */
async function arrivals(
  apps: readonly App[],
  people: readonly Person[],
  browsers: number,
): Promise<Arrival[]> {
  const found: Arrival[] = []
  for (const person of people) {
    const theirs = Array.from({ length: browsers }, async (_, index): Promise<Arrival> => {
      const browser = new Browser()
      return { person, browser, answer: await browser.arrive(apps[index % apps.length]!, person) }
    })
    found.push(...(await Promise.all(theirs)))
  }
  return found
}

/** All callbacks at once, each at another process than the one its sign-in began on, if there is another. */
function fire(apps: readonly App[], arrived: readonly Arrival[]): Promise<Ending>[] {
  return arrived.map(({ answer }, index) => answer(apps[(index + 1) % apps.length]!))
}

/** Every callback signed in, every session works and is the same user's, and there is one of everything. */
async function expectOneEach(
  apps: readonly App[],
  db: Reader,
  arrived: readonly Arrival[],
  endings: readonly Ending[],
) {
  const refused = endings.filter(({ status, location }) => status !== 303 || location !== '/me')
  expect(refused, apps.map((app) => app.log()).join('')).toEqual([])
  const sessions = await Promise.all(
    arrived.map(async ({ person, browser }, index) => ({
      person,
      me: await browser.me(apps[index % apps.length]!),
    })),
  )
  for (const { person, me } of sessions) expect(me).toMatchObject({ email: person.email })
  const users = new Map(sessions.map(({ person, me }) => [person, me!.id]))
  for (const { person, me } of sessions) expect(me!.id).toBe(users.get(person))
  for (const person of users.keys()) expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
  expect(await violations(db)).toEqual([])
}

/** 20 callbacks at once of each of these people, so many people at once. */
async function race(apps: readonly App[], db: Reader, people: readonly Person[], atOnce = 5) {
  for (let at = 0; at < people.length; at += atOnce) {
    const arrived = await arrivals(apps, people.slice(at, at + atOnce), 20)
    await expectOneEach(apps, db, arrived, await Promise.all(fire(apps, arrived)))
  }
}

describe('P12: One process with SQLite', () => {
  const directory = mkdtempSync(join(tmpdir(), 'jit-race-'))
  const store = { kind: 'sqlite', file: join(directory, 'race.db') } as const
  let apps: App[]
  let db: Reader
  beforeAll(async () => {
    apps = [await startApp({ baseUrl, directory: scene.directory, store, redis: null })]
    db = await reader(store)
    await warmUp(apps)
  })
  afterAll(async () => {
    await db.close()
    await Promise.all(apps.map((app) => app.close()))
    rmSync(directory, { recursive: true })
  })

  test('20 callbacks at once of one new person, 20 people, by OpenID Connect', async () => {
    await race(apps, db, newcomers(20))
  })

  test('20 callbacks at once of one new person, 4 people, by SAML', async () => {
    await race(apps, db, newcomers(4, 'saml'), 1)
  })
})

const database = await postgres()
const cache = await startRedis()

needs(
  'P12: Two processes with PostgreSQL and Redis',
  database && cache && { database, cache },
  (services) => {
    let apps: App[]
    let db: Reader
    let proxy: TcpProxy
    let drop: () => Promise<void>
    beforeAll(async () => {
      const fresh = await services.database.freshDatabase()
      drop = fresh.drop
      proxy = await tcpProxy({ port: Number(new URL(fresh.url).port || 5432) })
      const store = { kind: 'postgres', url: proxy.through(fresh.url), connections: 20 } as const
      const options: AppOptions = { baseUrl, directory: scene.directory, store, redis: services.cache.url }
      apps = await Promise.all([startApp(options), startApp(options)])
      db = await reader({ ...store, url: fresh.url })
      await warmUp(apps)
    })
    afterAll(async () => {
      await db.close()
      await Promise.all(apps.map((app) => app.close()))
      await proxy.close()
      await drop()
      await services.cache.close()
    })

    const delayed = async (work: () => Promise<void>) => {
      proxy.delay({ toServer: 100, toClient: 100 })
      try {
        await work()
      } finally {
        proxy.delay({})
      }
    }

    test('20 callbacks at once of one new person, 20 people, by OpenID Connect', async () => {
      await race(apps, db, newcomers(20))
    })

    test('20 callbacks at once of one new person, 4 people, by SAML', async () => {
      await race(apps, db, newcomers(4, 'saml'), 1)
    })

    test('50 callbacks at once of one new person', async () => {
      const arrived = await arrivals(apps, newcomers(1), 50)
      await expectOneEach(apps, db, arrived, await Promise.all(fire(apps, arrived)))
    })

    test('20 callbacks at once of one new person, 20 people, with the store delayed by 100 ms each way', async () => {
      await delayed(() => race(apps, db, newcomers(20)))
    })

    test('the same by SAML with the store delayed by 100 ms each way', async () => {
      await delayed(() => race(apps, db, newcomers(4, 'saml'), 1))
    })

    test('120 new people at once with the store delayed by 100 ms each way', async () => {
      await delayed(async () => {
        const arrived = await arrivals(apps, newcomers(120), 1)
        await expectOneEach(apps, db, arrived, await Promise.all(fire(apps, arrived)))
      })
    })

    describe.each([
      { fault: 'killed', begin: () => services.cache.stop('SIGKILL'), end: () => services.cache.restart() },
      {
        fault: 'hung',
        begin: () => services.cache.stop('SIGSTOP'),
        end: async () => services.cache.cont(),
      },
    ])('Redis $fault while 400 callbacks of 20 new people are under way', ({ begin, end }) => {
      test('each is answered by a session or a 503, and a second try signs in', async () => {
        const people = newcomers(20)
        const arrived = await arrivals(apps, people, 20)
        const started = performance.now()
        let answered = 0
        let strike: () => void
        const struck = new Promise<void>((resolve) => {
          strike = resolve
        })
        const endings = fire(apps, arrived).map(async (ending) => {
          const result = await ending
          answered += 1
          if (answered === 40) strike()
          return { ...result, after: performance.now() - started }
        })
        await struck
        await begin()
        try {
          const all = await Promise.all(endings)
          expect(all.filter(({ status }) => status === 503)).not.toEqual([])
          for (const ending of all) {
            expect(ending.after).toBeLessThan(20_000)
            if (ending.status === 303) {
              expect(ending.location).toBe('/me')
            } else {
              expect(ending).toMatchObject({ status: 503, retryAfter: '2' })
              expect(errorCodes).toContain(JSON.parse(ending.body).error)
            }
          }
          expect(await violations(db)).toEqual([])
        } finally {
          await end()
        }
        await Promise.all(apps.map(serving))
        const again = await arrivals(apps, people, 2)
        await expectOneEach(apps, db, again, await Promise.all(fire(apps, again)))
      })
    })
  },
)

/** Resolves when the process has found its Redis again, as a person finds who presses reload. */
async function serving(app: App): Promise<void> {
  await expect
    .poll(async () => (await new Browser().go(app, '/auth/sso/acme')).status, { timeout: 10_000 })
    .toBe(302)
}
