import { randomUUID } from 'node:crypto'
import { Pool } from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { needs, type PostgresService, postgres } from '../rig/services.js'

export interface TestDatabase {
  /** Known once the tests run. */
  readonly url: string
  /** A pool that `closeAll` ends, on this database unless told otherwise. */
  open(url?: string, max?: number): Pool
  closeAll(): Promise<void>
  freshSchema(): string
  /** How many sessions wait for a lock at this moment. */
  waiting(): Promise<number>
}

/** Declares tests that share a database of their own, which is dropped after them. */
export async function onPostgres(body: (database: TestDatabase) => void): Promise<void> {
  needs('PostgreSQL', await postgres(), (service) => {
    let database: Awaited<ReturnType<PostgresService['freshDatabase']>>
    let watcher: Pool
    const pools: Pool[] = []
    const made = (url: string, max: number) => {
      const pool = new Pool({ connectionString: url, max })
      // A connection that is cut while idle is an event; without a listener it would end the process.
      pool.on('error', () => {})
      return pool
    }
    beforeAll(async () => {
      database = await service.freshDatabase()
      watcher = made(database.url, 1)
    })
    afterAll(async () => {
      await watcher.end()
      await database.drop()
    })
    body({
      get url() {
        return database.url
      },
      open: (url = database.url, max = 10) => {
        const pool = made(url, max)
        pools.push(pool)
        return pool
      },
      closeAll: async () => {
        await Promise.all(pools.splice(0).map((pool) => pool.end()))
      },
      freshSchema: () => `s_${randomUUID().slice(0, 8)}`,
      // Not through a session with an open transaction, which sees the activity as it first saw it.
      waiting: async () => {
        const { rows } = await watcher.query(
          `select count(*)::integer as count from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock'`,
        )
        return rows[0].count
      },
    })
  })
}
