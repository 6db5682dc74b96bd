import type { Source } from './identity.js'
import type { Reason, TraceEntry } from './plan.js'
import type { GrantSource, Operation } from './store.js'

/** The closed union of event types: one fact each, in the past tense. */
export type EventType =
  | 'created'
  | 'linked'
  | 'claimed'
  | 'unlinked'
  | 'joined'
  | 'left'
  | 'granted'
  | 'revoked'
  | 'updated'
  | 'invited'
  | 'removed'
  | 'denied'

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
  readonly user: string | null
  readonly organization: string | null
  /** Whose word it was: the connection or provider, or null for a person. */
  readonly source: Source | null
  readonly correlationId: string
  readonly reason: Reason
  /** The fact's own words: a role and its source, the names of changed attributes. Never values of claims. */
  readonly detail: Readonly<Record<string, unknown>>
}

export interface Decision {
  readonly change: string
  readonly at: number
  readonly source: Source | null
  readonly correlationId: string
  readonly user: string | null
  readonly organization: string | null
  readonly reason: Reason
  readonly trace: readonly TraceEntry[]
}

/** The events of a decision, derived from what it writes; a refusal writes nothing and is one event. */
export function eventsOf(decision: Decision, ops: readonly Operation[], refused: boolean): AuditEvent[] {
  const facts = refused
    ? [{ type: 'denied' as const, organization: decision.organization, detail: {} }]
    : ops.flatMap((op) => factOf(op))
  return facts.map(({ type, organization, detail }, seq) => ({
    change: decision.change,
    seq,
    type,
    at: decision.at,
    user: decision.user,
    organization,
    source: decision.source,
    correlationId: decision.correlationId,
    reason: decision.reason,
    detail: seq === 0 ? { ...detail, trace: decision.trace } : detail,
  }))
}

interface Fact {
  type: EventType
  organization: string | null
  detail: Record<string, unknown>
}

function factOf(op: Operation): Fact[] {
  const fact = (
    type: EventType,
    organization: string | null,
    detail: Record<string, unknown> = {},
  ): Fact[] => [{ type, organization, detail }]
  switch (op.op) {
    case 'user.create':
      return fact('created', null, {
        verified: op.verifiedEmail !== null,
        attributes: Object.keys(op.attributes),
      })
    case 'user.update':
      return fact('updated', null, { changed: Object.keys(op.set) })
    case 'user.claim':
      return fact('claimed', null)
    case 'identity.link':
      return fact('linked', null, { issuer: op.issuer })
    case 'identity.unlink':
      return fact('unlinked', null, { issuer: op.issuer })
    case 'membership.create':
      return fact('joined', op.organization)
    case 'membership.update':
      return fact('updated', op.organization, { status: op.status })
    case 'membership.remove':
      return fact('left', op.organization)
    case 'grant.add':
      return fact('granted', op.organization, { role: op.role, source: op.source, basis: op.basis })
    case 'grant.remove':
      return fact('revoked', op.organization, { role: op.role, source: op.source satisfies GrantSource })
    case 'tombstone.put':
      return fact('removed', op.organization, { role: op.role })
    case 'invitation.create':
      return fact('invited', op.organization, { invitation: op.id, role: op.role })
    case 'organization.put':
    case 'connection.put':
      return []
    default:
      return op satisfies never
  }
}
