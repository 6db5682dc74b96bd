import { normalizeEmail } from './identity.js'
import { type DenyReason, type DomainFacts, type Plan, planSignIn } from './plan.js'
import { type Connection, type Organization, ownerRole } from './policy.js'
import type { PolicyChange } from './policy-change.js'
import type { AssertedRow, ConnectionFacts, InvitationFacts, Membership, OrganizationFacts } from './store.js'

/** What a changed policy would do to the people of an organization, compared with the policy in force. */
export interface OrganizationPreview {
  readonly organization: string
  /** Those that have people to look at. */
  readonly connections: readonly string[]
  /** How many identities were looked at; not `complete` where there are more. */
  readonly identities: number
  readonly complete: boolean
  /** Grants that these people have in the organization now, and those that come and go. */
  readonly grants: number
  readonly granted: number
  readonly revoked: number
  /** Revoked of all. */
  readonly share: number
  /** How many people. */
  readonly gaining: number
  readonly losing: number
  readonly joining: number
  readonly leaving: number
  readonly refused: number
  readonly admitted: number
  /** Whether the only owner is among those who lose something or are refused. */
  readonly lastOwner: boolean
  /** It takes more than may go without a look, so it is not taken until the digest is accepted. */
  readonly guarded: boolean
}

/** A role that comes or goes, by which rule where one says so. */
export interface RoleChange {
  readonly role: string
  readonly because: string | null
}

/** What is different for one person. */
export interface PersonPreview {
  readonly user: string
  readonly organization: string
  readonly connection: string
  readonly gains: readonly RoleChange[]
  readonly loses: readonly RoleChange[]
  readonly membership: 'joins' | 'leaves' | null
  /** Why the person no longer comes in. */
  readonly refused: DenyReason | null
  /** Whether somebody comes in who is refused now. */
  readonly admitted: boolean
}

/** An organization whose counters go on while its people sign in one after the other. */
type Counters = { -readonly [K in keyof OrganizationFacts]: OrganizationFacts[K] }

type Sums = Omit<OrganizationPreview, 'connections' | 'share' | 'guarded'>

/** An organization twice: with the policy in force, and with the one that is to come. */
export interface Scene {
  readonly sums: { -readonly [K in keyof Sums]: Sums[K] } & { readonly connections: string[] }
  /** Owners before anything changes. */
  readonly owners: number
  /** People whose grants were counted, where somebody may come twice. */
  readonly counted: Set<string> | null
  readonly present: Counters
  readonly coming: Counters
  readonly invitations: readonly InvitationFacts[]
}

/** @param several whether people may come by more than one connection */
export function sceneOf(
  facts: OrganizationFacts,
  invitations: readonly InvitationFacts[],
  several: boolean,
): Scene {
  const { id: organization, owners } = facts
  const sums = {
    ...{ organization, connections: [], identities: 0, complete: true, grants: 0, granted: 0, revoked: 0 },
    ...{ gaining: 0, losing: 0, joining: 0, leaving: 0, refused: 0, admitted: 0, lastOwner: false },
  }
  const counted: Set<string> | null = several ? new Set() : null
  return { sums, owners, counted, present: { ...facts }, coming: { ...facts }, invitations }
}

/** What one sign-in is planned with, besides the person. */
export interface Circumstances {
  readonly stored: ConnectionFacts | null
  /** Who answers for the asserted address, under each of the two policies. */
  readonly domain: { readonly present: DomainFacts | null; readonly coming: DomainFacts | null }
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** Refusals that are about the person and not about any policy. */
const personal: readonly DenyReason[] = ['user_suspended', 'membership_suspended']

/**
 * Plans the next sign-in of somebody who asserts what they asserted last, under both policies, and adds what is
 * different to the sums of the scene; null where nothing is. A sync that is held is so under the policy in force alone.
 */
export function compare(
  scene: Scene,
  { organization, connection, present }: PolicyChange,
  row: AssertedRow,
  { stored, domain, now }: Circumstances,
): PersonPreview | null {
  const { sums, owners, counted, invitations } = scene
  const common = { invitations, now }
  const before =
    present && plan(scene.present, row, { ...present, ...common, stored, domain: domain.present })
  const after = plan(scene.coming, row, {
    ...{ organization, connection, ...common, domain: domain.coming },
    stored: stored && { ...stored, held: null },
  })
  const { user } = row
  const member = user.memberships.find((entry) => entry.organization === organization.id) ?? null
  const membershipBy = (plan: Plan | null) => (plan?.verdict === 'allow' ? plan.after.membership : member)
  const [was, will] = [membershipBy(before), membershipBy(after)]
  const lacking = (some: Membership | null, all: Membership | null) =>
    (some?.grants ?? []).filter(({ role }) => !all?.grants.some((grant) => grant.role === role))
  const [gained, lost] = [lacking(will, was), lacking(was, will)]
  const denied = after.verdict === 'deny' && before?.verdict !== 'deny' ? after.reason : null
  const refused = denied && (before || !personal.includes(denied)) ? denied : null
  const admitted = before?.verdict === 'deny' && after.verdict !== 'deny'
  const membership = !was && will ? 'joins' : was && !will ? 'leaves' : null

  sums.identities += 1
  if (!counted?.has(user.id)) sums.grants += member?.grants.length ?? 0
  counted?.add(user.id)
  sums.granted += gained.length
  sums.revoked += lost.length
  if (gained.length > 0) sums.gaining += 1
  if (lost.length > 0) sums.losing += 1
  if (membership === 'joins') sums.joining += 1
  if (membership === 'leaves') sums.leaving += 1
  if (refused) sums.refused += 1
  if (admitted) sums.admitted += 1
  const owns = member?.grants.some(({ role }) => role === ownerRole)
  if (owns && owners === 1 && (lost.length > 0 || refused)) sums.lastOwner = true

  if (gained.length + lost.length === 0 && !membership && !refused && !admitted) return null
  const told = (op: 'grant.add' | 'grant.remove', grants: Membership['grants']): RoleChange[] =>
    [...new Set(grants.map(({ role }) => role))].map((role) => {
      const rule = after.changes?.ops.find((entry) => entry.op === op && entry.role === role)
      return { role, because: (rule && 'because' in rule && rule.because) || null }
    })
  return {
    ...{ user: user.id, organization: organization.id, connection: connection.id },
    ...{ gains: told('grant.add', gained), loses: told('grant.remove', lost) },
    ...{ membership, refused, admitted },
  }
}

/** A sign-in of somebody who asserts what they asserted last; the next one is planned on what it leaves behind. */
function plan(
  counters: Counters,
  { identity, asserted, user }: AssertedRow,
  about: {
    readonly organization: Organization
    readonly connection: Connection
    readonly stored: ConnectionFacts | null
    readonly domain: DomainFacts | null
    readonly invitations: readonly InvitationFacts[]
    readonly now: number
  },
): Plan {
  const { organization, connection, stored, domain, invitations, now } = about
  const email = asserted.email === null ? null : normalizeEmail(asserted.email)
  const { version } = connection
  const planned = planSignIn({
    identity: { ...identity, ...asserted, email, sourceVersion: version, omitted: [], claims: {}, at: now },
    way: { kind: 'connection', connection, organization },
    snapshot: {
      byIdentity: user,
      asserted: 'the same',
      byId: null,
      byVerifiedEmail: email && user.verifiedEmail === email.address ? user : null,
      byContactEmail: [],
      organizations: [
        {
          ...counters,
          version: organization.version,
          status: organization.status,
          seatLimit: organization.seatLimit,
        },
      ],
      connection: stored && { ...stored, version, enabled: connection.enabled },
      invitations: email ? invitations.filter((invitation) => invitation.email === email.address) : [],
      removed: [],
    },
    ...{ domain, ownDomain: null, proof: null, otherWays: [], chosen: () => null, now },
    ...{ asserted, digest: 'the same', hash: () => '', ids: { user: '', change: '', correlation: '' } },
  })
  for (const guard of planned.verdict === 'allow' ? (planned.changes?.guards ?? []) : []) {
    if (guard.guard === 'seats') counters.seatsUsed += guard.by
  }
  return planned
}
