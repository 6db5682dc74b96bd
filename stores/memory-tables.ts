import { randomBytes } from 'node:crypto'
import type {
  Asserted,
  AuditEvent,
  ConnectionFacts,
  Delivery,
  EntryRow,
  Grant,
  IdentityKey,
  InvitationFacts,
  Membership,
  OrganizationFacts,
  Seal,
  Tombstone,
  User,
} from '../lib/index.js'

export type Mutable<T> = { -readonly [K in keyof T]: T[K] }

export interface KeptEntry extends EntryRow {
  readonly organization: string
  readonly position: number
}

export interface Tables {
  readonly hashKey: string
  users: Map<string, Mutable<User>>
  identities: Map<
    string,
    IdentityKey & { user: string; last: { readonly digest: string; readonly asserted: Asserted } | null }
  >
  memberships: Map<string, Omit<Mutable<Membership>, 'grants'> & { user: string }>
  grants: Map<string, Grant & { user: string; organization: string }>
  tombstones: Map<string, Tombstone & { user: string }>
  /** Times by hash. */
  removed: Map<string, number>
  invitations: Map<string, InvitationFacts & { takenBy: string | null }>
  organizations: Map<string, Mutable<OrganizationFacts>>
  connections: Map<string, Mutable<ConnectionFacts> & { releasedAt: number | null }>
  organizationEntries: Map<string, KeptEntry>
  connectionEntries: Map<string, KeptEntry>
  /** What is left of a connection's entry, so that who follows the changes learns of it. */
  removedEntries: Map<string, Pick<KeptEntry, 'id' | 'organization' | 'position'>>
  /** Owners by pattern. */
  domains: Map<string, string>
  /** By change, in the order of their commits. */
  events: Map<string, AuditEvent[]>
  seals: { readonly seal: Seal; readonly changes: readonly string[] }[]
  /** In the order of seals. */
  deliveries: Map<string, Mutable<Delivery>>
}

export const emptyTables = (): Tables => ({
  hashKey: randomBytes(32).toString('base64url'),
  users: new Map(),
  identities: new Map(),
  memberships: new Map(),
  grants: new Map(),
  tombstones: new Map(),
  removed: new Map(),
  invitations: new Map(),
  organizations: new Map(),
  connections: new Map(),
  organizationEntries: new Map(),
  connectionEntries: new Map(),
  removedEntries: new Map(),
  domains: new Map(),
  events: new Map(),
  seals: [],
  deliveries: new Map(),
})

export const key = (...parts: readonly unknown[]) => JSON.stringify(parts)

/** Rows by key, as a database gives them. */
export const sorted = <T>(table: ReadonlyMap<string, T>): T[] =>
  [...table].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row)

/** The first rows of what a page may show, and the cursor of the last where there are more. */
export function firstOf<T>(rows: readonly T[], limit = 100, cursor: (row: T) => string) {
  const size = Math.min(limit, 1000)
  const chosen = rows.slice(0, size)
  return { rows: chosen, next: rows.length > size ? cursor(chosen.at(-1)!) : null }
}
