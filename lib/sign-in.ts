import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  attemptDefaults,
  type Binding,
  bindBrowser,
  newToken,
  putSealed,
  sameBrowser,
  takeSealed,
} from './attempt.js'
import { isSecure } from './authenticate.js'
import { within } from './deadline.js'
import { discover } from './discovery.js'
import { asJitError, JitError } from './errors.js'
import { type AssertedIdentity, assertIdentity, type IdentityInput } from './identity.js'
import type { MiddlewarePorts, PassportRequest } from './middleware.js'
import type { Proof } from './plan.js'
import { provision } from './provision.js'
import { keptUsers, signedInUser } from './session.js'
import { keepEnded } from './sign-out.js'

/** A sign-in that waits until the person has proved an address or an old account. */
export interface Waiting {
  readonly identity: IdentityInput
  readonly proof: Proof
  readonly returnTo: string
  /** When it waits no longer, in milliseconds since the epoch. */
  readonly until: number
}

interface Bound {
  readonly waiting: Waiting
  /** The browser it waits in. */
  readonly cookie: Binding
}

export interface SignInOptions {
  /** False for apps that issue tokens: `req.user` and `req.jit` are set and no session is made. */
  readonly session?: boolean
  readonly returnTo: string
  readonly proof?: Proof | null
  /** Ticket of a sign-in that waits for this one to prove the account. */
  readonly waiting?: string | null
}

/**
 * Provisions an identity and makes the session, then sets `req.user` and `req.jit`.
 * @returns where to go: the return address, or the page where the person proves an address first
 */
export async function signIn(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
  identity: AssertedIdentity,
  options: SignInOptions,
): Promise<{ readonly done: boolean; readonly location: string }> {
  if (options.session !== false && (!req.session || !req.logIn)) {
    throw new JitError(
      'session_missing',
      'put session(…) and passport.session() before the JIT routes, or use jit.provision({ session: false })',
    )
  }
  if (options.session !== false && !ports.keeping.on) {
    throw new JitError(
      'session_missing',
      'call jit.passport(passport), which says how a session keeps its user',
    )
  }
  ports.examine(req)
  const correlationId = ports.correlationId(req)
  const result = await provision(ports, identity, {
    correlationId,
    proof: options.proof ?? null,
    until: ports.until(req),
  }).catch((error) => offerSso(ports, identity, options.returnTo, error))
  if (result.verdict === 'prove') {
    const ticket = newToken()
    await putWaiting(ports, req, res, ticket, {
      identity: { ...identity, email: identity.email?.address },
      proof: result.proof,
      returnTo: options.returnTo,
      until: ports.now() + attemptDefaults.attempt,
    })
    const by = identity.source.slice(identity.source.indexOf(':') + 1)
    const offer = result.proof.by === 'account' ? { ways: result.ways.join() } : { by }
    return { done: false, location: `${ports.path}/prove?${new URLSearchParams({ ticket, ...offer })}` }
  }
  if (options.waiting) {
    const waiting = await takeWaiting(ports, req, res, options.waiting)
    if (waiting?.proof.user === result.after.user.id) {
      const { returnTo } = waiting
      const proof: Proof = { ...waiting.proof, by: 'account' }
      return signIn(ports, req, res, assertIdentity(waiting.identity), {
        ...options,
        returnTo,
        proof,
        waiting: null,
      })
    }
  }
  const { outcome, reason, joined, granted, revoked, decision, invitations } = result
  const jit = { outcome, reason, joined, granted, revoked, decision, correlationId }
  const user = await signedInUser(ports.directory, identity.source, result)
  // Set before the session is made: the serializer keeps it there.
  req.jit = jit
  if (options.session === false) {
    req.user = user
  } else {
    // It runs through the session store and every serializer of the app's own.
    const saved = new Promise<void>((resolve, reject) => {
      req.logIn!(user, {}, (error) => (error ? reject(error) : resolve()))
    })
    const kept = within(ports.until(req) - performance.now(), saved, 'no answer in time').then(() => {
      // What another serializer keeps is read without a look at epochs: such a session would not end.
      if (!keptUsers.has(user)) throw new JitError('session_missing', foreignSerializer)
    })
    await kept.catch((error) => {
      abandonSession(req)
      throw asJitError(error, 'unavailable', 'the session could not be saved')
    })
    // This request may be a slow one too: its browser has the cookie as soon as an answer begins.
    keepEnded(ports, req as IncomingMessage, { jit })
  }
  req.jit = { ...jit, returnTo: options.returnTo, invitations }
  return { done: true, location: options.returnTo }
}

const foreignSerializer =
  "a serializeUser of the app's own stands before jit.passport(passport) and kept this user; remove it, or let it call done('pass') for users of the kit"

/**
 * Where a session was not saved in time there is to be none. One without an id is neither kept nor named in a cookie by
 * express-session, and whoever calls back later still finds something to write to.
 */
function abandonSession(req: PassportRequest): void {
  req.user = undefined
  const session = { touch: () => {}, save: (done?: () => void) => done?.() }
  Object.assign(req, { sessionID: undefined, session })
}

/** Lets a sign-in wait under a ticket, in this browser. */
export async function putWaiting(
  ports: MiddlewarePorts,
  req: IncomingMessage,
  res: ServerResponse,
  ticket: string,
  waiting: Waiting,
): Promise<void> {
  const bound: Bound = { waiting, cookie: bindBrowser(req, res, ticket, isSecure(ports.baseUrl)) }
  // What another process wrote, its clock perhaps behind or ahead of ours, waits no longer for that.
  const left = Math.min(Math.max(1, waiting.until - ports.now()), attemptDefaults.attempt)
  await putSealed(ports.once, 'waiting', ticket, bound, left)
}

/** The waiting sign-in of a ticket, once, and only in the browser it waits in; null anywhere else. */
export async function takeWaiting(
  ports: MiddlewarePorts,
  req: IncomingMessage,
  res: ServerResponse,
  ticket: string,
): Promise<Waiting | null> {
  const bound = await takeSealed<Bound>(ports.once, 'waiting', ticket)
  return bound && sameBrowser(req, res, bound.cookie, isSecure(ports.baseUrl)) ? bound.waiting : null
}

/** A refusal for want of SSO names the way to it: that of the asserted address, or of the account's own. */
async function offerSso(
  ports: MiddlewarePorts,
  identity: AssertedIdentity,
  returnTo: string,
  error: unknown,
): Promise<never> {
  if (!(error instanceof JitError) || error.code !== 'sso_required') throw error
  const { source, issuer, subject } = identity
  const { byIdentity } = await ports.store
    .load({ source, issuer, subject, email: null, organizations: [] })
    .catch(() => ({ byIdentity: null }))
  const elsewhere = returnTo === ports.returnTo ? undefined : returnTo
  const domains = [identity.email?.domain, byIdentity?.verifiedEmail?.split('@')[1]]
  const found = await Promise.all(
    [...new Set(domains)].map(async (domain) =>
      domain === undefined ? [] : discover(await ports.directory.domain(domain), [], ports.path, elsewhere),
    ),
  )
  const ways = found.flat()
  throw new JitError(error.code, error.message, {
    ways,
    cause: error,
    ...(error.correlationId && { correlationId: error.correlationId }),
  })
}
