import assert from 'node:assert/strict'
import type { Asserted, LoadQuery, Operation, OrganizationFacts, Store } from 'passport-jit'
import { canonical, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import {
  asserted,
  at,
  change,
  connectionPut,
  github,
  invitationCreate,
  landed,
  nobody,
  saml,
  userCreate,
  world,
} from './store-world.js'

const same = (actual: unknown, expected: unknown) => assert.deepEqual(canonical(actual), canonical(expected))

/** Tier one, continued: what is known of people besides their accounts, and how they and their ways in go. */
export function people(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const inWorld = (name: string, body: (store: Store, fresh: StoreFixture) => Promise<void>) =>
    check(name, async (fresh) => {
      await world(fresh.store)
      await body(fresh.store, fresh)
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

  inWorld('load knows the digest of what an identity asserted last, and of no other', async (store) => {
    const digest = async (identity: Partial<LoadQuery>) => (await load(store, identity)).asserted
    const alice = { ...saml, subject: 'alice' }
    const assertion = { op: 'identity.assert', user: 'alice', ...alice, asserted } as const
    assert.equal(await digest({ ...github, subject: '4711' }), 'of alice')
    assert.equal(await digest(alice), null)
    await write(store, { ...assertion, digest: 'one' })
    assert.equal(await digest(alice), 'one')
    await write(store, { ...assertion, digest: 'two' })
    assert.equal(await digest(alice), 'two')
    assert.equal(await digest({ ...saml, subject: 'bob' }), null)
    assert.equal(await digest({ ...github, subject: '4711' }), 'of alice')
    await write(
      store,
      { op: 'identity.unlink', user: 'alice', ...alice },
      { op: 'identity.link', user: 'alice', ...alice, at },
    )
    assert.equal(await digest(alice), null)
  })

  inWorld(
    'what was asserted comes back as it was written, with its user in one organization',
    async (store) => {
      const profile = Object.fromEntries([
        ['name', `ž 漢 \u{1f511} '; drop table jit_users; -- $1 ? "\\`],
        ['__proto__', 'own'],
        ['long', 'x'.repeat(2048)],
      ])
      const values = Array.from({ length: 10_000 }, (_, index) => `group ${index}`)
      const last: Asserted = { email: null, emailVerified: 'no', profile, groups: { kind: 'listed', values } }
      const bob = { ...saml, subject: 'bob' }
      await write(
        store,
        { op: 'identity.assert', user: 'bob', ...bob, digest: 'first', asserted },
        { op: 'identity.assert', user: 'bob', ...bob, digest: 'last', asserted: last },
      )
      const { rows, next } = await store.asserted({ source: saml.source, organization: 'acme' })
      assert.equal(next, null)
      assert.deepEqual(
        rows.map(({ identity }) => identity),
        [bob],
      )
      assert.deepEqual(rows[0]!.asserted.groups, last.groups)
      assert.deepEqual(new Map(Object.entries(rows[0]!.asserted.profile)), new Map(Object.entries(profile)))
      assert.deepEqual([rows[0]!.asserted.email, rows[0]!.asserted.emailVerified], [null, 'no'])
      const { byIdentity } = await load(store, { ...bob, organizations: ['acme'] })
      assert.equal(rows[0]!.user.memberships.length, 1)
      same(rows[0]!.user, byIdentity)
      const elsewhere = await store.asserted({ source: github.source, organization: 'initech' })
      same(elsewhere.rows[0]!.asserted, asserted)
      assert.deepEqual(elsewhere.rows[0]!.user.memberships, [])
      assert.deepEqual(elsewhere.rows[0]!.user.tombstones, [{ organization: 'initech', role: null, at }])
    },
  )

  inWorld('who asserted something comes page by page, of one source', async (store) => {
    const subjects = Array.from({ length: 7 }, (_, index) => `s${index}`)
    for (const subject of [...subjects].reverse()) {
      const identity = { ...saml, subject, issuer: subject > 's3' ? 'https://other.example' : saml.issuer }
      await write(store, userCreate(subject), { op: 'identity.link', user: subject, ...identity, at })
      await write(store, { op: 'identity.assert', user: subject, ...identity, digest: subject, asserted })
    }
    for (const limit of [1, 2, 3, 7, 8]) {
      const seen: string[] = []
      let count = 0
      for (let after: string | undefined; ; count++) {
        const query = { source: saml.source, organization: 'acme', limit }
        const { rows, next } = await store.asserted({ ...query, ...(after !== undefined && { after }) })
        assert.ok(rows.length <= limit)
        seen.push(...rows.map(({ identity, user }) => `${identity.subject} of ${user.id}`))
        if (next === null) break
        after = next
      }
      assert.equal(count + 1, Math.ceil(7 / limit))
      assert.deepEqual(
        seen.sort(),
        subjects.map((subject) => `${subject} of ${subject}`),
      )
    }
    assert.deepEqual(await store.asserted({ source: 'connection:none', organization: 'acme' }), {
      ...{ rows: [], next: null },
    })
  })

  inWorld('load shows pending invitations of the address and the one that is named', async (store) => {
    const pending = { ...{ id: 'pending', organization: 'acme', email: 'erin@acme.example' }, role: 'member' }
    const times = { at, expiresAt: at + 1_000 }
    const unwanted = { ...pending, ...times, id: 'unwanted', organization: 'globex', at: at - 1 }
    const ids = async (query: Partial<LoadQuery>) =>
      (await load(store, query)).invitations.map(({ id }) => id)
    assert.deepEqual((await load(store, { email: 'erin@acme.example' })).invitations, [
      unwanted,
      { ...pending, ...times },
    ])
    assert.deepEqual(await ids({ invitation: 'pending' }), ['pending'])
    assert.deepEqual(await ids({ email: 'erin@acme.example', invitation: 'pending' }), [
      'unwanted',
      'pending',
    ])
    await write(store, invitationCreate('lapsed', { email: 'x@acme.example', at: at - 9, expiresAt: at - 8 }))
    assert.deepEqual(await ids({ email: 'erin@acme.example', invitation: 'lapsed' }), [
      ...['lapsed', 'unwanted', 'pending'],
    ])
    for (const query of [
      ...[{ invitation: 'taken' }, { email: 'alice@acme.example' }, { invitation: 'Pending' }],
      ...[{ invitation: '' }, { email: 'Erin@acme.example' }, { email: '%' }, { email: null }, {}],
    ]) {
      assert.deepEqual(await ids(query), [], JSON.stringify(query))
    }
  })

  inWorld('pending invitations of an organization are listed by id, page by page', async (store) => {
    await write(store, ...['c', 'a', 'b'].map((id) => invitationCreate(id, { role: 'admin' })))
    const page = async (limit: number, after?: string) => {
      const query = { organization: 'acme', limit }
      const { rows, next } = await store.invitations({ ...query, ...(after !== undefined && { after }) })
      return [rows.map(({ id }) => id), next]
    }
    assert.deepEqual(await page(10), [['a', 'b', 'c', 'pending'], null])
    assert.deepEqual(await page(4), [['a', 'b', 'c', 'pending'], null])
    assert.deepEqual(await page(2), [['a', 'b'], 'b'])
    assert.deepEqual(await page(2, 'b'), [['c', 'pending'], null])
    assert.deepEqual(await page(2, 'pending'), [[], null])
    const { op: _, ...whole } = invitationCreate('unwanted', { organization: 'globex', at: at - 1 })
    assert.deepEqual(await store.invitations({ organization: 'globex' }), { rows: [whole], next: null })
    assert.deepEqual(await store.invitations({ organization: 'umbrella' }), { rows: [], next: null })
  })

  inWorld('an invitation that was withdrawn can be neither seen nor taken', async (store) => {
    await write(store, { op: 'invitation.withdraw', id: 'pending', organization: 'acme' })
    assert.deepEqual((await store.invitations({ organization: 'acme' })).rows, [])
    assert.deepEqual((await load(store, { invitation: 'pending' })).invitations, [])
    const take = (id: string) => ({ guard: 'invitation', id, user: 'bob' }) as const
    assert.deepEqual(await store.commit(change('gone', { guards: [take('pending')] })), {
      ...{ committed: false, conflict: { kind: 'guard', guard: take('pending') } },
    })
    await landed(store.commit(change('there', { guards: [take('unwanted')] })))
    assert.deepEqual((await store.invitations({ organization: 'globex' })).rows, [])
  })

  inWorld('hashes of who was removed are put, put again and removed', async (store) => {
    const removed = async (...hashes: string[]) => (await load(store, { hashes })).removed
    await write(store, { op: 'removed.put', hash: 'of yan', at: 1 })
    same(await removed('of yan', 'of nobody', 'hash of zoe'), [
      { hash: 'of yan', at: 1 },
      { hash: 'hash of zoe', at },
    ])
    await write(store, { op: 'removed.put', hash: 'of yan', at: 2 })
    assert.deepEqual(await removed('of yan'), [{ hash: 'of yan', at: 2 }])
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

  inWorld('a connection is held and let go, and stays the same otherwise', async (store) => {
    const connection = async () => {
      const { connection } = await load(store, { source: saml.source })
      assert.deepEqual((await store.user('alice'))!.connections, [{ ...connection, organization: 'acme' }])
      return connection
    }
    const before = (await connection())!
    const hold = (held: string | null) => write(store, { op: 'connection.hold', id: 'acme-saml', held, at })
    await hold('revoked too much')
    assert.deepEqual(await connection(), { ...before, held: 'revoked too much' })
    await hold('another reason')
    assert.deepEqual(await connection(), { ...before, held: 'another reason' })
    await landed(
      store.commit(change('guard', { guards: [{ guard: 'connection', id: 'acme-saml', version: 'v1' }] })),
    )
    await write(store, connectionPut('acme-saml', 'acme', { version: 'v2', enabled: false }))
    assert.deepEqual(await connection(), {
      ...{ ...before, version: 'v2', enabled: false, epoch: 1, held: 'another reason' },
    })
    await hold(null)
    assert.equal((await connection())?.held, null)
    assert.equal((await load(store, { source: 'connection:globex-oidc' })).connection?.held, null)
  })

  inWorld('connection.remove takes the connection and its identities, and no grant', async (store) => {
    const before = await store.users()
    await write(store, { op: 'connection.hold', id: 'acme-saml', held: 'a reason', at })
    await write(store, { op: 'connection.remove', id: 'acme-saml' })
    assert.equal((await load(store, { source: saml.source })).connection, null)
    for (const subject of ['alice', 'bob']) {
      assert.equal((await load(store, { ...saml, subject })).byIdentity, null)
      assert.deepEqual((await store.user(subject))!.connections, [])
    }
    same(
      (await store.users()).rows,
      before.rows.map((user) => ({
        ...user,
        identities: user.identities.filter(({ source }) => source !== saml.source),
      })),
    )
    const guard = { guard: 'connection', id: 'acme-saml', version: 'v1' } as const
    assert.deepEqual(await store.commit(change('guard', { guards: [guard] })), {
      ...{ committed: false, conflict: { kind: 'guard', guard } },
    })
    assert.equal((await load(store, { ...github, subject: '4711' })).byIdentity?.id, 'alice')
    await write(store, connectionPut('acme-saml', 'acme'))
    assert.equal((await load(store, { source: saml.source })).connection?.held, null)
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
