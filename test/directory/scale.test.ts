import { storeDirectory } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { needs, type PostgresService, postgres } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'
import { importTenants, lookups, scans, watched } from './tenants.js'

const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]
const count = 5_000

needs('PostgreSQL', await postgres(), (service) => {
  let database: Awaited<ReturnType<PostgresService['freshDatabase']>>
  let proxy: TcpProxy
  let pool: Pool
  let statements: ReturnType<typeof watched>

  beforeAll(async () => {
    database = await service.freshDatabase()
    const { hostname, port } = new URL(database.url)
    proxy = await tcpProxy({ host: hostname, port: Number(port) })
    pool = new Pool({ connectionString: proxy.through(database.url), max: 1 })
    pool.on('error', () => {})
    statements = watched(pool)
    await importTenants(storeDirectory({ store: postgresStore({ pool }), keys }), count)
    await pool.query('analyze')
  }, 120_000)
  afterAll(async () => {
    await pool.end()
    await proxy.close()
    await database.drop()
  })

  /** Round trips of some work, and how many of them asked for changes. */
  const traffic = async (work: () => Promise<unknown>) => {
    const before = statements.get('changes')
    statements.delete('changes')
    proxy.resetCounters()
    await work()
    const asked = statements.has('changes') ? 1 : 0
    if (before && !asked) statements.set('changes', before)
    return { roundTrips: proxy.roundTrips, asked }
  }

  describe(`of ${count} tenants in the database`, () => {
    test.each(Object.entries(lookups))(
      'a look-up by %s is one round trip cold, none warm',
      async (_, look) => {
        const directory = storeDirectory({ store: postgresStore({ pool }), keys })
        await directory.refresh()
        for (const n of [0, 17, 4_999, 1_234]) {
          const cold = await traffic(() => look(directory, n))
          expect(cold.roundTrips - cold.asked).toBe(1)
          const warm = await traffic(async () => {
            for (let turn = 0; turn < 100; turn++) await look(directory, n)
          })
          expect(warm.roundTrips - warm.asked).toBe(0)
        }
      },
    )

    test('and a name that nobody owns too', async () => {
      const directory = storeDirectory({ store: postgresStore({ pool }), keys })
      await directory.refresh()
      const look = () => directory.domain('a.b.c.nobody.example')
      const cold = await traffic(look)
      expect([cold.roundTrips - cold.asked, await look()]).toEqual([1, { owner: null, sso: [] }])
      const warm = await traffic(look)
      expect(warm.roundTrips - warm.asked).toBe(0)
    })

    test('every read goes by index', async () => {
      const directory = storeDirectory({ store: postgresStore({ pool }), keys })
      for (const look of Object.values(lookups)) await look(directory, 4_321)
      await directory.import({ organizations: [] })
      await directory.rotate()
      await postgresStore({ pool }).entries.changes(4_900)
      for (const name of ['entry', 'entries', 'domain', 'known', 'changes']) {
        const found = await scans(pool, statements.get(name)!)
        expect([name, found.length > 0]).toEqual([name, true])
        expect([name, found.filter((scan) => /^Seq Scan (?!jit_entries_position)/.test(scan))]).toEqual([
          name,
          [],
        ])
      }
    })

    test('a thousand lookups at once share what they can', async () => {
      const directory = storeDirectory({ store: postgresStore({ pool }), keys })
      await directory.refresh()
      const { roundTrips, asked } = await traffic(() =>
        Promise.all(Array.from({ length: 1_000 }, (_, n) => lookups.domain(directory, n % 50))),
      )
      expect(roundTrips - asked).toBe(50)
    })
  })
})
