import { randomUUID } from 'node:crypto'
import { JitError } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { storeContract } from 'passport-jit/testing'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  change,
  connectionPut,
  event,
  foundation,
  organizationPut,
  saml,
  userCreate,
  world,
} from '../contract/store-world.js'
import { needs, type PostgresService, postgres } from '../rig/services.js'
import { tcpProxy } from '../rig/tcp-proxy.js'

needs('PostgreSQL', await postgres(), (service) => {
  let database: Awaited<ReturnType<PostgresService['freshDatabase']>>
  beforeAll(async () => {
    database = await service.freshDatabase()
  })
  afterAll(() => database.drop())

  const pools: Pool[] = []
  const open = (url = database.url, max = 10) => {
    const pool = new Pool({ connectionString: url, max })
    // A connection that is cut while idle is an event; without a listener it would end the process.
    pool.on('error', () => {})
    pools.push(pool)
    return pool
  }
  const closeAll = async () => {
    await Promise.all(pools.splice(0).map((pool) => pool.end()))
  }
  const freshSchema = () => `s_${randomUUID().slice(0, 8)}`

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
          events: () => store.events(),
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
      // Not through the client: a transaction sees the activity as it first saw it.
      const blocked = async () => {
        const { rows } = await pool.query(
          `select count(*)::integer as count from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock'`,
        )
        return rows[0].count
      }
      await expect.poll(blocked, { timeout: 10_000 }).toBe(1)
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
