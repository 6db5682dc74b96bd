import type { AttributePlan } from './attributes.js'
import { type Decision, emailHash, eventsOf } from './audit.js'
import type { AssertedIdentity } from './identity.js'
import type { Plan, Reason, SignIn } from './plan.js'
import { type Organization, ownerRole } from './policy.js'
import type { RolePlan } from './roles.js'
import type {
  ChangeSet,
  Grant,
  Guard,
  IdentityKey,
  InvitationFacts,
  Membership,
  Operation,
  Snapshot,
  Tombstone,
  UserFacts,
} from './store.js'
import { suspensions } from './tombstones.js'

/** What the rules have settled of a sign-in that is allowed. */
export interface Settled {
  readonly user: UserFacts | null
  readonly known: UserFacts | null
  readonly claimed: UserFacts | null
  /** Identities of the same connection that end with this one. */
  readonly former: readonly IdentityKey[]
  /** Several accounts that carried the address unproved, and lose it. */
  readonly carriers: readonly UserFacts[]
  readonly trusted: boolean
  readonly separate: boolean
  readonly organization: Organization | null
  readonly member: Membership | null
  readonly joins: boolean
  /** Takes a seat, in joining or after waiting for one. */
  readonly seat: boolean
  readonly leaves: boolean
  readonly accepted: readonly InvitationFacts[]
  /** Tombstones that an invitation lifts. */
  readonly lifted: readonly Tombstone[]
  /** Hashes by which this person would be known to be removed, where an account is made or claimed, and joins. */
  readonly hashes: readonly string[]
  /** Removals of a user that an invitation lifts, and those of a membership by its organization's hashes. */
  readonly restored: Snapshot['removed']
  readonly unbarred: Snapshot['removed']
  readonly roles: RolePlan
  readonly attributes: AttributePlan | null
  readonly adopted: AssertedIdentity['email']
}

type Allowed = Omit<Extract<Plan, { verdict: 'allow' }>, 'trace' | 'conflicts' | 'invitations'>

/** Writes out what was settled: the change set with its guards and events, and the user as they will be. */
export function settledPlan(
  signIn: SignIn,
  settled: Settled,
  decision: (reason: Reason, user: string) => Omit<Decision, 'facts'>,
): Allowed {
  const { identity, snapshot } = signIn
  const { user, known, claimed, organization, member, joins, seat, leaves, roles, attributes, adopted } =
    settled
  const id = user?.id ?? signIn.ids.user
  const address = settled.trusted ? (identity.email?.address ?? null) : null
  const contact = address ?? (settled.separate ? null : (identity.email?.address ?? null))
  const links = !known && identity.source !== 'provider:email'
  const ops = operations(signIn, settled, { id, address, contact, links })
  const reason = reasonOf(settled, links, ops.length > 0)
  // What is kept for previews alone changes nothing about the user.
  const noted = identity.source !== 'provider:email' && (links || snapshot.asserted !== signIn.digest)
  const { source, issuer, subject } = identity
  const all: Operation[] = noted
    ? [
        ...ops,
        {
          op: 'identity.assert',
          user: id,
          source,
          issuer,
          subject,
          digest: signIn.digest,
          asserted: signIn.asserted,
        },
      ]
    : ops
  const touched = [...(user ? [user] : []), ...settled.carriers]
  const changes = (): ChangeSet => {
    const guards = guardsOf(signIn, settled, id)
    return {
      id: signIn.ids.change,
      expect: touched.map((entry) => ({ user: entry.id, version: entry.version })),
      guards,
      ops: all,
      events: eventsOf(decision(reason, id), { ops: all, guards }, signIn.hash, touched),
    }
  }
  const kept = user && !claimed ? user : null
  const held = member !== null && !leaves
  return {
    verdict: 'allow',
    outcome: !user ? 'created' : claimed || links ? 'linked' : ops.length > 0 ? 'updated' : 'unchanged',
    reason,
    changes: all.length > 0 ? changes() : null,
    after: {
      user: {
        id,
        version: user ? user.version + (all.length > 0 ? 1 : 0) : 1,
        status: 'active',
        epoch: (user?.epoch ?? 0) + (claimed || settled.former.length > 0 ? 1 : 0),
        verifiedEmail: adopted?.address ?? (kept ? kept.verifiedEmail : address),
        contactEmail: adopted?.address ?? (kept ? kept.contactEmail : contact),
        attributes: attributes?.after ?? user?.attributes ?? identity.profile,
      },
      membership:
        held || joins
          ? {
              organization: organization!.id,
              status: member?.status ?? 'active',
              seat: seat || (member?.seat ?? false),
              grants: roles.after,
            }
          : null,
      connectionEpoch: snapshot.connection?.epoch ?? 0,
    },
    joined: joins ? [organization!.id] : [],
    granted: without(roles.add, member?.grants ?? []),
    revoked: without(roles.remove, roles.after),
  }
}

/** The roles of some grants that are not among those of others, each once. */
function without(grants: readonly Grant[], others: readonly Grant[]): string[] {
  const known = new Set(others.map(({ role }) => role))
  return [...new Set(grants.map(({ role }) => role))].filter((role) => !known.has(role))
}

function operations(
  signIn: SignIn,
  settled: Settled,
  about: { id: string; address: string | null; contact: string | null; links: boolean },
): Operation[] {
  const { identity, hash, now: at } = signIn
  const { user, claimed, joins, seat, leaves, member, roles, attributes, adopted } = settled
  const { id, address, contact, links } = about
  const ops: Operation[] = []
  if (claimed && address) ops.push({ op: 'user.claim', id: claimed.id, verifiedEmail: address })
  if (!user) {
    ops.push({
      op: 'user.create',
      id,
      status: 'active',
      verifiedEmail: address,
      contactEmail: contact,
      attributes: identity.profile,
      at,
    })
  }
  for (const { hash, at: until } of settled.restored) ops.push({ op: 'removed.remove', hash, until })
  for (const key of settled.former) ops.push({ op: 'identity.unlink', user: id, ...key })
  if (links) {
    const { source, issuer, subject } = identity
    ops.push({ op: 'identity.link', user: id, source, issuer, subject, at })
  }
  const organization = settled.organization?.id ?? ''
  for (const { role } of settled.lifted) ops.push({ op: 'tombstone.remove', user: id, organization, role })
  for (const { hash, at: until } of settled.unbarred) {
    ops.push({ op: 'removed.remove', hash, until, organization })
  }
  if (joins) ops.push({ op: 'membership.create', user: id, organization, status: 'active', seat, at })
  else if (seat) ops.push({ op: 'membership.update', user: id, organization, status: member!.status, seat })
  for (const grant of roles.add) ops.push({ op: 'grant.add', user: id, organization, ...grant, at })
  for (const { role, source, because } of roles.remove) {
    ops.push({ op: 'grant.remove', user: id, organization, role, source, because })
  }
  if (leaves) ops.push({ op: 'membership.remove', user: id, organization })
  const endSessions = settled.former.length > 0
  if (user && (attributes || adopted || endSessions)) {
    ops.push({
      op: 'user.update',
      id,
      set: {
        ...(attributes && { attributes: attributes.after }),
        ...(adopted && { verifiedEmail: adopted.address, contactEmail: adopted.address }),
        ...(endSessions && { endSessions }),
      },
    })
  }
  if (user?.verifiedEmail && adopted) {
    ops.push(...suspensions(user, hash, [emailHash(hash, user.verifiedEmail)], at))
  }
  for (const carrier of settled.carriers) {
    ops.push({ op: 'user.update', id: carrier.id, set: { contactEmail: null } })
  }
  return ops
}

function guardsOf({ way }: SignIn, settled: Settled, user: string): Guard[] {
  const { organization, member, joins, seat, leaves, roles, accepted } = settled
  const guards: Guard[] = []
  const sso = way.kind === 'connection' ? way.connection : null
  if (organization && (sso || joins || seat)) {
    guards.push({ guard: 'organization', id: organization.id, version: organization.version })
  }
  if (sso) guards.push({ guard: 'connection', id: sso.id, version: sso.version })
  if (seat) guards.push({ guard: 'seats', organization: organization!.id, by: 1 })
  if (leaves && member!.seat) guards.push({ guard: 'seats', organization: organization!.id, by: -1 })
  for (const { id } of accepted) guards.push({ guard: 'invitation', id, user })
  if (joins && roles.after.some(({ role }) => role === ownerRole)) {
    guards.push({ guard: 'owners', organization: organization!.id, by: 1 })
  }
  // Who was made and removed since this was planned has no version left that would miss.
  if (settled.hashes.length > 0) guards.push({ guard: 'unremoved', hashes: settled.hashes })
  return guards
}

function reasonOf(
  { user, claimed, former, separate, joins }: Settled,
  links: boolean,
  changed: boolean,
): Reason {
  if (!user) return separate ? 'outsider_created' : joins ? 'user_provisioned' : 'user_created'
  if (claimed) return 'account_claimed'
  if (former.length > 0) return 'subject_migrated'
  if (links) return 'identity_linked'
  if (joins) return 'membership_created'
  return changed ? 'identity_synced' : 'identity_known'
}
