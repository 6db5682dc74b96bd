import assert from 'node:assert/strict'
import type { Lease, Lock } from 'passport-jit'
import { onFresh, type Runner } from './runner.js'

export interface LockFixture {
  readonly lock: Lock
  /** The lock as another process has it; for a lock within one process, the same. */
  another(): Promise<Lock>
  close(): Promise<void>
}

const patient = { ttl: 10_000, wait: 10_000 }
const impatient = { ttl: 10_000, wait: 30 }

const held = (lease: Lease | null): Lease => {
  assert.ok(lease, 'the lock was not to be had')
  return lease
}

/**
 * What every `Lock` promises. Declares its tests with the given runner; `factory` gives a lock on which no key
 * is held.
 *
 *     lockContract({ describe, test, factory: async () => ({ lock, another, close }) })
 */
export function lockContract(options: Runner & { readonly factory: () => Promise<LockFixture> }): void {
  const check = onFresh(options, options.factory)

  options.describe('lock', () => {
    check('a free key is had at once', async ({ lock }) => {
      const lease = held(await lock.acquire('k', impatient))
      assert.equal(lease.waited, false)
      await lease.release()
    })

    check('a key that was freed is had at once', async ({ lock }) => {
      await held(await lock.acquire('k', impatient)).release()
      const lease = held(await lock.acquire('k', impatient))
      assert.equal(lease.waited, false)
      await lease.release()
    })

    check('keys do not hinder each other', async ({ lock }) => {
      const one = held(await lock.acquire('one', impatient))
      const other = held(await lock.acquire('other', impatient))
      assert.equal(other.waited, false)
      await one.release()
      await other.release()
    })

    check('who had to wait is told so', async ({ lock, another }) => {
      const first = held(await lock.acquire('k', patient))
      const other = await another()
      const second = other.acquire('k', patient)
      // Asked after it and answered, so the one before was answered too.
      assert.equal(await other.acquire('k', impatient), null)
      await first.release()
      const lease = held(await second)
      assert.equal(lease.waited, true)
      await lease.release()
    })

    check('waiting ends with null, and the holder keeps it', async ({ lock, another }) => {
      const lease = held(await lock.acquire('k', patient))
      const other = await another()
      const started = performance.now()
      assert.equal(await other.acquire('k', { ttl: 10_000, wait: 60 }), null)
      assert.ok(performance.now() - started >= 55, 'it gave up too early')
      assert.equal(await other.acquire('k', { ttl: 10_000, wait: 0 }), null)
      await lease.release()
      await held(await other.acquire('k', impatient)).release()
    })

    check('of 20 at once each has it alone', async ({ lock, another }) => {
      const locks = [lock, await another()]
      let inside = 0
      const most = await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const lease = held(await locks[index % 2]!.acquire('k', { ttl: 20_000, wait: 20_000 }))
          inside++
          const seen = inside
          await new Promise((resolve) => setImmediate(resolve))
          inside--
          await lease.release()
          return seen
        }),
      )
      assert.deepEqual(new Set(most), new Set([1]))
    })

    check('a holder that never comes back loses it when its time is over', async ({ lock, another }) => {
      const other = await another()
      held(await lock.acquire('k', { ttl: 300, wait: 0 }))
      const lease = held(await other.acquire('k', patient))
      assert.equal(lease.waited, true)
      await lease.release()
    })

    check('[P15] a holder whose time is over does not free the next one', async ({ lock, another }) => {
      const late = held(await lock.acquire('k', { ttl: 60, wait: 0 }))
      const other = await another()
      const next = held(await other.acquire('k', patient))
      await late.release()
      assert.equal(await lock.acquire('k', impatient), null)
      await next.release()
      await held(await lock.acquire('k', impatient)).release()
    })

    check('freeing twice is harmless', async ({ lock, another }) => {
      const first = held(await lock.acquire('k', patient))
      await first.release()
      const other = await another()
      const next = held(await other.acquire('k', impatient))
      await first.release()
      assert.equal(await lock.acquire('k', impatient), null)
      await next.release()
    })
  })
}
