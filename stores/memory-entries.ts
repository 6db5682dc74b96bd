import type { Entries, EntryRow } from '../lib/index.js'
import { type KeptEntry, sorted, type Tables } from './memory-tables.js'

/** Organizations and connections as they are kept; `now` gives the tables of the moment. */
export function memoryEntries(now: () => Tables): Entries {
  return {
    organization: async (id) => rowOf(now().organizationEntries.get(id)),
    connection: async (id) => rowOf(now().connectionEntries.get(id)),
    connections: async (after, limit) =>
      sorted(now().connectionEntries)
        .filter(({ id }) => id > after)
        .slice(0, limit)
        .map((entry) => rowOf(entry)!),
    domain: async (patterns) => {
      const tables = now()
      const owner = patterns.map((pattern) => tables.domains.get(pattern)).find((id) => id !== undefined)
      if (owner === undefined) return null
      const connections = sorted(tables.connectionEntries).filter((entry) => entry.organization === owner)
      return {
        owner: rowOf(tables.organizationEntries.get(owner))!,
        connections: connections.map((entry) => rowOf(entry)!),
      }
    },
    known: async ({ organizations, connections, domains }) => {
      const tables = now()
      return {
        organizations: sorted(tables.organizationEntries)
          .filter(
            ({ id, version }) =>
              organizations.includes(id) && tables.organizations.get(id)!.version === version,
          )
          .map((entry) => rowOf(entry)!),
        connections: sorted(tables.connectionEntries)
          .filter(({ id, organization }) => organizations.includes(organization) || connections.includes(id))
          .filter(({ id, version }) => tables.connections.get(id)!.version === version)
          .map((entry) => rowOf(entry)!),
        owners: [...tables.domains]
          .filter(([pattern]) => domains.includes(pattern))
          .map(([pattern, organization]) => ({ pattern, organization })),
      }
    },
    changes: async (after) => {
      const tables = now()
      const changed = written(tables).filter(({ position }) => position > after)
      const organizations = new Set(changed.map(({ organization }) => organization))
      const many = changed.length > 1000
      return {
        position: newest(tables),
        ids: many ? null : [...new Set([...changed.map(({ id }) => id), ...organizations])],
        domains: many
          ? []
          : [...tables.domains].filter(([, owner]) => organizations.has(owner)).map(([pattern]) => pattern),
      }
    },
  }
}

/** The position of the last change of entries. */
export const newest = (tables: Tables): number =>
  written(tables).reduce((last, { position }) => Math.max(last, position), 0)

const written = (tables: Tables) => [
  ...tables.organizationEntries.values(),
  ...tables.connectionEntries.values(),
  ...tables.removedEntries.values(),
]

const rowOf = (entry: KeptEntry | undefined): EntryRow | null =>
  entry ? { id: entry.id, version: entry.version, entry: entry.entry } : null
