import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import type { Reporter, TestModule } from 'vitest/node'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** One plain closing line, for people and programs that read the log. */
const tally: Reporter = {
  onTestRunEnd(modules: readonly TestModule[], errors) {
    const count = { passed: 0, failed: errors.length, skipped: 0, pending: 0 }
    for (const module of modules) {
      for (const test of module.children.allTests()) count[test.result().state] += 1
      if (module.state() === 'failed' && module.errors().length > 0) count.failed += 1
    }
    console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped + count.pending} skipped`)
  },
}

export default defineConfig({
  // Tests import the package by its name, as its users do; here that name means the source.
  resolve: {
    alias: [
      { find: /^passport-jit$/, replacement: at('./lib/index.ts') },
      { find: /^passport-jit\/testing$/, replacement: at('./test/contract/index.ts') },
      { find: /^passport-jit\/(strategies|stores)\/(.+)$/, replacement: at('./$1/$2.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default', tally],
  },
})
