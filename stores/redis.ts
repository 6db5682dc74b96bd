import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { JitError, type Lock, type Once } from '../lib/index.js'
import { type Breaker, BreakerOpen, breaker } from './redis-breaker.js'

export interface RedisOptions {
  /**
   * The app's own client, which it also ends; Redis 6.2 or later. Give it an `error` listener: without one
   * ioredis prints every failed reconnection to standard error. Its time limits and its offline queue do not
   * matter here: a command that has no answer after 150 ms counts as failed.
   */
  readonly client: Redis | Cluster
  /** Put before every key; `jit:` by default. */
  readonly prefix?: string
}

/**
 * A lock across processes. Without Redis every `acquire` answers null, and most of them at once.
 * The key expires with its `ttl` whatever happens to its holder, and only its holder can free it before.
 * @throws JitError `config_invalid` for a client that is not ioredis's
 */
export function redisLock(options: RedisOptions): Lock {
  const { client, prefix } = checked('redisLock', options)
  const run = redisBreaker()
  const free = (key: string, token: string) => () => client.eval(compareAndDelete, 1, key, token)

  return {
    acquire: async (name, { ttl, wait }) => {
      const key = `${prefix}lock:${name}`
      const token = randomUUID()
      const until = performance.now() + wait
      // One that arrives after we gave up would hold the lock for nobody. The breaker is open by then.
      const late = (answer: unknown) => {
        if (answer === 'OK') free(key, token)().catch(() => {})
      }
      const set = () => client.set(key, token, 'PX', Math.ceil(ttl), 'NX')
      for (let waited = false; ; waited = true) {
        const answer = await run(set, late).catch(() => 'unavailable' as const)
        if (answer === 'unavailable') return null
        if (answer === 'OK') {
          return {
            waited,
            release: async () => {
              await run(free(key, token)).catch(() => {})
            },
          }
        }
        const left = until - performance.now()
        if (left <= 0) return null
        await sleep(Math.min(left, 15 + Math.random() * 35))
      }
    },
  }
}

/**
 * One-time values across processes. Fails closed.
 * @throws JitError `config_invalid` for a client that is not ioredis's; `unavailable`, by every method, where Redis does
 *   not answer within 150 ms.
 */
export function redisOnce(options: RedisOptions): Once {
  const { client, prefix } = checked('redisOnce', options)
  const run = redisBreaker()
  const at = (name: string) => `${prefix}once:${name}`
  const ask = <T>(command: () => Promise<T>): Promise<T> =>
    run(command).catch((cause: unknown) => {
      const detail = cause instanceof Error ? cause.message : String(cause)
      throw new JitError('unavailable', `Redis cannot be asked for a one-time value: ${detail}`, { cause })
    })

  return {
    put: async (name, value, ttl) => {
      await ask(() => client.set(at(name), value, 'PX', Math.ceil(ttl)))
    },
    take: (name) => ask(() => client.getdel(at(name))),
    claim: async (name, ttl) => {
      return (await ask(() => client.set(at(name), '', 'PX', Math.ceil(ttl), 'NX'))) === 'OK'
    },
  }
}

/** Another client would leave out what stands behind a value: how long a key lives, and that it may not be there yet. */
function checked(name: string, { client, prefix = 'jit:' }: RedisOptions): Required<RedisOptions> {
  const missing = (['set', 'getdel', 'eval'] as const).some(
    (method) => typeof client?.[method] !== 'function',
  )
  if (missing) throw new JitError('config_invalid', `${name}({ client }): it must be a client of ioredis`)
  return { client, prefix }
}

const compareAndDelete = `if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end`

const redisBreaker = (): Breaker =>
  breaker({
    timeout: 150,
    rest: 1_000,
    isFailure: (error) => !(error instanceof BreakerOpen) && (error as Error)?.name !== 'ReplyError',
  })
