import type { Source, Trail } from '../lib/index.js'
import { key, type Tables } from './memory-tables.js'

/** The chain of seals over committed changes; `now` gives the tables of the moment. */
export function memoryTrail(now: () => Tables): Trail {
  const sealedIn = (tables: Tables) => new Set(tables.seals.flatMap(({ changes }) => changes))

  return {
    unsealed: async (limit) => {
      const tables = now()
      const sealed = sealedIn(tables)
      const changes = [...tables.events].filter(([change]) => !sealed.has(change)).slice(0, limit)
      return structuredClone({
        last: tables.seals.at(-1)?.seal ?? null,
        changes: changes.map(([, events]) => events),
      })
    },

    seal: async (seal, changes, deliveries) => {
      const tables = now()
      const done = sealedIn(tables)
      if (tables.seals.some(({ seal: { number } }) => number === seal.number)) return false
      if (changes.some((change) => done.has(change) || !tables.events.has(change))) return false
      if (new Set(changes).size < changes.length) return false
      const stray = deliveries.find(({ change }) => !changes.includes(change))
      if (stray) throw new TypeError(`a delivery of ${stray.change}, which is not in the seal`)
      tables.seals.push(structuredClone({ seal, changes }))
      const ordered = [...deliveries].sort((a, b) => changes.indexOf(a.change) - changes.indexOf(b.change))
      for (const { endpoint, change, subject } of ordered) {
        const row = { endpoint, change, subject, state: 'pending', attempts: 0, dueAt: seal.at } as const
        tables.deliveries.set(key(endpoint, change), { ...row, log: [] })
      }
      return true
    },

    sealed: async (after, limit) => {
      const { seals, events } = now()
      const chosen = seals.filter(({ seal }) => seal.number > after).slice(0, limit)
      return structuredClone(
        chosen.map(({ seal, changes }) => ({ seal, changes: changes.map((change) => events.get(change)!) })),
      )
    },

    revocations: async (since) => {
      const tables = now()
      const events = [...tables.events.values()].flat()
      return [...tables.connections.values()]
        .map(({ id, releasedAt }) => {
          const source: Source = `connection:${id}`
          const from = Math.max(since, releasedAt ?? since)
          const revoked = events.filter(
            (event) =>
              event.type === 'revoked' &&
              event.actor === null &&
              event.source === source &&
              event.detail.source === `sso:${id}` &&
              event.at > from,
          ).length
          const left = [...tables.grants.values()].filter((grant) => grant.source === `sso:${id}`).length
          return { source, revoked, left }
        })
        .filter(({ revoked }) => revoked > 0)
    },
  }
}
