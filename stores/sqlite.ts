import Database from 'libsql'
import {
  type Asserted,
  type CommitResult,
  type IdentityKey,
  type InvitationFacts,
  JitError,
  type OrganizationFacts,
  type Snapshot,
  type Store,
  type User,
} from '../lib/index.js'
import { apply } from './sqlite-commit.js'
import { type Bindable, isBusy, prepared } from './sqlite-driver.js'
import { sqliteEntries } from './sqlite-entries.js'
import { sqliteEvents } from './sqlite-events.js'
import { migrate } from './sqlite-migrate.js'
import { Miss } from './sqlite-miss.js'
import { sqliteOutbox } from './sqlite-outbox.js'
import { paged } from './sqlite-page.js'
import { sqliteTrail } from './sqlite-trail.js'
import { sqliteUsers } from './sqlite-users.js'

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

  const { identitiesOf, membershipsOf, usersWhere, factsOf, connectionsWhere } = sqliteUsers(sql)

  /** Several reads of one moment. */
  const reading = <T>(read: () => T): T => db.transaction(read).deferred() as T
  /** Several writes, all of them or none. */
  const writing = <T>(write: () => T): T => db.transaction(write).immediate() as T

  /** Pending invitations that meet one of the conditions; apart, because each has an index of its own. */
  const pendingWhere = (conditions: readonly string[], rest: string, ...values: Bindable[]) => {
    const found = conditions.map(
      (condition) =>
        `select id, organization_id as organization, email, role, invited_at as at, expires_at as expiresAt
         from jit_invitations where taken_by is null and ${condition}`,
    )
    return sql.all<InvitationFacts>(`${found.join(' union ')} ${rest}`, ...values)
  }

  return {
    migrate: () => migrate(db, sql, file),

    load: async ({ source, issuer, subject, email, organizations, user, invitation, hashes = [] }) =>
      reading(() => {
        const facts = (users: User[]) => users.map((found) => factsOf(found, organizations))
        const [connection] = source?.startsWith('connection:')
          ? connectionsWhere('id = ?', source.slice('connection:'.length))
          : []
        const [identity] = sql.all<{ user: string; digest: string | null }>(
          'select user_id as user, digest from jit_identities where source = ? and issuer = ? and subject = ?',
          ...[source ?? null, issuer ?? null, subject ?? null],
        )
        return {
          byIdentity: facts(identity ? usersWhere('id = ?', identity.user) : [])[0] ?? null,
          asserted: identity?.digest ?? null,
          byId: facts(usersWhere('id = ?', user ?? null))[0] ?? null,
          byVerifiedEmail: facts(usersWhere('verified_email = ?', email))[0] ?? null,
          byContactEmail: facts(
            usersWhere('verified_email is null and contact_email = ? order by id', email),
          ),
          organizations: sql.all<OrganizationFacts>(
            `select id, version, status, seat_limit as seatLimit, seats_used as seatsUsed, owners
             from jit_organizations where id in (select value from json_each(?)) order by id`,
            JSON.stringify(organizations),
          ),
          connection: connection ?? null,
          invitations: pendingWhere(
            ['email = ?', 'id = ?'],
            'order by at, id',
            ...[email, invitation ?? null],
          ),
          removed: sql.all<Snapshot['removed'][number]>(
            `select hash, removed_at as at from jit_removed where hash in (select value from json_each(?))`,
            JSON.stringify(hashes),
          ),
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
        writing(() => apply(sql, changes))
        return { committed: true }
      } catch (error) {
        if (error instanceof Miss) return { committed: false, conflict: error.conflict }
        if (isBusy(error)) return { committed: false, conflict: { kind: 'busy', detail: error.message } }
        throw error
      }
    },

    entries: sqliteEntries(sql, reading),

    users: async ({ after = '', ...page } = {}) =>
      reading(() => {
        const found = paged(page, (limit) => usersWhere('id > ? order by id limit ?', after, limit), idOf)
        const rows = found.rows.map((user) => ({
          ...user,
          identities: identitiesOf(user.id),
          memberships: membershipsOf(user.id),
        }))
        return { rows, next: found.next }
      }),

    invitations: async ({ organization, after = '', ...page }) =>
      paged(
        page,
        (limit) =>
          pendingWhere(['organization_id = ? and id > ?'], 'order by id limit ?', organization, after, limit),
        idOf,
      ),

    events: sqliteEvents(sql, reading),

    asserted: async ({ source, organization, after = '["",""]', ...page }) =>
      reading(() => {
        const [issuer, subject] = JSON.parse(after) as [string, string]
        const found = paged(
          page,
          (limit) =>
            sql.all<IdentityKey & { user: string; asserted: string }>(
              `select source, issuer, subject, user_id as user, asserted from jit_identities
               where source = ? and (issuer, subject) > (?, ?) and asserted is not null
               order by issuer, subject limit ?`,
              ...[source, issuer, subject, limit],
            ),
          (row) => JSON.stringify([row.issuer, row.subject]),
        )
        const rows = found.rows.map(({ user, asserted, ...identity }) => ({
          identity,
          asserted: JSON.parse(asserted) as Asserted,
          user: factsOf(usersWhere('id = ?', user)[0]!, [organization]),
        }))
        return { rows, next: found.next }
      }),

    hashKey: async () => sql.all<{ key: string }>('select key from jit_hash_key')[0]!.key,
    trail: sqliteTrail(sql, reading, writing),
    outbox: sqliteOutbox(sql, writing),

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

const idOf = ({ id }: { readonly id: string }) => id
