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
import { AssertedIdentity, assertIdentity, type IdentityInput } from './identity.js'
import { readIncoming } from './incoming.js'
import type { Connection } from './policy.js'
import type { Directory, Once } from './store.js'
import { type Attempt, type Services, type Strategy, single } from './strategy.js'

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
  readonly fetch: typeof globalThis.fetch
}

/** A connection and the path its answers come back to. */
export interface Route {
  readonly connection: string
  readonly callback: string
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
  | { readonly kind: 'identity'; readonly identity: AssertedIdentity; readonly returnTo: string }

/** How long a strategy may take over one step, in milliseconds. */
const stepLimit = 4_500

/** An identity on its way from the POST of the IdP's page to a GET of our own. */
interface Ticket {
  readonly connection: string
  readonly callback: string
  readonly returnTo: string
  readonly identity: IdentityInput
  /** Null until the browser that holds the URL is bound: an answer that nobody here asked for. */
  readonly cookie: Binding | null
  readonly confirm: boolean
}

export const isSecure = (baseUrl: string) => baseUrl.startsWith('https:')

/** True where the request carries an IdP's answer or our ticket, so that it ends a sign-in. */
export function isAnswer(req: IncomingMessage): boolean {
  return req.method === 'POST' || /[?&](?:code|error|state|ticket|SAMLResponse)=/.test(req.url ?? '')
}

/** Starts a sign-in: keeps the attempt, binds the browser, and sends the person to the IdP. */
export async function begin(
  ports: AuthenticatePorts,
  req: IncomingMessage,
  res: ServerResponse,
  route: Route,
): Promise<Extract<Step, { kind: 'redirect' }>> {
  const connection = await enabledConnection(ports, route.connection)
  const strategy = strategyFor(ports, connection)
  const id = newToken()
  const { redirect, secrets } = await guarded(connection, 'idp_unreachable', (signal) =>
    strategy.begin(connection, id, services(ports, route, signal)),
  )
  const secure = isSecure(ports.baseUrl)
  const asked = new URLSearchParams(/\?(.*)$/.exec(req.url ?? '')?.[1] ?? '').get('returnTo')
  const record: AttemptRecord = {
    connection: connection.id,
    version: connection.version,
    callback: route.callback,
    returnTo: returnAddress(asked, ports.returnTo),
    at: ports.now(),
    secrets,
    cookie: bindBrowser(req, res, id, secure),
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
  const incoming = await readIncoming(req)
  const connection = await enabledConnection(ports, route.connection)
  const strategy = strategyFor(ports, connection)
  const ticket = single(incoming.body ?? incoming.query, 'ticket')
  if (ticket !== undefined) return redeem(ports, req, res, connection, route, incoming.method, ticket)

  const key = strategy.attemptKey(incoming)
  const record = key === undefined ? null : await takeSealed<AttemptRecord>(ports.once, 'attempt', key)
  const cookie =
    record && incoming.method === 'GET' ? sameBrowser(req, res, record.cookie, isSecure(ports.baseUrl)) : null
  const unsolicited = record === null && incoming.method === 'POST' && strategy.protocol === 'saml'
  if (record === null && !(unsolicited && connection.protocol === 'saml' && connection.idpInitiated)) {
    throw key === undefined && unsolicited
      ? new JitError(
          'answer_unsolicited',
          `connection "${connection.id}": an answer nobody here asked for; idpInitiated is off`,
        )
      : new JitError(
          'attempt_unknown',
          `connection "${connection.id}": no sign-in is waiting for this answer (expired, already used, or not ours)`,
        )
  }
  if (record !== null) {
    if (record.connection !== connection.id || record.callback !== route.callback) {
      throw new JitError(
        'attempt_unknown',
        `connection "${connection.id}": the sign-in began on connection "${record.connection}"`,
      )
    }
    if (cookie === false) throw foreignBrowser(connection)
    if (record.version !== connection.version) throw changed(connection)
  }
  const attempt: Attempt | null = record && { id: key!, at: record.at, secrets: record.secrets }
  const identity = await guarded(connection, 'answer_malformed', (signal) =>
    strategy.complete(connection, incoming, attempt, services(ports, route, signal)),
  )
  if (!AssertedIdentity.is(identity)) {
    throw new JitError(
      'identity_unproven',
      `the strategy "${strategy.protocol}" returned something assertIdentity() did not make`,
    )
  }
  const returnTo = record?.returnTo ?? ports.returnTo
  if (incoming.method === 'GET') return { kind: 'identity', identity, returnTo }

  const token = newToken()
  const parked: Ticket = {
    connection: connection.id,
    callback: route.callback,
    returnTo,
    identity: { ...identity, email: identity.email?.address },
    cookie: record?.cookie ?? null,
    confirm: record === null,
  }
  await putSealed(ports.once, 'ticket', token, parked, attemptDefaults.ticket)
  return { kind: 'redirect', location: `${route.callback}?ticket=${token}`, status: 303 }
}

async function redeem(
  ports: AuthenticatePorts,
  req: IncomingMessage,
  res: ServerResponse,
  connection: Connection,
  route: Route,
  method: 'GET' | 'POST',
  token: string,
): Promise<Step> {
  const ticket = await takeSealed<Ticket>(ports.once, 'ticket', token)
  if (ticket === null)
    throw new JitError('attempt_unknown', `connection "${connection.id}": the ticket expired or was used`)
  if (ticket.connection !== connection.id || ticket.callback !== route.callback) {
    throw new JitError(
      'attempt_unknown',
      `connection "${connection.id}": the ticket belongs to connection "${ticket.connection}"`,
    )
  }
  if (ticket.identity.sourceVersion !== connection.version) throw changed(connection)
  const secure = isSecure(ports.baseUrl)
  if (ticket.cookie === null) {
    // Nobody here asked for this answer, so the person has to say that it is meant: bind, show, and wait.
    const next = newToken()
    const bound: Ticket = { ...ticket, cookie: bindBrowser(req, res, next, secure) }
    await putSealed(ports.once, 'ticket', next, bound, attemptDefaults.ticket)
    return { kind: 'confirm', action: route.callback, ticket: next, email: ticket.identity.email ?? null }
  }
  if (!sameBrowser(req, res, ticket.cookie, secure)) throw foreignBrowser(connection)
  if (ticket.confirm !== (method === 'POST')) {
    throw new JitError(
      'method_not_allowed',
      'an IdP-initiated sign-in is confirmed by POST, any other ends by GET',
    )
  }
  return { kind: 'identity', identity: assertIdentity(ticket.identity), returnTo: ticket.returnTo }
}

/** The SP metadata of a connection, for the IdP's administrator. */
export async function metadata(ports: AuthenticatePorts, route: Route): Promise<string> {
  const connection = await ports.directory.connection(route.connection)
  const strategy = connection && ports.strategies.get(connection.protocol)
  if (!connection || !strategy?.metadata) {
    throw new JitError('connection_unknown', `there is no connection "${route.connection}" with metadata`)
  }
  return strategy.metadata(connection, services(ports, route, AbortSignal.timeout(stepLimit)))
}

async function enabledConnection(ports: AuthenticatePorts, id: string): Promise<Connection> {
  const connection = await ports.directory.connection(id)
  if (!connection) throw new JitError('connection_unknown', `there is no connection "${id}"`)
  if (!connection.enabled) throw new JitError('connection_disabled', `connection "${id}" is disabled`)
  const organization = await ports.directory.organization(connection.organization)
  if (organization?.status !== 'active') {
    throw new JitError(
      'organization_suspended',
      `organization "${connection.organization}" of connection "${id}" is suspended`,
    )
  }
  return connection
}

function strategyFor(ports: AuthenticatePorts, connection: Connection): Strategy {
  const strategy = ports.strategies.get(connection.protocol)
  if (strategy) return strategy
  throw new JitError(
    'config_invalid',
    `connection "${connection.id}" needs the strategy "${connection.protocol}"; add it to createJit({ strategies })`,
  )
}

function services(ports: AuthenticatePorts, route: Route, signal: AbortSignal): Services {
  return {
    fetch: ports.fetch,
    now: ports.now,
    random: (bytes) => randomBytes(bytes),
    once: ports.once,
    signal,
    callbackUrl: ports.baseUrl + route.callback,
    entityId: `${ports.baseUrl}${ports.path}/sso/${route.connection}/metadata`,
  }
}

/** Runs a strategy's step within its time; what it throws other than a `JitError` becomes `code`. */
async function guarded<T>(
  connection: Connection,
  code: 'idp_unreachable' | 'answer_malformed',
  step: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const signal = AbortSignal.timeout(stepLimit)
  try {
    return await Promise.race([
      step(signal),
      new Promise<never>((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      ),
    ])
  } catch (error) {
    throw asJitError(error, signal.aborted ? 'idp_unreachable' : code, `connection "${connection.id}"`)
  }
}

const foreignBrowser = (connection: Connection) =>
  new JitError(
    'attempt_foreign',
    `connection "${connection.id}": the answer came to a browser that did not begin this sign-in`,
  )

const changed = (connection: Connection) =>
  new JitError(
    'connection_changed',
    `connection "${connection.id}" was changed while the person was at the identity provider`,
  )
