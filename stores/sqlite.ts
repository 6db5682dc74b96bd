import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'libsql'
import {
  type AuditEvent,
  type ChangeSet,
  type CommitResult,
  type Conflict,
  type ConnectionFacts,
  type Guard,
  type IdentityKey,
  JitError,
  type Membership,
  type Operation,
  type OrganizationFacts,
  type Store,
  type Tombstone,
  type User,
  type UserFacts,
} from '../lib/index.js'
import { migrations } from './sqlite-migrations.js'

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

class Miss {
  constructor(readonly conflict: Conflict) {}
}

const missedKey = (key: string) => new Miss({ kind: 'key', key })

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

function apply(sql: Sql, changes: ChangeSet): void {
  for (const { user, version } of changes.expect) {
    const bump = 'update jit_users set version = version + 1 where id = ? and version = ?'
    if (sql.run(bump, user, version) === 0) throw new Miss({ kind: 'version', user })
  }
  for (const guard of changes.guards) if (!holds(sql, guard)) throw new Miss({ kind: 'guard', guard })
  for (const op of changes.ops) {
    try {
      write(sql, op)
    } catch (error) {
      throw conflictOf(sql, error, op) ?? error
    }
  }
  if (changes.events.length > 0) record(sql, changes)
}

function holds(sql: Sql, guard: Guard): boolean {
  switch (guard.guard) {
    case 'organization': {
      const found = `select 1 from jit_organizations where id = ? and version = ? and status = 'active'`
      return sql.all(found, guard.id, guard.version).length > 0
    }
    case 'connection': {
      const found = 'select 1 from jit_connections where id = ? and version = ? and enabled'
      return sql.all(found, guard.id, guard.version).length > 0
    }
    case 'seats': {
      const take = `update jit_organizations set seats_used = seats_used + ?1
        where id = ?2 and (?1 <= 0 or seat_limit is null or seats_used + ?1 <= seat_limit)`
      return sql.run(take, guard.by, guard.organization) > 0
    }
    case 'owners': {
      const count = `update jit_organizations set owners = owners + ?1
        where id = ?2 and (?1 >= 0 or owners + ?1 >= 1)`
      return sql.run(count, guard.by, guard.organization) > 0
    }
    case 'invitation': {
      const take = 'update jit_invitations set taken_by = ? where id = ? and taken_by is null'
      return sql.run(take, guard.user, guard.id) > 0
    }
    default:
      guard satisfies never
      throw new Error(`unknown guard ${JSON.stringify(guard)}`)
  }
}

function write(sql: Sql, op: Operation): void {
  const one = (key: string, changed: number) => {
    if (changed === 0) throw missedKey(key)
  }
  switch (op.op) {
    case 'user.create':
      sql.run(
        `insert into jit_users (id, version, status, epoch, verified_email, contact_email, attributes, created_at)
         values (?, 1, ?, 0, ?, ?, ?, ?)`,
        ...[op.id, op.status, op.verifiedEmail, op.contactEmail, JSON.stringify(op.attributes), op.at],
      )
      return
    case 'user.update': {
      const { status, verifiedEmail, contactEmail, attributes, endSessions } = op.set
      const set: [string, Bindable][] = [['epoch = epoch + ?', endSessions ? 1 : 0]]
      if (status !== undefined) set.push(['status = ?', status])
      if (verifiedEmail !== undefined) set.push(['verified_email = ?', verifiedEmail])
      if (contactEmail !== undefined) set.push(['contact_email = ?', contactEmail])
      if (attributes !== undefined) set.push(['attributes = ?', JSON.stringify(attributes)])
      const columns = set.map(([column]) => column).join(', ')
      const values = set.map(([, value]) => value)
      return one('user', sql.run(`update jit_users set ${columns} where id = ?`, ...values, op.id))
    }
    case 'identity.link':
      sql.run(
        'insert into jit_identities (source, issuer, subject, user_id, linked_at) values (?, ?, ?, ?, ?)',
        ...[op.source, op.issuer, op.subject, op.user, op.at],
      )
      return
    case 'identity.unlink': {
      const unlink = `delete from jit_identities
        where source = ? and issuer = ? and subject = ? and user_id = ?`
      return one('identity', sql.run(unlink, op.source, op.issuer, op.subject, op.user))
    }
    case 'membership.create':
      sql.run(
        'insert into jit_memberships (user_id, organization_id, status, joined_at) values (?, ?, ?, ?)',
        ...[op.user, op.organization, op.status, op.at],
      )
      return
    case 'membership.update': {
      const update = 'update jit_memberships set status = ? where user_id = ? and organization_id = ?'
      return one('membership', sql.run(update, op.status, op.user, op.organization))
    }
    case 'membership.remove': {
      const remove = 'delete from jit_memberships where user_id = ? and organization_id = ?'
      return one('membership', sql.run(remove, op.user, op.organization))
    }
    case 'grant.add':
      sql.run(
        `insert into jit_grants (user_id, organization_id, role, source, basis, granted_at)
         values (?, ?, ?, ?, ?, ?)`,
        ...[op.user, op.organization, op.role, op.source, op.basis, op.at],
      )
      return
    case 'grant.remove': {
      const remove = `delete from jit_grants
        where user_id = ? and organization_id = ? and role = ? and source = ?`
      return one('grant', sql.run(remove, op.user, op.organization, op.role, op.source))
    }
    case 'tombstone.put':
      sql.run(
        `insert into jit_tombstones (user_id, organization_id, role, removed_at) values (?, ?, ?, ?)
         on conflict (user_id, organization_id, coalesce(role, '')) do update set removed_at = excluded.removed_at`,
        ...[op.user, op.organization, op.role, op.at],
      )
      return
    case 'invitation.create':
      sql.run(
        'insert into jit_invitations (id, organization_id, email, role, invited_at) values (?, ?, ?, ?, ?)',
        ...[op.id, op.organization, op.email, op.role, op.at],
      )
      return
    case 'organization.put':
      sql.run(
        `insert into jit_organizations (id, version, name, status, seat_limit) values (?, ?, ?, ?, ?)
         on conflict (id) do update set version = excluded.version, name = excluded.name,
           status = excluded.status, seat_limit = excluded.seat_limit
         where (version, name, status, seat_limit) is not
           (excluded.version, excluded.name, excluded.status, excluded.seat_limit)`,
        ...[op.id, op.version, op.name, op.status, op.seatLimit],
      )
      return
    case 'connection.put':
      sql.run(
        `insert into jit_connections (id, organization_id, version, enabled) values (?, ?, ?, ?)
         on conflict (id) do update set organization_id = excluded.organization_id,
           version = excluded.version, enabled = excluded.enabled, epoch = epoch + (enabled > excluded.enabled)
         where (organization_id, version, enabled) is not
           (excluded.organization_id, excluded.version, excluded.enabled)`,
        ...[op.id, op.organization, op.version, op.enabled ? 1 : 0],
      )
      return
    default:
      op satisfies never
      throw new Error(`unknown operation ${JSON.stringify(op)}`)
  }
}

function record(sql: Sql, { id, events }: ChangeSet): void {
  if (sql.all('select 1 from jit_events where change_id = ? limit 1', id).length > 0)
    throw missedKey('change')
  const [last] = sql.all<{ position: number | null }>('select max(position) as position from jit_events')
  const position = (last?.position ?? 0) + 1
  for (const event of events) {
    try {
      sql.run(
        `insert into jit_events (change_id, seq, position, type, at, user_id, organization_id, source,
           correlation_id, reason, detail) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[id, event.seq, position, event.type, event.at, event.user, event.organization, event.source],
        ...[event.correlationId, event.reason, JSON.stringify(event.detail)],
      )
    } catch (error) {
      throw isUnique(error) ? missedKey('change') : error
    }
  }
}

/** The conflict behind a refused constraint; SQLite names the column of a key, but not a reference. */
function conflictOf(sql: Sql, error: unknown, op: Operation): Miss | null {
  if (isUnique(error)) {
    const twice = op.op === 'user.create' && sql.all('select 1 from jit_users where id = ?', op.id).length > 0
    if (!twice && error.message.includes('verified_email')) return missedKey('verified-email')
    return missedKey(op.op.split('.')[0]!)
  }
  if (!isError(error) || error.code !== 'SQLITE_CONSTRAINT_FOREIGNKEY') return null
  switch (op.op) {
    case 'membership.create': {
      const known = sql.all('select 1 from jit_users where id = ?', op.user).length > 0
      return missedKey(known ? 'organization' : 'user')
    }
    case 'grant.add':
      return missedKey('membership')
    case 'invitation.create':
    case 'connection.put':
      return missedKey('organization')
    default:
      return missedKey('user')
  }
}

type Bindable = string | number | null

interface Sql {
  all<T>(text: string, ...values: Bindable[]): T[]
  /** The number of rows it changed. */
  run(text: string, ...values: Bindable[]): number
}

function prepared(db: Database.Database): Sql {
  const statements = new Map<string, Database.Statement>()
  const statement = (text: string, values: Bindable[]) => {
    for (const value of values) check(value)
    const found = statements.get(text) ?? db.prepare(text)
    statements.set(text, found)
    return found
  }
  // As one list: the driver takes a lone null for an object of named values.
  return {
    all: <T>(text: string, ...values: Bindable[]) => statement(text, values).all(values) as T[],
    run: (text, ...values) => statement(text, values).run(values).changes,
  }
}

/** The driver ends the whole process on a value of another type, and cuts a string at a NUL. */
function check(value: unknown): void {
  const fits =
    value === null ||
    (typeof value === 'string' && !value.includes('\0')) ||
    (typeof value === 'number' && Number.isFinite(value))
  if (!fits) throw new TypeError(`not a value for the database: ${JSON.stringify(value) ?? typeof value}`)
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

const isError = (error: unknown): error is Error & { code: string } =>
  error instanceof Error && typeof (error as { code?: unknown }).code === 'string'

const isBusy = (error: unknown): error is Error => isError(error) && /^SQLITE_(BUSY|LOCKED)/.test(error.code)

const isUnique = (error: unknown): error is Error =>
  isError(error) && /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/.test(error.code)

const withoutOrganization = ({ id, version, enabled, epoch }: ConnectionFacts): ConnectionFacts => ({
  id,
  version,
  enabled,
  epoch,
})
