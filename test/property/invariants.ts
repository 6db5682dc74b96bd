import type { AuditEvent, GrantSource } from 'passport-jit'
import { covers } from '../../lib/policy.js'
import { everyEvent, everyUser, replay, told } from './replay.js'
import { type ConnectionId, organizationOf, organizations, type Presented, type World } from './world.js'

/** What a person took away or promised, as the commands know it and not as the kit tells it. */
export interface Ledger {
  /** Memberships that an administrator removed, with the time of it. */
  readonly removed: Map<string, number>
  /** Pending invitations. */
  readonly invitations: Map<string, { organization: string; email: string; at: number; expiresAt: number }>
}

export const held = (user: string, organization: string) => `${user}@${organization}`

/** The grants that only a person may take away. */
export async function grantsByHand(world: World): Promise<Set<string>> {
  const byHand = (source: GrantSource) => source === 'manual' || source.startsWith('invitation:')
  return new Set(
    (await everyUser(world.store)).flatMap((user) =>
      user.memberships.flatMap(({ organization, grants }) =>
        grants
          .filter(({ source }) => byHand(source))
          .map(({ role, source }) => JSON.stringify([user.id, organization, role, source])),
      ),
    ),
  )
}

export interface SignInFacts {
  readonly presented: Presented
  readonly now: number
  /** Invitations that were pending when it began. */
  readonly invitations: readonly { organization: string; email: string; at: number; expiresAt: number }[]
}

/** Whether policy accepts what was presented as a reason to join an organization; asked of nobody's plan. */
async function mayJoin(
  world: World,
  { presented, now, invitations }: SignInFacts,
  organization: string,
  user: string,
) {
  const { email, source } = presented
  if (email === null) return false
  const name = email.split('@')[1]!
  const invited = invitations.some(
    (entry) => entry.organization === organization && entry.email === email && entry.expiresAt > now,
  )
  if (source.startsWith('connection:')) {
    const id = source.slice('connection:'.length) as ConnectionId
    const connection = await world.connection(id)
    const vouched = covers(connection!.vouchesFor, name) && presented.emailVerified !== 'no'
    return (
      organizationOf(id) === organization &&
      connection!.enabled &&
      vouched &&
      (connection!.jit.join || invited)
    )
  }
  if (presented.emailVerified !== 'yes') return false
  const opens = async (address: string) => {
    const { owner, sso } = await world.domain(address.split('@')[1]!)
    return owner?.id === organization && owner.domainJit.enabled && sso.length === 0
  }
  // The account's own address counts as well, where the domain takes in accounts that were there before.
  const own = (await everyUser(world.store)).find(({ id }) => id === user)?.verifiedEmail ?? email
  return own === email
    ? opens(email)
    : (await opens(own)) && world.settings.organizations[organization as 'acme'].existingUsers
}

/** Every invariant that a sign-in broke. */
export async function brokenBySignIn(
  world: World,
  ledger: Ledger,
  facts: SignInFacts,
  events: readonly AuditEvent[],
  before: ReadonlySet<string>,
): Promise<string[]> {
  const broken: string[] = []
  for (const { type, user, organization, detail } of events) {
    if (type === 'joined') {
      if (!(await mayJoin(world, facts, organization!, user!)))
        broken.push(`joined ${organization} without a proof`)
      const at = ledger.removed.get(held(user!, organization!))
      const newer = facts.invitations.some(
        (entry) =>
          entry.organization === organization && entry.email === facts.presented.email && entry.at > at!,
      )
      if (at !== undefined && !newer) broken.push(`${user} came back to ${organization} after removal`)
    }
    if (type === 'granted') {
      const { role, source } = detail as { role: string; source: string }
      const { assignable } = world.settings.organizations[organization as 'acme']
      if (!source.startsWith('invitation:') && !assignable.includes(role))
        broken.push(`${role} above the ceiling`)
      if (!source.startsWith('invitation:') && role === 'owner') broken.push(`owner by ${source}`)
    }
  }
  const after = await grantsByHand(world)
  const claimed = events.filter(({ type }) => type === 'claimed').map(({ user }) => user)
  for (const grant of before) {
    const [user] = JSON.parse(grant) as [string]
    if (!after.has(grant) && !claimed.includes(user)) broken.push(`a sign-in took ${grant}`)
  }
  return broken
}

/**
 * Every invariant that does not hold, whatever happened.
 * @param seats taken before, by organization: a limit that was lowered takes nobody out
 */
export async function broken(world: World, seats: Map<string, number>): Promise<string[]> {
  const found: string[] = []
  const users = await everyUser(world.store)
  const emails = users.flatMap(({ verifiedEmail }) => verifiedEmail ?? [])
  if (new Set(emails).size < emails.length) found.push('two users with one verified address')
  const events = await everyEvent(world.store)
  const [replayed, stored] = [replay(events), await told(world.store, organizations)]
  if (JSON.stringify(sorted(replayed)) !== JSON.stringify(sorted(stored)))
    found.push(`the trail tells another state:\n${JSON.stringify(replayed)}\n${JSON.stringify(stored)}`)
  const snapshot = await world.store.load({ email: null, organizations })
  for (const { id, seatsUsed, owners, seatLimit } of snapshot.organizations) {
    const members = users.flatMap((user) =>
      user.memberships.filter(({ organization }) => organization === id).map((entry) => ({ user, ...entry })),
    )
    const seated = members.filter(({ seat }) => seat).length
    if (seated !== seatsUsed) found.push(`${id} counts ${seatsUsed} seats, ${seated} are taken`)
    const active = members.filter(
      ({ user, status, grants }) =>
        user.status === 'active' && status === 'active' && grants.some(({ role }) => role === 'owner'),
    ).length
    if (active !== owners) found.push(`${id} counts ${owners} owners, there are ${active}`)
    if (seatLimit !== null && seated > Math.max(seatLimit, seats.get(id) ?? 0))
      found.push(`${id} is oversold`)
    seats.set(id, seated)
  }
  return found
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  )
}
