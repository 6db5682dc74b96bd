import * as client from 'openid-client'
import {
  type AssertedIdentity,
  type Attempt,
  assertIdentity,
  type Incoming,
  JitError,
  type OidcConnection,
  readClaims,
  type Services,
  type Strategy,
  single,
} from '../lib/index.js'
import {
  type Claims,
  checkClaims,
  emailVerified,
  groupsOf,
  isEntra,
  isMultiTenant,
  mergeClaims,
  missingClaims,
  subjectOf,
} from './oidc-claims.js'
import { inCauses, issuerCache, printable, reasonOf } from './oidc-issuer.js'

/**
 * OpenID Connect by the authorization code flow, for any issuer with discovery. State, nonce and PKCE (S256)
 * are always sent and checked, and the ID token's signature is verified with the issuer's published keys.
 * Discovery documents are kept for an hour per connection version; a failed one is asked for again.
 */
export function oidcStrategy(): Strategy<OidcConnection> {
  const issuers = issuerCache()
  return {
    protocol: 'oidc',
    check: (connection) => checkConnection(connection),
    attemptKey: ({ method, query }) => (method === 'GET' ? single(query, 'state') : undefined),
    begin: async (connection, attempt, services) => {
      checkConnection(connection)
      const nonce = token(services)
      const verifier = token(services)
      const challenge = await client.calculatePKCECodeChallenge(verifier)
      return issuers.use(connection, services, async (configuration) => {
        const url = client.buildAuthorizationUrl(configuration, {
          redirect_uri: new URL(services.callbackUrl).href,
          scope: connection.scopes.join(' '),
          state: attempt,
          nonce,
          code_challenge: challenge,
          code_challenge_method: 'S256',
        })
        return { redirect: url.href, secrets: { nonce, verifier } }
      })
    },
    complete: async (connection, incoming, attempt, services) => {
      checkConnection(connection)
      const current = answerUrl(connection, incoming, attempt, services)
      try {
        return await issuers.use(connection, services, (configuration) =>
          exchange(connection, configuration, current, attempt!, services),
        )
      } catch (error) {
        throw refusal(connection, error)
      }
    },
  }
}

const token = (services: Services) => Buffer.from(services.random(32)).toString('base64url')

/** The answer as the library takes it: our redirect URI with the parameters that arrived. */
function answerUrl(
  connection: OidcConnection,
  { method, query }: Incoming,
  attempt: Attempt | null,
  services: Services,
): URL {
  const where = `connection "${connection.id}"`
  if (attempt === null)
    throw new JitError('answer_unsolicited', `${where}: OIDC has no IdP-initiated answers`)
  if (method !== 'GET') throw new JitError('answer_malformed', `${where}: the answer came by POST`)
  for (const name of query.keys()) single(query, name)
  if (query.get('iss') === '')
    throw new JitError('assertion_refused', `${where}: the parameter "iss" is empty`)
  if (!query.get('code') && !query.get('error'))
    throw new JitError('answer_malformed', `${where}: the answer has neither "code" nor "error"`)
  const url = new URL(services.callbackUrl)
  url.search = query.toString()
  return url
}

async function exchange(
  connection: OidcConnection,
  configuration: client.Configuration,
  current: URL,
  attempt: Attempt,
  services: Services,
): Promise<AssertedIdentity> {
  const { nonce, verifier } = attempt.secrets
  if (!nonce || !verifier)
    throw new JitError(
      'answer_malformed',
      `connection "${connection.id}": the attempt holds no nonce or verifier`,
    )
  const tokens = await client.authorizationCodeGrant(configuration, current, {
    expectedState: attempt.id,
    expectedNonce: nonce,
    pkceCodeVerifier: verifier,
    idTokenExpected: true,
  })
  const idToken: Claims = tokens.claims()!
  checkClaims(connection, idToken, services.now())
  const subject = subjectOf(connection, idToken)
  const userInfo = await askUserInfo(connection, configuration, tokens.access_token, idToken)
  const claims = mergeClaims(connection, idToken, userInfo)
  const { email, groups, profile } = readClaims(claims, connection.attributes)
  return assertIdentity({
    source: `connection:${connection.id}`,
    sourceVersion: connection.version,
    issuer: idToken.iss as string,
    subject,
    email,
    emailVerified: emailVerified(connection, claims, idToken),
    profile,
    groups: groupsOf(connection, claims, groups),
    claims,
    at: services.now(),
  })
}

/**
 * UserInfo, asked only where the ID token lacks a mapped claim. The e-mail and the groups decide who comes in
 * and with which roles, so without an answer about them there is no sign-in; a display name can wait.
 */
async function askUserInfo(
  connection: OidcConnection,
  configuration: client.Configuration,
  accessToken: string,
  idToken: Claims,
): Promise<Claims | null> {
  const missing = missingClaims(connection, idToken)
  if (missing.length === 0 || !configuration.serverMetadata().userinfo_endpoint) return null
  try {
    return await client.fetchUserInfo(configuration, accessToken, idToken.sub as string)
  } catch (error) {
    const { email, groups } = connection.attributes
    const optional = !missing.some((name) => name === email || name === groups)
    if (optional && inCauses(error, JitError)?.code === 'idp_unreachable') return null
    throw error
  }
}

/** Claims whose values help an operator and are no secret. */
const shown = new Set(['aud', 'azp', 'exp', 'iat', 'iss', 'nbf', 'sub'])

/**
 * What the library threw, as a refusal. Its errors are not kept as the cause: they carry whole responses,
 * with the tokens in them, into whatever prints an error.
 */
function refusal(connection: OidcConnection, error: unknown): JitError {
  const own = inCauses(error, JitError)
  if (own) return own
  const where = `connection "${connection.id}"`
  const answer = inCauses(error, client.AuthorizationResponseError)
  if (answer) {
    const description = answer.error_description ? `: ${plain(answer.error_description)}` : ''
    return new JitError('idp_refused', `${where}: the issuer answered ${plain(answer.error)}${description}`)
  }
  const body = inCauses(error, client.ResponseBodyError)
  const challenged = inCauses(error, client.WWWAuthenticateChallengeError)
  if (challenged || body?.error === 'invalid_client' || body?.error === 'unauthorized_client') {
    return new JitError(
      'config_invalid',
      `${where}: the token endpoint refused this client (${body ? plain(body.error) : `HTTP ${challenged!.status}`}); ` +
        'check clientId, clientSecret and clientAuthentication',
    )
  }
  if (body) {
    const hint =
      body.error === 'invalid_grant' ? ' (the code is expired, used, or not for this redirect_uri)' : ''
    return new JitError('idp_refused', `${where}: the token endpoint answered ${plain(body.error)}${hint}`)
  }
  return new JitError('assertion_refused', `${where}: ${reasonOf(error)}${comparison(error)}`)
}

/** What was compared, where the library says so: the claim, what came and what should have. */
function comparison(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { claim, claims, expected } = (at.cause ?? {}) as {
      claim?: string
      claims?: Claims
      expected?: unknown
    }
    if (typeof claim !== 'string' || !claims || !shown.has(claim)) continue
    const should = expected === undefined ? '' : `, expected ${JSON.stringify(expected)}`
    return printable(`: ${claim} is ${JSON.stringify(claims[claim])}${should}`)
  }
  return ''
}

/** An error code or description of the issuer's for the log. */
const plain = (text: string) => printable(text).replace(/[<>"&\\]/g, '?')

/**
 * What can be told of a connection without asking its issuer; a directory may hold connections that no schema
 * saw, so it is asked at every sign-in too.
 * @throws JitError `config_invalid`
 */
function checkConnection(connection: OidcConnection): string[] {
  const { id, issuer, clientSecret, clientAuthentication, tenants } = connection
  const fail = (what: string): never => {
    throw new JitError('config_invalid', `connection "${id}": ${what}`)
  }
  if (!URL.canParse(issuer)) return fail(`issuer: "${issuer}" is not a URL`)
  const { protocol, search, hash, pathname, hostname } = new URL(issuer)
  if (pathname.includes('/.well-known/'))
    fail('issuer: this is the address of the discovery document; leave out "/.well-known/…"')
  if (search || hash) fail('issuer: an issuer has no query and no fragment (OIDC Discovery §3)')
  if (protocol !== 'https:' && !(protocol === 'http:' && connection.allowInsecureRequests))
    fail('issuer: plain http is refused; use https, or set allowInsecureRequests to try it out')
  if (clientAuthentication !== 'none' && (typeof clientSecret !== 'string' || clientSecret === ''))
    fail(`clientSecret: ${clientAuthentication} needs one`)
  if (tenants?.length === 0) fail('tenants: an empty list admits nobody; name the tenants')
  if (tenants && !isEntra(connection)) fail('tenants: only issuers of Microsoft Entra have tenants')
  if (isMultiTenant(connection) && !tenants)
    fail('tenants: a multi-tenant issuer admits every tenant; name those you mean')

  const warnings: string[] = []
  if (protocol === 'http:' && !/^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname))
    warnings.push(
      `connection "${id}": issuer: plain http to ${hostname}; anyone on the way can sign in as anyone`,
    )
  if (clientAuthentication === 'none' && clientSecret !== undefined)
    warnings.push(`connection "${id}": clientSecret: clientAuthentication is "none", so it is not used`)
  return warnings
}
