import type { Entries, EntryRow, Operation } from '../lib/index.js'
import type { Bindable, Sql } from './sqlite-driver.js'
import { missedKey } from './sqlite-miss.js'

/** Organizations and connections kept in the file; `reading` makes several reads of one moment. */
export function sqliteEntries(sql: Sql, reading: <T>(read: () => T) => T): Entries {
  const rows = (condition: string, ...values: Bindable[]) =>
    sql.all<EntryRow>(`select e.id, e.version, e.entry from jit_entries e ${condition}`, ...values)
  const one = (kind: string, id: string) => rows('where kind = ? and id = ?', kind, id)[0] ?? null
  const among = (column: string, place: number) => `${column} in (select value from json_each(?${place}))`

  return {
    organization: async (id) => one('organization', id),
    connection: async (id) => one('connection', id),
    connections: async (after, limit) =>
      rows(`where kind = 'connection' and id > ? order by id limit ?`, after, limit),

    domain: async (patterns) =>
      reading(() => {
        const [found] = sql.all<{ owner: string }>(
          `select organization_id as owner from json_each(?) asked join jit_domains on pattern = asked.value
           order by asked.key limit 1`,
          JSON.stringify(patterns),
        )
        if (!found) return null
        const connections = rows(`where kind = 'connection' and organization_id = ? order by id`, found.owner)
        return { owner: one('organization', found.owner)!, connections }
      }),

    known: async ({ organizations, connections, domains }) => {
      const [owners, ids, patterns] = [organizations, connections, domains].map((list) =>
        JSON.stringify(list),
      )
      return reading(() => ({
        organizations: rows(
          `join jit_organizations o on o.id = e.id and o.version = e.version
           where e.kind = 'organization' and ${among('e.id', 1)} order by e.id`,
          owners!,
        ),
        connections: rows(
          `join jit_connections c on c.id = e.id and c.version = e.version
           where e.kind = 'connection' and (${among('e.organization_id', 1)} or ${among('e.id', 2)})
           order by e.id`,
          ...[owners!, ids!],
        ),
        owners: sql.all(
          `select pattern, organization_id as organization from jit_domains where ${among('pattern', 1)}`,
          patterns!,
        ),
      }))
    },

    changes: async (after) =>
      reading(() => {
        const changed = sql.all<{ id: string; organization: string }>(
          `select id, organization_id as organization from jit_entries where position > ?
           order by position limit 1001`,
          after,
        )
        const [newest] = sql.all<{ position: number | null }>(
          'select max(position) as position from jit_entries',
        )
        const position = newest?.position ?? 0
        if (changed.length > 1000) return { position, ids: null, domains: [] }
        const organizations = [...new Set(changed.map(({ organization }) => organization))]
        const domains = sql.all<{ pattern: string }>(
          `select pattern from jit_domains where ${among('organization_id', 1)}`,
          JSON.stringify(organizations),
        )
        return {
          position,
          ids: [...new Set([...changed.map(({ id }) => id), ...organizations])],
          domains: domains.map(({ pattern }) => pattern),
        }
      }),
  }
}

type Put = Extract<Operation, { op: 'organization.put' | 'connection.put' }>

/** Before any is taken, so that a domain can go from one organization to another in one change set. */
export function giveUpDomains(sql: Sql, ops: readonly Operation[]): void {
  for (const op of ops) {
    if (op.op !== 'organization.put' || !op.kept) continue
    sql.run(
      'delete from jit_domains where organization_id = ? and pattern not in (select value from json_each(?))',
      ...[op.id, JSON.stringify(op.kept.domains)],
    )
  }
}

/** Leaves of a connection's entry that it is gone. */
export function forgetConnection(sql: Sql, id: string): void {
  sql.run(
    `update or replace jit_entries set kind = 'removed', version = '', entry = '',
       position = (select max(position) + 1 from jit_entries)
     where kind = 'connection' and id = ?`,
    id,
  )
}

/** Keeps the entry of a put, whose row is there already, where it differs from what is kept. */
export function keep(sql: Sql, op: Put): void {
  const organization = op.op === 'connection.put' ? op.organization : op.id
  if (op.op === 'organization.put') {
    for (const pattern of op.kept!.domains) {
      sql.run(
        'insert into jit_domains (pattern, organization_id) values (?, ?) on conflict do nothing',
        ...[pattern, op.id],
      )
      const own = 'select 1 from jit_domains where pattern = ? and organization_id = ?'
      if (sql.all(own, pattern, op.id).length === 0) throw missedKey('domain')
    }
  } else {
    const [known] = sql.all<{ version: string }>(
      `select version from jit_entries where kind = 'connection' and id = ?`,
      op.id,
    )
    if ((op.kept!.over ?? known?.version) !== known?.version) throw missedKey('connection')
  }
  sql.run(
    `insert into jit_entries (kind, id, organization_id, version, entry, position)
     values (?, ?, ?, ?, ?, (select coalesce(max(position), 0) + 1 from jit_entries))
     on conflict (kind, id) do update set version = excluded.version, entry = excluded.entry,
       position = excluded.position
     where (version, entry) is not (excluded.version, excluded.entry)`,
    ...[op.op.split('.')[0]!, op.id, organization, op.version, op.kept!.entry],
  )
}
