import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Redis } from 'ioredis'
import { createJit, type JitResult, staticDirectory } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { Pool } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Browser, baseUrl, type Person, type Protocol, type World, world } from '../rig/fleet.js'
import { type Reader, reader } from '../rig/invariants.js'
import { needs, postgres, startRedis } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'

/** What went over the wire between two moments. */
interface Traffic {
  readonly storeRoundTrips: number
  /** The prepared statements that were run, by the verb in their names. */
  readonly statements: string[]
  readonly redisRoundTrips: number
  readonly redisCommands: string[]
}

/** Counts at two proxies; on one connection each, so that nothing overlaps. */
function meter(toStore: TcpProxy, toRedis: TcpProxy) {
  const said = { store: [] as Buffer[], redis: [] as Buffer[] }
  const hear = (proxy: TcpProxy, which: keyof typeof said) =>
    proxy.tap((direction, bytes) => direction === 'to-server' && said[which].push(bytes))
  hear(toStore, 'store')
  hear(toRedis, 'redis')
  return {
    start: () => {
      said.store = []
      said.redis = []
      toStore.resetCounters()
      toRedis.resetCounters()
    },
    read: (): Traffic => ({
      storeRoundTrips: toStore.roundTrips,
      statements: statementsIn(Buffer.concat(said.store)),
      redisRoundTrips: toRedis.roundTrips,
      redisCommands: [...String(Buffer.concat(said.redis)).matchAll(/^\*\d+\r\n\$\d+\r\n(\w+)/gm)].map(
        ([, name]) => name!,
      ),
    }),
  }
}

/**
 * What is run in a client's messages to PostgreSQL, each of which is a letter, its length, and its body
 * (manual, 55.7): a Bind names its portal and its statement, a Query is the text itself.
 */
function statementsIn(messages: Buffer): string[] {
  const found: string[] = []
  for (let at = 0; at < messages.length; ) {
    const type = String.fromCharCode(messages[at]!)
    const end = at + 1 + messages.readInt32BE(at + 1)
    const [first = '', second = ''] = messages.toString('utf8', at + 5, end).split('\0')
    if (type === 'B') found.push(/^jit_([a-z]+)_/.exec(second)?.[1] ?? second)
    if (type === 'Q') found.push(first)
    at = end
  }
  return found
}

/** Every version of every row of the kit's tables; any write, even a lock on a row, changes it. */
async function fingerprint({ select }: Reader): Promise<string[]> {
  const tables = await select<{ name: string }>(
    `select tablename as name from pg_tables where tablename like 'jit%' order by 1`,
  )
  expect(tables.length).toBeGreaterThan(5)
  const versions: string[] = []
  for (const { name } of tables) {
    const rows = await select<{ row: string }>(
      `select concat_ws(' ', '${name}', ctid, xmin, xmax, t::text) as row from ${name} t order by ctid`,
    )
    versions.push(...rows.map(({ row }) => row))
  }
  return versions
}

const database = await postgres()
const redis = await startRedis()

needs('PostgreSQL and Redis', database && redis && { database, redis }, (services) => {
  let scene: World
  let server: Server
  let app: { url: string }
  let db: Reader
  let counted: Traffic
  let outcome: JitResult['outcome'] | undefined
  const closing: (() => unknown)[] = []

  beforeAll(async () => {
    scene = await world()
    const fresh = await services.database.freshDatabase()
    const toStore = await tcpProxy({ port: Number(new URL(fresh.url).port || 5432) })
    const toRedis = await tcpProxy({ port: services.redis.port })
    const pool = new Pool({ connectionString: toStore.through(fresh.url), max: 1 })
    const client = new Redis(toRedis.through(services.redis.url))
    const jit = createJit({
      baseUrl,
      store: postgresStore({ pool }),
      lock: redisLock({ client }),
      once: redisOnce({ client }),
      directory: staticDirectory(scene.directory),
      strategies: [samlStrategy(), oidcStrategy()],
    })
    await Promise.all([jit.ready(), client.ping()])
    const wire = meter(toStore, toRedis)

    // Attempts and tickets belong to `authenticate`, sessions to the app: here is neither, between the marks.
    server = createServer((req, res) => {
      const connection = /^\/auth\/sso\/(\w+)/.exec(req.url!)![1]!
      const failed = (error: unknown) => res.writeHead(500).end(String(error))
      jit.authenticate({ connection })(req, res, (refused) => {
        if (refused) return failed(refused)
        wire.start()
        jit.provision({ session: false })(req, res, (error) => {
          counted = wire.read()
          outcome = req.jit?.outcome
          if (error) return failed(error)
          res.writeHead(303, { location: req.jit!.returnTo }).end()
        })
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    app = { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
    db = await reader({ kind: 'postgres', url: fresh.url, connections: 1 })
    closing.push(
      () => server.close(),
      () => server.closeAllConnections(),
      () => client.disconnect(),
      () => db.close(),
      () => pool.end(),
      () => toStore.close(),
      () => toRedis.close(),
      () => fresh.drop(),
      () => services.redis.close(),
      () => scene.close(),
    )
  })
  afterAll(async () => {
    for (const close of closing) await close()
  })

  /** Signs in, and tells what the provisioning of it cost. */
  const costOf = async (person: Person) => {
    const before = await fingerprint(db)
    const ending = await new Browser().signIn(app, person)
    expect(ending).toMatchObject({ status: 303, location: '/me' })
    return { outcome, traffic: counted, wrote: (await fingerprint(db)).join() !== before.join() }
  }

  test.each<Protocol>(['oidc', 'saml'])(
    'a first sign-in by %s: one read, the lock and its release, one write',
    async (protocol) => {
      expect(await costOf(scene.newcomer(protocol))).toEqual({
        outcome: 'created',
        traffic: {
          storeRoundTrips: 2,
          statements: ['load', 'commit'],
          redisRoundTrips: 2,
          redisCommands: ['set', 'eval'],
        },
        wrote: true,
      })
    },
  )

  test.each<Protocol>(['oidc', 'saml'])(
    'a returning person with nothing changed, by %s: one read, no write, no Redis',
    async (protocol) => {
      const person = scene.newcomer(protocol)
      expect(await costOf(person)).toMatchObject({ outcome: 'created', wrote: true })
      expect(await costOf(person)).toEqual({
        outcome: 'unchanged',
        traffic: { storeRoundTrips: 1, statements: ['load'], redisRoundTrips: 0, redisCommands: [] },
        wrote: false,
      })
    },
  )
})
