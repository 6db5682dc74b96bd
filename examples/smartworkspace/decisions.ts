import type { AuditEvent, EventType, Outcome, Reason, Store, TraceEntry } from 'passport-jit'

/** One decision of the audit trail: the events that were written together, and why. */
export interface Decision {
  readonly id: string
  /** Milliseconds since the epoch. */
  readonly at: number
  readonly outcome: Outcome
  readonly reason: Reason
  readonly user: string | null
  readonly organization: string | null
  readonly source: string | null
  readonly correlationId: string
  readonly trace: readonly TraceEntry[]
  readonly events: readonly {
    readonly type: EventType
    readonly organization: string | null
    readonly detail: Readonly<Record<string, unknown>>
  }[]
}

/** A page of decisions, newest first; `limit` counts decisions, `next` is where the following page starts. */
export async function readDecisions(
  store: Pick<Store, 'events'>,
  page: { limit?: number; after?: string } = {},
): Promise<{ decisions: Decision[]; next: string | null }> {
  const { rows, next } = await store.events(page)
  const changes = new Map<string, AuditEvent[]>()
  for (const event of rows) changes.set(event.change, [...(changes.get(event.change) ?? []), event])
  return { decisions: [...changes.values()].map(decisionOf), next }
}

function decisionOf(unordered: AuditEvent[]): Decision {
  const events = unordered.toSorted((a, b) => a.seq - b.seq)
  const { change, at, reason, user, source, correlationId, detail } = events[0]!
  return {
    id: change,
    at,
    outcome: outcomeOf(events),
    reason,
    user,
    organization: events.find((event) => event.organization !== null)?.organization ?? null,
    source,
    correlationId,
    trace: (detail.trace as readonly TraceEntry[] | undefined) ?? [],
    events: events.map(({ type, organization, detail: { trace: _, ...own } }) => ({
      type,
      organization,
      detail: own,
    })),
  }
}

function outcomeOf(events: readonly AuditEvent[]): Outcome {
  const types = new Set(events.map((event) => event.type))
  return types.has('denied')
    ? 'denied'
    : types.has('created')
      ? 'created'
      : types.has('linked')
        ? 'linked'
        : 'updated'
}
