import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type App, type Browser, baseUrl, startApp, type World, world } from '../rig/fleet.js'
import { type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import {
  arrival,
  expectSignedInOnce,
  expectUnavailable,
  longest,
  noneAtAll,
  signIn,
  timed,
} from './visits.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

describe('One process with a SQLite file', () => {
  const directory = mkdtempSync(join(tmpdir(), 'jit-busy-'))
  const store = { kind: 'sqlite', file: join(directory, 'busy.db') } as const
  let scene: World
  let app: App
  let db: Reader
  /** Somebody else's way into the file. */
  let other: Database.Database
  let resident: Browser
  beforeAll(async () => {
    scene = await world()
    app = await startApp({ baseUrl, directory: scene.directory, store, redis: null })
    db = await reader(store)
    other = new Database(store.file)
    resident = await signIn(app, scene.newcomer())
  })
  afterAll(async () => {
    other.close()
    await db.close()
    await app.close()
    await scene.close()
    rmSync(directory, { recursive: true })
  })

  const arrivals = (count: number) =>
    Promise.all(Array.from({ length: count }, () => arrival(app, scene.newcomer())))

  test('P17: another writer has locked it for longer than a request may take: 503 in time, sessions stay, and one of everything afterwards', async () => {
    const arrived = await arrivals(20)
    other.exec('begin immediate')
    const endings = arrived.map(({ answer }) => timed(answer(app)))
    const session = await timed(resident.go(app, '/me'))
    expect(session.status).toBe(200)
    expect(session.after).toBeLessThan(longest)
    for (const ending of await Promise.all(endings)) expectUnavailable(ending)
    for (const { person, browser } of arrived) {
      expect(await rowsOf(db, person.email)).toEqual(noneAtAll)
      expect(await browser.me(app)).toBeNull()
    }
    other.exec('rollback')
    for (const { person } of arrived) await expectSignedInOnce(app, db, person)
    expect(await violations(db)).toEqual([])
  })

  test('P17: another writer lets go of it in time: all sign in', async () => {
    const arrived = await arrivals(3)
    await app.arm(null)
    other.exec('begin immediate')
    const endings = arrived.map(({ answer }) => answer(app))
    // The fourth commit of three people is a second try.
    await expect.poll(() => app.steps, { timeout: 10_000 }).toContain('store.commit#4')
    other.exec('rollback')
    for (const ending of await Promise.all(endings)) expect(ending).toMatchObject({ status: 303 })
    for (const { person } of arrived) await expectSignedInOnce(app, db, person)
  })

  test('P22: the audit trail cannot be written: no sign-in, no refusal, no row; afterwards both', async () => {
    const [arrived] = await arrivals(1)
    const outsider = scene.newcomer()
    Object.assign(outsider, { email: `${outsider.id}@nowhere.example` })
    const refused = await arrival(app, outsider)
    const { person, browser, answer } = arrived!
    const counted = () => db.select('select count(*) as changes from jit_changes')
    const before = await counted()
    other.exec(`create trigger rig before insert on jit_events begin select raise(abort, 'no events'); end`)
    for (const ending of [await timed(answer(app)), await timed(refused.answer(app))]) {
      expectUnavailable(ending)
    }
    expect(await rowsOf(db, person.email)).toEqual(noneAtAll)
    expect(await browser.me(app)).toBeNull()
    expect(await counted()).toEqual(before)
    other.exec('drop trigger rig')
    await expectSignedInOnce(app, db, person)
    const again = await (await arrival(app, outsider)).answer(app)
    expect([again.status, JSON.parse(again.body).error]).toEqual([403, 'email_outside'])
    expect(await violations(db)).toEqual([])
  })
})
