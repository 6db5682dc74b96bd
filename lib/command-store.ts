import { existsSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { JitError } from './errors.js'
import type { Store } from './store.js'

/** What `storeOptions` adds to a command. */
export interface StoreChoice {
  readonly store?: string
  readonly schema: string
}

/** Adds the options that choose the store a command works on. */
export function storeOptions(command: Command): Command {
  return command
    .addOption(new Option('--store <address>', 'postgres://… or sqlite:FILE').env('DATABASE_URL'))
    .option('--schema <name>', 'the schema of the tables in PostgreSQL', 'public')
}

/**
 * Opens the chosen store, which must be there and is not migrated, and closes it when the work is done.
 * @throws JitError `config_invalid` where none is chosen, or what is chosen is none
 */
export async function withStore<T>(
  { store: address = '', schema }: StoreChoice,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  if (/^postgres(ql)?:/.test(address)) {
    const [{ Pool }, { postgresStore }] = await needed(
      address,
      Promise.all([import('pg').then((pg) => pg.default), import('passport-jit/stores/postgres')]),
    )
    const pool = new Pool({ connectionString: address, max: 4, connectionTimeoutMillis: 5_000 })
    // A connection that breaks while it is idle shows in the next statement.
    pool.on('error', () => {})
    try {
      return await work(postgresStore({ pool, schema }))
    } finally {
      await pool.end()
    }
  }
  if (address.startsWith('sqlite:')) {
    const file = address.slice('sqlite:'.length)
    if (!existsSync(file)) throw new JitError('config_invalid', `--store: there is no file ${file}`)
    const { sqliteStore } = await needed(address, import('passport-jit/stores/sqlite'))
    const store = sqliteStore({ file })
    try {
      return await work(store)
    } finally {
      store.close()
    }
  }
  // The address may hold a password, so it is not repeated.
  const kinds = 'postgres://… or sqlite:FILE'
  throw new JitError(
    'config_invalid',
    `--store (or DATABASE_URL) ${address ? 'must be' : 'is needed'}: ${kinds}`,
  )
}

async function needed<T>(address: string, module: Promise<T>): Promise<T> {
  try {
    return await module
  } catch (cause) {
    const driver = address.startsWith('sqlite:') ? 'libsql' : 'pg'
    throw new JitError(
      'config_invalid',
      `--store: the package "${driver}" is needed; npm install ${driver}`,
      { cause },
    )
  }
}

/** Runs a command; what goes wrong is a sentence on standard error and exit code 1, without a stack trace. */
export async function orSay(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    process.exitCode = 1
    console.error(`✗ ${error instanceof Error ? sentence(error) : String(error)}`)
  }
}

/** What PostgreSQL says of a table, a function or a schema that is missing, and SQLite of a table. */
const untouched = /^(?:(?:relation|function|schema) .* does not exist|no such table\b.*)$/

/** A failed connection to several addresses has its words in its parts. */
function sentence(error: Error): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if (untouched.test(at.message)) {
      return `--store: ${at.message}; the app makes its tables when it starts (jit.ready()), and --schema names where they are`
    }
  }
  if (error instanceof AggregateError && error.message === '') {
    return error.errors
      .map((part: unknown) => (part instanceof Error ? part.message : String(part)))
      .join('; ')
  }
  return error.message
}
