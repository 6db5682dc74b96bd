import assert from 'node:assert/strict'
import type { AuditEvent, ChangeSet, Conflict, Guard, Operation } from 'passport-jit'
import { canonical, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import {
  asserted,
  at,
  change,
  connectionPut,
  dump,
  event,
  github,
  invitationCreate,
  landed,
  nobody,
  organizationPut,
  saml,
  userCreate,
  world,
} from './store-world.js'

const expect = [
  { user: 'alice', version: 1 },
  { user: 'bob', version: 1 },
] as const

const guards: readonly Guard[] = [
  { guard: 'organization', id: 'acme', version: 'v1' },
  { guard: 'connection', id: 'acme-saml', version: 'v1' },
  { guard: 'seats', organization: 'acme', by: 1 },
  { guard: 'owners', organization: 'acme', by: 1 },
  { guard: 'invitation', id: 'pending', user: 'erin' },
  { guard: 'unremoved', hashes: ['hash of erin', 'hash of zoe'] },
]

type Named<K extends Operation['op']> = Extract<Operation, { op: K }>

/** Every kind of operation once, in an order in which each has what it needs. */
const ops = {
  'user.create': userCreate('erin', { verifiedEmail: 'erin@acme.example', attributes: { name: 'Erin' } }),
  'user.update': {
    op: 'user.update',
    id: 'bob',
    set: { verifiedEmail: 'robert@acme.example', attributes: { name: 'Robert' }, endSessions: true },
  },
  'user.claim': { op: 'user.claim', id: 'carol', verifiedEmail: 'carol@acme.example' },
  'user.remove': { op: 'user.remove', id: 'dave' },
  'identity.link': { op: 'identity.link', user: 'erin', ...saml, subject: 'erin', at },
  'identity.unlink': { op: 'identity.unlink', user: 'alice', ...github, subject: '4711' },
  'identity.assert': {
    ...{ op: 'identity.assert', user: 'alice', ...saml, subject: 'alice', digest: 'of alice, anew' },
    asserted: { ...asserted, groups: { kind: 'absent' } },
  },
  'membership.create': {
    ...{ op: 'membership.create', user: 'erin', organization: 'acme', status: 'active', seat: true, at },
  },
  'membership.update': {
    ...{ op: 'membership.update', user: 'bob', organization: 'acme', status: 'suspended', seat: false },
  },
  'membership.remove': { op: 'membership.remove', user: 'alice', organization: 'globex' },
  'grant.add': {
    op: 'grant.add',
    user: 'erin',
    organization: 'acme',
    role: 'member',
    source: 'sso:acme-saml',
    basis: 'default',
    at,
  },
  'grant.remove': {
    op: 'grant.remove',
    user: 'alice',
    organization: 'acme',
    role: 'member',
    source: 'sso:acme-saml',
  },
  'tombstone.put': { op: 'tombstone.put', user: 'alice', organization: 'globex', role: null, at },
  'tombstone.remove': { op: 'tombstone.remove', user: 'alice', organization: 'acme', role: 'admin' },
  'removed.put': { op: 'removed.put', hash: 'new hash', at },
  'removed.remove': { op: 'removed.remove', hash: 'hash of zoe' },
  'invitation.create': invitationCreate('new', { email: 'frank@acme.example' }),
  'invitation.withdraw': { op: 'invitation.withdraw', id: 'unwanted', organization: 'globex' },
  'organization.put': organizationPut('acme', {
    ...{ version: 'v2', name: 'Acme', seatLimit: 50 },
    kept: { entry: '{"name":"Acme"}', domains: ['acme.example'] },
  }),
  'connection.put': connectionPut('acme-saml', 'acme', {
    ...{ version: 'v2', enabled: false },
    kept: { entry: '{"id":"acme-saml"}' },
  }),
  'connection.hold': { op: 'connection.hold', id: 'acme-saml', held: 'revoked too much', at },
  'connection.remove': { op: 'connection.remove', id: 'globex-oidc' },
} satisfies { [K in Operation['op']]: Named<K> }

const events: readonly AuditEvent[] = [
  event('rich', 0, { type: 'created', user: 'erin' }),
  event('rich', 1, { type: 'linked', user: 'erin' }),
  event('rich', 2, { type: 'joined', user: 'erin', organization: 'acme' }),
]

const rich = change('rich', { expect, guards, ops: Object.values(ops), events })

interface Violation {
  readonly name: string
  readonly changes: ChangeSet
  readonly conflict: Conflict
}

const replaced = <T>(list: readonly T[], index: number, entry: T): T[] =>
  list.map((old, place) => (place === index ? entry : old))

const expectViolations = expect.flatMap(({ user }, index): Violation[] =>
  [
    { name: `${user} has another version`, entry: { user, version: 7 } },
    { name: `${user} is unknown`, entry: { user: `no ${user}`, version: 1 } },
  ].map(({ name, entry }) => ({
    name: `expect: ${name}`,
    changes: { ...rich, expect: replaced(expect, index, entry) },
    conflict: { kind: 'version', user: entry.user },
  })),
)

const guardViolations = (
  [
    ['another version', 0, { guard: 'organization', id: 'acme', version: 'v0' }],
    ['unknown', 0, { guard: 'organization', id: 'umbrella', version: 'v1' }],
    ['another version', 1, { guard: 'connection', id: 'acme-saml', version: 'v0' }],
    ['unknown', 1, { guard: 'connection', id: 'umbrella', version: 'v1' }],
    ['more than the limit', 2, { guard: 'seats', organization: 'acme', by: 4 }],
    ['unknown', 2, { guard: 'seats', organization: 'umbrella', by: 1 }],
    ['unknown, freeing', 2, { guard: 'seats', organization: 'umbrella', by: -1 }],
    ['the last owner', 3, { guard: 'owners', organization: 'acme', by: -1 }],
    ['unknown', 3, { guard: 'owners', organization: 'umbrella', by: 1 }],
    ['taken already', 4, { guard: 'invitation', id: 'taken', user: 'erin' }],
    ['taken by the same', 4, { guard: 'invitation', id: 'taken', user: 'alice' }],
    ['unknown', 4, { guard: 'invitation', id: 'umbrella', user: 'erin' }],
    ['removed', 5, { guard: 'unremoved', hashes: ['hash of erin', 'new hash'] }],
  ] as const
).map(
  ([name, index, guard]): Violation => ({
    name: `guard ${guard.guard}: ${name}`,
    changes: { ...rich, guards: replaced(guards, index, guard) },
    conflict: { kind: 'guard', guard },
  }),
)

const ghost = { user: 'ghost' }
const umbrella = { organization: 'umbrella' }
const globexOidc = { id: 'globex-oidc', organization: 'globex' }
const broken: {
  [K in Operation['op']]: readonly (readonly [name: string, parts: Partial<Named<K>>, key: string])[]
} = {
  'user.create': [
    ['the id is taken', { id: 'carol' }, 'user'],
    ['the verified e-mail is taken', { verifiedEmail: 'alice@acme.example' }, 'verified-email'],
    ['id and e-mail are taken', { id: 'carol', verifiedEmail: 'alice@acme.example' }, 'user'],
  ],
  'user.update': [
    ['unknown', { id: 'ghost' }, 'user'],
    ['the verified e-mail is taken', { set: { verifiedEmail: 'alice@acme.example' } }, 'verified-email'],
  ],
  'user.claim': [
    ['unknown', { id: 'ghost' }, 'user'],
    ['the verified e-mail is taken', { verifiedEmail: 'alice@acme.example' }, 'verified-email'],
  ],
  'user.remove': [['unknown', { id: 'ghost' }, 'user']],
  'identity.link': [
    ['taken', { subject: 'alice' }, 'identity'],
    ['linked to the same user already', { user: 'bob', subject: 'bob' }, 'identity'],
    ['the user is unknown', ghost, 'user'],
  ],
  'identity.unlink': [
    ['unknown', { subject: '1234' }, 'identity'],
    ["somebody else's", { user: 'bob' }, 'identity'],
  ],
  'identity.assert': [
    ['unknown', { subject: '1234' }, 'identity'],
    ["somebody else's", { user: 'bob' }, 'identity'],
  ],
  'membership.create': [
    ['there already', { user: 'bob' }, 'membership'],
    ['the user is unknown', ghost, 'user'],
    ['the organization is unknown', umbrella, 'organization'],
  ],
  'membership.update': [['unknown', { user: 'carol' }, 'membership']],
  'membership.remove': [['unknown', { user: 'carol' }, 'membership']],
  'grant.add': [
    ['there already', { user: 'alice', role: 'owner', source: 'manual' }, 'grant'],
    ['there is no membership', { organization: 'globex' }, 'membership'],
  ],
  'grant.remove': [
    ['another role', { role: 'admin' }, 'grant'],
    ['another source', { source: 'manual' }, 'grant'],
  ],
  'tombstone.put': [['the user is unknown', ghost, 'user']],
  'tombstone.remove': [],
  'removed.put': [],
  'removed.remove': [],
  'invitation.create': [
    ['the id is taken', { id: 'pending' }, 'invitation'],
    ['the organization is unknown', umbrella, 'organization'],
  ],
  'invitation.withdraw': [
    ['unknown', { id: 'umbrella' }, 'invitation'],
    ["another organization's", { organization: 'acme' }, 'invitation'],
    ['taken already', { id: 'taken', organization: 'acme' }, 'invitation'],
    ['taken by a guard of the same change set', { id: 'pending', organization: 'acme' }, 'invitation'],
  ],
  'connection.hold': [['unknown', { id: 'umbrella' }, 'connection']],
  'connection.remove': [['unknown', { id: 'umbrella' }, 'connection']],
  'organization.put': [
    [
      'a domain is owned by another',
      { kept: { entry: '{}', domains: ['acme.example', 'globex.example'] } },
      'domain',
    ],
  ],
  'connection.put': [
    ['the organization is unknown', { id: 'new', ...umbrella }, 'organization'],
    ["another organization's entry", { id: 'globex-oidc', kept: { entry: '{}' } }, 'connection'],
    ['over another version', { ...globexOidc, kept: { entry: '{}', over: 'v0' } }, 'connection'],
    ['over nothing', { kept: { entry: '{}', over: 'v1' } }, 'connection'],
  ],
}

const opViolations = Object.entries(broken).flatMap(([op, entries]) =>
  entries.map(
    ([name, parts, key]): Violation => ({
      name: `${op}: ${name}`,
      changes: {
        ...rich,
        ops: rich.ops.map((entry) => (entry.op === op ? ({ ...entry, ...parts } as Operation) : entry)),
      },
      conflict: { kind: 'key', key },
    }),
  ),
)

const eventViolations: Violation[] = [
  ...events.map((entry, index) => ({
    name: `event ${index}: its place in the change is taken`,
    changes: { ...rich, events: replaced(events, index, { ...entry, seq: (index + 1) % events.length }) },
    conflict: { kind: 'key', key: 'change' } as const,
  })),
  {
    name: 'events: the change landed before',
    changes: { ...rich, id: 'world', events: events.map((entry) => ({ ...entry, change: 'world' })) },
    conflict: { kind: 'key', key: 'change' },
  },
  {
    name: 'events: the change landed before, at other places',
    changes: {
      ...rich,
      id: 'world',
      events: events.map((entry) => ({ ...entry, change: 'world', seq: entry.seq + 10 })),
    },
    conflict: { kind: 'key', key: 'change' },
  },
]

const unknown = [
  {
    name: 'an operation that is not known is thrown',
    changes: { ...rich, ops: [...rich.ops, { op: 'user.explode', id: 'alice' } as unknown as Operation] },
  },
  {
    name: 'a guard that is not known is thrown',
    changes: { ...rich, guards: [...guards, { guard: 'moon', phase: 'full' } as unknown as Guard] },
  },
]

/** Tier two: where one part of a change set misses, nothing of it stays, and the answer says what missed. */
export function atomicity(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const extra = { users: ['erin', 'ghost'], emails: ['erin@acme.example', 'robert@acme.example'] }

  check('the change set that the other tests break lands', async ({ store }) => {
    await world(store)
    const before = await dump(store, extra)
    await landed(store.commit(rich))
    const after = await dump(store, extra)
    assert.notDeepEqual(canonical(after.users), canonical(before.users))
    assert.deepEqual(
      after.events.map(({ change, seq }) => [change, seq]),
      [
        ['rich', 0],
        ['rich', 1],
        ['rich', 2],
        ['world', 0],
      ],
    )
    const users = Object.fromEntries(after.users.map((user) => [user.id, user]))
    assert.deepEqual(
      [users.alice?.version, users.bob?.version, users.carol?.version, users.erin?.version],
      [2, 2, 1, 1],
    )
    assert.deepEqual([users.carol?.verifiedEmail, users.carol?.epoch], ['carol@acme.example', 1])
    assert.deepEqual(await store.entries.domain(['acme.example']), {
      owner: { id: 'acme', version: 'v2', entry: '{"name":"Acme"}' },
      connections: [{ id: 'acme-saml', version: 'v2', entry: '{"id":"acme-saml"}' }],
    })
    assert.deepEqual([users.bob?.verifiedEmail, users.bob?.epoch], ['robert@acme.example', 1])
    assert.deepEqual(
      canonical(users.erin?.memberships),
      canonical([
        {
          organization: 'acme',
          status: 'active',
          seat: true,
          grants: [{ role: 'member', source: 'sso:acme-saml', basis: 'default' }],
        },
      ]),
    )
    const snapshot = await store.load({
      ...saml,
      subject: 'alice',
      email: null,
      organizations: ['acme', 'globex'],
    })
    assert.deepEqual(
      snapshot.organizations.find(({ id }) => id === 'acme'),
      {
        ...{ id: 'acme', version: 'v2', status: 'active', seatLimit: 50, seatsUsed: 3, owners: 2 },
      },
    )
    assert.deepEqual(snapshot.connection, {
      ...{ id: 'acme-saml', organization: 'acme', version: 'v2', enabled: false },
      ...{ epoch: 1, held: 'revoked too much' },
    })
    assert.equal(snapshot.asserted, 'of alice, anew')
    assert.deepEqual(
      snapshot.byIdentity?.memberships.map(({ organization }) => organization),
      ['acme'],
    )
    assert.deepEqual(snapshot.byIdentity?.tombstones, [{ organization: 'globex', role: null, at }])
    assert.equal(users.dave, undefined)
    assert.deepEqual(
      after.invitations.map(({ rows }) => rows.map(({ id }) => id)),
      [['new'], [], [], []],
    )
    assert.deepEqual((await store.load({ ...nobody, hashes: ['hash of zoe', 'new hash'] })).removed, [
      { hash: 'new hash', at },
    ])
    assert.equal(await store.entries.connection('globex-oidc'), null)
  })

  for (const { name, changes, conflict } of [
    ...expectViolations,
    ...guardViolations,
    ...opViolations,
    ...eventViolations,
  ]) {
    check(name, async ({ store }) => {
      await world(store)
      const before = await dump(store, extra)
      assert.deepEqual(await store.commit(changes), { committed: false, conflict })
      assert.deepEqual(canonical(await dump(store, extra)), canonical(before))
      await landed(store.commit(rich))
    })
  }

  for (const { name, changes } of unknown) {
    check(name, async ({ store }) => {
      await world(store)
      const before = await dump(store, extra)
      await assert.rejects(store.commit(changes))
      assert.deepEqual(canonical(await dump(store, extra)), canonical(before))
      await landed(store.commit(rich))
    })
  }

  check('guards of an organization and of a connection miss where it is not in force', async ({ store }) => {
    await world(store)
    const off = [
      organizationPut('globex', { version: 'v2', status: 'suspended' }),
      connectionPut('globex-oidc', 'globex', { version: 'v2', enabled: false }),
    ]
    await landed(store.commit(change('off', { ops: off })))
    for (const guard of [
      { guard: 'organization', id: 'globex', version: 'v2' },
      { guard: 'connection', id: 'globex-oidc', version: 'v2' },
    ] as const) {
      const before = await dump(store, extra)
      const changes = { ...rich, guards: [...guards, guard] }
      assert.deepEqual(await store.commit(changes), { committed: false, conflict: { kind: 'guard', guard } })
      assert.deepEqual(canonical(await dump(store, extra)), canonical(before))
    }
    const on = [
      organizationPut('globex', { version: 'v3' }),
      connectionPut('globex-oidc', 'globex', { version: 'v3' }),
    ]
    await landed(store.commit(change('on', { ops: on })))
    const inForce: Guard[] = [
      { guard: 'organization', id: 'globex', version: 'v3' },
      { guard: 'connection', id: 'globex-oidc', version: 'v3' },
    ]
    await landed(store.commit({ ...rich, guards: [...guards, ...inForce] }))
  })
}
