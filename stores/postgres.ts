import type { Pool } from 'pg'
import {
  type AssertedRow,
  type ChangeSet,
  type CommitResult,
  type Conflict,
  type Guard,
  type InvitationFacts,
  JitError,
  type Store,
  type UserListing,
  type UserRecord,
} from '../lib/index.js'
import { postgresEntries } from './postgres-entries.js'
import { migrate } from './postgres-migrate.js'
import { postgresOutbox } from './postgres-outbox.js'
import { assertedSql, invitationsSql, postgresLoad, userSql, usersSql } from './postgres-reads.js'
import { asker, borrowed, paged, statement } from './postgres-statement.js'
import { postgresEvents, postgresTrail } from './postgres-trail.js'

export interface PostgresOptions {
  /**
   * The app's own pool, which it also ends. Its `error` event, its timeouts (`connectionTimeoutMillis`,
   * `query_timeout`) and its TLS are the app's to set. Its `default_transaction_isolation` is `read committed` or
   * `serializable`: under `repeatable read` `migrate` throws `config_invalid`, and no commit is carried out.
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
 * @throws JitError `config_invalid` for anything but a pool
 */
export function postgresStore({ pool, schema = 'public' }: PostgresOptions): Store {
  if (typeof pool?.connect !== 'function')
    throw new JitError('config_invalid', 'postgresStore({ pool }): it must be a Pool of pg')
  const quoted = `"${schema.replaceAll('"', '""')}"`
  const ask = asker(pool)
  const userById = statement('user', userSql(quoted))
  const commits = statement('commit', `select ${quoted}.jit_commit($1::jsonb)`)
  const lists = statement('users', usersSql(quoted))
  const invited = statement('invitations', invitationsSql(quoted))
  const asserted = statement('asserted', assertedSql(quoted))
  const secret = statement('hash_key', `select to_json(key)::text as json from ${quoted}.jit_hash_key`)

  return {
    migrate: () => migrate(pool, schema, quoted),

    load: postgresLoad(ask, quoted),

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

    users: (page = {}) =>
      paged(
        page,
        (limit) => ask<UserListing[]>(lists, [page.after ?? '', limit]),
        ({ id }) => id,
      ),

    invitations: ({ organization, ...page }) =>
      paged(
        page,
        (limit) => ask<InvitationFacts[]>(invited, [organization, page.after ?? '', limit]),
        ({ id }) => id,
      ),

    events: postgresEvents(ask, quoted),

    asserted: ({ source, organization, ...page }) =>
      paged(
        page,
        (limit) => ask<AssertedRow[]>(asserted, [source, [organization], page.after ?? '["",""]', limit]),
        ({ identity }) => JSON.stringify([identity.issuer, identity.subject]),
      ),

    hashKey: async () => {
      const key = await ask<string | null>(secret, [])
      // Never made anew: what was hashed with the old one would be found no more.
      if (key === null) {
        throw new JitError(
          'config_invalid',
          `postgresStore: ${quoted}.jit_hash_key is empty; restore its row from a backup`,
        )
      }
      return key
    },

    trail: postgresTrail(ask, quoted),
    outbox: postgresOutbox(ask, quoted),
  }
}

/**
 * Every commit locks rows in one order, so that two never wait for each other: users, connections, invitations,
 * organizations. The last are those that many wait for, to count seats and owners.
 */
function inLockOrder(changes: ChangeSet): ChangeSet {
  const place = (guard: Guard) =>
    guard.guard === 'connection' || guard.guard === 'invitation'
      ? `${guard.guard}\0${guard.id}`
      : guard.guard === 'unremoved'
        ? guard.guard
        : `organization\0${'organization' in guard ? guard.organization : guard.id}\0${guard.guard}`
  const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
  return {
    ...changes,
    expect: [...changes.expect].sort((a, b) => compare(a.user, b.user)),
    guards: [...changes.guards].sort((a, b) => compare(place(a), place(b))),
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
  jit_changes_pkey: 'change',
  jit_events_pkey: 'change',
}
