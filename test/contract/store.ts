import type { Store } from 'passport-jit'
import type { Runner } from './runner.js'
import { atomicity } from './store-atomicity.js'
import { concurrency } from './store-concurrency.js'
import { keptEntries } from './store-entries.js'
import { auditEvents } from './store-events.js'
import { outbox } from './store-outbox.js'
import { people } from './store-people.js'
import { readsAndWrites } from './store-reads-and-writes.js'
import { revocations } from './store-revocations.js'
import { trail } from './store-trail.js'
import { waysIn } from './store-ways-in.js'

export interface StoreFixture {
  /** A store on an empty place of its own; the suite migrates it. */
  readonly store: Store
  /** The same data as another process has it; for a store within one process, the same object. */
  another(): Promise<Store>
  /** Frees what `store` and `another` hold, and removes the data. */
  close(): Promise<void>
}

/**
 * What every `Store` promises, in three tiers: reads and writes; atomicity, where each part of a change set in
 * turn is made to miss and nothing may stay; and races. Then all of them for seals and deliveries. Declares its tests with the given runner.
 *
 *     storeContract({ describe, test, factory: async () => ({ store, another, close }) })
 */
export function storeContract(options: Runner & { readonly factory: () => Promise<StoreFixture> }): void {
  options.describe('store: reads and writes', () => readsAndWrites(options, options.factory))
  options.describe('store: people', () => people(options, options.factory))
  options.describe('store: ways in', () => waysIn(options, options.factory))
  options.describe('store: audit events', () => auditEvents(options, options.factory))
  options.describe('store: kept entries', () => keptEntries(options, options.factory))
  options.describe('store: atomicity', () => atomicity(options, options.factory))
  options.describe('store: concurrency', () => concurrency(options, options.factory))
  options.describe('store: seals', () => trail(options, options.factory))
  options.describe('store: revocations', () => revocations(options, options.factory))
  options.describe('store: deliveries', () => outbox(options, options.factory))
}
