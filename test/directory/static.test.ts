import { staticDirectory } from 'passport-jit'
import { directoryContract } from 'passport-jit/testing'
import { describe, test } from 'vitest'

directoryContract({
  describe,
  test,
  factory: async (input) => ({ directory: staticDirectory(input), close: async () => {} }),
})
