import { createCipheriv, createDecipheriv, createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { posix } from 'node:path'
import { JitError } from './errors.js'
import type { Source } from './identity.js'
import type { Once } from './store.js'
import type { AttemptId } from './strategy.js'

/** Lifetimes in milliseconds. */
export const attemptDefaults = {
  attempt: 10 * 60_000,
  ticket: 60_000,
  /** Sign-ins under way in one browser; the oldest gives way. */
  perBrowser: 5,
} as const

/** What is kept while the person is away at the IdP. */
export interface AttemptRecord {
  /** The connection or provider. */
  readonly source: Source
  readonly version: string
  readonly callback: string
  readonly returnTo: string
  readonly at: number
  readonly secrets: Readonly<Record<string, string>>
  readonly cookie: Binding
  /** Ticket of another sign-in that waits for this one to prove the account. */
  readonly waiting: string | null
}

/** The browser that began: the name of its cookie and the hash of the value. */
export interface Binding {
  readonly name: string
  readonly hash: string
}

type Sealed = 'attempt' | 'ticket' | 'waiting' | 'code' | 'link'

export const newToken = (): AttemptId => randomBytes(32).toString('base64url')

const digest = (purpose: string, text: string) => createHash('sha256').update(`${purpose}\0${text}`).digest()

/**
 * Keeps a value under a token that only the URL holds: the key it is found by and the key it is encrypted
 * with are different hashes of the token, so who reads the backend reads neither.
 */
export async function putSealed(once: Once, kind: Sealed, token: string, value: unknown, ttl: number) {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', digest(`${kind} key`, token), iv)
  const sealed = Buffer.concat([
    iv,
    cipher.update(JSON.stringify(value), 'utf8'),
    cipher.final(),
    cipher.getAuthTag(),
  ])
  await once.put(
    `${kind}:${digest(`${kind} name`, token).toString('base64url')}`,
    sealed.toString('base64url'),
    ttl,
  )
}

/**
 * Takes the value of a token once; null where there is none, it expired, or the token is not one of ours.
 * @throws JitError `unavailable` where the backend gives back something else than was put there
 */
export async function takeSealed<T>(once: Once, kind: Sealed, token: string): Promise<T | null> {
  if (!/^[A-Za-z0-9_-]{43}$/.test(token)) return null
  const stored = await once.take(`${kind}:${digest(`${kind} name`, token).toString('base64url')}`)
  if (stored === null) return null
  return JSON.parse(open(stored, kind, token)) as T
}

function open(stored: string, kind: Sealed, token: string): string {
  const sealed = Buffer.from(stored, 'base64url')
  try {
    const key = digest(`${kind} key`, token)
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12), { authTagLength: 16 })
    decipher.setAuthTag(sealed.subarray(-16))
    return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString('utf8')
  } catch (cause) {
    const message = `what "once" gave back for this ${kind} is not what was put there`
    throw new JitError('unavailable', message, { cause })
  }
}

/**
 * Binds a sign-in to this browser by a cookie of its own, so that two tabs never share one. `SameSite=Lax`
 * comes back on the GET that ends the sign-in; on https the `__Host-` prefix keeps other hosts from setting it.
 */
export function bindBrowser(
  req: IncomingMessage,
  res: ServerResponse,
  token: AttemptId,
  secure: boolean,
): Binding {
  const prefix = secure ? '__Host-jit-' : 'jit-'
  const name = prefix + digest('cookie', token).toString('base64url').slice(0, 16)
  const value = newToken()
  const own = new RegExp(`^${prefix}[A-Za-z0-9_-]{16}$`)
  const old = [...cookies(req).keys()].filter((other) => own.test(other))
  for (const other of old.slice(0, Math.max(0, old.length - attemptDefaults.perBrowser + 1))) {
    setCookie(res, other, '', 0, secure)
  }
  setCookie(res, name, value, attemptDefaults.attempt / 1000, secure)
  return { name, hash: digest('binding', value).toString('base64url') }
}

/** Whether this request comes from the browser that began; the cookie is cleared either way. */
export function sameBrowser(
  req: IncomingMessage,
  res: ServerResponse,
  binding: Binding,
  secure: boolean,
): boolean {
  const value = cookies(req).get(binding.name)
  if (value === undefined) return false
  setCookie(res, binding.name, '', 0, secure)
  return timingSafeEqual(digest('binding', value), Buffer.from(binding.hash, 'base64url'))
}

/** The cookie that holds the token of a mailed code. */
const codeCookie = (secure: boolean) => `${secure ? '__Host-' : ''}jit-code`

export const codeToken = (req: IncomingMessage, secure: boolean) => cookies(req).get(codeCookie(secure))

/** Keeps the token of a mailed code in this browser; null forgets it. */
export function keepCodeToken(
  res: ServerResponse,
  token: string | null,
  maxAge: number,
  secure: boolean,
): void {
  setCookie(res, codeCookie(secure), token ?? '', token === null ? 0 : maxAge / 1000, secure)
}

/**
 * The cookies of a request, the first of each name. Space and tab may stand before a name and nothing else: a browser
 * lets a sister host set "\u00a0__Host-…", which does not begin with the prefix for it and must not for us.
 */
function cookies(req: IncomingMessage): Map<string, string> {
  const found = new Map<string, string>()
  for (const pair of (req.headers.cookie ?? '').split(';')) {
    const at = pair.indexOf('=')
    const name = pair.slice(0, Math.max(at, 0)).replace(/^[ \t]+/, '')
    if (name !== '' && !found.has(name)) found.set(name, pair.slice(at + 1))
  }
  return found
}

function setCookie(res: ServerResponse, name: string, value: string, maxAge: number, secure: boolean) {
  const cookie = `${name}=${value}; Path=/; Max-Age=${maxAge}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`
  res.appendHeader('set-cookie', cookie)
}

const localPath = /^\/(?!\/|%(?:09|0a|0d|2f|5c))[^\u0000-\u0020\u007f\\]*$/i

/**
 * The address to go to after sign-in: a path of this app, or the fallback. Whatever a browser could read as
 * another origin (`//host`, `/\host`, control characters) is not a path. Neither is what the kit answers itself:
 * a link could lead from one sign-in into another, whose account a person would take for their own.
 */
export function returnAddress(
  asked: unknown,
  own: { readonly path: string; readonly returnTo: string },
): string {
  const fallback = own.returnTo
  if (typeof asked !== 'string' || asked.length > 2048 || !localPath.test(asked)) return fallback
  try {
    const { origin, pathname, search, hash } = new URL(asked, 'http://this-app.invalid')
    const path = pathname + search + hash
    if (isBelow(own.path, pathname)) return fallback
    // Dots may have hidden what the path begins with.
    return origin === 'http://this-app.invalid' && localPath.test(path) ? path : fallback
  } catch {
    return fallback
  }
}

/**
 * Whether a path is another or below it in any spelling that the app, its router or a proxy before it might read:
 * letters of either case, escapes, escaped escapes, dots and slashes too many.
 */
function isBelow(parent: string, path: string): boolean {
  let plain = path
  for (let before = ''; plain !== before; ) {
    before = plain
    plain = before.replace(/%([0-9a-f]{2})/gi, (_, code: string) => String.fromCharCode(parseInt(code, 16)))
  }
  const straight = posix.normalize(`${plain.replaceAll('\\', '/')}/`)
  return straight.toLowerCase().startsWith(`${parent.toLowerCase()}/`)
}
