import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { RedisStore } from 'connect-redis'
import express, { type ErrorRequestHandler, type RequestHandler } from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import passport from 'passport'
import { createJit, type DirectoryInput, JitError, type Lock, type Once, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { Pool } from 'pg'
import { type Failpoint, failpoints } from './failpoints.js'

// A whole app in a process of its own, so that a test can kill it. It reads its options from RIG_OPTIONS,
// listens on a free port, tells its parent, and takes failpoints from it.

export interface AppOptions {
  /** Origin as browsers see it, the same for every process of a fleet. */
  readonly baseUrl: string
  readonly directory: DirectoryInput
  readonly store:
    | { readonly kind: 'postgres'; readonly url: string; readonly connections: number }
    | { readonly kind: 'sqlite'; readonly file: string }
  /** Lock, once and sessions; in this process where it is null. */
  readonly redis: string | null
}

/** What the process tells its parent. */
export type Told =
  | { readonly told: 'listening'; readonly port: number }
  | { readonly told: 'armed' }
  | { readonly told: 'step'; readonly step: string }

/** What the parent asks of it; null counts and reports steps without dying. */
export interface Asked {
  readonly arm: Failpoint | null
}

const options = JSON.parse(process.env.RIG_OPTIONS ?? 'null') as AppOptions
const tell = (told: Told) => process.send?.(told)

// Commands fail at once while Redis is away, and within a second where it hangs.
const redis =
  options.redis === null
    ? null
    : new Redis(options.redis, {
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false,
        connectTimeout: 1_000,
        commandTimeout: 1_000,
        retryStrategy: () => 100,
      }).on('error', () => {})
if (redis) await new Promise((resolve) => redis.once('ready', resolve))

let reporting = false
const points = failpoints((step) => reporting && tell({ told: 'step', step }))

const store = points.watch(
  'store',
  options.store.kind === 'sqlite'
    ? sqliteStore({ file: options.store.file })
    : postgresStore({
        pool: new Pool({
          connectionString: options.store.url,
          max: options.store.connections,
          connectionTimeoutMillis: 4_000,
          query_timeout: 4_000,
        }).on('error', () => {}),
      }),
  ['load', 'commit'],
)
const plainLock = redis ? redisLock({ client: redis }) : memoryLock()
const lock: Lock = points.watch(
  'lock',
  {
    acquire: async (key, terms) => {
      const lease = await plainLock.acquire(key, terms)
      return lease && points.watch('lease', { ...lease }, ['release'])
    },
  },
  ['acquire'],
)
const once: Once = points.watch('once', redis ? redisOnce({ client: redis }) : memoryOnce(), [
  'put',
  'take',
  'claim',
])
const sessions: session.Store = points.watch(
  'session',
  redis ? new RedisStore({ client: redis }) : new session.MemoryStore(),
  ['get', 'set', 'destroy'],
)

const boundless = { consume: async () => {} }
const jit = createJit({
  baseUrl: options.baseUrl,
  store,
  lock,
  once,
  directory: staticDirectory(options.directory),
  strategies: [samlStrategy(), oidcStrategy()],
  // Everybody in a test comes from this one machine.
  limits: { starts: boundless, answers: boundless },
})
jit.passport(passport)

/** A session store that cannot be reached is a 503 like any other. */
const orUnavailable =
  (inner: RequestHandler): RequestHandler =>
  (req, res, next) =>
    inner(req, res, (cause?: unknown) =>
      next(cause ? new JitError('unavailable', 'the session store cannot be reached', { cause }) : undefined),
    )

/** Nothing but a coded refusal may reach a browser; anything else shows itself to the test as a 500. */
const accident: ErrorRequestHandler = (error, _req, res, next) => {
  console.error(error)
  if (res.headersSent) return next(error)
  res.status(500).json({ error: 'accident', message: String(error) })
}

const app = express()
  .use(
    orUnavailable(
      session({
        name: 'rig',
        secret: 'only for tests',
        store: sessions,
        resave: false,
        saveUninitialized: false,
        cookie: { httpOnly: true, sameSite: 'lax', maxAge: 3_600_000 },
      }),
    ),
  )
  .use(passport.session())
  .use(jit.routes())
  .get('/me', (req, res) => {
    if (req.user) res.json({ id: req.user.id, email: req.user.email, memberships: req.user.memberships })
    else res.status(401).json({ error: 'signed_out' })
  })
  .use(jit.errorPage())
  .use(accident)

process.on('message', ({ arm }: Asked) => {
  points.arm(arm)
  reporting = arm === null
  tell({ told: 'armed' })
})
// Without its parent it has no purpose.
process.on('disconnect', () => process.exit())

await jit.ready()
const server = createServer(app).listen(0, '127.0.0.1', () => {
  tell({ told: 'listening', port: (server.address() as AddressInfo).port })
})
