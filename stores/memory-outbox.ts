import type { Outbox } from '../lib/index.js'
import { firstOf, key, type Tables } from './memory-tables.js'

/** How many tries a delivery's log keeps. */
const kept = 10

/** What was delivered where; `now` gives the tables of the moment. */
export function memoryOutbox(tables: () => Tables): Outbox {
  return {
    take: async ({ endpoint, now, lease, limit }) => {
      const { deliveries, events } = tables()
      const subjects = new Set<string>()
      const heads = [...deliveries.values()].filter((delivery) => {
        if (delivery.endpoint !== endpoint || delivery.state !== 'pending') return false
        if (subjects.has(delivery.subject)) return false
        subjects.add(delivery.subject)
        return delivery.dueAt <= now
      })
      const taken = heads.slice(0, limit)
      for (const delivery of taken) {
        delivery.attempts += 1
        delivery.dueAt = now + lease
      }
      return structuredClone(taken.map((delivery) => ({ ...delivery, events: events.get(delivery.change)! })))
    },

    settle: async ({ endpoint, change, attempts, at, error, state, dueAt }) => {
      const found = tables().deliveries.get(key(endpoint, change))
      if (found?.state !== 'pending' || found.attempts !== attempts) return false
      found.state = state
      found.dueAt = dueAt
      found.log = [...found.log, { at, error }].slice(-kept)
      return true
    },

    deliveries: async ({ endpoint, state, limit, after }) => {
      const all = [...tables().deliveries].reverse()
      const last = all.findIndex(([id]) => id === after)
      const rest = after === undefined ? all : last === -1 ? [] : all.slice(last + 1)
      const found = rest
        .map(([, delivery]) => delivery)
        .filter((row) => (endpoint ?? row.endpoint) === row.endpoint && (state ?? row.state) === row.state)
      return structuredClone(firstOf(found, limit, (row) => key(row.endpoint, row.change)))
    },

    again: async (endpoint, change, now) => {
      const found = tables().deliveries.get(key(endpoint, change))
      if (found?.state !== 'dead') return false
      found.state = 'pending'
      found.dueAt = now
      return true
    },
  }
}
