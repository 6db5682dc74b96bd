import assert from 'node:assert/strict'
import type { Once } from 'passport-jit'
import { eventually, onFresh, type Runner } from './runner.js'

export interface OnceFixture {
  readonly once: Once
  /** The same values as another process has them; within one process, the same object. */
  another(): Promise<Once>
  close(): Promise<void>
}

const minute = 60_000

/**
 * What every `Once` promises. Declares its tests with the given runner; `factory` gives one without values.
 *
 *     onceContract({ describe, test, factory: async () => ({ once, another, close }) })
 */
export function onceContract(options: Runner & { readonly factory: () => Promise<OnceFixture> }): void {
  const check = onFresh(options, options.factory)

  options.describe('once', () => {
    check('a value is taken once', async ({ once, another }) => {
      await once.put('k', 'value', minute)
      assert.equal(await (await another()).take('k'), 'value')
      assert.equal(await once.take('k'), null)
    })

    check('a key that nobody put is null', async ({ once }) => {
      await once.put('k', 'value', minute)
      assert.equal(await once.take('K'), null)
      assert.equal(await once.take('k'), 'value')
    })

    check('a value comes back as it was put', async ({ once }) => {
      const value = JSON.stringify({ text: 'ž 漢 \u{1f511} "\' \\ \n', long: 'x'.repeat(100_000) })
      await once.put('k', value, minute)
      assert.equal(await once.take('k'), value)
    })

    check('the last put counts', async ({ once }) => {
      await once.put('k', 'first', minute)
      await once.put('k', 'second', minute)
      assert.equal(await once.take('k'), 'second')
      assert.equal(await once.take('k'), null)
    })

    check('of 50 who take at once, one has it', async ({ once, another }) => {
      const both = [once, await another()]
      await once.put('k', 'value', minute)
      const taken = await Promise.all(Array.from({ length: 50 }, (_, index) => both[index % 2]!.take('k')))
      assert.deepEqual(
        taken.filter((value) => value !== null),
        ['value'],
      )
    })

    check('of 50 who claim at once, one has it', async ({ once, another }) => {
      const both = [once, await another()]
      const claimed = await Promise.all(
        Array.from({ length: 50 }, (_, index) => both[index % 2]!.claim('k', minute)),
      )
      assert.equal(claimed.filter(Boolean).length, 1)
      assert.equal(await once.claim('another', minute), true)
    })

    check('a claim can be made again when it has expired, not before', async ({ once }) => {
      const started = performance.now()
      assert.equal(await once.claim('k', 150), true)
      await eventually(() => once.claim('k', minute))
      assert.ok(performance.now() - started >= 145, 'it expired too early')
      assert.equal(await once.claim('k', minute), false)
    })

    check('a value is gone when it has expired, not before', async ({ once }) => {
      await once.put('short', 'value', 40)
      await once.put('long', 'value', minute)
      assert.equal(await once.claim('clock', 80), true)
      await eventually(() => once.claim('clock', minute))
      assert.equal(await once.take('short'), null)
      assert.equal(await once.take('long'), 'value')
    })
  })
}
