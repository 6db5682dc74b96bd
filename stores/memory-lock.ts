import type { Lease, Lock } from '../lib/index.js'

/** A lock for one process; who waits is served in turn. */
export function memoryLock(): Lock {
  const waiting = new Map<string, (() => void)[]>()

  const hold = (name: string, ttl: number, waited: boolean): Lease => {
    let ours = true
    const free = () => {
      if (!ours) return
      ours = false
      clearTimeout(timer)
      const next = waiting.get(name)!.shift()
      if (next) next()
      else waiting.delete(name)
    }
    const timer = setTimeout(free, ttl).unref()
    return { waited, release: async () => free() }
  }

  return {
    acquire: async (name, { ttl, wait }) => {
      const queue = waiting.get(name)
      if (!queue) {
        waiting.set(name, [])
        return hold(name, ttl, false)
      }
      return new Promise((resolve) => {
        const served = () => {
          clearTimeout(tired)
          resolve(hold(name, ttl, true))
        }
        const tired = setTimeout(() => {
          queue.splice(queue.indexOf(served), 1)
          resolve(null)
        }, wait)
        queue.push(served)
      })
    },
  }
}
