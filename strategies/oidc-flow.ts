import * as client from 'openid-client'
import { type Attempt, JitError, type Services, single } from '../lib/index.js'
import { type Claims, checkClaims, mergeClaims, missingClaims, subjectOf } from './oidc-claims.js'
import { inCauses, plain, printable, reasonOf } from './oidc-http.js'
import type { issuerCache } from './oidc-issuer.js'
import { checkParty, type RelyingParty } from './oidc-party.js'

type Issuers = ReturnType<typeof issuerCache>

/** What an issuer's answer proved. */
export interface Proved {
  /** Claims of the signed ID token alone. */
  readonly idToken: Claims
  /** The claims of ID token and UserInfo together. */
  readonly claims: Claims
  readonly subject: string
}

/**
 * Where to send the person, with state, nonce and PKCE (S256).
 * @param more further parameters of the authorization request
 * @throws JitError `config_invalid`, `idp_unreachable`
 */
export async function askIssuer(
  issuers: Issuers,
  party: RelyingParty,
  attempt: string,
  services: Services,
  more: Record<string, string> = {},
): Promise<{ redirect: string; secrets: Record<string, string> }> {
  checkParty(party)
  const nonce = token(services)
  const verifier = token(services)
  const challenge = await client.calculatePKCECodeChallenge(verifier)
  return issuers.use(party, services, async (configuration) => {
    const url = client.buildAuthorizationUrl(configuration, {
      ...more,
      redirect_uri: new URL(services.callbackUrl).href,
      scope: party.scopes.join(' '),
      state: attempt,
      nonce,
      code_challenge: challenge,
      code_challenge_method: 'S256',
    })
    return { redirect: url.href, secrets: { nonce, verifier } }
  })
}

/**
 * Verifies an issuer's answer.
 * @param parameters as they arrived, whether in the query or in a form
 * @throws JitError `answer_unsolicited`, `answer_malformed`, `assertion_refused`, `idp_refused`,
 *   `idp_unreachable`, `config_invalid`
 */
export async function verifyAnswer(
  issuers: Issuers,
  party: RelyingParty,
  parameters: URLSearchParams,
  attempt: Attempt | null,
  services: Services,
): Promise<Proved> {
  checkParty(party)
  if (attempt === null)
    throw new JitError('answer_unsolicited', `${party.where}: OIDC has no IdP-initiated answers`)
  const current = answerUrl(party, parameters, services)
  try {
    return await issuers.use(party, services, (configuration) =>
      exchange(party, configuration, current, attempt, services),
    )
  } catch (error) {
    throw refusal(party, error)
  }
}

const token = (services: Services) => Buffer.from(services.random(32)).toString('base64url')

/** The answer as the library takes it: our redirect URI with the parameters that arrived. */
function answerUrl({ where }: RelyingParty, parameters: URLSearchParams, services: Services): URL {
  for (const name of parameters.keys()) single(parameters, name)
  if (parameters.get('iss') === '')
    throw new JitError('assertion_refused', `${where}: the parameter "iss" is empty`)
  if (!parameters.get('code') && !parameters.get('error'))
    throw new JitError('answer_malformed', `${where}: the answer has neither "code" nor "error"`)
  const url = new URL(services.callbackUrl)
  url.search = parameters.toString()
  return url
}

async function exchange(
  party: RelyingParty,
  configuration: client.Configuration,
  current: URL,
  attempt: Attempt,
  services: Services,
): Promise<Proved> {
  const { nonce, verifier } = attempt.secrets
  if (!nonce || !verifier)
    throw new JitError('answer_malformed', `${party.where}: the attempt holds no nonce or verifier`)
  const tokens = await client.authorizationCodeGrant(configuration, current, {
    expectedState: attempt.id,
    expectedNonce: nonce,
    pkceCodeVerifier: verifier,
    idTokenExpected: true,
  })
  const idToken: Claims = tokens.claims()!
  checkClaims(party, idToken, services.now())
  const subject = subjectOf(party, idToken)
  const userInfo = await askUserInfo(party, configuration, tokens.access_token, idToken)
  return { idToken, claims: mergeClaims(party, idToken, userInfo), subject }
}

/**
 * UserInfo, asked only where the ID token lacks a mapped claim. The e-mail and the groups decide who comes in
 * and with which roles, so without an answer about them there is no sign-in; a display name can wait.
 */
async function askUserInfo(
  party: RelyingParty,
  configuration: client.Configuration,
  accessToken: string,
  idToken: Claims,
): Promise<Claims | null> {
  const missing = missingClaims(party, idToken)
  if (missing.length === 0 || !configuration.serverMetadata().userinfo_endpoint) return null
  try {
    return await client.fetchUserInfo(configuration, accessToken, idToken.sub as string)
  } catch (error) {
    const optional = !missing.some((name) => name === 'email' || name === 'groups')
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
function refusal(party: RelyingParty, error: unknown): JitError {
  const own = inCauses(error, JitError)
  if (own) return own
  const { where } = party
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
