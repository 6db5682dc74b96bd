import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { eventually } from '../contract/runner.js'
import type { AppOptions } from '../rig/app.js'
import { type App, Browser, baseUrl, type Protocol, startApp, type World, world } from '../rig/fleet.js'
import { exactlyOne, type Reader, reader, rowsOf, violations } from '../rig/invariants.js'
import { pausedSignIn } from '../rig/paused-sign-in.js'
import { needs, type PrivateServer, postgres, startRedis } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

/** A primary and its replica, which takes its place. */
interface Pair {
  readonly primary: PrivateServer
  readonly replica: PrivateServer
  /** What the replica is told from now on is lost. */
  cut(): void
  /** Resolves when the replica knows what the primary knows. */
  caughtUp(): Promise<void>
  /** The primary dies, and the replica takes its place. */
  promote(): Promise<void>
  close(): Promise<void>
}

async function pair(): Promise<Pair> {
  const primary = (await startRedis('--repl-diskless-sync-delay', '0'))!
  const link = await tcpProxy({ port: primary.port })
  const replica = (await startRedis('--replicaof', '127.0.0.1', String(link.port)))!
  const [ofPrimary, ofReplica] = [primary, replica].map(({ url }) =>
    new Redis(url, { retryStrategy: () => null }).on('error', () => {}),
  ) as [Redis, Redis]
  const said = async (client: Redis, what: string) =>
    new RegExp(`^${what}:(.*)\r$`, 'm').exec(await client.info('replication'))?.[1]
  const cut = () => {
    link.refuse(true)
    link.reset()
  }
  const caughtUp = async () => {
    await eventually(async () => (await said(ofReplica, 'master_link_status')) === 'up', 30_000)
    const offset = Number(await said(ofPrimary, 'master_repl_offset'))
    await eventually(async () => Number(await said(ofReplica, 'slave_repl_offset')) >= offset, 30_000)
  }
  await caughtUp()
  return {
    primary,
    replica,
    cut,
    caughtUp,
    promote: async () => {
      cut()
      await primary.stop('SIGKILL')
      await ofReplica.replicaof('NO', 'ONE')
    },
    close: async () => {
      for (const client of [ofPrimary, ofReplica]) client.disconnect()
      await link.close()
      await Promise.all([primary.close(), replica.close()])
    },
  }
}

const database = await postgres()
const installed = await startRedis()
await installed?.close()

needs('Two processes with PostgreSQL and a Redis that has a replica', installed && database, (found) => {
  let scene: World
  let drop: () => Promise<void>
  let redis: Pair
  let proxy: TcpProxy
  /** Where the proxy leads, at each connection. */
  const target = { port: 0 }
  let apps: readonly [App, App]
  let db: Reader

  const lead = async (server: PrivateServer) => {
    target.port = server.port
    proxy.reset()
  }
  const serving = async () => {
    for (const app of apps) {
      await eventually(async () => (await new Browser().go(app, '/auth/sso/acme')).status === 302, 30_000)
    }
  }
  const failover = async () => {
    await redis.promote()
    await lead(redis.replica)
    await serving()
  }

  beforeAll(async () => {
    scene = await world()
    const fresh = await found.freshDatabase()
    drop = fresh.drop
    redis = await pair()
    target.port = redis.primary.port
    proxy = await tcpProxy(target)
    const store = { kind: 'postgres', url: fresh.url, connections: 5 } as const
    const through = proxy.through(redis.primary.url)
    const options: AppOptions = { baseUrl, directory: scene.directory, store, redis: through }
    apps = await Promise.all([startApp(options), startApp(options)])
    db = await reader(store)
    for (const app of apps) {
      for (const protocol of protocols) await new Browser().signIn(app, scene.newcomer(protocol))
    }
    await redis.close()
  })
  beforeEach(async () => {
    redis = await pair()
    await lead(redis.primary)
    await serving()
  })
  afterEach(async () => {
    expect(await violations(db)).toEqual([])
    await redis.close()
  })
  afterAll(async () => {
    await db.close()
    await Promise.all(apps.map((app) => app.close()))
    await proxy.close()
    await drop()
    await scene.close()
  })

  const protocols: readonly Protocol[] = ['oidc', 'saml']

  /** A newcomer whose identity provider has answered, and the browser. */
  const arrived = async (protocol: Protocol) => {
    const [person, browser] = [scene.newcomer(protocol), new Browser()]
    return { person, browser, answer: await browser.arrive(apps[0], person) }
  }
  const signedIn = { status: 303, location: '/me' }

  test.each(protocols)(
    'P16: a start by %s that a failover loses is begun again; one that it keeps ends',
    async (protocol) => {
      const kept = await arrived(protocol)
      await redis.caughtUp()
      redis.cut()
      const lost = await arrived(protocol)
      await failover()
      expect(await kept.answer(apps[1])).toMatchObject(signedIn)
      const ending = await lost.answer(apps[1])
      expect([ending.status, JSON.parse(ending.body).error]).toEqual([400, 'attempt_unknown'])
      expect((await rowsOf(db, lost.person.email)).users).toBe(0)
      expect(await lost.browser.signIn(apps[1], lost.person)).toMatchObject(signedIn)
      for (const { person } of [kept, lost]) expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
    },
  )

  test.each([
    { protocol: 'oidc', again: { status: 403, error: 'idp_refused' } },
    { protocol: 'saml', again: null },
  ] as const)(
    'P16: an answer by $protocol whose use a failover forgets is good in no other browser',
    async ({ protocol, again }) => {
      const [remembered, foreign, own] = [
        await arrived(protocol),
        await arrived(protocol),
        await arrived(protocol),
      ]
      const copies = [remembered, own].map(({ browser }) => new Browser(browser))
      expect(await remembered.answer(apps[1])).toMatchObject(signedIn)
      await redis.caughtUp()
      redis.cut()
      for (const { answer } of [foreign, own]) expect(await answer(apps[1])).toMatchObject(signedIn)
      await failover()

      const refused = async (answer: typeof own.answer, by: Browser) => {
        const { status, body } = await answer(apps[1], by)
        expect(await by.me(apps[0])).toBe(null)
        return { status, error: JSON.parse(body).error }
      }
      // The attempt is there again, so what stops this is the cookie.
      expect(await refused(foreign.answer, new Browser())).toEqual({ status: 403, error: 'attempt_foreign' })
      expect(await refused(remembered.answer, copies[0]!)).toEqual({ status: 400, error: 'attempt_unknown' })
      // Of OpenID Connect the identity provider knows that its code was used; SAML has nobody else to know it.
      if (again) expect(await refused(own.answer, copies[1]!)).toEqual(again)
      else expect(await own.answer(apps[1], copies[1]!)).toMatchObject(signedIn)
      for (const { person } of [remembered, foreign, own]) {
        expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
      }
    },
  )

  test.each(protocols)(
    'P16: a lock that a failover loses is taken by another, and both are signed in by %s',
    async (protocol) => {
      const person = scene.newcomer(protocol)
      redis.cut()
      const { browser, wake } = await pausedSignIn(apps[0], person, {
        step: 'store.commit',
        moment: 'before',
      })
      await redis.promote()
      await lead(redis.replica)
      const second = new Browser()
      await expect
        .poll(() => second.signIn(apps[1], person).catch(() => null), { timeout: 30_000 })
        .toMatchObject(signedIn)
      const { status } = await wake()
      // Its first command may meet the connection that is gone.
      expect([303, 503]).toContain(status)
      await serving()
      if (status === 303) expect(await browser.me(apps[1])).toEqual(await second.me(apps[1]))
      expect(await browser.signIn(apps[0], person)).toMatchObject(signedIn)
      expect(await browser.me(apps[1])).toEqual(await second.me(apps[0]))
      expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
    },
  )

  test('P16: a session that a failover loses is nobody, one that it keeps is who it was', async () => {
    const kept = await arrived('oidc')
    await kept.answer(apps[0])
    const before = await kept.browser.me(apps[1])
    expect(before).not.toBe(null)
    await redis.caughtUp()
    redis.cut()
    const lost = await arrived('oidc')
    expect(await lost.answer(apps[0])).toMatchObject(signedIn)
    await failover()
    expect(await kept.browser.me(apps[1])).toEqual(before)
    expect(await lost.browser.me(apps[1])).toBe(null)
    expect(await lost.browser.signIn(apps[1], lost.person)).toMatchObject(signedIn)
  })
})
