import { randomUUID } from 'node:crypto'
import { memoryStore } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import type { StoreFixture } from 'passport-jit/testing'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe } from 'vitest'
import { needs, type PostgresService, postgres } from '../rig/services.js'
import { sqliteFixture } from '../rig/sqlite.js'

type Factory = () => Promise<StoreFixture>

async function memory(): Promise<StoreFixture> {
  const store = memoryStore()
  return { store, another: async () => store, close: async () => {} }
}

const service = await postgres()

/** The tests of `body` on each store; `another` is the same data through connections of its own. */
export function onEveryStore(body: (factory: Factory) => void): void {
  describe('memory', () => body(memory))
  describe('sqlite', () => body(sqliteFixture))
  needs('PostgreSQL', service, (found) => onPostgres(found, body))
}

function onPostgres(found: PostgresService, body: (factory: Factory) => void): void {
  let database: Awaited<ReturnType<PostgresService['freshDatabase']>>
  const pools: Pool[] = []
  beforeAll(async () => {
    database = await found.freshDatabase()
    for (let n = 0; n < 2; n++) {
      const pool = new Pool({ connectionString: database.url })
      // The database is dropped while connections still close, which is an event that would end the process.
      pool.on('error', () => {})
      pools.push(pool)
    }
  })
  afterAll(async () => {
    await Promise.all(pools.map((pool) => pool.end()))
    await database.drop()
  })
  body(async () => {
    const schema = `s_${randomUUID().slice(0, 8)}`
    return {
      store: postgresStore({ pool: pools[0]!, schema }),
      another: async () => postgresStore({ pool: pools[1]!, schema }),
      close: async () => {
        await pools[0]!.query(`drop schema if exists ${schema} cascade`)
      },
    }
  })
}
