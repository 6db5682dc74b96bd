import {
  assertIdentity,
  type IdentityInput,
  JitError,
  readClaims,
  type SocialProvider,
} from '../lib/index.js'
import type { Claims } from './oidc-claims.js'
import { askIssuer, verifyAnswer } from './oidc-flow.js'
import { jsonObject } from './oidc-http.js'
import { issuerCache } from './oidc-issuer.js'
import { checkParty, type Refused, type RelyingParty } from './oidc-party.js'
import type { Family } from './social.js'

export type OidcProvider = Extract<SocialProvider, { preset: 'google' | 'microsoft' | 'apple' | 'oidc' }>

/** The tenant of Microsoft's personal accounts; `consumers` is only a name for it. */
const personal = '9188040d-6c67-4c5b-b112-36a304b66dad'

export function oidcProvider(): Family<OidcProvider> {
  const issuers = issuerCache()
  return {
    check,
    begin: (entry, attempt, services) =>
      askIssuer(
        issuers,
        partyOf(entry),
        attempt,
        services,
        byForm(entry) ? { response_mode: 'form_post' } : {},
      ),
    complete: async (entry, { query, body }, attempt, services) => {
      const party = partyOf(entry)
      if (body !== null && !byForm(entry))
        throw new JitError('answer_malformed', `${party.where}: the answer came by POST`)
      const parameters = body ?? query
      const proved = await verifyAnswer(issuers, party, parameters, attempt, services)
      const { idToken, subject } = proved
      if (entry.preset === 'microsoft' && entry.tenant === 'organizations' && idToken.tid === personal)
        throw new JitError(
          'assertion_refused',
          `${party.where}: a personal account, and tenant is "organizations"`,
        )
      const claims = entry.preset === 'apple' ? withName(proved.claims, parameters) : proved.claims
      const { email, profile } = readClaims(claims, party.attributes)
      return assertIdentity({
        source: `provider:${entry.id}`,
        sourceVersion: entry.version,
        issuer: idToken.iss as string,
        subject,
        email,
        emailVerified: email === undefined ? 'unstated' : emailVerified(entry, email, claims, idToken),
        profile,
        claims,
        at: services.now(),
      })
    },
  }
}

function partyOf(entry: OidcProvider): RelyingParty {
  const { id, version, clientId, clientSecret, attributes } = entry
  return {
    id,
    version,
    where: `provider "${id}"`,
    clientId,
    clientSecret: clientSecret as string,
    clientAuthentication: entry.preset === 'oidc' ? entry.clientAuthentication : 'client_secret_post',
    clockSkewSeconds: 60,
    allowInsecureRequests: entry.preset === 'oidc' && entry.allowInsecureRequests,
    attributes: { ...attributes, email: 'email' },
    scopes: scopesOf(entry),
    ...issuerOf(entry),
  }
}

function issuerOf(entry: OidcProvider): Pick<RelyingParty, 'issuer' | 'tenants'> {
  switch (entry.preset) {
    case 'google':
      return { issuer: 'https://accounts.google.com' }
    case 'apple':
      return { issuer: 'https://appleid.apple.com' }
    case 'oidc':
      return { issuer: entry.issuer }
    case 'microsoft': {
      const tenant = entry.tenant === 'consumers' ? personal : entry.tenant.toLowerCase()
      const multiple = tenant === 'common' || tenant === 'organizations'
      return {
        issuer: `https://login.microsoftonline.com/${tenant}/v2.0`,
        tenants: multiple ? 'any' : [tenant],
      }
    }
  }
}

const scopesOf = ({ preset, scopes }: OidcProvider): string[] =>
  scopes ?? (preset === 'apple' ? ['openid', 'name', 'email'] : ['openid', 'profile', 'email'])

/** Apple posts its answer, from its own site, where a name or an address is asked for. */
const byForm = (entry: OidcProvider) =>
  entry.preset === 'apple' && scopesOf(entry).some((scope) => scope === 'name' || scope === 'email')

/**
 * What the provider's word on the address is worth, by its own documentation.
 *
 * - Google verified every address once; it answers for the mailboxes it hosts: gmail.com, and a Workspace domain
 *   where `hd` names it (Google Identity, "Verify the Google ID token on your server side").
 * - Apple sends the boolean or its text; an address of its relay is as good as any.
 * - Microsoft lets any tenant's administrator write addresses; only `xms_edov` in the ID token says that the
 *   owner of the domain was verified, and only of the address in the same token.
 * - Any other issuer, where the operator says that its flag is proof.
 */
function emailVerified(
  entry: OidcProvider,
  email: string,
  claims: Claims,
  idToken: Claims,
): NonNullable<IdentityInput['emailVerified']> {
  const flag = claims.email_verified
  switch (entry.preset) {
    case 'google':
      return flag !== true ? 'no' : hostedByGoogle(email, claims.hd) ? 'yes' : 'unstated'
    case 'apple':
      return flag === true || flag === 'true' ? 'yes' : 'no'
    case 'microsoft':
      return idToken.email === email && idToken.xms_edov === true ? 'yes' : 'no'
    case 'oidc':
      return entry.emailVerifiedIsProof && flag === true ? 'yes' : 'no'
  }
}

function hostedByGoogle(email: string, hd: unknown): boolean {
  const domain = email.slice(email.lastIndexOf('@') + 1).toLowerCase()
  return domain === 'gmail.com' || (typeof hd === 'string' && hd.toLowerCase() === domain)
}

/**
 * Apple tells the name once, beside the signed answer and through the browser: good enough for a name that a
 * person chooses anyhow, and for nothing else.
 */
function withName(claims: Claims, parameters: URLSearchParams): Claims {
  const { name } = jsonObject(parameters.get('user') ?? '') ?? {}
  if (claims.name !== undefined || typeof name !== 'object' || name === null) return claims
  const { firstName, lastName } = name as Record<string, unknown>
  const full = [firstName, lastName].filter((part) => typeof part === 'string' && part !== '').join(' ')
  return full === '' ? claims : { ...claims, name: full.slice(0, 200) }
}

function check(entry: OidcProvider, refused?: Refused): string[] {
  const party = partyOf(entry)
  const warnings = checkParty(party, refused)
  const fail = (what: string): never => {
    throw new JitError('config_invalid', `${party.where}: ${what}`)
  }
  if (!party.scopes.includes('openid')) fail('scopes: must include "openid" (OIDC Core §3.1.2.1)')
  if (!party.scopes.includes('email'))
    warnings.push(
      `${party.where}: scopes: without "email" there is no address, so nobody is matched or joined`,
    )
  if (entry.preset === 'oidc' && entry.link === 'verified-email' && !entry.emailVerifiedIsProof)
    warnings.push(`${party.where}: link "verified-email" never fires while emailVerifiedIsProof is off`)
  return warnings
}
