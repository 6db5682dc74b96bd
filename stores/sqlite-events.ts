import type { AuditEvent, ChangeSet, EventQuery, Store } from '../lib/index.js'
import { type Bindable, isUnique, type Sql } from './sqlite-driver.js'
import { missedKey } from './sqlite-miss.js'
import { paged } from './sqlite-page.js'

/** Writes the events of a change, which takes its place after all that landed before. */
export function record(sql: Sql, { id, events }: ChangeSet): void {
  try {
    const [change] = sql.all<{ position: number }>(
      'insert into jit_changes (id) values (?) returning position',
      id,
    )
    for (const event of events) {
      sql.run(
        `insert into jit_events (change_id, seq, position, type, at, user_id, organization_id, source, actor,
           correlation_id, reason, detail) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[id, event.seq, change!.position, event.type, event.at, event.user, event.organization],
        ...[event.source, event.actor, event.correlationId, event.reason, JSON.stringify(event.detail)],
      )
    }
  } catch (error) {
    throw isUnique(error) ? missedKey('change') : error
  }
}

/** The events of a change as they are stored. */
export const eventsOf = (sql: Sql, change: string): AuditEvent[] =>
  sql
    .all<Omit<AuditEvent, 'detail'> & { detail: string }>(
      `select change_id as change, seq, type, at, user_id as user, organization_id as organization, source, actor,
              correlation_id as correlationId, reason, detail
       from jit_events where change_id = ? order by seq`,
      change,
    )
    .map((row) => ({ ...row, detail: JSON.parse(row.detail) }))

const filters = {
  user: 'user_id = ?',
  organization: 'organization_id = ?',
  source: 'source = ?',
  type: 'type = ?',
  from: 'at >= ?',
  to: 'at < ?',
  after: 'position < (select position from jit_changes where id = ?)',
} satisfies Partial<Record<keyof EventQuery, string>>

/** A statement for each set of filters, so that each goes by the index that suits it. */
export function sqliteEvents(sql: Sql, reading: <T>(read: () => T) => T): Store['events'] {
  return async (query = {}) =>
    reading(() => {
      const asked = Object.entries(filters).flatMap(([name, condition]) => {
        const value: Bindable | undefined = query[name as keyof typeof filters]
        return value === undefined ? [] : [{ condition, value }]
      })
      const where = asked.length === 0 ? '' : `where ${asked.map(({ condition }) => condition).join(' and ')}`
      const { rows, next } = paged(
        query,
        (limit) =>
          sql.all<{ change: string }>(
            `select change_id as change from jit_events ${where}
             group by position order by position desc limit ?`,
            ...[...asked.map(({ value }) => value), limit],
          ),
        ({ change }) => change,
      )
      return { rows: rows.flatMap(({ change }) => eventsOf(sql, change)), next }
    })
}
