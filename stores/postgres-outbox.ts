import type { Change, Delivery, Outbox } from '../lib/index.js'
import { type Ask, paged, planned, statement } from './postgres-statement.js'
import { changeSql } from './postgres-trail.js'

const fields = `'endpoint', d.endpoint, 'change', d.change_id, 'subject', d.subject, 'state', d.state,
  'attempts', d.attempts, 'dueAt', d.due_at, 'log', d.log`

/** Deliveries, in the order that the seals of their changes give them. */
export function postgresOutbox(ask: Ask, s: string): Outbox {
  const take = planned(
    `with due as (
        select d.endpoint, d.change_id from ${s}.jit_deliveries d
        where d.endpoint = $1 and d.state = 'pending' and d.due_at <= $2
          and not exists (select from ${s}.jit_deliveries earlier
            where earlier.endpoint = d.endpoint and earlier.subject = d.subject and earlier.state = 'pending'
              and (earlier.seal, earlier.place) < (d.seal, d.place))
        order by d.seal, d.place limit $4::integer for update skip locked),
      taken as (
        update ${s}.jit_deliveries d set attempts = d.attempts + 1, due_at = $2::bigint + $3::bigint
        from due where d.endpoint = due.endpoint and d.change_id = due.change_id returning d.*)
    select coalesce(json_agg(json_build_object(${fields}, 'events', ${changeSql(s, 'd.change_id')})
      order by d.seal, d.place), '[]')::text as json from taken d`,
  )
  // What was never tried and waits behind this one is due when this one is, or now that it is done: a receiver
  // that is away would otherwise have all of it looked at again and again.
  const settle = statement(
    'settle',
    `with settled as (
        update ${s}.jit_deliveries set state = $4, due_at = $5,
          log = case when jsonb_array_length(log) < 10 then log else log - 0 end
            || jsonb_build_object('at', $6::bigint, 'error', $7::text)
        where endpoint = $1 and change_id = $2 and attempts = $3 and state = 'pending' returning *),
      behind as (
        update ${s}.jit_deliveries d set due_at = case when $4 = 'pending' then $5 else $6 end from settled
        where d.endpoint = settled.endpoint and d.subject = settled.subject and d.state = 'pending'
          and (d.seal, d.place) > (settled.seal, settled.place) and d.attempts = 0
          and case when $4 = 'pending' then d.due_at < $5 else d.due_at > $6 end)
    select (count(*) > 0)::text as json from settled`,
  )
  const again = statement(
    'again',
    `with revived as (
      update ${s}.jit_deliveries set state = 'pending', due_at = $3
      where endpoint = $1 and change_id = $2 and state = 'dead' returning 1)
    select (count(*) > 0)::text as json from revived`,
  )
  return {
    take: ({ endpoint, now, lease, limit }) =>
      ask<(Delivery & { events: Change })[]>(take, [endpoint, now, lease, limit]),
    settle: ({ endpoint, change, attempts, at, error, state, dueAt }) =>
      ask<boolean>(settle, [endpoint, change, attempts, state, dueAt, at, error]),
    deliveries: (query) =>
      paged(
        query,
        (limit) => {
          const values: unknown[] = [limit]
          const conditions = ['true']
          if (query.endpoint !== undefined) conditions.push(`endpoint = $${values.push(query.endpoint)}`)
          if (query.state !== undefined) conditions.push(`state = $${values.push(query.state)}`)
          if (query.after !== undefined) {
            const cursor = `$${values.push(query.after)}::jsonb`
            conditions.push(`(seal, place, endpoint) < (select seal, place, endpoint from ${s}.jit_deliveries
              where endpoint = ${cursor}->>0 and change_id = ${cursor}->>1)`)
          }
          const asked =
            planned(`select coalesce(json_agg(json_build_object(${fields}) order by d.seal desc, d.place desc,
              d.endpoint desc), '[]')::text as json
            from (select * from ${s}.jit_deliveries where ${conditions.join(' and ')}
              order by seal desc, place desc, endpoint desc limit $1::integer) d`)
          return ask<Delivery[]>(asked, values)
        },
        ({ endpoint, change }) => JSON.stringify([endpoint, change]),
      ),
    again: (endpoint, change, now) => ask<boolean>(again, [endpoint, change, now]),
  }
}
