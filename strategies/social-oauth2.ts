import {
  type Attempt,
  assertIdentity,
  type IdentityInput,
  type Incoming,
  JitError,
  readClaims,
  type Services,
  type SocialProvider,
  single,
} from '../lib/index.js'
import { jsonObject, plain, unusable } from './oidc-http.js'
import type { Refused } from './oidc-party.js'
import type { Family } from './social.js'

export type OAuth2Provider = Extract<SocialProvider, { preset: 'github' | 'oauth2' }>

type OAuth2Entry = Extract<OAuth2Provider, { preset: 'oauth2' }>
interface Client
  extends Pick<
    OAuth2Entry,
    | 'authorizationEndpoint'
    | 'tokenEndpoint'
    | 'profileEndpoint'
    | 'emailsEndpoint'
    | 'subject'
    | 'clientAuthentication'
    | 'clientId'
  > {
  readonly where: string
  readonly clientSecret: string
  readonly scopes: readonly string[]
}

const github = {
  authorizationEndpoint: 'https://github.com/login/oauth/authorize',
  tokenEndpoint: 'https://github.com/login/oauth/access_token',
  profileEndpoint: 'https://api.github.com/user',
  emailsEndpoint: 'https://api.github.com/user/emails',
  subject: 'id',
  clientAuthentication: 'client_secret_post',
} as const

/**
 * OAuth 2.0 by the authorization code flow with PKCE (RFC 7636; who does not know it ignores it). OAuth proves no
 * identity: whoever holds the access token is asked for, at the provider's profile endpoint, with a token that
 * came straight from its token endpoint and never through the browser.
 */
export const oauth2Provider: Family<OAuth2Provider> = {
  check,
  begin: async (entry, attempt, services) => {
    check(entry)
    const client = clientOf(entry)
    const verifier = Buffer.from(services.random(32)).toString('base64url')
    const digest = await crypto.subtle.digest('SHA-256', Buffer.from(verifier))
    const url = new URL(client.authorizationEndpoint)
    const parameters = {
      response_type: 'code',
      client_id: client.clientId,
      redirect_uri: services.callbackUrl,
      state: attempt,
      code_challenge: Buffer.from(digest).toString('base64url'),
      code_challenge_method: 'S256',
    }
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
    if (client.scopes.length > 0) url.searchParams.set('scope', client.scopes.join(' '))
    return { redirect: url.href, secrets: { verifier } }
  },
  complete: async (entry, incoming, attempt, services) => {
    check(entry)
    const client = clientOf(entry)
    const code = codeOf(client, incoming, attempt!)
    const token = await accessToken(client, code, attempt!, services)
    const profile = jsonObject(await get(client, client.profileEndpoint, token, services))
    if (!profile) throw unusable(client.where, client.profileEndpoint, 'is not a JSON object')
    const { email: stated, profile: attributes } = readClaims(profile, {
      ...entry.attributes,
      email: 'email',
    })
    const email = client.emailsEndpoint
      ? chosen(await addresses(client, client.emailsEndpoint, token, services), stated, entry.preset)
      : { email: stated, emailVerified: 'unstated' as const }
    return assertIdentity({
      source: `provider:${entry.id}`,
      sourceVersion: entry.version,
      issuer: new URL(client.authorizationEndpoint).origin,
      subject: subjectOf(client, profile),
      ...email,
      profile: attributes,
      claims: profile,
      at: services.now(),
    })
  },
}

function clientOf(entry: OAuth2Provider): Client {
  const { clientId, scopes } = entry
  const own = {
    where: `provider "${entry.id}"`,
    clientId,
    clientSecret: entry.clientSecret as string,
    scopes: scopes ?? (entry.preset === 'github' ? ['read:user', 'user:email'] : []),
  }
  return entry.preset === 'github' ? { ...github, ...own } : { ...entry, ...own }
}

/** The code, of an answer that is a success and belongs to this attempt (RFC 6749 §4.1.2). */
function codeOf({ where }: Client, { method, query }: Incoming, attempt: Attempt): string {
  if (method !== 'GET') throw new JitError('answer_malformed', `${where}: the answer came by POST`)
  if (single(query, 'state') !== attempt.id)
    throw new JitError('assertion_refused', `${where}: "state" is not that of this sign-in`)
  const error = single(query, 'error')
  if (error !== undefined) {
    const description = single(query, 'error_description')
    throw new JitError(
      'idp_refused',
      `${where}: the provider answered ${plain(error)}${description ? `: ${plain(description)}` : ''}`,
    )
  }
  const code = single(query, 'code')
  if (!code) throw new JitError('answer_malformed', `${where}: the answer has neither "code" nor "error"`)
  return code
}

/** Error codes that blame our registration at the provider, RFC 6749 §5.2 and GitHub's own. */
const ours = new Set([
  'invalid_client',
  'unauthorized_client',
  'incorrect_client_credentials',
  'redirect_uri_mismatch',
])

async function accessToken(
  client: Client,
  code: string,
  attempt: Attempt,
  services: Services,
): Promise<string> {
  const { where, clientId, clientSecret, tokenEndpoint, clientAuthentication } = client
  const { verifier } = attempt.secrets
  if (!verifier) throw new JitError('answer_malformed', `${where}: the attempt holds no verifier`)
  const form = new URLSearchParams({
    grant_type: 'authorization_code',
    code,
    redirect_uri: services.callbackUrl,
    code_verifier: verifier,
  })
  const headers = new Headers({ accept: 'application/json', 'user-agent': 'passport-jit' })
  if (clientAuthentication === 'client_secret_basic') {
    // Each is form-encoded first (RFC 6749 §2.3.1).
    const encoded = [clientId, clientSecret].map((part) =>
      new URLSearchParams({ '': part }).toString().slice(1),
    )
    headers.set('authorization', `Basic ${Buffer.from(encoded.join(':')).toString('base64')}`)
  } else {
    form.set('client_id', clientId)
    form.set('client_secret', clientSecret)
  }
  const { signal } = services
  const response = await services.fetch(tokenEndpoint, { method: 'POST', headers, body: form, signal })
  const { status } = response
  const answer = jsonObject(await response.text())
  const error = answer?.error
  if (typeof error === 'string' && (status === 200 || status === 400 || status === 401)) {
    const detail = `${where}: the token endpoint answered ${plain(error)}`
    throw ours.has(error)
      ? new JitError(
          'config_invalid',
          `${detail}; check clientId, clientSecret and the registered callback URL`,
        )
      : new JitError('idp_refused', detail)
  }
  if (status === 401)
    throw new JitError(
      'config_invalid',
      `${where}: the token endpoint refused this client (HTTP 401); check clientId, clientSecret and clientAuthentication`,
    )
  if (status !== 200) throw unusable(client.where, tokenEndpoint, `has HTTP status ${status}`)
  if (!answer) throw unusable(client.where, tokenEndpoint, 'is not a JSON object')
  const { access_token: token, token_type: type } = answer
  if (typeof token !== 'string' || !/^[\x21-\x7e]{1,8192}$/.test(token))
    throw unusable(client.where, tokenEndpoint, 'has no usable "access_token"')
  if (type !== undefined && String(type).toLowerCase() !== 'bearer')
    throw unusable(client.where, tokenEndpoint, 'has a "token_type" other than "bearer"')
  return token
}

async function get(client: Client, url: string, token: string, services: Services): Promise<string> {
  const response = await services.fetch(url, {
    headers: { accept: 'application/json', authorization: `Bearer ${token}`, 'user-agent': 'passport-jit' },
    signal: services.signal,
  })
  const { status } = response
  if (status === 200) return response.text()
  const hint = [401, 403, 404].includes(status) ? '; do the scopes include what it tells?' : ''
  throw unusable(client.where, url, `has HTTP status ${status}${hint}`)
}

/**
 * Who it is at the provider. A number must be one that JSON carries exactly: beyond 2^53 two people's would
 * come out as one.
 */
function subjectOf({ where, subject }: Client, profile: Readonly<Record<string, unknown>>): string {
  const value = Object.hasOwn(profile, subject) ? profile[subject] : undefined
  if (typeof value === 'string') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  throw new JitError(
    'identity_invalid',
    `${where}: "${subject}" of the profile is no text and no exact integer`,
  )
}

interface Address {
  readonly email: string
  readonly primary: boolean
  readonly verified: boolean
}

async function addresses(client: Client, url: string, token: string, services: Services): Promise<Address[]> {
  const body = await get(client, url, token, services)
  let list: unknown = null
  try {
    list = JSON.parse(body)
  } catch {}
  if (!Array.isArray(list)) throw unusable(client.where, url, 'is not a JSON list')
  return list.flatMap((entry) =>
    typeof entry?.email === 'string'
      ? [{ email: entry.email, primary: entry.primary === true, verified: entry.verified === true }]
      : [],
  )
}

/** The address to go by: the primary one where it is verified, else another that is, else one that proves nothing. */
function chosen(
  list: readonly Address[],
  stated: string | undefined,
  preset: OAuth2Provider['preset'],
): Pick<IdentityInput, 'email' | 'emailVerified'> {
  // GitHub's stand-ins for a hidden address are listed as verified, and take no mail.
  const real = list.filter(
    ({ email }) => preset !== 'github' || !/@users\.noreply\.github\.com$/i.test(email),
  )
  const verified = real.filter((entry) => entry.verified)
  const best = verified.find(({ primary }) => primary) ?? verified[0]
  if (best) return { email: best.email, emailVerified: 'yes' }
  return { email: real.find(({ primary }) => primary)?.email ?? stated, emailVerified: 'no' }
}

function check(entry: OAuth2Provider, refused: Refused = () => null): string[] {
  const client = clientOf(entry)
  const { where, clientSecret, emailsEndpoint } = client
  const warnings: string[] = []
  const fail = (what: string): never => {
    throw new JitError('config_invalid', `${where}: ${what}`)
  }
  if (typeof clientSecret !== 'string' || clientSecret === '') fail('clientSecret: it needs one')
  for (const name of [
    'authorizationEndpoint',
    'tokenEndpoint',
    'profileEndpoint',
    'emailsEndpoint',
  ] as const) {
    const value = client[name]
    if (value === undefined && name === 'emailsEndpoint') continue
    if (value === undefined || !URL.canParse(value)) return fail(`${name}: "${value}" is not a URL`)
    const { protocol, hostname } = new URL(value)
    if (protocol !== 'https:' && !(protocol === 'http:' && entry.allowInsecureRequests))
      fail(`${name}: plain http is refused; use https, or set allowInsecureRequests to try it out`)
    // The browser asks the first of them, we the others.
    const refusal = name === 'authorizationEndpoint' ? null : refused(value)
    if (refusal) fail(`${name}: ${refusal}`)
    if (protocol === 'https:') continue
    if (!/^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname))
      warnings.push(`${where}: ${name}: plain http to ${hostname}; anyone on the way can sign in as anyone`)
  }
  if (!emailsEndpoint && entry.link === 'verified-email')
    warnings.push(`${where}: link "verified-email" never fires without emailsEndpoint`)
  return warnings
}
