import type { Acting, AdminFacts, Counted, Draft, Refused } from './administer.js'
import type { CommandOf } from './administer-command.js'
import { membershipHashes, personHashes } from './audit.js'
import type { Organization } from './policy.js'
import type {
  GrantSource,
  InvitationFacts,
  Membership,
  Operation,
  Snapshot,
  Tombstone,
  UserFacts,
} from './store.js'
import { barring } from './tombstones.js'

/** Suspends a membership, which frees its seat, or makes it active with a seat. */
export function setStatus(
  { verb, organization }: CommandOf<'suspend' | 'reactivate'> & { organization: string },
  facts: AdminFacts,
): Draft | Refused {
  const user = facts.snapshot.byId
  const member = memberOf(user, organization)
  if (!user || !member) return stranger(organization)
  const status = verb === 'suspend' ? 'suspended' : 'active'
  const seat = status === 'active'
  if (member.status === status && member.seat === seat) return { ops: [] }
  return {
    user,
    after: withMember(user, { ...member, status, seat }),
    ops: [
      { op: 'membership.update', user: user.id, organization, status, seat },
      // An address that changed meanwhile was kept out for the suspension alone.
      ...(status === 'active' ? unbarring(organization, barsOf(user, organization, facts)) : []),
    ],
  }
}

/**
 * Ends a membership for good: no policy brings it back, under another account or address neither. What is taken of
 * roles alone ends with the account.
 */
export function remove(
  { organization }: CommandOf<'remove'>,
  { snapshot, hash }: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  const user = snapshot.byId
  const member = memberOf(user, organization)
  if (user && !member && stoneOf(user, organization, null)) return { ops: [] }
  if (!user || !member) return stranger(organization)
  return {
    user,
    after: { ...user, memberships: others(user, organization) },
    ops: [
      { op: 'membership.remove', user: user.id, organization },
      { op: 'tombstone.put', user: user.id, organization, role: null, at: now },
      ...barring(
        hash,
        { user: user.id, organization, at: now },
        personHashes(hash, user.identities, user.verifiedEmail),
      ),
      { op: 'user.update', id: user.id, set: { endSessions: true } },
      ...overtaken(snapshot, (invitation) => invitation.organization === organization),
    ],
  }
}

/** Lets policies give again what a person took away: the membership, or the role that is named. */
export function readmit(
  { organization, role: named }: CommandOf<'readmit'>,
  facts: AdminFacts,
): Draft | Refused {
  const user = facts.snapshot.byId
  if (!user) return stranger(organization)
  const role = named ?? null
  const bars = barsOf(user, organization, facts)
  const known =
    memberOf(user, organization) ?? user.tombstones.find((stone) => stone.organization === organization)
  if (!known && bars.length === 0) return stranger(organization)
  const ops: Operation[] = role === null ? unbarring(organization, bars) : []
  if (stoneOf(user, organization, role))
    ops.push({ op: 'tombstone.remove', user: user.id, organization, role })
  return { user, ops }
}

/** Gives a role by hand, which no sync takes back. */
export function grant(
  { organization, role }: CommandOf<'grant'>,
  facts: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  const user = facts.snapshot.byId
  const member = memberOf(user, organization)
  if (!user || !member) return stranger(organization)
  const policy = policyOf(facts, organization, role)
  if ('refused' in policy) return policy
  const given = { role, source: 'manual', basis: 'person' } as const
  const held = member.grants.some((entry) => entry.role === role && entry.source === given.source)
  const stone = stoneOf(user, organization, role)
  const ops: Operation[] = []
  if (stone) ops.push({ op: 'tombstone.remove', user: user.id, organization, role })
  if (!held) ops.push({ op: 'grant.add', user: user.id, organization, ...given, at: now, because: 'by hand' })
  const grants = held ? member.grants : [...member.grants, given]
  return { user, after: withMember(user, { ...member, grants }), policy, ops }
}

/** Takes a role away wherever it came from, and keeps sync from giving it again. */
export function revoke(
  { organization, role }: CommandOf<'revoke'>,
  facts: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  const user = facts.snapshot.byId
  const member = memberOf(user, organization)
  if (!user || !member) return stranger(organization)
  const taken = member.grants.filter((entry) => entry.role === role)
  if (taken.length === 0 && !facts.organization?.roles.includes(role)) return noRole(organization, role)
  const ops: Operation[] = taken.map(({ source }) =>
    revocation(user.id, organization, role, source, 'by hand'),
  )
  if (!stoneOf(user, organization, role)) {
    ops.push({ op: 'tombstone.put', user: user.id, organization, role, at: now })
  }
  ops.push(
    ...overtaken(
      facts.snapshot,
      (invitation) => invitation.organization === organization && invitation.role === role,
    ),
  )
  const grants = member.grants.filter((entry) => entry.role !== role)
  return { user, after: withMember(user, { ...member, grants }), ops }
}

/** Withdraws what waits for the person's own address: it must not come back when the removal is lifted. */
export const overtaken = (
  { byId, invitations }: Snapshot,
  which: (invitation: InvitationFacts) => boolean,
): Operation[] =>
  invitations
    .filter((invitation) => invitation.email === byId?.verifiedEmail && which(invitation))
    .map(({ id, organization }) => ({ op: 'invitation.withdraw', id, organization }))

/** The organization, where it is active, unchanged since it was read, and has the role. */
export function policyOf(
  { organization, snapshot }: Pick<AdminFacts, 'organization' | 'snapshot'>,
  id: string,
  role: string,
): Organization | Refused {
  if (!organization) return { refused: 'organization_unknown', why: `there is no organization "${id}"` }
  const stored = snapshot.organizations.find((entry) => entry.id === id)
  if (stored?.version !== organization.version) {
    return { refused: 'connection_changed', why: `organization "${id}" is of another version in the store` }
  }
  if (organization.status !== 'active' || stored.status !== 'active') {
    return { refused: 'organization_suspended', why: `organization "${id}" is suspended` }
  }
  return organization.roles.includes(role) ? organization : noRole(id, role)
}

const noRole = (organization: string, role: string): Refused => ({
  refused: 'role_unknown',
  why: `organization "${organization}" has no role "${role}"`,
})

/** Who is no member is unknown here, whoever they may be elsewhere. */
const stranger = (organization: string): Refused => ({
  refused: 'user_unknown',
  why: `organization "${organization}" has no such member`,
})

export const memberOf = (user: UserFacts | null, organization: string): Membership | undefined =>
  user?.memberships.find((entry) => entry.organization === organization)

export const stoneOf = (user: UserFacts, organization: string, role: string | null): Tombstone | undefined =>
  user.tombstones.find((stone) => stone.organization === organization && stone.role === role)

/** What keeps the person of this account out of the organization, under a former account or address perhaps. */
export const barsOf = (
  { identities, verifiedEmail }: UserFacts,
  organization: string,
  { snapshot, hash, told }: AdminFacts,
): Snapshot['removed'] => {
  const own = membershipHashes(hash, organization, personHashes(hash, identities, verifiedEmail))
  return snapshot.removed.filter((entry) => own.includes(entry.hash) || told.includes(entry.hash))
}

export const unbarring = (organization: string, bars: Snapshot['removed']): Operation[] =>
  bars.map(({ hash, at: until }) => ({ op: 'removed.remove', hash, until, organization }))

/** The user with this membership in the place of the one they have there. */
export const withMember = (user: Counted, member: Membership): Counted => ({
  status: user.status,
  memberships: [...others(user, member.organization), member],
})

const others = ({ memberships }: Counted, organization: string) =>
  memberships.filter((entry) => entry.organization !== organization)

export const revocation = (
  user: string,
  organization: string,
  role: string,
  source: GrantSource,
  because: string,
): Operation => ({ op: 'grant.remove', user, organization, role, source, because })
