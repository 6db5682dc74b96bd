import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'libsql'
import {
  type AuditEvent,
  type CommitResult,
  type ConnectionFacts,
  type IdentityKey,
  JitError,
  type Membership,
  type OrganizationFacts,
  type Store,
  type Tombstone,
  type User,
  type UserFacts,
} from '../lib/index.js'
import { apply } from './sqlite-commit.js'
import { type Bindable, isBusy, prepared, type Sql } from './sqlite-driver.js'
import { sqliteEntries } from './sqlite-entries.js'
import { migrations } from './sqlite-migrations.js'
import { Miss } from './sqlite-miss.js'

export interface SqliteOptions {
  /** Path of the database file, made where it is missing, or `:memory:`. */
  readonly file: string
  /**
   * How long a write waits for another process's, in milliseconds; 250 by default. The wait blocks this process,
   * so it is short: beyond it `commit` answers with the conflict `busy`.
   */
  readonly busyTimeout?: number
}

export interface SqliteStore extends Store {
  /** Closes the file; the store cannot be used afterwards. */
  close(): void
}

/**
 * The store in one SQLite file, for one machine; several processes may share it. Every commit is synced to
 * disk before it is answered.
 * @throws JitError `config_invalid` where the file cannot be opened.
 */
export function sqliteStore({ file, busyTimeout = 250 }: SqliteOptions): SqliteStore {
  const db = open(file, busyTimeout)
  const sql = prepared(db)

  const identitiesOf = (user: string) =>
    sql.all<IdentityKey>(
      'select source, issuer, subject from jit_identities where user_id = ? order by source, issuer, subject',
      user,
    )

  const membershipsOf = (user: string): Membership[] => {
    const grants = sql.all<{ organization: string } & Membership['grants'][number]>(
      `select organization_id as organization, role, source, basis from jit_grants where user_id = ?
       order by role, source`,
      user,
    )
    return sql
      .all<Omit<Membership, 'grants'>>(
        'select organization_id as organization, status from jit_memberships where user_id = ? order by 1',
        user,
      )
      .map((entry) => ({
        ...entry,
        grants: grants
          .filter((grant) => grant.organization === entry.organization)
          .map(({ role, source, basis }) => ({ role, source, basis })),
      }))
  }

  const usersWhere = (condition: string, ...values: Bindable[]): User[] =>
    sql
      .all<Omit<User, 'attributes'> & { attributes: string }>(
        `select id, version, status, epoch, verified_email as verifiedEmail, contact_email as contactEmail,
                attributes
         from jit_users where ${condition}`,
        ...values,
      )
      .map((row) => ({ ...row, attributes: JSON.parse(row.attributes) }))

  const factsOf = (user: User, organizations: readonly string[]): UserFacts => ({
    ...user,
    identities: identitiesOf(user.id),
    memberships: membershipsOf(user.id).filter((entry) => organizations.includes(entry.organization)),
    tombstones: sql
      .all<Tombstone>(
        'select organization_id as organization, role from jit_tombstones where user_id = ? order by 1, 2',
        user.id,
      )
      .filter((entry) => organizations.includes(entry.organization)),
  })

  const connectionsWhere = (condition: string, value: string) =>
    sql
      .all<Omit<ConnectionFacts, 'enabled'> & { enabled: number; organization: string }>(
        `select id, organization_id as organization, version, enabled, epoch from jit_connections
         where ${condition}`,
        value,
      )
      .map((row) => ({ ...row, enabled: row.enabled === 1 }))

  /** Several reads of one moment. */
  const reading = <T>(read: () => T): T => db.transaction(read).deferred() as T

  return {
    migrate: () => migrate(db, sql, file),

    load: async ({ source, issuer, subject, email, organizations }) =>
      reading(() => {
        const facts = (users: User[]) => users.map((user) => factsOf(user, organizations))
        const connection = source.startsWith('connection:')
          ? connectionsWhere('id = ?', source.slice('connection:'.length))[0]
          : undefined
        const known = usersWhere(
          'id = (select user_id from jit_identities where source = ? and issuer = ? and subject = ?)',
          source,
          issuer,
          subject,
        )
        return {
          byIdentity: facts(known)[0] ?? null,
          byVerifiedEmail: facts(usersWhere('verified_email = ?', email))[0] ?? null,
          byContactEmail: facts(
            usersWhere('verified_email is null and contact_email = ? order by id', email),
          ),
          organizations: sql.all<OrganizationFacts>(
            `select id, version, status, seat_limit as seatLimit, seats_used as seatsUsed, owners
             from jit_organizations where id in (select value from json_each(?)) order by id`,
            JSON.stringify(organizations),
          ),
          connection: connection ? withoutOrganization(connection) : null,
        }
      }),

    user: async (id) =>
      reading(() => {
        const [user] = usersWhere('id = ?', id)
        if (!user) return null
        return {
          user,
          memberships: membershipsOf(id).map((entry) => ({
            ...entry,
            organizationStatus: sql.all<Pick<OrganizationFacts, 'status'>>(
              'select status from jit_organizations where id = ?',
              entry.organization,
            )[0]!.status,
          })),
          connections: connectionsWhere(
            `id in (select substr(source, 12) from jit_identities
                    where user_id = ? and source like 'connection:%') order by id`,
            id,
          ),
        }
      }),

    commit: async (changes): Promise<CommitResult> => {
      try {
        db.transaction(() => apply(sql, changes)).immediate()
        return { committed: true }
      } catch (error) {
        if (error instanceof Miss) return { committed: false, conflict: error.conflict }
        if (isBusy(error)) return { committed: false, conflict: { kind: 'busy', detail: error.message } }
        throw error
      }
    },

    entries: sqliteEntries(sql, reading),

    users: async ({ limit = 100, after = '' } = {}) =>
      reading(() => {
        const size = Math.min(limit, 1000)
        const found = usersWhere('id > ? order by id limit ?', after, size + 1)
        const rows = found.slice(0, size).map((user) => ({
          ...user,
          identities: identitiesOf(user.id),
          memberships: membershipsOf(user.id),
        }))
        return { rows, next: found.length > size ? rows.at(-1)!.id : null }
      }),

    events: async ({ limit = 100, after } = {}) =>
      reading(() => {
        const size = Math.min(limit, 1000)
        const found = sql.all<{ position: number; change: string }>(
          `select distinct position, change_id as change from jit_events
           where ? is null or position < (select position from jit_events where change_id = ?)
           order by position desc limit ?`,
          after ?? null,
          after ?? null,
          size + 1,
        )
        const chosen = found.slice(0, size)
        const rows = chosen.flatMap(({ change }) =>
          sql.all<Omit<AuditEvent, 'detail'> & { detail: string }>(
            `select change_id as change, seq, type, at, user_id as user, organization_id as organization, source,
                    correlation_id as correlationId, reason, detail
             from jit_events where change_id = ? order by seq`,
            change,
          ),
        )
        return {
          rows: rows.map((row) => ({ ...row, detail: JSON.parse(row.detail) })),
          next: found.length > size ? chosen.at(-1)!.change : null,
        }
      }),

    close: () => db.close(),
  }
}

function open(file: string, busyTimeout: number): Database.Database {
  try {
    const db = new Database(file)
    db.pragma(`busy_timeout = ${Math.trunc(busyTimeout)}`)
    db.pragma('foreign_keys = on')
    return db
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause)
    throw new JitError(
      'config_invalid',
      `sqliteStore: cannot open ${file} (its directory must exist and be writable): ${detail}`,
      { cause },
    )
  }
}

async function migrate(db: Database.Database, sql: Sql, file: string): Promise<void> {
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

const withoutOrganization = ({ id, version, enabled, epoch }: ConnectionFacts): ConnectionFacts => ({
  id,
  version,
  enabled,
  epoch,
})
