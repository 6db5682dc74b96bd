import { randomUUID } from 'node:crypto'
import { Redis, type RedisOptions } from 'ioredis'
import { redisLock, redisOnce } from 'passport-jit/stores/redis'
import { lockContract, onceContract } from 'passport-jit/testing'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { needs, type PrivateServer, redis, startRedis } from '../rig/services.js'
import { tcpProxy } from '../rig/tcp-proxy.js'

const clients: Redis[] = []
type Options = Omit<RedisOptions, 'replyMapping'>
const open = (url: string, options: Options = {}) => {
  const client = new Redis(url, options)
  client.on('error', () => {})
  clients.push(client)
  return client
}
/** A client that is connected, so that no command waits for that. */
const connected = async (url: string, options: Options = {}) => {
  const client = open(url, options)
  await expect.poll(() => client.status, { timeout: 10_000 }).toBe('ready')
  return client
}
const closeAll = async () => {
  for (const client of clients.splice(0)) client.disconnect()
}
const patient = { ttl: 5_000, wait: 2_000 }

/** Runs the work, and how long it took in milliseconds. */
async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const started = performance.now()
  const value = await work()
  return [value, performance.now() - started]
}

test('a client of another library is refused: it would keep no key for a time, and hold no lock for one', () => {
  const other = { set: async () => 'OK', getDel: async () => null, eval: async () => null } as never
  for (const make of [redisLock, redisOnce])
    for (const client of [other, undefined as never])
      expect(() => make({ client })).toThrow(/^redis(Lock|Once)\(\{ client \}\).*ioredis$/)
})

needs('Redis', await redis(), ({ url }) => {
  const fresh = () => {
    const prefix = `jit-test:${randomUUID()}:`
    const close = async () => {
      const client = open(url)
      const keys = await client.keys(`${prefix}*`)
      if (keys.length > 0) await client.del(keys)
      await closeAll()
    }
    return { prefix, close }
  }

  lockContract({
    describe,
    test,
    factory: async () => {
      const { prefix, close } = fresh()
      const instance = async () => redisLock({ client: await connected(url), prefix })
      return { lock: await instance(), another: instance, close }
    },
  })

  onceContract({
    describe,
    test,
    factory: async () => {
      const { prefix, close } = fresh()
      const instance = async () => redisOnce({ client: await connected(url), prefix })
      return { once: await instance(), another: instance, close }
    },
  })
})

const installed = await startRedis()
await installed?.close()

needs('redis-server', installed, () => {
  let server: PrivateServer
  beforeAll(async () => {
    server = (await startRedis())!
  })
  afterEach(closeAll)
  afterAll(() => server.close())

  /** Ways to lose a server, and to get it back. */
  const losses = {
    hung: { lose: () => server.stop('SIGSTOP'), find: async () => server.cont() },
    killed: { lose: () => server.stop('SIGKILL'), find: () => server.restart() },
  }
  /** Clients as apps set them up, from the most patient to one that gives up at once. */
  const kinds: Record<string, Options> = {
    'by default': {},
    'that queues for ever': { maxRetriesPerRequest: null, retryStrategy: () => 50 },
    'without a queue': { enableOfflineQueue: false },
    'that gives up': { maxRetriesPerRequest: 0, retryStrategy: () => 50 },
  }

  describe.each(Object.entries(losses))('[P16] a server that is %s', (_, { lose, find }) => {
    test.each(Object.entries(kinds))('with a client %s', async (_, options) => {
      const client = await connected(server.url, options)
      const lock = redisLock({ client })
      const once = redisOnce({ client })
      await once.put('before', 'value', 60_000)
      const held = await lock.acquire('held', { ttl: 500, wait: 0 })
      expect(held?.waited).toBe(false)

      await lose()
      const [lease, first] = await timed(() => lock.acquire('k', patient))
      expect(lease).toBe(null)
      expect(first).toBeLessThan(1_000)
      // The breaker is open: a hundred more cost nothing like a hundred timeouts.
      const [leases, hundred] = await timed(async () => {
        const all: unknown[] = []
        for (let n = 0; n < 100; n++) all.push(await lock.acquire(`k${n}`, patient))
        return all
      })
      expect(new Set(leases)).toEqual(new Set([null]))
      expect(hundred).toBeLessThan(1_000)
      const [, releasing] = await timed(() => held!.release())
      expect(releasing).toBeLessThan(1_000)

      for (const call of [
        () => once.take('before'),
        () => once.put('k', 'v', 1_000),
        () => once.claim('k', 1_000),
      ]) {
        const [refusal, elapsed] = await timed(() => call().then(String, (error: unknown) => error))
        expect(refusal).toMatchObject({ name: 'JitError', code: 'unavailable', status: 503 })
        expect(elapsed).toBeLessThan(1_000)
      }

      await find()
      await expect
        .poll(() => once.claim(randomUUID(), 1_000).catch(() => false), { timeout: 15_000 })
        .toBe(true)
      await expect
        .poll(() => lock.acquire(`again ${randomUUID()}`, patient), { timeout: 15_000 })
        .not.toBe(null)
    })
  })

  test('a server that answers too slowly counts as lost, and what it did late holds nothing', async () => {
    const proxy = await tcpProxy({ port: server.port })
    const client = await connected(proxy.through(server.url))
    const lock = redisLock({ client })
    const once = redisOnce({ client })
    const direct = redisLock({ client: await connected(server.url) })
    await (await lock.acquire('slow', patient))!.release()

    proxy.delay({ toServer: 200, toClient: 200 })
    const [lease, elapsed] = await timed(() => lock.acquire('slow', patient))
    expect(lease).toBe(null)
    expect(elapsed).toBeGreaterThan(140)
    await expect(once.take('x')).rejects.toMatchObject({ code: 'unavailable' })
    proxy.delay({})
    const next = await direct.acquire('slow', { ttl: 5_000, wait: 4_000 })
    expect(next).not.toBe(null)
    await next!.release()
    await closeAll()
    await proxy.close()
  })

  test('a server that answers slowly, but in time, serves', async () => {
    const proxy = await tcpProxy({ port: server.port })
    const client = await connected(proxy.through(server.url))
    proxy.delay({ toServer: 20, toClient: 20 })
    const once = redisOnce({ client })
    await once.put('k', 'value', 5_000)
    expect(await once.take('k')).toBe('value')
    const lease = await redisLock({ client }).acquire('k', patient)
    expect(lease?.waited).toBe(false)
    await lease!.release()
    await closeAll()
    await proxy.close()
  })

  test('a server that refuses a command answers for itself: the next one is asked', async () => {
    const client = await connected(server.url)
    const lock = redisLock({ client })
    const once = redisOnce({ client })
    await client.lpush('jit:once:list', 'of another type')
    await expect(once.take('list')).rejects.toMatchObject({ code: 'unavailable', message: /WRONGTYPE/ })
    await once.put('k', 'value', 5_000)
    expect(await once.take('k')).toBe('value')
    expect(await lock.acquire('typed', { ttl: 1_000, wait: 0 })).not.toBe(null)
  })

  test('FLUSHALL while a lock is held loses the lock, and its release frees nobody else', async () => {
    const client = await connected(server.url)
    const lock = redisLock({ client })
    const first = (await lock.acquire('flushed', patient))!
    await client.flushall()
    const second = (await lock.acquire('flushed', patient))!
    expect(second.waited).toBe(false)
    await first.release()
    expect(await lock.acquire('flushed', { ttl: 1_000, wait: 0 })).toBe(null)
    await second.release()
  })

  test('counts: one command for the lock, one for its release', async () => {
    const proxy = await tcpProxy({ port: server.port })
    const client = await connected(proxy.through(server.url))
    const lock = redisLock({ client })
    proxy.resetCounters()
    const lease = (await lock.acquire('counted', patient))!
    expect(proxy.roundTrips).toBe(1)
    await lease.release()
    expect(proxy.roundTrips).toBe(2)
    await closeAll()
    await proxy.close()
  })
})
