import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { within } from './deadline.js'
import { JitError } from './errors.js'

/**
 * What a limit needs of rate-limiter-flexible's `RateLimiterAbstract`: counts one for the key, and rejects with
 * `{ msBeforeNext }` where that is one too many, or with an `Error` where its backend cannot be asked.
 */
export interface Limiter {
  consume(key: string): Promise<unknown>
}

/**
 * The limits before anything expensive is done for a client, each with its default. The defaults count in this
 * process; several processes need limiters that share a backend, such as `RateLimiterRedis`.
 */
export interface RequestLimits {
  /**
   * Starts of sign-ins, mailed codes among them, and whatever else reads the directory for anybody (discovery,
   * metadata, the page that offers ways to prove an account), by one client in a minute: 600, because an office may
   * share one address. Behind a proxy set Express's `trust proxy`, or everybody is one client.
   */
  readonly starts: Limiter
  /** Answers of identity providers that one client brings, in a minute: 600. */
  readonly answers: Limiter
}

const defaults = {
  starts: { points: 600, duration: 60 },
  answers: { points: 600, duration: 60 },
} as const

export const requestLimits = (given: Partial<RequestLimits> = {}): RequestLimits => limiters(defaults, given)

/** How long a limiter may take, in milliseconds. */
const limiterWait = 1_000

/** The app's own limiters, and one in memory for each that it does not give. */
export function limiters<N extends string>(
  defaults: Readonly<Record<N, { readonly points: number; readonly duration: number }>>,
  given: Partial<Record<N, Limiter>>,
): Record<N, Limiter> {
  const inMemory = (name: N) => new RateLimiterMemory({ ...defaults[name], keyPrefix: `jit-${name}` })
  const names = Object.keys(defaults) as N[]
  return Object.fromEntries(names.map((name) => [name, given[name] ?? inMemory(name)])) as Record<N, Limiter>
}

/**
 * Counts one request, or refuses it.
 * @throws JitError `too_many_requests` with how long to wait; `unavailable` where the limiter's backend fails
 *   or does not answer in a second, because a limit that cannot be asked is no limit.
 */
export async function count<L extends { readonly [K in keyof L]: Limiter }>(
  limits: L,
  name: keyof L & string,
  key: string,
): Promise<void> {
  try {
    await within(limiterWait, Promise.resolve(limits[name].consume(key)), 'it did not answer in time')
  } catch (refusal) {
    const wait = (refusal as { msBeforeNext?: unknown } | null)?.msBeforeNext
    if (refusal instanceof Error || typeof wait !== 'number') {
      throw new JitError('unavailable', `limits.${name}: the limiter's backend failed`, { cause: refusal })
    }
    const retryAfter = Math.max(1, Math.ceil(wait / 1000))
    throw new JitError('too_many_requests', `limits.${name} is reached for another ${retryAfter} s`, {
      retryAfter,
    })
  }
}

/** Counts one request of a client, or refuses it; see {@link count}. */
export const countClient = (limits: RequestLimits, name: keyof RequestLimits, req: IncomingMessage) =>
  count(limits, name, clientKey(clientOf(req)))

/** The client's address. Express's own `ip` honours its `trust proxy`; a forwarded header alone proves nothing. */
export const clientOf = (req: IncomingMessage & { ip?: string }) => req.ip ?? req.socket.remoteAddress ?? ''

/**
 * A client as a key of a limiter: an IPv4 address, or the /64 network of an IPv6 one, which is the least that a
 * household gets and all of which one machine can use (RFC 6177 §2, RFC 4291 §2.5.4). A port, which some proxies
 * add, is not part of it: a client has as many as it likes.
 */
export function clientKey(ip: string): string {
  const plain = ip
    .replace(/^\[(.*)\](?::\d+)?$/, '$1')
    .replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, '$1')
    .replace(/%.*$/, '')
    .toLowerCase()
  if (!isIP(plain)) return plain
  const address = ipaddr.process(plain)
  if (address instanceof ipaddr.IPv4) return address.toString()
  const network = address.parts.slice(0, 4).map((part) => part.toString(16))
  return `${network.join(':')}::/64`
}
