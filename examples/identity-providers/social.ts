import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

// An OAuth 2.0 provider in the manner of GitHub, small enough to read: no ID tokens, a numeric id, and a list of
// addresses of which some may be unverified. It asks nobody for a password, so it is for demos and tests only.

/** Somebody this provider can sign in. */
export interface SocialPerson {
  id: number
  name: string
  login: string
  emails: readonly { email: string; primary: boolean; verified: boolean }[]
}

export interface OAuth2ProviderOptions {
  /** Absolute URL under which `handler` is served. */
  url: string
  people: readonly SocialPerson[]
  clients: readonly { id: string; secret: string; redirectUris: readonly string[] }[]
  /** What its page calls it; `Social test provider` by default. */
  name?: string
}

export interface OAuth2Provider {
  /** A `node:http` request listener. */
  readonly handler: (req: IncomingMessage, res: ServerResponse) => void
  readonly authorizationEndpoint: string
  readonly tokenEndpoint: string
  readonly profileEndpoint: string
  readonly emailsEndpoint: string
}

/** Codes live a minute, access tokens five; in milliseconds. */
const lifetimes = { code: 60_000, token: 300_000 } as const

interface Grant {
  person: SocialPerson
  client: string
  redirectUri: string
  challenge: string | null
  expires: number
}

/** What an endpoint answers: a page, a document, or a way to go. */
type Answer = { status: number; html: string } | { status: number; json: unknown } | { location: string }

export function createOAuth2Provider(options: OAuth2ProviderOptions): OAuth2Provider {
  const { people, clients, name = 'Social test provider' } = options
  const base = options.url.replace(/\/$/, '')
  const codes = new Map<string, Grant>()
  const tokens = new Map<string, { person: SocialPerson; expires: number }>()

  function authorize(query: URLSearchParams): Answer {
    const client = clients.find(({ id }) => id === query.get('client_id'))
    const redirectUri = query.get('redirect_uri') ?? ''
    // An unknown client or address is told to the person: a redirect would make this an open one.
    if (!client) return problem(`There is no client "${query.get('client_id') ?? ''}".`)
    if (!client.redirectUris.includes(redirectUri)) {
      return problem(`"${redirectUri}" is not a callback URL of "${client.id}".`)
    }
    const back = (parameters: Record<string, string>): Answer => {
      const url = new URL(redirectUri)
      for (const [key, value] of Object.entries(parameters)) url.searchParams.set(key, value)
      if (query.has('state')) url.searchParams.set('state', query.get('state')!)
      return { location: url.href }
    }
    if (query.get('response_type') !== 'code') return back({ error: 'unsupported_response_type' })
    const challenge = query.get('code_challenge')
    if (challenge !== null && query.get('code_challenge_method') !== 'S256') {
      return back({ error: 'invalid_request', error_description: 'PKCE is S256 or none here' })
    }
    if (query.has('decline')) return back({ error: 'access_denied' })
    const person = people.find(({ id }) => String(id) === query.get('person'))
    if (!person) return { status: 200, html: picker(client.id, query) }
    const code = randomBytes(20).toString('hex')
    const expires = Date.now() + lifetimes.code
    codes.set(code, { person, client: client.id, redirectUri, challenge, expires })
    return back({ code })
  }

  /** Answers refusals with status 200, as GitHub does. */
  async function token(req: IncomingMessage): Promise<Answer> {
    const form = new URLSearchParams(await text(req))
    const [id, secret] = credentials(req, form)
    const client = clients.find((entry) => entry.id === id && entry.secret === secret)
    if (!client) return { status: 200, json: { error: 'incorrect_client_credentials' } }
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
      (grant.challenge !== null && grant.challenge !== challenge)
    ) {
      return { status: 200, json: { error: 'bad_verification_code' } }
    }
    const accessToken = randomBytes(32).toString('base64url')
    tokens.set(accessToken, { person: grant.person, expires: Date.now() + lifetimes.token })
    return { status: 200, json: { access_token: accessToken, token_type: 'bearer', scope: 'user:email' } }
  }

  function resource(req: IncomingMessage, read: (person: SocialPerson) => unknown): Answer {
    const found = tokens.get(/^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1] ?? '')
    return found && found.expires > Date.now()
      ? { status: 200, json: read(found.person) }
      : { status: 401, json: { message: 'Bad credentials' } }
  }

  function picker(client: string, query: URLSearchParams): string {
    const link = (key: string, value: string) => {
      const next = new URLSearchParams(query)
      next.set(key, value)
      return escapeHtml(`${base}/authorize?${next}`)
    }
    const buttons = people.map((person) => {
      const main = person.emails.find(({ primary }) => primary) ?? person.emails[0]
      const address = main ? `${main.email}${main.verified ? '' : ' (not verified)'}` : 'no address'
      return `<a class="person" href="${link('person', String(person.id))}">
<span class="face" style="background:hsl(${(person.id * 67) % 360} 60% 42%)">${escapeHtml(initials(person.name))}</span>
<span><strong>${escapeHtml(person.name)}</strong> @${escapeHtml(person.login)}<small>${escapeHtml(address)}</small></span></a>`
    })
    return page(
      'Who is signing in?',
      `<p class="lead">to continue to <b>${escapeHtml(client)}</b></p>
${buttons.join('\n')}
<a class="decline" href="${link('decline', '1')}">Nobody, go back</a>`,
    )
  }

  const problem = (what: string): Answer => ({
    status: 400,
    html: page('This sign-in cannot go on', `<p class="lead">${escapeHtml(what)}</p>`),
  })

  const page = (title: string, body: string) => `<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>${title}</title><style>
body{font:16px/1.45 system-ui,sans-serif;color:#1c2230;background:linear-gradient(160deg,#f6ebf3,#eaf0fb);min-height:100vh;margin:0;display:grid;place-items:center}
main{background:#fff;border-radius:18px;box-shadow:0 12px 40px #1c223022;padding:2rem;width:min(23rem,84vw)}
h1{font-size:1.35rem;margin:0}.lead{color:#5b6478;margin:.25rem 0 1.4rem}.tag{font-size:.75rem;letter-spacing:.08em;text-transform:uppercase;color:#8a2f7a}
.person{display:flex;gap:.9rem;align-items:center;padding:.65rem .8rem;margin:.5rem 0;border:1px solid #dfe3ec;border-radius:12px;color:inherit;text-decoration:none}
.person:hover,.person:focus-visible{border-color:#8a2f7a;background:#fbf4f9;outline:none}.person small{display:block;color:#5b6478}
.face{flex:none;width:2.5rem;height:2.5rem;border-radius:50%;color:#fff;display:grid;place-items:center;font-weight:600}
.decline{display:inline-block;margin-top:1rem;color:#5b6478;font-size:.875rem}</style>
<main><span class="tag">${escapeHtml(name)}</span><h1>${title}</h1>${body}</main></html>`

  async function answer(req: IncomingMessage): Promise<Answer> {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://provider.invalid')
    const prefix = new URL(base).pathname.replace(/\/$/, '')
    const at = pathname.startsWith(prefix) ? pathname.slice(prefix.length) : ''
    switch (`${req.method} ${at}`) {
      case 'GET /authorize':
        return authorize(searchParams)
      case 'POST /token':
        return token(req)
      case 'GET /user':
        return resource(req, ({ id, login, name }) => ({ id, login, name, email: null }))
      case 'GET /user/emails':
        return resource(req, ({ emails }) => emails)
      default:
        return { status: 404, json: { message: 'Not Found' } }
    }
  }

  return {
    handler: (req, res) => {
      answer(req).then(
        (result) => send(res, result),
        () => send(res, { status: 400, json: { message: 'Bad Request' } }),
      )
    },
    authorizationEndpoint: `${base}/authorize`,
    tokenEndpoint: `${base}/token`,
    profileEndpoint: `${base}/user`,
    emailsEndpoint: `${base}/user/emails`,
  }
}

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
    res.writeHead(answer.status, { 'content-type': 'application/json' })
    res.end(JSON.stringify(answer.json))
  }
}

const initials = (name: string) =>
  name
    .split(/\s+/)
    .map((word) => word[0] ?? '')
    .slice(0, 2)
    .join('')
    .toUpperCase()

const escapeHtml = (value: string) => value.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
