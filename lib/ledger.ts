import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { type Decision, decisionsOf } from './audit.js'
import { type Job, roundLimit } from './background.js'
import {
  type Digest,
  type Head,
  mostWaiting,
  nextSeal,
  type Sealed,
  type Verification,
  verifyChain,
} from './chain.js'
import { deliveriesOf, type Listener } from './outbox.js'
import type { EventQuery, Store } from './store.js'

/** The audit trail: one decision for each change and each refusal. */
export interface Audit {
  /** Decisions with an event that matches every key given, newest first, a page at a time. */
  decisions(query?: EventQuery): Promise<{ readonly rows: readonly Decision[]; readonly next: string | null }>
  /** The same, all of them: one line of JSON for each decision, newest first, with its line feed. */
  export(query?: Omit<EventQuery, 'limit' | 'after'>): AsyncIterable<string>
  /**
   * Whether the decisions are those that were sealed. Reads all of them, and keeps the id of each in memory.
   * @param options.expect a head that an earlier verification answered and that was noted elsewhere. Without it an
   *   end that was cut off or written anew does not show.
   */
  verify(options?: { readonly expect?: Head }): Promise<Verification>
}

const sha256: Digest = (text) => createHash('sha256').update(text).digest('hex')

/** Rows asked for at once. */
const page = 100

export function audit(store: Store, ready: () => Promise<void> = async () => {}): Audit {
  const decisions: Audit['decisions'] = async (query) => {
    await ready()
    const { rows, next } = await store.events(query)
    return { rows: decisionsOf(rows), next }
  }
  return {
    decisions,
    export: async function* (query) {
      for (let after: string | null | undefined; after !== null; ) {
        const { rows, next } = await decisions({ ...query, limit: page, ...(after && { after }) })
        for (const decision of rows) yield `${JSON.stringify(decision)}\n`
        after = next
      }
    },
    verify: async ({ expect } = {}) => {
      await ready()
      // In this order, so that nothing that is committed or sealed meanwhile is missed.
      const listed = new Set<string>()
      for (let after: string | null | undefined; after !== null; ) {
        const { rows, next } = await store.events({ limit: 1_000, ...(after && { after }) })
        for (const { change } of rows) listed.add(change)
        after = next
      }
      const { changes } = await store.trail.unsealed(mostWaiting)
      return verifyChain(chainOf(store), changes, listed, sha256, expect)
    },
  }
}

async function* chainOf(store: Store): AsyncGenerator<Sealed> {
  for (let after = 0; ; ) {
    const links = await store.trail.sealed(after, page)
    if (links.length === 0) return
    yield* links
    after = links.at(-1)!.seal.number
  }
}

/**
 * Seals what was committed, with its deliveries. Each change is under a seal of its own, so that a verification can
 * say which change was altered, and not only among which.
 */
export function sealing(
  { store, now }: { readonly store: Store; readonly now: () => number },
  listeners: readonly Listener[],
): Job {
  return {
    name: 'sealing',
    run: async (stop) => {
      const until = performance.now() + roundLimit
      let sealed = 0
      for (;;) {
        let { last, changes } = await store.trail.unsealed(page)
        // Without its events nothing of a change can be sealed; the verification tells of it.
        changes = changes.filter((events) => events.length > 0)
        if (changes.length === 0) return { sealed }
        for (const events of changes) {
          if (stop.aborted || performance.now() > until) return { sealed }
          const seal = nextSeal(last, [events], now(), sha256)
          const done = await store.trail.seal(seal, [events[0]!.change], deliveriesOf(events, listeners))
          // Another process is at it, and goes on.
          if (!done) return { sealed }
          sealed += 1
          last = seal
          // A store of this process answers without a pause, and others want their turn.
          await turn()
        }
      }
    },
  }
}
