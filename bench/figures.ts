/** The value below which this part of the sorted values lies. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!
}

export const grouped = (value: number) => value.toLocaleString('en')
export const micro = (milliseconds: number) => `${grouped(Math.round(milliseconds * 10_000) / 10)} µs`
export const milli = (milliseconds: number) => `${grouped(Math.round(milliseconds))} ms`
export const ratio = (value: number, base: number) => `${(value / base).toFixed(2)}×`
export const count = (value: number) => String(Math.round(value * 1000) / 1000)

/** Numbers from 0 to 1, the same for each seed. */
export function mulberry(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Memory of this process in MB, after collection where node runs with --expose-gc. */
export function heap(): { readonly heap: number; readonly rss: number } {
  globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  return { heap: heapUsed / 1e6, rss: rss / 1e6 }
}

/** Columns of text, the first to the left and figures to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, head.map(() => ''), ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  return all
    .map((row, line) =>
      widths
        .map((width, column) => {
          if (line === 1) return '-'.repeat(width)
          return /^[\d.,]/.test(row[column]!) ? row[column]!.padStart(width) : row[column]!.padEnd(width)
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
