import type { Delivery, DeliveryState, Outbox } from '../lib/index.js'
import type { Bindable, Sql } from './sqlite-driver.js'
import { eventsOf } from './sqlite-events.js'
import { paged } from './sqlite-page.js'

/** How many tries a delivery's log keeps. */
const kept = 10

/** Spelled out, because an index over some rows is not used for a value that is bound later. */
const states: Readonly<Record<DeliveryState, string>> = {
  pending: `state = 'pending'`,
  delivered: `state = 'delivered'`,
  dead: `state = 'dead'`,
}

type Row = Omit<Delivery, 'log'> & { readonly id: number; readonly log: string }

const fields = 'id, endpoint, change_id as change, subject, state, attempts, due_at as dueAt, log'

const deliveryOf = ({ id: _, log, ...row }: Row): Delivery => ({ ...row, log: JSON.parse(log) })

/** What was delivered where; `writing` makes several writes one. */
export function sqliteOutbox(sql: Sql, writing: <T>(write: () => T) => T): Outbox {
  const due = ({ endpoint, now, limit }: { endpoint: string; now: number; limit: number }) =>
    sql.all<{ id: number }>(
      `select id from jit_deliveries d
       where endpoint = ? and state = 'pending' and due_at <= ? and not exists (
         select 1 from jit_deliveries earlier
           where earlier.endpoint = d.endpoint and earlier.subject = d.subject and earlier.state = 'pending'
             and earlier.id < d.id)
       order by id limit ?`,
      ...[endpoint, now, limit],
    )

  return {
    take: async (query) => {
      // Read first, so that asking in vain does not keep others from writing.
      if (due(query).length === 0) return []
      return writing(() =>
        due(query).map(({ id }) => {
          const [row] = sql.all<Row>(
            `update jit_deliveries set attempts = attempts + 1, due_at = ? where id = ? returning ${fields}`,
            query.now + query.lease,
            id,
          )
          return { ...deliveryOf(row!), events: eventsOf(sql, row!.change) }
        }),
      )
    },

    settle: async ({ endpoint, change, attempts, at, error, state, dueAt }) =>
      writing(() => {
        const [found] = sql.all<{ id: number; subject: string; log: string }>(
          `select id, subject, log from jit_deliveries
           where endpoint = ? and change_id = ? and attempts = ? and state = 'pending'`,
          ...[endpoint, change, attempts],
        )
        if (!found) return false
        const log = JSON.stringify([...JSON.parse(found.log), { at, error }].slice(-kept))
        const settled = 'update jit_deliveries set state = ?, due_at = ?, log = ? where id = ?'
        sql.run(settled, state, dueAt, log, found.id)
        // What was never tried and waits behind this one is due when this one is, or now that it is done: a receiver
        // that is away would otherwise have all of it looked at again and again.
        sql.run(
          `update jit_deliveries set due_at = ?1 where endpoint = ?2 and subject = ?3 and state = 'pending'
             and id > ?4 and attempts = 0 and case when ?5 then due_at < ?1 else due_at > ?1 end`,
          ...[
            state === 'pending' ? dueAt : at,
            endpoint,
            found.subject,
            found.id,
            state === 'pending' ? 1 : 0,
          ],
        )
        return true
      }),

    deliveries: async ({ endpoint, state, after, ...page }) => {
      const conditions = ['true']
      const values: Bindable[] = []
      if (state !== undefined) conditions.push(states[state])
      if (endpoint !== undefined) {
        conditions.push('endpoint = ?')
        values.push(endpoint)
      }
      if (after !== undefined) {
        conditions.push('id < ?')
        values.push(Number(after))
      }
      const { rows, next } = paged(
        page,
        (limit) =>
          sql.all<Row>(
            `select ${fields} from jit_deliveries where ${conditions.join(' and ')} order by id desc limit ?`,
            ...[...values, limit],
          ),
        ({ id }) => String(id),
      )
      return { rows: rows.map(deliveryOf), next }
    },

    again: async (endpoint, change, now) => {
      const revive = `update jit_deliveries set state = 'pending', due_at = ?
        where endpoint = ? and change_id = ? and state = 'dead'`
      return sql.run(revive, now, endpoint, change) > 0
    },
  }
}
