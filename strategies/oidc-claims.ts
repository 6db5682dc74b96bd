import {
  claimAt,
  claimSources,
  type Groups,
  type IdentityInput,
  JitError,
  type OidcConnection,
} from '../lib/index.js'
import { isEntra, type RelyingParty } from './oidc-party.js'

export type Claims = Readonly<Record<string, unknown>>

/** Oldest ID token in seconds: it is made when the code is exchanged, so an old one is not ours. */
export const oldestToken = 600

/**
 * The checks of OIDC Core §3.1.3.7 that openid-client leaves to its caller: a foreign `azp` beside a single
 * audience, an ID token from the future or long ago, and an empty subject.
 * @throws JitError `assertion_refused`
 */
export function checkClaims(party: RelyingParty, claims: Claims, now: number): void {
  const refuse = (what: string): never => {
    throw new JitError('assertion_refused', `${party.where}: the ID token's ${what}`)
  }
  const seconds = now / 1000
  const { azp, iat, sub } = claims
  if (azp !== undefined && azp !== party.clientId) refuse('"azp" names another client')
  if (typeof iat !== 'number' || iat > seconds + party.clockSkewSeconds)
    refuse(`"iat" (${iat}) is in the future; is one of the clocks wrong?`)
  else if (iat < seconds - oldestToken - party.clockSkewSeconds)
    refuse(`"iat" (${iat}) is more than ${oldestToken} seconds ago; is one of the clocks wrong?`)
  if (typeof sub !== 'string' || sub.trim() === '') refuse('"sub" is empty')
}

/**
 * Who it is at the issuer. Entra's `sub` differs from app to app, and its e-mail can be edited by any tenant's
 * administrator, so there a person is tenant and object id, and the tenant must be one that was named.
 * @throws JitError `assertion_refused`
 */
export function subjectOf(party: RelyingParty, claims: Claims): string {
  if (!isEntra(party)) return claims.sub as string
  const refuse = (what: string): never => {
    throw new JitError('assertion_refused', `${party.where}: ${what}`)
  }
  const { tid, oid } = claims
  const guid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
  if (typeof tid !== 'string' || !guid.test(tid)) return refuse('the ID token names no tenant ("tid")')
  if (typeof oid !== 'string' || !guid.test(oid))
    return refuse('the ID token has no "oid"; add "profile" to scopes')
  const { tenants } = party
  if (tenants && tenants !== 'any' && !tenants.some((tenant) => tenant.toLowerCase() === tid))
    return refuse(`the tenant ${tid} is not in "tenants"`)
  return `${tid}.${oid}`
}

/**
 * The claims of ID token and UserInfo together. The ID token wins, and `email_verified` stays with the
 * address it was said of: UserInfo's word about another address says nothing about this one.
 */
export function mergeClaims(party: RelyingParty, idToken: Claims, userInfo: Claims | null): Claims {
  if (!userInfo) return idToken
  const stated = Object.fromEntries(Object.entries(idToken).filter(([name]) => present(idToken, name)))
  const { email_verified: _, ...merged }: Claims = { ...userInfo, ...stated }
  const { email } = party.attributes
  const address = claimAt(merged, email)
  const speaker = [idToken, userInfo].find(
    (claims) => claimAt(claims, email) === address && Object.hasOwn(claims, 'email_verified'),
  )
  return speaker ? { ...merged, email_verified: speaker.email_verified } : merged
}

const present = (claims: Claims, name: string) =>
  Object.hasOwn(claims, name) && claims[name] !== undefined && claims[name] !== null

/** What the mapping looks for and does not find; groups the issuer says are too many to send are not missing. */
export function missingClaims(party: RelyingParty, claims: Claims): string[] {
  return claimSources(party.attributes)
    .filter(([name, source]) => {
      if (name === 'groups' && groupsOverflow(party, claims)) return false
      return claimAt(claims, source) === undefined
    })
    .map(([name]) => name)
}

/**
 * What the issuer says of the address: nothing (`unstated`), the boolean `true` (`yes`), anything else (`no`).
 * With `emailVerifiedAsText` the text "true" is a yes as well; every other text, "false" included, stays a no.
 * Entra has a flag of its own, `xms_edov`, which vetoes wherever it is there and not true. Google vouches for an
 * address through its own `hd` claim alone, which names the Workspace domain.
 */
export function emailVerified(
  party: RelyingParty & Pick<OidcConnection, 'emailVerifiedAsText'>,
  claims: Claims,
  idToken: Claims,
): NonNullable<IdentityInput['emailVerified']> {
  const flags = [
    ...(Object.hasOwn(claims, 'email_verified') ? [claims.email_verified] : []),
    ...(isEntra(party) && Object.hasOwn(idToken, 'xms_edov') ? [idToken.xms_edov] : []),
  ]
  // Anybody may make a Google account on an address they once could read; only `hd` says whose it is.
  if (new URL(party.issuer).host === 'accounts.google.com') flags.push(idToken.hd === domainOf(claims, party))
  if (flags.length === 0) return 'unstated'
  const yes = (flag: unknown) => flag === true || (party.emailVerifiedAsText && flag === 'true')
  return flags.every(yes) ? 'yes' : 'no'
}

/** The domain of the mapped address, in lower case. */
function domainOf(claims: Claims, party: RelyingParty): string | undefined {
  const address = claimAt(claims, party.attributes.email)
  return typeof address === 'string' ? address.slice(address.lastIndexOf('@') + 1).toLowerCase() : undefined
}

/** The groups as read, unless the issuer says there are more than it sent (Entra's overage). */
export function groupsOf(party: RelyingParty, claims: Claims, read: Groups): Groups {
  return groupsOverflow(party, claims) ? { kind: 'overflow' } : read
}

/** `_claim_names` (OIDC Core §5.6.2) points elsewhere for them, or `hasgroups` stands in their place. */
function groupsOverflow(party: RelyingParty, claims: Claims): boolean {
  const names = [party.attributes.groups ?? []].flat()
  const elsewhere = claims._claim_names
  const known = typeof elsewhere === 'object' && elsewhere !== null ? elsewhere : {}
  if (names.some((name) => Object.hasOwn(known, name))) return true
  return names.includes('groups') && (claims.hasgroups === true || claims.hasgroups === 'true')
}
