import {
  type AuditEvent,
  createJit,
  type Jit,
  type Listener,
  type LogEntry,
  type Store,
  type Strategy,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { change, event } from '../contract/store-world.js'
import { directoryInput } from '../tables/facts.js'

export interface Clock {
  at: number
}

export interface Kit {
  readonly jit: Jit
  readonly log: LogEntry[]
}

/** The kit on a store, with a clock that stands still; it speaks a protocol that nobody asks for. */
export function kit(store: Store, listeners: readonly Listener[] = [], clock: Clock = { at: start }): Kit {
  const log: LogEntry[] = []
  const silent = { protocol: 'oidc', attemptKey: () => undefined, begin: () => {}, complete: () => {} }
  const jit = createJit({
    baseUrl: 'http://localhost',
    store,
    lock: memoryLock(),
    once: memoryOnce(),
    directory: staticDirectory(directoryInput),
    strategies: [silent as unknown as Strategy],
    listeners,
    log: (entry) => log.push(entry),
    now: () => clock.at,
  })
  return { jit, log }
}

export const start = 1_700_000_000_000

/** Commits a change with an event of each of these, in turn; a busy store is asked again. */
export async function commit(store: Store, id: string, ...events: Partial<AuditEvent>[]): Promise<void> {
  const changes = change(id, { events: events.map((parts, seq) => event(id, seq, { at: start, ...parts })) })
  for (;;) {
    const result = await store.commit(changes)
    if (result.committed) return
    if (result.conflict.kind !== 'busy') throw new Error(JSON.stringify(result.conflict))
  }
}

/** Round after round until there is nothing left to do. */
export async function settle({ background }: Jit): Promise<void> {
  for (;;) {
    const { sealed, delivered, failed } = await background.runOnce()
    if (sealed + delivered + failed === 0) return
  }
}
