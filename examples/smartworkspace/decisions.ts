import type { Decision, EventQuery, Outcome } from 'passport-jit'

/** What a decision did for the person, in one word. */
export function outcomeOf({ facts }: Pick<Decision, 'facts'>): Outcome {
  const types = new Set(facts.map(({ type }) => type))
  return types.has('denied')
    ? 'denied'
    : types.has('created')
      ? 'created'
      : types.has('linked')
        ? 'linked'
        : 'updated'
}

/** What a list may be asked for by. */
export const pages = ['limit', 'after'] as const
export const filters = ['user', 'organization', 'connection', 'from', 'to', ...pages] as const

/**
 * Reads a query string; what is blank is not asked for. `from` and `to` are times as ISO 8601 has them, or
 * milliseconds since the epoch; `limit` is 1 to 1,000, `usual` by default.
 * @returns a sentence where it cannot be read: a filter that is misspelt must not come to mean everything
 */
export function queryOf(
  query: Readonly<Record<string, unknown>>,
  allowed: readonly string[] = filters,
  usual = 1000,
): EventQuery | string {
  const asked = new Map<string, string>()
  for (const [name, value] of Object.entries(query)) {
    if (!allowed.includes(name)) return `There is no filter "${name}"; there are ${allowed.join(', ')}.`
    if (typeof value !== 'string') return `${name} can be given once.`
    if (value !== '') asked.set(name, value)
  }
  const found: { -readonly [K in keyof EventQuery]: EventQuery[K] } = { limit: usual }
  for (const [name, value] of asked) {
    if (name === 'limit') {
      found.limit = /^\d{1,4}$/.test(value) ? Number(value) : 0
      if (found.limit < 1 || found.limit > 1000) return 'limit is 1 to 1000.'
    } else if (name === 'from' || name === 'to') {
      const time = /^\d+$/.test(value) ? Number(value) : Date.parse(value)
      if (!Number.isSafeInteger(time)) return `${name} is a time such as 2026-01-31T12:00:00Z.`
      found[name] = time
    } else if (name === 'connection') found.source = `connection:${value}`
    else found[name as 'user' | 'organization' | 'after'] = value
  }
  return found
}
