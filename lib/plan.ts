import { planAttributes } from './attributes.js'
import { type Decision, eventsOf, type Hash } from './audit.js'
import { type Settled, settledPlan } from './changes.js'
import type { Chosen, ConflictOutcomes, SignInConflict } from './conflict.js'
import type { Asserted, AssertedIdentity, Source } from './identity.js'
import type { Connection, Organization, Provider } from './policy.js'
import { givesNoRole, planRoles } from './roles.js'
import type { ChangeSet, InvitationFacts, Membership, Snapshot, User } from './store.js'
import { domainOrganization, emailStanding, joiningTerms, matchedUser, proofNeeded } from './terms.js'
import { weighTombstones } from './tombstones.js'

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
  | 'user_removed'
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
  /** An account whose old subject at the IdP ended with this one, by a migration window or by proof. */
  | 'subject_migrated'
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
  /** The kit's own doing: a sync that took too much was held. */
  | 'guarded'

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
  /** Whether the matched account could sign in by an identity other than this way's own. */
  readonly otherWays: readonly Source[]
  readonly snapshot: Snapshot
  /** What the app chose where a policy has a switch; what the policy says, where it is empty. */
  readonly chosen: Chosen
  /** The keyed hash of what is private. */
  readonly hash: Hash
  /** What the identity asserts, normalised, and its digest. */
  readonly asserted: Asserted
  readonly digest: string
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Fresh ids, handed in so that planning stays pure. */
  readonly ids: { readonly user: string; readonly change: string; readonly correlation: string }
}

/**
 * What is proved or to be proved: that this address, or the account that carries it, is the person's own. Who
 * proves the account by signing in to it has not proved the address. To be proved, `address` means either way will
 * do, `account` that only signing in as before will: the address may be somebody else's by now.
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
  /** Conflicts for which the policy has a switch, and what was chosen. */
  readonly conflicts: readonly (SignInConflict & { readonly outcome: string })[]
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
      /** Pending invitations for the person's proved address to other organizations; they wait for a click. */
      readonly invitations: readonly InvitationFacts[]
    })
  | (Common & {
      readonly verdict: 'prove'
      readonly outcome: 'unproved'
      readonly proof: Proof
      /** Where signing in as before is the only proof: by what. */
      readonly ways: readonly Source[]
    })
  | (Common & { readonly verdict: 'deny'; readonly outcome: 'denied'; readonly reason: DenyReason })

/** Decides one sign-in. Pure: the same facts give the same plan, and nothing is read or written. */
export function planSignIn(signIn: SignIn): Plan {
  const { identity, way, snapshot, now } = signIn
  const trace: TraceEntry[] = []
  const note = (rule: Rule, finding: string, detail?: string) => {
    trace.push(detail ? { rule, finding, detail } : { rule, finding })
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
  // Who brings an address that nobody answers for learns nothing of the account that has it, before that is proved.
  const stranger = !sso && matched !== null && !trusted && signIn.proof?.user !== matched.id
  // The organization in question: the connection's own, or the one that owns the account's e-mail domain.
  const organization = sso ? sso.organization : domainOrganization(signIn, claimed ? null : user)
  const stored = snapshot.organizations.find((entry) => entry.id === organization?.id)

  const conflicts: (SignInConflict & { outcome: string })[] = []
  const choose = <K extends keyof ConflictOutcomes>(
    kind: K,
    outcomes: readonly [ConflictOutcomes[K], ...ConflictOutcomes[K][]],
    attribute: string | null = null,
  ): ConflictOutcomes[K] => {
    const about = { user: user?.id ?? null, organization: organization?.id ?? null, identity }
    const conflict = { kind, attribute, outcomes, ...about } as SignInConflict
    const chosen = signIn.chosen(conflict)
    const outcome = outcomes.find((name) => name === chosen) ?? outcomes[0]
    conflicts.push({ ...conflict, outcome })
    return outcome
  }
  const decision = (reason: Reason, of: string | null): Omit<Decision, 'facts'> => ({
    change: signIn.ids.change,
    at: now,
    source: identity.source,
    actor: null,
    correlationId: signIn.ids.correlation,
    user: of,
    organization: organization?.id ?? null,
    reason,
    trace,
  })
  const deny = (rule: Rule, reason: DenyReason, detail?: string): Plan => {
    note(rule, reason, detail)
    const events = eventsOf(decision(reason, user?.id ?? null), 'refused', signIn.hash)
    const changes: ChangeSet = { id: signIn.ids.change, expect: [], guards: [], ops: [], events }
    return { verdict: 'deny', outcome: 'denied', reason, trace, changes, conflicts }
  }
  const prove = (proof: Proof): Plan => ({
    verdict: 'prove',
    outcome: 'unproved',
    reason: 'proof_required',
    proof,
    ways: signIn.otherWays,
    trace,
    changes: null,
    conflicts,
  })

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
  let found = known ? 'by_identity' : matched ? 'by_verified_email' : claimed ? 'by_contact_email' : 'none'
  let detail = carriers.length > 0 ? `${carriers.length} unproved` : undefined
  const former =
    known || stranger || identity.source === 'provider:email'
      ? []
      : (matched?.identities.filter(({ source }) => source === identity.source) ?? [])
  const entered = signIn.proof?.by === 'account' && signIn.proof.user === matched?.id
  let needed: Proof | null = null
  if (former.length > 0 && matched) {
    // A mailbox may be somebody else's by now, so that neither its word nor a code to it is enough.
    const until = sso?.connection.subjectMigration?.until
    const open = until !== undefined && now < Date.parse(until) && standing === 'vouched'
    if (entered || (open && choose('subject_changed', ['migrate', 'refuse']) === 'migrate')) {
      found = 'subject_migrated'
      detail = entered ? 'by an old way in' : `window until ${until}`
    } else if (!open && signIn.otherWays.length > 0) {
      found = 'subject_changed'
      detail = 'to be proved by an old way in'
      needed = { address: identity.email!.address, user: matched.id, by: 'account' }
    } else return deny('user', 'subject_changed')
  }
  note('user', found, detail)

  // 4. status
  const member = claimed
    ? null
    : (user?.memberships.find((held) => held.organization === organization?.id) ?? null)
  if (user?.status === 'suspended' && !stranger) return deny('status', 'user_suspended')
  if (sso && member?.status === 'suspended') return deny('status', 'membership_suspended')
  note('status', stranger ? 'not_told' : user ? 'active' : 'none')

  // 5. sso-domain: whoever's address SSO owns comes by SSO and no other way.
  const owned = sso
    ? []
    : [...(signIn.domain?.sso ?? []), ...(user && !claimed ? (signIn.ownDomain?.sso ?? []) : [])]
  if (owned.length > 0) return deny('sso-domain', 'sso_required', owned.map(({ id }) => id).join(', '))
  note('sso-domain', sso ? 'this_is_sso' : 'not_owned')

  // 6. proof: an account is given to nobody on the word of a provider that does not answer for the address.
  const links = () => choose('account_exists', ['link', 'prove']) === 'link'
  if (former.length === 0) needed = proofNeeded(signIn, standing, matched, carriers, links)
  if (needed) {
    note('proof', 'required', needed.by === 'account' ? signIn.otherWays.join(', ') : undefined)
    return prove(needed)
  }
  note('proof', signIn.proof ? 'given' : 'none_needed')

  // 7. tombstone: what a person took away stays away, until an invitation that is newer.
  const removals = weighTombstones(signIn, { user, claimed: claimed !== null, organization, member, trusted })
  if (removals.gone) return deny('tombstone', 'user_removed')
  note('tombstone', removals.finding)

  // 8. provision
  const { accepted, barred } = removals
  const terms = joiningTerms(signIn, organization, trusted)
  if (!user && !terms.create && removals.open.length === 0) {
    return deny('provision', sso ? 'user_not_provisioned' : 'sign_up_closed')
  }
  let joins = (terms.join || accepted.length > 0) && member === null && !barred
  const rolesWith = (joining: boolean) =>
    planRoles(signIn, {
      organization,
      member,
      joins: joining,
      invitations: accepted,
      removed: removals.roles,
    })
  let roles = rolesWith(joins)
  const tried = joins
  const idle = (joins || member !== null) && givesNoRole(signIn, roles)
  if (joins && idle) joins = false
  const leaves = member !== null && idle && roles.remove.length > 0
  note(
    'provision',
    [
      user ? (known ? 'known' : claimed ? 'claim' : 'link') : 'create',
      joins ? (accepted.length > 0 ? 'join_by_invitation' : 'join') : member ? 'member' : 'no_join',
    ].join('+'),
    joins || member
      ? undefined
      : barred
        ? 'removed by a person'
        : idle
          ? 'no group gives a role'
          : (terms.why ?? `e-mail ${standing}`),
  )

  // 9. seats: a full organization that the person did not come for is left out.
  const free = stored?.seatLimit == null || stored.seatsUsed < stored.seatLimit
  let seat = joins && free
  if (joins && !free) {
    const outcomes = ['deny', 'join-without-seat'] as const
    const full =
      sso || !user || claimed
        ? choose('seats_full', organization!.whenFull === 'deny' ? outcomes : [outcomes[1], outcomes[0]])
        : 'leave-out'
    if (full === 'deny') return deny('seats', 'seats_full')
    if (full === 'leave-out') joins = false
    note('seats', full === 'leave-out' ? 'full_left_out' : 'full_joins_without')
  } else {
    const waits = member?.status === 'active' && !member.seat && !leaves
    seat ||= waits && free
    note('seats', seat ? 'taken' : waits ? 'full_waits_on' : 'none_needed')
  }

  // 10. roles
  if (joins !== tried) roles = rolesWith(joins)
  note('roles', leaves ? 'last_role_gone' : roles.finding, roles.detail)

  // 11. attributes
  const profile = Object.keys(identity.profile)
  const attributes = claimed
    ? { changed: profile, after: identity.profile }
    : planAttributes(signIn, user, known !== null, (name) =>
        choose('attribute_differs', ['idp', 'app'], name),
      )
  const moved = known !== null && sso && trusted && known.verifiedEmail !== identity.email!.address
  const taken = moved && snapshot.byVerifiedEmail !== null
  const adopts =
    moved &&
    !taken &&
    choose('address_changed', sso.connection.adoptEmail ? ['adopt', 'keep'] : ['keep', 'adopt']) === 'adopt'
  note(
    'attributes',
    attributes || adopts ? 'changed' : 'unchanged',
    [
      ...(attributes ? [attributes.changed.join(', ')] : []),
      ...(moved
        ? [taken ? 'the new address is taken' : `new address ${adopts ? 'adopted' : 'not adopted'}`]
        : []),
      ...identity.omitted.map(({ attribute, reason }) => `${attribute} left out: ${reason}`),
    ].join('; '),
  )

  const settled: Settled = {
    user,
    known,
    claimed,
    former,
    carriers: trusted && carriers.length > 1 ? carriers : [],
    trusted,
    separate,
    organization,
    member,
    joins,
    seat,
    leaves,
    accepted: joins ? accepted : [],
    lifted: joins ? removals.lifted : [],
    hashes: [...removals.hashes, ...(joins ? removals.memberHashes : [])],
    restored: removals.restored,
    unbarred: joins ? removals.unbarred : [],
    roles,
    attributes,
    adopted: adopts ? identity.email : null,
  }
  const waiting = removals.open.filter((invitation) => !settled.accepted.includes(invitation))
  return { ...settledPlan(signIn, settled, decision), trace, conflicts, invitations: waiting }
}
