import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type AttemptRecord,
  attemptDefaults,
  type Binding,
  bindBrowser,
  newToken,
  putSealed,
  returnAddress,
  sameBrowser,
  takeSealed,
} from './attempt.js'
import { asJitError, JitError } from './errors.js'
import { AssertedIdentity, assertIdentity, type IdentityInput, type Source } from './identity.js'
import { queryOf, readIncoming } from './incoming.js'
import { countClient, type RequestLimits } from './limits.js'
import type { Outbound } from './outbound.js'
import { idPattern } from './policy.js'
import type { Directory, Once } from './store.js'
import { type Attempt, type Entry, type Services, type Strategy, single } from './strategy.js'

export interface AuthenticatePorts {
  readonly directory: Directory
  readonly once: Once
  readonly strategies: ReadonlyMap<string, Strategy>
  /** Origin of the app, without a final slash. */
  readonly baseUrl: string
  /** Where the routes are mounted. */
  readonly path: string
  /** Where to go after sign-in if the start named no address. */
  readonly returnTo: string
  readonly now: () => number
  readonly outbound: Outbound
  readonly limits: RequestLimits
  /** When this request is given up, on the clock of `performance.now()`. */
  readonly until: (req: IncomingMessage) => number
}

/** A connection or provider, and the path its answers come back to. */
export interface Route {
  readonly source: Source
  readonly callback: string
  /** Of the Passport strategy that was asked by name; it serves its own protocol and no other. */
  readonly protocol?: string
}

/** What a step of a sign-in asks of the response. */
export type Step =
  | { readonly kind: 'redirect'; readonly location: string; readonly status: 302 | 303 }
  | {
      readonly kind: 'confirm'
      readonly action: string
      readonly ticket: string
      readonly email: string | null
    }
  | {
      readonly kind: 'identity'
      readonly identity: AssertedIdentity
      readonly returnTo: string
      readonly waiting: string | null
    }

/** How long a strategy may take over one step, in milliseconds. */
const stepLimit = 4_500

/** An identity on its way from the POST of the IdP's page to a GET of our own. */
interface Ticket {
  readonly source: Source
  readonly callback: string
  readonly returnTo: string
  readonly identity: IdentityInput
  /** Null until the browser that holds the URL is bound: an answer that nobody here asked for. */
  readonly cookie: Binding | null
  readonly confirm: boolean
  readonly waiting: string | null
}

export const isSecure = (baseUrl: string) => baseUrl.startsWith('https:')

const ofAnswers = ['code', 'error', 'state', 'ticket', 'SAMLResponse']

/** True where the request carries an IdP's answer or our ticket, so that it ends a sign-in. */
export function isAnswer(req: IncomingMessage): boolean {
  if (req.method === 'POST') return true
  // By whole parameters: a return address may have a query with such names in it.
  const query = queryOf(req)
  return ofAnswers.some((name) => query.has(name))
}

/** Starts a sign-in: keeps the attempt, binds the browser, and sends the person to the IdP. */
export async function begin(
  ports: AuthenticatePorts,
  req: IncomingMessage,
  res: ServerResponse,
  route: Route,
): Promise<Extract<Step, { kind: 'redirect' }>> {
  await countClient(ports.limits, 'starts', req)
  const entry = await enabledEntry(ports, route.source)
  const strategy = strategyFor(ports, entry, route)
  const id = newToken()
  const { redirect, secrets } = await guarded(route, 'idp_unreachable', (signal) =>
    strategy.begin(entry, id, services(ports, entry, route, signal)),
  )
  const secure = isSecure(ports.baseUrl)
  const query = queryOf(req)
  const record: AttemptRecord = {
    source: route.source,
    version: entry.version,
    callback: route.callback,
    returnTo: returnAddress(query.get('returnTo'), ports),
    at: ports.now(),
    secrets,
    cookie: bindBrowser(req, res, id, secure),
    waiting: ticketOf(query.get('waiting')),
  }
  await putSealed(ports.once, 'attempt', id, record, attemptDefaults.attempt)
  return { kind: 'redirect', location: redirect, status: 302 }
}

/**
 * Ends a sign-in with the IdP's answer. A GET ends here; a POST comes cross-site, without our Lax cookies,
 * so it is verified, put behind a ticket, and ended by a GET of our own that shows the cookie.
 */
export async function finish(
  ports: AuthenticatePorts,
  req: IncomingMessage,
  res: ServerResponse,
  route: Route,
): Promise<Step> {
  await countClient(ports.limits, 'answers', req)
  const incoming = await readIncoming(req, ports.until(req))
  const entry = await enabledEntry(ports, route.source)
  const strategy = strategyFor(ports, entry, route)
  const ticket = single(incoming.body ?? incoming.query, 'ticket')
  if (ticket !== undefined) return redeem(ports, req, res, entry, route, incoming.method, ticket)

  const key = strategy.attemptKey(incoming)
  const record = key === undefined ? null : await takeSealed<AttemptRecord>(ports.once, 'attempt', key)
  const cookie =
    record && incoming.method === 'GET' ? sameBrowser(req, res, record.cookie, isSecure(ports.baseUrl)) : null
  const unsolicited = record === null && incoming.method === 'POST' && strategy.protocol === 'saml'
  if (record === null && !(unsolicited && entry.protocol === 'saml' && entry.idpInitiated)) {
    throw key === undefined && unsolicited
      ? new JitError(
          'answer_unsolicited',
          `${nameOf(route.source)}: an answer nobody here asked for; idpInitiated is off`,
        )
      : new JitError(
          'attempt_unknown',
          `${nameOf(route.source)}: no sign-in is waiting for this answer (expired, already used, or not ours)`,
        )
  }
  if (record !== null) {
    if (record.source !== route.source || record.callback !== route.callback) {
      throw new JitError(
        'attempt_unknown',
        `${nameOf(route.source)}: the sign-in began on ${nameOf(record.source)}`,
      )
    }
    if (cookie === false) throw foreignBrowser(route)
    if (record.version !== entry.version) throw changed(route)
  }
  const attempt: Attempt | null = record && { id: key!, at: record.at, secrets: record.secrets }
  const identity = await guarded(route, 'answer_malformed', (signal) =>
    strategy.complete(entry, incoming, attempt, services(ports, entry, route, signal)),
  )
  if (!AssertedIdentity.is(identity)) {
    throw new JitError(
      'identity_unproven',
      `the strategy "${strategy.protocol}" returned something assertIdentity() did not make`,
    )
  }
  const returnTo = record?.returnTo ?? ports.returnTo
  if (incoming.method === 'GET')
    return { kind: 'identity', identity, returnTo, waiting: record?.waiting ?? null }

  const token = newToken()
  const parked: Ticket = {
    source: route.source,
    callback: route.callback,
    returnTo,
    identity: { ...identity, email: identity.email?.address },
    cookie: record?.cookie ?? null,
    confirm: record === null,
    waiting: record?.waiting ?? null,
  }
  await putSealed(ports.once, 'ticket', token, parked, attemptDefaults.ticket)
  return { kind: 'redirect', location: `${route.callback}?ticket=${token}`, status: 303 }
}

async function redeem(
  ports: AuthenticatePorts,
  req: IncomingMessage,
  res: ServerResponse,
  entry: Entry,
  route: Route,
  method: 'GET' | 'POST',
  token: string,
): Promise<Step> {
  const ticket = await takeSealed<Ticket>(ports.once, 'ticket', token)
  if (ticket === null)
    throw new JitError('attempt_unknown', `${nameOf(route.source)}: the ticket expired or was used`)
  if (ticket.source !== route.source || ticket.callback !== route.callback) {
    throw new JitError(
      'attempt_unknown',
      `${nameOf(route.source)}: the ticket belongs to ${nameOf(ticket.source)}`,
    )
  }
  if (ticket.identity.sourceVersion !== entry.version) throw changed(route)
  const secure = isSecure(ports.baseUrl)
  if (ticket.cookie === null) {
    // Nobody here asked for this answer, so the person has to say that it is meant: bind, show, and wait.
    const next = newToken()
    const bound: Ticket = { ...ticket, cookie: bindBrowser(req, res, next, secure) }
    await putSealed(ports.once, 'ticket', next, bound, attemptDefaults.ticket)
    return { kind: 'confirm', action: route.callback, ticket: next, email: ticket.identity.email ?? null }
  }
  if (!sameBrowser(req, res, ticket.cookie, secure)) throw foreignBrowser(route)
  if (ticket.confirm !== (method === 'POST')) {
    throw new JitError(
      'method_not_allowed',
      'an IdP-initiated sign-in is confirmed by POST, any other ends by GET',
    )
  }
  return {
    kind: 'identity',
    identity: assertIdentity(ticket.identity),
    returnTo: ticket.returnTo,
    waiting: ticket.waiting,
  }
}

/** The SP metadata of a connection, for the IdP's administrator. */
export async function metadata(ports: AuthenticatePorts, route: Route): Promise<string> {
  const connection = await ports.directory.connection(idOf(route.source))
  const strategy = connection && ports.strategies.get(connection.protocol)
  if (!connection || !strategy?.metadata) {
    throw new JitError('connection_unknown', `there is no ${nameOf(route.source)} with metadata`)
  }
  return strategy.metadata(connection, services(ports, connection, route, AbortSignal.timeout(stepLimit)))
}

/** What could be one of our tickets; anything else is not kept. */
const ticketOf = (text: string | null) => (text !== null && /^[A-Za-z0-9_-]{43}$/.test(text) ? text : null)

/** A source in an operator's sentence. */
const nameOf = (source: Source) => source.replace(/:(.*)/, ' "$1"')

const idOf = (source: Source) => source.slice(source.indexOf(':') + 1)

async function enabledEntry(ports: AuthenticatePorts, source: Source): Promise<Entry> {
  const id = idOf(source)
  // What no id can be is neither looked for nor repeated in the log; on the app's own routes anybody may have typed it.
  if (!idPattern.test(id)) throw new JitError('connection_unknown', 'what was asked for can be nobody’s id')
  if (source.startsWith('provider:')) {
    const provider = await ports.directory.provider(id)
    if (provider?.protocol === 'social') return provider
    throw new JitError('connection_unknown', `there is no enabled ${nameOf(source)}`)
  }
  const connection = await ports.directory.connection(id)
  if (!connection) throw new JitError('connection_unknown', `there is no ${nameOf(source)}`)
  if (!connection.enabled) throw new JitError('connection_disabled', `${nameOf(source)} is disabled`)
  const organization = await ports.directory.organization(connection.organization)
  if (organization?.status !== 'active') {
    throw new JitError(
      'organization_suspended',
      `organization "${connection.organization}" of ${nameOf(source)} is suspended`,
    )
  }
  return connection
}

function strategyFor(ports: AuthenticatePorts, entry: Entry, { protocol }: Route): Strategy {
  if (protocol !== undefined && protocol !== entry.protocol) {
    throw new JitError(
      'config_invalid',
      `passport.authenticate("${protocol}") cannot serve "${entry.id}", which speaks ${entry.protocol}; use passport.authenticate("${entry.protocol}")`,
    )
  }
  const strategy = ports.strategies.get(entry.protocol)
  if (strategy) return strategy
  throw new JitError(
    'config_invalid',
    `"${entry.id}" needs the strategy "${entry.protocol}"; add it to createJit({ strategies })`,
  )
}

function services(ports: AuthenticatePorts, entry: Entry, route: Route, signal: AbortSignal): Services {
  return {
    fetch: ports.outbound.fetch(entry),
    now: ports.now,
    random: (bytes) => randomBytes(bytes),
    once: ports.once,
    signal,
    callbackUrl: ports.baseUrl + route.callback,
    entityId: `${ports.baseUrl}${ports.path}/sso/${idOf(route.source)}/metadata`,
  }
}

/** Runs a strategy's step within its time; what it throws other than a `JitError` becomes `code`. */
async function guarded<T>(
  route: Route,
  code: 'idp_unreachable' | 'answer_malformed',
  step: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(stop.signal.reason), { once: true })
    timer = setTimeout(() => stop.abort(), stepLimit).unref()
  })
  try {
    return await Promise.race([step(stop.signal), late])
  } catch (error) {
    if (stop.signal.aborted && !(error instanceof JitError)) {
      throw new JitError('idp_unreachable', `${nameOf(route.source)} did not answer in time`, {
        cause: error,
      })
    }
    throw asJitError(error, code, nameOf(route.source))
  } finally {
    // A signal of AbortSignal.timeout() would wait for its end, however soon the step was done.
    clearTimeout(timer)
  }
}

const foreignBrowser = ({ source }: Route) =>
  new JitError(
    'attempt_foreign',
    `${nameOf(source)}: the answer came to a browser that did not begin this sign-in`,
  )

const changed = ({ source }: Route) =>
  new JitError(
    'connection_changed',
    `${nameOf(source)} was changed while the person was at the identity provider`,
  )
