import { createHmac } from 'node:crypto'
import type { AuditEvent, Store, UserListing } from 'passport-jit'
import { attributeHash, emailHash, type Hash, identityHash } from '../../lib/audit.js'

/** The state as the audit trail tells it: what is private by its hash alone. */
export interface Told {
  readonly users: Record<string, ToldUser>
}

interface ToldUser {
  status: string
  verifiedEmail: string | null
  contactEmail: string | null
  attributes: Record<string, string>
  identities: string[]
  /** What a person took away, as `organization/role`. */
  tombstones: string[]
  memberships: Record<string, { status: string; seat: boolean; grants: string[] }>
}

// Told in the trail's own words; what is missing or misspelt makes the two states differ.
// biome-ignore lint/suspicious/noExplicitAny: every fact has words of its own
type Detail = Record<string, any>

/** Follows the events from nothing, oldest first. */
export function replay(events: readonly AuditEvent[]): Told {
  const users: Record<string, ToldUser> = {}
  for (const { type, user, organization, detail } of events) {
    const told = detail as Detail
    if (type === 'created') {
      const { status, verifiedEmail, contactEmail, attributes } = told
      users[user!] = {
        status,
        verifiedEmail,
        contactEmail,
        attributes: { ...(attributes as Record<string, string>) },
        identities: [],
        tombstones: [],
        memberships: {},
      }
      continue
    }
    const held = user === null ? undefined : users[user]
    if (!held) continue
    const membership = organization === null ? undefined : held.memberships[organization]
    switch (type) {
      case 'updated':
      case 'suspended':
      case 'reactivated':
        if (organization !== null) {
          membership!.status = type === 'suspended' ? 'suspended' : 'active'
          membership!.seat = told.seat
          break
        }
        if (type !== 'updated') held.status = type === 'suspended' ? 'suspended' : 'active'
        for (const key of ['verifiedEmail', 'contactEmail'] as const) {
          if (told[key]) held[key] = (told[key] as { after: string | null }).after
        }
        for (const [name, { after }] of Object.entries<{ after: string | null }>(told.attributes ?? {})) {
          if (after === null) delete held.attributes[name]
          else held.attributes[name] = after
        }
        break
      case 'claimed':
        held.verifiedEmail = told.verifiedEmail
        held.contactEmail = told.verifiedEmail
        held.identities = []
        held.memberships = {}
        break
      case 'deleted':
        delete users[user!]
        break
      case 'removed':
        if (told.hash !== undefined) break
        held.tombstones.push(stone(organization!, told.role))
        break
      case 'readmitted':
        held.tombstones = held.tombstones.filter((entry) => entry !== stone(organization!, told.role))
        break
      case 'linked':
        held.identities.push(told.identity)
        break
      case 'unlinked':
        held.identities = held.identities.filter((identity) => identity !== told.identity)
        break
      case 'joined':
        held.memberships[organization!] = { status: told.status, seat: told.seat, grants: [] }
        break
      case 'left':
        delete held.memberships[organization!]
        break
      case 'granted':
        membership!.grants.push(grantOf(told))
        break
      case 'revoked':
        membership!.grants = membership!.grants.filter(
          (grant) => !grant.startsWith(`${told.role}|${told.source}|`),
        )
        break
    }
  }
  for (const user of Object.values(users)) {
    user.identities.sort()
    user.tombstones = [...new Set(user.tombstones)].sort()
    for (const membership of Object.values(user.memberships)) membership.grants.sort()
  }
  return { users }
}

const stone = (organization: string, role: string | null) => `${organization}/${role ?? '*'}`

const grantOf = ({ role, source, basis }: Detail) => `${role}|${source}|${basis}`

/** The state as the store has it, told in the same words; tombstones of these organizations. */
export async function told(store: Store, organizations: readonly string[]): Promise<Told> {
  const hash = await hashOf(store)
  const users: Record<string, ToldUser> = {}
  for (const user of await everyUser(store)) {
    const address = (value: string | null) => (value === null ? null : emailHash(hash, value))
    const { byId } = await store.load({ user: user.id, email: null, organizations })
    users[user.id] = {
      tombstones: byId!.tombstones.map(({ organization, role }) => stone(organization, role)).sort(),
      status: user.status,
      verifiedEmail: address(user.verifiedEmail),
      contactEmail: address(user.contactEmail),
      attributes: Object.fromEntries(
        Object.entries(user.attributes).map(([name, value]) => [name, attributeHash(hash, value)]),
      ),
      identities: user.identities.map((identity) => identityHash(hash, identity)).sort(),
      memberships: Object.fromEntries(
        user.memberships.map(({ organization, status, seat, grants }) => [
          organization,
          { status, seat, grants: grants.map(grantOf).sort() },
        ]),
      ),
    }
  }
  return { users }
}

export async function hashOf(store: Store): Promise<Hash> {
  const key = await store.hashKey()
  return (value) => createHmac('sha256', key).update(value).digest('base64url')
}

export async function everyUser(store: Store): Promise<UserListing[]> {
  const all: UserListing[] = []
  for (let after: string | null = ''; after !== null; ) {
    const page: Awaited<ReturnType<Store['users']>> = await store.users({ limit: 1000, after })
    all.push(...page.rows)
    after = page.next
  }
  return all
}

/** Every event, oldest first. */
export async function everyEvent(store: Store): Promise<AuditEvent[]> {
  const changes: AuditEvent[][] = []
  for (let after: string | undefined | null; after !== null; ) {
    const page: Awaited<ReturnType<Store['events']>> = await store.events({
      limit: 1000,
      ...(after !== undefined && { after }),
    })
    for (const event of page.rows) {
      if (event.seq === 0) changes.push([event])
      else changes.at(-1)!.push(event)
    }
    after = page.next
  }
  return changes.reverse().flat()
}
