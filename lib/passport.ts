import type { IncomingMessage, ServerResponse } from 'node:http'
import { begin, finish, isAnswer } from './authenticate.js'
import { within } from './deadline.js'
import { asJitError, JitError } from './errors.js'
import type { AssertedIdentity } from './identity.js'
import { type MiddlewarePorts, respond, routeOf } from './middleware.js'
import { type JitUser, keptUsers, type SessionSlot, sessionUser } from './session.js'
import { keepEnded } from './sign-out.js'

declare global {
  namespace Express {
    interface User extends JitUser {}
  }
}

/** What the kit needs of Passport: the module's own instance, or a `new Passport()` of the app's. */
export interface PassportLike {
  use(name: string, strategy: never): unknown
  serializeUser(serialize: never): unknown
  deserializeUser(deserialize: never): unknown
}

interface ExpressRequest extends IncomingMessage {
  res?: ServerResponse
  params?: Record<string, string | undefined>
}

/** Options of `passport.authenticate(name, …)`. */
interface PassportOptions {
  connection?: string
  provider?: string
  callback?: string
}

/** What Passport grafts onto the copy of a strategy that serves one request. */
interface PassportActions {
  success(identity: AssertedIdentity): void
  error(error: unknown): void
}

/**
 * Registers `jit` and one strategy for each protocol, and how a session keeps its user. The registered
 * strategy has no state: Passport copies it for each request, and refusals go to `error`, never to `fail`,
 * because a failure would be retried by the next strategy.
 */
export function usePassport(ports: MiddlewarePorts, passport: PassportLike): void {
  for (const name of ['jit', ...ports.strategies.keys()]) {
    passport.use(name, {
      name,
      authenticate(this: PassportActions, req: ExpressRequest, options: PassportOptions = {}) {
        run(ports, name, req, options).then(
          (identity) => identity && this.success(identity),
          (error) => this.error(ports.refused(asJitError(error, 'unavailable', 'sign-in failed'), req)),
        )
      },
    } as never)
  }
  const serialize = (
    req: IncomingMessage,
    user: Express.User,
    done: (error: unknown, slot?: SessionSlot) => void,
  ) => {
    const { id, epochs, via } = user
    if (!req.jit || !epochs || !via) {
      return done(
        new JitError(
          'session_missing',
          'only users signed in by jit.provision() can be kept in this session',
        ),
      )
    }
    keptUsers.add(user)
    const { returnTo: _, invitations: __, ...jit } = req.jit
    done(null, { id, epochs, via, jit })
  }
  const deserialize = (
    req: IncomingMessage,
    slot: SessionSlot,
    done: (error: unknown, user?: Express.User | false) => void,
  ) => {
    const user = ports.ready().then(() => sessionUser(ports.store, ports.directory, slot))
    within(ports.until(req) - performance.now(), user).then(
      (user) => {
        if (user) {
          req.jit = slot.jit
          keepEnded(ports, req, slot)
        }
        done(null, user ?? false)
      },
      (error) => done(ports.refused(asJitError(error, 'unavailable', 'the session could not be read'), req)),
    )
  }
  // Passport tells the forms of these functions apart by their number of parameters.
  passport.serializeUser(serialize as never)
  passport.deserializeUser(deserialize as never)
  ports.keeping.on = true
}

/** One step of a sign-in for Passport: an identity, or null where the response has been written. */
async function run(
  ports: MiddlewarePorts,
  name: string,
  req: ExpressRequest,
  options: PassportOptions,
): Promise<AssertedIdentity | null> {
  await within(ports.until(req) - performance.now(), ports.ready())
  const misused = (message: string) =>
    new JitError('config_invalid', `passport.authenticate("${name}") ${message}`)
  const connection = options.connection ?? req.params?.connection
  const provider = options.provider ?? req.params?.provider
  if (!req.res) throw misused('needs Express; on Connect use jit.authenticate()')
  if (!connection && !provider)
    throw misused('needs { connection } or { provider }, or a route with :connection or :provider')
  const callback = options.callback === undefined ? {} : { callback: options.callback }
  const route = routeOf(
    ports,
    connection ? { connection, ...callback } : { provider: provider!, ...callback },
  )
  const asked = name === 'jit' ? route : { ...route, protocol: name }
  const step = await (isAnswer(req) ? finish : begin)(ports, req, req.res, asked)
  if (step.kind !== 'identity') {
    respond(req.res, step)
    return null
  }
  ports.destinations.set(step.identity, step)
  return step.identity
}
