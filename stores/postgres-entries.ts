import type { Entries, EntryChanges, EntryRow, KnownEntries } from '../lib/index.js'
import { type Ask, statement } from './postgres-statement.js'

/** Organizations and connections kept in the tables of a schema. */
export function postgresEntries(ask: Ask, schema: string): Entries {
  const row = (e: string) => `json_build_object('id', ${e}.id, 'version', ${e}.version, 'entry', ${e}.entry)`
  const list = (rows: string) => `(select coalesce(json_agg(${row('e')} order by e.id), '[]') from ${rows})`

  const one = statement(
    'entry',
    `select ${row('e')}::text as json from ${schema}.jit_entries e where e.kind = $1 and e.id = $2`,
  )
  const page = statement(
    'entries',
    `select ${list(`(select * from ${schema}.jit_entries where kind = 'connection' and id > $1
      order by id limit $2::integer) e`)}::text as json`,
  )
  const domain = statement(
    'domain',
    `select json_build_object('owner', ${row('o')}, 'connections', ${list(
      `${schema}.jit_entries e where e.kind = 'connection' and e.organization_id = o.id`,
    )})::text as json
    from (select organization_id from ${schema}.jit_domains where pattern = any($1::text[])
      order by array_position($1::text[], pattern) limit 1) d
    join ${schema}.jit_entries o on o.kind = 'organization' and o.id = d.organization_id`,
  )
  // Joined with the lists rather than compared with them, so that long ones go by index too.
  const known = statement(
    'known',
    `with named as (
        select e.id from unnest($1::text[]) owner (id)
          join ${schema}.jit_entries e on e.organization_id = owner.id and e.kind = 'connection'
        union select unnest($2::text[]))
    select json_build_object(
      'organizations', ${list(`unnest($1::text[]) owner (id)
        join ${schema}.jit_entries e on e.kind = 'organization' and e.id = owner.id
        join ${schema}.jit_organizations o on o.id = e.id and o.version = e.version`)},
      'connections', ${list(`named
        join ${schema}.jit_entries e on e.kind = 'connection' and e.id = named.id
        join ${schema}.jit_connections c on c.id = e.id and c.version = e.version`)},
      'owners', (select coalesce(json_agg(json_build_object('pattern', d.pattern, 'organization',
          d.organization_id) order by d.pattern), '[]')
        from unnest($3::text[]) asked (pattern) join ${schema}.jit_domains d on d.pattern = asked.pattern)
    )::text as json`,
  )
  const changes = statement(
    'changes',
    `with changed as (select id, organization_id from ${schema}.jit_entries where position > $1
        order by position limit 1001),
      few as (select * from changed where (select count(*) from changed) <= 1000)
    select json_build_object(
      'position', (select position from ${schema}.jit_entries_position),
      'ids', case when exists (select from changed) and not exists (select from few) then null
        else (select coalesce(json_agg(id), '[]')
          from (select id from few union select organization_id from few) both_) end,
      'domains', (select coalesce(json_agg(pattern), '[]') from ${schema}.jit_domains
        where organization_id in (select organization_id from few))
    )::text as json`,
  )
  return {
    organization: (id) => ask<EntryRow | null>(one, ['organization', id]),
    connection: (id) => ask<EntryRow | null>(one, ['connection', id]),
    connections: (after, limit) => ask<EntryRow[]>(page, [after, limit]),
    domain: (patterns) => ask<{ owner: EntryRow; connections: EntryRow[] } | null>(domain, [patterns]),
    known: ({ organizations, connections, domains }) =>
      ask<KnownEntries>(known, [organizations, connections, domains]),
    changes: (after) => ask<EntryChanges>(changes, [after]),
  }
}
