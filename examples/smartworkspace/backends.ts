import { createHash, randomBytes } from 'node:crypto'
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { RedisStore } from 'connect-redis'
import type { Store as SessionStore } from 'express-session'
import { Redis } from 'ioredis'
import type { Lock, Once, Store } from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { Pool } from 'pg'

type Log = (line: string) => void

/** A database, and how to let go of it. */
export interface Database {
  readonly store: Store
  /** For the banner. */
  readonly label: string
  readonly close: () => Promise<void>
}

/** PostgreSQL where it is given; else a SQLite file, which stays where a configuration file is given. */
export function openDatabase(
  wanted: { readonly url: string | undefined; readonly config: string | undefined; readonly script: boolean },
  log: Log,
): Database {
  if (wanted.url) return postgresDatabase(wanted.url, wanted.script, log)
  return wanted.config === undefined ? freshDatabase() : lastingDatabase(wanted.config)
}

/**
 * PostgreSQL. Every wait has an end, so that a database that hangs becomes an answer and not a queue. The
 * stories get a schema of their own, because they begin with nobody.
 */
function postgresDatabase(connectionString: string, script: boolean, log: Log): Database {
  const pool = new Pool({
    connectionString,
    max: 30,
    connectionTimeoutMillis: 4000,
    query_timeout: 4000,
    application_name: 'smartworkspace',
  })
  // A connection that breaks while nobody uses it is no reason to stop.
  pool.on('error', (error) => log(`PostgreSQL: ${error.message}`))
  const schema = script ? `smartworkspace_${randomBytes(6).toString('hex')}` : 'public'
  return {
    store: postgresStore({ pool, schema }),
    label: `PostgreSQL at ${place(connectionString)}`,
    close: async () => {
      if (script) await pool.query(`drop schema if exists ${schema} cascade`)
      await pool.end()
    },
  }
}

/** A SQLite file that is new and goes away with the demo. */
function freshDatabase(): Database {
  const folder = mkdtempSync(join(tmpdir(), 'smartworkspace-'))
  const store = sqliteStore({ file: join(folder, 'demo.sqlite') })
  return {
    store,
    label: 'a SQLite file, new at each start',
    close: async () => {
      store.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A SQLite file that stays, one for each configuration file. */
function lastingDatabase(configFile: string): Database {
  const name = basename(configFile).replace(/\.json$/, '')
  const mark = createHash('sha256').update(resolve(configFile)).digest('hex').slice(0, 8)
  mkdirSync('.demo', { recursive: true })
  const file = join('.demo', `${name}-${mark}.sqlite`)
  const store = sqliteStore({ file })
  return { store, label: `SQLite in ${file}, kept for the next start`, close: async () => store.close() }
}

/** What several processes share: lock, one-time values and sessions. */
export interface Shared {
  readonly lock: Lock
  readonly once: Once
  readonly sessions: SessionStore | undefined
  readonly label: string
  readonly close: () => Promise<void>
}

/** Redis where it is given, else this process. */
export async function openShared(url: string | undefined, log: Log): Promise<Shared> {
  return url ? redisShared(url, log) : inProcess()
}

/** For one process: all of it is gone when the process ends. */
function inProcess(): Shared {
  return {
    lock: memoryLock(),
    once: memoryOnce(),
    sessions: undefined,
    label: 'in this process, gone when it ends (REDIS_URL keeps them in Redis)',
    close: async () => {},
  }
}

/** Redis. Commands fail at once while it is away, and within a second where it hangs. */
async function redisShared(url: string, log: Log): Promise<Shared> {
  const client = new Redis(url, {
    lazyConnect: true,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    connectTimeout: 1000,
    commandTimeout: 1000,
    retryStrategy: (times) => Math.min(100 * times, 1000),
  })
  let away = false
  client.on('error', (error) => {
    if (!away)
      log(`Redis is away, so sign-ins answer 503 until it is back (${error.message || 'no connection'})`)
    away = true
  })
  client.on('ready', () => {
    if (away) log('Redis is back')
    away = false
  })
  await client.connect().catch(() => {})
  return {
    lock: redisLock({ client }),
    once: redisOnce({ client }),
    sessions: new RedisStore({ client, prefix: 'smartworkspace:session:' }),
    label: `Redis at ${place(url)}`,
    close: async () => client.disconnect(),
  }
}

/** Host and database of a connection URL, without the password. */
function place(url: string): string {
  try {
    const { host, pathname } = new URL(url)
    return `${host}${pathname}`
  } catch {
    return 'the given address'
  }
}

/**
 * What signs the session cookies: `SESSION_SECRET`, or a random one. Where sessions outlive the process it is
 * kept in `.demo`, so that several processes on one machine, and the next start, know each other's.
 */
export function sessionSecret(env: NodeJS.ProcessEnv): string {
  if (env.SESSION_SECRET) return env.SESSION_SECRET
  const secret = randomBytes(32).toString('base64url')
  if (!env.REDIS_URL) return secret
  const file = join('.demo', 'session-secret')
  const draft = `${file}-${process.pid}`
  mkdirSync('.demo', { recursive: true })
  writeFileSync(draft, secret, { mode: 0o600 })
  try {
    // Of processes that start at once one makes the file, and it is never seen half written.
    linkSync(draft, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(draft)
  }
  return readFileSync(file, 'utf8')
}
