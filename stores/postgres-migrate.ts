import { randomBytes } from 'node:crypto'
import type { Pool } from 'pg'
import { JitError } from '../lib/index.js'
import { commitFunction } from './postgres-commit.js'
import { migrations } from './postgres-migrations.js'
import { borrowed } from './postgres-statement.js'
import { sealFunction } from './postgres-trail.js'

/** Brings a schema to the version of this release; `quoted` is its name as an SQL identifier. */
export async function migrate(pool: Pool, schema: string, quoted: string): Promise<void> {
  const setting = await pool.query<{ isolation: string }>(
    `select current_setting('transaction_isolation') as isolation`,
  )
  if (setting.rows[0]!.isolation === 'repeatable read') {
    throw new JitError(
      'config_invalid',
      'postgresStore: default_transaction_isolation of the pool is "repeatable read", in which a commit does not see a removal that it waited for; set it to "read committed" or "serializable"',
    )
  }
  const version = async (db: Pick<Pool, 'query'>) => {
    const found = await db.query<{ version: number }>(
      `select coalesce(max(version), 0) as version from ${quoted}.jit_migrations`,
    )
    const [row] = found.rows
    if (row!.version > migrations.length) {
      throw new JitError(
        'config_invalid',
        `postgresStore: schema "${schema}" has version ${row!.version}, but this release knows ${migrations.length}; use the newer release that migrated it`,
      )
    }
    return row!.version
  }
  const missing = (error: { code?: string }) => {
    // undefined_table, invalid_schema_name
    if (error.code === '42P01' || error.code === '3F000') return 0
    throw error
  }
  if ((await version(pool).catch(missing)) === migrations.length) return

  const step = () =>
    borrowed(pool, async (client) => {
      await client.query('begin isolation level read committed')
      await client.query(`select pg_advisory_xact_lock(hashtextextended('passport-jit:' || $1, 0))`, [schema])
      const { rows } = await client.query<{ there: boolean }>('select to_regclass($1) is not null as there', [
        `${quoted}.jit_migrations`,
      ])
      const from = rows[0]!.there ? await version(client) : 0
      const known = await client.query('select from pg_namespace where nspname = $1', [schema])
      if (known.rowCount === 0) await client.query(`create schema ${quoted}`)
      await client.query(`set local search_path to ${quoted}, pg_temp`)
      for (let next = from + 1; next <= migrations.length; next++) {
        await client.query(migrations[next - 1]!)
        await client.query('insert into jit_migrations (version) values ($1)', [next])
      }
      await client.query('insert into jit_hash_key (key) values ($1) on conflict do nothing', [
        randomBytes(32).toString('base64url'),
      ])
      await client.query(commitFunction)
      await client.query(sealFunction)
      await client.query('commit')
    })
  for (let attempt = 1; ; attempt++) {
    try {
      return await step()
    } catch (error) {
      // A step locks whole tables, and may meet a commit of the release before that holds rows of another.
      if ((error as { code?: string }).code !== '40P01' || attempt === 5) throw error
    }
  }
}
