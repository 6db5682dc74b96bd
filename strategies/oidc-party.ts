import { JitError, type OidcConnection, type Strategy } from '../lib/index.js'

/**
 * Our side of OpenID Connect at one issuer (OIDC Core §1.2), made of an organization's connection or of an
 * app-wide provider.
 */
export interface RelyingParty
  extends Pick<
    OidcConnection,
    | 'id'
    | 'version'
    | 'issuer'
    | 'clientId'
    | 'clientSecret'
    | 'clientAuthentication'
    | 'scopes'
    | 'clockSkewSeconds'
    | 'allowInsecureRequests'
    | 'attributes'
  > {
  /** How messages name it, such as `connection "acme"`. */
  readonly where: string
  /** Entra's tenants that may sign in; `any` where the issuer's own choice is enough. */
  readonly tenants?: readonly string[] | 'any' | undefined
}

/** Hosts of Microsoft Entra's issuers, its national clouds and its older token version included. */
const entraHosts = new Set([
  'login.microsoftonline.com',
  'login.microsoftonline.us',
  'login.partner.microsoftonline.cn',
  'sts.windows.net',
])

export const isEntra = ({ issuer }: Pick<RelyingParty, 'issuer'>) =>
  URL.canParse(issuer) && entraHosts.has(new URL(issuer).hostname)

/** An Entra issuer that signs in people of any tenant. */
const isMultiTenant = (party: RelyingParty) =>
  isEntra(party) && /^\/(?:common|organizations|consumers)(?:\/|$)/i.test(new URL(party.issuer).pathname)

/** The second argument of a strategy's `check`. */
export type Refused = NonNullable<Parameters<NonNullable<Strategy['check']>>[1]>

/**
 * What can be told without asking the issuer; a directory may hold entries that no schema
 * saw, so it is asked at every sign-in too.
 * @throws JitError `config_invalid`
 */
export function checkParty(party: RelyingParty, refused: Refused = () => null): string[] {
  const { where, issuer, clientSecret, clientAuthentication, tenants } = party
  const fail = (what: string): never => {
    throw new JitError('config_invalid', `${where}: ${what}`)
  }
  if (!URL.canParse(issuer)) return fail(`issuer: "${issuer}" is not a URL`)
  const { protocol, search, hash, pathname, hostname } = new URL(issuer)
  if (pathname.includes('/.well-known/'))
    fail('issuer: this is the address of the discovery document; leave out "/.well-known/…"')
  if (search || hash) fail('issuer: an issuer has no query and no fragment (OIDC Discovery §3)')
  if (protocol !== 'https:' && !(protocol === 'http:' && party.allowInsecureRequests))
    fail('issuer: plain http is refused; use https, or set allowInsecureRequests to try it out')
  const refusal = refused(issuer)
  if (refusal) fail(`issuer: ${refusal}`)
  if (clientAuthentication !== 'none' && (typeof clientSecret !== 'string' || clientSecret === ''))
    fail(`clientSecret: ${clientAuthentication} needs one`)
  if (tenants?.length === 0) fail('tenants: an empty list admits nobody; name the tenants')
  if (tenants && !isEntra(party)) fail('tenants: only issuers of Microsoft Entra have tenants')
  if (isMultiTenant(party) && !tenants)
    fail('tenants: a multi-tenant issuer admits every tenant; name those you mean')

  const warnings: string[] = []
  if (protocol === 'http:' && !/^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname))
    warnings.push(`${where}: issuer: plain http to ${hostname}; anyone on the way can sign in as anyone`)
  if (clientAuthentication === 'none' && clientSecret !== undefined)
    warnings.push(`${where}: clientSecret: clientAuthentication is "none", so it is not used`)
  return warnings
}
