import type { EventQuery, Store } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import type { Pool, QueryConfig, QueryResult } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nobody } from '../contract/store-world.js'
import { onPostgres } from './postgres-database.js'

/**
 * People with an organization and a connection for each, and a change of two events for each, sealed and delivered
 * but for the last. Of the deliveries that wait, every second is not due; of those to a receiver that is away the
 * last alone, and of those to one that is back all.
 */
const people = 20_000
const crowd = (s: string) => `
  insert into ${s}.jit_organizations (id, version, name, status)
    select 'o' || n, 'v', 'o', 'active' from generate_series(1, ${people}) n;
  insert into ${s}.jit_connections (id, organization_id, version, enabled)
    select 'c' || n, 'o' || n, 'v', true from generate_series(1, ${people}) n;
  insert into ${s}.jit_users
    select 'u' || n, 1, 'active', 0, n || '@x.example', null, '{}', 1 from generate_series(1, ${people}) n;
  insert into ${s}.jit_users
    select 'v' || n, 1, 'active', 0, null, n || '@y.example', '{}', 1 from generate_series(1, ${people}) n;
  insert into ${s}.jit_identities (source, issuer, subject, user_id, linked_at, digest, asserted)
    select 'connection:c' || 1 + n % 100, 'issuer', 's' || n, 'u' || n, 1, 'd', '{}'
      from generate_series(1, ${people}) n;
  insert into ${s}.jit_memberships (user_id, organization_id, status, seat, joined_at)
    select 'u' || n, 'o' || n, 'active', true, 1 from generate_series(1, ${people}) n;
  insert into ${s}.jit_grants
    select 'u' || n, 'o' || n, 'member', 'sso:c' || n, 'default', 1 from generate_series(1, ${people}) n;
  insert into ${s}.jit_tombstones
    select 'u' || n, 'o' || n, 'admin', 1 from generate_series(1, ${people}) n;
  insert into ${s}.jit_invitations (id, organization_id, email, role, invited_at, expires_at)
    select 'i' || n, 'o' || n, n || '@x.example', 'member', 1, 2 from generate_series(1, ${people}) n;
  insert into ${s}.jit_removed select 'h' || n, 1 from generate_series(1, ${people}) n;
  insert into ${s}.jit_seals select n, '', '', 1 from generate_series(1, ${people} / 10) n;
  insert into ${s}.jit_changes
    select 'c' || n, n, case when n <= ${people} - 20 then 1 + n / 10 end,
        case when n <= ${people} - 20 then n % 10 end
      from generate_series(1, ${people}) n;
  insert into ${s}.jit_events
    select 'c' || n, seq, n, case when n % 4000 = 7 then 'revoked' else 'granted' end, n * 1000::bigint,
        'u' || n % 5000, 'o' || n % 1000, 'connection:c' || n % 1000, 'correlation', 'administered',
        jsonb_build_object('source', 'sso:c' || n % 1000)
      from generate_series(1, ${people}) n, generate_series(0, 1) seq;
  insert into ${s}.jit_deliveries
    select 'hook', 'c' || n, 'u' || n % 20, 1 + n / 10, n % 10,
        case when n <= ${people} - 60 then 'delivered' else 'pending' end, 0, (n % 2) * 1000
      from generate_series(1, ${people}) n;
  insert into ${s}.jit_deliveries
    select endpoint, 'c' || n, 'u' || n, 1 + n / 10, n % 10, 'pending', 0,
        case when endpoint = 'away' and n < 5000 then 1e12 else 1 end
      from generate_series(1, 5000) n, unnest(array['away', 'back']) endpoint order by md5(n::text);
  analyze;`

await onPostgres(({ open, closeAll, freshSchema }) => {
  const schema = freshSchema()
  let pool: Pool
  let store: Store
  beforeAll(async () => {
    pool = open(undefined, 1)
    store = postgresStore({ pool, schema })
    await store.migrate()
    await pool.query(crowd(schema))
  })
  afterAll(closeAll)

  /** The pages of tables and indexes that the statements of some work touch, with their plans for a failure. */
  async function touched(work: () => Promise<unknown>) {
    const asked: QueryConfig[] = []
    const query = pool.query as (config: QueryConfig) => Promise<QueryResult>
    pool.query = ((config: QueryConfig) => {
      asked.push(config)
      return query.call(pool, config)
    }) as typeof pool.query
    await work().finally(() => {
      pool.query = query as typeof pool.query
    })
    let pages = 0
    const plans: string[] = []
    for (const { text, values } of asked) {
      // Rolled back, because what is explained is carried out.
      await pool.query('begin')
      const { rows } = await pool.query(`explain (analyze, buffers, costs off, timing off) ${text}`, values)
      await pool.query('rollback')
      const plan: string[] = rows.map((row) => row['QUERY PLAN'])
      const total = plan.find((line) => line.includes('Buffers:'))!
      for (const [, count] of total.matchAll(/(?:hit|read)=(\d+)/g)) pages += Number(count)
      plans.push(plan.join('\n'))
    }
    return { pages, plans: plans.join('\n\n') }
  }

  const identity = { source: 'connection:c8', issuer: 'issuer', subject: 's7' } as const
  const signIn = { ...identity, email: '7@x.example', organizations: ['o7'], hashes: ['h1', 'h2'] }
  const events = (query: EventQuery) => (store: Store) => store.events({ limit: 10, ...query })
  const reads: Record<string, (store: Store) => Promise<unknown>> = {
    'load, a sign-in': (store) => store.load(signIn),
    'load, an unverified address': (store) => store.load({ ...nobody, email: '7@y.example' }),
    'load, every key': (store) => store.load({ ...signIn, user: 'u9', invitation: 'i9' }),
    user: (store) => store.user('u7'),
    users: (store) => store.users({ limit: 5, after: 'u5' }),
    'invitations of an organization': (store) => store.invitations({ organization: 'o7' }),
    'asserted identities of a source': (store) =>
      store.asserted({ source: identity.source, organization: 'o7', limit: 5, after: '["issuer","s5"]' }),
    events: events({}),
    'events of a user': events({ user: 'u7' }),
    'events of a user, from long ago': events({ user: 'u7', from: 1, to: 8_000_000 }),
    'events of an organization': events({ organization: 'o7' }),
    'events of an organization, from long ago': events({ organization: 'o7', from: 1, to: 8_000_000 }),
    'events of a source': events({ source: 'connection:c7' }),
    'events of a moment long ago': events({ from: 5_000_000, to: 5_010_000 }),
    'events before a moment long ago': events({ to: 17_000_000 }),
    'events, another page': events({ after: 'c5000' }),
    'events of nobody': events({ user: 'nobody' }),
    'changes without a seal': (store) => store.trail.unsealed(10),
    seals: (store) => store.trail.sealed(500, 2),
    revocations: (store) => store.trail.revocations(0),
    'deliveries to make': (store) => store.outbox.take({ endpoint: 'hook', now: 500, lease: 0, limit: 5 }),
    'deliveries to a receiver that is back': (store) =>
      store.outbox.take({ endpoint: 'back', now: 500, lease: 0, limit: 3 }),
    'deliveries to a receiver that is away': (store) =>
      store.outbox.take({ endpoint: 'away', now: 500, lease: 0, limit: 10 }),
    'deliveries, another page': (store) =>
      store.outbox.deliveries({ endpoint: 'hook', limit: 10, after: '["hook","c5000"]' }),
    'deliveries that are dead': (store) => store.outbox.deliveries({ state: 'dead', limit: 10 }),
  }

  describe('a read touches a few pages of the thousands there are', () => {
    test.each(Object.entries(reads))('%s', async (_, read) => {
      const { pages, plans } = await touched(() => read(store))
      expect(pages, plans).toBeGreaterThan(0)
      expect(pages, plans).toBeLessThan(100)
    })

    test('and so few that reading one of their tables is more', async () => {
      const { rows } = await pool.query(
        `select relname, relpages from pg_class where relkind = 'r' and relnamespace = $1::regnamespace
         and reltuples >= $2 order by relpages limit 1`,
        [schema, people],
      )
      expect(rows[0].relpages, rows[0].relname).toBeGreaterThan(100)
    })
  })

  test('a load and a user are planned once for each connection, whatever they are asked', async () => {
    const { major } = (
      await pool.query(`select current_setting('server_version_num')::integer / 10000 as major`)
    ).rows[0]
    // The server tells from version 14 on.
    if (major < 14) return
    await pool.query('deallocate all')
    const fresh = open(undefined, 1)
    const store = postgresStore({ pool: fresh, schema })
    const queries = [
      signIn,
      { ...signIn, organizations: ['o7', 'o8'] },
      { ...signIn, organizations: [] },
      { ...signIn, hashes: [] },
      { ...signIn, email: null },
      { ...nobody, user: 'u7' },
    ]
    for (const query of queries) for (let turn = 0; turn < 20; turn++) await store.load(query)
    for (let turn = 0; turn < 20; turn++) await store.user('u7')
    const { rows } = await fresh.query(
      `select name, custom_plans from pg_prepared_statements where name like 'jit_%'`,
    )
    expect(rows).toHaveLength(4)
    // The first five are planned for their values, to compare.
    for (const row of rows) expect(row).toMatchObject({ custom_plans: '5' })
  })
})
