import { randomUUID } from 'node:crypto'
import { isLoopback } from './deployment.js'
import { reasonOf } from './outbound.js'
import type { Guard, Operation, Store } from './store.js'

/** One thing that was looked at. */
export interface Checkup {
  readonly what: string
  readonly state: 'sound' | 'odd' | 'wrong'
  /** What is so, and the way out where it is not sound. */
  readonly finding: string
}

const sound = (what: string, finding: string): Checkup => ({ what, state: 'sound', finding })
const odd = (what: string, finding: string): Checkup => ({ what, state: 'odd', finding })
const wrong = (what: string, finding: string): Checkup => ({ what, state: 'wrong', finding })

/** How far two clocks may differ, in milliseconds; a connection's `clockSkewSeconds` is 60 by default. */
const clockTolerance = 5_000

/**
 * Whether the database's own keys and guards hold, by change sets that break them. Each ends with an operation on
 * a row that is not there, so none of them ever lands, and the conflict that comes first tells what was held.
 */
export async function examineStore(store: Store): Promise<Checkup[]> {
  const id = `doctor-${randomUUID()}`
  const never: Operation = {
    op: 'membership.update',
    user: id,
    organization: id,
    status: 'active',
    seat: true,
  }
  const organization: Operation = {
    op: 'organization.put',
    id,
    version: 'v',
    name: 'doctor',
    status: 'active',
    seatLimit: 0,
  }
  const user = (of: string, verifiedEmail: string | null): Operation => ({
    op: 'user.create',
    id: of,
    status: 'active',
    verifiedEmail,
    contactEmail: null,
    attributes: {},
    at: 0,
  })
  const identity: Operation = {
    op: 'identity.link',
    user: id,
    source: `connection:${id}`,
    issuer: id,
    subject: id,
    at: 0,
  }
  const membership: Operation = {
    op: 'membership.create',
    user: id,
    organization: id,
    status: 'active',
    seat: true,
    at: 0,
  }
  const grant: Operation = {
    op: 'grant.add',
    user: id,
    organization: id,
    role: 'doctor',
    source: 'manual',
    basis: 'person',
    at: 0,
  }
  const address = `${id}@doctor.invalid`
  const keys: readonly (readonly [string, string, readonly Operation[]])[] = [
    ['one account for an id', 'user', [user(id, null), user(id, null)]],
    ['one account for a verified address', 'verified-email', [user(id, address), user(`${id}-2`, address)]],
    ['one account for an identity', 'identity', [user(id, null), identity, identity]],
    [
      'one membership for a person and an organization',
      'membership',
      [organization, user(id, null), membership, membership],
    ],
    [
      'one grant for a role and its source',
      'grant',
      [organization, user(id, null), membership, grant, grant],
    ],
  ]
  const guards: readonly (readonly [string, Guard])[] = [
    ['a connection that is not as planned', { guard: 'connection', id, version: 'v' }],
    ['an organization that is not as planned', { guard: 'organization', id, version: 'v' }],
    ['an invitation that is not pending', { guard: 'invitation', id, user: id }],
  ]
  const found: Checkup[] = []
  const attempt = (
    ops: readonly Operation[],
    held: readonly Guard[] = [],
    expect: readonly { user: string; version: number }[] = [],
  ) => store.commit({ id: randomUUID(), expect, guards: held, ops: [...ops, never], events: [] })
  for (const [what, key, ops] of keys) {
    const result = await attempt(ops)
    const kept = !result.committed && result.conflict.kind === 'key' && result.conflict.key === key
    found.push(
      kept
        ? sound(what, 'the store refuses a second')
        : wrong(
            what,
            `the store does not hold the key "${key}"; run jit.ready() and look for dropped indexes`,
          ),
    )
  }
  for (const [what, guard] of guards) {
    const result = await attempt([], [guard])
    const kept = !result.committed && result.conflict.kind === 'guard'
    found.push(
      kept
        ? sound(what, 'stops a change')
        : wrong(what, `the store does not hold the guard "${guard.guard}"`),
    )
  }
  const version = await attempt([], [], [{ user: id, version: 1 }])
  const stopped = !version.committed && version.conflict.kind === 'version'
  found.push(
    stopped
      ? sound('a change planned on an older version', 'does not land')
      : wrong('a change planned on an older version', 'lands; the store does not compare versions'),
  )
  return found
}

export interface AppToExamine {
  /** The app as browsers see it, an origin. */
  readonly url: string
  /** Where the routes are. */
  readonly path: string
  /** An enabled connection, whose sign-in is begun. */
  readonly connection: string
  readonly now: () => number
  readonly fetch: typeof globalThis.fetch
}

/** What an app shows to anybody who begins to sign in: scheme, clock, cookies, and which origin it believes it has. */
export async function examineApp({ url, path, connection, now, fetch }: AppToExamine): Promise<Checkup[]> {
  const { origin } = new URL(url)
  const found: Checkup[] = []
  const begin = `${origin}${path}/sso/${encodeURIComponent(connection)}`
  const ask = (headers: Record<string, string> = {}) =>
    fetch(begin, { redirect: 'manual', headers, signal: AbortSignal.timeout(5_000) })

  const secure = origin.startsWith('https:')
  if (secure) found.push(sound('scheme', 'https'))
  else if (isLoopback(origin)) found.push(odd('scheme', 'plain http, on this machine alone'))
  else
    found.push(
      wrong('scheme', 'plain http: cookies and codes travel for anybody to read; serve the app by https'),
    )

  const asked = now()
  const response = await ask().catch((error: unknown) => reasonOf(error))
  if (typeof response === 'string') {
    found.push(wrong('sign-in', `GET ${begin} was not answered (${response}); is the app running there?`))
    return found
  }
  const date = Date.parse(response.headers.get('date') ?? '')
  // The header has whole seconds, and the request took its time.
  const difference = Math.max(asked - date - 1_000, date - now(), 0)
  if (Number.isNaN(date)) found.push(odd('clock', 'the app sends no Date header'))
  else if (difference > clockTolerance) {
    const seconds = Math.round(difference / 1000)
    found.push(wrong('clock', `the app's and this machine's differ by ${seconds} s; run NTP on both`))
  } else found.push(sound('clock', "the app's and this machine's agree"))

  if (response.status !== 302) {
    found.push(
      wrong(
        'sign-in',
        `GET ${begin} answered ${response.status} and not 302; name an enabled connection and the path`,
      ),
    )
    return found
  }
  const cookie = response.headers.getSetCookie().find((value) => /^(?:__Host-)?jit-/.test(value))
  if (!cookie) found.push(wrong('cookie of a sign-in', 'none was set'))
  else {
    const flags = [/; ?HttpOnly/i, /; ?SameSite=Lax/i, ...(secure ? [/; ?Secure/i, /^__Host-/] : [])]
    const kept = flags.every((flag) => flag.test(cookie))
    const way = 'createJit({ baseUrl }) must be the https address, and no proxy may rewrite cookies'
    found.push(
      kept
        ? sound('cookie of a sign-in', secure ? '__Host-, Secure, HttpOnly, Lax' : 'HttpOnly, Lax')
        : wrong('cookie of a sign-in', `it lacks flags; ${way}`),
    )
  }
  const named = callbackOrigin(response.headers.get('location'))
  if (named !== null) {
    found.push(
      named === origin
        ? sound('own address', `answers are asked for at ${origin}`)
        : wrong('own address', `answers are asked for at ${named}; set baseUrl to ${origin}`),
    )
  }
  const forged = await ask({ 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http' })
  const believed = callbackOrigin(forged.headers.get('location'))
  found.push(
    believed === named
      ? sound('forged X-Forwarded-Host', 'changes nothing')
      : wrong('forged X-Forwarded-Host', `answers are then asked for at ${believed}`),
  )
  if (secure) {
    found.push(
      response.headers.has('strict-transport-security')
        ? sound('Strict-Transport-Security', 'is sent')
        : odd('Strict-Transport-Security', 'is not sent; the first visit may go by plain http'),
    )
  }
  return found
}

/** Where the answer of this sign-in is asked for: the redirect URI; null where it does not travel in the open. */
function callbackOrigin(location: string | null): string | null {
  if (location === null || !URL.canParse(location)) return null
  const callback = new URL(location).searchParams.get('redirect_uri')
  return callback !== null && URL.canParse(callback) ? new URL(callback).origin : null
}
