import type {
  CommitResult,
  ConnectionFacts,
  EntryRow,
  IdentityKey,
  Membership,
  Store,
  User,
  UserFacts,
} from '../lib/index.js'
import { apply, type KeptEntry, key, Miss, newest, type Tables } from './memory-commit.js'

export { memoryLock } from './memory-lock.js'
export { memoryOnce } from './memory-once.js'

/**
 * The reference store: the whole contract in plain maps, for tests and for reading. A change set is carried
 * out on a draft that replaces the tables at the end, or never.
 */
export function memoryStore(): Store {
  let tables: Tables = {
    users: new Map(),
    identities: new Map(),
    memberships: new Map(),
    grants: new Map(),
    tombstones: new Map(),
    invitations: new Map(),
    organizations: new Map(),
    connections: new Map(),
    organizationEntries: new Map(),
    connectionEntries: new Map(),
    domains: new Map(),
    events: new Map(),
  }

  const identitiesOf = (user: string): IdentityKey[] =>
    sorted(tables.identities)
      .filter((entry) => entry.user === user)
      .map(({ source, issuer, subject }) => ({ source, issuer, subject }))

  const membershipsOf = (user: string): Membership[] =>
    sorted(tables.memberships)
      .filter((entry) => entry.user === user)
      .map(({ organization, status }) => ({
        organization,
        status,
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
      .map(({ organization, role }) => ({ organization, role })),
  })

  return {
    migrate: async () => {},

    load: async ({ source, issuer, subject, email, organizations }) => {
      const identity = tables.identities.get(key(source, issuer, subject))
      const users = sorted(tables.users)
      const verified = email === null ? undefined : users.find((user) => user.verifiedEmail === email)
      const connection = tables.connections.get(source.slice('connection:'.length))
      return structuredClone({
        byIdentity: identity ? factsOf(tables.users.get(identity.user)!, organizations) : null,
        byVerifiedEmail: verified ? factsOf(verified, organizations) : null,
        byContactEmail:
          email === null
            ? []
            : users
                .filter((user) => user.verifiedEmail === null && user.contactEmail === email)
                .map((user) => factsOf(user, organizations)),
        organizations: sorted(tables.organizations).filter(({ id }) => organizations.includes(id)),
        connection: source.startsWith('connection:') && connection ? withoutOrganization(connection) : null,
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
        connections: sorted(tables.connections).filter((entry) => sources.has(`connection:${entry.id}`)),
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

    entries: {
      organization: async (id) => rowOf(tables.organizationEntries.get(id)),
      connection: async (id) => rowOf(tables.connectionEntries.get(id)),
      connections: async (after, limit) =>
        sorted(tables.connectionEntries)
          .filter(({ id }) => id > after)
          .slice(0, limit)
          .map((entry) => rowOf(entry)!),
      domain: async (patterns) => {
        const owner = patterns.map((pattern) => tables.domains.get(pattern)).find((id) => id !== undefined)
        if (owner === undefined) return null
        const connections = sorted(tables.connectionEntries).filter((entry) => entry.organization === owner)
        return {
          owner: rowOf(tables.organizationEntries.get(owner))!,
          connections: connections.map((entry) => rowOf(entry)!),
        }
      },
      known: async ({ organizations, connections, domains }) => ({
        organizations: sorted(tables.organizationEntries)
          .filter(
            ({ id, version }) =>
              organizations.includes(id) && tables.organizations.get(id)!.version === version,
          )
          .map((entry) => rowOf(entry)!),
        connections: sorted(tables.connectionEntries)
          .filter(({ id, organization }) => organizations.includes(organization) || connections.includes(id))
          .filter(({ id, version }) => tables.connections.get(id)!.version === version)
          .map((entry) => rowOf(entry)!),
        owners: [...tables.domains]
          .filter(([pattern]) => domains.includes(pattern))
          .map(([pattern, organization]) => ({ pattern, organization })),
      }),
      changes: async (after) => {
        const entries = [...tables.organizationEntries.values(), ...tables.connectionEntries.values()]
        const changed = entries.filter(({ position }) => position > after)
        const organizations = new Set(changed.map(({ organization }) => organization))
        const many = changed.length > 1000
        return {
          position: newest(tables),
          ids: many ? null : [...new Set([...changed.map(({ id }) => id), ...organizations])],
          domains: many
            ? []
            : [...tables.domains].filter(([, owner]) => organizations.has(owner)).map(([pattern]) => pattern),
        }
      },
    },

    users: async ({ limit = 100, after = '' } = {}) => {
      const size = Math.min(limit, 1000)
      const found = sorted(tables.users).filter((user) => user.id > after)
      const rows = found
        .slice(0, size)
        .map((user) => ({ ...user, identities: identitiesOf(user.id), memberships: membershipsOf(user.id) }))
      return structuredClone({ rows, next: found.length > size ? rows.at(-1)!.id : null })
    },

    events: async ({ limit = 100, after } = {}) => {
      const size = Math.min(limit, 1000)
      const changes = [...tables.events.entries()].reverse()
      const last = changes.findIndex(([change]) => change === after)
      const found = after === undefined ? changes : last === -1 ? [] : changes.slice(last + 1)
      const chosen = found.slice(0, size)
      return structuredClone({
        rows: chosen.flatMap(([, events]) => events),
        next: found.length > size ? chosen.at(-1)![0] : null,
      })
    },
  }
}

/** Rows by key, as a database gives them. */
const sorted = <T>(table: Map<string, T>): T[] =>
  [...table].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row)

const rowOf = (entry: KeptEntry | undefined): EntryRow | null =>
  entry ? { id: entry.id, version: entry.version, entry: entry.entry } : null

const withoutOrganization = ({ id, version, enabled, epoch }: ConnectionFacts): ConnectionFacts => ({
  id,
  version,
  enabled,
  epoch,
})
