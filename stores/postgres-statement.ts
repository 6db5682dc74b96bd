import { createHash } from 'node:crypto'
import type { Pool } from 'pg'

export interface Statement {
  readonly name: string
  readonly text: string
}

/** Named after its text, so that two stores or two releases on one pool never share a name. */
export function statement(verb: string, text: string): Statement {
  return { name: `jit_${verb}_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`, text }
}

/** One row of one column of JSON text, parsed here, whatever type parsers the app has set. */
export function asker(pool: Pool) {
  return async <T>(asked: Statement, values: unknown[]): Promise<T> => {
    const { rows } = await pool.query<{ json: string | null }>({ ...asked, values })
    return JSON.parse(rows[0]?.json ?? 'null') as T
  }
}

export type Ask = ReturnType<typeof asker>
