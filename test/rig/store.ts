import { randomUUID } from 'node:crypto'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { memoryStore } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import type { StoreFixture } from 'passport-jit/testing'
import { Pool } from 'pg'
import { afterAll, inject } from 'vitest'

// The store under an app of the rig: the one that the project of this run names, see vitest.config.ts.

type Factory = () => Promise<StoreFixture>

const kinds: Readonly<Record<string, () => Promise<Factory>>> = { memory, sqlite, postgres }
let prepared: Promise<Factory> | undefined

/** An empty store for one test; `another` is the same data as another process would open it. */
export async function testStore(): Promise<StoreFixture> {
  prepared ??= kinds[process.env.JIT_TEST_STORE ?? 'memory']!()
  const fixture = await (await prepared)()
  let closed: Promise<void> | undefined
  return {
    ...fixture,
    close: () => {
      closed ??= fixture.close()
      return closed
    },
  }
}

async function memory(): Promise<Factory> {
  return async () => {
    const store = memoryStore()
    return { store, another: async () => store, close: async () => {} }
  }
}

const ending: (() => Promise<unknown>)[] = []
if (process.env.JIT_TEST_STORE) {
  afterAll(async () => {
    for (const end of ending) await end()
  })
}

/** A copy of one migrated file for each test. */
async function sqlite(): Promise<Factory> {
  const directory = mkdtempSync(join(tmpdir(), 'jit-sqlite-'))
  ending.push(async () => rmSync(directory, { recursive: true }))
  const migrated = join(directory, 'migrated.db')
  const first = sqliteStore({ file: migrated })
  await first.migrate()
  first.close()
  return async () => {
    const file = join(directory, `${randomUUID()}.db`)
    copyFileSync(migrated, file)
    const opened: { close(): void }[] = []
    const open = () => {
      const store = sqliteStore({ file })
      opened.push(store)
      return store
    }
    return {
      store: open(),
      another: async () => open(),
      close: async () => {
        for (const store of opened) store.close()
        for (const part of ['', '-wal', '-shm']) rmSync(file + part, { force: true })
      },
    }
  }
}

/** A migrated schema for each test, which is emptied and used again, because making one takes longest. */
async function postgres(): Promise<Factory> {
  const connectionString = inject('database')
  if (!connectionString) throw new Error('PostgreSQL is neither running nor installed')
  const pools = [1, 2].map(() => {
    // What a crash of the server would lose is nothing that these tests ask about.
    const pool = new Pool({ connectionString, options: '-c synchronous_commit=off' })
    pool.on('error', () => {})
    return pool
  })
  ending.push(() => Promise.all(pools.map((pool) => pool.end())))
  const pool = pools[0]!
  const free: { schema: string; empty: string }[] = []
  return async () => {
    const { schema, empty } = free.pop() ?? (await migrated(pool))
    return {
      store: postgresStore({ pool, schema }),
      another: async () => postgresStore({ pool: pools[1]!, schema }),
      close: async () => {
        await pool.query(empty)
        free.push({ schema, empty })
      },
    }
  }
}

async function migrated(pool: Pool) {
  const schema = `s_${randomUUID().slice(0, 8)}`
  await postgresStore({ pool, schema }).migrate()
  // A table refers to none that was made after it. What `migrate` writes stays.
  const { rows } = await pool.query<{ name: string }>(
    `select c.oid::regclass::text as name from pg_class c
     where relnamespace = $1::regnamespace and relkind = 'r'
       and relname not in ('jit_migrations', 'jit_hash_key', 'jit_entries_position')
     order by c.oid desc`,
    [schema],
  )
  const deletes = rows.map(({ name }) => `delete from ${name};`)
  return { schema, empty: `${deletes.join('')}update ${schema}.jit_entries_position set position = 0` }
}
