import assert from 'node:assert/strict'
import type { LoadQuery, Store, User, UserFacts } from 'passport-jit'
import { canonical, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { at, change, foundation, github, landed, nobody, saml, userCreate, world } from './store-world.js'

const same = (actual: unknown, expected: unknown) => assert.deepEqual(canonical(actual), canonical(expected))

const alice: User = {
  id: 'alice',
  version: 1,
  status: 'active',
  epoch: 0,
  verifiedEmail: 'alice@acme.example',
  contactEmail: 'private@alice.example',
  attributes: { name: 'Alice', title: 'Head of "Everything"' },
}
const aliceIdentities = [
  { ...saml, subject: 'alice' },
  { ...github, subject: '4711' },
]
const inAcme = {
  organization: 'acme',
  status: 'active',
  seat: true,
  grants: [
    { role: 'owner', source: 'manual', basis: 'person' },
    { role: 'member', source: 'sso:acme-saml', basis: 'default' },
  ],
} as const
const inGlobex = {
  organization: 'globex',
  status: 'suspended',
  seat: false,
  grants: [{ role: 'member', source: 'domain', basis: 'default' }],
} as const
const aliceInAcme: UserFacts = {
  ...alice,
  identities: aliceIdentities,
  memberships: [inAcme],
  tombstones: [{ organization: 'acme', role: 'admin', at }],
}
const acme = { id: 'acme', version: 'v1', status: 'active', seatLimit: 5, seatsUsed: 2, owners: 1 } as const
const globex = {
  ...{ id: 'globex', version: 'v1', status: 'active', seatLimit: null, seatsUsed: 0, owners: 0 },
} as const
const acmeSaml = {
  ...{ id: 'acme-saml', organization: 'acme', version: 'v1', enabled: true, epoch: 0, held: null },
}

/** Tier one: what is written can be read, each field of it, and nothing else. */
export function readsAndWrites(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const inWorld = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await world(store)
      await body(store)
    })
  const load = (store: Store, query: Partial<LoadQuery>) => store.load({ ...nobody, ...query })
  const factsOf = async (store: Store, subject: string) =>
    (await load(store, { ...saml, subject, organizations: ['acme', 'globex', 'initech'] })).byIdentity!

  inWorld('load finds a user by identity, with all that the rules ask', async (store) => {
    same(await load(store, { ...saml, subject: 'alice', organizations: ['acme'] }), {
      byIdentity: aliceInAcme,
      byVerifiedEmail: null,
      byContactEmail: [],
      organizations: [acme],
      connection: acmeSaml,
      ...{ asserted: null, byId: null, invitations: [], removed: [] },
    })
  })

  inWorld('load compares every part of an identity exactly', async (store) => {
    for (const query of [
      { ...saml, subject: 'Alice' },
      { ...saml, subject: 'alice ' },
      { ...saml, subject: 'ali%' },
      { ...saml, subject: '' },
      { ...saml, issuer: 'https://idp.acme.example/', subject: 'alice' },
      { ...saml, source: 'connection:globex-oidc', subject: 'alice' } as const,
      { ...saml, source: 'provider:acme-saml', subject: 'alice' } as const,
    ]) {
      assert.equal((await load(store, query)).byIdentity, null, JSON.stringify(query))
    }
    assert.equal((await load(store, { ...saml, subject: 'alice' })).byIdentity?.id, 'alice')
  })

  inWorld('load finds a user by verified e-mail', async (store) => {
    const found = await load(store, { email: 'alice@acme.example', organizations: ['acme'] })
    same(found.byVerifiedEmail, aliceInAcme)
    assert.equal(found.byIdentity, null)
    same(found.byContactEmail, [])
    assert.equal((await load(store, { email: 'Alice@acme.example' })).byVerifiedEmail, null)
  })

  inWorld('load finds unverified accounts by contact e-mail, and no verified one', async (store) => {
    const found = await load(store, { email: 'carol@acme.example' })
    assert.deepEqual(found.byContactEmail.map(({ id, status }) => [id, status]).sort(), [
      ['carol', 'active'],
      ['dave', 'suspended'],
    ])
    assert.equal(found.byVerifiedEmail, null)
    same((await load(store, { email: 'private@alice.example' })).byContactEmail, [])
  })

  inWorld('load answers identity and e-mail apart where they are two users', async (store) => {
    const found = await load(store, { ...saml, subject: 'alice', email: 'bob@acme.example' })
    assert.equal(found.byIdentity?.id, 'alice')
    assert.equal(found.byVerifiedEmail?.id, 'bob')
  })

  inWorld('load without an e-mail matches nobody by e-mail', async (store) => {
    const found = await load(store, { email: null })
    assert.equal(found.byVerifiedEmail, null)
    assert.deepEqual(found.byContactEmail, [])
  })

  inWorld('load shows memberships, grants and tombstones of the named organizations only', async (store) => {
    const query = { ...saml, subject: 'alice' }
    const none = (await load(store, query)).byIdentity!
    same(none, { ...aliceInAcme, memberships: [], tombstones: [] })
    const both = (await load(store, { ...query, organizations: ['globex', 'initech'] })).byIdentity!
    same(both.memberships, [inGlobex])
    same(both.tombstones, [{ organization: 'initech', role: null, at }])
  })

  inWorld('load shows the named organizations that exist, once each', async (store) => {
    same((await load(store, {})).organizations, [])
    same((await load(store, { organizations: ['globex', 'umbrella', 'acme', 'acme'] })).organizations, [
      acme,
      globex,
    ])
  })

  inWorld('load shows the connection of the source, and none for a provider', async (store) => {
    same((await load(store, { source: 'connection:acme-saml' })).connection, acmeSaml)
    assert.equal((await load(store, { source: 'connection:none' })).connection, null)
    assert.equal((await load(store, { source: 'provider:acme-saml' })).connection, null)
  })

  inWorld('user shows a user with all memberships and the connections of its identities', async (store) => {
    same(await store.user('alice'), {
      user: alice,
      memberships: [
        { ...inAcme, organizationStatus: 'active' },
        { ...inGlobex, organizationStatus: 'active' },
      ],
      connections: [acmeSaml],
    })
    same((await store.user('carol'))!.memberships, [])
    same((await store.user('carol'))!.connections, [])
    assert.equal(await store.user('nobody'), null)
  })

  inWorld('user shows that an organization is suspended', async (store) => {
    const put = { op: 'organization.put', id: 'globex', name: 'globex', seatLimit: null } as const
    await landed(store.commit(change('put', { ops: [{ ...put, version: 'v2', status: 'suspended' }] })))
    const { memberships } = (await store.user('alice'))!
    assert.deepEqual(
      Object.fromEntries(memberships.map((entry) => [entry.organization, entry.organizationStatus])),
      {
        acme: 'active',
        globex: 'suspended',
      },
    )
  })

  inWorld('what was read does not change afterwards', async (store) => {
    const before = await factsOf(store, 'alice')
    await landed(
      store.commit(
        change('later', { ops: [{ op: 'user.update', id: 'alice', set: { status: 'suspended' } }] }),
      ),
    )
    assert.equal(before.status, 'active')
    assert.equal((await factsOf(store, 'alice')).status, 'suspended')
  })

  inWorld('expect raises the version of the users it names, and of nobody else', async (store) => {
    await landed(store.commit(change('first', { expect: [{ user: 'bob', version: 1 }] })))
    await landed(
      store.commit(
        change('second', {
          expect: [
            { user: 'bob', version: 2 },
            { user: 'alice', version: 1 },
          ],
        }),
      ),
    )
    const { rows } = await store.users()
    assert.deepEqual(Object.fromEntries(rows.map(({ id, version }) => [id, version])), {
      alice: 2,
      bob: 3,
      carol: 1,
      dave: 1,
    })
  })

  inWorld('user.update sets what it names and leaves the rest', async (store) => {
    const update = async (set: object) => {
      await landed(
        store.commit(change(JSON.stringify(set), { ops: [{ op: 'user.update', id: 'alice', set }] })),
      )
      return (await store.user('alice'))!.user
    }
    same(await update({}), alice)
    same(await update({ status: 'suspended' }), { ...alice, status: 'suspended' })
    same(await update({ status: 'active', attributes: { locale: 'cs' } }), {
      ...alice,
      attributes: { locale: 'cs' },
    })
    same(await update({ contactEmail: null, endSessions: true }), {
      ...alice,
      ...{ attributes: { locale: 'cs' }, contactEmail: null, epoch: 1 },
    })
    same(await update({ verifiedEmail: 'alice@acme.example' }), await update({}))
    same(await update({ verifiedEmail: null, contactEmail: 'alice@acme.example' }), {
      ...alice,
      ...{ attributes: { locale: 'cs' }, verifiedEmail: null, contactEmail: 'alice@acme.example', epoch: 1 },
    })
    const found = await load(store, { email: 'alice@acme.example' })
    assert.deepEqual([found.byVerifiedEmail, found.byContactEmail.map(({ id }) => id)], [null, ['alice']])
  })

  inWorld('user.claim ends what an account had, and gives it the address', async (store) => {
    await landed(
      store.commit(
        change('before', {
          ops: [
            { op: 'user.update', id: 'alice', set: { verifiedEmail: null, contactEmail: 'a@acme.example' } },
          ],
        }),
      ),
    )
    const claim = { op: 'user.claim', id: 'alice', verifiedEmail: 'alice@acme.example' } as const
    await landed(store.commit(change('claim', { expect: [{ user: 'alice', version: 1 }], ops: [claim] })))
    same(await store.user('alice'), {
      user: { ...alice, version: 2, epoch: 1, contactEmail: 'alice@acme.example' },
      memberships: [],
      connections: [],
    })
    assert.equal((await load(store, { ...saml, subject: 'alice' })).byIdentity, null)
    assert.equal((await load(store, { ...github, subject: '4711' })).byIdentity, null)
    const found = await load(store, { email: 'alice@acme.example', organizations: ['acme', 'globex'] })
    same(found.byVerifiedEmail, {
      ...aliceInAcme,
      ...{ version: 2, epoch: 1, contactEmail: 'alice@acme.example', identities: [], memberships: [] },
    })
    same(found.organizations, [{ ...acme, seatsUsed: 1, owners: 0 }, globex])
    same((await store.user('bob'))!.memberships, [
      { organization: 'acme', status: 'active', seat: true, grants: [], organizationStatus: 'active' },
    ])
    assert.equal((await load(store, { ...saml, subject: 'bob' })).byIdentity?.id, 'bob')
  })

  inWorld('an address that was given up can be taken by somebody else', async (store) => {
    await landed(
      store.commit(
        change('swap', {
          ops: [
            { op: 'user.update', id: 'alice', set: { verifiedEmail: null } },
            { op: 'user.update', id: 'carol', set: { verifiedEmail: 'alice@acme.example' } },
          ],
        }),
      ),
    )
    assert.equal((await load(store, { email: 'alice@acme.example' })).byVerifiedEmail?.id, 'carol')
  })

  inWorld(
    'an identity that was unlinked is gone, its connection too, and can be linked again',
    async (store) => {
      const identity = { ...saml, subject: 'alice' }
      await landed(
        store.commit(change('off', { ops: [{ op: 'identity.unlink', user: 'alice', ...identity }] })),
      )
      assert.equal((await load(store, identity)).byIdentity, null)
      same((await store.user('alice'))!.connections, [])
      await landed(
        store.commit(change('on', { ops: [{ op: 'identity.link', user: 'bob', ...identity, at: 1 }] })),
      )
      assert.equal((await load(store, identity)).byIdentity?.id, 'bob')
    },
  )

  inWorld('memberships and grants come and go', async (store) => {
    const ids = { user: 'bob', organization: 'globex' }
    const grant = { ...ids, role: 'admin', source: 'invitation:1', basis: 'person', at: 1 } as const
    await landed(
      store.commit(
        change('in', {
          ops: [
            { op: 'membership.create', ...ids, status: 'active', seat: false, at: 1 },
            { op: 'grant.add', ...grant },
            { op: 'grant.add', ...grant, source: 'scim:globex' },
            { op: 'grant.add', ...grant, source: 'import:1', role: 'member', basis: 'group' },
          ],
        }),
      ),
    )
    await landed(
      store.commit(
        change('changed', {
          ops: [
            { op: 'membership.update', ...ids, status: 'suspended', seat: true },
            { op: 'grant.remove', ...ids, role: 'admin', source: 'invitation:1' },
          ],
        }),
      ),
    )
    same((await factsOf(store, 'bob')).memberships, [
      { organization: 'acme', status: 'active', seat: true, grants: [] },
      {
        organization: 'globex',
        status: 'suspended',
        seat: true,
        grants: [
          { role: 'admin', source: 'scim:globex', basis: 'person' },
          { role: 'member', source: 'import:1', basis: 'group' },
        ],
      },
    ])
    await landed(store.commit(change('out', { ops: [{ op: 'membership.remove', ...ids }] })))
    await landed(
      store.commit(
        change('back', { ops: [{ op: 'membership.create', ...ids, status: 'active', seat: true, at: 2 }] }),
      ),
    )
    same(
      (await factsOf(store, 'bob')).memberships.find((entry) => entry.organization === 'globex'),
      { organization: 'globex', status: 'active', seat: true, grants: [] },
    )
    same((await factsOf(store, 'alice')).memberships, [inAcme, inGlobex])
  })

  inWorld('organization.put keeps the counters', async (store) => {
    const put = {
      op: 'organization.put',
      id: 'acme',
      version: 'v2',
      name: 'Acme',
      status: 'suspended',
    } as const
    await landed(store.commit(change('put', { ops: [{ ...put, seatLimit: null }] })))
    const after = { ...acme, version: 'v2', status: 'suspended', seatLimit: null }
    same((await load(store, { organizations: ['acme'] })).organizations, [after])
  })

  inWorld('connection.put raises the epoch when it switches off, and only then', async (store) => {
    const epochs: number[] = []
    for (const [version, enabled] of [
      ['v1', true],
      ['v2', true],
      ['v3', false],
      ['v4', false],
      ['v5', true],
      ['v6', false],
    ] as const) {
      const put = { op: 'connection.put', id: 'acme-saml', organization: 'acme', version, enabled } as const
      await landed(store.commit(change(version, { ops: [put] })))
      const { connection } = await load(store, { source: 'connection:acme-saml' })
      assert.deepEqual([connection!.version, connection!.enabled], [version, enabled])
      epochs.push(connection!.epoch)
    }
    assert.deepEqual(epochs, [0, 0, 1, 1, 1, 2])
  })

  inWorld('seats and owners are counted both ways', async (store) => {
    const count = async (id: string, seats: number, owners: number) => {
      const guards = [
        { guard: 'seats', organization: 'acme', by: seats },
        { guard: 'owners', organization: 'acme', by: owners },
      ] as const
      await landed(store.commit(change(id, { guards })))
      const [found] = (await load(store, { organizations: ['acme'] })).organizations
      return [found!.seatsUsed, found!.owners]
    }
    assert.deepEqual(await count('up', 3, 2), [5, 3])
    assert.deepEqual(await count('down', -2, -2), [3, 1])
    assert.deepEqual(await count('level', 0, 0), [3, 1])
  })

  inWorld('seats can be freed above a limit that was lowered', async (store) => {
    const put = { op: 'organization.put', id: 'acme', version: 'v2', name: 'Acme', status: 'active' } as const
    await landed(store.commit(change('put', { ops: [{ ...put, seatLimit: 0 }] })))
    const guard = { guard: 'seats', organization: 'acme' } as const
    const refused = await store.commit(change('take', { guards: [{ ...guard, by: 1 }] }))
    assert.deepEqual(refused, { committed: false, conflict: { kind: 'guard', guard: { ...guard, by: 1 } } })
    await landed(store.commit(change('free', { guards: [{ ...guard, by: -1 }] })))
  })

  inWorld('texts come back as they were written', async (store) => {
    const texts = ['ž 漢 \u{1f511}', `'; drop table jit_users; --`, '$1 ? :x \\ " %', ' padded ', '', '\n\t']
    const attributes = Object.fromEntries([
      ...texts.map((text, index) => [`text ${index}`, text] as const),
      ['__proto__', 'own'],
      ['constructor', 'own'],
      ['long', 'x'.repeat(2048)],
    ])
    const subject = `s'"\\ 漢${'x'.repeat(900)}`
    await landed(
      store.commit(
        change('texts', {
          ops: [
            userCreate("o'hara 漢", { attributes }),
            { op: 'identity.link', user: "o'hara 漢", ...saml, subject, at: 1 },
          ],
        }),
      ),
    )
    const found = (await load(store, { ...saml, subject })).byIdentity!
    assert.equal(found.id, "o'hara 漢")
    assert.deepEqual(new Map(Object.entries(found.attributes)), new Map(Object.entries(attributes)))
    assert.equal(found.identities[0]!.subject, subject)
  })

  check('users come by id, page by page, at most 1,000 at once', async ({ store }) => {
    await foundation(store)
    const ids = Array.from({ length: 1_003 }, (_, index) => `u${String(index).padStart(4, '0')}`)
    const ops = [...ids].reverse().map((id) => userCreate(id))
    await landed(store.commit(change('crowd', { ops })))
    const first = await store.users()
    assert.deepEqual([first.rows.map(({ id }) => id), first.next], [ids.slice(0, 100), 'u0099'])
    const second = await store.users({ limit: 3, after: 'u0099' })
    assert.deepEqual([second.rows.map(({ id }) => id), second.next], [ids.slice(100, 103), 'u0102'])
    const most = await store.users({ limit: 5_000 })
    assert.deepEqual([most.rows.length, most.next], [1_000, 'u0999'])
    const rest = await store.users({ limit: 3, after: most.next! })
    assert.deepEqual([rest.rows.map(({ id }) => id), rest.next], [ids.slice(1_000), null])
  })

  inWorld('users are listed with identities, memberships and grants', async (store) => {
    const { rows } = await store.users({ limit: 1 })
    same(rows, [{ ...alice, identities: aliceIdentities, memberships: [inAcme, inGlobex] }])
  })

  check('an empty change set lands', async ({ store }) => {
    await foundation(store)
    await landed(store.commit(change('nothing', {})))
    assert.deepEqual(await store.events(), { rows: [], next: null })
  })

  inWorld('migrating again keeps everything', async (store) => {
    await store.migrate()
    same((await load(store, { ...saml, subject: 'alice', organizations: ['acme'] })).byIdentity, aliceInAcme)
  })
}
