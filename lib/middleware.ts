import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type AuthenticatePorts,
  begin,
  finish,
  isAnswer,
  metadata,
  type Route,
  type Step,
} from './authenticate.js'
import { asJitError, JitError } from './errors.js'
import { AssertedIdentity } from './identity.js'
import { type ProvisionPorts, provision as provisionIdentity } from './provision.js'
import { type JitResult, type JitUser, signedInUser } from './session.js'

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
interface PassportRequest extends IncomingMessage {
  user?: unknown
  originalUrl?: string
  session?: unknown
  logIn?: (user: JitUser, options: object, done: (error?: unknown) => void) => void
  logout?: (options: object, done: (error?: unknown) => void) => void
}

export interface MiddlewarePorts extends AuthenticatePorts, ProvisionPorts {
  /** Resolves when tables and directory entries are in the store. */
  readonly ready: () => Promise<void>
  /** The id that ties response, log line and audit event of a request together. */
  readonly correlationId: (req: IncomingMessage) => string
  /** Return addresses of identities on their way from `authenticate` to `provision`. */
  readonly returnTo: string
  readonly destinations: WeakMap<AssertedIdentity, string>
  /** Logs and counts a refusal; gives it back with its correlation id. */
  readonly refused: (error: JitError, req: IncomingMessage) => JitError
}

/** What an async handler leaves to do: `pass` hands the request on, nothing means it was answered. */
type Done = 'pass' | undefined

/**
 * An async handler as Connect wants it: every failure reaches `next` as a logged `JitError`. `next` is called
 * outside the promise, so that what a later handler throws is not taken for a failure of ours.
 */
function handler(
  ports: MiddlewarePorts,
  work: (req: PassportRequest, res: ServerResponse) => Promise<Done>,
): Handler {
  return (req, res, next) => {
    ports
      .ready()
      .then(() => work(req, res))
      .then(
        (done) => done === 'pass' && process.nextTick(next),
        (error) =>
          process.nextTick(next, ports.refused(asJitError(error, 'unavailable', 'sign-in failed'), req)),
      )
  }
}

export interface AuthenticateOptions {
  /** Id of the connection. */
  readonly connection: string
  /** Path of this very handler, to which the IdP answers; the connection's own callback path by default. */
  readonly callback?: string
}

export function routeOf(ports: AuthenticatePorts, { connection, callback }: AuthenticateOptions): Route {
  return { connection, callback: callback ?? `${ports.path}/sso/${connection}/callback` }
}

/** Starts a sign-in, or ends it where the request is the IdP's answer; then `req.assertedIdentity` is set. */
export function authenticate(ports: MiddlewarePorts, options: AuthenticateOptions): Handler {
  const route = routeOf(ports, options)
  return handler(ports, async (req, res) => {
    const step = await (isAnswer(req) ? finish : begin)(ports, req, res, route)
    if (step.kind !== 'identity') return respond(res, step)
    req.assertedIdentity = step.identity
    ports.destinations.set(step.identity, step.returnTo)
    return 'pass'
  })
}

export interface ProvisionOptions {
  /** False for apps that issue tokens: `req.user` and `req.jit` are set and no session is made. */
  readonly session?: boolean
}

/** Finds or makes the account of `req.assertedIdentity`, sets `req.user` and `req.jit`, and signs in. */
export function provision(ports: MiddlewarePorts, options: ProvisionOptions = {}): Handler {
  return handler(ports, async (req) => {
    await signIn(ports, req, options)
    return 'pass'
  })
}

async function signIn(
  ports: MiddlewarePorts,
  req: PassportRequest,
  options: ProvisionOptions,
): Promise<void> {
  const identity = req.assertedIdentity
  if (!AssertedIdentity.is(identity)) {
    throw new JitError(
      'identity_unproven',
      'jit.provision() found no req.assertedIdentity; put jit.authenticate() or a strategy of this kit before it',
    )
  }
  const withSession = options.session !== false
  if (withSession && (!req.session || !req.logIn)) {
    throw new JitError(
      'session_missing',
      'put session(…) and passport.session() before the JIT routes, or use jit.provision({ session: false })',
    )
  }
  const correlationId = ports.correlationId(req)
  const done = await provisionIdentity(ports, identity, correlationId)
  const { outcome, reason, joined, granted, revoked, decision } = done
  const jit = { outcome, reason, joined, granted, revoked, decision, correlationId }
  const user = await signedInUser(ports.directory, identity.source, done)
  // Set before the session is made: the serializer keeps it there.
  req.jit = jit
  if (withSession) {
    await new Promise<void>((resolve, reject) => {
      req.logIn!(user, {}, (error) =>
        error ? reject(asJitError(error, 'unavailable', 'the session could not be saved')) : resolve(),
      )
    })
  } else {
    req.user = user
  }
  req.jit = { ...jit, returnTo: ports.destinations.get(identity) ?? ports.returnTo }
}

/** All routes below `path`. */
export function routes(ports: MiddlewarePorts): Handler {
  const prefix = `${ports.path}/`
  return (req: PassportRequest, res, next) => {
    const url = req.url ?? '/'
    const full = req.originalUrl ?? url
    const mount = full.endsWith(url) ? full.slice(0, full.length - url.length) : ''
    if (mount !== '' && mount !== '/') {
      const message = `jit.routes() is mounted at "${mount}" but answers "${ports.path}/…"; use app.use(jit.routes()) and set createJit({ path }) instead`
      return next(ports.refused(new JitError('path_mismatch', message), req))
    }
    const path = url.split('?')[0]!
    const route = path.startsWith(prefix) ? match(path.slice(prefix.length)) : null
    if (!route) return next()
    handler(ports, async () => {
      if (!route.methods.includes(req.method ?? '')) {
        res.setHeader('allow', route.methods.join(', '))
        throw new JitError(
          'method_not_allowed',
          `${req.method} ${path} is not a route; it takes ${route.methods.join(', ')}`,
        )
      }
      res.setHeader('cache-control', 'no-store')
      await route.run(ports, req, res)
      return undefined
    })(req, res, next)
  }
}

interface Matched {
  readonly methods: readonly string[]
  readonly run: (ports: MiddlewarePorts, req: PassportRequest, res: ServerResponse) => Promise<void>
}

function match(rest: string): Matched | null {
  if (rest === 'logout') return { methods: ['POST'], run: logout }
  const [, connection, action] = /^sso\/([^/]+)(?:\/(callback|metadata))?$/.exec(rest) ?? []
  if (connection === undefined) return null
  const route = (ports: MiddlewarePorts) => routeOf(ports, { connection })
  if (action === 'metadata') {
    return {
      methods: ['GET'],
      run: async (ports, _req, res) => {
        const xml = await metadata(ports, route(ports))
        res.writeHead(200, { 'content-type': 'application/samlmetadata+xml; charset=utf-8' }).end(xml)
      },
    }
  }
  if (action === 'callback') {
    return {
      methods: ['GET', 'POST'],
      run: async (ports, req, res) => {
        const step = await finish(ports, req, res, route(ports))
        if (step.kind !== 'identity') return respond(res, step)
        req.assertedIdentity = step.identity
        ports.destinations.set(step.identity, step.returnTo)
        await signIn(ports, req, {})
        res.writeHead(303, { location: step.returnTo }).end()
      },
    }
  }
  return {
    methods: ['GET'],
    run: async (ports, req, res) => respond(res, await begin(ports, req, res, route(ports))),
  }
}

/** Ends the session on the server. A request that another site caused is refused. */
async function logout(ports: MiddlewarePorts, req: PassportRequest, res: ServerResponse): Promise<void> {
  const site = req.headers['sec-fetch-site']
  const origin = req.headers.origin
  // The browser's own word first: under `Referrer-Policy: no-referrer` the origin of our own form is "null".
  const foreign =
    site === undefined
      ? origin !== undefined && origin !== ports.baseUrl
      : site !== 'same-origin' && site !== 'none'
  if (foreign) {
    throw new JitError('cross_site', `sign-out asked for by ${origin ?? site}, not by ${ports.baseUrl}`)
  }
  if (req.logout) {
    await new Promise<void>((resolve, reject) => {
      req.logout!({}, (error) =>
        error ? reject(asJitError(error, 'unavailable', 'the session could not be ended')) : resolve(),
      )
    })
  }
  res.writeHead(303, { location: ports.returnTo }).end()
}

/** Writes a step that is not the end of a sign-in. */
export function respond(res: ServerResponse, step: Exclude<Step, { kind: 'identity' }>): undefined {
  if (step.kind === 'redirect') {
    res.writeHead(step.status, { location: step.location, 'cache-control': 'no-store' }).end()
    return
  }
  const who = step.email ? ` as <strong>${escapeHtml(step.email)}</strong>` : ''
  page(
    res,
    200,
    'Continue signing in?',
    `<p>Your identity provider sent you here to sign in${who}.</p>
<form method="post" action="${escapeHtml(step.action)}"><input type="hidden" name="ticket" value="${escapeHtml(step.ticket)}">
<button>Continue</button></form><p class="note">Close this page if you did not mean to.</p>`,
  )
}

/** Express error handler that shows a refusal: a page to a person, JSON to a program. */
export function errorPage(ports: Pick<MiddlewarePorts, 'returnTo'>) {
  return (error: unknown, req: IncomingMessage, res: ServerResponse, next: Next): void => {
    if (!(error instanceof JitError) || res.headersSent) {
      next(error)
      return
    }
    for (const [name, value] of Object.entries(error.headers)) res.setHeader(name, value)
    const { code, status, publicMessage, correlationId } = error
    if ((req.headers.accept ?? '').includes('text/html')) {
      const body = `<p>${escapeHtml(publicMessage)}</p><p><a href="${escapeHtml(ports.returnTo)}">Back to the start</a></p>
<p class="note">${code}${correlationId ? ` · ${escapeHtml(correlationId)}` : ''}</p>`
      page(res, status, 'You are not signed in', body)
      return
    }
    res.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
    res.end(JSON.stringify({ error: code, message: publicMessage, correlationId }))
  }
}

function page(res: ServerResponse, status: number, title: string, body: string): void {
  res.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'content-security-policy':
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    'referrer-policy': 'no-referrer',
  })
  res.end(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:12vh auto;padding:0 1.5rem;color:#1c2230}
h1{font-size:1.4rem}.note{color:#667;font-size:.8rem}button{font:inherit;padding:.5rem 1.2rem}</style>
<h1>${title}</h1>${body}</html>`)
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}
