import type {
  AuditEvent,
  CommitResult,
  ConnectionFacts,
  EventQuery,
  IdentityKey,
  InvitationFacts,
  Membership,
  Store,
  User,
  UserFacts,
} from '../lib/index.js'
import { apply, Miss } from './memory-commit.js'
import { memoryEntries } from './memory-entries.js'
import { memoryOutbox } from './memory-outbox.js'
import { emptyTables, firstOf, key, sorted } from './memory-tables.js'
import { memoryTrail } from './memory-trail.js'

export { memoryLock } from './memory-lock.js'
export { memoryOnce } from './memory-once.js'

/**
 * The reference store: the whole contract in plain maps, for tests and for reading. A change set is carried
 * out on a draft that replaces the tables at the end, or never.
 */
export function memoryStore(): Store {
  let tables = emptyTables()

  const identitiesOf = (user: string): IdentityKey[] =>
    sorted(tables.identities)
      .filter((entry) => entry.user === user)
      .map(({ source, issuer, subject }) => ({ source, issuer, subject }))

  const membershipsOf = (user: string): Membership[] =>
    sorted(tables.memberships)
      .filter((entry) => entry.user === user)
      .map(({ organization, status, seat }) => ({
        organization,
        status,
        seat,
        grants: sorted(tables.grants)
          .filter((grant) => grant.user === user && grant.organization === organization)
          .map(({ role, source, basis }) => ({ role, source, basis })),
      }))

  const factsOf = (user: User, organizations: readonly string[]): UserFacts => ({
    ...user,
    identities: identitiesOf(user.id),
    memberships: membershipsOf(user.id).filter((entry) => organizations.includes(entry.organization)),
    tombstones: sorted(tables.tombstones)
      .filter((entry) => entry.user === user.id && organizations.includes(entry.organization))
      .map(({ organization, role, at }) => ({ organization, role, at })),
  })

  const pending = (): InvitationFacts[] =>
    sorted(tables.invitations).flatMap(({ takenBy, ...invitation }) => (takenBy === null ? [invitation] : []))

  return {
    migrate: async () => {},

    load: async ({ source, issuer, subject, email, organizations, user, invitation, hashes = [] }) => {
      const identity = tables.identities.get(key(source, issuer, subject))
      const users = sorted(tables.users)
      const verified = email === null ? undefined : users.find((found) => found.verifiedEmail === email)
      const named = user === undefined ? undefined : tables.users.get(user)
      const connection = tables.connections.get(source?.replace(/^connection:/, '') ?? '')
      return structuredClone({
        byIdentity: identity ? factsOf(tables.users.get(identity.user)!, organizations) : null,
        asserted: identity?.last?.digest ?? null,
        byId: named ? factsOf(named, organizations) : null,
        byVerifiedEmail: verified ? factsOf(verified, organizations) : null,
        byContactEmail:
          email === null
            ? []
            : users
                .filter((found) => found.verifiedEmail === null && found.contactEmail === email)
                .map((found) => factsOf(found, organizations)),
        organizations: sorted(tables.organizations).filter(({ id }) => organizations.includes(id)),
        connection: source?.startsWith('connection:') && connection ? connectionFacts(connection) : null,
        invitations: pending()
          .filter((found) => found.email === email || found.id === invitation)
          .sort((a, b) => a.at - b.at),
        removed: [...tables.removed]
          .filter(([hash]) => hashes.includes(hash))
          .map(([hash, at]) => ({ hash, at })),
      })
    },

    user: async (id) => {
      const user = tables.users.get(id)
      if (!user) return null
      const sources = new Set(identitiesOf(id).map((identity) => identity.source as string))
      return structuredClone({
        user,
        memberships: membershipsOf(id).map((entry) => ({
          ...entry,
          organizationStatus: tables.organizations.get(entry.organization)!.status,
        })),
        connections: sorted(tables.connections)
          .filter(({ id }) => sources.has(`connection:${id}`))
          .map(connectionFacts),
      })
    },

    commit: async (changes): Promise<CommitResult> => {
      const draft = structuredClone(tables)
      try {
        apply(draft, structuredClone(changes))
      } catch (miss) {
        if (miss instanceof Miss) return { committed: false, conflict: miss.conflict }
        throw miss
      }
      tables = draft
      return { committed: true }
    },

    entries: memoryEntries(() => tables),

    users: async ({ limit, after = '' } = {}) => {
      const found = sorted(tables.users)
        .filter((user) => user.id > after)
        .map((user) => ({ ...user, identities: identitiesOf(user.id), memberships: membershipsOf(user.id) }))
      return structuredClone(firstOf(found, limit, ({ id }) => id))
    },

    invitations: async ({ organization, limit, after = '' }) => {
      const found = pending().filter((entry) => entry.organization === organization && entry.id > after)
      return firstOf(found, limit, ({ id }) => id)
    },

    events: async ({ limit, after, ...query } = {}) => {
      const changes = [...tables.events].reverse()
      const last = changes.findIndex(([change]) => change === after)
      const rest = after === undefined ? changes : last === -1 ? [] : changes.slice(last + 1)
      const found = rest.filter(([, events]) => events.some((event) => matches(event, query)))
      const { rows, next } = firstOf(found, limit, ([change]) => change)
      return structuredClone({ rows: rows.flatMap(([, events]) => events), next })
    },

    asserted: async ({ source, organization, limit, after = '' }) => {
      const found = sorted(tables.identities).flatMap((identity) => {
        const { issuer, subject, last } = identity
        if (identity.source !== source || last === null || key(source, issuer, subject) <= after) return []
        const user = factsOf(tables.users.get(identity.user)!, [organization])
        return [{ identity: { source, issuer, subject }, asserted: last.asserted, user }]
      })
      return structuredClone(
        firstOf(found, limit, ({ identity }) => key(source, identity.issuer, identity.subject)),
      )
    },

    hashKey: async () => tables.hashKey,
    trail: memoryTrail(() => tables),
    outbox: memoryOutbox(() => tables),
  }
}

function matches(event: AuditEvent, { from, to, ...keys }: EventQuery): boolean {
  if ((from !== undefined && event.at < from) || (to !== undefined && event.at >= to)) return false
  return (['user', 'organization', 'source', 'type'] as const).every(
    (name) => keys[name] === undefined || keys[name] === event[name],
  )
}

const connectionFacts = ({
  id,
  organization,
  version,
  enabled,
  epoch,
  held,
}: ConnectionFacts): ConnectionFacts => ({
  id,
  organization,
  version,
  enabled,
  epoch,
  held,
})
