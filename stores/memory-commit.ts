import type { ChangeSet, Conflict, Guard, Operation } from '../lib/index.js'
import { newest } from './memory-entries.js'
import { type KeptEntry, key, type Tables } from './memory-tables.js'

/** A miss on the way through a change set; what was written so far is dropped with the draft. */
export class Miss {
  constructor(readonly conflict: Conflict) {}
}

/**
 * Carries out a change set on a draft of the tables.
 * @throws Miss where a version, guard or key does not hold.
 */
export function apply(tables: Tables, changes: ChangeSet): void {
  for (const { user, version } of changes.expect) {
    const found = tables.users.get(user)
    if (found?.version !== version) throw new Miss({ kind: 'version', user })
    found.version += 1
  }
  const hold = (last: boolean) => {
    for (const guard of changes.guards) {
      if ((guard.guard === 'unremoved') === last && !holds(tables, guard))
        throw new Miss({ kind: 'guard', guard })
    }
  }
  hold(false)
  // Before any is taken, so that a domain can go from one organization to another.
  for (const op of changes.ops) {
    if (op.op !== 'organization.put' || !op.kept) continue
    for (const [pattern, owner] of tables.domains) {
      if (owner === op.id && !op.kept.domains.includes(pattern)) tables.domains.delete(pattern)
    }
  }
  const position = newest(tables) + 1
  for (const op of changes.ops) write(tables, op, position)
  hold(true)
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
    case 'unremoved':
      return !guard.hashes.some((hash) => tables.removed.has(hash))
    default:
      guard satisfies never
      throw new Error(`unknown guard ${JSON.stringify(guard)}`)
  }
}

// A key that is taken is found before a row that is missing, as in a database.
function write(tables: Tables, op: Operation, position: number): void {
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
    case 'user.claim': {
      const user = existing(tables.users, 'user', op.id)
      free(tables, op.verifiedEmail, op.id)
      forget(tables.identities, (identity) => identity.user === op.id)
      for (const { user: member, organization, status, seat } of [...tables.memberships.values()]) {
        if (member !== op.id) continue
        const found = existing(tables.organizations, 'organization', organization)
        const owns = [...tables.grants.values()].some(
          (grant) => grant.user === op.id && grant.organization === organization && grant.role === 'owner',
        )
        if (seat) found.seatsUsed -= 1
        if (owns && status === 'active' && user.status === 'active') found.owners -= 1
        leave(tables, op.id, organization)
      }
      user.verifiedEmail = op.verifiedEmail
      user.contactEmail = op.verifiedEmail
      user.epoch += 1
      return
    }
    case 'user.remove':
      existing(tables.users, 'user', op.id)
      for (const table of [tables.identities, tables.memberships, tables.grants, tables.tombstones])
        forget<{ user: string }>(table, ({ user }) => user === op.id)
      tables.users.delete(op.id)
      return
    case 'identity.link': {
      const { user, source, issuer, subject } = op
      const at = key(source, issuer, subject)
      insert(tables.identities, 'identity', at, { user, source, issuer, subject, last: null })
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
    case 'identity.assert': {
      const identity = existing(tables.identities, 'identity', key(op.source, op.issuer, op.subject))
      if (identity.user !== op.user) throw new Miss({ kind: 'key', key: 'identity' })
      identity.last = { digest: op.digest, asserted: op.asserted }
      return
    }
    case 'membership.create': {
      const { user, organization, status, seat } = op
      insert(tables.memberships, 'membership', key(user, organization), { user, organization, status, seat })
      existing(tables.users, 'user', user)
      existing(tables.organizations, 'organization', organization)
      return
    }
    case 'membership.update': {
      const membership = existing(tables.memberships, 'membership', key(op.user, op.organization))
      membership.status = op.status
      membership.seat = op.seat
      return
    }
    case 'membership.remove':
      existing(tables.memberships, 'membership', key(op.user, op.organization))
      return leave(tables, op.user, op.organization)
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
      const { user, organization, role, at } = op
      tables.tombstones.set(key(user, organization, role), { user, organization, role, at })
      return
    }
    case 'tombstone.remove':
      tables.tombstones.delete(key(op.user, op.organization, op.role))
      return
    case 'removed.put':
      tables.removed.set(op.hash, op.at)
      return
    case 'removed.remove':
      if (tables.removed.get(op.hash)! <= (op.until ?? Infinity)) tables.removed.delete(op.hash)
      return
    case 'invitation.create': {
      const { op: _, ...invitation } = op
      insert(tables.invitations, 'invitation', op.id, { ...invitation, takenBy: null })
      existing(tables.organizations, 'organization', op.organization)
      return
    }
    case 'invitation.withdraw': {
      const found = existing(tables.invitations, 'invitation', op.id)
      if (found.takenBy !== null || found.organization !== op.organization)
        throw new Miss({ kind: 'key', key: 'invitation' })
      tables.invitations.delete(op.id)
      return
    }
    case 'connection.hold': {
      const connection = existing(tables.connections, 'connection', op.id)
      if (op.held === null && connection.held !== null) connection.releasedAt = op.at
      connection.held = op.held
      return
    }
    case 'connection.remove': {
      const { id } = op
      existing(tables.connections, 'connection', id)
      tables.connections.delete(id)
      forget(tables.identities, ({ source }) => source === `connection:${id}`)
      const entry = tables.connectionEntries.get(id)
      if (!entry) return
      tables.connectionEntries.delete(id)
      tables.removedEntries.set(id, { id, organization: entry.organization, position })
      return
    }
    case 'organization.put': {
      const { id, version, status, seatLimit, kept } = op
      const { seatsUsed = 0, owners = 0 } = tables.organizations.get(id) ?? {}
      tables.organizations.set(id, { id, version, status, seatLimit, seatsUsed, owners })
      if (!kept) return
      for (const pattern of kept.domains) {
        if ((tables.domains.get(pattern) ?? id) !== id) throw new Miss({ kind: 'key', key: 'domain' })
        tables.domains.set(pattern, id)
      }
      return keep(tables.organizationEntries, { id, organization: id, version, entry: kept.entry, position })
    }
    case 'connection.put': {
      const { id, organization, version, enabled, kept } = op
      const before = tables.connections.get(id)
      if (before && before.organization !== organization) throw new Miss({ kind: 'key', key: 'connection' })
      const epoch = (before?.epoch ?? 0) + (before?.enabled && !enabled ? 1 : 0)
      existing(tables.organizations, 'organization', organization)
      const { held = null, releasedAt = null } = before ?? {}
      tables.connections.set(id, { id, organization, version, enabled, epoch, held, releasedAt })
      if (!kept) return
      const known = tables.connectionEntries.get(id)
      if ((kept.over ?? known?.version) !== known?.version) throw new Miss({ kind: 'key', key: 'connection' })
      return keep(tables.connectionEntries, { id, organization, version, entry: kept.entry, position })
    }
    default:
      op satisfies never
      throw new Error(`unknown operation ${JSON.stringify(op)}`)
  }
}

function keep(table: Map<string, KeptEntry>, entry: KeptEntry): void {
  const before = table.get(entry.id)
  if (before?.version !== entry.version || before.entry !== entry.entry) table.set(entry.id, entry)
}

function leave(tables: Tables, user: string, organization: string): void {
  tables.memberships.delete(key(user, organization))
  forget(tables.grants, (grant) => grant.user === user && grant.organization === organization)
}

function forget<T>(table: Map<string, T>, matches: (row: T) => boolean): void {
  for (const [at, row] of table) if (matches(row)) table.delete(at)
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
