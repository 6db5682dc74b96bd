import type { Once } from '../lib/index.js'

/** How often what has expired is thrown away, in milliseconds. */
const sweepEvery = 5_000

/** One-time values for one process; `now` in milliseconds since the epoch. */
export function memoryOnce(now: () => number = Date.now): Once {
  const values = new Map<string, { value: string; expires: number }>()
  let swept = now()
  const sweep = () => {
    if (Math.abs(now() - swept) < sweepEvery) return
    swept = now()
    for (const [name, { expires }] of values) if (expires <= swept) values.delete(name)
  }
  const alive = (name: string) => {
    const found = values.get(name)
    return found && found.expires > now() ? found : undefined
  }
  return {
    put: async (name, value, ttl) => {
      sweep()
      values.delete(name)
      values.set(name, { value, expires: now() + ttl })
    },
    take: async (name) => {
      const found = alive(name)
      values.delete(name)
      return found?.value ?? null
    },
    claim: async (name, ttl) => {
      sweep()
      if (alive(name)) return false
      values.delete(name)
      values.set(name, { value: '', expires: now() + ttl })
      return true
    },
  }
}
