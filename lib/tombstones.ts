import { type Hash, membershipHashes, personHashes } from './audit.js'
import type { SignIn } from './plan.js'
import type { Organization } from './policy.js'
import type { InvitationFacts, Membership, Operation, Snapshot, Tombstone, UserFacts } from './store.js'

/** What a person took away of somebody, and what newer invitations bring back. */
export interface Removals {
  /** The user was removed, and no invitation is newer. */
  readonly gone: boolean
  /** What a removal of this person is known by; of whoever has an account nothing. */
  readonly hashes: readonly string[]
  /** What the removal of the membership is known by; of whoever has an account nothing. */
  readonly memberHashes: readonly string[]
  /** Removals of the user that an invitation overrules. */
  readonly restored: Snapshot['removed']
  /** Removals of a membership under a former account, or before a change of address, that an invitation lifts. */
  readonly unbarred: Snapshot['removed']
  /** The membership was removed, and no invitation is newer. */
  readonly barred: boolean
  /** Roles that stay away; `null` for the membership itself. */
  readonly roles: ReadonlySet<string | null>
  /** Invitations to the organization in question, for somebody who may join it. */
  readonly accepted: readonly InvitationFacts[]
  /** Tombstones that they lift. */
  readonly lifted: readonly Tombstone[]
  /** Every invitation that is good for this person, here or elsewhere. */
  readonly open: readonly InvitationFacts[]
  readonly finding: string
}

/**
 * Weighs tombstones against invitations for the person's proved address. The newer of the two counts, and of two in
 * the same moment the tombstone. An invitation lifts the removal of a membership and of its own role, of no other.
 * The removal of a membership outlives the account, by hashes of the organization's own; that of a role does not.
 */
export function weighTombstones(
  { identity, snapshot, hash, now }: Pick<SignIn, 'identity' | 'snapshot' | 'hash' | 'now'>,
  about: {
    /** The account that is recognised or matched, or that is claimed. */
    readonly user: UserFacts | null
    readonly claimed: boolean
    readonly organization: Organization | null
    readonly member: Membership | null
    /** Whether the address is proved. */
    readonly trusted: boolean
  },
): Removals {
  const { user, claimed, organization, member, trusted } = about
  const asserted = trusted ? identity.email!.address : null
  const fresh = !user || claimed
  // An account that is known by its subject has the address it took, whatever its IdP says today.
  const address = fresh || user.verifiedEmail === asserted ? asserted : null
  const person = personHashes(hash, [identity], address)
  // Whoever is known here was not removed; what is claimed was never anybody's.
  const hashes = fresh ? person : []
  const own = fresh || user.verifiedEmail === address ? null : user.verifiedEmail
  const known = [...person, ...personHashes(hash, [], own)]
  // Whoever is a member was let in since.
  const memberHashes = organization && !member ? membershipHashes(hash, organization.id, known) : []
  const barring = snapshot.removed.filter((entry) => memberHashes.includes(entry.hash))
  const gone = snapshot.removed.filter((entry) => hashes.includes(entry.hash))
  const held = user?.tombstones.filter((stone) => stone.organization === organization?.id) ?? []
  const stones = [...held, ...barring.map(({ at }) => ({ role: null, at }))]
  const overruled = ({ organization: where, role, at }: InvitationFacts) =>
    gone.some((entry) => entry.at >= at) ||
    (where === organization?.id &&
      stones.some((stone) => stone.at >= at && (stone.role === null || stone.role === role)))
  const open = snapshot.invitations.filter(
    (invitation) => invitation.email === address && invitation.expiresAt > now && !overruled(invitation),
  )
  const accepted = member
    ? []
    : open.filter(
        ({ organization: where, role }) => where === organization?.id && organization.roles.includes(role),
      )
  const lifted =
    accepted.length === 0
      ? []
      : held.filter(({ role }) => role === null || accepted.some((invitation) => invitation.role === role))
  const unbarred = accepted.length === 0 ? [] : barring
  const left = held.filter((stone) => !lifted.includes(stone))
  const barred = left.some(({ role }) => role === null) || barring.length > unbarred.length
  const refused = gone.length > 0 && open.length === 0
  return {
    gone: refused,
    hashes,
    memberHashes: fresh ? memberHashes : [],
    restored: gone,
    unbarred,
    barred,
    roles: new Set(left.map(({ role }) => role)),
    accepted,
    lifted,
    open,
    finding: refused
      ? 'user_removed'
      : barred
        ? 'membership_removed'
        : left.length > 0
          ? 'roles_removed'
          : lifted.length + unbarred.length + gone.length > 0
            ? 'overridden_by_invitation'
            : 'none',
  }
}

/** Keeps a person out of an organization by hashes of its own, whatever becomes of the account. */
export const barring = (
  hash: Hash,
  { user, organization, at }: { user: string; organization: string; at: number },
  person: readonly string[],
): Operation[] =>
  membershipHashes(hash, organization, person).map((entry) => ({
    op: 'removed.put',
    hash: entry,
    at,
    user,
    organization,
  }))

/**
 * A suspended membership keeps out what the account loses like one that was removed: another account would otherwise
 * lead around it.
 */
export const suspensions = (
  { id: user, memberships }: UserFacts,
  hash: Hash,
  person: readonly string[],
  at: number,
): Operation[] =>
  memberships
    .filter(({ status }) => status === 'suspended')
    .flatMap(({ organization }) => barring(hash, { user, organization, at }, person))
