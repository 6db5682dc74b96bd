import { type Decision, eventsOf } from './audit.js'
import type { AssertedIdentity } from './identity.js'
import { type Connection, type Organization, ownerRole } from './policy.js'
import type {
  ChangeSet,
  Grant,
  GrantSource,
  Guard,
  Membership,
  Operation,
  Snapshot,
  User,
  UserFacts,
} from './store.js'

/** The rules, in the order in which they are asked. */
export const rules = [
  'connection',
  'email',
  'user',
  'status',
  'sso-domain',
  'tombstone',
  'provision',
  'seats',
  'roles',
  'attributes',
] as const
export type Rule = (typeof rules)[number]

/** What a rule found, in a few words, and with what. */
export interface TraceEntry {
  readonly rule: Rule
  readonly finding: string
  readonly detail?: string
}

/** Why a person may not come in; each is also an error code with its sentence. */
export type DenyReason =
  | 'connection_changed'
  | 'connection_disabled'
  | 'organization_suspended'
  | 'email_foreign'
  | 'email_outside'
  | 'email_unverified'
  | 'user_not_provisioned'
  | 'user_suspended'
  | 'membership_suspended'
  | 'subject_changed'
  | 'seats_full'

/** The closed union of reasons. */
export type Reason =
  | DenyReason
  /** A new account that joined the connection's organization. */
  | 'user_provisioned'
  /** A new account that joins nothing, because joining is off. */
  | 'user_created'
  /** A new account outside every vouched domain, by `outsiders: separate`. */
  | 'outsider_created'
  /** An existing account with the same verified e-mail; its first sign-in by this connection. */
  | 'identity_linked'
  /** A known identity that was not a member yet. */
  | 'membership_created'
  /** A known identity whose roles or attributes followed the IdP. */
  | 'identity_synced'
  /** A known identity with nothing to change. */
  | 'identity_known'
  /** A person's own doing: an administrator, an invitation. */
  | 'administered'

export type Outcome = 'created' | 'linked' | 'updated' | 'unchanged' | 'denied'

/** What the rules need to know of an identity; an asserted one, or a hypothesis of `explain`. */
export type IdentityFacts = Pick<AssertedIdentity, keyof AssertedIdentity>

export interface SignIn {
  readonly identity: IdentityFacts
  readonly connection: Connection
  /** The organization of the connection. */
  readonly organization: Organization
  /** Owner of the identity's e-mail domain, by the directory. */
  readonly emailOwner: string | null
  readonly snapshot: Snapshot
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Fresh ids, handed in so that planning stays pure. */
  readonly ids: { readonly user: string; readonly change: string; readonly correlation: string }
}

interface Common {
  readonly reason: Reason
  readonly trace: readonly TraceEntry[]
  /** What to write; null where nothing changes. */
  readonly changes: ChangeSet | null
}
export type Plan =
  | (Common & {
      readonly verdict: 'allow'
      readonly outcome: Exclude<Outcome, 'denied'>
      /** The user and the membership in the connection's organization as they will be. */
      readonly after: {
        readonly user: User
        readonly membership: Membership | null
        readonly connectionEpoch: number
      }
      /** Organizations joined and roles given or taken by this plan. */
      readonly joined: readonly string[]
      readonly granted: readonly string[]
      readonly revoked: readonly string[]
    })
  | (Common & { readonly verdict: 'deny'; readonly outcome: 'denied'; readonly reason: DenyReason })

/**
 * Whether the connection's word counts for the asserted address. `vouched`: it may be matched and adopted;
 * `foreign`: in a domain of another organization; `outside`: in nobody's, or owned but not vouched for.
 */
export type EmailStanding = 'vouched' | 'vetoed' | 'foreign' | 'unvouched' | 'outside' | 'absent'

export function emailStanding(
  identity: IdentityFacts,
  connection: Connection,
  emailOwner: string | null,
): EmailStanding {
  if (identity.email === null) return 'absent'
  if (connection.vouchesFor.includes(identity.email.domain)) {
    return identity.emailVerified === 'no' ? 'vetoed' : 'vouched'
  }
  if (emailOwner === null) return 'outside'
  return emailOwner === connection.organization ? 'unvouched' : 'foreign'
}

/** Decides one SSO sign-in. Pure: the same facts give the same plan, and nothing is read or written. */
export function planSignIn(signIn: SignIn): Plan {
  const { identity, connection, organization, snapshot } = signIn
  const trace: TraceEntry[] = []
  const note = (rule: Rule, finding: string, detail?: string) => {
    trace.push(detail === undefined ? { rule, finding } : { rule, finding, detail })
  }
  const standing = emailStanding(identity, connection, signIn.emailOwner)
  const known = snapshot.byIdentity
  const matched = standing === 'vouched' ? snapshot.byVerifiedEmail : null
  const user = known ?? matched

  const deny = (rule: Rule, reason: DenyReason): Plan => {
    note(rule, reason)
    const decision = decide(signIn, reason, user?.id ?? null, trace)
    const events = eventsOf(decision, [], true)
    const changes: ChangeSet = { id: signIn.ids.change, expect: [], guards: [], ops: [], events }
    return { verdict: 'deny', outcome: 'denied', reason, trace, changes }
  }

  // 1. connection: the directory's word and the store's must agree, and be the one the sign-in began under.
  const stored = snapshot.organizations.find((entry) => entry.id === organization.id)
  if (!connection.enabled || snapshot.connection?.enabled === false)
    return deny('connection', 'connection_disabled')
  if (organization.status !== 'active' || stored?.status === 'suspended') {
    return deny('connection', 'organization_suspended')
  }
  if (
    stored?.version !== organization.version ||
    snapshot.connection?.version !== connection.version ||
    identity.sourceVersion !== connection.version
  ) {
    return deny('connection', 'connection_changed')
  }
  note('connection', 'enabled')

  // 2. email: a known identity needs no address; everybody else needs one the connection vouches for.
  note('email', standing, identity.email?.domain)
  const separate =
    !known && connection.outsiders === 'separate' && (standing === 'outside' || standing === 'absent')
  if (!known && standing !== 'vouched' && !separate) {
    if (standing === 'foreign') return deny('email', 'email_foreign')
    return deny('email', standing === 'vetoed' ? 'email_unverified' : 'email_outside')
  }

  // 3. user: by identity, else by verified e-mail; an account that only carries the address proves nothing.
  if (!user && snapshot.byContactEmail.length > 0) {
    note('user', 'unproved_accounts_ignored', String(snapshot.byContactEmail.length))
  }
  note('user', known ? 'by_identity' : matched ? 'by_verified_email' : 'none')
  if (!known && matched?.identities.some((entry) => entry.source === identity.source)) {
    return deny('user', 'subject_changed')
  }

  // 4. status
  const member = user?.memberships.find((entry) => entry.organization === organization.id) ?? null
  if (user?.status === 'suspended') return deny('status', 'user_suspended')
  if (member?.status === 'suspended') return deny('status', 'membership_suspended')
  note('status', user ? 'active' : 'none')

  // 5. sso-domain: asked of other ways in; this one is the SSO.
  note('sso-domain', 'this_is_sso')

  // 6. tombstone
  const removed = user?.tombstones.filter((entry) => entry.organization === organization.id) ?? []
  const barred = removed.some((entry) => entry.role === null)
  note('tombstone', barred ? 'membership_removed' : removed.length > 0 ? 'roles_removed' : 'none')

  // 7. provision
  if (!user && !connection.jit.create) return deny('provision', 'user_not_provisioned')
  const joins = connection.jit.join && standing === 'vouched' && member === null && !barred
  note(
    'provision',
    [user ? (known ? 'known' : 'link') : 'create', joins ? 'join' : member ? 'member' : 'no_join'].join('+'),
    joins || member ? undefined : whyNotJoin(connection, standing, barred),
  )

  // 8. seats
  if (joins && stored.seatLimit !== null && stored.seatsUsed >= stored.seatLimit)
    return deny('seats', 'seats_full')
  note('seats', joins ? 'taken' : 'none_needed')

  // 9. roles
  const roles = planRoles(signIn, member, joins, new Set(removed.map((entry) => entry.role)))
  note('roles', roles.finding, roles.detail)

  // 10. attributes
  const attributes = planAttributes(signIn, user, known)
  note('attributes', attributes ? 'changed' : 'unchanged', attributes?.changed.join(', '))
  const adopted =
    known && connection.adoptEmail && standing === 'vouched' && !snapshot.byVerifiedEmail
      ? identity.email
      : null

  const ops: Operation[] = []
  const userId = user?.id ?? signIn.ids.user
  const at = signIn.now
  const address = standing === 'vouched' ? (identity.email?.address ?? null) : null
  if (!user) {
    ops.push({
      op: 'user.create',
      id: userId,
      status: 'active',
      verifiedEmail: address,
      contactEmail: address,
      attributes: identity.profile,
      at,
    })
  }
  if (!known) {
    const { source, issuer, subject } = identity
    ops.push({ op: 'identity.link', user: userId, source, issuer, subject, at })
  }
  if (joins) {
    ops.push({ op: 'membership.create', user: userId, organization: organization.id, status: 'active', at })
  }
  for (const grant of roles.add) {
    ops.push({ op: 'grant.add', user: userId, organization: organization.id, ...grant, at })
  }
  for (const { role, source } of roles.remove) {
    ops.push({ op: 'grant.remove', user: userId, organization: organization.id, role, source })
  }
  if (user && (attributes || adopted)) {
    ops.push({
      op: 'user.update',
      id: userId,
      set: {
        ...(attributes && { attributes: attributes.after }),
        ...(adopted && { verifiedEmail: adopted.address, contactEmail: adopted.address }),
      },
    })
  }

  const reason: Reason = !user
    ? separate
      ? 'outsider_created'
      : joins
        ? 'user_provisioned'
        : 'user_created'
    : !known
      ? 'identity_linked'
      : joins
        ? 'membership_created'
        : ops.length > 0
          ? 'identity_synced'
          : 'identity_known'
  return {
    verdict: 'allow',
    outcome: !user ? 'created' : !known ? 'linked' : ops.length > 0 ? 'updated' : 'unchanged',
    reason,
    trace,
    changes: ops.length > 0 ? changeSet(signIn, reason, userId, user, joins, ops, trace) : null,
    after: {
      user: {
        id: userId,
        version: user ? user.version + (ops.length > 0 ? 1 : 0) : 1,
        status: 'active',
        epoch: user?.epoch ?? 0,
        verifiedEmail: adopted?.address ?? (user ? user.verifiedEmail : address),
        contactEmail: adopted?.address ?? (user ? user.contactEmail : address),
        attributes: attributes?.after ?? user?.attributes ?? identity.profile,
      },
      membership:
        member || joins ? { organization: organization.id, status: 'active', grants: roles.after } : null,
      connectionEpoch: snapshot.connection.epoch,
    },
    joined: joins ? [organization.id] : [],
    granted: roles.add.map((grant) => grant.role),
    revoked: roles.remove.map((grant) => grant.role),
  }
}

function whyNotJoin(connection: Connection, standing: EmailStanding, barred: boolean): string {
  if (!connection.jit.join) return 'jit.join is off'
  return barred ? 'removed by a person' : `e-mail ${standing}`
}

interface RolePlan {
  finding: string
  detail?: string
  add: Grant[]
  remove: Grant[]
  after: Grant[]
}

/**
 * Default roles on joining, mapped roles on joining and later. Sync takes back only what this connection
 * gave for a group; unknown groups neither give nor take.
 */
function planRoles(
  signIn: SignIn,
  member: Membership | null,
  joins: boolean,
  removed: Set<string | null>,
): RolePlan {
  const { identity, connection, organization } = signIn
  const held = member?.grants ?? []
  if (!connection.jit.join || (!member && !joins))
    return { finding: 'left_alone', add: [], remove: [], after: [...held] }

  const source: GrantSource = `sso:${connection.id}`
  const assignable = (role: string) =>
    role !== ownerRole && organization.roles.includes(role) && !removed.has(role)
  const groups =
    identity.groups.kind === 'absent' && connection.groups.absent === 'empty'
      ? []
      : identity.groups.kind === 'listed'
        ? identity.groups.values
        : null
  const wanted = new Map<string, { grant: Grant; because: string }>()
  if (joins) {
    for (const role of connection.jit.roles.filter(assignable)) {
      wanted.set(role, { grant: { role, source, basis: 'default' }, because: `${role} by default` })
    }
  }
  for (const group of groups ?? []) {
    if (!Object.hasOwn(connection.groups.map, group)) continue
    for (const role of connection.groups.map[group]!.filter(assignable)) {
      if (!wanted.has(role))
        wanted.set(role, { grant: { role, source, basis: 'group' }, because: `${role} by group ${group}` })
    }
  }
  const own = held.filter((grant) => grant.source === source)
  const add = [...wanted.values()].filter(({ grant }) => !own.some((entry) => entry.role === grant.role))
  const remove =
    groups !== null && connection.groups.mode === 'sync'
      ? own.filter((grant) => grant.basis === 'group' && !wanted.has(grant.role))
      : []
  const detail = [
    ...add.map((entry) => entry.because),
    ...remove.map(({ role }) => `${role} no longer by group`),
  ].join('; ')
  return {
    finding:
      groups === null && connection.attributes.groups
        ? `groups_${identity.groups.kind}`
        : detail
          ? 'changed'
          : 'unchanged',
    ...(detail && { detail }),
    add: add.map((entry) => entry.grant),
    remove,
    after: [...held.filter((grant) => !remove.includes(grant)), ...add.map((entry) => entry.grant)],
  }
}

/** The attributes as they will be, or null where they stay. One that the IdP no longer sends stays. */
function planAttributes({ identity, connection }: SignIn, user: UserFacts | null, known: UserFacts | null) {
  if (!user) return null
  const { profileSync } = connection.jit
  if (profileSync === 'never' || (profileSync === 'first-sign-in' && known)) return null
  const changed = Object.keys(identity.profile).filter(
    (name) => user.attributes[name] !== identity.profile[name],
  )
  return changed.length > 0 ? { changed, after: { ...user.attributes, ...identity.profile } } : null
}

function decide(signIn: SignIn, reason: Reason, user: string | null, trace: readonly TraceEntry[]): Decision {
  return {
    change: signIn.ids.change,
    at: signIn.now,
    source: signIn.identity.source,
    correlationId: signIn.ids.correlation,
    user,
    organization: signIn.organization.id,
    reason,
    trace,
  }
}

function changeSet(
  signIn: SignIn,
  reason: Reason,
  userId: string,
  user: UserFacts | null,
  joins: boolean,
  ops: Operation[],
  trace: readonly TraceEntry[],
): ChangeSet {
  const { connection, organization, ids } = signIn
  const guards: Guard[] = [
    { guard: 'organization', id: organization.id, version: organization.version },
    { guard: 'connection', id: connection.id, version: connection.version },
  ]
  if (joins) guards.push({ guard: 'seats', organization: organization.id, by: 1 })
  return {
    id: ids.change,
    expect: user ? [{ user: user.id, version: user.version }] : [],
    guards,
    ops,
    events: eventsOf(decide(signIn, reason, userId, trace), ops, false),
  }
}
