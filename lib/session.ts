import * as z from 'zod'
import type { Source } from './identity.js'
import type { Reason } from './plan.js'
import type { Provisioned } from './provision.js'
import type { Directory, Grant, InvitationFacts, Membership, Store, UserRecord } from './store.js'

/** What a sign-in did, as the app sees it in `req.jit`. */
export interface JitResult {
  readonly outcome: Provisioned['outcome']
  readonly reason: Reason
  /** Organizations joined, roles given and taken in this sign-in. */
  readonly joined: readonly string[]
  readonly granted: readonly string[]
  readonly revoked: readonly string[]
  /** Id of the audit trail's decision; null where nothing changed. */
  readonly decision: string | null
  readonly correlationId: string
  /** Where to go now: a checked path of this app. Only in the request that signs in. */
  readonly returnTo?: string
  /** Invitations that wait for the person to accept them. Only in the request that signs in. */
  readonly invitations?: readonly InvitationFacts[]
}

export interface SessionMembership extends Pick<Membership, 'organization' | 'status'> {
  readonly grants: readonly Pick<Grant, 'role' | 'source'>[]
  /**
   * Whether it counts in this session: one without a seat or without a role does not, and a role from SSO does not in a
   * session that came another way.
   */
  readonly active: boolean
  /** The roles that count in this session. */
  readonly roles: readonly string[]
}

/** The signed-in user, `req.user`. In the request that signs in, `memberships` has that organization only. */
export interface JitUser {
  readonly id: string
  /** Proved, or null. */
  readonly email: string | null
  readonly attributes: Readonly<Record<string, string>>
  readonly memberships: readonly SessionMembership[]
  /** How this session was proved. */
  readonly via: Source
  readonly epochs: Epochs
}

interface Epochs {
  readonly user: number
  readonly connection: number
}

/** All that the session holds. */
export interface SessionSlot {
  readonly id: string
  readonly epochs: Epochs
  readonly via: Source
  readonly jit: Omit<JitResult, 'returnTo' | 'invitations'>
}

/** Whom a serializer of the kit has put into a session; of any, for an app may have made several on one Passport. */
export const keptUsers = new WeakSet<object>()

/** As much of a slot as is read: a session store may also give back what another version or library kept there. */
const slotSchema = z.object({
  id: z.string(),
  epochs: z.object({ user: z.number(), connection: z.number() }),
  via: z.string(),
  jit: z.object({ correlationId: z.string() }),
})

/** The user of a sign-in that was just provisioned, without another read. */
export async function signedInUser(directory: Directory, via: Source, done: Provisioned): Promise<JitUser> {
  const { user, membership, connectionEpoch } = done.after
  const organization = await organizationOf(directory, via)
  const memberships = membership ? [{ ...membership, organizationStatus: 'active' as const }] : []
  return {
    id: user.id,
    email: user.verifiedEmail,
    attributes: user.attributes,
    memberships: await Promise.all(memberships.map((entry) => inSession(directory, organization, entry))),
    via,
    epochs: { user: user.epoch, connection: connectionEpoch },
  }
}

/**
 * The user of a session, in one read; null where the session has ended: the user gone or reset, the way in, or the
 * organization whose way in it was or their membership of it suspended; and where it is not one of this kit's.
 */
export async function sessionUser(
  store: Store,
  directory: Directory,
  slot: SessionSlot,
): Promise<JitUser | null> {
  if (!slotSchema.safeParse(slot).success) return null
  const record = await store.user(slot.id)
  if (record?.user.status !== 'active' || record.user.epoch !== slot.epochs.user) return null
  const [kind, id] = slot.via.split(/:(.*)/s) as ['connection' | 'provider', string]
  if (kind === 'provider') {
    if (!(await directory.provider(id))) return null
  } else {
    const stored = record.connections.find((connection) => connection.id === id)
    if (!stored?.enabled || stored.epoch !== slot.epochs.connection) return null
    if (!(await directory.connection(id))?.enabled) return null
  }
  const organization = await organizationOf(directory, slot.via)
  const member = record.memberships.find((entry) => entry.organization === organization)
  if (member?.status === 'suspended') return null
  // The row knows it first, and stands for members alone; the directory knows it of every organization.
  if (member?.organizationStatus === 'suspended') return null
  if (organization !== null && (await directory.organization(organization))?.status !== 'active') return null
  return {
    id: record.user.id,
    email: record.user.verifiedEmail,
    attributes: record.user.attributes,
    memberships: await Promise.all(
      record.memberships.map((entry) => inSession(directory, organization, entry)),
    ),
    via: slot.via,
    epochs: slot.epochs,
  }
}

/**
 * Which grants count here: `sso:` ones only in a session through that organization's SSO, all others in any,
 * unless the organization requires SSO. So who is removed at the IdP does not walk back in another way.
 */
async function inSession(
  directory: Directory,
  viaOrganization: string | null,
  membership: UserRecord['memberships'][number],
): Promise<SessionMembership> {
  const bySso = viaOrganization === membership.organization
  const organization = await directory.organization(membership.organization)
  const open =
    membership.status === 'active' &&
    membership.seat &&
    membership.organizationStatus === 'active' &&
    organization?.status === 'active' &&
    (bySso || !organization.requireSso)
  const counting = open ? membership.grants.filter((grant) => bySso || !grant.source.startsWith('sso:')) : []
  return {
    organization: membership.organization,
    status: membership.status,
    grants: membership.grants.map(({ role, source }) => ({ role, source })),
    active: counting.length > 0,
    roles: [...new Set(counting.map((grant) => grant.role))],
  }
}

async function organizationOf(directory: Directory, via: Source): Promise<string | null> {
  if (!via.startsWith('connection:')) return null
  return (await directory.connection(via.slice('connection:'.length)))?.organization ?? null
}
