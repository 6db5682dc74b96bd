import { type Decision, eventsOf } from './audit.js'
import type { AssertedIdentity } from './identity.js'
import type { Connection, Organization, Provider } from './policy.js'
import { planAttributes, planRoles } from './roles.js'
import type { ChangeSet, Guard, Membership, Operation, Snapshot, User } from './store.js'
import { domainOrganization, emailStanding, joiningTerms, matchedUser, proofNeeded } from './terms.js'

/** The rules, in the order in which they are asked. */
export const rules = [
  'connection',
  'email',
  'user',
  'status',
  'sso-domain',
  'proof',
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
  | 'sso_required'
  | 'sign_up_closed'
  | 'seats_full'

/** The closed union of reasons. */
export type Reason =
  | DenyReason
  /** The person must prove an address first. */
  | 'proof_required'
  /** A new account that joined the organization of the connection or of the e-mail domain. */
  | 'user_provisioned'
  /** A new account that joins nothing, because nothing gives it a membership. */
  | 'user_created'
  /** A new account outside every vouched domain, by `outsiders: separate`. */
  | 'outsider_created'
  /** An account that carried the address unproved; everything else about it ended. */
  | 'account_claimed'
  /** An existing account with the same verified e-mail; its first sign-in by this connection or provider. */
  | 'identity_linked'
  /** A known identity that was not a member yet. */
  | 'membership_created'
  /** A known identity whose roles or attributes followed the IdP. */
  | 'identity_synced'
  /** A known identity with nothing to change. */
  | 'identity_known'
  /** A person's own doing: an administrator, an invitation. */
  | 'administered'

export type Outcome = 'created' | 'linked' | 'updated' | 'unchanged' | 'denied' | 'unproved'

/** What the rules need to know of an identity; an asserted one, or a hypothesis of `explain`. */
export type IdentityFacts = Pick<AssertedIdentity, keyof AssertedIdentity>

/** Who answers for an e-mail domain, by the directory. */
export interface DomainFacts {
  readonly owner: Organization | null
  /** The owner's enabled connections that vouch for the domain; where there are any, SSO owns it. */
  readonly sso: readonly Connection[]
}

/** The way in: a connection of one organization, or an app-wide provider. */
export type Way =
  | { readonly kind: 'connection'; readonly connection: Connection; readonly organization: Organization }
  | { readonly kind: 'provider'; readonly provider: Provider }

export interface SignIn {
  readonly identity: IdentityFacts
  readonly way: Way
  /** Of the asserted address, where there is one. */
  readonly domain: DomainFacts | null
  /** Of the account's own verified address, where that is in another domain than the asserted one. */
  readonly ownDomain: DomainFacts | null
  /** What the person proved in the course of this very sign-in. */
  readonly proof: Proof | null
  readonly snapshot: Snapshot
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Fresh ids, handed in so that planning stays pure. */
  readonly ids: { readonly user: string; readonly change: string; readonly correlation: string }
}

/**
 * What is proved or to be proved: that this address, or the account that carries it, is the person's own. Who
 * proves the account by signing in to it has not proved the address.
 */
export interface Proof {
  readonly address: string
  readonly user: string
  readonly by: 'address' | 'account'
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
      readonly outcome: Exclude<Outcome, 'denied' | 'unproved'>
      /** The user as they will be, and the membership in the organization that was asked about. */
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
  | (Common & { readonly verdict: 'prove'; readonly outcome: 'unproved'; readonly proof: Proof })
  | (Common & { readonly verdict: 'deny'; readonly outcome: 'denied'; readonly reason: DenyReason })

/** Decides one sign-in. Pure: the same facts give the same plan, and nothing is read or written. */
export function planSignIn(signIn: SignIn): Plan {
  const { identity, way, snapshot } = signIn
  const trace: TraceEntry[] = []
  const note = (rule: Rule, finding: string, detail?: string) => {
    trace.push(detail === undefined ? { rule, finding } : { rule, finding, detail })
  }
  const sso = way.kind === 'connection' ? way : null
  const standing = emailStanding(signIn)
  const trusted = standing === 'vouched' || standing === 'proved'
  const known = snapshot.byIdentity
  const unproved = sso && !trusted ? [] : snapshot.byContactEmail.filter(({ status }) => status === 'active')
  const matched = known ? null : matchedUser(signIn, trusted || !sso, unproved)
  const carriers = known || matched ? [] : unproved
  const claimed = trusted && carriers.length === 1 ? carriers[0]! : null
  const user = known ?? matched ?? claimed
  // The organization in question: the connection's own, or the one that owns the account's e-mail domain.
  const organization = sso ? sso.organization : domainOrganization(signIn, claimed ? null : user)
  const stored = snapshot.organizations.find((entry) => entry.id === organization?.id)

  const decision = (reason: Reason, of: string | null): Decision => ({
    change: signIn.ids.change,
    at: signIn.now,
    source: identity.source,
    correlationId: signIn.ids.correlation,
    user: of,
    organization: organization?.id ?? null,
    reason,
    trace,
  })
  const deny = (rule: Rule, reason: DenyReason, detail?: string): Plan => {
    note(rule, reason, detail)
    const events = eventsOf(decision(reason, user?.id ?? null), [], true)
    const changes: ChangeSet = { id: signIn.ids.change, expect: [], guards: [], ops: [], events }
    return { verdict: 'deny', outcome: 'denied', reason, trace, changes }
  }

  // 1. connection: the directory's word and the store's must agree, and be the one the sign-in began under.
  const entry = sso ? sso.connection : (way as Extract<Way, { kind: 'provider' }>).provider
  if (!entry.enabled || snapshot.connection?.enabled === false)
    return deny('connection', 'connection_disabled')
  if (sso && (sso.organization.status !== 'active' || stored?.status === 'suspended')) {
    return deny('connection', 'organization_suspended')
  }
  if (
    identity.sourceVersion !== entry.version ||
    (organization && stored?.version !== organization.version) ||
    (sso && snapshot.connection?.version !== entry.version)
  ) {
    return deny('connection', 'connection_changed')
  }
  note('connection', 'enabled')

  // 2. email: a known identity needs no address; by a connection everybody else needs one it vouches for.
  note('email', standing, identity.email?.domain)
  const separate =
    !known && sso?.connection.outsiders === 'separate' && (standing === 'outside' || standing === 'absent')
  if (sso && !known && !trusted && !separate) {
    if (standing === 'foreign') return deny('email', 'email_foreign')
    return deny('email', standing === 'vetoed' ? 'email_unverified' : 'email_outside')
  }

  // 3. user: by identity, else by verified e-mail, else the one account that carries the address unproved.
  const found = known ? 'by_identity' : matched ? 'by_verified_email' : claimed ? 'by_contact_email' : 'none'
  note('user', found, carriers.length > 0 ? `${carriers.length} unproved` : undefined)
  if (
    !known &&
    identity.source !== 'provider:email' &&
    matched?.identities.some(({ source }) => source === identity.source)
  ) {
    return deny('user', 'subject_changed')
  }

  // 4. status
  const member = claimed
    ? null
    : (user?.memberships.find((held) => held.organization === organization?.id) ?? null)
  if (user?.status === 'suspended') return deny('status', 'user_suspended')
  if (sso && member?.status === 'suspended') return deny('status', 'membership_suspended')
  note('status', user ? 'active' : 'none')

  // 5. sso-domain: whoever's address SSO owns comes by SSO and no other way.
  const owned = sso
    ? []
    : [...(signIn.domain?.sso ?? []), ...(user && !claimed ? (signIn.ownDomain?.sso ?? []) : [])]
  if (owned.length > 0) return deny('sso-domain', 'sso_required', owned.map(({ id }) => id).join(', '))
  note('sso-domain', sso ? 'this_is_sso' : 'not_owned')

  // 6. proof: an account is given to nobody on the word of a provider that does not answer for the address.
  const needed = proofNeeded(signIn, standing, matched, carriers)
  if (needed) {
    note('proof', 'required')
    return {
      verdict: 'prove',
      outcome: 'unproved',
      reason: 'proof_required',
      proof: needed,
      trace,
      changes: null,
    }
  }
  note('proof', signIn.proof ? 'given' : 'none_needed')

  // 7. tombstone
  const removed = user?.tombstones.filter((stone) => stone.organization === organization?.id) ?? []
  const barred = removed.some((stone) => stone.role === null)
  note('tombstone', barred ? 'membership_removed' : removed.length > 0 ? 'roles_removed' : 'none')

  // 8. provision
  const terms = joiningTerms(signIn, organization, trusted)
  if (!user && !terms.create) return deny('provision', sso ? 'user_not_provisioned' : 'sign_up_closed')
  let joins = terms.join && member === null && !barred
  note(
    'provision',
    [
      user ? (known ? 'known' : claimed ? 'claim' : 'link') : 'create',
      joins ? 'join' : member ? 'member' : 'no_join',
    ].join('+'),
    joins || member ? undefined : barred ? 'removed by a person' : (terms.why ?? `e-mail ${standing}`),
  )

  // 9. seats: a full organization that the person did not come for is left out.
  const full = joins && stored?.seatLimit != null && stored.seatsUsed >= stored.seatLimit
  if (full && (sso || !user)) return deny('seats', 'seats_full')
  if (full) joins = false
  note('seats', full ? 'full_left_out' : joins ? 'taken' : 'none_needed')

  // 10. roles
  const roles = planRoles(signIn, organization, member, joins, new Set(removed.map((stone) => stone.role)))
  note('roles', roles.finding, roles.detail)

  // 11. attributes
  const attributes = claimed
    ? { changed: Object.keys(identity.profile), after: identity.profile }
    : planAttributes(signIn, user, known)
  note('attributes', attributes ? 'changed' : 'unchanged', attributes?.changed.join(', '))
  const adopted =
    known && sso?.connection.adoptEmail && trusted && !snapshot.byVerifiedEmail ? identity.email : null

  const ops: Operation[] = []
  const userId = user?.id ?? signIn.ids.user
  const at = signIn.now
  const address = trusted ? (identity.email?.address ?? null) : null
  const contact = address ?? (separate ? null : (identity.email?.address ?? null))
  if (claimed && address) ops.push({ op: 'user.claim', id: claimed.id, verifiedEmail: address })
  if (trusted && carriers.length > 1) {
    for (const { id } of carriers) ops.push({ op: 'user.update', id, set: { contactEmail: null } })
  }
  if (!user) {
    ops.push({
      op: 'user.create',
      id: userId,
      status: 'active',
      verifiedEmail: address,
      contactEmail: contact,
      attributes: identity.profile,
      at,
    })
  }
  if (!known && identity.source !== 'provider:email') {
    const { source, issuer, subject } = identity
    ops.push({ op: 'identity.link', user: userId, source, issuer, subject, at })
  }
  if (joins) {
    ops.push({ op: 'membership.create', user: userId, organization: organization!.id, status: 'active', at })
  }
  for (const grant of roles.add) {
    ops.push({ op: 'grant.add', user: userId, organization: organization!.id, ...grant, at })
  }
  for (const { role, source } of roles.remove) {
    ops.push({ op: 'grant.remove', user: userId, organization: organization!.id, role, source })
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

  const linked = !known && identity.source !== 'provider:email'
  const reason: Reason = !user
    ? separate
      ? 'outsider_created'
      : joins
        ? 'user_provisioned'
        : 'user_created'
    : claimed
      ? 'account_claimed'
      : linked
        ? 'identity_linked'
        : joins
          ? 'membership_created'
          : ops.length > 0
            ? 'identity_synced'
            : 'identity_known'
  const touched = [...(user ? [user] : []), ...(trusted && carriers.length > 1 ? carriers : [])]
  const changes = (): ChangeSet => {
    const guards: Guard[] = []
    if (organization && (sso || joins)) {
      guards.push({ guard: 'organization', id: organization.id, version: organization.version })
    }
    if (sso) guards.push({ guard: 'connection', id: entry.id, version: entry.version })
    if (joins) guards.push({ guard: 'seats', organization: organization!.id, by: 1 })
    return {
      id: signIn.ids.change,
      expect: touched.map(({ id, version }) => ({ user: id, version })),
      guards,
      ops,
      events: eventsOf(decision(reason, userId), ops, false),
    }
  }
  return {
    verdict: 'allow',
    outcome: !user ? 'created' : claimed || linked ? 'linked' : ops.length > 0 ? 'updated' : 'unchanged',
    reason,
    trace,
    changes: ops.length > 0 ? changes() : null,
    after: {
      user: {
        id: userId,
        version: user ? user.version + (ops.length > 0 ? 1 : 0) : 1,
        status: 'active',
        epoch: (user?.epoch ?? 0) + (claimed ? 1 : 0),
        verifiedEmail: adopted?.address ?? (user && !claimed ? user.verifiedEmail : address),
        contactEmail: adopted?.address ?? (user && !claimed ? user.contactEmail : contact),
        attributes: attributes?.after ?? user?.attributes ?? identity.profile,
      },
      membership:
        member || joins
          ? { organization: organization!.id, status: member?.status ?? 'active', grants: roles.after }
          : null,
      connectionEpoch: snapshot.connection?.epoch ?? 0,
    },
    joined: joins ? [organization!.id] : [],
    granted: roles.add.map((grant) => grant.role),
    revoked: roles.remove.map((grant) => grant.role),
  }
}
