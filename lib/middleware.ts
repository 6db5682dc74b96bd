import type { IncomingMessage, ServerResponse } from 'node:http'
import { type AuthenticatePorts, begin, finish, isAnswer, type Route, type Step } from './authenticate.js'
import { within } from './deadline.js'
import { asJitError, JitError } from './errors.js'
import { AssertedIdentity } from './identity.js'
import { escapeHtml, form, json, page, wantsHtml } from './pages.js'
import type { ProvisionPorts } from './provision.js'
import type { JitResult, JitUser } from './session.js'
import { signIn } from './sign-in.js'
import type { EmailStrategy } from './strategy.js'

declare module 'http' {
  interface IncomingMessage {
    /** What the sign-in did; after the sign-in itself, what the session remembers of it. */
    jit?: JitResult
    /** What a strategy proved, between `authenticate` and `provision`. */
    assertedIdentity?: AssertedIdentity
  }
}

export type Next = (error?: unknown) => void
/** A Connect handler: it works on Connect, Express 4 and Express 5. */
export type Handler = (req: IncomingMessage, res: ServerResponse, next: Next) => void

/** Passport's additions to a request, where `passport.session()` ran. */
export interface PassportRequest extends IncomingMessage {
  user?: unknown
  originalUrl?: string
  /** Express's word for where a handler is mounted. */
  baseUrl?: string
  session?: unknown
  logIn?: (user: JitUser, options: object, done: (error?: unknown) => void) => void
  logout?: (options: object, done: (error?: unknown) => void) => void
  isAuthenticated?: () => boolean
}

export interface MiddlewarePorts extends AuthenticatePorts, ProvisionPorts {
  /** Resolves when tables and directory entries are in the store. */
  readonly ready: () => Promise<void>
  /** The id that ties response, log line and audit event of a request together. */
  readonly correlationId: (req: IncomingMessage) => string
  /** Return addresses of identities on their way from `authenticate` to `provision`. */
  readonly returnTo: string
  readonly destinations: WeakMap<
    AssertedIdentity,
    Pick<Extract<Step, { kind: 'identity' }>, 'returnTo' | 'waiting'>
  >
  /** Whether `jit.passport()` was called. */
  readonly keeping: { on: boolean }
  /** The e-mail method, where the app has it. */
  readonly email: EmailStrategy | null
  /** Tells the operator, once, what about the app around it undoes the kit's protection. */
  readonly examine: (req: IncomingMessage) => void
  /** Logs and counts a refusal; gives it back with its correlation id. */
  readonly refused: (error: JitError, req: IncomingMessage) => JitError
}

/** What an async handler leaves to do: `pass` hands the request on, nothing means it was answered. */
type Done = 'pass' | undefined

/**
 * An async handler as Connect wants it: every failure reaches `next` as a logged `JitError`. `next` is called
 * outside the promise, so that what a later handler throws is not taken for a failure of ours.
 */
export function handler(
  ports: MiddlewarePorts,
  work: (req: PassportRequest, res: ServerResponse) => Promise<Done>,
): Handler {
  return (req, res, next) => {
    within(ports.until(req) - performance.now(), ports.ready())
      .then(() => work(req, res))
      .then(
        (done) => done === 'pass' && process.nextTick(next),
        (error) =>
          process.nextTick(next, ports.refused(asJitError(error, 'unavailable', 'sign-in failed'), req)),
      )
  }
}

export type AuthenticateOptions = {
  /** Path of this very handler, to which the IdP answers; the kit's own callback path by default. */
  readonly callback?: string
} & ({ readonly connection: string } | { readonly provider: string })

export function routeOf(ports: AuthenticatePorts, options: AuthenticateOptions): Route {
  return 'connection' in options
    ? {
        source: `connection:${options.connection}`,
        callback: options.callback ?? `${ports.path}/sso/${options.connection}/callback`,
      }
    : {
        source: `provider:${options.provider}`,
        callback: options.callback ?? `${ports.path}/social/${options.provider}/callback`,
      }
}

/** Starts a sign-in, or ends it where the request is the IdP's answer; then `req.assertedIdentity` is set. */
export function authenticate(ports: MiddlewarePorts, options: AuthenticateOptions): Handler {
  const route = routeOf(ports, options)
  return handler(ports, async (req, res) => {
    const step = await (isAnswer(req) ? finish : begin)(ports, req, res, route)
    if (step.kind !== 'identity') return respond(res, step)
    req.assertedIdentity = step.identity
    ports.destinations.set(step.identity, step)
    return 'pass'
  })
}

export interface ProvisionOptions {
  /** False for apps that issue tokens: `req.user` and `req.jit` are set and no session is made. */
  readonly session?: boolean
}

/** Finds or makes the account of `req.assertedIdentity`, sets `req.user` and `req.jit`, and signs in. */
export function provision(ports: MiddlewarePorts, options: ProvisionOptions = {}): Handler {
  return handler(ports, async (req, res) => {
    const identity = req.assertedIdentity
    if (!AssertedIdentity.is(identity)) {
      throw new JitError(
        'identity_unproven',
        'jit.provision() found no req.assertedIdentity; put jit.authenticate() or a strategy of this kit before it',
      )
    }
    const { returnTo, waiting } = ports.destinations.get(identity) ?? {
      returnTo: ports.returnTo,
      waiting: null,
    }
    const { done, location } = await signIn(ports, req, res, identity, { ...options, returnTo, waiting })
    if (done) return 'pass'
    res.writeHead(303, { location }).end()
    return undefined
  })
}

/** Writes a step that is not the end of a sign-in. */
export function respond(res: ServerResponse, step: Exclude<Step, { kind: 'identity' }>): undefined {
  if (step.kind === 'redirect') {
    res.writeHead(step.status, { location: step.location, 'cache-control': 'no-store' }).end()
    return
  }
  const who = step.email ? ` as <strong>${escapeHtml(step.email)}</strong>` : ''
  const body = `<p>Your identity provider sent you here to sign in${who}.</p>
${form(step.action, { ticket: step.ticket }, '<button>Continue</button>')}<p class="note">Close this page if you did not mean to.</p>`
  page(res, 200, 'Continue signing in?', body)
}

/** Express error handler that shows a refusal: a page to a person, JSON to a program. */
export function errorPage(ports: Pick<MiddlewarePorts, 'returnTo'>) {
  return (error: unknown, req: IncomingMessage, res: ServerResponse, next: Next): void => {
    if (!(error instanceof JitError) || res.headersSent) {
      next(error)
      return
    }
    for (const [name, value] of Object.entries(error.headers)) res.setHeader(name, value)
    const { code, status, publicMessage, correlationId, ways } = error
    if (!wantsHtml(req))
      return json(res, status, {
        error: code,
        message: publicMessage,
        correlationId,
        ...(ways.length > 0 && { ways }),
      })
    const start = ways
      .map(({ start, name }) => `<p><a href="${escapeHtml(start)}">${escapeHtml(name)}</a></p>`)
      .join('')
    // Whoever reloads the last step of a sign-in, or goes back to it, has not lost what it did.
    const still = (req as PassportRequest).user ? '<p>You are still signed in.</p>' : ''
    const body = `<p>${escapeHtml(publicMessage)}</p>${still}${start}<p><a href="${escapeHtml(ports.returnTo)}">Back to the start</a></p>
<p class="note">${code}${correlationId ? ` · ${escapeHtml(correlationId)}` : ''}</p>`
    page(res, status, still ? 'That did not work' : 'You are not signed in', body)
  }
}
