import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'

// An OpenID Connect provider small enough to read: it asks nobody for a password, so it is for demos and
// tests only. passport-jit knows nothing of it but its issuer.

/** Somebody this provider can sign in. */
export interface Person {
  id: string
  email: string
  name: string
  groups: readonly string[]
}

export interface OidcIdpOptions {
  /** Absolute URL under which `handler` is served; discovery is below it (OIDC Discovery §4). */
  issuer: string
  people: readonly Person[]
  clients: readonly { id: string; secret: string; redirectUris: readonly string[] }[]
  /**
   * Groups that an answer names at most; of more it says that they are to be had elsewhere (OIDC Core §5.6.2), as
   * Entra ID does. 200 by default.
   */
  mostGroups?: number
}

export interface OidcIdp {
  readonly issuer: string
  /** A `node:http` request listener. */
  readonly handler: (req: IncomingMessage, res: ServerResponse) => void
}

/** Codes live a minute, access tokens and ID tokens five; in milliseconds. */
const lifetimes = { code: 60_000, token: 300_000 } as const

interface Grant {
  person: Person
  client: string
  redirectUri: string
  challenge: string
  nonce: string | null
  expires: number
}

/** What an endpoint answers: a page, a document, or a way to go. */
type Answer =
  | { status: number; html: string }
  | { status: number; json: unknown; headers?: Record<string, string> }
  | { location: string }

export async function createOidcIdp(options: OidcIdpOptions): Promise<OidcIdp> {
  const { issuer, people, clients, mostGroups = 200 } = options
  const base = issuer.replace(/\/$/, '')
  const { privateKey, publicKey } = await generateKeyPair('RS256')
  const kid = randomBytes(8).toString('base64url')
  const jwk = { ...(await exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig' }
  const codes = new Map<string, Grant>()
  const tokens = new Map<string, { person: Person; expires: number }>()

  const discovery = {
    issuer,
    authorization_endpoint: `${base}/authorize`,
    token_endpoint: `${base}/token`,
    userinfo_endpoint: `${base}/userinfo`,
    jwks_uri: `${base}/jwks`,
    response_types_supported: ['code'],
    response_modes_supported: ['query'],
    grant_types_supported: ['authorization_code'],
    subject_types_supported: ['public'],
    scopes_supported: ['openid', 'profile', 'email', 'groups'],
    claims_supported: ['sub', 'email', 'email_verified', 'name', 'groups'],
    id_token_signing_alg_values_supported: ['RS256'],
    token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
  }

  function authorize(query: URLSearchParams): Answer {
    const client = clients.find(({ id }) => id === query.get('client_id'))
    const redirectUri = query.get('redirect_uri') ?? ''
    // An unknown client or address is told to the person: a redirect would make this an open one.
    if (!client) return problem(`There is no client "${query.get('client_id') ?? ''}".`)
    if (!client.redirectUris.includes(redirectUri)) {
      return problem(`"${redirectUri}" is not a redirect URI of "${client.id}".`)
    }
    const back = (parameters: Record<string, string>): Answer => {
      const url = new URL(redirectUri)
      for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
      if (query.has('state')) url.searchParams.set('state', query.get('state')!)
      url.searchParams.set('iss', issuer)
      return { location: url.href }
    }
    if (query.get('response_type') !== 'code') return back({ error: 'unsupported_response_type' })
    if (!(query.get('scope') ?? '').split(' ').includes('openid')) return back({ error: 'invalid_scope' })
    const challenge = query.get('code_challenge') ?? ''
    if (query.get('code_challenge_method') !== 'S256' || !/^[\w-]{43}$/.test(challenge)) {
      return back({ error: 'invalid_request', error_description: 'PKCE with S256 is required' })
    }
    if (query.has('decline')) return back({ error: 'access_denied' })
    const person = people.find(({ id }) => id === query.get('person'))
    if (!person) return { status: 200, html: picker(client.id, query) }
    const code = randomBytes(32).toString('base64url')
    codes.set(code, {
      person,
      client: client.id,
      redirectUri,
      challenge,
      nonce: query.get('nonce'),
      expires: Date.now() + lifetimes.code,
    })
    return back({ code })
  }

  async function token(req: IncomingMessage): Promise<Answer> {
    const form = new URLSearchParams(await text(req))
    const [id, secret] = credentials(req, form)
    const client = clients.find((entry) => entry.id === id && entry.secret === secret)
    if (!client) {
      const headers = { 'www-authenticate': 'Basic realm="token"' }
      return { status: 401, json: { error: 'invalid_client' }, headers }
    }
    if (form.get('grant_type') !== 'authorization_code') {
      return { status: 400, json: { error: 'unsupported_grant_type' } }
    }
    const grant = codes.get(form.get('code') ?? '')
    codes.delete(form.get('code') ?? '')
    const challenge = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url')
    if (
      !grant ||
      grant.expires < Date.now() ||
      grant.client !== client.id ||
      grant.redirectUri !== form.get('redirect_uri') ||
      grant.challenge !== challenge
    ) {
      return { status: 400, json: { error: 'invalid_grant' } }
    }
    const accessToken = randomBytes(32).toString('base64url')
    tokens.set(accessToken, { person: grant.person, expires: Date.now() + lifetimes.token })
    const idToken = await new SignJWT({
      ...claimsOf(grant.person, mostGroups),
      ...(grant.nonce !== null && { nonce: grant.nonce }),
    })
      .setProtectedHeader({ alg: 'RS256', kid })
      .setIssuer(issuer)
      .setAudience(client.id)
      .setIssuedAt()
      .setExpirationTime(`${lifetimes.token / 1000}s`)
      .sign(privateKey)
    return {
      status: 200,
      json: {
        access_token: accessToken,
        token_type: 'Bearer',
        expires_in: lifetimes.token / 1000,
        id_token: idToken,
      },
    }
  }

  function userinfo(req: IncomingMessage): Answer {
    const found = tokens.get(/^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1] ?? '')
    if (found && found.expires > Date.now()) return { status: 200, json: claimsOf(found.person, mostGroups) }
    const headers = { 'www-authenticate': 'Bearer error="invalid_token"' }
    return { status: 401, json: { error: 'invalid_token' }, headers }
  }

  function picker(client: string, query: URLSearchParams): string {
    const link = (name: string, value: string) => {
      const next = new URLSearchParams(query)
      next.set(name, value)
      return escapeHtml(`${base}/authorize?${next}`)
    }
    const buttons = people.map(
      ({ id, name, email }) => `<a class="person" href="${link('person', id)}">
<span class="face" style="background:hsl(${hue(id)} 60% 42%)">${escapeHtml(initials(name))}</span>
<span><strong>${escapeHtml(name)}</strong><small>${escapeHtml(email)}</small></span></a>`,
    )
    return page(
      'Who is signing in?',
      `<p class="lead">to continue to <b>${escapeHtml(client)}</b></p>
${buttons.join('\n')}
<a class="decline" href="${link('decline', '1')}">Nobody, go back</a>`,
    )
  }

  async function answer(req: IncomingMessage): Promise<Answer> {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://provider.invalid')
    const prefix = new URL(base).pathname.replace(/\/$/, '')
    const at = pathname.startsWith(prefix) ? pathname.slice(prefix.length) : ''
    switch (`${req.method} ${at}`) {
      case 'GET /.well-known/openid-configuration':
        return { status: 200, json: discovery }
      case 'GET /jwks':
        return { status: 200, json: { keys: [jwk] } }
      case 'GET /authorize':
        return authorize(searchParams)
      case 'POST /token':
        return token(req)
      case 'GET /userinfo':
      case 'POST /userinfo':
        return userinfo(req)
      default:
        return { status: 404, json: { error: 'not_found' } }
    }
  }

  return {
    issuer,
    handler: (req, res) => {
      answer(req).then(
        (result) => send(res, result),
        () => send(res, { status: 400, json: { error: 'invalid_request' } }),
      )
    },
  }
}

const claimsOf = ({ id, email, name, groups }: Person, mostGroups: number) => ({
  sub: id,
  email,
  email_verified: true,
  name,
  ...(groups.length > mostGroups
    ? { _claim_names: { groups: 'elsewhere' }, _claim_sources: { elsewhere: {} } }
    : { groups }),
})

/** Client id and secret by Basic (each form-encoded first, RFC 6749 §2.3.1) or by form fields. */
function credentials(req: IncomingMessage, form: URLSearchParams): [string | null, string | null] {
  const basic = /^Basic (.+)$/i.exec(req.headers.authorization ?? '')?.[1]
  if (!basic) return [form.get('client_id'), form.get('client_secret')]
  const [id = '', secret = ''] = Buffer.from(basic, 'base64').toString('utf8').split(':')
  const decode = (value: string) => decodeURIComponent(value.replaceAll('+', ' '))
  return [decode(id), decode(secret)]
}

async function text(req: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of req.setEncoding('utf8')) {
    body += chunk
    if (body.length > 100_000) throw new Error('the request is too large')
  }
  return body
}

function send(res: ServerResponse, answer: Answer): void {
  res.setHeader('cache-control', 'no-store')
  if ('location' in answer) {
    res.writeHead(302, { location: answer.location }).end()
  } else if ('html' in answer) {
    res.writeHead(answer.status, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy':
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
      'referrer-policy': 'no-referrer',
    })
    res.end(answer.html)
  } else {
    res.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
    res.end(JSON.stringify(answer.json))
  }
}

const problem = (what: string): Answer => ({
  status: 400,
  html: page('This sign-in cannot go on', `<p class="lead">${escapeHtml(what)}</p>`),
})

const page = (title: string, body: string) => `<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>${title}</title><style>
body{font:16px/1.45 system-ui,sans-serif;color:#1c2230;background:linear-gradient(160deg,#e6f2ef,#eef0fb);min-height:100vh;margin:0;display:grid;place-items:center}
main{background:#fff;border-radius:18px;box-shadow:0 12px 40px #1c223022;padding:2rem;width:min(23rem,84vw)}
h1{font-size:1.35rem;margin:0}.lead{color:#5b6478;margin:.25rem 0 1.4rem}.tag{font-size:.75rem;letter-spacing:.08em;text-transform:uppercase;color:#0b7a63}
.person{display:flex;gap:.9rem;align-items:center;padding:.65rem .8rem;margin:.5rem 0;border:1px solid #dfe3ec;border-radius:12px;color:inherit;text-decoration:none}
.person:hover,.person:focus-visible{border-color:#0b7a63;background:#f2faf8;outline:none}.person small{display:block;color:#5b6478}
.face{flex:none;width:2.5rem;height:2.5rem;border-radius:50%;color:#fff;display:grid;place-items:center;font-weight:600}
.decline{display:inline-block;margin-top:1rem;color:#5b6478;font-size:.875rem}</style>
<main><span class="tag">OpenID Connect test provider</span><h1>${title}</h1>${body}</main></html>`

const initials = (name: string) =>
  name
    .split(/\s+/)
    .map((word) => word[0] ?? '')
    .slice(0, 2)
    .join('')
    .toUpperCase()

const hue = (id: string) => createHash('sha256').update(id).digest()[0]! * 1.4

const escapeHtml = (value: string) => value.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
