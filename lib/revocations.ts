import { createHash } from 'node:crypto'
import * as z from 'zod'
import { eventsOf } from './audit.js'
import type { Job } from './background.js'
import type { Source } from './identity.js'
import type { Operation, Store } from './store.js'

/**
 * How much a sync may take. It guards twice: a changed policy that would take more waits until its preview is
 * accepted, and a sync that did take more within the window is held.
 */
export const revocationsSchema = z
  .strictObject({
    /** Share of the grants; up to and with it nothing is guarded. */
    share: z.number().min(0).max(1).default(0.25),
    /** Fewer grants than these are never too many, so that the leaver of a small team is not. */
    atLeast: z.number().int().min(1).default(5),
    /** For the sync that is under way: within how many milliseconds; an hour by default. */
    window: z.number().int().min(1_000).default(3_600_000),
  })
  .prefault({})

export type RevocationsOptions = z.input<typeof revocationsSchema>
export type RevocationLimit = z.output<typeof revocationsSchema>

/** Whether so many revoked grants of so many are too many. */
export const tooMany = (revoked: number, grants: number, { share, atLeast }: RevocationLimit): boolean =>
  revoked >= atLeast && revoked > share * grants

export const percent = (share: number): string => `${Number((share * 100).toFixed(1))} %`

export interface HoldPorts {
  readonly store: Store
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly warn: (message: string) => void
}

/**
 * Looks how much each connection's sync has revoked, and holds one that took too much: it neither gives nor takes any
 * more until an operator lets it go.
 */
export function guarding(ports: HoldPorts, limit: RevocationLimit): Job {
  return {
    name: 'guarding',
    every: Math.min(10_000, limit.window),
    run: async (stop) => {
      for (const { source, revoked, left } of await ports.store.trail.revocations(
        ports.now() - limit.window,
      )) {
        if (stop.aborted) break
        if (!tooMany(revoked, revoked + left, limit)) continue
        const minutes = Number((limit.window / 60_000).toFixed(1))
        await hold(
          ports,
          source,
          `its sync revoked ${revoked} of ${revoked + left} grants within ${minutes} min, more than ${percent(limit.share)}`,
        )
      }
      return {}
    },
  }
}

/**
 * Holds the sync of a connection with its event and one line of the log, unless it is held already. Of several
 * processes at once, one does: the change is named after the hold before it, and a name lands once.
 */
export async function hold(
  { store, now, warn }: HoldPorts,
  source: Source,
  reason: string,
): Promise<boolean> {
  const id = source.slice(source.indexOf(':') + 1)
  // In this order: a hold that lands after the first read takes the name, and one before it shows in the second.
  const { rows } = await store.events({ source, type: 'held', limit: 1 })
  const { connection } = await store.load({ source, email: null, organizations: [] })
  if (!connection || connection.held !== null) return false
  const before = rows.find(({ type }) => type === 'held')?.change ?? ''
  const change = createHash('sha256')
    .update(JSON.stringify(['hold', source, before]))
    .digest('base64url')
  const at = now()
  const ops: Operation[] = [{ op: 'connection.hold', id, held: reason, at }]
  const decision = {
    change,
    at,
    source,
    actor: null,
    correlationId: change,
    user: null,
    organization: null,
    reason: 'guarded',
    trace: [],
  } as const
  const events = eventsOf(decision, { ops, guards: [] }, (value) => value)
  const result = await store.commit({ id: change, expect: [], guards: [], ops, events })
  if (!result.committed) {
    // Done by another process at the same moment, or the connection is gone.
    if (result.conflict.kind === 'key') return false
    throw new Error(`the sync of connection "${id}" could not be held: ${JSON.stringify(result.conflict)}`)
  }
  warn(
    `connection "${id}": ${reason}; the sync is held until jit.admin.releaseSync lets it go on (passport-jit preview shows what it would do)`,
  )
  return true
}
