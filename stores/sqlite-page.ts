import type { Page } from '../lib/index.js'

/** A page of rows: asks for one more than it shows, to learn whether there are more. */
export function paged<T>(
  { limit = 100 }: Page,
  ask: (limit: number) => T[],
  cursor: (row: T) => string,
): { rows: T[]; next: string | null } {
  const size = Math.min(limit, 1000)
  const found = ask(size + 1)
  const rows = found.slice(0, size)
  return { rows, next: found.length > size ? cursor(rows.at(-1)!) : null }
}
