import type { Source } from './identity.js'
import type { Reason, TraceEntry } from './plan.js'
import type { Guard, IdentityKey, Operation, User } from './store.js'

/** The closed union of event types: one fact each, in the past tense. */
export const eventTypes = [
  'created',
  'updated',
  'suspended',
  'reactivated',
  'claimed',
  'deleted',
  'linked',
  'unlinked',
  'asserted',
  'joined',
  'left',
  'granted',
  'revoked',
  'removed',
  'readmitted',
  'invited',
  'accepted',
  'withdrawn',
  'held',
  'released',
  'disconnected',
  'denied',
] as const
export type EventType = (typeof eventTypes)[number]

/**
 * What happened, written in the same commit as the change itself. `(change, seq)` is its key; the first
 * event of a change carries the trace of the decision.
 */
export interface AuditEvent {
  readonly change: string
  readonly seq: number
  readonly type: EventType
  /** Milliseconds since the epoch. */
  readonly at: number
  /** Whom it is about. */
  readonly user: string | null
  readonly organization: string | null
  /** Whose word it was: the connection or provider, or null for a person. */
  readonly source: Source | null
  /** The person who did it, by whatever id the app gave; null for a sign-in. */
  readonly actor: string | null
  readonly correlationId: string
  readonly reason: Reason
  /**
   * The fact's own words, enough to follow the state by them alone. Addresses, subjects and attribute values are
   * keyed hashes.
   */
  readonly detail: Readonly<Record<string, unknown>>
}

/** All events of one change or refusal. */
export interface Decision {
  readonly change: string
  readonly at: number
  readonly source: Source | null
  readonly actor: string | null
  readonly correlationId: string
  readonly user: string | null
  readonly organization: string | null
  readonly reason: Reason
  readonly trace: readonly TraceEntry[]
  readonly facts: readonly {
    readonly type: EventType
    readonly user: string | null
    readonly organization: string | null
    readonly detail: Readonly<Record<string, unknown>>
  }[]
}

/** A keyed hash of something private, so that it can be compared and not read. */
export type Hash = (value: string) => string

/** The hash of an identity, and so of its subject. */
export const identityHash = (hash: Hash, identity: { source: string; issuer: string; subject: string }) =>
  hash(JSON.stringify([identity.source, identity.issuer, identity.subject]))

/** The hash of an address. */
export const emailHash = (hash: Hash, address: string) => hash(JSON.stringify(['email', address]))

/** What a person is known by once their account is gone: their identities and their proved address. */
export const personHashes = (hash: Hash, identities: readonly IdentityKey[], address: string | null) => [
  ...identities.map((identity) => identityHash(hash, identity)),
  ...(address === null ? [] : [emailHash(hash, address)]),
]

/** The same for one organization, which took a membership away: another one's word does not lift it. */
export const membershipHashes = (hash: Hash, organization: string, person: readonly string[]) =>
  person.map((entry) => hash(JSON.stringify(['membership', organization, entry])))

/** The hash of an attribute's value, which a person may choose: no text of theirs hashes like what is none. */
export const attributeHash = (hash: Hash, value: string) => hash(JSON.stringify(['attribute', value]))

/**
 * The events of a decision, derived from what it writes; a refusal writes nothing and is one event.
 * @param before users as they were, for what changes about them
 */
export function eventsOf(
  decision: Omit<Decision, 'facts'>,
  writes: { readonly ops: readonly Operation[]; readonly guards: readonly Guard[] } | 'refused',
  hash: Hash,
  before: readonly User[] = [],
): AuditEvent[] {
  const { change, at, source, actor, correlationId, reason, trace } = decision
  const facts =
    writes === 'refused'
      ? [{ type: 'denied' as const, user: decision.user, organization: decision.organization, detail: {} }]
      : [
          ...writes.guards.flatMap((guard) => takenBy(guard, decision.organization)),
          ...writes.ops.flatMap((op) => factOf(op, hash, before)),
        ]
  return facts.map(({ type, user, organization, detail }, seq) => ({
    change,
    seq,
    type,
    at,
    user,
    organization,
    source,
    actor,
    correlationId,
    reason,
    detail: seq === 0 ? { ...detail, trace } : detail,
  }))
}

/** Events as the store lists them, one decision for each change. */
export function decisionsOf(events: readonly AuditEvent[]): Decision[] {
  const changes = new Map<string, AuditEvent[]>()
  for (const event of events) changes.set(event.change, [...(changes.get(event.change) ?? []), event])
  return [...changes.values()].map((all) => {
    const { change, at, source, actor, correlationId, reason, detail } = all[0]!
    return {
      change,
      at,
      source,
      actor,
      correlationId,
      user: all.find(({ user }) => user !== null)?.user ?? null,
      organization: all.find(({ organization }) => organization !== null)?.organization ?? null,
      reason,
      trace: (detail.trace ?? []) as readonly TraceEntry[],
      facts: all.map(({ type, user, organization, detail: { trace: _, ...own } }) => ({
        type,
        user,
        organization,
        detail: own,
      })),
    }
  })
}

interface Fact {
  type: EventType
  user: string | null
  organization: string | null
  detail: Record<string, unknown>
}

function takenBy(guard: Guard, organization: string | null): Fact[] {
  return guard.guard === 'invitation'
    ? [{ type: 'accepted', user: guard.user, organization, detail: { invitation: guard.id } }]
    : []
}

function factOf(op: Operation, hash: Hash, before: readonly User[]): Fact[] {
  const fact = (
    type: EventType,
    user: string | null,
    organization: string | null,
    detail: Record<string, unknown> = {},
  ): Fact[] => [{ type, user, organization, detail }]
  const address = (value: string | null) => (value === null ? null : emailHash(hash, value))
  const text = (value: string | undefined) => (value === undefined ? null : attributeHash(hash, value))
  switch (op.op) {
    case 'user.create':
      return fact('created', op.id, null, {
        status: op.status,
        verifiedEmail: address(op.verifiedEmail),
        contactEmail: address(op.contactEmail),
        attributes: Object.fromEntries(
          Object.entries(op.attributes).map(([name, value]) => [name, text(value)]),
        ),
      })
    case 'user.update': {
      const { status, endSessions, attributes, ...addresses } = op.set
      const was = before.find(({ id }) => id === op.id)
      const detail: Record<string, unknown> = { ...(endSessions && { sessions: 'ended' }) }
      for (const key of ['verifiedEmail', 'contactEmail'] as const) {
        const value = addresses[key]
        if (value !== undefined) detail[key] = { before: address(was?.[key] ?? null), after: address(value) }
      }
      if (attributes) {
        const names = new Set([...Object.keys(was?.attributes ?? {}), ...Object.keys(attributes)])
        const changed = [...names].filter((name) => was?.attributes[name] !== attributes[name])
        detail.attributes = Object.fromEntries(
          changed.map((name) => [
            name,
            { before: text(was?.attributes[name]), after: text(attributes[name]) },
          ]),
        )
      }
      const type = status === undefined ? 'updated' : status === 'suspended' ? 'suspended' : 'reactivated'
      return fact(type, op.id, null, detail)
    }
    case 'user.claim':
      return fact('claimed', op.id, null, { verifiedEmail: address(op.verifiedEmail) })
    case 'user.remove':
      return fact('deleted', op.id, null)
    case 'identity.link':
      return fact('linked', op.user, null, {
        via: op.source,
        issuer: op.issuer,
        identity: identityHash(hash, op),
      })
    case 'identity.unlink':
      return fact('unlinked', op.user, null, {
        via: op.source,
        issuer: op.issuer,
        identity: identityHash(hash, op),
      })
    case 'identity.assert':
      return fact('asserted', op.user, null, { identity: identityHash(hash, op), digest: op.digest })
    case 'membership.create':
      return fact('joined', op.user, op.organization, { status: op.status, seat: op.seat })
    case 'membership.update':
      return fact(op.status === 'suspended' ? 'suspended' : 'reactivated', op.user, op.organization, {
        seat: op.seat,
      })
    case 'membership.remove':
      return fact('left', op.user, op.organization)
    case 'grant.add':
      return fact('granted', op.user, op.organization, {
        role: op.role,
        source: op.source,
        basis: op.basis,
        ...(op.because !== undefined && { because: op.because }),
      })
    case 'grant.remove':
      return fact('revoked', op.user, op.organization, {
        role: op.role,
        source: op.source,
        ...(op.because !== undefined && { because: op.because }),
      })
    case 'tombstone.put':
      return fact('removed', op.user, op.organization, { role: op.role })
    case 'tombstone.remove':
      return fact('readmitted', op.user, op.organization, { role: op.role })
    case 'removed.put':
      return fact('removed', op.user ?? null, op.organization ?? null, { hash: op.hash })
    case 'removed.remove':
      return fact('readmitted', null, op.organization ?? null, { hash: op.hash })
    case 'invitation.create':
      return fact('invited', null, op.organization, {
        invitation: op.id,
        role: op.role,
        email: address(op.email),
        expiresAt: op.expiresAt,
      })
    case 'invitation.withdraw':
      return fact('withdrawn', null, op.organization, { invitation: op.id })
    case 'connection.hold':
      return fact(op.held === null ? 'released' : 'held', null, null, { connection: op.id, held: op.held })
    case 'connection.remove':
      return fact('disconnected', null, null, { connection: op.id })
    case 'organization.put':
    case 'connection.put':
      return []
    default:
      return op satisfies never
  }
}
