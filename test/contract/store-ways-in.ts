import assert from 'node:assert/strict'
import type { Asserted, LoadQuery, Operation, Store } from 'passport-jit'
import { canonical, everyPage, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import {
  asserted,
  at,
  change,
  conflict,
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

/** Tier one, continued: what is known of how people come in: what they asserted, invitations, connections. */
export function waysIn(runner: Runner, factory: () => Promise<StoreFixture>): void {
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
      const query = { source: saml.source, organization: 'acme', limit }
      const pages = await everyPage((from) => store.asserted({ ...query, ...from }))
      assert.ok(pages.every((rows) => rows.length <= limit))
      assert.equal(pages.length, Math.ceil(7 / limit))
      const seen = pages.flat().map(({ identity, user }) => `${identity.subject} of ${user.id}`)
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

  inWorld('a connection is held and let go, and stays the same otherwise', async (store) => {
    const connection = async () => {
      const { connection } = await load(store, { source: saml.source })
      assert.deepEqual((await store.user('alice'))!.connections, [connection])
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

  inWorld('a connection stays with its organization until it is removed', async (store) => {
    const moved = connectionPut('acme-saml', 'globex', { version: 'v2', enabled: false })
    const before = await load(store, { ...saml, subject: 'alice' })
    const refused = conflict(await store.commit(change('moved', { ops: [moved] })))
    assert.deepEqual(refused, { kind: 'key', key: 'connection' })
    assert.deepEqual(await load(store, { ...saml, subject: 'alice' }), before)
    await write(store, connectionPut('acme-saml', 'acme', { version: 'v2', enabled: false }))
    await write(store, { op: 'connection.remove', id: 'acme-saml' }, moved)
    const { connection, byIdentity } = await load(store, { ...saml, subject: 'alice' })
    assert.deepEqual([connection?.organization, connection?.epoch, byIdentity], ['globex', 0, null])
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
}
