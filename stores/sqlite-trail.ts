import type { Seal, Source, Trail } from '../lib/index.js'
import type { Sql } from './sqlite-driver.js'
import { eventsOf } from './sqlite-events.js'

/** The chain of seals; `reading` makes several reads of one moment, `writing` several writes one. */
export function sqliteTrail(
  sql: Sql,
  reading: <T>(read: () => T) => T,
  writing: <T>(write: () => T) => T,
): Trail {
  const sealFields = 'number, previous, hash, at'

  return {
    unsealed: async (limit) =>
      reading(() => {
        const [last = null] = sql.all<Seal>(
          `select ${sealFields} from jit_seals order by number desc limit 1`,
        )
        const changes = sql.all<{ id: string }>(
          'select id from jit_changes where seal is null order by position limit ?',
          limit,
        )
        return { last, changes: changes.map(({ id }) => eventsOf(sql, id)) }
      }),

    seal: async (seal, changes, deliveries) =>
      writing(() => {
        const taken = sql.all('select 1 from jit_seals where number = ?', seal.number).length > 0
        const waits = (id: string) =>
          sql.all('select 1 from jit_changes where id = ? and seal is null', id).length > 0
        const places = new Map(changes.map((id, place) => [id, place]))
        if (taken || places.size < changes.length || !changes.every(waits)) return false
        sql.run(
          'insert into jit_seals (number, previous, hash, at) values (?, ?, ?, ?)',
          ...[seal.number, seal.previous, seal.hash, seal.at],
        )
        for (const [id, place] of places) {
          sql.run('update jit_changes set seal = ?, place = ? where id = ?', seal.number, place, id)
        }
        const placeOf = (change: string) => {
          const place = places.get(change)
          if (place === undefined) throw new TypeError(`a delivery of ${change}, which is not in the seal`)
          return place
        }
        for (const { endpoint, change, subject } of [...deliveries].sort(
          (a, b) => placeOf(a.change) - placeOf(b.change),
        )) {
          sql.run(
            'insert into jit_deliveries (endpoint, change_id, subject, due_at) values (?, ?, ?, ?)',
            ...[endpoint, change, subject, seal.at],
          )
        }
        return true
      }),

    sealed: async (after, limit) =>
      reading(() =>
        sql
          .all<Seal>(
            `select ${sealFields} from jit_seals where number > ? order by number limit ?`,
            after,
            limit,
          )
          .map((seal) => ({
            seal,
            changes: sql
              .all<{ id: string }>('select id from jit_changes where seal = ? order by place', seal.number)
              .map(({ id }) => eventsOf(sql, id)),
          })),
      ),

    revocations: async (since) =>
      sql.all<{ source: Source; revoked: number; left: number }>(
        `select e.source, count(*) as revoked,
           (select count(*) from jit_grants g
             where substr(g.source, 1, 4) = 'sso:' and g.source = 'sso:' || c.id) as left
         from jit_events e join jit_connections c on c.id = substr(e.source, 12)
         where e.type = 'revoked' and e.actor is null and e.at > ?1 and e.at > coalesce(c.released_at, ?1)
           and e.source = 'connection:' || c.id and json_extract(e.detail, '$.source') = 'sso:' || c.id
         group by c.id order by c.id`,
        since,
      ),
  }
}
