import type { IncomingMessage, ServerResponse } from 'node:http'
import { begin, finish, metadata, type Route } from './authenticate.js'
import { within } from './deadline.js'
import { discoverWays, mailCode, redeemCode } from './email.js'
import { asJitError, JitError, legible } from './errors.js'
import { countClient } from './limits.js'
import {
  type Handler,
  handler,
  type MiddlewarePorts,
  type PassportRequest,
  respond,
  routeOf,
} from './middleware.js'
import { idPattern } from './policy.js'
import { prove } from './prove.js'
import { signIn } from './sign-in.js'

type Run = (ports: MiddlewarePorts, req: PassportRequest, res: ServerResponse) => Promise<void>

interface Matched {
  readonly methods: readonly string[]
  readonly run: Run
}

/** All routes below `path`. */
export function routes(ports: MiddlewarePorts): Handler {
  const prefix = `${ports.path}/`
  return (req: PassportRequest, res, next) => {
    const url = req.url ?? '/'
    const full = req.originalUrl ?? url
    const mount = full.endsWith(url) ? full.slice(0, full.length - url.length) : ''
    const path = url.split('?')[0]!
    // Where Express says that nothing is mounted, the app rewrote an address, perhaps without its language. That is
    // its own affair, unless it leads here: by such a spelling no return address may.
    const ours = req.baseUrl !== '' || path.startsWith(prefix)
    if (mount !== '' && mount !== '/' && ours) {
      const message = `jit.routes() is mounted at "${legible(mount)}" but answers "${ports.path}/…"; use app.use(jit.routes()) and set createJit({ path }) instead`
      return next(ports.refused(new JitError('path_mismatch', message), req))
    }
    const route = path.startsWith(prefix) ? match(path.slice(prefix.length), ports) : null
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

const fixed: Readonly<Record<string, Matched>> = {
  discover: { methods: ['POST'], run: discoverWays },
  email: { methods: ['POST'], run: sameSite(mailCode) },
  'email/verify': { methods: ['GET', 'POST'], run: sameSite(redeemCode) },
  prove: { methods: ['GET', 'POST'], run: sameSite(prove) },
  logout: { methods: ['POST'], run: sameSite(logout) },
}

function match(rest: string, ports: MiddlewarePorts): Matched | null {
  if (Object.hasOwn(fixed, rest)) return fixed[rest]!
  const [, kind, id, action] = /^(sso|social)\/([^/]+)(?:\/(callback|metadata))?$/.exec(rest) ?? []
  if (id === undefined || !idPattern.test(id) || (kind === 'social' && action === 'metadata')) return null
  const route = routeOf(ports, kind === 'sso' ? { connection: id } : { provider: id })
  if (action === 'metadata')
    return { methods: ['GET'], run: (_, req, res) => sendMetadata(ports, route, req, res) }
  if (action === 'callback')
    return { methods: ['GET', 'POST'], run: (_, req, res) => callback(ports, route, req, res) }
  return { methods: ['GET'], run: async (_, req, res) => respond(res, await begin(ports, req, res, route)) }
}

async function callback(ports: MiddlewarePorts, route: Route, req: PassportRequest, res: ServerResponse) {
  const step = await finish(ports, req, res, route)
  if (step.kind !== 'identity') return respond(res, step)
  const { location } = await signIn(ports, req, res, step.identity, step)
  res.writeHead(303, { location }).end()
}

async function sendMetadata(
  ports: MiddlewarePorts,
  route: Route,
  req: PassportRequest,
  res: ServerResponse,
): Promise<void> {
  await countClient(ports.limits, 'starts', req)
  const xml = await metadata(ports, route)
  res.writeHead(200, { 'content-type': 'application/samlmetadata+xml; charset=utf-8' }).end(xml)
}

/** Ends the session on the server. Where nobody is signed in there is none, and Passport would make and keep one. */
async function logout(ports: MiddlewarePorts, req: PassportRequest, res: ServerResponse): Promise<void> {
  // Passport keeps the user where its "userProperty" says.
  if (req.logout && (req.isAuthenticated?.() ?? req.user)) {
    const ended = new Promise<void>((resolve, reject) => {
      req.logout!({}, (error) => (error ? reject(error) : resolve()))
    })
    await within(ports.until(req) - performance.now(), ended, 'no answer in time').catch((error) => {
      throw asJitError(error, 'unavailable', 'the session could not be ended')
    })
  }
  res.writeHead(303, { location: ports.returnTo }).end()
}

/** Refuses a POST that a page of another site caused (OWASP: Fetch Metadata, verifying origin). */
function sameSite(run: Run): Run {
  return async (ports, req, res) => {
    if (req.method === 'POST') refuseForeign(req, ports.baseUrl)
    await run(ports, req, res)
  }
}

function refuseForeign(req: IncomingMessage, baseUrl: string): void {
  const site = req.headers['sec-fetch-site']
  const origin = req.headers.origin
  // The browser’s own word first: under `Referrer-Policy: no-referrer` the origin of a form of the app’s is "null".
  const foreign =
    site === undefined
      ? origin !== undefined && origin !== baseUrl
      : site !== 'same-origin' && site !== 'none'
  if (foreign)
    throw new JitError(
      'cross_site',
      `${req.url?.split('?')[0]} was asked for by ${legible(String(origin ?? site))}, not by ${baseUrl}`,
    )
}
