import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { lockContract, onceContract, storeContract } from 'passport-jit/testing'
import { describe, test } from 'vitest'

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
})
