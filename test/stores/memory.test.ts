import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { lockContract, onceContract, storeContract } from 'passport-jit/testing'
import { describe, expect, test } from 'vitest'

describe('memory', () => {
  storeContract({
    describe,
    test,
    factory: async () => {
      const store = memoryStore()
      return { store, another: async () => store, close: async () => {} }
    },
  })
  lockContract({
    describe,
    test,
    factory: async () => {
      const lock = memoryLock()
      return { lock, another: async () => lock, close: async () => {} }
    },
  })
  onceContract({
    describe,
    test,
    factory: async () => {
      const once = memoryOnce()
      return { once, another: async () => once, close: async () => {} }
    },
  })

  test('S29 a one-time value that has ended leaves the memory: a clock set back brings it to nobody', async () => {
    let now = 0
    const once = memoryOnce(() => now)
    await once.put('ended', 'value', 1_000)
    await once.claim('ended claim', 1_000)
    await once.put('lasting', 'value', 10_000)
    now = 6_000
    await once.put('another', 'value', 1_000)
    now = 500
    expect(await once.take('ended')).toBe(null)
    expect(await once.claim('ended claim', 1_000)).toBe(true)
    expect(await once.take('lasting')).toBe('value')
  })
})
