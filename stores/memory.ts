import type {
  AuditEvent,
  ChangeSet,
  CommitResult,
  Conflict,
  ConnectionFacts,
  Grant,
  Guard,
  IdentityKey,
  Membership,
  Operation,
  OrganizationFacts,
  Store,
  Tombstone,
  User,
  UserFacts,
} from '../lib/index.js'

export { memoryLock } from './memory-lock.js'
export { memoryOnce } from './memory-once.js'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

interface Tables {
  users: Map<string, Mutable<User>>
  identities: Map<string, IdentityKey & { user: string }>
  memberships: Map<string, Omit<Mutable<Membership>, 'grants'> & { user: string }>
  grants: Map<string, Grant & { user: string; organization: string }>
  tombstones: Map<string, Tombstone & { user: string }>
  invitations: Map<string, { organization: string; email: string; role: string; takenBy: string | null }>
  organizations: Map<string, Mutable<OrganizationFacts>>
  connections: Map<string, Mutable<ConnectionFacts> & { organization: string }>
  events: Map<string, AuditEvent[]>
}

const key = (...parts: readonly unknown[]) => JSON.stringify(parts)

/** A miss on the way through a change set; what was written so far is dropped with the draft. */
class Miss {
  constructor(readonly conflict: Conflict) {}
}

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

function apply(tables: Tables, changes: ChangeSet): void {
  for (const { user, version } of changes.expect) {
    const found = tables.users.get(user)
    if (found?.version !== version) throw new Miss({ kind: 'version', user })
    found.version += 1
  }
  for (const guard of changes.guards) if (!holds(tables, guard)) throw new Miss({ kind: 'guard', guard })
  for (const op of changes.ops) write(tables, op)
  if (changes.events.length === 0) return
  const events = [...changes.events].sort((a, b) => a.seq - b.seq)
  if (new Set(events.map(({ seq }) => seq)).size < events.length)
    throw new Miss({ kind: 'key', key: 'change' })
  insert(tables.events, 'change', changes.id, events)
}

function holds(tables: Tables, guard: Guard): boolean {
  switch (guard.guard) {
    case 'organization': {
      const found = tables.organizations.get(guard.id)
      return found?.version === guard.version && found.status === 'active'
    }
    case 'connection': {
      const found = tables.connections.get(guard.id)
      return found?.version === guard.version && found.enabled
    }
    case 'seats': {
      const found = tables.organizations.get(guard.organization)
      if (!found) return false
      found.seatsUsed += guard.by
      return guard.by <= 0 || found.seatLimit === null || found.seatsUsed <= found.seatLimit
    }
    case 'owners': {
      const found = tables.organizations.get(guard.organization)
      if (!found) return false
      found.owners += guard.by
      return guard.by >= 0 || found.owners >= 1
    }
    case 'invitation': {
      const found = tables.invitations.get(guard.id)
      if (!found || found.takenBy !== null) return false
      found.takenBy = guard.user
      return true
    }
    default:
      guard satisfies never
      throw new Error(`unknown guard ${JSON.stringify(guard)}`)
  }
}

// A key that is taken is found before a row that is missing, as in a database.
function write(tables: Tables, op: Operation): void {
  switch (op.op) {
    case 'user.create': {
      const { id, status, verifiedEmail, contactEmail, attributes } = op
      const user = { id, version: 1, status, epoch: 0, verifiedEmail, contactEmail, attributes }
      insert(tables.users, 'user', id, user)
      return free(tables, verifiedEmail, id)
    }
    case 'user.update': {
      const user = existing(tables.users, 'user', op.id)
      const { endSessions, ...set } = op.set
      if (set.verifiedEmail !== undefined) free(tables, set.verifiedEmail, op.id)
      Object.assign(user, set)
      if (endSessions) user.epoch += 1
      return
    }
    case 'identity.link': {
      const { user, source, issuer, subject } = op
      const at = key(source, issuer, subject)
      insert(tables.identities, 'identity', at, { user, source, issuer, subject })
      existing(tables.users, 'user', user)
      return
    }
    case 'identity.unlink': {
      const at = key(op.source, op.issuer, op.subject)
      if (existing(tables.identities, 'identity', at).user !== op.user)
        throw new Miss({ kind: 'key', key: 'identity' })
      tables.identities.delete(at)
      return
    }
    case 'membership.create': {
      const { user, organization, status } = op
      insert(tables.memberships, 'membership', key(user, organization), { user, organization, status })
      existing(tables.users, 'user', user)
      existing(tables.organizations, 'organization', organization)
      return
    }
    case 'membership.update':
      existing(tables.memberships, 'membership', key(op.user, op.organization)).status = op.status
      return
    case 'membership.remove': {
      const at = key(op.user, op.organization)
      existing(tables.memberships, 'membership', at)
      tables.memberships.delete(at)
      for (const [id, grant] of tables.grants) {
        if (grant.user === op.user && grant.organization === op.organization) tables.grants.delete(id)
      }
      return
    }
    case 'grant.add': {
      const { user, organization, role, source, basis } = op
      const at = key(user, organization, role, source)
      insert(tables.grants, 'grant', at, { user, organization, role, source, basis })
      existing(tables.memberships, 'membership', key(user, organization))
      return
    }
    case 'grant.remove': {
      const at = key(op.user, op.organization, op.role, op.source)
      existing(tables.grants, 'grant', at)
      tables.grants.delete(at)
      return
    }
    case 'tombstone.put': {
      existing(tables.users, 'user', op.user)
      const { user, organization, role } = op
      tables.tombstones.set(key(user, organization, role), { user, organization, role })
      return
    }
    case 'invitation.create': {
      const { id, organization, email, role } = op
      insert(tables.invitations, 'invitation', id, { organization, email, role, takenBy: null })
      existing(tables.organizations, 'organization', organization)
      return
    }
    case 'organization.put': {
      const { id, version, status, seatLimit } = op
      const { seatsUsed = 0, owners = 0 } = tables.organizations.get(id) ?? {}
      tables.organizations.set(id, { id, version, status, seatLimit, seatsUsed, owners })
      return
    }
    case 'connection.put': {
      const { id, organization, version, enabled } = op
      const before = tables.connections.get(id)
      const epoch = (before?.epoch ?? 0) + (before?.enabled && !enabled ? 1 : 0)
      existing(tables.organizations, 'organization', organization)
      tables.connections.set(id, { id, organization, version, enabled, epoch })
      return
    }
    default:
      op satisfies never
      throw new Error(`unknown operation ${JSON.stringify(op)}`)
  }
}

function insert<T>(table: Map<string, T>, name: string, at: string, row: T): void {
  if (table.has(at)) throw new Miss({ kind: 'key', key: name })
  table.set(at, row)
}

function existing<T>(table: Map<string, T>, name: string, at: string): T {
  const row = table.get(at)
  if (row === undefined) throw new Miss({ kind: 'key', key: name })
  return row
}

function free(tables: Tables, verifiedEmail: string | null, user: string): void {
  if (verifiedEmail === null) return
  for (const other of tables.users.values()) {
    if (other.verifiedEmail === verifiedEmail && other.id !== user)
      throw new Miss({ kind: 'key', key: 'verified-email' })
  }
}

const withoutOrganization = ({ id, version, enabled, epoch }: ConnectionFacts): ConnectionFacts => ({
  id,
  version,
  enabled,
  epoch,
})
