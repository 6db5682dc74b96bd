import { isDeepStrictEqual } from 'node:util'
import Database from 'libsql'
import type { Store } from 'passport-jit'
import { Client } from 'pg'
import { everyEvent, replay, told } from '../property/replay.js'
import type { AppOptions } from './app.js'

/** Reads rows by SQL that PostgreSQL and SQLite both understand. */
export interface Reader {
  select<T = Record<string, unknown>>(sql: string): Promise<T[]>
  close(): Promise<void>
}

/** A way into the database behind the app, past the product's own code. */
export async function reader(store: AppOptions['store']): Promise<Reader> {
  if (store.kind === 'sqlite') {
    const db = new Database(store.file, { readonly: true })
    return {
      select: async <T>(sql: string) => db.prepare(sql).all() as T[],
      close: async () => {
        db.close()
      },
    }
  }
  const client = new Client({ connectionString: store.url })
  await client.connect()
  return {
    select: async <T>(sql: string) => (await client.query(sql)).rows as T[],
    close: () => client.end(),
  }
}

/** What must never be found, whatever happened; each query selects the rows that break it. */
const forbidden: Readonly<Record<string, string>> = {
  'two users with one verified e-mail': `
    select verified_email as found from jit_users where verified_email is not null
    group by verified_email having count(*) > 1`,
  'an identity without its user': `
    select subject as found from jit_identities i
    where not exists (select 1 from jit_users u where u.id = i.user_id)`,
  'a membership without its user': `
    select user_id as found from jit_memberships m
    where not exists (select 1 from jit_users u where u.id = m.user_id)`,
  'a grant without its membership': `
    select g.user_id as found from jit_grants g where not exists (
      select 1 from jit_memberships m where m.user_id = g.user_id and m.organization_id = g.organization_id)`,
  'a user whom no identity leads to': `
    select id as found from jit_users u
    where not exists (select 1 from jit_identities i where i.user_id = u.id)`,
  'a user not created by exactly one event': `
    select u.id as found from jit_users u
    where (select count(*) from jit_events e where e.type = 'created' and e.user_id = u.id) <> 1`,
  'a created event without its user': `
    select e.user_id as found from jit_events e where e.type = 'created'
    and not exists (select 1 from jit_users u where u.id = e.user_id)
    and not exists (select 1 from jit_events d where d.type = 'deleted' and d.user_id = e.user_id)`,
  'a deleted user who is there': `
    select u.id as found from jit_users u
    where exists (select 1 from jit_events d where d.type = 'deleted' and d.user_id = u.id)`,
  'an identity not linked by exactly one event': `
    select u.id as found from jit_users u
    where (select count(*) from jit_events e where e.type = 'linked' and e.user_id = u.id)
      <> (select count(*) from jit_identities i where i.user_id = u.id)`,
  'a membership not joined by exactly one event': `
    select m.user_id as found from jit_memberships m
    where (select count(*) from jit_events e where e.type = 'joined' and e.user_id = m.user_id
           and e.organization_id = m.organization_id) <> 1`,
  'a grant not given by exactly one event, or not taken by one': `
    select m.user_id as found from jit_memberships m
    where (select count(*) from jit_events e where e.type = 'granted' and e.user_id = m.user_id
           and e.organization_id = m.organization_id)
      - (select count(*) from jit_events e where e.type = 'revoked' and e.user_id = m.user_id
         and e.organization_id = m.organization_id)
      <> (select count(*) from jit_grants g where g.user_id = m.user_id
          and g.organization_id = m.organization_id)`,
  'seats that are not the memberships': `
    select id as found from jit_organizations o
    where seats_used <> (select count(*) from jit_memberships m
                         where m.organization_id = o.id and cast(m.seat as integer) = 1)`,
  'more seats used than there are': `
    select id as found from jit_organizations where seat_limit is not null and seats_used > seat_limit`,
  'owners that are not the owner grants': `
    select id as found from jit_organizations o
    where owners <> (select count(distinct g.user_id) from jit_grants g
                     join jit_memberships m on m.user_id = g.user_id and m.organization_id = g.organization_id
                     join jit_users u on u.id = g.user_id
                     where g.organization_id = o.id and g.role = 'owner'
                       and m.status = 'active' and u.status = 'active')`,
}

/** Every invariant that does not hold, with what breaks it; an app whose people all came by sign-in, each once, has none. */
export async function violations({ select }: Reader): Promise<string[]> {
  const found: string[] = []
  for (const [what, sql] of Object.entries(forbidden)) {
    const rows = await select<{ found: string }>(sql)
    if (rows.length > 0) found.push(`${what}: ${rows.map((row) => row.found).join(', ')}`)
  }
  return found
}

/** Of these the trail may count more than is there, where people left and came back. */
const countedOnce = /^a (membership not joined|grant not given)/

/** The same where administrators were at work as well; and the state is what the audit trail tells, event by event. */
export async function violationsAfterEdits(
  { select }: Pick<Reader, 'select'>,
  store: Store,
  organizations: readonly string[],
): Promise<string[]> {
  const found: string[] = []
  for (const [what, sql] of Object.entries(forbidden)) {
    if (countedOnce.test(what)) continue
    const rows = await select<{ found: string }>(sql)
    if (rows.length > 0) found.push(`${what}: ${rows.map((row) => row.found).join(', ')}`)
  }
  const [trail, state] = [replay(await everyEvent(store)).users, (await told(store, organizations)).users]
  for (const id of new Set([...Object.keys(trail), ...Object.keys(state)])) {
    if (!isDeepStrictEqual(trail[id], state[id]))
      found.push(`the trail tells ${JSON.stringify(trail[id])} of ${id}, who is ${JSON.stringify(state[id])}`)
  }
  return found
}

/** How many rows there are of a person, by the address that only that person has. */
export interface Rows {
  readonly users: number
  readonly identities: number
  readonly memberships: number
  readonly created: number
}

export const exactlyOne: Rows = { users: 1, identities: 1, memberships: 1, created: 1 }

export async function rowsOf({ select }: Reader, email: string): Promise<Rows> {
  const theirs = (column: string) =>
    `where ${column} in (select id from jit_users where verified_email = '${email}' or contact_email = '${email}')`
  const [row] = await select<Record<keyof Rows, number | string>>(
    `select (select count(*) from jit_users ${theirs('id')}) as users,
            (select count(*) from jit_identities ${theirs('user_id')}) as identities,
            (select count(*) from jit_memberships ${theirs('user_id')}) as memberships,
            (select count(*) from jit_events ${theirs('user_id')} and type = 'created') as created`,
  )
  const { users, identities, memberships, created } = row!
  return {
    users: Number(users),
    identities: Number(identities),
    memberships: Number(memberships),
    created: Number(created),
  }
}
