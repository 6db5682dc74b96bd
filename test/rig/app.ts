import type { EventEmitter } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { RedisStore } from 'connect-redis'
import express, { type ErrorRequestHandler, type RequestHandler } from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import passport from 'passport'
import {
  type Admin,
  createJit,
  type DirectoryInput,
  JitError,
  type JitOptions,
  type Lock,
  type Once,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { Pool } from 'pg'
import { watchErrors, watchedOptions, watchedStore } from './emitted.js'
import './emitted-wires.js'
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
  /** Milliseconds between two rounds of background work; none where it is left out. */
  readonly background?: number
  /** As `createJit` takes them. */
  readonly revocations?: JitOptions['revocations']
}

/** What keeps a process from being as it was when it started; counts, and bytes of the heap after a collection. */
export interface Held {
  /** Open handles and requests by kind, as `process.getActiveResourcesInfo` names them. */
  readonly resources: Readonly<Record<string, number>>
  /** Connections of the pool: open, idle, and those who wait for one. */
  readonly pool: { readonly total: number; readonly idle: number; readonly waiting: number } | null
  /** Listeners on the process and on the Redis client. */
  readonly listeners: number
  readonly heap: number
}

/** What the process tells its parent. */
export type Told =
  | { readonly told: 'listening'; readonly port: number }
  | { readonly told: 'step'; readonly step: string }
  | { readonly told: 'done' }
  | ({ readonly told: 'held' } & Held)

/** What the parent asks of it. */
export type Asked =
  /** Null counts and reports steps, and nothing happens at them. */
  | { readonly ask: 'arm'; readonly failpoint: Failpoint | null }
  /** Moves its clock this many milliseconds away from the machine's. */
  | { readonly ask: 'clock'; readonly ahead: number }
  | { readonly ask: 'held' }

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
let ahead = 0
const points = failpoints((step) => reporting && tell({ told: 'step', step }))

const pool =
  options.store.kind === 'postgres'
    ? new Pool({
        connectionString: options.store.url,
        max: options.store.connections,
        connectionTimeoutMillis: 4_000,
        query_timeout: 4_000,
      }).on('error', () => {})
    : null
const store = points.watch(
  'store',
  watchedStore(
    options.store.kind === 'sqlite'
      ? sqliteStore({ file: options.store.file })
      : postgresStore({ pool: pool! }),
  ),
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
watchErrors(JitError)
const jit = createJit(
  watchedOptions({
    baseUrl: options.baseUrl,
    store,
    lock,
    once,
    directory: staticDirectory(options.directory),
    strategies: [samlStrategy(), oidcStrategy()],
    // Everybody in a test comes from this one machine.
    limits: { starts: boundless, answers: boundless },
    now: () => Date.now() + ahead,
    ...(options.revocations && { revocations: options.revocations }),
  }),
)
jit.passport(passport)

/** A session store that cannot be reached is a 503 like any other. */
const orUnavailable =
  (inner: RequestHandler): RequestHandler =>
  (req, res, next) =>
    inner(req, res, (cause?: unknown) => {
      // The answer is on its way, and only that the session was used is not written down. Express would cut it off.
      if (cause && res.headersSent) return
      next(cause ? new JitError('unavailable', 'the session store cannot be reached', { cause }) : undefined)
    })

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
  // What an operator's own pages would do; who may is not the kit's to say.
  .post('/admin', express.json(), async (req, res) => {
    const { verb, asked } = req.body as { verb: keyof Admin; asked: never }
    res.json(await jit.admin[verb](asked))
  })
  .use(jit.errorPage())
  .use(accident)

const collectGarbage = () => {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}
const held = (): Held => {
  collectGarbage()
  const resources: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1
  const emitters = [process as EventEmitter, redis].filter((emitter) => emitter !== null)
  return {
    resources,
    pool: pool && { total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount },
    listeners: emitters
      .flatMap((emitter) => emitter.eventNames().map((name) => emitter.listenerCount(name)))
      .reduce((sum, count) => sum + count, 0),
    heap: process.memoryUsage().heapUsed,
  }
}

process.on('message', (asked: Asked) => {
  if (asked.ask === 'held') return tell({ told: 'held', ...held() })
  if (asked.ask === 'clock') {
    ahead = asked.ahead
  } else {
    points.arm(asked.failpoint)
    reporting = asked.failpoint === null
  }
  tell({ told: 'done' })
})
// Without its parent it has no purpose.
process.on('disconnect', () => process.exit())

await jit.ready()
if (options.background !== undefined) jit.background.start({ interval: options.background })
const server = createServer(app).listen(0, '127.0.0.1', () => {
  tell({ told: 'listening', port: (server.address() as AddressInfo).port })
})
// Browsers close what they keep; closed from here, a connection may be just about to be used.
server.keepAliveTimeout = 0
