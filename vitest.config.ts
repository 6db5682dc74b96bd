import { fileURLToPath } from 'node:url'
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'
import { reporter } from './test/rig/reporter.js'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Run once for each store; every other test runs once. */
const attacks = ['test/attacks/**/*.test.ts', 'test/http/{admin,prove,session}.test.ts']
/** Keeps both cores busy with what never reaches a store, so it runs on the first alone. */
const storeless = 'test/attacks/saml-load.test.ts'

const attacked = (name: string, store: string, more: object = {}): TestProjectInlineConfiguration => ({
  extends: true,
  test: { name, include: attacks, env: { JIT_TEST_STORE: store }, ...more },
})

const stores = [
  attacked('memory', 'memory'),
  attacked('SQLite', 'sqlite', { exclude: [storeless] }),
  attacked('PostgreSQL', 'postgres', {
    exclude: [storeless],
    globalSetup: at('./test/rig/attacked-database.ts'),
    setupFiles: at('./test/rig/attacked-setup.ts'),
  }),
]

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
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: ['default', reporter(stores.map(({ test }) => test!.name as string))],
    projects: [
      ...stores,
      { extends: true, test: { name: 'once', include: ['test/**/*.test.ts'], exclude: attacks } },
    ],
  },
})
