import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type Database from 'libsql'
import { JitError } from '../lib/index.js'
import { isBusy, type Sql } from './sqlite-driver.js'
import { migrations } from './sqlite-migrations.js'

/** Brings the file up to date; waits for another process that is at it, without blocking this one. */
export async function migrate(db: Database.Database, sql: Sql, file: string): Promise<void> {
  const current = () => {
    const exists = sql.all(`select 1 from sqlite_master where name = 'jit_migrations'`).length > 0
    const version = exists
      ? sql.all<{ version: number }>('select coalesce(max(version), 0) as version from jit_migrations')[0]!
          .version
      : 0
    if (version > migrations.length) {
      throw new JitError(
        'config_invalid',
        `sqliteStore: ${file} has schema version ${version}, but this release knows ${migrations.length}; use the newer release that migrated it`,
      )
    }
    return version
  }
  const missing = db.transaction(() => {
    for (let version = current() + 1; version <= migrations.length; version++) {
      db.exec(migrations[version - 1]!)
      sql.run('insert into jit_migrations (version, applied_at) values (?, ?)', version, Date.now())
    }
    const key = randomBytes(32).toString('base64url')
    sql.run('insert into jit_hash_key (one, key) values (1, ?) on conflict do nothing', key)
  })
  const deadline = performance.now() + 10_000
  for (;;) {
    try {
      db.pragma('journal_mode = wal')
      if (current() < migrations.length) missing.immediate()
      return
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error
      await sleep(10 + Math.random() * 40)
    }
  }
}
