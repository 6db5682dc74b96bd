import type { IncomingMessage } from 'node:http'

/** What a request shows of the app around it: express-session, and Express where there is one. */
interface Deployed extends IncomingMessage {
  readonly session?: unknown
  readonly sessionStore?: object
  readonly app?: { get?: (setting: string) => unknown }
}

interface SessionCookie {
  readonly secure?: unknown
  readonly httpOnly?: unknown
  readonly sameSite?: unknown
}

/** Whether browsers reach the app on this machine alone, as in development. */
export const isLoopback = (baseUrl: string) =>
  /^https?:\/\/(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:|$)/.test(baseUrl)

/**
 * What undoes the kit's protection and shows only while the app runs; each a sentence with the way out. Nothing is
 * said of an app on this machine alone.
 */
export function deploymentProblems(req: Deployed, baseUrl: string): string[] {
  if (isLoopback(baseUrl)) return []
  const problems: string[] = []
  const { cookie } = (req.session ?? {}) as { cookie?: SessionCookie }
  if (req.sessionStore?.constructor.name === 'MemoryStore') {
    problems.push(
      'sessions are kept in this process: they end with it, and other processes do not know them; give express-session a store such as connect-redis',
    )
  }
  if (cookie) {
    if (baseUrl.startsWith('https:') && cookie.secure !== true && cookie.secure !== 'auto') {
      problems.push('the session cookie travels over plain http too; set cookie.secure of express-session')
    }
    if (cookie.httpOnly === false) {
      problems.push('scripts can read the session cookie; leave cookie.httpOnly of express-session on')
    }
    if (cookie.sameSite === undefined || cookie.sameSite === false || cookie.sameSite === 'none') {
      problems.push('other sites can use the session cookie; set cookie.sameSite of express-session to "lax"')
    }
  }
  const trust = req.app?.get?.('trust proxy')
  const forwarded = req.headers['x-forwarded-for'] !== undefined || req.headers.forwarded !== undefined
  if (forwarded && (trust === undefined || trust === false)) {
    problems.push(
      'a proxy forwards the requests, and Express does not trust it: everybody is one client to the rate limits, and a session cookie with Secure is never set; set "trust proxy" to the proxy',
    )
  }
  if (trust === true) {
    problems.push(
      'Express trusts every proxy, so anybody can choose the address that rate limits see; set "trust proxy" to your own proxies or their number',
    )
  }
  return problems
}
