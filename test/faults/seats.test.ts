import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type App, Browser, baseUrl, type Person, startApp, type World, world } from '../rig/fleet.js'
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { needs, postgres, startRedis } from '../rig/services.js'
import { noneAtAll } from './visits.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const seatLimit = 5
const services = await Promise.all([postgres(), startRedis()])
const [database, cache] = services

needs('Two processes with PostgreSQL and Redis', database && cache && { database, cache }, (found) => {
  let scene: World
  beforeAll(async () => {
    scene = await world()
  })
  afterAll(async () => {
    await scene.close()
    await found.cache.close()
  })

  describe.each(['deny', 'join-without-seat'] as const)(
    `P11: ${seatLimit} seats and the policy "%s"`,
    (whenFull) => {
      let apps: [App, App]
      let db: Reader
      let drop: () => Promise<void>
      beforeAll(async () => {
        const fresh = await found.database.freshDatabase()
        drop = fresh.drop
        const store = { kind: 'postgres', url: fresh.url, connections: 20 } as const
        const { organizations, connections } = scene.directory
        const limited = organizations.map((entry) => ({ ...entry, seatLimit, whenFull }))
        const directory = { organizations: limited, connections }
        const options = { baseUrl, directory, store, redis: found.cache.url }
        apps = await Promise.all([startApp(options), startApp(options)])
        db = await reader(store)
      })
      afterAll(async () => {
        await db.close()
        await Promise.all(apps.map((app) => app.close()))
        await drop()
      })

      /** People with their user and whether they have a seat in an organization; without a user where they are none. */
      const members = async (people: readonly Person[]) => {
        const rows = await db.select<{ email: string; user: string; seat: boolean }>(
          `select u.verified_email as email, u.id as user, m.seat from jit_users u
           join jit_memberships m on m.user_id = u.id`,
        )
        return people.map((person) => ({ person, ...rows.find(({ email }) => email === person.email) }))
      }
      const seated = async () => {
        const [row] = await db.select<{ seats: string; used: string }>(
          `select (select count(*) from jit_memberships where seat and organization_id = 'acme') as seats,
                  (select seats_used from jit_organizations where id = 'acme') as used`,
        )
        return { seats: Number(row!.seats), used: Number(row!.used) }
      }

      test(`50 new people at once: exactly ${seatLimit} have a seat, and one that is freed goes to one of the others`, async () => {
        const people = Array.from({ length: 50 }, () => scene.newcomer('oidc'))
        const arrived = await Promise.all(
          people.map(async (person, index) => {
            const browser = new Browser()
            return { person, browser, answer: await browser.arrive(apps[index % 2]!, person) }
          }),
        )
        const endings = await Promise.all(arrived.map(({ answer }, index) => answer(apps[(index + 1) % 2]!)))
        expect(await seated()).toEqual({ seats: seatLimit, used: seatLimit })
        expect(await violations(db)).toEqual([])

        const found = await members(people)
        for (const [index, { person, user, seat }] of found.entries()) {
          const { browser } = arrived[index]!
          const ending = endings[index]!
          if (whenFull === 'deny' && !seat) {
            expect(user).toBeUndefined()
            expect(ending.status, ending.body).toBe(403)
            expect(JSON.parse(ending.body).error).toBe('seats_full')
            expect(await browser.me(apps[0])).toBeNull()
            expect(await rowsOf(db, person.email)).toEqual(noneAtAll)
          } else {
            expect(ending, ending.body).toMatchObject({ status: 303, location: '/me' })
            const me = await browser.me(apps[index % 2]!)
            expect(me).toMatchObject({ email: person.email, memberships: [{ active: seat }] })
            expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
          }
        }

        const [holder] = found.filter(({ seat }) => seat)
        const waiting = found.filter(({ seat }) => !seat).map(({ person }) => person)
        const removal = { verb: 'remove', asked: { user: holder!.user, organization: 'acme', by: 'root' } }
        const removed = await fetch(`${apps[0].url}/admin`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(removal),
        })
        expect(await removed.json()).toMatchObject({ changed: true })
        expect(await seated()).toEqual({ seats: seatLimit - 1, used: seatLimit - 1 })
        await Promise.all(
          waiting.slice(0, 10).map((person, index) => new Browser().signIn(apps[index % 2]!, person)),
        )
        expect(await seated()).toEqual({ seats: seatLimit, used: seatLimit })
        const now = (await members(waiting)).filter(({ seat }) => seat)
        expect(now).toHaveLength(1)
        expect(await new Browser().signIn(apps[0], now[0]!.person)).toMatchObject({ status: 303 })
      })
    },
  )
})
