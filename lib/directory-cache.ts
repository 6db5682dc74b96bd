/** What a read found; `size` in characters, 0 where there was nothing. */
export interface Found<T> {
  readonly value: T
  readonly size: number
  /** Whether anybody can name more of its kind, as below a domain that is owned with all its subdomains. */
  readonly guessed?: boolean
}

export interface DirectoryCache {
  /** What is remembered, else what `read` finds; readers of one key at once share one read. */
  get<T>(key: string, read: () => Promise<Found<T>>): Promise<T>
  /** Forgets what matches, and does not remember what is being read: it may have seen what was before. */
  forget(matches: (key: string, value: unknown) => boolean): void
}

/**
 * Values by key, up to `limit` characters of entries and then the longest unused first to go. What was not found,
 * or found by a name that may be guessed, is remembered apart, up to a tenth of that, so that guessed names drive no
 * tenant out. Neither does a value that is longer than all of them may be: it is not remembered.
 */
export function directoryCache(limit: number): DirectoryCache {
  const found = leastRecentlyUsed(limit)
  const missing = leastRecentlyUsed(limit / 10)
  const reading = new Map<string, { value: Promise<unknown> }>()

  async function remember<T>(key: string, mine: object, read: () => Promise<Found<T>>): Promise<T> {
    try {
      const { value, size, guessed = size === 0 } = await read()
      if (reading.get(key) === mine) (guessed ? missing : found).set(key, value, size)
      return value
    } finally {
      if (reading.get(key) === mine) reading.delete(key)
    }
  }

  return {
    get: async <T>(key: string, read: () => Promise<Found<T>>): Promise<T> => {
      const hit = found.get(key) ?? missing.get(key)
      if (hit) return hit.value as T
      const shared = reading.get(key)
      if (shared) return shared.value as Promise<T>
      const mine = {} as { value: Promise<T> }
      reading.set(key, mine)
      mine.value = remember(key, mine, read)
      return mine.value
    },
    forget: (matches) => {
      reading.clear()
      found.forget(matches)
      missing.forget(matches)
    },
  }
}

/** What a value costs besides the characters of its entry. */
const overhead = 200

function leastRecentlyUsed(limit: number) {
  const values = new Map<string, { readonly value: unknown; readonly size: number }>()
  let total = 0
  const remove = (key: string) => {
    total -= values.get(key)?.size ?? 0
    values.delete(key)
  }
  return {
    get: (key: string) => {
      const hit = values.get(key)
      if (hit) {
        values.delete(key)
        values.set(key, hit)
      }
      return hit
    },
    set: (key: string, value: unknown, characters: number) => {
      remove(key)
      const size = characters + key.length + overhead
      if (size > limit) return
      values.set(key, { value, size })
      total += size
      for (const oldest of values.keys()) {
        if (total <= limit) break
        remove(oldest)
      }
    },
    forget: (matches: (key: string, value: unknown) => boolean) => {
      for (const [key, { value }] of values) if (matches(key, value)) remove(key)
    },
  }
}
