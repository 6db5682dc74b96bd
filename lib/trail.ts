import type { AuditEvent } from './audit.js'
import type { Source } from './identity.js'
import type { Page } from './store.js'

/** The events of one change in the order of `seq`. */
export type Change = readonly AuditEvent[]

/** A link of the chain over committed changes; numbers begin with 1 and have no gap. */
export interface Seal {
  readonly number: number
  /** Hash of the seal before; of the first, the empty text. */
  readonly previous: string
  readonly hash: string
  /** Milliseconds since the epoch. */
  readonly at: number
}

/**
 * The part of a store that puts committed changes in one lasting order. A change is sealed once, in a
 * transaction of its own after its commit, because positions given inside commits do not follow their order.
 */
export interface Trail {
  /** The newest seal, and changes that have none, in the order of their positions. */
  unsealed(limit: number): Promise<{ readonly last: Seal | null; readonly changes: readonly Change[] }>
  /**
   * Writes a seal over these changes, in this order, with a pending delivery of each for each endpoint. All of it
   * or, where the number is taken or one of the changes is sealed already, nothing and false.
   */
  seal(
    seal: Seal,
    changes: readonly string[],
    deliveries: readonly { readonly endpoint: string; readonly change: string; readonly subject: string }[],
  ): Promise<boolean>
  /** Seals after this number with their changes as they are stored now. */
  sealed(
    after: number,
    limit: number,
  ): Promise<readonly { readonly seal: Seal; readonly changes: readonly Change[] }[]>
  /**
   * By connection: grants that its sync has revoked since this moment (and since a hold of it was let go), and
   * those it has left. Connections that revoked none are left out.
   */
  revocations(
    since: number,
  ): Promise<readonly { readonly source: Source; readonly revoked: number; readonly left: number }[]>
}

export type DeliveryState = 'pending' | 'delivered' | 'dead'

/** A change on its way to an endpoint. `subject` is what its order is kept for: the user, else the change. */
export interface Delivery {
  readonly endpoint: string
  readonly change: string
  readonly subject: string
  readonly state: DeliveryState
  /** Tries so far. */
  readonly attempts: number
  /** When to try next; of one that is being tried, when another process may. Milliseconds since the epoch. */
  readonly dueAt: number
  /** The last few tries, the newest last. `error` is null for the one that succeeded. */
  readonly log: readonly { readonly at: number; readonly error: string | null }[]
}

/** The part of a store that remembers what was delivered where. */
export interface Outbox {
  /**
   * Claims due deliveries until `now + lease`, of each subject the oldest pending one alone, in the order of
   * seals; of several callers at once, one gets it. A pending delivery that is not due holds back those behind
   * it; a dead one does not.
   */
  take(query: {
    readonly endpoint: string
    readonly now: number
    readonly lease: number
    readonly limit: number
  }): Promise<readonly (Delivery & { readonly events: Change })[]>
  /** Ends a claimed try. False where the claim has passed to another meanwhile (`attempts` tells). */
  settle(result: {
    readonly endpoint: string
    readonly change: string
    /** As `take` gave it. */
    readonly attempts: number
    readonly at: number
    readonly error: string | null
    readonly state: DeliveryState
    /** Of a pending one. */
    readonly dueAt: number
  }): Promise<boolean>
  /** Deliveries, newest first. */
  deliveries(
    query: { readonly endpoint?: string; readonly state?: DeliveryState } & Page,
  ): Promise<{ readonly rows: readonly Delivery[]; readonly next: string | null }>
  /** Makes a dead delivery pending again, due now; false where it is not dead. */
  again(endpoint: string, change: string, now: number): Promise<boolean>
}
