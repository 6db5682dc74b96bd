import { type Groups, type IdentityInput, JitError, type OidcConnection } from '../lib/index.js'

export type Claims = Readonly<Record<string, unknown>>

/** Oldest ID token in seconds: it is made when the code is exchanged, so an old one is not ours. */
export const oldestToken = 600

/** Hosts of Microsoft Entra's issuers, its national clouds and its older token version included. */
const entraHosts = new Set([
  'login.microsoftonline.com',
  'login.microsoftonline.us',
  'login.partner.microsoftonline.cn',
  'sts.windows.net',
])

export const isEntra = ({ issuer }: OidcConnection) =>
  URL.canParse(issuer) && entraHosts.has(new URL(issuer).hostname)

/** An Entra issuer that signs in people of any tenant. */
export const isMultiTenant = (connection: OidcConnection) =>
  isEntra(connection) &&
  /^\/(?:common|organizations|consumers)(?:\/|$)/.test(new URL(connection.issuer).pathname)

/**
 * The checks of OIDC Core §3.1.3.7 that openid-client leaves to its caller: a foreign `azp` beside a single
 * audience, an ID token from the future or long ago, and an empty subject.
 * @throws JitError `assertion_refused`
 */
export function checkClaims(connection: OidcConnection, claims: Claims, now: number): void {
  const refuse = (what: string): never => {
    throw new JitError('assertion_refused', `connection "${connection.id}": the ID token's ${what}`)
  }
  const seconds = now / 1000
  const { azp, iat, sub } = claims
  if (azp !== undefined && azp !== connection.clientId) refuse('"azp" names another client')
  if (typeof iat !== 'number' || iat > seconds + connection.clockSkewSeconds)
    refuse(`"iat" (${iat}) is in the future; is one of the clocks wrong?`)
  else if (iat < seconds - oldestToken - connection.clockSkewSeconds)
    refuse(`"iat" (${iat}) is more than ${oldestToken} seconds ago; is one of the clocks wrong?`)
  if (typeof sub !== 'string' || sub.trim() === '') refuse('"sub" is empty')
}

/**
 * Who it is at the issuer. Entra's `sub` differs from app to app, and its e-mail can be edited by any tenant's
 * administrator, so there a person is tenant and object id, and the tenant must be one that was named.
 * @throws JitError `assertion_refused`
 */
export function subjectOf(connection: OidcConnection, claims: Claims): string {
  if (!isEntra(connection)) return claims.sub as string
  const refuse = (what: string): never => {
    throw new JitError('assertion_refused', `connection "${connection.id}": ${what}`)
  }
  const { tid, oid } = claims
  const guid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
  if (typeof tid !== 'string' || !guid.test(tid)) return refuse('the ID token names no tenant ("tid")')
  if (typeof oid !== 'string' || !guid.test(oid))
    return refuse('the ID token has no "oid"; add "profile" to scopes')
  if (connection.tenants && !connection.tenants.some((tenant) => tenant.toLowerCase() === tid))
    return refuse(`the tenant ${tid} is not in "tenants"`)
  if (isMultiTenant(connection) && !connection.tenants) return refuse('a multi-tenant issuer needs "tenants"')
  return `${tid}.${oid}`
}

/**
 * The claims of ID token and UserInfo together. The ID token wins, and `email_verified` stays with the
 * address it was said of: UserInfo's word about another address says nothing about this one.
 */
export function mergeClaims(connection: OidcConnection, idToken: Claims, userInfo: Claims | null): Claims {
  if (!userInfo) return idToken
  const stated = Object.fromEntries(Object.entries(idToken).filter(([name]) => present(idToken, name)))
  const { email_verified: _, ...merged }: Claims = { ...userInfo, ...stated }
  const { email } = connection.attributes
  const speaker = [idToken, userInfo].find(
    (claims) => claims[email] === merged[email] && Object.hasOwn(claims, 'email_verified'),
  )
  return speaker ? { ...merged, email_verified: speaker.email_verified } : merged
}

const present = (claims: Claims, name: string) =>
  Object.hasOwn(claims, name) && claims[name] !== undefined && claims[name] !== null

/** The mapped claims that are missing; groups the issuer says are too many to send are not. */
export function missingClaims(connection: OidcConnection, claims: Claims): string[] {
  const { groups } = connection.attributes
  return Object.values(connection.attributes).filter(
    (name): name is string =>
      name !== undefined &&
      !present(claims, name) &&
      !(name === groups && groupsOverflow(connection, claims)),
  )
}

/**
 * What the issuer says of the address: nothing (`unstated`), the boolean `true` (`yes`), anything else (`no`).
 * With `emailVerifiedAsText` the text "true" is a yes as well; every other text, "false" included, stays a no.
 * Entra has a flag of its own, `xms_edov`, which vetoes wherever it is there and not true.
 */
export function emailVerified(
  connection: OidcConnection,
  claims: Claims,
  idToken: Claims,
): NonNullable<IdentityInput['emailVerified']> {
  const flags = [
    ...(Object.hasOwn(claims, 'email_verified') ? [claims.email_verified] : []),
    ...(isEntra(connection) && Object.hasOwn(idToken, 'xms_edov') ? [idToken.xms_edov] : []),
  ]
  if (flags.length === 0) return 'unstated'
  const yes = (flag: unknown) => flag === true || (connection.emailVerifiedAsText && flag === 'true')
  return flags.every(yes) ? 'yes' : 'no'
}

/** The groups as read, unless the issuer says there are more than it sent (Entra's overage). */
export function groupsOf(connection: OidcConnection, claims: Claims, read: Groups): Groups {
  return groupsOverflow(connection, claims) ? { kind: 'overflow' } : read
}

/** `_claim_names` (OIDC Core §5.6.2) points elsewhere for them, or `hasgroups` stands in their place. */
function groupsOverflow(connection: OidcConnection, claims: Claims): boolean {
  const { groups } = connection.attributes
  if (groups === undefined) return false
  const elsewhere = claims._claim_names
  if (typeof elsewhere === 'object' && elsewhere !== null && Object.hasOwn(elsewhere, groups)) return true
  return groups === 'groups' && (claims.hasgroups === true || claims.hasgroups === 'true')
}
