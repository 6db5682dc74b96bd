import fc from 'fast-check'
import { anything, text } from './inputs.js'
import { script } from './scene.js'

// Requests that no honest client sends, as bytes.

export interface Request {
  readonly method: string
  readonly target: string
  /** Whether the cookie of somebody's session goes with it. */
  readonly signedIn: boolean
  readonly cookies: string
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly content: { readonly type: string; readonly body: string }
  readonly framing: keyof typeof framings
}

/** The routes of the kit, and the method that most of them expect. */
const endpoints = [
  ...['/auth/discover', '/auth/email', '/auth/email/verify', '/auth/prove', '/auth/logout'].map(post),
  ...['/auth/email/verify', '/auth/prove', '/me', '/auth/sso/acme/metadata'].map(get),
  ...['/auth/sso/acme', '/auth/sso/globex', '/auth/social/google', '/auth/social/github'].map(get),
  ...['/auth/sso/globex', '/auth/social/google', '/auth/social/github'].map((path) =>
    get(`${path}/callback`),
  ),
  ...['/auth/sso/acme', '/auth/social/apple'].flatMap((path) => [
    post(`${path}/callback`),
    get(`${path}/callback`),
  ]),
]
function get(path: string) {
  return ['GET', path] as const
}
function post(path: string) {
  return ['POST', path] as const
}

/** Where nothing is, or nothing more than a refusal. */
const otherPaths = [
  ...['nobody', 'email', '__proto__', 'constructor', '%00', '..%2f', '%'].flatMap((id) => [
    ...[`/auth/sso/${id}`, `/auth/social/${id}/callback`, `/auth/sso/${id}/metadata`],
  ]),
  ...['/', '/auth', '/auth/', '/auth//sso/acme', '/auth/./discover', '/AUTH/discover', '//evil.example/auth'],
  ...['http://evil.example/auth/sso/acme', 'http://evil.example/me', `/auth/sso/${'a'.repeat(9_000)}`],
]

const method = fc.oneof(
  fc.constantFrom('GET', 'POST', 'HEAD'),
  fc.constantFrom('PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'get', 'M-SEARCH', 'CONNECT'),
)

const names = [
  ...['email', 'code', 'link', 'ticket', 'returnTo', 'waiting', 'ways', 'by', 'state', 'RelayState'],
  ...['SAMLResponse', 'SAMLRequest', 'error', 'error_description', 'iss', 'scope', 'user', '__proto__'],
  ...['constructor', 'toString', 'hasOwnProperty', 'email[]', 'email[a]', 'ticket[__proto__]'],
]

const token = fc.string({
  unit: fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'),
  minLength: 43,
  maxLength: 43,
})
const value = fc.oneof(
  text,
  token,
  fc.constantFrom(
    ...[script, '/me', 'a@acme.example', 'a@free.example', '123456', 'connection:acme', '\r\nx-fuzz: 1'],
    ...[
      Array(30).fill('connection:\0').join(),
      'provider:google,provider:email,:',
      'PHNhbWxwOlJlc3BvbnNlLz4=',
    ],
  ),
)
const pairs = fc.array(fc.tuple(fc.oneof(fc.constantFrom(...names), text), value), { maxLength: 6 })

const query = fc.oneof(
  pairs.map((all) => `?${new URLSearchParams(all)}`),
  pairs.map(
    (all) =>
      `?${all.map(([name, value]) => `${name}=${encodeURI(Buffer.from(value).toString())}`).join('&')}`,
  ),
  fc.constantFrom('', '?', '?&&==', '?%', '?%ff=%c0%af', '?a=1?b=2', '#a', `?${'a&'.repeat(7_000)}`),
)

const endpoint = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom(...endpoints) },
  { weight: 2, arbitrary: fc.tuple(method, fc.constantFrom(...endpoints.map(([, path]) => path))) },
  { weight: 1, arbitrary: fc.tuple(method, fc.constantFrom(...otherPaths)) },
  // In another form than that of a path a target is none of express-session's, and Passport says so.
  {
    weight: 1,
    arbitrary: fc.tuple(method, text).map(([method, more]) => [method, `/auth/${more}`] as const),
  },
)

const cookies = fc.oneof(
  { weight: 4, arbitrary: fc.constant('') },
  token.map((value) => `jit-code=${value}; jit-code=${value}`),
  token.map((value) =>
    Array.from({ length: 150 }, (_, n) => `jit-${String(n).padStart(16, '0')}=${value}`).join('; '),
  ),
  fc.tuple(text, text).map(([name, value]) => `${name}=${value}; connect.sid=s%3A${value}; jit-code`),
  text,
)

const header: fc.Arbitrary<readonly [string, string]> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.constantFrom<readonly [string, string]>(
      ...one('Accept', 'text/html', 'text/html', 'text/html', 'application/json', 'text/html;q=0'),
      ...one('Origin', 'null', 'https://evil.example', script),
      ...one('Sec-Fetch-Site', 'same-origin', 'cross-site', 'none', ''),
      ...one('Host', 'evil.example', script),
      ...one('X-Forwarded-Host', 'evil.example', script),
      ...one('X-Forwarded-For', '127.0.0.1', script, ','),
      ...one('Forwarded', 'host=evil.example;proto=https', script),
      ...one('Content-Encoding', 'gzip', 'br'),
      ...one('X-HTTP-Method-Override', 'POST', 'DELETE'),
      ...one('Referer', 'https://evil.example/', script),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<readonly [string, string]>(
      ...one('Expect', '100-continue', 'anything'),
      ...one('Upgrade', 'websocket', 'h2c'),
      ...one('Content-Length', '0', '-1', '1e3', '18446744073709551616'),
      ...one('Transfer-Encoding', 'gzip', 'chunked', 'identity'),
    ),
  },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('X-Fuzz', 'Authorization', 'Accept'), text) },
  { weight: 1, arbitrary: fc.tuple(text, text) },
)
function one(name: string, ...values: string[]) {
  return values.map((value) => [name, value] as const)
}

const content = fc.oneof(
  pairs.map((all) => ({ type: 'application/x-www-form-urlencoded', body: String(new URLSearchParams(all)) })),
  fc
    .dictionary(fc.oneof(fc.constantFrom(...names), text), fc.oneof(value, fc.array(value), anything), {
      maxKeys: 5,
    })
    .map((fields) => ({ type: 'application/json; charset=utf-8', body: json(fields) })),
  anything.map((any) => ({ type: 'application/json', body: json(any) })),
  fc
    .tuple(
      fc.constantFrom(
        'application/json',
        'application/x-www-form-urlencoded',
        'multipart/form-data; boundary=x',
        '',
      ),
      fc.oneof(
        text,
        fc.constantFrom('['.repeat(2_000), '{"email":{"__proto__":{"polluted":1}}}', '%%%=%', '\0'),
      ),
    )
    .map(([type, body]) => ({ type, body })),
  text.map((type) => ({ type, body: 'email=a%40free.example' })),
)
/** JSON of anything: what has no form in it becomes null. */
const json = (value: unknown) =>
  JSON.stringify(value, (_, entry) => (typeof entry === 'bigint' ? null : entry)) ?? 'null'

/** How the length of a body is told, rightly or not. */
const framings = {
  length: (body: Buffer) => [`Content-Length: ${body.length}\r\n\r\n`, body],
  chunked: (body: Buffer) => [
    `Transfer-Encoding: chunked\r\n\r\n${body.length === 0 ? '' : `${body.length.toString(16)}\r\n`}`,
    ...(body.length === 0 ? [] : [body, '\r\n']),
    '0\r\n\r\n',
  ],
  'cut off': (body: Buffer) => ['Transfer-Encoding: chunked\r\n\r\nffff\r\n', body],
  'too long': (body: Buffer) => [`Content-Length: ${body.length + 10}\r\n\r\n`, body],
  'too short': (body: Buffer) => [`Content-Length: ${Math.max(0, body.length - 3)}\r\n\r\n`, body],
  twice: (body: Buffer) => [`Content-Length: ${body.length}\r\nContent-Length: 3\r\n\r\n`, body],
  both: (body: Buffer) => [`Content-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n\r\n`, body],
} as const satisfies Record<string, (body: Buffer) => (string | Buffer)[]>

const framing = fc.oneof(
  { weight: 8, arbitrary: fc.constant('length' as const) },
  { weight: 1, arbitrary: fc.constantFrom(...(Object.keys(framings) as (keyof typeof framings)[])) },
)

/** Any request at all, most of them near enough to a route of the kit to get there. */
export const request: fc.Arbitrary<Request> = fc
  .record({
    endpoint,
    query,
    signedIn: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
    cookies,
    headers: fc.array(header, { maxLength: 4 }),
    content,
    framing,
  })
  .map(({ endpoint: [method, path], query, ...rest }) => ({ method, target: path + query, ...rest }))

/** A request as bytes; in a line of its own nothing can end it and begin another. */
export function bytesOf(request: Request, session: string): Buffer {
  const { method, target, signedIn, cookies, headers, content, framing } = request
  const cookie = [signedIn ? session : '', cookies].filter(Boolean).join('; ')
  const lines = [
    `${method} ${target} HTTP/1.1`,
    ...['Host: localhost', 'Connection: close'],
    ...(cookie ? [`Cookie: ${cookie}`] : []),
    ...(bodiless(method) ? [] : [`Content-Type: ${content.type}`]),
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ].map((line) => `${line.replace(/[\r\n]/g, ' ')}\r\n`)
  // Node waits for a body that was announced, and Express for all of the request before it says 404.
  const announced = headers.some(([name, value]) => name === 'Transfer-Encoding' && value === 'chunked')
  const none = announced ? ['\r\n0\r\n\r\n'] : ['\r\n']
  const rest = bodiless(method) ? none : framings[framing](Buffer.from(content.body))
  return Buffer.concat([...lines, ...rest].map((part) => Buffer.from(part)))
}

const bodiless = (method: string) => method === 'GET' || method === 'HEAD'

export const expectedOf = ({ method, framing }: Request) => ({
  head: method === 'HEAD',
  cut: !bodiless(method) && (framing === 'cut off' || framing === 'too long'),
  // No proxy listens for it.
  closed: method === 'CONNECT',
})
