import type { IdentityFacts } from './plan.js'

/**
 * Conflicts for which a policy has a switch, with every outcome that a switch can name. All others have one outcome,
 * which is fixed.
 */
export interface ConflictOutcomes {
  /** Somebody would join while no seat is free. */
  seats_full: 'deny' | 'join-without-seat'
  /** The IdP asserts another value than the app has, for an attribute under the IdP's authority. */
  attribute_differs: 'idp' | 'app'
  /** A known identity asserts another address, which is vouched for and free. */
  address_changed: 'keep' | 'adopt'
  /** An account with the same verified address, by a provider that is trusted to link. */
  account_exists: 'link' | 'prove'
  /** The account has another subject of this connection, whose migration window is open. */
  subject_changed: 'migrate' | 'refuse'
}

export type ConflictKind = keyof ConflictOutcomes

/** One conflict of a sign-in, as the hook is asked about it. */
export type SignInConflict = {
  readonly [K in ConflictKind]: {
    readonly kind: K
    /** Of `attribute_differs`: which. */
    readonly attribute: string | null
    /** What the rules allow here; the first is what the policy says. */
    readonly outcomes: readonly [ConflictOutcomes[K], ...ConflictOutcomes[K][]]
    /** The account in question, where there is one. */
    readonly user: string | null
    readonly organization: string | null
    readonly identity: IdentityFacts
  }
}[ConflictKind]

/**
 * Chooses among the outcomes that the rules allow; `undefined` leaves it to the policy. It is asked before anything
 * is written, once for each conflict of a sign-in, and has a second in all: where it throws, takes longer or
 * answers anything else, the policy's outcome stands and a line is logged.
 */
export type OnConflict = (
  conflict: SignInConflict,
) => SignInConflict['outcomes'][number] | undefined | Promise<SignInConflict['outcomes'][number] | undefined>

/** What the app chose about a conflict; nothing where it is left to the policy. */
export type Chosen = (conflict: SignInConflict) => string | null | undefined

/** What a conflict is called, such as `seats_full` or `attribute_differs:title`. */
export const conflictName = ({ kind, attribute }: Pick<SignInConflict, 'kind' | 'attribute'>) =>
  attribute === null ? kind : `${kind}:${attribute}`
