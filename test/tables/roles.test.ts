import { describe, expect, test } from 'vitest'
import { planSignIn } from '../../lib/plan.js'
import { type ConnectionInput, decide, type Given, known, member, signIn, written } from './facts.js'

type GroupRules = NonNullable<ConnectionInput['groups']>
type Roles = Parameters<typeof member>

/** A sign-in of a member with these groups and these grants, under these rules. */
const sync = (rules: GroupRules, groups: readonly string[], ...grants: Roles) =>
  decide({
    connection: { groups: { absent: 'unknown', ...rules } },
    byIdentity: known({ memberships: member(...grants) }),
    identity: { groups: { kind: 'listed', values: groups } },
  })
const writes = async (...given: Parameters<typeof sync>) =>
  written(await sync(...given)).map((write) => write.replace(/ sso:c$/, '').replace('grant.', ''))
const detail = async (...given: Parameters<typeof sync>) =>
  (await sync(...given)).trace.find(({ rule }) => rule === 'roles')?.detail

/** The first sign-in of somebody new. */
const joining = async (groups: readonly string[], given: Given = {}) => {
  const plan = await decide({ ...given, identity: { groups: { kind: 'listed', values: groups } } })
  return plan.verdict === 'allow' ? { granted: plan.granted, joined: plan.joined } : plan.reason
}

describe('Rules', () => {
  test('a group by its exact name', async () => {
    expect(await writes({ map: { admins: ['admin'] } }, ['admins'])).toEqual(['add admin'])
    for (const near of ['admin', 'admins2', 'Admins', ' admins', 'admins\u200b']) {
      expect(await writes({ map: { admins: ['admin'] } }, [near]), near).toEqual([])
    }
  })

  test('a group by how it begins', async () => {
    const rules = { prefixes: { 'app-': ['viewer'], 'app-admin': ['admin'] } }
    expect(await writes(rules, ['app-sales'])).toEqual(['add viewer'])
    expect(await writes(rules, ['app-'])).toEqual(['add viewer'])
    expect(await writes(rules, ['app-admins-eu'])).toEqual(['add viewer', 'add admin'])
    for (const near of ['app', 'my-app-sales', 'App-sales'])
      expect(await writes(rules, [near]), near).toEqual([])
  })

  test('several roles for a group, and several groups for a role: each once', async () => {
    const rules = { map: { leads: ['admin', 'viewer'], staff: ['viewer', 'member'] } }
    expect(await writes(rules, ['staff', 'leads', 'leads'])).toEqual([
      'add admin',
      'add viewer',
      'add member',
    ])
  })

  test('an exact name and a beginning at once: the exact rule is the one told of', async () => {
    const rules = { map: { 'app-x': ['admin'] }, prefixes: { app: ['admin'] } }
    expect(await detail(rules, ['app-y', 'app-x'])).toBe('+admin by group app-x')
    expect(await detail(rules, ['app-y'])).toBe('+admin by group app…')
  })

  test('a beginning is found among many groups, first, last and between', async () => {
    const crowd = Array.from({ length: 500 }, (_, n) => `g${n}`)
    const rules = { prefixes: { m: ['admin'] } }
    for (const name of ['m', 'mz', 'm\uffff']) {
      expect(await writes(rules, [...crowd, name]), name).toEqual(['add admin'])
      expect(await writes(rules, ['z', name, ...crowd]), name).toEqual(['add admin'])
    }
    expect(await writes(rules, ['l', 'lz', 'n', ...crowd])).toEqual([])
  })

  test('the order in which an IdP lists groups changes nothing', async () => {
    const rules = {
      map: { a: ['admin'], b: ['viewer'] },
      prefixes: { c: ['member'] },
      oneOf: ['viewer', 'admin'],
    }
    const groups = ['a', 'b', 'c1']
    expect((await sync(rules, groups)).changes!.ops.slice(0, -1)).toEqual(
      (await sync(rules, groups.toReversed())).changes!.ops.slice(0, -1),
    )
    expect(await detail(rules, groups)).toBe(await detail(rules, groups.toReversed()))
  })

  test.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])(
    'a group named %s is a name like any other, and no rule’s',
    async (name) => {
      expect(await writes({ map: { admins: ['admin'] }, prefixes: { app: ['viewer'] } }, [name])).toEqual([])
    },
  )

  test('a rule for a group that is called like a part of JavaScript works', async () => {
    expect(await writes({ map: { constructor: ['admin'] } }, ['constructor'])).toEqual(['add admin'])
  })
})

describe('oneOf: of these roles one person holds one', () => {
  const rules: GroupRules = {
    map: { admins: ['admin'], staff: ['member'], watchers: ['viewer'] },
    oneOf: ['admin', 'member', 'viewer'],
  }
  const withDefault = (groups: GroupRules): Given => ({
    connection: { jit: { roles: ['member'] }, groups: { absent: 'unknown', ...groups } },
  })

  test('the first that a group gives', async () => {
    expect(await writes(rules, ['watchers', 'staff'])).toEqual(['add member'])
    expect(await writes(rules, ['watchers', 'staff', 'admins'])).toEqual(['add admin'])
  })

  test('promoted and demoted: the other one goes', async () => {
    const held: Roles = [['member', 'sso:c', 'group']]
    expect(await writes(rules, ['staff', 'admins'], ...held)).toEqual(['add admin', 'remove member'])
    expect(await writes(rules, ['staff'], ['admin', 'sso:c', 'group'])).toEqual([
      'add member',
      'remove admin',
    ])
    expect(await writes(rules, ['staff'], ...held)).toEqual([])
  })

  test('a default role gives way to a group’s that stands before it, and comes back with its going', async () => {
    const given = withDefault(rules)
    expect(await joining(['admins'], given)).toMatchObject({ granted: ['admin'] })
    expect(await joining(['watchers'], given)).toMatchObject({ granted: ['member'] })
    expect(await writes(rules, ['admins'], ['member', 'sso:c', 'default'])).toEqual([
      'add admin',
      'remove member',
    ])
    expect(await writes(rules, [], ['admin', 'sso:c', 'group'])).toEqual(['add member', 'remove admin'])
  })

  test('what settled at the first sign-in is settled the same way at the next', async () => {
    const upside = { ...rules, oneOf: ['member', 'viewer'] }
    const given = withDefault(upside)
    expect(await joining(['watchers'], given)).toMatchObject({ granted: ['member'] })
    expect(await writes(upside, ['watchers'], ['member', 'sso:c', 'default'])).toEqual([])
  })

  test('roles by hand and of other sources are not counted', async () => {
    expect(await writes(rules, ['staff'], ['admin', 'manual', 'person'])).toEqual(['add member'])
    expect(await writes(rules, ['staff'], ['admin', 'sso:d', 'group'])).toEqual(['add member'])
  })

  test('a role that may not be given stands before nothing', async () => {
    const given: Given = {
      connection: {
        groups: {
          absent: 'unknown',
          map: { staff: ['member'], watchers: ['viewer'] },
          oneOf: ['member', 'viewer'],
        },
      },
    }
    const tombstones = [{ organization: 'o', role: 'member', at: 1500 }]
    const plan = await decide({
      ...given,
      byIdentity: known({ memberships: member(), tombstones }),
      identity: { groups: { kind: 'listed', values: ['staff', 'watchers'] } },
    })
    expect(written(plan)).toEqual(['grant.add viewer sso:c'])
  })

  test('of roles that the e-mail domain gave, the first is adopted', async () => {
    const held: Roles = [
      ['viewer', 'domain', 'default'],
      ['member', 'domain', 'default'],
    ]
    expect(await writes(rules, [], ...held)).toEqual([
      'add member',
      'remove viewer domain',
      'remove member domain',
    ])
    expect(await writes(rules, ['admins'], ...held)).toEqual([
      'add admin',
      'remove viewer domain',
      'remove member domain',
    ])
  })

  test('groups that are unknown take no role', async () => {
    const plan = await decide({
      connection: { groups: { absent: 'unknown', ...rules } },
      byIdentity: known({
        memberships: member(['admin', 'sso:c', 'group'], ['member', 'sso:c', 'default']),
      }),
      identity: { groups: { kind: 'overflow' } },
    })
    expect(plan.changes).toBeNull()
  })

  test('a role outside the list is held besides', async () => {
    const some = {
      map: { admins: ['admin'], staff: ['member'], watchers: ['viewer'] },
      oneOf: ['admin', 'member'],
    }
    expect(await writes(some, ['admins', 'staff', 'watchers'])).toEqual(['add admin', 'add viewer'])
  })
})

describe('The ceiling: roles that policies may give', () => {
  const organization = { assignable: ['member', 'viewer'] }
  const connection: ConnectionInput = { groups: { absent: 'unknown', map: { watchers: ['viewer'] } } }

  test('what was given before and may no longer be is taken back, by sync', async () => {
    const byIdentity = known({
      memberships: member(['admin', 'sso:c', 'group'], ['admin', 'manual', 'person']),
    })
    const plan = await decide({ organization, connection, byIdentity })
    expect(written(plan)).toEqual(['grant.remove admin sso:c'])
    expect(
      written(
        await decide({
          connection: { groups: { absent: 'unknown', map: { admins: ['admin'] } } },
          byIdentity,
          identity: { groups: { kind: 'listed', values: ['admins'] } },
        }),
      ),
    ).toEqual([])
  })

  test('the same where the organization no longer has the role', async () => {
    const plan = await decide({
      organization: { roles: ['owner', 'member', 'viewer'] },
      connection,
      byIdentity: known({ memberships: member(['admin', 'sso:c', 'default']) }),
    })
    expect(written(plan)).toEqual(['grant.remove admin sso:c'])
  })

  test('mode add takes nothing back', async () => {
    const byIdentity = known({ memberships: member(['admin', 'sso:c', 'group']) })
    const add: ConnectionInput = { groups: { ...connection.groups, mode: 'add' } }
    expect((await decide({ organization, connection: add, byIdentity })).changes).toBeNull()
  })
})

describe('An entry that no schema saw', () => {
  /** The connection maps a group to each role, and gives all by default, whatever the organization says. */
  const given = async (assignable: readonly string[], byIdentity?: Given['byIdentity']) => {
    const facts = await signIn({
      identity: { groups: { kind: 'listed', values: ['owners', 'admins', 'members'] } },
      ...(byIdentity && { byIdentity }),
    })
    if (facts.way.kind !== 'connection') throw new Error('a connection is meant')
    const { connection, organization } = facts.way
    const map = { owners: ['owner'], admins: ['admin'], members: ['member'] }
    const odd = {
      ...connection,
      groups: { ...connection.groups, map },
      jit: { ...connection.jit, roles: ['owner'] },
    }
    return written(
      planSignIn({
        ...facts,
        way: { kind: 'connection', connection: odd, organization: { ...organization, assignable } },
      }),
    ).filter((write) => write.startsWith('grant.'))
  }

  test('P01: gives no role above the ceiling', async () => {
    expect(await given(['admin', 'member'])).toEqual(['grant.add admin sso:c', 'grant.add member sso:c'])
    expect(await given(['member'])).toEqual(['grant.add member sso:c'])
    expect(await given(['member'], known({ memberships: member() }))).toEqual(['grant.add member sso:c'])
  })

  test('P01: never gives the owner role, not even where the ceiling has it', async () => {
    expect(await given(['owner', 'member'])).toEqual(['grant.add member sso:c'])
  })

  test('P01, P06: and sync never takes that role back, whatever gave it', async () => {
    expect(await sync({}, [], ['owner', 'sso:c', 'group'])).toMatchObject({ revoked: [], changes: null })
    expect(await sync({}, [], ['admin', 'sso:c', 'group'])).toMatchObject({ revoked: ['admin'] })
  })
})

describe('Modes', () => {
  const map = { admins: ['admin'], watchers: ['viewer'] }
  const held: Roles = [['viewer', 'sso:c', 'group']]

  test('sync gives and takes; add only gives', async () => {
    expect(await writes({ map }, ['admins'], ...held)).toEqual(['add admin', 'remove viewer'])
    expect(await writes({ map, mode: 'add' }, ['admins'], ...held)).toEqual(['add admin'])
  })

  test('default roles are given on joining only, and no sync takes them', async () => {
    expect(await joining([])).toMatchObject({ granted: ['member'] })
    expect(await writes({ map }, [])).toEqual([])
    expect(await writes({ map }, [], ['member', 'sso:c', 'default'])).toEqual([])
  })

  test('a sync that is held takes not even a role above a ceiling that was lowered, nor one that a person took', async () => {
    const given: Given = {
      organization: { assignable: ['viewer', 'member'] },
      byIdentity: known({
        memberships: member(['admin', 'sso:c', 'group'], ['viewer', 'sso:c', 'group']),
        tombstones: [{ organization: 'o', role: 'viewer', at: 1 }],
      }),
      connection: { groups: { absent: 'unknown' } },
    }
    const stored = { held: 'it took too much' }
    expect(written(await decide({ ...given, stored }))).toEqual([])
    expect(written(await decide(given))).toEqual(['grant.remove admin sso:c', 'grant.remove viewer sso:c'])
  })

  test('a sync that is held neither gives nor takes; default roles are given on joining', async () => {
    const stored = { held: '40 of 50 grants revoked within an hour' }
    const plan = await decide({
      stored,
      byIdentity: known({ memberships: member(['viewer', 'sso:c', 'group']) }),
      identity: { groups: { kind: 'listed', values: ['admins'] } },
    })
    expect(plan.changes).toBeNull()
    expect(plan.trace.find(({ rule }) => rule === 'roles')).toMatchObject({
      finding: 'sync_held',
      detail: stored.held,
    })
    expect(await joining(['admins'], { stored })).toMatchObject({ granted: ['member'] })
  })
})

describe('truncatedAt: an IdP that leaves groups out without a word', () => {
  const rules: GroupRules = { map: { admins: ['admin'], watchers: ['viewer'] }, truncatedAt: 3 }
  const held: Roles = [['viewer', 'sso:c', 'group']]

  test('that many groups are unknown: they neither give nor take', async () => {
    const plan = await sync(rules, ['admins', 'x', 'y'], ...held)
    expect(plan.changes).toBeNull()
    expect(plan.trace.find(({ rule }) => rule === 'roles')?.finding).toBe('groups_truncated')
  })

  test('one less is the whole list', async () => {
    expect(await writes(rules, ['admins', 'x'], ...held)).toEqual(['add admin', 'remove viewer'])
  })
})

describe('withoutRole: a membership whose last role goes', () => {
  const connection = (withoutRole: 'keep' | 'leave'): ConnectionInput => ({
    jit: {},
    groups: { absent: 'unknown', map: { admins: ['admin'] }, withoutRole },
  })
  const admin = known({ memberships: member(['admin', 'sso:c', 'group']) })

  test('keep: the membership stays', async () => {
    expect(written(await decide({ connection: connection('keep'), byIdentity: admin }))).toEqual([
      'grant.remove admin sso:c',
    ])
  })

  test('leave: the membership goes with it, and its seat is freed', async () => {
    const plan = await decide({ connection: connection('leave'), byIdentity: admin })
    expect(written(plan)).toEqual(['grant.remove admin sso:c', 'membership.remove'])
    expect(plan).toMatchObject({ revoked: ['admin'], after: { membership: null } })
    expect(plan.changes!.guards).toContainEqual({ guard: 'seats', organization: 'o', by: -1 })
    expect(plan.trace.find(({ rule }) => rule === 'roles')?.finding).toBe('last_role_gone')
  })

  test('leave: whoever has another role stays', async () => {
    const both = known({ memberships: member(['admin', 'sso:c', 'group'], ['viewer', 'manual', 'person']) })
    expect(written(await decide({ connection: connection('leave'), byIdentity: both }))).toEqual([
      'grant.remove admin sso:c',
    ])
  })

  test('leave: somebody new without a role joins nothing, and joins with one', async () => {
    expect(await joining([], { connection: connection('leave') })).toEqual({ granted: [], joined: [] })
    expect(await joining(['admins'], { connection: connection('leave') })).toEqual({
      granted: ['admin'],
      joined: ['o'],
    })
    expect(await joining([], { connection: connection('keep') })).toEqual({ granted: [], joined: ['o'] })
  })

  test('leave: groups that are unknown make nobody leave and keep nobody out', async () => {
    const identity = { groups: { kind: 'overflow' } } as const
    const given = { connection: connection('leave'), identity }
    expect((await decide({ ...given, byIdentity: admin })).changes).toBeNull()
    expect(await decide(given)).toMatchObject({ joined: ['o'], granted: [] })
  })

  test('leave: a member who had no role before is left alone', async () => {
    const idle = known({ memberships: member() })
    expect((await decide({ connection: connection('leave'), byIdentity: idle })).changes).toBeNull()
  })
})

describe('Bounds', () => {
  /** In no order. */
  const many = (count: number, name: string) =>
    Array.from({ length: count }, (_, n) => `${name}${(n * 7919) % count}`)

  /** Milliseconds of the fastest of a few plans; whatever else the machine does makes none faster. */
  async function fastest(given: Given) {
    const facts = await signIn(given)
    const times = Array.from({ length: 5 }, () => {
      const began = performance.now()
      planSignIn(facts)
      return performance.now() - began
    })
    return Math.min(...times)
  }

  test('10,000 groups under 1,000 beginnings and 1,000 names take less than 100 ms', async () => {
    const rules = {
      prefixes: Object.fromEntries(many(1_000, 'no group begins so ').map((name) => [name, ['viewer']])),
      map: Object.fromEntries(many(1_000, 'no group is called ').map((name) => [name, ['viewer']])),
    }
    const time = await fastest({
      connection: { groups: { absent: 'unknown', ...rules } },
      byIdentity: known({ memberships: member() }),
      // All of them alike as far as the rules can see.
      identity: { groups: { kind: 'listed', values: many(10_000, 'no group begins as ') } },
    })
    expect(time).toBeLessThan(100)
  })
})
