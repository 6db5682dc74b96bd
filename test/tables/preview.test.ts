import type { AssertedRow, Connection, ConnectionFacts, Organization, UserFacts } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { compare, sceneOf } from '../../lib/comparison.js'
import { changesOf, policiesOf, samePolicy } from '../../lib/policy-change.js'
import { tooMany } from '../../lib/revocations.js'
import { entries, invitation, known, member } from './facts.js'

type Parts = Record<string, unknown>
interface Given {
  readonly row?: {
    readonly user?: Partial<UserFacts>
    readonly groups?: string[] | null
    readonly email?: string | null
  }
  readonly present?: readonly [connection: Parts, organization?: Parts] | null
  readonly coming?: readonly [connection: Parts, organization?: Parts]
  readonly facts?: Parts
  readonly held?: string
  readonly invitations?: readonly ReturnType<typeof invitation>[]
}

const row = ({
  user,
  groups = [],
  email = 'ann@o.example',
}: NonNullable<Given['row']> = {}): AssertedRow => ({
  identity: { source: 'connection:c', issuer: 'https://idp.example', subject: 's' },
  asserted: {
    ...{ email, emailVerified: 'unstated', profile: { name: 'Ann' } },
    groups: groups === null ? { kind: 'absent' } : { kind: 'listed', values: groups },
  },
  user: known({ memberships: member(['member', 'sso:c', 'default']), ...user }),
})

async function preview(given: Given) {
  const { present = [{}], coming = [{}], facts = {}, invitations = [], held = null } = given
  const under = async ([connection, organization]: readonly [Parts, Parts?]) =>
    entries(connection, organization)
  const [before, after] = [present && (await under(present)), await under(coming)]
  const scene = sceneOf(
    { id: 'o', version: 'v', status: 'active', seatLimit: null, seatsUsed: 1, owners: 1, ...facts },
    invitations,
    false,
  )
  const stored: ConnectionFacts = {
    ...{ id: 'c', organization: 'o', version: 'v', enabled: true, epoch: 0, held },
  }
  const change = { organization: after.organization, connection: after.connection, present: before }
  const domain = {
    present: before && (await before.directory.domain('o.example')),
    coming: await after.directory.domain('o.example'),
  }
  return { scene, person: compare(scene, change, row(given.row), { stored, domain, now: 2000 }) }
}

const admins = { groups: { map: { admins: ['admin'], watchers: ['viewer'] } } }
const nobody = { groups: { map: { watchers: ['viewer'] } } }
const admin = {
  user: { memberships: member(['member', 'sso:c', 'default'], ['admin', 'sso:c', 'group']) },
  groups: ['admins'],
}
const same = { gains: [], loses: [], membership: null, refused: null, admitted: false }

describe('What a changed policy does to one person', () => {
  const table: [name: string, given: Given, person: Parts | null, sums: Parts][] = [
    ['the same policy: nothing', { row: admin }, null, { identities: 1, grants: 2, losing: 0, revoked: 0 }],
    [
      'a group that gives no role any more',
      { row: admin, coming: [nobody] },
      { ...same, loses: [{ role: 'admin', because: 'no longer by a group' }] },
      { losing: 1, revoked: 1, grants: 2 },
    ],
    [
      'the same, for somebody not in the group',
      { coming: [nobody] },
      null,
      { losing: 0, revoked: 0, grants: 1 },
    ],
    [
      'a group that gives a role now',
      { row: { groups: ['admins'] }, present: [nobody], coming: [admins] },
      { ...same, gains: [{ role: 'admin', because: 'by group admins' }] },
      { gaining: 1, granted: 1 },
    ],
    [
      'a role of two sources: one goes, the role stays',
      {
        row: {
          groups: ['admins'],
          user: { memberships: member(['admin', 'sso:c', 'group'], ['admin', 'manual', 'person']) },
        },
        coming: [nobody],
      },
      null,
      { losing: 0, revoked: 0 },
    ],
    [
      'mode add takes nothing',
      { row: admin, coming: [{ groups: { ...nobody.groups, mode: 'add' } }] },
      null,
      { revoked: 0 },
    ],
    [
      'a role above the new ceiling',
      {
        row: admin,
        coming: [{ ...nobody, jit: { roles: [] } }, { assignable: ['viewer'] }],
      },
      {
        ...same,
        loses: [
          { role: 'member', because: 'it may no longer be given' },
          { role: 'admin', because: 'it may no longer be given' },
        ],
      },
      { losing: 1, revoked: 2, granted: 0 },
    ],
    [
      'groups that say nothing: nothing goes',
      { row: { ...admin, groups: null }, coming: [nobody] },
      null,
      { revoked: 0 },
    ],
    [
      'the same answer, now taken for no groups',
      { row: { ...admin, groups: null }, coming: [{ groups: { ...admins.groups, absent: 'empty' } }] },
      { ...same, loses: [{ role: 'admin', because: 'no longer by a group' }] },
      { revoked: 1 },
    ],
    [
      'the last role, and the membership with it',
      {
        row: { user: { memberships: member(['viewer', 'sso:c', 'group']) }, groups: ['watchers'] },
        coming: [{ groups: { map: {}, withoutRole: 'leave' } }],
      },
      { ...same, loses: [{ role: 'viewer', because: 'no longer by a group' }], membership: 'leaves' },
      { leaving: 1, losing: 1 },
    ],
    [
      'joining, where it was off',
      {
        row: { user: { memberships: [] } },
        present: [{ jit: { join: false } }],
        coming: [{ jit: { roles: ['member'] } }],
      },
      { ...same, gains: [{ role: 'member', because: 'by default' }], membership: 'joins' },
      { joining: 1, gaining: 1, granted: 1, grants: 0 },
    ],
    [
      'by an invitation that waits, in joining',
      {
        row: { user: { memberships: [] } },
        present: [{ enabled: false }],
        invitations: [invitation({ role: 'viewer' })],
      },
      {
        ...same,
        gains: [
          { role: 'member', because: 'by default' },
          { role: 'viewer', because: 'by invitation' },
        ],
        membership: 'joins',
        admitted: true,
      },
      { joining: 1, granted: 2, admitted: 1 },
    ],
    [
      'switched off: refused',
      { coming: [{ enabled: false }] },
      { ...same, refused: 'connection_disabled' },
      { refused: 1, revoked: 0 },
    ],
    [
      'switched on: admitted',
      { present: [{ enabled: false }] },
      { ...same, admitted: true },
      { admitted: 1, refused: 0 },
    ],
    [
      'refused under both',
      { present: [{ enabled: false }], coming: [{}, { status: 'suspended' }] },
      null,
      { refused: 0, admitted: 0 },
    ],
    [
      'of somebody suspended nothing is different',
      { row: { ...admin, user: { ...admin.user, status: 'suspended' } }, coming: [nobody] },
      null,
      { losing: 0, refused: 0, grants: 2 },
    ],
  ]
  test.each(table)('%s', async (_, given, person, sums) => {
    const found = await preview(given)
    expect(found.person).toEqual(person && { user: 'u', organization: 'o', connection: 'c', ...person })
    expect(found.scene.sums).toMatchObject(sums)
  })

  test('what the policy in force would do too is not the change', async () => {
    const left = { ...admin, groups: [] }
    expect((await preview({ row: left, coming: [nobody] })).person).toBeNull()
    const given = await preview({ row: left, present: null, coming: [nobody] })
    expect(given.person?.loses).toEqual([{ role: 'admin', because: 'no longer by a group' }])
  })

  test('where the policy in force is not known, what a person is refused for anyway is not the change', async () => {
    const suspended = { user: { status: 'suspended' as const } }
    expect((await preview({ row: suspended, present: null })).person).toBeNull()
    const off = await preview({ row: {}, present: null, coming: [{ enabled: false }] })
    expect(off.person?.refused).toBe('connection_disabled')
  })

  test('a sync that is held takes nothing now, and once it is let go what groups say', async () => {
    const gone = { ...admin, groups: [] }
    expect((await preview({ row: gone, held: 'it took too much' })).person?.loses).toEqual([
      { role: 'admin', because: 'no longer by a group' },
    ])
    expect((await preview({ row: admin, held: 'it took too much' })).person).toBeNull()
  })
})

describe('The last owner', () => {
  const owner = (more: Partial<UserFacts> = {}, status: 'active' | 'suspended' = 'active') => ({
    user: {
      memberships: [{ ...member(['owner', 'manual', 'person'], ['admin', 'sso:c', 'group'])[0]!, status }],
      ...more,
    },
    groups: ['admins'],
  })
  const losing = { coming: [nobody] as const }
  test.each<[name: string, given: Given, touched: boolean]>([
    ['loses a role', { row: owner(), ...losing }, true],
    ['is refused', { row: owner(), coming: [{ enabled: false }] }, true],
    ['loses nothing', { row: owner(), coming: [{ jit: { roles: ['viewer'] } }] }, false],
    [
      'gains something',
      {
        row: { ...owner(), groups: ['admins', 'watchers'] },
        present: [{ groups: { map: { admins: ['admin'] } } }],
      },
      false,
    ],
    ['one of two loses a role', { row: owner(), ...losing, facts: { owners: 2 } }, false],
    ['somebody else loses a role', { row: admin, ...losing }, false],
    ['an owner who is suspended is none', { row: owner({ status: 'suspended' }), ...losing }, false],
    ['an owner whose membership is suspended is none', { row: owner({}, 'suspended'), ...losing }, false],
  ])('%s: %s', async (_, given, touched) => {
    expect((await preview(given)).scene.sums.lastOwner).toBe(touched)
  })
})

describe('One after the other', () => {
  test('the last seat goes to the first, on either side', async () => {
    const before = await entries({ jit: { join: false } } as never)
    const after = await entries({}, { seatLimit: 3 })
    const scene = sceneOf(
      { id: 'o', version: 'v', status: 'active', seatLimit: 3, seatsUsed: 2, owners: 1 },
      [],
      false,
    )
    const domain = { present: null, coming: await after.directory.domain('o.example') }
    const stored: ConnectionFacts = {
      ...{ id: 'c', organization: 'o', version: 'v', enabled: true, epoch: 0, held: null },
    }
    const people = ['one', 'two'].map((id) => {
      const facts = row({
        user: { id, memberships: [], verifiedEmail: `${id}@o.example` },
        email: `${id}@o.example`,
      })
      const change = { ...after, present: before }
      return compare(scene, change, facts, { stored, domain, now: 2000 })
    })
    expect(people.map((person) => [person?.membership, person?.refused])).toEqual([
      ['joins', null],
      [null, 'seats_full'],
    ])
    expect(scene.sums).toMatchObject({ identities: 2, joining: 1, refused: 1 })
  })

  test('who comes by two connections is counted once', async () => {
    const { organization, connection } = await entries()
    const facts = {
      id: 'o',
      version: 'v',
      status: 'active',
      seatLimit: null,
      seatsUsed: 1,
      owners: 1,
    } as const
    const change = { organization, connection, present: null }
    const about = { stored: null, domain: { present: null, coming: null }, now: 2000 }
    const twice = sceneOf(facts, [], true)
    for (let n = 0; n < 2; n++) compare(twice, change, row(admin), about)
    expect(twice.sums).toMatchObject({ identities: 2, grants: 2 })
  })
})

describe('How much is too much', () => {
  const limit = { share: 0.25, atLeast: 5, window: 1 }
  test.each([
    [5, 20, false],
    [6, 20, true],
    [5, 19, true],
    [4, 4, false],
    [5, 5, true],
    [25, 100, false],
    [26, 100, true],
    [0, 0, false],
  ])('%i of %i: %s', (revoked, grants, guarded) => {
    expect(tooMany(revoked, grants, limit)).toBe(guarded)
  })
})

describe('Which connections are looked at', () => {
  const same = async (connection: Parts, organization: Parts = {}) => {
    const [one, other] = [await entries(), await entries(connection as never, organization)]
    const changes = await changesOf(one.directory, policiesOf(other.directory))
    return changes.map((change) => [change.connection.id, change.present?.connection.id ?? null])
  }
  test.each<[name: string, connection: Parts, organization: Parts]>([
    ['a secret was rotated', { clientSecret: 'another', clientId: 'other' }, {}],
    ['a name', {}, { name: 'Another' }],
    ['how answers are verified', { clockSkewSeconds: 5, scopes: ['openid', 'email'] }, {}],
  ])('none, where no rule asks: %s', async (_, connection, organization) => {
    expect(await same(connection, organization)).toEqual([])
  })
  test.each<[name: string, connection: Parts, organization: Parts]>([
    ['groups', nobody, {}],
    ['defaults', { jit: { roles: [] } }, {}],
    ['the ceiling of its organization', {}, { roles: ['owner', 'admin', 'member', 'viewer', 'guest'] }],
    [
      'whose word counts for an attribute',
      { attributes: { email: 'email', name: { from: 'name', authority: 'app' }, groups: 'groups' } },
      {},
    ],
    ['whether it is enabled', { enabled: false }, {}],
  ])('where a rule asks: %s', async (_, connection, organization) => {
    expect(await same(connection, organization)).toEqual([['c', 'c']])
  })
  test('one that is new has no policy in force', async () => {
    const { directory } = await entries()
    const none = { organization: async () => null, connection: async () => null }
    const changes = await changesOf(none, policiesOf(directory))
    expect(changes.map(({ present }) => present)).toEqual([null])
  })
  test('an input needs no secrets, and is left as it is', () => {
    const input = {
      organizations: [{ id: 'o', name: 'O', roles: ['member'] }],
      connections: [
        {
          ...{ id: 'c', organization: 'o', protocol: 'oidc', issuer: 'https://idp.example', clientId: 'x' },
          clientSecret: { env: 'NOBODY_SETS_THIS' },
        },
      ],
    } as const
    const before = structuredClone(input)
    const [connection] = policiesOf(input as never).connections as [Connection]
    const [organization] = policiesOf(input as never).organizations as [Organization]
    expect([connection.id, organization.id]).toEqual(['c', 'o'])
    expect(input).toEqual(before)
    expect(samePolicy(connection, { ...connection, version: 'other' })).toBe(true)
  })
  test('an input that is wrong is refused as a file would be', () => {
    expect(() => policiesOf({ organizations: [{ id: 'o', name: 'O', roles: [] }] })).toThrow(
      /organization "o": roles/,
    )
  })
})
