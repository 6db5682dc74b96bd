import type { Pool, PoolClient } from 'pg'
import {
  type AuditEvent,
  type ChangeSet,
  type CommitResult,
  type Conflict,
  type Guard,
  JitError,
  type Snapshot,
  type Store,
  type UserListing,
  type UserRecord,
} from '../lib/index.js'
import { commitFunction } from './postgres-commit.js'
import { postgresEntries } from './postgres-entries.js'
import { migrations } from './postgres-migrations.js'
import { asker, statement } from './postgres-statement.js'

export interface PostgresOptions {
  /**
   * The app's own pool, which it also ends. Its `error` event, its timeouts (`connectionTimeoutMillis`,
   * `query_timeout`) and its TLS are the app's to set.
   */
  readonly pool: Pool
  /** The schema of the tables, made by `migrate` where it is missing; `public` by default. */
  readonly schema?: string
}

/**
 * The store in PostgreSQL 12 or later. Statements are prepared by name, so a pooler between app and server
 * must know prepared statements (PgBouncer: `max_prepared_statements` above 0, from 1.21).
 *
 * A conflict is raised in the database, so that all of the change set goes; its log shows it as an error with
 * SQLSTATE JIT01 (version), JIT02 (guard) or JIT03 (key).
 */
export function postgresStore({ pool, schema = 'public' }: PostgresOptions): Store {
  const quoted = `"${schema.replaceAll('"', '""')}"`
  const ask = asker(pool)
  const loads = statement('load', loadSql(quoted))
  const userById = statement('user', userSql(quoted))
  const commits = statement('commit', `select ${quoted}.jit_commit($1::jsonb)`)
  const lists = statement('users', usersSql(quoted))
  const trail = statement('events', eventsSql(quoted))

  return {
    migrate: () => migrate(pool, schema, quoted),

    load: ({ source, issuer, subject, email, organizations }) => {
      const connection = source.startsWith('connection:') ? source.slice('connection:'.length) : null
      return ask<Snapshot>(loads, [source, issuer, subject, email, organizations, connection])
    },

    user: (id) => ask<UserRecord | null>(userById, [id]),

    commit: async (changes): Promise<CommitResult> => {
      const ordered = inLockOrder(changes)
      return borrowed(pool, async (client) => {
        try {
          await client.query({ ...commits, values: [JSON.stringify(ordered)] })
          return { committed: true }
        } catch (error) {
          const conflict = conflictOf(error as DatabaseError, ordered)
          if (conflict) return { committed: false, conflict }
          throw tooLong(error as DatabaseError) ?? error
        }
      })
    },

    entries: postgresEntries(ask, quoted),

    users: async ({ limit = 100, after = '' } = {}) => {
      const size = Math.min(limit, 1000)
      const found = await ask<UserListing[]>(lists, [after, size + 1])
      const rows = found.slice(0, size)
      return { rows, next: found.length > size ? rows.at(-1)!.id : null }
    },

    events: async ({ limit = 100, after } = {}) => {
      const size = Math.min(limit, 1000)
      const found = await ask<AuditEvent[][]>(trail, [after ?? null, size + 1])
      const chosen = found.slice(0, size)
      return { rows: chosen.flat(), next: found.length > size ? chosen.at(-1)![0]!.change : null }
    },
  }
}

/**
 * Every commit locks rows in one order, so that two never wait for each other; the counters of organizations,
 * for which many wait, come last.
 */
function inLockOrder(changes: ChangeSet): ChangeSet {
  const place = (guard: Guard) =>
    'organization' in guard
      ? ['counters', guard.organization, guard.guard]
      : [guard.guard === 'connection' ? 'a' : guard.guard === 'invitation' ? 'b' : 'c', guard.id]
  const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  return {
    ...changes,
    expect: [...changes.expect].sort((a, b) => compare(a.user, b.user)),
    guards: [...changes.guards].sort((a, b) => compare(JSON.stringify(place(a)), JSON.stringify(place(b)))),
  }
}

interface DatabaseError extends Error {
  code?: string
  detail?: string
  constraint?: string
}

function conflictOf(error: DatabaseError, { guards }: ChangeSet): Conflict | null {
  const { code, detail = '', constraint = '' } = error
  switch (code) {
    case 'JIT01':
      return { kind: 'version', user: detail }
    case 'JIT02':
      return { kind: 'guard', guard: guards[Number(detail)]! }
    case 'JIT03':
      return { kind: 'key', key: detail }
    case '23505':
    case '23503': {
      const key = keysByConstraint[constraint]
      return key === undefined ? null : { kind: 'key', key }
    }
    case '40001':
    case '40P01':
    case '55P03':
      return { kind: 'busy', detail: `${code} ${error.message}` }
    default:
      return null
  }
}

/** An index holds 2,704 bytes of a key; 1,024 characters of issuer and subject may be more (program_limit_exceeded). */
function tooLong(error: DatabaseError): JitError | null {
  if (error.code !== '54000') return null
  return new JitError('identity_invalid', `the identity is too long to be kept: ${error.message}`, {
    cause: error,
  })
}

const keysByConstraint: Readonly<Record<string, string>> = {
  jit_users_pkey: 'user',
  jit_users_verified_email_key: 'verified-email',
  jit_identities_pkey: 'identity',
  jit_identities_user_fkey: 'user',
  jit_memberships_pkey: 'membership',
  jit_memberships_user_fkey: 'user',
  jit_memberships_organization_fkey: 'organization',
  jit_grants_pkey: 'grant',
  jit_grants_membership_fkey: 'membership',
  jit_tombstones_user_fkey: 'user',
  jit_invitations_pkey: 'invitation',
  jit_invitations_organization_fkey: 'organization',
  jit_connections_organization_fkey: 'organization',
  jit_entries_organization_fkey: 'organization',
  jit_domains_pkey: 'domain',
  jit_events_pkey: 'change',
}

const userFields = `'id', u.id, 'version', u.version, 'status', u.status, 'epoch', u.epoch,
  'verifiedEmail', u.verified_email, 'contactEmail', u.contact_email, 'attributes', u.attributes`

const identities = (s: string) => `(select coalesce(json_agg(
    json_build_object('source', i.source, 'issuer', i.issuer, 'subject', i.subject)
    order by i.source, i.issuer, i.subject), '[]')
  from ${s}.jit_identities i where i.user_id = u.id)`

const grants = (s: string) => `(select coalesce(json_agg(
    json_build_object('role', g.role, 'source', g.source, 'basis', g.basis) order by g.role, g.source), '[]')
  from ${s}.jit_grants g where g.user_id = m.user_id and g.organization_id = m.organization_id)`

const memberships = (s: string, condition = 'true') => `(select coalesce(json_agg(
    json_build_object('organization', m.organization_id, 'status', m.status, 'grants', ${grants(s)})
    order by m.organization_id), '[]')
  from ${s}.jit_memberships m where m.user_id = u.id and ${condition})`

function loadSql(s: string): string {
  const facts = `json_build_object(${userFields},
    'identities', ${identities(s)},
    'memberships', ${memberships(s, 'm.organization_id = any($5::text[])')},
    'tombstones', (select coalesce(json_agg(
        json_build_object('organization', t.organization_id, 'role', t.role)
        order by t.organization_id, t.role nulls first), '[]')
      from ${s}.jit_tombstones t where t.user_id = u.id and t.organization_id = any($5::text[])))`
  return `select json_build_object(
    'byIdentity', (select ${facts} from ${s}.jit_identities k join ${s}.jit_users u on u.id = k.user_id
      where k.source = $1 and k.issuer = $2 and k.subject = $3),
    'byVerifiedEmail', (select ${facts} from ${s}.jit_users u where u.verified_email = $4),
    'byContactEmail', (select coalesce(json_agg(${facts} order by u.id), '[]') from ${s}.jit_users u
      where u.verified_email is null and u.contact_email = $4),
    'organizations', (select coalesce(json_agg(json_build_object('id', o.id, 'version', o.version,
        'status', o.status, 'seatLimit', o.seat_limit, 'seatsUsed', o.seats_used, 'owners', o.owners)
        order by o.id), '[]')
      from ${s}.jit_organizations o where o.id = any($5::text[])),
    'connection', (select json_build_object('id', c.id, 'version', c.version, 'enabled', c.enabled,
        'epoch', c.epoch)
      from ${s}.jit_connections c where c.id = $6)
  )::text as json`
}

function userSql(s: string): string {
  return `select json_build_object(
    'user', json_build_object(${userFields}),
    'memberships', (select coalesce(json_agg(json_build_object('organization', m.organization_id,
        'status', m.status, 'grants', ${grants(s)}, 'organizationStatus', o.status)
        order by m.organization_id), '[]')
      from ${s}.jit_memberships m join ${s}.jit_organizations o on o.id = m.organization_id
      where m.user_id = u.id),
    'connections', (select coalesce(json_agg(json_build_object('id', c.id, 'organization', c.organization_id,
        'version', c.version, 'enabled', c.enabled, 'epoch', c.epoch) order by c.id), '[]')
      from ${s}.jit_connections c where c.id in (
        select substr(i.source, 12) from ${s}.jit_identities i
        where i.user_id = u.id and i.source like 'connection:%'))
  )::text as json from ${s}.jit_users u where u.id = $1`
}

function usersSql(s: string): string {
  return `select coalesce(json_agg(json_build_object(${userFields}, 'identities', ${identities(s)},
      'memberships', ${memberships(s)}) order by u.id), '[]')::text as json
    from (select * from ${s}.jit_users where id > $1 order by id limit $2::integer) u`
}

function eventsSql(s: string): string {
  return `with chosen as (
      select position, change_id from ${s}.jit_events
      where seq = (select min(seq) from ${s}.jit_events first where first.change_id = jit_events.change_id)
        and ($1::text is null
          or position < (select min(position) from ${s}.jit_events where change_id = $1))
      order by position desc limit $2::integer)
    select coalesce(json_agg(events order by position desc), '[]')::text as json
    from (select chosen.position, json_agg(json_build_object('change', e.change_id, 'seq', e.seq,
          'type', e.type, 'at', e.at, 'user', e.user_id, 'organization', e.organization_id,
          'source', e.source, 'correlationId', e.correlation_id, 'reason', e.reason, 'detail', e.detail)
          order by e.seq) as events
        from chosen join ${s}.jit_events e using (change_id) group by chosen.position) changes`
}

async function migrate(pool: Pool, schema: string, quoted: string): Promise<void> {
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
  const missing = (error: DatabaseError) => {
    // undefined_table, invalid_schema_name
    if (error.code === '42P01' || error.code === '3F000') return 0
    throw error
  }
  if ((await version(pool).catch(missing)) === migrations.length) return

  await borrowed(pool, async (client) => {
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
    await client.query(commitFunction)
    await client.query('commit')
  })
}

/**
 * A connection of the pool for one piece of work. Where the work throws, its connection is closed, which ends
 * an open transaction; `pool.query` would close it after every conflict as well.
 */
async function borrowed<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  // The pool listens to idle connections only, and an event that nobody hears would end the process.
  const heard = () => {}
  client.on('error', heard)
  try {
    const result = await work(client)
    client.off('error', heard)
    client.release()
    return result
  } catch (error) {
    client.release(error as Error)
    throw error
  }
}
