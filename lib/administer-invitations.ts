import type { Acting, AdminFacts, Draft, Refused } from './administer.js'
import type { CommandOf } from './administer-command.js'
import { barsOf, memberOf, policyOf, stoneOf, unbarring, withMember } from './administer-members.js'
import { emailHash, membershipHashes } from './audit.js'
import type { Operation } from './store.js'

/**
 * Invites an address. One that waits already with the same role stands for it, unless what it would have to lift
 * was taken away since. One that has lapsed gives way.
 */
export function invite(
  { organization, email, role, expiresIn }: CommandOf<'invite'>,
  facts: AdminFacts,
  { now, ids }: Acting,
): Draft | Refused {
  const policy = policyOf(facts, organization, role)
  if ('refused' in policy) return policy
  const { snapshot, hash } = facts
  const invited = snapshot.byVerifiedEmail
  const stones = [null, role].flatMap((what) => (invited && stoneOf(invited, organization, what)) ?? [])
  const person = [emailHash(hash, email)]
  const hashes = [...person, ...membershipHashes(hash, organization, person)]
  const removed = snapshot.removed.filter((entry) => hashes.includes(entry.hash))
  const taken = Math.max(...[...stones, ...removed].map(({ at }) => at), Number.NEGATIVE_INFINITY)
  const alike = snapshot.invitations.filter(
    (entry) => entry.organization === organization && entry.email === email && entry.role === role,
  )
  const waiting = alike.find(({ at, expiresAt }) => expiresAt > now && at > taken)
  if (waiting) return { ops: [], invitation: waiting.id }
  const id = ids.invitation
  // Newer than the removal it is to lift, which a process with another clock may have dated.
  const at = Math.max(now, taken + 1)
  const made = { id, organization, email, role, at, expiresAt: now + expiresIn }
  // What nobody can accept any more would be read with every sign-in of that address, whomever it signs in to.
  const dead = alike.map((entry): Operation => ({ op: 'invitation.withdraw', id: entry.id, organization }))
  return { policy, invitation: id, ops: [...dead, { op: 'invitation.create', ...made }] }
}

export function withdraw(
  { invitation: id, organization }: CommandOf<'withdraw'>,
  { snapshot }: AdminFacts,
): Draft | Refused {
  const found = snapshot.invitations.find((entry) => entry.id === id && entry.organization === organization)
  return found ? { ops: [{ op: 'invitation.withdraw', id, organization }] } : notForThem(id)
}

/** Joins by an invitation for the person's own proved address, or adds its role to the membership they have. */
export function accept(
  { invitation: id, user: person }: CommandOf<'accept'>,
  facts: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  const { snapshot } = facts
  const user = snapshot.byId
  if (!user) return { refused: 'user_unknown', why: `there is no user "${person}"` }
  const source = `invitation:${id}` as const
  if (user.memberships.some(({ grants }) => grants.some((entry) => entry.source === source)))
    return { ops: [] }
  const invitation = snapshot.invitations.find((entry) => entry.id === id)
  if (!invitation || invitation.expiresAt <= now || invitation.email !== user.verifiedEmail)
    return notForThem(id)
  const { organization, role } = invitation
  const stones = [null, role].flatMap((what) => stoneOf(user, organization, what) ?? [])
  const bars = barsOf(user, organization, facts)
  const member = memberOf(user, organization)
  // Whoever is a member was let in since they were kept out.
  const weighed = [...stones, ...(member ? [] : bars)]
  if (weighed.some(({ at }) => at >= invitation.at)) return notForThem(id)
  if (user.status !== 'active') return { refused: 'user_suspended', why: `user "${person}" is suspended` }
  const policy = policyOf(facts, organization, role)
  if ('refused' in policy) return policy
  if (member?.status === 'suspended') {
    return {
      refused: 'membership_suspended',
      why: `the membership of "${person}" in "${organization}" is suspended`,
    }
  }

  const stored = snapshot.organizations.find((entry) => entry.id === organization)!
  const free = stored.seatLimit === null || stored.seatsUsed < stored.seatLimit
  const seat = free || policy.whenFull === 'deny'
  const ops: Operation[] = stones.map((stone) => ({
    op: 'tombstone.remove',
    user: user.id,
    organization,
    role: stone.role,
  }))
  ops.push(...unbarring(organization, bars))
  if (!member) {
    ops.push({ op: 'membership.create', user: user.id, organization, status: 'active', seat, at: now })
  }
  const given = { role, source, basis: 'person' } as const
  ops.push({ op: 'grant.add', user: user.id, organization, ...given, at: now, because: 'by invitation' })
  const before = member ?? { organization, status: 'active' as const, seat, grants: [] }
  const after = withMember(user, { ...before, grants: [...before.grants, given] })
  return { user, after, policy, accepts: invitation, invitation: id, ops }
}

/** One answer whatever is wrong with it, so that it tells nothing about other people's. */
const notForThem = (id: string): Refused => ({
  refused: 'invitation_unknown',
  why: `invitation "${id}" is not pending, has expired, or is for somebody else or another organization`,
})
