import type { AuditEvent, EventType } from './audit.js'
import type { Asserted, Source } from './identity.js'
import type { DomainFacts } from './plan.js'
import type { Connection, Organization, Provider } from './policy.js'
import type { Outbox, Trail } from './trail.js'

// The ports. They are experimental until adapters by others have settled them.

export type UserStatus = 'active' | 'suspended'
export type MembershipStatus = 'active' | 'suspended'

/**
 * Where a grant comes from. `sso:` grants count only in a session that came through that organization's SSO.
 */
export type GrantSource =
  | 'manual'
  | 'domain'
  | `sso:${string}`
  | `invitation:${string}`
  | `scim:${string}`
  | `import:${string}`

/** Why a source gave it: a `default` role of joining is never revoked by sync, a role of a `group` is. */
export type GrantBasis = 'default' | 'group' | 'person'

export interface Grant {
  readonly role: string
  readonly source: GrantSource
  readonly basis: GrantBasis
}

export interface Membership {
  readonly organization: string
  readonly status: MembershipStatus
  /** False while it is suspended, and for who joined when none was free; without a seat nothing of it counts. */
  readonly seat: boolean
  readonly grants: readonly Grant[]
}

export interface User {
  readonly id: string
  readonly version: number
  readonly status: UserStatus
  /** Raised to end every session of this user. */
  readonly epoch: number
  /** Proved and unique in the app, or null. */
  readonly verifiedEmail: string | null
  /** For writing to the person; proves nothing. */
  readonly contactEmail: string | null
  readonly attributes: Readonly<Record<string, string>>
}

export interface IdentityKey {
  readonly source: Source
  readonly issuer: string
  readonly subject: string
}

/** Something a person took away, which no policy may bring back; without a role, the whole membership. */
export interface Tombstone {
  readonly organization: string
  readonly role: string | null
  /** When it was taken away, in milliseconds since the epoch. */
  readonly at: number
}

/** A pending invitation: an address, to be proved, that somebody wants in an organization. */
export interface InvitationFacts {
  readonly id: string
  readonly organization: string
  readonly email: string
  readonly role: string
  /** When it was made and when it lapses, in milliseconds since the epoch. */
  readonly at: number
  readonly expiresAt: number
}

/** A user as the rules see it: memberships and tombstones of the queried organizations only. */
export interface UserFacts extends User {
  readonly identities: readonly IdentityKey[]
  readonly memberships: readonly Membership[]
  readonly tombstones: readonly Tombstone[]
}

export interface OrganizationFacts {
  readonly id: string
  readonly version: string
  readonly status: 'active' | 'suspended'
  readonly seatLimit: number | null
  /** Memberships that have a seat. */
  readonly seatsUsed: number
  /** Active users with an active membership and a grant of the owner role. */
  readonly owners: number
}

export interface ConnectionFacts {
  readonly id: string
  readonly organization: string
  readonly version: string
  readonly enabled: boolean
  /** Raised to end every session that came through this connection. */
  readonly epoch: number
  /** Why its sync is held, or null: while it is, groups neither give nor take. */
  readonly held: string | null
}

export interface Snapshot {
  readonly byIdentity: UserFacts | null
  /** Digest of what this identity last asserted. */
  readonly asserted: string | null
  readonly byId: UserFacts | null
  readonly byVerifiedEmail: UserFacts | null
  /** Accounts that carry the address unproved. */
  readonly byContactEmail: readonly UserFacts[]
  readonly organizations: readonly OrganizationFacts[]
  /** Of the query's `source`, where that is a connection. */
  readonly connection: ConnectionFacts | null
  /** Pending ones for the query's address, and the one it names; the oldest first. */
  readonly invitations: readonly InvitationFacts[]
  /** Of the query's hashes those that stand for a user or a membership that a person removed, with the time of that. */
  readonly removed: readonly { readonly hash: string; readonly at: number }[]
}

/** Each key that is left out (or null) matches nothing. */
export interface LoadQuery extends Partial<IdentityKey> {
  /** The address to look accounts up by; null where the way in has no say about it. */
  readonly email: string | null
  readonly organizations: readonly string[]
  /** A user by id. */
  readonly user?: string
  /** An invitation by id. */
  readonly invitation?: string
  /** Keyed hashes of the identity and the address, to find out whether their user or membership was removed. */
  readonly hashes?: readonly string[]
}

/** One write of a change set. The union is closed; an adapter that does not know an operation must throw. */
export type Operation =
  | {
      readonly op: 'user.create'
      readonly id: string
      readonly status: UserStatus
      readonly verifiedEmail: string | null
      readonly contactEmail: string | null
      readonly attributes: Readonly<Record<string, string>>
      readonly at: number
    }
  | {
      readonly op: 'user.update'
      readonly id: string
      readonly set: {
        readonly status?: UserStatus
        readonly verifiedEmail?: string | null
        readonly contactEmail?: string | null
        /** The whole new set of attributes. */
        readonly attributes?: Readonly<Record<string, string>>
        /** Ends the user's sessions. */
        readonly endSessions?: true
      }
    }
  | {
      /**
       * An account that nobody proved becomes the account of who proved the address: its identities,
       * memberships and sessions end, and the address is verified.
       */
      readonly op: 'user.claim'
      readonly id: string
      readonly verifiedEmail: string
    }
  | {
      /** With its identities, memberships and tombstones; its counters are freed by guards. */
      readonly op: 'user.remove'
      readonly id: string
    }
  | ({ readonly op: 'identity.link'; readonly user: string; readonly at: number } & IdentityKey)
  | ({ readonly op: 'identity.unlink'; readonly user: string } & IdentityKey)
  | ({
      /** Keeps what an identity asserted last, for previews of a changed policy. */
      readonly op: 'identity.assert'
      readonly user: string
      readonly digest: string
      readonly asserted: Asserted
    } & IdentityKey)
  | {
      readonly op: 'membership.create'
      readonly user: string
      readonly organization: string
      readonly status: MembershipStatus
      readonly seat: boolean
      readonly at: number
    }
  | {
      readonly op: 'membership.update'
      readonly user: string
      readonly organization: string
      readonly status: MembershipStatus
      readonly seat: boolean
    }
  | { readonly op: 'membership.remove'; readonly user: string; readonly organization: string }
  | ({
      readonly op: 'grant.add'
      readonly user: string
      readonly organization: string
      readonly at: number
      /** By which rule, for the audit trail alone. */
      readonly because?: string
    } & Grant)
  | {
      readonly op: 'grant.remove'
      readonly user: string
      readonly organization: string
      readonly role: string
      readonly source: GrantSource
      readonly because?: string
    }
  | {
      readonly op: 'tombstone.put'
      readonly user: string
      readonly organization: string
      readonly role: string | null
      readonly at: number
    }
  | {
      /** Where it is not there, nothing is missed. */
      readonly op: 'tombstone.remove'
      readonly user: string
      readonly organization: string
      readonly role: string | null
    }
  | {
      /**
       * A removed user's identity or address, by its keyed hash; of a membership that was taken away the hash is its
       * organization's own, which is named for the audit trail alone,
       * with the account that it was of.
       */
      readonly op: 'removed.put'
      readonly hash: string
      readonly at: number
      readonly user?: string
      readonly organization?: string
    }
  | {
      /** Where it is not there, nothing is missed; a removal later than `until` stays, where that is given. */
      readonly op: 'removed.remove'
      readonly hash: string
      readonly until?: number
      readonly organization?: string
    }
  | {
      readonly op: 'invitation.create'
      readonly id: string
      readonly organization: string
      readonly email: string
      readonly role: string
      readonly at: number
      readonly expiresAt: number
    }
  | {
      /** Of a pending one; any other is the key conflict `invitation`. */
      readonly op: 'invitation.withdraw'
      readonly id: string
      readonly organization: string
    }
  | {
      /** Holds a connection's sync for a reason, or with null lets it go on. Not a new version of it. */
      readonly op: 'connection.hold'
      readonly id: string
      readonly held: string | null
      readonly at: number
    }
  | {
      /** The connection, its kept entry and what identities it has left. */
      readonly op: 'connection.remove'
      readonly id: string
    }
  | {
      /** Written where the version differs; keeps the counters and the epoch. */
      readonly op: 'organization.put'
      readonly id: string
      readonly version: string
      readonly name: string
      readonly status: 'active' | 'suspended'
      readonly seatLimit: number | null
      /**
       * Of an organization kept in the store: its whole entry, and the domain patterns it owns. A pattern that
       * another one owns when the whole change set is carried out is the key conflict `domain`.
       */
      readonly kept?: { readonly entry: string; readonly domains: readonly string[] }
    }
  | {
      /**
       * It stays with its organization until it is removed: over another one's it is the key conflict `connection`.
       */
      readonly op: 'connection.put'
      readonly id: string
      readonly organization: string
      readonly version: string
      readonly enabled: boolean
      /**
       * Of a connection kept in the store: its whole entry; written over an entry of the version `over` alone,
       * where that is given. Another version is the key conflict `connection`.
       */
      readonly kept?: { readonly entry: string; readonly over?: string }
    }

/**
 * A conditional update that holds what spans rows; where its condition does not hold, nothing of the change
 * set lands and `commit` answers with that guard.
 */
export type Guard =
  /** The organization is active and has this version. */
  | { readonly guard: 'organization'; readonly id: string; readonly version: string }
  /** The connection is enabled and has this version. */
  | { readonly guard: 'connection'; readonly id: string; readonly version: string }
  /** Takes (or with a negative `by` frees) seats; never more than the limit. */
  | { readonly guard: 'seats'; readonly organization: string; readonly by: number }
  /** Counts owners up or down; never below one once there was one. */
  | { readonly guard: 'owners'; readonly organization: string; readonly by: number }
  /** Takes a pending invitation; one winner. */
  | { readonly guard: 'invitation'; readonly id: string; readonly user: string }
  /** Once all is written, none of these hashes stands for a removed user; a removal under way is waited for. */
  | { readonly guard: 'unremoved'; readonly hashes: readonly string[] }

/**
 * A change as data: one transaction, one statement or one batch of the backend. All of it lands or none.
 * `expect` names the users it touches that exist already: each has this version before, and the next after.
 */
export interface ChangeSet {
  /** Id of the change and of the decision behind it; a change id lands once. */
  readonly id: string
  readonly expect: readonly { readonly user: string; readonly version: number }[]
  readonly guards: readonly Guard[]
  readonly ops: readonly Operation[]
  readonly events: readonly AuditEvent[]
}

export type Conflict =
  /** A user's version was not the expected one. */
  | { readonly kind: 'version'; readonly user: string }
  | { readonly kind: 'guard'; readonly guard: Guard }
  /** A key was taken: verified e-mail, identity, membership, domain, change id and so on. */
  | { readonly kind: 'key'; readonly key: string }
  /** The backend asks to try again: serialization failure, deadlock, busy. */
  | { readonly kind: 'busy'; readonly detail: string }

export type CommitResult =
  | { readonly committed: true }
  | { readonly committed: false; readonly conflict: Conflict }

/** A user and what a session of theirs needs, in one read. */
export interface UserRecord {
  readonly user: User
  readonly memberships: readonly (Membership & {
    readonly organizationStatus: 'active' | 'suspended'
  })[]
  /** Connections of the user's identities, so that a session ends when its identity is unlinked. */
  readonly connections: readonly ConnectionFacts[]
}

export interface Page {
  /** At most this many rows; 100 by default, 1,000 at most. */
  readonly limit?: number
  /** The cursor a previous page ended with. */
  readonly after?: string
}

/** Which audit events; those that match every key given. Times in milliseconds since the epoch. */
export interface EventQuery extends Page {
  readonly user?: string
  readonly organization?: string
  /** Of a connection or provider. */
  readonly source?: Source
  readonly type?: EventType
  readonly from?: number
  /** Before this moment. */
  readonly to?: number
}

/** What an identity asserted last, with its user as the rules see it in one organization. */
export interface AssertedRow {
  readonly identity: IdentityKey
  readonly asserted: Asserted
  readonly user: UserFacts
}

export interface UserListing extends User {
  readonly identities: readonly IdentityKey[]
  readonly memberships: readonly Membership[]
}

/** An organization or connection kept in the store; `entry` is JSON with its secrets encrypted. */
export interface EntryRow {
  readonly id: string
  readonly version: string
  readonly entry: string
}

/** What is kept of the entries and domains that an import is about. */
export interface KnownEntries {
  readonly organizations: readonly EntryRow[]
  readonly connections: readonly EntryRow[]
  readonly owners: readonly { readonly pattern: string; readonly organization: string }[]
}

/** What was written after a position. */
export interface EntryChanges {
  /** The newest position. Positions follow the order of commits. */
  readonly position: number
  /** Organizations and connections, with the organizations of these; null for more than a thousand. */
  readonly ids: readonly string[] | null
  /** The patterns that these organizations own now. */
  readonly domains: readonly string[]
}

/** Organizations and connections kept in the store; every method is one indexed read. */
export interface Entries {
  organization(id: string): Promise<EntryRow | null>
  connection(id: string): Promise<EntryRow | null>
  /** Connections in the order of their ids, from the one after `after`; `''` begins. */
  connections(after: string, limit: number): Promise<readonly EntryRow[]>
  /** The owner of the first of these domain patterns that has one, with all its connections. */
  domain(
    patterns: readonly string[],
  ): Promise<{ readonly owner: EntryRow; readonly connections: readonly EntryRow[] } | null>
  /**
   * The organizations with these ids, all their connections and the connections with these ids, and who owns
   * these patterns. Entries alone whose version is that which guards compare.
   */
  known(query: {
    readonly organizations: readonly string[]
    readonly connections: readonly string[]
    readonly domains: readonly string[]
  }): Promise<KnownEntries>
  /** What was written after a position; 0 is before the first. */
  changes(after: number): Promise<EntryChanges>
}

/**
 * The app's database. `load`, `user` and `commit` cost one round trip each. A conflict is returned; what is
 * thrown (a lost connection, a timeout) has an unknown outcome, and the caller reloads to learn it.
 */
export interface Store {
  /** Brings the tables up to date; safe when several processes start at once, idempotent. */
  migrate(): Promise<void>
  load(query: LoadQuery): Promise<Snapshot>
  user(id: string): Promise<UserRecord | null>
  commit(changes: ChangeSet): Promise<CommitResult>
  readonly entries: Entries
  /** Users by id, for an operator's list. */
  users(page?: Page): Promise<{ readonly rows: readonly UserListing[]; readonly next: string | null }>
  /** Pending invitations of an organization, by id. */
  invitations(
    query: { readonly organization: string } & Page,
  ): Promise<{ readonly rows: readonly InvitationFacts[]; readonly next: string | null }>
  /** Audit events, newest change first; of a change that has a match, all of its events. */
  events(query?: EventQuery): Promise<{ readonly rows: readonly AuditEvent[]; readonly next: string | null }>
  /** Identities of a source that asserted something, with memberships and tombstones of one organization. */
  asserted(
    query: { readonly source: Source; readonly organization: string } & Page,
  ): Promise<{ readonly rows: readonly AssertedRow[]; readonly next: string | null }>
  /** 32 random bytes as base64url, made at the first `migrate` and the same from then on. */
  hashKey(): Promise<string>
  readonly trail: Trail
  readonly outbox: Outbox
}

/**
 * Organizations and connections. `entries` is what a static directory holds as a whole; it is written to the
 * store at start, so that guards have rows to stand on.
 */
export interface Directory {
  organization(id: string): Promise<Organization | null>
  connection(id: string): Promise<Connection | null>
  /** An enabled app-wide way in; the e-mail method's id is `email`. */
  provider(id: string): Promise<Provider | null>
  /** All of them, for the sign-in page and discovery. */
  providers(): Promise<readonly Provider[]>
  /** Who answers for an exact e-mail domain. */
  domain(name: string): Promise<DomainFacts>
  /** Of a directory that remembers what it read: afterwards it answers with nothing older than this call. */
  refresh?(): Promise<void>
  readonly entries?: {
    readonly organizations: readonly Organization[]
    readonly connections: readonly Connection[]
    readonly providers: readonly Provider[]
  }
  /** What is set up oddly, for the operator's log. */
  readonly warnings?: readonly string[]
}

/** A held lock. `waited`: somebody else held it first, so what was read before it may be stale. */
export interface Lease {
  readonly waited: boolean
  /** Frees it if it is still ours; never throws. */
  release(): Promise<void>
}

/**
 * Keeps two requests for one person from doing the work twice. For efficiency only: where it cannot be had
 * (`null`: waited too long, or the backend is away) the caller goes on, and the store decides.
 */
export interface Lock {
  /** `ttl` and `wait` in milliseconds. */
  acquire(key: string, options: { readonly ttl: number; readonly wait: number }): Promise<Lease | null>
}

/**
 * One-time values. Fails closed: where the backend is away every method throws `JitError` `unavailable`.
 * `ttl` in milliseconds.
 */
export interface Once {
  put(key: string, value: string, ttl: number): Promise<void>
  /** Reads and removes; of several at once, one gets the value and the others `null`. */
  take(key: string): Promise<string | null>
  /** True for the first to claim the key until it expires. */
  claim(key: string, ttl: number): Promise<boolean>
}
