import { asJitError, legible } from './errors.js'
import { type Plan, planSignIn, type Rule, rules, type SignIn, type TraceEntry } from './plan.js'
import { type ProvisionPorts, signInFacts } from './provision.js'

/** What each finding means, for people. */
const sentences: Readonly<Record<Rule, Readonly<Record<string, string>>>> = {
  connection: {
    enabled: 'this way in is enabled, and its policy is the one in force',
    connection_disabled: 'refused: this way in is switched off',
    organization_suspended: 'refused: the organization is suspended',
    connection_changed: 'refused: the policy changed since the sign-in began, or the store has another one',
  },
  email: {
    vouched: 'the connection vouches for the domain, so the address is as good as proved',
    proved: 'the address is proved',
    vetoed: 'the IdP itself says that the address is not verified',
    unproved: 'the provider does not answer for the address',
    foreign: 'the domain belongs to another organization',
    unvouched: 'the connection does not vouch for this domain of its organization',
    outside: 'nobody owns the domain and the connection does not vouch for it',
    absent: 'there is no address',
    email_foreign: 'refused: somebody new with an address of another organization',
    email_outside: 'refused: somebody new without an address the connection vouches for',
    email_unverified: 'refused: somebody new with an address that is not verified',
  },
  user: {
    by_identity: 'this subject signed in before; its account is the one',
    by_verified_email: 'an account has this address verified',
    by_contact_email: 'one account carries the address, which nobody had proved; it passes to this person',
    none: 'no account is known for this person',
    subject_changed: 'the account has another subject of this way in',
    subject_migrated: 'the account passes from its old subject to this one',
  },
  status: {
    active: 'account and membership are not suspended',
    none: 'there is no account that could be suspended',
    not_told: 'nobody is told before the address is proved',
    user_suspended: 'refused: the account is suspended',
    membership_suspended: 'refused: the membership is suspended',
  },
  'sso-domain': {
    this_is_sso: 'this is SSO itself',
    not_owned: 'no connection owns the domain of the address',
    sso_required: 'refused: the domain has SSO, and no other way in is taken there',
  },
  proof: {
    none_needed: 'nothing has to be proved first',
    given: 'what had to be proved was proved in this sign-in',
    required: 'the person has to prove the address or the account first',
  },
  tombstone: {
    none: 'no person took anything away',
    user_removed: 'refused: a person removed this account',
    membership_removed: 'a person took the membership away, so no policy gives it back',
    roles_removed: 'a person took roles away, so no policy gives them back',
    overridden_by_invitation: 'what a person had taken away, a newer invitation gives back',
  },
  provision: {
    create: 'an account is made',
    known: 'the account is known',
    link: 'the identity is linked to the account',
    claim: 'the account that carried the address is claimed',
    join: 'joins the organization',
    join_by_invitation: 'joins the organization by invitation',
    member: 'a member already',
    no_join: 'joins nothing',
    user_not_provisioned: 'refused: nobody is known, and jit.create is off',
    sign_up_closed: 'refused: nobody is known, and new accounts are by invitation',
  },
  seats: {
    none_needed: 'no seat is asked for',
    taken: 'a free seat is taken',
    full_waits_on: 'no seat is free, and the membership goes on waiting for one',
    full_left_out: 'no seat is free, so an organization that was not the aim is left out',
    full_joins_without: 'no seat is free; joins without one, so no role counts yet',
    seats_full: 'refused: no seat is free',
  },
  roles: {
    left_alone: 'roles stay as they are',
    changed: 'roles change',
    unchanged: 'roles stay',
    last_role_gone: 'the last role goes, and the membership with it',
    groups_absent: 'the answer says nothing about groups, so they neither give nor take',
    groups_overflow: 'there were too many groups to send, so they neither give nor take',
    groups_truncated: 'the IdP sent as many groups as it ever does, so they neither give nor take',
    sync_held: 'the sync of this connection is held, so groups neither give nor take',
  },
  attributes: {
    changed: 'attributes follow what is asserted',
    unchanged: 'attributes stay',
  },
}

/** Group names are shown up to this many; a hypothesis may name thousands. */
const shown = 20

/**
 * A plan whose trace has every rule, in order, each with why: those that were not asked because an earlier one
 * decided are `not_asked`. Pure.
 */
export function explained(plan: Plan, { identity, way }: Pick<SignIn, 'identity' | 'way'>): Plan {
  const asked = plan.trace.map((entry) => {
    const strays = entry.rule === 'roles' && way.kind === 'connection' ? unmapped(identity.groups, way) : []
    return inWords(
      entry,
      strays.length > 0 ? `no rule for group ${strays.map(legible).join(', ')}` : undefined,
    )
  })
  const last = plan.trace.at(-1)?.rule ?? 'connection'
  const detail =
    plan.verdict === 'prove' ? `${last} asks for a proof first` : `${last} decided with ${plan.reason}`
  const rest = rules
    .filter((rule) => !plan.trace.some((entry) => entry.rule === rule))
    .map((rule): TraceEntry => ({ rule, finding: 'not_asked', detail }))
  return { ...plan, trace: [...asked, ...rest] }
}

function inWords({ rule, finding, detail }: TraceEntry, more?: string): TraceEntry {
  const words = finding
    .split('+')
    .map((part) => sentences[rule][part] ?? part)
    .join(', ')
  return { rule, finding, detail: [words, detail, more].filter(Boolean).join('; ') }
}

/** The groups that no rule of the connection is about. */
function unmapped(
  groups: SignIn['identity']['groups'],
  { connection }: Extract<SignIn['way'], { kind: 'connection' }>,
): readonly string[] {
  const { map, prefixes } = connection.groups
  if (groups.kind !== 'listed') return []
  const begins = Object.keys(prefixes)
  const strays = groups.values.filter(
    (group) => !Object.hasOwn(map, group) && !begins.some((prefix) => group.startsWith(prefix)),
  )
  return strays.length > shown ? [...strays.slice(0, shown), `and ${strays.length - shown} more`] : strays
}

/** What would happen, and why, by the policy alone; writes nothing, and `onConflict` is not asked. */
export async function explain(
  ports: Pick<ProvisionPorts, 'store' | 'directory' | 'now' | 'hash'>,
  identity: SignIn['identity'],
): Promise<Plan> {
  try {
    const signIn = await signInFacts(ports, identity)
    return explained(planSignIn(signIn), signIn)
  } catch (error) {
    throw asJitError(error, 'unavailable', 'the store could not be read')
  }
}
