import { createHash } from 'node:crypto'
import type { Pool, PoolClient } from 'pg'
import type { Page } from '../lib/index.js'

export interface Statement {
  /** Prepared once for each connection. */
  readonly name?: string
  readonly text: string
}

/** Named after its text, so that two stores or two releases on one pool never share a name. */
export function statement(verb: string, text: string): Statement {
  return { name: `jit_${verb}_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`, text }
}

/** For background work and lists: planned each time for its values, so that a small limit is seen to be one. */
export const planned = (text: string): Statement => ({ text })

/** One row of one column of JSON text, parsed here, whatever type parsers the app has set. */
export function asker(pool: Pool) {
  return async <T>(asked: Statement, values: unknown[]): Promise<T> => {
    const { rows } = await pool.query<{ json: string | null }>({ ...asked, values })
    return JSON.parse(rows[0]?.json ?? 'null') as T
  }
}

export type Ask = ReturnType<typeof asker>

/** One page: one row more is read than it holds, to know whether another follows. */
export async function paged<T>(
  { limit = 100 }: Page,
  read: (limit: number) => Promise<readonly T[]>,
  cursor: (last: T) => string,
): Promise<{ readonly rows: readonly T[]; readonly next: string | null }> {
  const size = Math.min(limit, 1000)
  const found = await read(size + 1)
  const rows = found.slice(0, size)
  return { rows, next: found.length > size ? cursor(rows.at(-1)!) : null }
}

/**
 * A connection of the pool for one piece of work. Where the work throws, its connection is closed, which ends
 * an open transaction; `pool.query` would close it after every conflict as well.
 */
export async function borrowed<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const heard = () => {}
  const client = await lent(pool, heard)
  try {
    const result = await work(client)
    client.off('error', heard)
    client.release()
    return result
  } catch (error) {
    client.release(error as Error)
    throw error
  }
}

/**
 * The pool listens to idle connections only, and an event that nobody hears ends the process. A server that dies may say
 * so in the bytes by which a connection becomes ready, so whoever gets it listens before a promise is settled.
 */
function lent(pool: Pool, heard: () => void): Promise<PoolClient> {
  return new Promise((resolve, reject) => {
    pool.connect((error, client) => {
      if (!client) return reject(error)
      client.on('error', heard)
      resolve(client)
    })
  })
}
