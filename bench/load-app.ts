import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { RedisStore } from 'connect-redis'
import express from 'express'
import session from 'express-session'
import { Redis } from 'ioredis'
import passport from 'passport'
import { createJit, type DirectoryInput, staticDirectory } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { emailStrategy } from 'passport-jit/strategies/email'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { Pool } from 'pg'
import { heap } from './figures.js'

// The app under load, in a process of its own. It asks its parent for a directory, because that needs its address,
// hands it every mail, and tells its figures when it is asked.

/** What the parent says. */
export type Said = Setup | 'measure'

export interface Setup {
  readonly directory: DirectoryInput
  readonly workers: number | null
  /** Of a PostgreSQL database that is empty. */
  readonly database: string
  readonly redis: string
  /** Before each key in that Redis. */
  readonly prefix: string
}

/** What the app tells. */
export type Told =
  | { readonly told: 'address'; readonly origin: string }
  | { readonly told: 'ready' }
  | { readonly told: 'mail'; readonly to: string; readonly text: string }
  | ({ readonly told: 'measured' } & Measured)

/** Since it was asked last: lateness of its timers in milliseconds; and its memory in MB. */
export interface Measured {
  readonly late: readonly number[]
  readonly rss: number
}

const tell = (told: Told) => process.send!(told)
const app = express()
// The clients name themselves, as if by a proxy: the limits count each of them, as they do in production.
app.set('trust proxy', 'loopback')
const server = createServer(app).listen(0, '127.0.0.1')
// Sockets that the clients keep must not be closed under them.
server.keepAliveTimeout = 120_000
await once(server, 'listening')
const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

const step = 5
let late: number[] = []

async function start({ directory, workers, database, redis, prefix }: Setup) {
  const client = new Redis(redis, { keyPrefix: prefix })
  const jit = createJit({
    baseUrl,
    store: postgresStore({ pool: new Pool({ connectionString: database, max: 10 }) }),
    lock: redisLock({ client }),
    once: redisOnce({ client }),
    directory: staticDirectory(directory),
    strategies: [
      samlStrategy(workers === null ? {} : { workers }),
      oidcStrategy(),
      emailStrategy({
        from: 'no-reply@app.example',
        appName: 'Bench',
        transport: { sendMail: async ({ to, text }) => tell({ told: 'mail', to, text }) },
      }),
    ],
    log: () => {},
  })
  const instance = new passport.Passport()
  const sessions = new RedisStore({ client, ttl: 600 })
  app.use(session({ secret: 'bench', store: sessions, resave: false, saveUninitialized: false }))
  app.use(instance.session() as express.RequestHandler)
  jit.passport(instance as never)
  app.use(jit.routes(), jit.errorPage())
  await jit.ready()
  let last = performance.now()
  setInterval(() => {
    const now = performance.now()
    late.push(Math.max(0, now - last - step))
    last = now
  }, step)
  tell({ told: 'ready' })
}

process.on('message', (said: Said) => {
  if (said !== 'measure') return void start(said)
  tell({ told: 'measured', late, rss: heap().rss })
  late = []
})
process.on('disconnect', () => process.exit())
tell({ told: 'address', origin: baseUrl })
