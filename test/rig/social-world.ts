import { createHash } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'

type Json = Record<string, unknown>

/** Somebody at a provider: claims of an ID token, or what a profile and a list of addresses say. */
export interface Person {
  claims?: JWTPayload
  profile?: Json
  emails?: unknown
}

interface Visit {
  readonly person: Person
  readonly query: URLSearchParams
  readonly issuer: string
}

/** What goes wrong; set by a test, and by default nothing. */
export interface WorldFaults {
  /** Makes the ID token of the honest claims. */
  idToken?: (claims: JWTPayload) => string | Promise<string>
  /** Answers in a provider's stead, or leaves it to answer. */
  answer?: (url: URL, init: RequestInit) => Response | Promise<Response> | undefined
}

const issuers: Record<string, { authorize: string; token: string; keys: string }> = {
  'accounts.google.com': {
    authorize: 'https://accounts.google.com/o/oauth2/v2/auth',
    token: 'https://oauth2.googleapis.com/token',
    keys: 'https://www.googleapis.com/oauth2/v3/certs',
  },
  'appleid.apple.com': {
    authorize: 'https://appleid.apple.com/auth/authorize',
    token: 'https://appleid.apple.com/auth/token',
    keys: 'https://appleid.apple.com/auth/keys',
  },
  'issuer.example': {
    authorize: 'https://issuer.example/authorize',
    token: 'https://issuer.example/token',
    keys: 'https://issuer.example/keys',
  },
}

/** Of all of them, and of every world of a file: making one takes longer than most tests. */
const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true })

/**
 * The providers of the world as far as a sign-in sees them, answering in this process for their own addresses:
 * OpenID Connect with signed tokens at Google, Microsoft, Apple and `issuer.example`; OAuth 2.0 at GitHub and
 * `social.example`. Codes work once, for their client, their redirect URI and their PKCE verifier.
 */
export async function startWorld() {
  const jwk = { ...(await exportJWK(publicKey)), kid: 'world', use: 'sig' }
  const visits = new Map<string, Visit>()
  const people = new Map<string, Person>()
  const faults: WorldFaults = {}
  const requests: { url: string; body: string; headers: Headers }[] = []

  const sign = (claims: JWTPayload, header: Json = {}, key: Parameters<SignJWT['sign']>[0] = privateKey) =>
    new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: 'world', ...header }).sign(key)

  async function token(form: URLSearchParams, authorization: string | null): Promise<Json> {
    const code = form.get('code') ?? ''
    const visit = visits.get(code)
    visits.delete(code)
    const id = visit?.query.get('client_id') ?? ''
    const secret = `secret of ${id.replace('client-', '')}`
    const basic = `Basic ${Buffer.from(`${id}:${encodeURIComponent(secret).replaceAll('%20', '+')}`).toString('base64')}`
    const client =
      (form.get('client_id') === id && form.get('client_secret') === secret) || authorization === basic
    if (!client) return { error: visit ? 'invalid_client' : 'invalid_grant' }
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url')
    if (!visit || visit.query.get('redirect_uri') !== form.get('redirect_uri'))
      return { error: 'invalid_grant' }
    if (visit.query.get('code_challenge') !== challenge) return { error: 'invalid_grant' }
    const access = `access-${code}`
    people.set(access, visit.person)
    const answer = { access_token: access, token_type: 'bearer', expires_in: 300 }
    if (!visit.person.claims) return answer
    const seconds = Math.floor(Date.now() / 1000)
    const nonce = visit.query.get('nonce')
    const claims: JWTPayload = {
      iss: visit.issuer,
      aud: id,
      iat: seconds,
      exp: seconds + 300,
      ...(nonce && { nonce }),
      ...visit.person.claims,
    }
    return { ...answer, id_token: await (faults.idToken ?? sign)(claims) }
  }

  async function respond(url: URL, init: RequestInit): Promise<Response> {
    const faulty = await faults.answer?.(url, init)
    if (faulty) return faulty
    const headers = new Headers(init.headers)
    const at = url.origin + url.pathname
    if (init.method === 'POST') {
      const answer = await token(new URLSearchParams(String(init.body)), headers.get('authorization'))
      // GitHub answers a refusal with status 200, everybody else with 400.
      return Response.json(answer, { status: answer.error && url.hostname !== 'github.com' ? 400 : 200 })
    }
    if (url.pathname.endsWith('/.well-known/openid-configuration')) return Response.json(discovery(url))
    if (/\/(?:keys|certs)$/.test(at)) return Response.json({ keys: [jwk] })
    const person = people.get(headers.get('authorization')?.replace('Bearer ', '') ?? '')
    if (!person) return Response.json({ message: 'Bad credentials' }, { status: 401 })
    if (at === 'https://api.github.com/user' || at === 'https://social.example/user')
      return Response.json(person.profile)
    if (at === 'https://api.github.com/user/emails' || at === 'https://social.example/user/emails')
      return Response.json(person.emails)
    return Response.json({ message: 'Not Found' }, { status: 404 })
  }

  return {
    faults,
    /** Requests so far. */
    requests,
    sign,
    fetch: (async (input, init = {}) => {
      const url = new URL(String(input))
      requests.push({ url: url.href, body: String(init.body ?? ''), headers: new Headers(init.headers) })
      return respond(url, init)
    }) as typeof fetch,
    /** What somebody brings back from an authorization URL: `code` and `state`. */
    arrive: (authorize: string, person: Person): URLSearchParams => {
      const { searchParams, hostname } = new URL(authorize)
      const tid = person.claims?.tid
      const issuer =
        hostname === 'login.microsoftonline.com' ? `https://${hostname}/${tid}/v2.0` : `https://${hostname}`
      const code = `code-${visits.size}-${Math.random().toString(36).slice(2)}`
      visits.set(code, { person, query: searchParams, issuer })
      return new URLSearchParams({ code, state: searchParams.get('state')! })
    },
  }
}

export type World = Awaited<ReturnType<typeof startWorld>>

function discovery({ origin, hostname, pathname }: URL): Json {
  const authority = pathname.split('/')[1]!
  const multiple = authority === 'common' || authority === 'organizations'
  const own = issuers[hostname] ?? {
    authorize: `${origin}/${authority}/oauth2/v2.0/authorize`,
    token: `${origin}/${authority}/oauth2/v2.0/token`,
    keys: `${origin}/${authority}/discovery/v2.0/keys`,
  }
  return {
    issuer: issuers[hostname] ? origin : `${origin}/${multiple ? '{tenantid}' : authority}/v2.0`,
    authorization_endpoint: own.authorize,
    token_endpoint: own.token,
    jwks_uri: own.keys,
    id_token_signing_alg_values_supported: ['RS256'],
    response_types_supported: ['code'],
    subject_types_supported: ['public'],
  }
}
