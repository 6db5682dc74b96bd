import { relative } from 'node:path'
import { expect, vi } from 'vitest'
import { JitError } from '../../lib/errors.js'
import { begin, emitted, watchErrors, watchedOptions, watchedStore } from './emitted.js'
import './emitted-wires.js'

// Wraps what emits in a process of the tests. Nothing behaves differently for it.

const file = relative(process.cwd(), expect.getState().testPath ?? 'unknown')
begin([file, process.env.JIT_TEST_STORE].filter(Boolean).join(' on '))
watchErrors(JitError)

vi.mock('../../lib/jit.js', async (original) => {
  const real = await original<typeof import('../../lib/jit.js')>()
  return { ...real, createJit: (options: never) => real.createJit(watchedOptions(options)) }
})
vi.mock('../../stores/memory.js', async (original) => {
  const real = await original<typeof import('../../stores/memory.js')>()
  return { ...real, memoryStore: () => watchedStore(real.memoryStore()) }
})
vi.mock('../../stores/sqlite.js', async (original) => {
  const real = await original<typeof import('../../stores/sqlite.js')>()
  return { ...real, sqliteStore: (options: never) => watchedStore(real.sqliteStore(options)) }
})
vi.mock('../../stores/postgres.js', async (original) => {
  const real = await original<typeof import('../../stores/postgres.js')>()
  return { ...real, postgresStore: (options: never) => watchedStore(real.postgresStore(options)) }
})

// The log's default sink.
const { error } = console
console.error = (...args: unknown[]) => {
  if (typeof args[0] === 'string' && args[0].startsWith('{"level":')) emitted('log', args[0])
  error.apply(console, args)
}
