import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

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
  },
})
