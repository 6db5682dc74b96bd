import type { AuditEvent, Change, EventQuery, Seal, Source, Store, Trail } from '../lib/index.js'
import { type Ask, paged, planned, statement } from './postgres-statement.js'

/** Made anew by every release that migrates. Locks the changes before it takes the number, and writes last. */
export const sealFunction = `
create or replace function jit_seal(link jsonb, chosen text[], outgoing jsonb) returns boolean language plpgsql
  set search_path from current as $$
declare
  free bigint;
begin
  perform from jit_changes c where c.id = any(chosen) and c.seal is null order by c.id for update;
  get diagnostics free = row_count;
  if free < cardinality(chosen) then
    return false;
  end if;
  insert into jit_seals (number, previous, hash, at)
    values ((link->>'number')::bigint, link->>'previous', link->>'hash', (link->>'at')::bigint)
    on conflict do nothing;
  if not found then
    return false;
  end if;
  update jit_changes c set seal = (link->>'number')::bigint, place = list.place
    from unnest(chosen) with ordinality list (id, place) where c.id = list.id;
  insert into jit_deliveries (endpoint, change_id, subject, seal, place, due_at)
    select value->>'endpoint', value->>'change', value->>'subject', (link->>'number')::bigint, list.place,
        (link->>'at')::bigint
      from jsonb_array_elements(outgoing)
      left join unnest(chosen) with ordinality list (id, place) on list.id = value->>'change';
  return true;
end
$$;
`

/** The events of the change with this id, as they are stored. */
export const changeSql = (s: string, id: string) => `(select coalesce(json_agg(json_build_object(
    'change', e.change_id, 'seq', e.seq, 'type', e.type, 'at', e.at, 'user', e.user_id,
    'organization', e.organization_id, 'source', e.source, 'actor', e.actor,
    'correlationId', e.correlation_id, 'reason', e.reason, 'detail', e.detail) order by e.seq), '[]')
  from ${s}.jit_events e where e.change_id = ${id})`

const filters = {
  user: 'e.user_id =',
  organization: 'e.organization_id =',
  source: 'e.source =',
  type: 'e.type =',
  from: 'e.at >=',
  to: 'e.at <',
} satisfies Partial<Record<keyof EventQuery, string>>

/** Changes by what is asked of them; which index suits depends on the filters and on how much they let through. */
export function postgresEvents(ask: Ask, s: string): Store['events'] {
  return async (query = {}) => {
    const values: unknown[] = []
    const conditions: string[] = []
    const where = (condition: (parameter: string) => string, value: unknown) => {
      if (value !== undefined) conditions.push(condition(`$${values.push(value)}`))
    }
    for (const [key, comparison] of Object.entries(filters)) {
      where((parameter) => `${comparison} ${parameter}`, query[key as keyof typeof filters])
    }
    where(
      (parameter) => `e.position < (select position from ${s}.jit_changes where id = ${parameter})`,
      query.after,
    )
    const { rows, next } = await paged(
      query,
      (limit) => {
        const asked = planned(`select coalesce(json_agg(events order by position desc), '[]')::text as json
          from (select position, ${changeSql(s, 'chosen.change_id')} as events
            from (select distinct on (e.position) e.position, e.change_id from ${s}.jit_events e
              ${conditions.length > 0 ? `where ${conditions.join(' and ')}` : ''}
              order by e.position desc limit $${values.length + 1}::integer) chosen) changes`)
        return ask<AuditEvent[][]>(asked, [...values, limit])
      },
      (change) => change[0]!.change,
    )
    return { rows: rows.flat(), next }
  }
}

export function postgresTrail(ask: Ask, s: string): Trail {
  const sealFields = `json_build_object('number', l.number, 'previous', l.previous, 'hash', l.hash, 'at', l.at)`
  const unsealed = planned(
    `select json_build_object(
      'last', (select ${sealFields} from ${s}.jit_seals l order by l.number desc limit 1),
      'changes', (select coalesce(json_agg(events order by position), '[]')
        from (select c.position, ${changeSql(s, 'c.id')} as events from ${s}.jit_changes c
          where c.seal is null order by c.position limit $1::integer) waiting)
    )::text as json`,
  )
  const seal = statement('seal', `select ${s}.jit_seal($1::jsonb, $2::text[], $3::jsonb)::text as json`)
  const sealed = planned(
    `select coalesce(json_agg(json_build_object('seal', ${sealFields}, 'changes',
        (select coalesce(json_agg(${changeSql(s, 'c.id')} order by c.place), '[]')
          from ${s}.jit_changes c where c.seal = l.number)) order by l.number), '[]')::text as json
    from (select * from ${s}.jit_seals where number > $1 order by number limit $2::integer) l`,
  )
  const revocations = planned(
    `select coalesce(json_agg(json_build_object('source', source, 'revoked', revoked, 'left',
        (select count(*) from ${s}.jit_grants g where g.source = given and g.source like 'sso:%'))
      order by source), '[]')::text as json
    from (select e.source, e.detail->>'source' as given, count(*) as revoked from ${s}.jit_events e
      join ${s}.jit_connections c on c.id = substr(e.source, 12) and e.detail->>'source' = 'sso:' || c.id
      where e.type = 'revoked' and e.actor is null and e.at > $1 and e.at > c.released_at
        and e.source like 'connection:%'
      group by 1, 2) counted`,
  )
  return {
    unsealed: (limit) => ask<{ last: Seal | null; changes: Change[] }>(unsealed, [limit]),
    seal: (link, changes, deliveries) =>
      ask<boolean>(seal, [JSON.stringify(link), changes, JSON.stringify(deliveries)]),
    sealed: (after, limit) => ask<{ seal: Seal; changes: Change[] }[]>(sealed, [after, limit]),
    revocations: (since) => ask<{ source: Source; revoked: number; left: number }[]>(revocations, [since]),
  }
}
