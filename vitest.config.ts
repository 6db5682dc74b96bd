import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'
import { reporter } from './test/rig/reporter.js'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Run once for each store; every other test runs once. */
const attacks = ['test/attacks/**/*.test.ts', 'test/http/{admin,prove,session}.test.ts']
/** An attack that reaches no store, and that wants the machine for itself. */
const storeless = 'test/attacks/saml-load.test.ts'

/** What is about what all others emitted. */
const emitted = 'test/emitted/**/*.test.ts'

/** A sign-in waits more than it works, so two files at once take less time, also on two cores. */
const maxWorkers = Math.max(2, availableParallelism() - 1)

const attacked = (name: string, store: string, more: object = {}): TestProjectInlineConfiguration => ({
  extends: true,
  test: {
    name,
    include: attacks,
    exclude: [storeless],
    env: { JIT_TEST_STORE: store },
    maxWorkers,
    sequence: { groupOrder: 2 },
    ...more,
  },
})

const stores = [
  attacked('memory', 'memory'),
  attacked('SQLite', 'sqlite'),
  attacked('PostgreSQL', 'postgres', {
    globalSetup: [at('./test/rig/attacked-database.ts')],
    setupFiles: [at('./test/rig/attacked-setup.ts')],
  }),
]

/** All else, and the attacks without a store. */
const once: TestProjectInlineConfiguration[] = [
  {
    extends: true,
    test: {
      name: 'once',
      include: ['test/**/*.test.ts'],
      exclude: [...attacks, emitted],
      maxWorkers,
      sequence: { groupOrder: 1 },
    },
  },
  { extends: true, test: { name: 'no store', include: [storeless] } },
]

/** Looks through what all others emitted, so it runs after them. */
const last: TestProjectInlineConfiguration = {
  extends: true,
  test: { name: 'emitted', include: [emitted], sequence: { groupOrder: 3 } },
}

export default defineConfig({
  // Tests import the package by its name, as its users do; here that name means the source.
  resolve: {
    alias: [
      { find: /^passport-jit$/, replacement: at('./lib/index.ts') },
      { find: /^passport-jit\/webhook$/, replacement: at('./lib/webhook.ts') },
      { find: /^passport-jit\/testing$/, replacement: at('./test/contract/index.ts') },
      { find: /^passport-jit\/(strategies|stores)\/(.+)$/, replacement: at('./$1/$2.ts') },
    ],
  },
  test: {
    testTimeout: 30_000,
    hookTimeout: 60_000,
    reporters: [
      'default',
      reporter([...stores.map(({ test }) => test!.name as string), 'no store'], ['once']),
    ],
    globalSetup: [at('./test/rig/emitted-run.ts')],
    setupFiles: [at('./test/rig/emitted-setup.ts')],
    projects: [...once, ...stores, last],
  },
})
