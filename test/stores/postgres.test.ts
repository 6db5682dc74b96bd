import { randomUUID } from 'node:crypto'
import { JitError, type Operation, type Store } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { storeContract } from 'passport-jit/testing'
import type { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { migrations } from '../../stores/postgres-migrations.js'
import {
  change,
  connectionPut,
  event,
  foundation,
  landed,
  organizationPut,
  saml,
  userCreate,
  world,
} from '../contract/store-world.js'
import { tcpProxy } from '../rig/tcp-proxy.js'
import { onPostgres } from './postgres-database.js'

await onPostgres((database) => {
  const { open, closeAll, freshSchema, waiting } = database

  test('anything but a pool is refused', () => {
    expect(() => postgresStore({ pool: undefined as never })).toThrow('postgresStore({ pool })')
  })

  describe('contract', () => {
    // Each test has a schema of its own; the connections are shared, because making them takes longest.
    const instances: Pool[] = []
    beforeAll(() => {
      instances.push(open(), open())
    })
    afterAll(closeAll)
    storeContract({
      describe,
      test,
      factory: async () => {
        const schema = freshSchema()
        return {
          store: postgresStore({ pool: instances[0]!, schema }),
          another: async () => postgresStore({ pool: instances[1]!, schema }),
          close: async () => {
            await instances[0]!.query(`drop schema if exists ${schema} cascade`)
          },
        }
      },
    })
  })

  describe('on the wire', () => {
    const proxied = async (max = 1) => {
      const proxy = await tcpProxy({
        host: new URL(database.url).hostname,
        port: Number(new URL(database.url).port),
      })
      const direct = postgresStore({ pool: open(), schema: 'wire' })
      await direct.migrate()
      const pool = open(proxy.through(database.url), max)
      const store = postgresStore({ pool, schema: 'wire' })
      const close = async () => {
        await closeAll()
        await proxy.close()
      }
      return { proxy, direct, pool, store, close }
    }

    test('load, user and commit are one round trip each, the first on a connection too', async () => {
      const { proxy, pool, store, close } = await proxied()
      await pool.query('select 1')
      const person = { ...saml, subject: 'nobody', email: 'nobody@acme.example', organizations: ['acme'] }
      for (const round of ['cold', 'warm']) {
        for (const [name, work] of Object.entries({
          load: () => store.load(person),
          user: () => store.user('nobody'),
          commit: () => store.commit(change(`${round} ${randomUUID()}`, { ops: [userCreate(randomUUID())] })),
          conflict: () => store.commit(change('missed', { expect: [{ user: 'nobody', version: 1 }] })),
          users: () => store.users(),
          invitations: () => store.invitations({ organization: 'acme' }),
          asserted: () => store.asserted({ ...saml, organization: 'acme' }),
          events: () => store.events({ user: 'nobody', source: saml.source, from: 1 }),
          unsealed: () => store.trail.unsealed(10),
          seal: () => store.trail.seal({ number: 1, previous: '', hash: '', at: 1 }, ['none'], []),
          take: () => store.outbox.take({ endpoint: 'hook', now: 1, lease: 1, limit: 1 }),
        })) {
          proxy.resetCounters()
          await work()
          expect([round, name, proxy.flights, proxy.roundTrips]).toEqual([round, name, 1, 1])
        }
      }
      expect(proxy.connections).toBe(0)
      await close()
    })

    test('a commit whose answer is lost has landed, and lands no second time', async () => {
      const { proxy, direct, pool, store, close } = await proxied()
      const before = (await direct.users({ limit: 1000 })).rows.length
      const user = randomUUID()
      const changes = change(user, {
        ops: [userCreate(user, { verifiedEmail: `${user}@acme.example` })],
        events: [event(user, 0, { type: 'created', user })],
      })
      const swallowed = proxy.swallowReply((bytes) => bytes.includes(user))
      await pool.query('select 1')
      await expect(store.commit(changes)).rejects.toThrow()
      await swallowed

      expect((await store.user(user))?.user.verifiedEmail).toBe(`${user}@acme.example`)
      expect(await store.commit(changes)).toEqual({
        committed: false,
        conflict: { kind: 'key', key: 'user' },
      })
      expect((await direct.users({ limit: 1000 })).rows.length).toBe(before + 1)
      expect((await direct.events()).rows.filter((row) => row.change === user)).toHaveLength(1)
      await close()
    })

    test('a commit that never reached the server has not landed, and is thrown', async () => {
      const { proxy, direct, pool, store, close } = await proxied()
      const user = randomUUID()
      const changes = change(user, { ops: [userCreate(user)] })
      await pool.query('select 1')
      proxy.stall()
      const commit = store.commit(changes)
      proxy.reset()
      await expect(commit).rejects.toThrow()
      proxy.resume()
      expect(await direct.user(user)).toBe(null)
      expect(await store.commit(changes)).toEqual({ committed: true })
      await close()
    })
  })

  describe('conflicts of the server itself are answered as busy', () => {
    test.each(['40001', '40P01', '55P03'])('SQLSTATE %s', async (code) => {
      const pool = open()
      const schema = freshSchema()
      const store = postgresStore({ pool, schema })
      await foundation(store)
      await pool.query(`create function ${schema}.refuse() returns trigger language plpgsql as
        $$ begin raise exception 'injected' using errcode = '${code}'; end $$`)
      await pool.query(`create trigger refuse before insert on ${schema}.jit_events
        for each row execute function ${schema}.refuse()`)
      const changes = change('c', { ops: [userCreate('u')], events: [event('c', 0)] })
      expect(await store.commit(changes)).toEqual({
        committed: false,
        conflict: { kind: 'busy', detail: `${code} injected` },
      })
      expect(await store.user('u')).toBe(null)
      await pool.query(`drop trigger refuse on ${schema}.jit_events`)
      expect(await store.commit(changes)).toEqual({ committed: true })
      await closeAll()
    })

    test('a session that is ended by the server is thrown, and nothing stays', async () => {
      const pool = open(database.url, 1)
      const schema = freshSchema()
      const store = postgresStore({ pool, schema })
      await foundation(store)
      await pool.query(`create function ${schema}.die() returns trigger language plpgsql as
        $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$`)
      await pool.query(`create trigger die before insert on ${schema}.jit_events
        for each row execute function ${schema}.die()`)
      const changes = change('c', { ops: [userCreate('u')], events: [event('c', 0)] })
      await expect(store.commit(changes)).rejects.toThrow(/terminat/)
      expect(await store.user('u')).toBe(null)
      await pool.query(`drop trigger die on ${schema}.jit_events`)
      expect(await store.commit(changes)).toEqual({ committed: true })
      await closeAll()
    })
  })

  describe('a guard holds until its change set lands', () => {
    const policies = {
      organization: {
        guard: { guard: 'organization', id: 'acme', version: 'v1' },
        put: organizationPut('acme', { version: 'v2' }),
      },
      connection: {
        guard: { guard: 'connection', id: 'acme-saml', version: 'v1' },
        put: connectionPut('acme-saml', 'acme', { version: 'v2' }),
      },
    } as const
    test.each(Object.entries(policies))('%s: a new policy waits, counting does not', async (_, policy) => {
      const pool = open()
      const schema = freshSchema()
      const store = postgresStore({ pool, schema })
      await foundation(store)
      const signIn = change('sign-in', { guards: [policy.guard], ops: [userCreate('u')] })
      const client = await pool.connect()
      await client.query('begin')
      await client.query(`select ${schema}.jit_commit($1::jsonb)`, [JSON.stringify(signIn)])

      const put = store.commit(change('put', { ops: [policy.put] }))
      const seat = { guard: 'seats', organization: 'acme', by: 1 } as const
      const joiner = change('joiner', { guards: [policy.guard, seat], ops: [userCreate('joiner')] })
      await expect.poll(waiting, { timeout: 10_000 }).toBe(1)
      if (policy.guard.guard === 'organization') {
        // Nobody holds the counters, so this one passes even the policy that waits.
        const counted = change('counted', { guards: [seat] })
        expect(await store.commit(counted)).toEqual({ committed: true })
      }
      await client.query('commit')
      client.release()
      expect(await put).toEqual({ committed: true })
      expect(await store.commit(joiner)).toEqual({
        committed: false,
        conflict: { kind: 'guard', guard: policy.guard },
      })
      expect((await store.users()).rows.map(({ id }) => id)).toEqual(['u'])
      await closeAll()
    })
  })

  test('an identity too long for the index is refused by name, and nothing stays', async () => {
    const store = postgresStore({ pool: open(), schema: freshSchema() })
    await foundation(store)
    // Random, so that the server cannot compress it below its limit of 2,704 bytes.
    const subject = Array.from({ length: 1_024 }, () =>
      String.fromCharCode(0x4e00 + Math.floor(Math.random() * 20_000)),
    ).join('')
    const link = { op: 'identity.link', user: 'u', ...saml, at: 1 } as const
    const changes = (subject: string) => change('c', { ops: [userCreate('u'), { ...link, subject }] })
    await expect(store.commit(changes(subject))).rejects.toMatchObject({ code: 'identity_invalid' })
    expect(await store.user('u')).toBe(null)
    expect(await store.commit(changes(subject.slice(0, 800)))).toEqual({ committed: true })
    await closeAll()
  })

  describe('migrating', () => {
    /** A schema as the release before left it, first in the search path of a pool. */
    const before = async () => {
      const schema = freshSchema()
      const pool = open(`${database.url}?options=${encodeURIComponent(`-c search_path=${schema}`)}`)
      await pool.query(`create schema ${schema}`)
      for (const [index, step] of migrations.slice(0, 2).entries()) {
        await pool.query(step)
        await pool.query('insert into jit_migrations (version) values ($1)', [index + 1])
      }
      return { pool, schema }
    }

    test('needs no right to change the schema when it is current', async () => {
      const schema = freshSchema()
      const owner = open()
      await world(postgresStore({ pool: owner, schema }))
      const role = `jit_test_${randomUUID().slice(0, 8)}`
      await owner.query(`create role ${role} login`)
      try {
        await owner.query(`grant usage on schema ${schema} to ${role};
          grant select, insert, update, delete on all tables in schema ${schema} to ${role};
          grant usage on all sequences in schema ${schema} to ${role}`)
        const url = new URL(database.url)
        url.username = role
        const store = postgresStore({ pool: open(url.href), schema })
        await store.migrate()
        expect(await store.commit(change('c', { ops: [userCreate('u')], events: [event('c', 0)] }))).toEqual({
          committed: true,
        })
        expect((await store.user('alice'))?.memberships).toHaveLength(2)
      } finally {
        await closeAll()
        const admin = open()
        await admin.query(`drop owned by ${role}; drop role ${role}`)
        await closeAll()
      }
    })

    test('refuses a schema that is newer, naming both versions', async () => {
      const schema = freshSchema()
      const pool = open()
      const store = postgresStore({ pool, schema })
      await store.migrate()
      await pool.query(`insert into ${schema}.jit_migrations (version) values (99)`)
      const refusal = await store.migrate().catch((error: unknown) => error)
      expect(refusal).toBeInstanceOf(JitError)
      expect(refusal).toMatchObject({
        code: 'config_invalid',
        message: expect.stringMatching(/version 99.*knows \d\b/),
      })
      await pool.query(`delete from ${schema}.jit_migrations where version = 99`)
      await store.migrate()
      await closeAll()
    })

    test('brings what the release before wrote up to date, once however many processes start', async () => {
      const { pool, schema } = await before()
      await pool.query(`
        insert into jit_organizations (id, version, name, status, seats_used, owners)
          values ('acme', 'v1', 'Acme', 'active', 6, 4), ('globex', 'v1', 'Globex', 'active', 0, 0);
        insert into jit_connections values ('acme-saml', 'acme', 'v1', true, 3);
        insert into jit_users (id, version, status, epoch, attributes, created_at)
          select name, 1, case when name = 'gone' then 'suspended' else 'active' end, 0, '{}', 1
            from unnest(array['alice', 'bob', 'carol', 'gone']) name;
        insert into jit_identities values ('connection:acme-saml', 'idp', 'alice', 'alice', 1);
        insert into jit_memberships values ('alice', 'acme', 'active', 1), ('bob', 'acme', 'suspended', 1),
          ('carol', 'acme', 'active', 1), ('gone', 'acme', 'active', 1), ('alice', 'globex', 'suspended', 1);
        insert into jit_grants select name, 'acme', 'owner', source, 'person', 1
          from unnest(array['alice', 'bob', 'gone']) name, unnest(array['manual', 'import:1']) source;
        insert into jit_tombstones values ('alice', 'acme', 'admin', 77);
        insert into jit_invitations values ('door', 'acme', 'erin@acme.example', 'member', 88, null);
        insert into jit_events (change_id, seq, position, type, at, correlation_id, reason, detail)
          values ('b', 1, 1, 'joined', 5, 'x', 'administered', '{}'),
            ('b', 0, 1, 'created', 5, 'x', 'administered', '{}'),
            ('a', 0, 2, 'denied', 6, 'y', 'seats_full', '{}');
        select setval('jit_events_position', 2);`)
      const stores = [open(), open(), open()].map((own) => postgresStore({ pool: own, schema }))
      await Promise.all(stores.map((store) => store.migrate()))
      const [store] = stores as [Store]
      const { organizations, byIdentity, asserted, invitations, connection } = await store.load({
        ...{ source: 'connection:acme-saml', issuer: 'idp', subject: 'alice', email: null },
        ...{ organizations: ['acme', 'globex'], invitation: 'door' },
      })
      expect(organizations.map(({ seatsUsed, owners }) => [seatsUsed, owners])).toEqual([
        [3, 1],
        [0, 0],
      ])
      const { rows: users } = await store.users()
      expect(
        users.flatMap(({ id, memberships }) => memberships.map((own) => [id, own.organization, own.seat])),
      ).toEqual([
        ['alice', 'acme', true],
        ['alice', 'globex', false],
        ['bob', 'acme', false],
        ['carol', 'acme', true],
        ['gone', 'acme', true],
      ])
      expect(asserted).toBe(null)
      expect(byIdentity?.tombstones).toEqual([{ organization: 'acme', role: 'admin', at: 77 }])
      expect(connection).toMatchObject({ epoch: 3, held: null })
      expect(invitations).toMatchObject([{ id: 'door', at: 88 }])
      expect(new Date(invitations[0]!.expiresAt).getFullYear()).toBe(275760)
      expect(await store.trail.unsealed(10)).toMatchObject({
        last: null,
        changes: [
          [
            { change: 'b', seq: 0, actor: null },
            { change: 'b', seq: 1, actor: null },
          ],
          [{ change: 'a', seq: 0, actor: null }],
        ],
      })
      const denied = change('a', { events: [event('a', 1)] })
      expect(await store.commit(denied)).toEqual({
        ...{ committed: false, conflict: { kind: 'key', key: 'change' } },
      })
      expect(await Promise.all(stores.map((one) => one.hashKey()))).toEqual([
        await store.hashKey(),
        await store.hashKey(),
        await store.hashKey(),
      ])
      await closeAll()
    })

    test('a process of the release before may go on: without a word on seats they follow the status', async () => {
      const store = postgresStore({ pool: open(), schema: freshSchema() })
      await foundation(store)
      const of = { user: 'u', organization: 'acme' } as const
      const op = (parts: object) => parts as Operation
      const seat = async () => (await store.user('u'))?.memberships[0]?.seat
      const create = op({ op: 'membership.create', ...of, status: 'active', at: 1 })
      await landed(store.commit(change('in', { ops: [userCreate('u'), create] })))
      expect(await seat()).toBe(true)
      for (const status of ['suspended', 'active']) {
        await landed(store.commit(change(status, { ops: [op({ op: 'membership.update', ...of, status })] })))
        expect(await seat()).toBe(status === 'active')
      }
      await closeAll()
    })

    test('is done again where a commit of the release before was in its way', async () => {
      const { pool, schema } = await before()
      const other = await pool.connect()
      await other.query(`set deadlock_timeout = '60s'; begin; select from jit_invitations`)
      const migrating = open(`${database.url}?options=${encodeURIComponent('-c deadlock_timeout=3s')}`)
      const store = postgresStore({ pool: migrating, schema })
      const migrated = store.migrate()
      await expect.poll(waiting, { timeout: 10_000 }).toBe(1)
      // Waits for the tables that are being changed, which wait for the invitations.
      await other.query('select from jit_memberships')
      await other.query('commit')
      await migrated
      other.release(true)
      expect((await store.users()).rows).toEqual([])
      await closeAll()
    })

    test('the hash key is never made anew', async () => {
      const schema = freshSchema()
      const pool = open()
      const store = postgresStore({ pool, schema })
      await store.migrate()
      const { rows } = await pool.query(`delete from ${schema}.jit_hash_key returning key`)
      await store.migrate()
      await expect(store.hashKey()).rejects.toMatchObject({ code: 'config_invalid' })
      await pool.query(`insert into ${schema}.jit_hash_key (key) values ($1)`, [rows[0].key])
      expect(await store.hashKey()).toBe(rows[0].key)
      await closeAll()
    })

    test('leaves nothing behind when it fails, and its connection is not reused', async () => {
      const schema = freshSchema()
      const pool = open(database.url, 1)
      const store = postgresStore({ pool, schema })
      await pool.query(`create schema ${schema}; create table ${schema}.jit_events (x integer)`)
      await expect(store.migrate()).rejects.toThrow(/jit_events/)
      const { rows } = await pool.query('select tablename from pg_tables where schemaname = $1', [schema])
      expect(rows).toEqual([{ tablename: 'jit_events' }])
      await pool.query(`drop table ${schema}.jit_events`)
      await foundation(store)
      await closeAll()
    })

    test('quotes the name of the schema', async () => {
      const pool = open()
      const schema = `My "odd" schema; drop ${randomUUID().slice(0, 4)}`
      const store = postgresStore({ pool, schema })
      await world(store)
      expect((await store.user('alice'))?.user.id).toBe('alice')
      await closeAll()
    })
  })

  test('two stores in two schemas share a pool', async () => {
    const pool = open(database.url, 1)
    const one = postgresStore({ pool, schema: freshSchema() })
    const other = postgresStore({ pool, schema: freshSchema() })
    await world(one)
    await foundation(other)
    expect((await one.user('alice'))?.user.id).toBe('alice')
    expect(await other.user('alice')).toBe(null)
    await closeAll()
  })
})
