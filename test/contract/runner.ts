/** What a suite needs of a test runner; `vitest`, `node:test` and their like have it. */
export interface Runner {
  readonly describe: (name: string, body: () => void) => unknown
  readonly test: (name: string, body: () => Promise<void>) => unknown
}

/** Runs a test on a fresh instance, and closes it whatever happens. */
export function onFresh<F extends { close(): Promise<void> }>(
  { test }: Runner,
  factory: () => Promise<F>,
): (name: string, body: (fresh: F) => Promise<void>) => void {
  return (name, body) => {
    test(name, async () => {
      const fresh = await factory()
      try {
        await body(fresh)
      } finally {
        await fresh.close()
      }
    })
  }
}

/** A copy with keys and lists in one order, for comparing what promises none. */
export function canonical(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value
      .map(canonical)
      .map((entry) => ({ entry, text: JSON.stringify(entry) }))
      .sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0))
      .map(({ entry }) => entry)
  }
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, canonical(entry)]),
  )
}

/** Asks until the answer is true; throws after `patience` milliseconds. */
export async function eventually(ask: () => Promise<boolean>, patience = 10_000): Promise<void> {
  const deadline = performance.now() + patience
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error(`not within ${patience} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The rows of each page, to the last. Throws where there is no end of them. */
export async function everyPage<T>(
  ask: (from: {
    readonly after?: string
  }) => Promise<{ readonly rows: readonly T[]; readonly next: string | null }>,
): Promise<(readonly T[])[]> {
  const pages: (readonly T[])[] = []
  for (let from = {}; pages.length < 100; ) {
    const { rows, next } = await ask(from)
    pages.push(rows)
    if (next === null) return pages
    from = { after: next }
  }
  throw new Error('no last page among 100')
}
