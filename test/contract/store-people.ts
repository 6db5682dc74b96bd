import assert from 'node:assert/strict'
import type { LoadQuery, Operation, OrganizationFacts, Store } from 'passport-jit'
import { canonical, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { at, change, github, landed, nobody, saml, userCreate, world } from './store-world.js'

const same = (actual: unknown, expected: unknown) => assert.deepEqual(canonical(actual), canonical(expected))

/** Tier one, continued: what is known of people besides their accounts, and how they go. */
export function people(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const inWorld = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await world(store)
      await body(store)
    })
  let turn = 0
  const write = (store: Store, ...ops: Operation[]) =>
    landed(store.commit(change(`write ${turn++}`, { ops })))
  const load = (store: Store, query: Partial<LoadQuery>) => store.load({ ...nobody, ...query })
  const organization = async (store: Store, id: string): Promise<OrganizationFacts> =>
    (await load(store, { organizations: [id] })).organizations[0]!

  inWorld('load finds a user by id, with the named organizations only', async (store) => {
    const { byId } = await load(store, { user: 'alice', organizations: ['acme'] })
    const { byIdentity } = await load(store, { ...saml, subject: 'alice', organizations: ['acme'] })
    assert.equal(byId?.id, 'alice')
    same(byId, byIdentity)
    for (const user of ['Alice', 'nobody', 'ali%', '']) {
      assert.equal((await load(store, { user })).byId, null, user)
    }
  })

  inWorld('load with no key finds nothing', async (store) => {
    assert.deepEqual(await store.load({ email: null, organizations: [] }), {
      ...{ byIdentity: null, asserted: null, byId: null, byVerifiedEmail: null, byContactEmail: [] },
      ...{ organizations: [], connection: null, invitations: [], removed: [] },
    })
    for (const part of [
      { issuer: saml.issuer, subject: 'alice' },
      { source: saml.source, subject: 'alice' },
      { source: saml.source, issuer: saml.issuer },
    ]) {
      const found = await load(store, part)
      assert.deepEqual([found.byIdentity, found.asserted], [null, null], JSON.stringify(part))
    }
    assert.equal((await load(store, { source: saml.source })).connection?.id, 'acme-saml')
  })

  inWorld('load answers every key of a query at once', async (store) => {
    const found = await load(store, {
      ...{ ...saml, subject: 'bob', user: 'carol', email: 'alice@acme.example', invitation: 'pending' },
      hashes: ['hash of zoe'],
    })
    assert.deepEqual(
      [found.byIdentity?.id, found.byId?.id, found.byVerifiedEmail?.id, found.invitations.length],
      ['bob', 'carol', 'alice', 1],
    )
    assert.deepEqual(found.removed, [{ hash: 'hash of zoe', at }])
  })

  inWorld('hashes of who was removed are put, put again and removed', async (store) => {
    const removed = async (...hashes: string[]) => (await load(store, { hashes })).removed
    await write(store, { op: 'removed.put', hash: 'of yan', at: 1, organization: 'acme' })
    same(await removed('of yan', 'of nobody', 'hash of zoe'), [
      { hash: 'of yan', at: 1 },
      { hash: 'hash of zoe', at },
    ])
    await write(store, { op: 'removed.put', hash: 'of yan', at: 2 })
    assert.deepEqual(await removed('of yan'), [{ hash: 'of yan', at: 2 }])
    await write(store, { op: 'removed.remove', hash: 'of yan', until: 1, organization: 'acme' })
    assert.deepEqual(await removed('of yan'), [{ hash: 'of yan', at: 2 }])
    await write(store, { op: 'removed.remove', hash: 'of yan', until: 2 })
    assert.deepEqual(await removed('of yan'), [])
    await write(store, { op: 'removed.put', hash: 'of yan', at: 2 })
    await write(store, { op: 'removed.remove', hash: 'of yan' }, { op: 'removed.remove', hash: 'of nobody' })
    assert.deepEqual(await removed('of yan'), [])
    assert.deepEqual(await removed('hash of zoe', 'hash of zoe'), [{ hash: 'hash of zoe', at }])
    for (const hash of ['Hash of zoe', '%', '']) assert.deepEqual(await removed(hash), [], hash)
  })

  inWorld('a tombstone may be put again, later, and removed, with its role alone', async (store) => {
    const tombstones = async () =>
      (await load(store, { user: 'bob', organizations: ['acme', 'globex'] })).byId!.tombstones
    const of = { user: 'bob', organization: 'acme' } as const
    for (const moment of [1, 2]) {
      await write(
        store,
        { op: 'tombstone.put', ...of, role: null, at: moment },
        { op: 'tombstone.put', ...of, role: 'admin', at: moment + 10 },
        { op: 'tombstone.put', ...of, organization: 'globex', role: 'admin', at: moment },
      )
    }
    const admin = { organization: 'acme', role: 'admin', at: 12 }
    const elsewhere = { organization: 'globex', role: 'admin', at: 2 }
    same(await tombstones(), [{ organization: 'acme', role: null, at: 2 }, admin, elsewhere])
    await write(store, { op: 'tombstone.remove', ...of, role: null })
    same(await tombstones(), [admin, elsewhere])
    await write(
      store,
      { op: 'tombstone.remove', ...of, role: null },
      { op: 'tombstone.remove', ...of, role: 'member' },
      { op: 'tombstone.remove', ...of, user: 'nobody', role: 'admin' },
    )
    same(await tombstones(), [admin, elsewhere])
    await write(store, { op: 'tombstone.remove', ...of, role: 'admin' })
    same(await tombstones(), [elsewhere])
  })

  inWorld('user.remove takes the user with all that is theirs, and nothing else', async (store) => {
    const before = await store.users()
    const counters = [await organization(store, 'acme'), await organization(store, 'globex')]
    await landed(
      store.commit(
        change('remove', {
          expect: [{ user: 'alice', version: 1 }],
          ops: [{ op: 'user.remove', id: 'alice' }],
        }),
      ),
    )
    assert.equal(await store.user('alice'), null)
    same(
      (await store.users()).rows,
      before.rows.filter(({ id }) => id !== 'alice'),
    )
    for (const query of [
      { ...saml, subject: 'alice' },
      { ...github, subject: '4711' },
      { email: 'alice@acme.example' },
      { user: 'alice' },
    ]) {
      const found = await load(store, query)
      assert.deepEqual(
        [found.byIdentity, found.asserted, found.byVerifiedEmail, found.byId],
        [null, null, null, null],
      )
    }
    assert.deepEqual((await store.asserted({ source: github.source, organization: 'acme' })).rows, [])
    assert.deepEqual([await organization(store, 'acme'), await organization(store, 'globex')], counters)
    assert.equal((await store.events()).rows.length, 1)
    // Whoever comes with the same id, address or identity later starts from nothing.
    await write(
      store,
      userCreate('alice', { verifiedEmail: 'alice@acme.example' }),
      { op: 'identity.link', user: 'alice', ...saml, subject: 'alice', at },
      { op: 'membership.create', user: 'alice', organization: 'acme', status: 'active', seat: false, at },
    )
    const { byIdentity, asserted: digest } = await load(store, {
      ...{ ...saml, subject: 'alice', organizations: ['acme', 'globex', 'initech'] },
    })
    assert.equal(digest, null)
    assert.deepEqual([byIdentity?.tombstones, byIdentity?.identities.length], [[], 1])
    assert.deepEqual(byIdentity?.memberships, [
      { organization: 'acme', status: 'active', seat: false, grants: [] },
    ])
  })

  inWorld('user.remove frees what the guards beside it say', async (store) => {
    const guards = [
      { guard: 'seats', organization: 'acme', by: -1 },
      { guard: 'owners', organization: 'acme', by: -1 },
    ] as const
    const remove = change('remove', { guards, ops: [{ op: 'user.remove', id: 'alice' }] })
    assert.deepEqual(await store.commit(remove), {
      ...{ committed: false, conflict: { kind: 'guard', guard: guards[1] } },
    })
    assert.equal((await store.user('alice'))?.memberships.length, 2)
    await landed(store.commit(change('owner', { guards: [{ ...guards[1], by: 1 }] })))
    await landed(store.commit({ ...remove, id: 'remove again' }))
    const { seatsUsed, owners } = await organization(store, 'acme')
    assert.deepEqual([seatsUsed, owners], [1, 1])
  })

  inWorld('memberships move no counter', async (store) => {
    const before = await organization(store, 'acme')
    const of = { user: 'bob', organization: 'acme' } as const
    for (const op of [
      { op: 'membership.update', ...of, status: 'suspended', seat: false },
      { op: 'membership.update', ...of, status: 'active', seat: true },
      { op: 'grant.add', ...of, role: 'owner', source: 'manual', basis: 'person', at },
      { op: 'membership.remove', ...of },
      { op: 'membership.create', ...of, status: 'active', seat: true, at },
      { op: 'user.update', id: 'alice', set: { status: 'suspended' } },
    ] as const) {
      await write(store, op)
      assert.deepEqual(await organization(store, 'acme'), before, op.op)
    }
  })

  inWorld('user.claim frees a seat that was taken, and an owner who counted', async (store) => {
    const guard = { organization: 'acme', by: 10 }
    const guards = [
      { guard: 'seats', ...guard, by: 3 },
      { guard: 'owners', ...guard, by: 9 },
    ] as const
    await landed(store.commit(change('counters', { guards })))
    for (const [user, membership, seat, owner, seats, owners] of [
      ['active', 'active', true, true, 1, 1],
      ['active', 'active', true, false, 1, 0],
      ['active', 'active', false, true, 0, 1],
      ['active', 'suspended', false, true, 0, 0],
      ['suspended', 'active', true, true, 1, 0],
      ['active', 'suspended', true, false, 1, 0],
    ] as const) {
      const id = `claimed ${turn}`
      const of = { user: id, organization: 'acme' }
      const role = { role: 'owner', basis: 'person', at } as const
      await write(
        store,
        userCreate(id, { status: user }),
        { op: 'membership.create', ...of, status: membership, seat, at },
        { op: 'grant.add', ...of, ...role, role: 'member', source: 'manual' },
        ...(owner ? (['manual', 'import:1'] as const) : []).map(
          (source) => ({ op: 'grant.add', ...of, ...role, source }) as const,
        ),
      )
      const before = await organization(store, 'acme')
      await write(store, { op: 'user.claim', id, verifiedEmail: `${turn}@acme.example` })
      const after = await organization(store, 'acme')
      assert.deepEqual(
        [before.seatsUsed - after.seatsUsed, before.owners - after.owners],
        [seats, owners],
        JSON.stringify([user, membership, seat, owner]),
      )
      assert.deepEqual((await store.user(id))?.memberships, [])
    }
  })

  inWorld('why a grant was given is for the audit trail alone', async (store) => {
    const grant = { user: 'bob', organization: 'acme', role: 'admin', source: 'manual' } as const
    await write(store, { op: 'grant.add', ...grant, basis: 'person', at, because: 'rule' })
    const grants = async () => (await store.user('bob'))!.memberships[0]!.grants
    assert.deepEqual(await grants(), [{ role: 'admin', source: 'manual', basis: 'person' }])
    await write(store, { op: 'grant.remove', ...grant, because: 'another rule' })
    assert.deepEqual(await grants(), [])
  })

  check('the hash key is 32 random bytes, the same in all processes and from then on', async (fresh) => {
    await fresh.store.migrate()
    const hashKey = await fresh.store.hashKey()
    assert.match(hashKey, /^[\w-]{43}$/)
    assert.equal(Buffer.from(hashKey, 'base64url').toString('base64url'), hashKey)
    const another = await fresh.another()
    await another.migrate()
    assert.equal(await another.hashKey(), hashKey)
    assert.equal(await fresh.store.hashKey(), hashKey)
    const elsewhere = await factory()
    try {
      await elsewhere.store.migrate()
      assert.notEqual(await elsewhere.store.hashKey(), hashKey)
    } finally {
      await elsewhere.close()
    }
  })
}
