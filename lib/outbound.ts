import { lookup as systemLookup } from 'node:dns/promises'
import { type IncomingMessage, request as plain } from 'node:http'
import { request as secure } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'
import * as z from 'zod'
import { requestLimit } from './deadline.js'
import { JitError, legible } from './errors.js'

/** Limits of the requests that the kit makes to identity providers. */
export interface OutboundOptions {
  /**
   * Addresses and networks beside the public ones, such as `10.0.0.0/8` or `fd00:1::7`; none by default. An entry
   * with `allowInsecureRequests` may ask this machine itself without being listed.
   */
  allow?: readonly string[]
  /** How long one request may take, its answer included, in milliseconds; 3000 by default. */
  timeout?: number
  /** Largest answer in bytes; 1048576 by default. */
  maxBytes?: number
  /** All addresses of a name; the system's resolver by default. */
  lookup?: (name: string) => Promise<readonly string[]>
}

/**
 * A name that is being looked up is not looked up again. The system's resolver has two threads for all names of the
 * process (libuv), and waits some ten seconds for a name server that does not answer: who asks for such a name again
 * and again would keep everybody else's waiting, ever longer.
 */
export function sharing<T>(lookup: (name: string) => Promise<T>): (name: string) => Promise<T> {
  const pending = new Map<string, Promise<T>>()
  return (name) => {
    const found = pending.get(name) ?? lookup(name).finally(() => pending.delete(name))
    pending.set(name, found)
    return found
  }
}

export const outboundSchema = z
  .strictObject({
    allow: z
      .array(
        z.union(
          [z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()],
          'an address or a network such as "10.0.0.0/8" or "fd00::/8"',
        ),
      )
      .default([]),
    timeout: z.int().min(1).max(requestLimit).default(3_000),
    maxBytes: z
      .int()
      .min(1)
      .default(1024 * 1024),
    lookup: z
      .custom<NonNullable<OutboundOptions['lookup']>>((value) => typeof value === 'function', 'a function')
      .default(() =>
        sharing(async (name) => (await systemLookup(name, { all: true })).map(({ address }) => address)),
      ),
  })
  .prefault({})

/** On whose behalf an address is asked: a connection, a provider, or whatever else an operator gave an address. */
export interface Asker {
  readonly id: string
  readonly protocol: string
  readonly allowInsecureRequests?: boolean
}

/** The kit's way out, made once for an app. SAML needs none: an IdP's metadata is part of the configuration. */
export interface Outbound {
  /**
   * `fetch` on behalf of an entry. No redirect is followed, the answer is read within the limits of time and
   * size before it is handed over, and only a public address is connected to, or one that is allowed.
   * @throws JitError `idp_unreachable` naming the entry, the address and what is wrong
   */
  readonly fetch: (entry: Asker) => typeof globalThis.fetch
  /** Why a URL of an entry would never be asked, as far as it shows without the network; null where it may be. */
  readonly refused: (entry: Asker, url: string) => string | null
}

/**
 * @param transport the app's own `fetch` in place of ours, for a proxy perhaps. Which addresses may be asked is
 *   its business then; time, size and redirects are limited all the same.
 */
export function outbound(
  { allow, timeout, maxBytes, lookup }: z.output<typeof outboundSchema>,
  transport?: typeof globalThis.fetch,
): Outbound {
  const networks = allow.map((text) =>
    ipaddr.parseCIDR(isIP(text) ? `${text}/${isIP(text) === 4 ? 32 : 128}` : text),
  )
  const forbidden = (entry: Asker, address: string) => {
    const range = rangeOf(address)
    if (range === 'public' || (range === 'loopback' && isInsecure(entry))) return null
    const found = parse(address)
    const allowed = ([network, bits]: (typeof networks)[number]) =>
      network.kind() === found!.kind() && found!.match(network, bits)
    if (found && networks.some(allowed)) return null
    return `${found ?? address} is no public address (${range}); if it is meant, allow it with createJit({ outbound: { allow: ["${found ?? address}"] } })`
  }

  const refused: Outbound['refused'] = (entry, text) => {
    if (!URL.canParse(text)) return 'this is not a URL'
    const url = new URL(text)
    if (!/^https?:$/.test(url.protocol)) return 'only http(s) addresses are asked'
    if (url.username || url.password) return 'there is a user name or password in the address'
    if (url.protocol === 'http:' && !isInsecure(entry)) return 'plain http, and allowInsecureRequests is off'
    // The URL parser has made an IPv4 address of every other spelling: decimal, octal, hexadecimal, short.
    const host = hostOf(url)
    return transport || !isIP(host) ? null : forbidden(entry, host)
  }

  /** Resolves a name for a connection: what it is given here is what it connects to, so nothing can change between. */
  const lookupFor = (entry: Asker): LookupFunction => {
    const resolve = async (name: string) => {
      const addresses = await lookup(name)
      if (addresses.length === 0) throw new Error(`${name} has no address`)
      for (const address of addresses) {
        const problem = forbidden(entry, address)
        if (problem) throw new Error(`${name}: ${problem}`)
      }
      return addresses.map((address) => ({ address, family: isIP(address) }))
    }
    return (name, { all }, callback) => {
      resolve(name).then(
        (found) => (all ? callback(null, found) : callback(null, found[0]!.address, found[0]!.family)),
        (error) => callback(error, ''),
      )
    }
  }

  return {
    refused,
    fetch: (entry) => async (input, init) => {
      const kind = entry.protocol === 'social' ? 'provider' : 'connection'
      const href = input instanceof Request ? input.url : String(input)
      const method = init?.method ?? (input instanceof Request ? input.method : 'GET')
      const unreachable = (what: string, cause?: unknown) =>
        new JitError('idp_unreachable', `${kind} "${entry.id}": ${method} ${place(href)}: ${what}`, { cause })
      const problem = refused(entry, href)
      if (problem) throw unreachable(problem)

      const stop = new AbortController()
      const signals = [stop.signal, init?.signal ?? (input instanceof Request ? input.signal : null)]
      const signal = AbortSignal.any(signals.filter((each) => each !== null))
      const timer = setTimeout(() => stop.abort(), timeout)
      try {
        return await Promise.race([answer(), aborted(signal)])
      } catch (error) {
        if (error instanceof JitError) throw error
        throw unreachable(signal.aborted ? 'no answer in time' : reasonOf(error), error)
      } finally {
        clearTimeout(timer)
        // Lets go of the connection, whatever it was that went wrong.
        stop.abort()
      }

      async function answer(): Promise<Response> {
        const limited = { ...init, signal, redirect: 'manual' } as const
        const { status, headers, body, redirected } = await (transport
          ? transport(input, limited)
          : connect(new Request(input, limited), signal, lookupFor(entry)))
        if ((status >= 300 && status < 400) || redirected)
          throw unreachable(`HTTP ${status}${target(headers, href)}; redirects are not followed`)
        const bytes = await read(body, maxBytes)
        if (!bytes) throw unreachable(`the answer is larger than ${maxBytes} bytes`)
        return new Response(bytes.length > 0 ? bytes : null, { status, headers })
      }
    },
  }
}

/** The one way to plain http and to this machine: an operator who says of an entry that it is for development. */
const isInsecure = (entry: Asker) => entry.allowInsecureRequests === true

/**
 * `public`, or the special purpose an address is set aside for, by IANA's registries as `ipaddr.js` knows them. An
 * IPv4 address inside of IPv6 counts as what it is: mapped ones (RFC 4291 §2.5.5.2), and by NAT64 (RFC 6052 §2.1)
 * where it is public.
 */
export function rangeOf(address: string): string {
  const parsed = parse(address)
  if (!parsed) return 'no address'
  const range = parsed.range()
  if (parsed instanceof ipaddr.IPv4) {
    // Public by its number alone: Azure's host answers there, with what the machine is entitled to.
    if (parsed.toString() === '168.63.129.16') return 'platform'
    return range === 'unicast' ? 'public' : range
  }
  if (parsed.match(ipaddr.parseCIDR('64:ff9b::/96'))) {
    const inner = rangeOf(new ipaddr.IPv4(parsed.toByteArray().slice(12)).toString())
    return inner === 'public' ? 'public' : `${inner} behind NAT64`
  }
  if (range !== 'unicast') return range
  // What IANA has not handed out is nobody's public address.
  return parsed.match(ipaddr.parseCIDR('2000::/3')) ? 'public' : 'unassigned'
}

/** Mapped addresses become the IPv4 they are; a zone is no part of the address. */
function parse(address: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  if (!isIP(address)) return null
  if (isIP(address) === 4) return ipaddr.IPv4.parse(address)
  // In the form of the URL standard, because `ipaddr.js` reads `::127.0.0.1` as a mapped address.
  return ipaddr.process(hostOf(new URL(`http://[${address.replace(/%.*/, '')}]`)))
}

interface Answer extends Pick<Response, 'status' | 'headers'> {
  readonly body: AsyncIterable<Uint8Array> | null
  readonly redirected?: boolean
}

/**
 * One request over a connection of its own: a pooled one may have been checked for somebody else. Node's fetch
 * takes no lookup, so its Request is sent by `node:https`.
 */
async function connect(request: Request, signal: AbortSignal, lookup: LookupFunction): Promise<Answer> {
  const url = new URL(request.url)
  const sent = Buffer.from(await request.arrayBuffer())
  const headers = { ...Object.fromEntries(request.headers), 'accept-encoding': 'identity' }
  const options = { method: request.method, headers, agent: false, lookup, signal } as const
  const body = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = (url.protocol === 'https:' ? secure : plain)(url, options, resolve)
    outgoing.on('error', reject)
    outgoing.end(sent.length > 0 ? sent : undefined)
  })
  const received = Object.entries(body.headersDistinct).flatMap(([name, values]) =>
    values!.map((value): [string, string] => [name, value]),
  )
  return { status: body.statusCode!, headers: new Headers(received), body }
}

/** The whole of an answer, or null where it is larger; nothing after the limit is read. */
async function read(body: Answer['body'], limit: number): Promise<Uint8Array<ArrayBuffer> | null> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body ?? []) {
    size += chunk.byteLength
    if (size > limit) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const aborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    const rejected = () => reject(new Error('aborted'))
    if (signal.aborted) rejected()
    else signal.addEventListener('abort', rejected, { once: true })
  })

/** Where a redirect wants to lead: its origin, for the path may hold what is secret. */
function target(headers: Headers, from: string): string {
  const location = headers.get('location')
  return location !== null && URL.canParse(location, from)
    ? ` to ${legible(new URL(location, from).origin)}`
    : ''
}

/** A URL for a log line: without its query, and without what a person may have hidden in it. */
function place(href: string): string {
  if (!URL.canParse(href)) return 'an address'
  const { protocol, host, pathname } = new URL(href)
  return legible(`${protocol}//${host}${pathname}`)
}

const hostOf = ({ hostname }: URL) => hostname.replace(/^\[(.*)\]$/, '$1')

/** Why a connection failed: the system's code where there is one (ECONNREFUSED, CERT_HAS_EXPIRED), else the words. */
export function reasonOf(error: unknown): string {
  const words: string[] = []
  for (let at = error; at instanceof Error && words.length < 4; at = at.cause) {
    const { code } = at as { code?: unknown }
    if (typeof code === 'string') return code
    words.push(at.message)
  }
  return legible(words.join(': ')) || 'unknown'
}
