import type { Proof, SignIn } from './plan.js'
import { candidates, type Organization } from './policy.js'
import type { UserFacts } from './store.js'

/**
 * Whether the word of this way in counts for the asserted address, so that it may be matched and adopted:
 * `vouched` by a connection for its domains, `proved` by a provider whose flag is proof (or by a code). Else:
 * `vetoed` and `unproved` by the IdP's own word, `foreign` in a domain of another organization, `unvouched` in
 * one of its own that the connection does not vouch for, `outside` in nobody's, `absent`.
 */
export type EmailStanding =
  | 'vouched'
  | 'proved'
  | 'vetoed'
  | 'unproved'
  | 'foreign'
  | 'unvouched'
  | 'outside'
  | 'absent'

export function emailStanding({
  identity,
  way,
  domain,
  proof,
}: Pick<SignIn, 'identity' | 'way' | 'domain' | 'proof'>): EmailStanding {
  if (identity.email === null) return 'absent'
  if (way.kind === 'provider') {
    const shown = proof?.by === 'address' && proof.address === identity.email.address
    return shown || identity.emailVerified === 'yes' ? 'proved' : 'unproved'
  }
  if (vouchesFor(way, identity.email.domain, domain)) {
    return identity.emailVerified === 'no' ? 'vetoed' : 'vouched'
  }
  if (!domain?.owner) return 'outside'
  return domain.owner.id === way.organization.id ? 'unvouched' : 'foreign'
}

/**
 * Whether a connection vouches for a domain. Over a domain of another organization its word needs a pattern at
 * least as close as the owner's: who vouches for `*.acme.example` does not thereby vouch for an `eu.acme.example`
 * that somebody else owns.
 */
function vouchesFor(
  { connection, organization }: Extract<SignIn['way'], { kind: 'connection' }>,
  name: string,
  domain: SignIn['domain'],
): boolean {
  const closeness = (patterns: readonly string[]) =>
    candidates(name).findIndex((pattern) => patterns.includes(pattern))
  const own = closeness(connection.vouchesFor)
  const owner = domain?.owner
  return own !== -1 && (!owner || owner.id === organization.id || own <= closeness(owner.domains))
}

/** The account that an address leads to: the one that has it verified, or the one the person signed in to. */
export function matchedUser(
  { snapshot, proof }: SignIn,
  matchable: boolean,
  unproved: readonly UserFacts[],
): UserFacts | null {
  if (!matchable) return null
  const entered = proof?.by === 'account' ? unproved.find(({ id }) => id === proof.user) : undefined
  return snapshot.byVerifiedEmail ?? entered ?? null
}

/**
 * The address to prove before an account may be had: an account with the same verified address that this
 * provider is not trusted to link, or one that carries the asserted address while nobody proved it.
 */
export function proofNeeded(
  { identity, way, proof }: SignIn,
  standing: EmailStanding,
  matched: UserFacts | null,
  carriers: readonly UserFacts[],
  links: () => boolean,
): Proof | null {
  if (way.kind === 'connection' || identity.email === null) return null
  const { address } = identity.email
  const given = (user: string) => proof?.address === address && proof.user === user
  if (matched) {
    if (given(matched.id)) return null
    const authoritative = standing === 'proved' && way.provider.link === 'verified-email'
    // The e-mail method is the proof itself; of a social provider the app may want more.
    const enough = authoritative && (way.provider.protocol === 'email' || links())
    return enough ? null : { address, user: matched.id, by: 'address' }
  }
  return standing === 'unproved' && carriers[0] && !given(carriers[0].id)
    ? { address, user: carriers[0].id, by: 'address' }
    : null
}

/**
 * The organization that owns the e-mail domain of the account's own verified address, or for a new account of the
 * asserted one, where its domain policy has anything to say about such a person.
 */
export function domainOrganization(
  { domain, ownDomain }: SignIn,
  account: UserFacts | null,
): Organization | null {
  if (account && account.verifiedEmail === null) return null
  const owner = (account && ownDomain ? ownDomain : domain)?.owner
  if (!owner?.domainJit.enabled || owner.status !== 'active') return null
  // Whoever joined while no seat was free is asked about again.
  const waits = account?.memberships.some(({ organization, seat }) => organization === owner.id && !seat)
  return !account || owner.domainJit.existingUsers || waits ? owner : null
}

/** What this way in lets happen: whether an account may be made, and whether it joins the organization. */
export function joiningTerms(
  { way }: SignIn,
  organization: Organization | null,
  trusted: boolean,
): { create: boolean; join: boolean; why?: string } {
  if (way.kind === 'connection') {
    const { create, join } = way.connection.jit
    return { create, join: join && trusted, ...(!join && { why: 'jit.join is off' }) }
  }
  const join = organization !== null && trusted
  const create = way.provider.signUp === 'open' || join
  return { create, join, ...(!organization && { why: 'no domain policy applies' }) }
}
