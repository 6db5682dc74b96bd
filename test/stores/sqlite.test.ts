import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { JitError } from 'passport-jit'
import { type SqliteStore, sqliteStore } from 'passport-jit/stores/sqlite'
import { storeContract } from 'passport-jit/testing'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { migrations } from '../../stores/sqlite-migrations.js'
import { recorded, sealOf } from '../contract/store-trail.js'
import {
  change,
  event,
  foundation,
  landed,
  nobody,
  saml,
  userCreate,
  world,
} from '../contract/store-world.js'
import { sqliteFixture } from '../rig/sqlite.js'

describe('sqlite, a file', () => {
  storeContract({
    describe,
    test,
    factory: sqliteFixture,
  })
})

describe('sqlite, in memory', () => {
  storeContract({
    describe,
    test,
    factory: async () => {
      const store = sqliteStore({ file: ':memory:' })
      return { store, another: async () => store, close: async () => store.close() }
    },
  })
})

describe('sqlite', () => {
  const directory = mkdtempSync(join(tmpdir(), 'jit-sqlite-'))
  afterAll(() => rmSync(directory, { recursive: true }))
  const fresh = () => join(directory, `${randomUUID()}.db`)

  test('a file keeps what was written', async () => {
    const file = fresh()
    const first = sqliteStore({ file })
    await world(first)
    first.close()
    const second = sqliteStore({ file })
    await second.migrate()
    expect((await second.user('alice'))?.memberships).toHaveLength(2)
    second.close()
  })

  test('a file that another process is writing to is a conflict, soon, and not for ever', async () => {
    const file = fresh()
    const store = sqliteStore({ file, busyTimeout: 50 })
    await foundation(store)
    const other = new Database(file)
    other.exec('begin immediate')
    const changes = change('c', { ops: [userCreate('u')] })
    expect(await store.commit(changes)).toEqual({
      committed: false,
      conflict: { kind: 'busy', detail: expect.stringContaining('locked') },
    })
    expect(await store.user('u')).toBe(null)
    other.exec('rollback')
    expect(await store.commit(changes)).toEqual({ committed: true })
    other.close()
    store.close()
  })

  test('migrating waits for another process that is at it, without blocking this one', async () => {
    const file = fresh()
    const other = new Database(file)
    other.exec('begin immediate')
    const store = sqliteStore({ file, busyTimeout: 10 })
    let done = false
    const migrated = store.migrate().then(() => {
      done = true
    })
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(done).toBe(false)
    other.exec('rollback')
    other.close()
    await migrated
    await world(store)
    expect((await store.users()).rows).toHaveLength(4)
    store.close()
  })

  test('a schema that is newer is refused, naming both versions', async () => {
    const file = fresh()
    const store = sqliteStore({ file })
    await store.migrate()
    const raw = new Database(file)
    raw.exec('insert into jit_migrations (version, applied_at) values (99, 0)')
    const refusal = await store.migrate().catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(JitError)
    expect(refusal).toMatchObject({
      code: 'config_invalid',
      message: expect.stringMatching(/version 99.*knows \d\b/),
    })
    raw.exec('delete from jit_migrations where version = 99')
    await store.migrate()
    raw.close()
    store.close()
  })

  test('a migration that fails leaves nothing behind', async () => {
    const file = fresh()
    const raw = new Database(file)
    raw.exec('create table jit_events (x integer)')
    const store = sqliteStore({ file })
    await expect(store.migrate()).rejects.toThrow(/jit_events/)
    expect(raw.prepare('select name from sqlite_master').all()).toEqual([{ name: 'jit_events' }])
    raw.exec('drop table jit_events')
    await foundation(store)
    raw.close()
    store.close()
  })

  test('a file of the step before seats and seals keeps all, and comes out right', async () => {
    const file = fresh()
    const raw = new Database(file)
    for (const [index, step] of migrations.slice(0, 2).entries()) {
      raw.exec(step)
      raw.exec(`insert into jit_migrations (version, applied_at) values (${index + 1}, 0)`)
    }
    raw.exec(`
      insert into jit_organizations (id, version, name, status, seat_limit, seats_used, owners) values
        ('acme', 'v1', 'Acme', 'active', 9, 7, 7), ('globex', 'v1', 'Globex', 'active', null, 3, 3),
        ('initech', 'v1', 'Initech', 'active', null, 2, 1);
      insert into jit_connections (id, organization_id, version, enabled, epoch) values
        ('acme-saml', 'acme', 'v1', 1, 4), ('globex-oidc', 'globex', 'v1', 1, 0);
      insert into jit_users (id, version, status, epoch, attributes, created_at) values
        ('alice', 1, 'active', 0, '{}', 0), ('bob', 1, 'active', 0, '{}', 0),
        ('carol', 1, 'suspended', 0, '{}', 0), ('dave', 1, 'active', 0, '{}', 0);
      insert into jit_identities (source, issuer, subject, user_id, linked_at) values
        ('connection:acme-saml', 'https://idp.acme.example', 'alice', 'alice', 0);
      insert into jit_memberships (user_id, organization_id, status, joined_at) values
        ('alice', 'acme', 'active', 0), ('bob', 'acme', 'active', 0), ('carol', 'acme', 'active', 0),
        ('dave', 'acme', 'suspended', 0), ('alice', 'globex', 'suspended', 0), ('bob', 'globex', 'active', 0);
      insert into jit_grants (user_id, organization_id, role, source, basis, granted_at) values
        ('alice', 'acme', 'owner', 'manual', 'person', 0), ('alice', 'acme', 'owner', 'import:1', 'person', 0),
        ('bob', 'acme', 'member', 'sso:acme-saml', 'default', 0),
        ('carol', 'acme', 'owner', 'manual', 'person', 0), ('dave', 'acme', 'owner', 'manual', 'person', 0),
        ('alice', 'globex', 'owner', 'manual', 'person', 0), ('bob', 'globex', 'member', 'manual', 'person', 0);
      insert into jit_tombstones (user_id, organization_id, role, removed_at) values ('bob', 'globex', 'admin', 5);
      insert into jit_invitations (id, organization_id, email, role, invited_at, taken_by) values
        ('pending', 'acme', 'erin@acme.example', 'member', 5, null),
        ('taken', 'acme', 'erin@acme.example', 'member', 5, 'bob');
      insert into jit_entries (kind, id, organization_id, version, entry, position) values
        ('organization', 'acme', 'acme', 'v1', '{}', 1), ('connection', 'acme-saml', 'acme', 'v1', '{}', 2);
      insert into jit_domains (pattern, organization_id) values ('acme.example', 'acme');
      insert into jit_events (change_id, seq, position, type, at, user_id, correlation_id, reason, detail) values
        ('z', 0, 1, 'created', 5, 'alice', 'c', 'administered', '{"a":1}'),
        ('z', 1, 1, 'linked', 5, 'alice', 'c', 'administered', '{}'),
        ('a', 0, 2, 'created', 6, 'bob', 'c', 'administered', '{}');
    `)
    const store = sqliteStore({ file })
    await store.migrate()

    const { organizations, connection, byIdentity, invitations } = await store.load({
      ...{ ...nobody, ...saml, subject: 'alice', email: 'erin@acme.example' },
      organizations: ['acme', 'globex', 'initech'],
    })
    expect(organizations.map(({ id, seatsUsed, owners }) => [id, seatsUsed, owners])).toEqual([
      ['acme', 3, 1],
      ['globex', 1, 0],
      ['initech', 0, 0],
    ])
    expect(connection).toEqual({
      ...{ id: 'acme-saml', organization: 'acme', version: 'v1', enabled: true, epoch: 4, held: null },
    })
    expect(byIdentity?.memberships.map(({ organization, seat }) => [organization, seat])).toEqual([
      ['acme', true],
      ['globex', false],
    ])
    expect(byIdentity?.memberships[0]?.grants).toHaveLength(2)
    expect(invitations).toEqual([
      {
        ...{ id: 'pending', organization: 'acme', email: 'erin@acme.example', role: 'member', at: 5 },
        expiresAt: 8_640_000_000_000_000,
      },
    ])
    expect(
      (await store.load({ ...nobody, user: 'bob', organizations: ['globex'] })).byId?.tombstones,
    ).toEqual([{ organization: 'globex', role: 'admin', at: 5 }])

    const created = event('a', 0, { type: 'created', at: 6, user: 'bob', correlationId: 'c' })
    await landed(store.commit(change('new', { events: [event('new', 0)] })))
    const { last, changes } = await store.trail.unsealed(10)
    expect(last).toBe(null)
    expect(changes.map((events) => events.map((e) => `${e.change}.${e.seq}`))).toEqual([
      ['z.0', 'z.1'],
      ['a.0'],
      ['new.0'],
    ])
    expect(changes[1]).toEqual([created])
    const again = change('z', { events: [event('z', 7)] })
    expect(await store.commit(again)).toMatchObject({ conflict: { kind: 'key', key: 'change' } })

    const { position } = await store.entries.changes(0)
    expect(position).toBe(2)
    await landed(store.commit(change('gone', { ops: [{ op: 'connection.remove', id: 'acme-saml' }] })))
    expect(await store.entries.changes(position)).toEqual({
      ...{ position: 3, ids: ['acme-saml', 'acme'], domains: ['acme.example'] },
    })
    const hashKey = await store.hashKey()
    await store.migrate()
    expect(await store.hashKey()).toBe(hashKey)
    expect(raw.prepare('pragma foreign_key_check').all()).toEqual([])
    raw.close()
    store.close()
  })

  test('what was changed behind the store shows in what is sealed', async () => {
    const file = fresh()
    const store = sqliteStore({ file })
    await foundation(store)
    await recorded(store, 'a', 'b')
    expect(await store.trail.seal(sealOf(1), ['a', 'b'], [])).toBe(true)
    const before = (await store.trail.sealed(0, 1))[0]!.changes
    const raw = new Database(file)
    raw.exec(`update jit_events set user_id = 'mallory' where change_id = 'a' and seq = 0`)
    raw.exec(`delete from jit_events where change_id = 'b'`)
    raw.close()
    const after = (await store.trail.sealed(0, 1))[0]!.changes
    expect(after).toEqual([[{ ...before[0]![0], user: 'mallory' }, before[0]![1]], []])
    store.close()
  })

  test('what waits behind a delivery is due with it, and at once when that is done', async () => {
    const store = sqliteStore({ file: fresh() })
    await foundation(store)
    const ids = ['a', 'b', 'other']
    await recorded(store, ...ids)
    const subject = (id: string) => (id === 'other' ? 'other' : 'alice')
    const deliveries = ids.map((id) => ({ endpoint: 'hook', change: id, subject: subject(id) }))
    await store.trail.seal({ ...sealOf(1), at: 0 }, ids, deliveries)
    const { outbox } = store
    const due = async () => {
      const { rows } = await outbox.deliveries({})
      return Object.fromEntries(rows.map((row) => [row.change, row.dueAt]))
    }
    const take = (now: number) => outbox.take({ endpoint: 'hook', now, lease: 50, limit: 1 })
    const settle = (change: string, attempts: number, state: 'pending' | 'dead', at: number, dueAt: number) =>
      outbox.settle({ endpoint: 'hook', change, attempts, state, error: null, at, dueAt })
    expect(await take(1)).toMatchObject([{ change: 'a' }])
    expect(await settle('a', 1, 'pending', 2, 1_000)).toBe(true)
    expect(await due()).toEqual({ a: 1_000, b: 1_000, other: 0 })
    expect(await take(1_000)).toMatchObject([{ change: 'a' }])
    expect(await settle('a', 2, 'dead', 900, 900)).toBe(true)
    expect(await due()).toEqual({ a: 900, b: 900, other: 0 })
    await take(900)
    // The claim of one that is under way stays, and so does the pause of one that failed.
    expect(await outbox.again('hook', 'a', 901)).toBe(true)
    expect(await take(901)).toMatchObject([{ change: 'a' }])
    expect(await settle('a', 3, 'pending', 902, 2_000)).toBe(true)
    expect(await due()).toEqual({ a: 2_000, b: 950, other: 0 })
    store.close()
  })

  test('asking in vain for deliveries does not wait for another process that writes', async () => {
    const file = fresh()
    const store = sqliteStore({ file, busyTimeout: 10 })
    await foundation(store)
    const query = { endpoint: 'hook', now: 1e15, lease: 1, limit: 10 }
    const other = new Database(file)
    other.exec('begin immediate')
    expect(await store.outbox.take(query)).toEqual([])
    other.exec('rollback')
    await recorded(store, 'a')
    const deliveries = [{ endpoint: 'hook', change: 'a', subject: 'a' }]
    other.exec('begin immediate')
    await expect(store.trail.seal(sealOf(1), ['a'], deliveries)).rejects.toThrow(/locked/)
    other.exec('rollback')
    expect(await store.trail.seal(sealOf(1), ['a'], deliveries)).toBe(true)
    other.exec('begin immediate')
    await expect(store.outbox.take(query)).rejects.toThrow(/locked/)
    other.exec('rollback')
    expect(await store.outbox.take(query)).toMatchObject([{ change: 'a', attempts: 1 }])
    other.close()
    store.close()
  })

  const hook = { endpoint: 'hook' }
  /** Read in their order, and no further than the limit. */
  const inOrder = [
    'SCAN json_each VIRTUAL TABLE INDEX 1:',
    'SCAN jit_seals',
    'SCAN jit_events USING COVERING INDEX jit_events_position_idx',
    'SCAN jit_changes USING INDEX jit_changes_unsealed_idx',
  ]
  test.each<[string, (store: SqliteStore) => Promise<unknown>, RegExp, sorted?: true]>([
    ['events', (store) => store.events(), /jit_events_position_idx/],
    ['events of a user', (store) => store.events({ user: 'alice', after: 'world' }), /jit_events_user_idx/],
    [
      'events of an organization',
      (store) => store.events({ organization: 'acme', type: 'joined' }),
      /jit_events_organization_idx/,
    ],
    ['events of a source', (store) => store.events({ source: saml.source }), /jit_events_source_idx/],
    [
      'events of a user in a time',
      (store) => store.events({ user: 'alice', from: 1, to: 2 }),
      /jit_events_user_idx/,
    ],
    ['events of a time', (store) => store.events({ from: 1, to: 2 }), /jit_events_at_idx/, true],
    ['unsealed', (store) => store.trail.unsealed(10), /jit_changes_unsealed_idx/],
    ['sealed', (store) => store.trail.sealed(0, 10), /jit_changes_sealed_idx/],
    [
      'revocations',
      (store) => store.trail.revocations(0),
      /jit_events_synced_off_idx.*jit_grants_sso_idx/,
      true,
    ],
    [
      'take',
      (store) => store.outbox.take({ ...hook, now: 1e15, lease: 1, limit: 10 }),
      /jit_deliveries_pending_idx.*jit_deliveries_subject_idx/,
    ],
    ['dead deliveries', (store) => store.outbox.deliveries({ state: 'dead' }), /jit_deliveries_dead_idx/],
    [
      'invitations',
      (store) => store.invitations({ organization: 'acme' }),
      /jit_invitations_organization_idx/,
    ],
    [
      'load',
      (store) => store.load({ ...nobody, email: 'a@acme.example' }),
      /jit_invitations_email_idx/,
      true,
    ],
    [
      'asserted',
      (store) => store.asserted({ source: saml.source, organization: 'acme' }),
      /jit_identities USING PRIMARY KEY \(source=\? AND \(?issuer/,
    ],
  ])('%s are read by an index alone', async (_, read, index, sorted) => {
    const store = sqliteStore({ file: fresh() })
    await world(store)
    await recorded(store, 'a')
    const deliveries = [{ ...hook, change: 'a', subject: 'a' }]
    expect(await store.trail.seal(sealOf(1), ['world', 'a'], deliveries)).toBe(true)
    const prepare = vi.spyOn(Database.prototype, 'prepare')
    await read(store)
    const texts = prepare.mock.calls.map(([text]) => text)
    const db = prepare.mock.contexts[0] as Database.Database
    prepare.mockRestore()
    const plan = texts.flatMap((text) =>
      db
        .prepare(`explain query plan ${text}`)
        .all()
        .map((row) => (row as { detail: string }).detail),
    )
    expect(plan.join('; ')).toMatch(index)
    expect(plan.filter((detail) => detail.startsWith('SCAN') && !inOrder.includes(detail))).toEqual([])
    if (!sorted) expect(plan.filter((detail) => /TEMP B-TREE/.test(detail))).toEqual([])
    store.close()
  })

  test('a file that cannot be opened is a coded error that names it', () => {
    const file = join(directory, 'missing', 'jit.db')
    expect(() => sqliteStore({ file })).toThrow(
      expect.objectContaining({ code: 'config_invalid', message: expect.stringContaining(file) }),
    )
    sqliteStore({ file: fresh() }).close()
  })

  test.each([
    ['a boolean', true],
    ['an object', { id: 'u' }],
    ['a list', ['u']],
    ['nothing', undefined],
    ['a number that is none', Number.NaN],
    ['a text with a NUL', 'u\0'],
  ])('%s for an id is thrown, and the process lives on', async (_, id) => {
    const store = sqliteStore({ file: ':memory:' })
    await foundation(store)
    await expect(store.user(id as string)).rejects.toThrow(TypeError)
    await expect(store.commit(change('c', { ops: [userCreate(id as string)] }))).rejects.toThrow(TypeError)
    expect((await store.users()).rows).toEqual([])
    expect(await store.commit(change('c', { ops: [userCreate('u')] }))).toEqual({ committed: true })
    store.close()
  })
})
