import type { Plan, Source } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import {
  decide,
  decideByProvider,
  type Given,
  type GivenByProvider,
  invitation,
  known,
  member,
  user,
  written,
} from './facts.js'

// DESIGN §5, row by row, in the order in which the rules are asked.

const outcomeOf = (plan: Plan) => [plan.verdict, plan.reason]
const findingOf = (plan: Plan, rule: string) => plan.trace.find((entry) => entry.rule === rule)?.finding
const opsOf = (plan: Plan, kind: string) => plan.changes!.ops.filter(({ op }) => op === kind)
const guardsOf = (plan: Plan, kind: string) => plan.changes!.guards.filter(({ guard }) => guard === kind)
const allowed = (plan: Plan) => {
  if (plan.verdict !== 'allow') throw new Error(`${plan.verdict}: ${plan.reason}`)
  return plan
}

/** An account that carries Ann's address, which nobody proved; with all that somebody could have planted in it. */
const carrier = (id = 'squatter', facts = {}) =>
  user({
    id,
    verifiedEmail: null,
    contactEmail: 'ann@o.example',
    epoch: 4,
    attributes: { name: 'Eve', note: 'planted' },
    identities: [{ source: 'provider:verifying', issuer: 'https://social.example', subject: 'eve' }],
    memberships: member(['admin', 'manual', 'person']),
    ...facts,
  })

describe('account with this contact e-mail exists, never verified', () => {
  const unverified = { identity: { emailVerified: 'unstated' } } as const

  test.each<[string, () => Promise<Plan>]>([
    ['vouched by a connection', () => decide({ byContactEmail: [carrier()] })],
    ['proved by a code', () => decideByProvider({ provider: 'email', byContactEmail: [carrier()] })],
    ['proved by a provider’s flag', () => decideByProvider({ byContactEmail: [carrier()] })],
  ])('an address %s claims it: all else about it ends', async (_, plan) => {
    const claimed = allowed(await plan())
    expect(outcomeOf(claimed)).toEqual(['allow', 'account_claimed'])
    expect(written(claimed)[0]).toBe('user.claim')
    expect(claimed.after).toMatchObject({
      user: { id: 'squatter', verifiedEmail: 'ann@o.example', epoch: 5 },
    })
    expect(claimed.after.user.attributes).not.toHaveProperty('note')
    expect(claimed.after.membership?.grants ?? []).not.toContainEqual(
      expect.objectContaining({ source: 'manual' }),
    )
  })

  test('anything less is prove', async () => {
    expect(await decideByProvider({ ...unverified, byContactEmail: [carrier()] })).toMatchObject({
      verdict: 'prove',
      proof: { address: 'ann@o.example', user: 'squatter', by: 'address' },
      ways: [],
      changes: null,
    })
  })

  test('a suspended one is neither claimed nor asked about', async () => {
    const suspended = carrier('squatter', { status: 'suspended' })
    const plan = await decide({ byContactEmail: [suspended] })
    expect(outcomeOf(plan)).toEqual(['allow', 'user_provisioned'])
    expect(plan.changes!.expect).toEqual([])
  })

  test('what a person removed stays removed when it is claimed', async () => {
    const removed = carrier('squatter', { tombstones: [{ organization: 'o', role: null, at: 1500 }] })
    const plan = allowed(await decide({ byContactEmail: [removed] }))
    expect(plan).toMatchObject({ reason: 'account_claimed', joined: [], after: { membership: null } })
    const role = carrier('squatter', { tombstones: [{ organization: 'o', role: 'member', at: 1500 }] })
    expect(allowed(await decide({ byContactEmail: [role] })).granted).toEqual([])
    expect(allowed(await decide({ byContactEmail: [carrier()] })).granted).toEqual(['member'])
  })

  test('a removed user does not come back by claiming another’s account', async () => {
    const given = { byContactEmail: [carrier()], removed: [{ of: 'address', at: 1500 }] } satisfies Given
    expect(outcomeOf(await decide(given))).toEqual(['deny', 'user_removed'])
    const invited = await decide({ ...given, invitations: [invitation({ at: 1600 })] })
    expect(outcomeOf(invited)).toEqual(['allow', 'account_claimed'])
  })
})

describe('several unverified accounts carry this contact e-mail', () => {
  const both = [carrier('one'), carrier('two')]

  test('a vouched address claims none of them: each loses that contact address, and a new user is made', async () => {
    const plan = allowed(await decide({ byContactEmail: both }))
    expect(plan).toMatchObject({ outcome: 'created', after: { user: { id: 'new' } } })
    expect(opsOf(plan, 'user.update')).toEqual(
      ['one', 'two'].map((id) => ({ op: 'user.update', id, set: { contactEmail: null } })),
    )
    expect(plan.changes!.expect.map((entry) => entry.user)).toEqual(['one', 'two'])
  })

  test('so does a proved one', async () => {
    const plan = allowed(await decideByProvider({ provider: 'email', byContactEmail: both }))
    expect(plan).toMatchObject({ outcome: 'created', after: { user: { id: 'new' } } })
    expect(opsOf(plan, 'user.update')).toHaveLength(2)
  })

  test('an unverified address is to be proved, and then claims none of them', async () => {
    const given = {
      identity: { emailVerified: 'unstated' },
      byContactEmail: both,
    } satisfies GivenByProvider
    expect(await decideByProvider(given)).toMatchObject({ verdict: 'prove', proof: { by: 'address' } })
    const proof = { address: 'ann@o.example', user: 'one', by: 'address' } as const
    const plan = allowed(await decideByProvider({ ...given, proof }))
    expect(plan).toMatchObject({ outcome: 'created', after: { user: { id: 'new' } } })
    expect(opsOf(plan, 'user.update')).toHaveLength(2)
  })
})

describe('a proof', () => {
  const given = {
    identity: { emailVerified: 'unstated' },
    byContactEmail: [carrier()],
  } satisfies GivenByProvider

  test('L10: of an address is none of another one', async () => {
    const proof = { address: 'ann@o.example', user: 'squatter', by: 'address' } as const
    expect(outcomeOf(await decideByProvider({ ...given, proof }))).toEqual(['allow', 'account_claimed'])
    const wrong = { ...proof, address: 'bob@o.example' }
    expect((await decideByProvider({ ...given, proof: wrong })).verdict).toBe('prove')
  })

  test('L10: of an account is none of its address, so that invitations for it stay where they are', async () => {
    const proof = { address: 'ann@o.example', user: 'squatter', by: 'address' } as const
    const invited = { ...given, invitations: [invitation({ organization: 'elsewhere' })] }
    expect(allowed(await decideByProvider({ ...invited, proof })).invitations).toHaveLength(1)
    const entered = allowed(await decideByProvider({ ...invited, proof: { ...proof, by: 'account' } }))
    expect(entered).toMatchObject({
      invitations: [],
      after: { user: { id: 'squatter', verifiedEmail: null } },
    })
  })
})

describe('social sign-in, verified account exists, no identity of this provider', () => {
  test('prove by code', async () => {
    expect(await decideByProvider({ byVerifiedEmail: user() })).toMatchObject({
      verdict: 'prove',
      proof: { address: 'ann@o.example', user: 'u', by: 'address' },
    })
    const proof = { address: 'ann@o.example', user: 'u', by: 'address' } as const
    expect(written(await decideByProvider({ byVerifiedEmail: user(), proof }))).toEqual(['identity.link'])
  })

  test('linked where its verification is authoritative and it says so of this address', async () => {
    const given = { provider: 'authoritative', byVerifiedEmail: user() } as const
    expect(outcomeOf(await decideByProvider(given))).toEqual(['allow', 'identity_linked'])
    const silent = { ...given, identity: { emailVerified: 'unstated' } } as const
    expect((await decideByProvider(silent)).verdict).toBe('prove')
  })
})

describe('same user already has another subject on this connection', () => {
  const old = { source: 'connection:c', issuer: 'https://idp.example', subject: 'old' } as const
  const taken = (more: Source[] = []) =>
    user({
      identities: [old, ...more.map((source) => ({ source, issuer: 'https://other.example', subject: 'x' }))],
    })
  const until = (time: number) => ({ subjectMigration: { until: new Date(time).toISOString() } })
  const proof = { address: 'ann@o.example', user: 'u', by: 'account' } as const

  test('refused', async () => {
    expect(outcomeOf(await decide({ byVerifiedEmail: taken() }))).toEqual(['deny', 'subject_changed'])
  })

  test('refused as well where the issuer changed under the same subject', async () => {
    const moved = user({ identities: [{ ...old, issuer: 'https://before.example', subject: 's' }] })
    expect(outcomeOf(await decide({ byVerifiedEmail: moved }))).toEqual(['deny', 'subject_changed'])
  })

  test('window open: the account passes to the new subject, the old one and its sessions end', async () => {
    const plan = allowed(await decide({ byVerifiedEmail: taken(), connection: until(2001) }))
    expect(outcomeOf(plan)).toEqual(['allow', 'subject_migrated'])
    expect(opsOf(plan, 'identity.unlink')).toEqual([{ op: 'identity.unlink', user: 'u', ...old }])
    expect(opsOf(plan, 'identity.link')).toMatchObject([{ user: 'u', subject: 's' }])
    expect(opsOf(plan, 'user.update')).toEqual([{ op: 'user.update', id: 'u', set: { endSessions: true } }])
    expect(plan.after.user.epoch).toBe(1)
  })

  test.each([2000, 1999])('window over at %i, and now is 2000: refused again', async (time) => {
    const plan = await decide({ byVerifiedEmail: taken(), connection: until(time) })
    expect(outcomeOf(plan)).toEqual(['deny', 'subject_changed'])
  })

  test('an open window moves nobody whose address the connection does not vouch for', async () => {
    const plan = await decide({
      byVerifiedEmail: taken(),
      connection: until(3000),
      identity: { emailVerified: 'no' },
    })
    expect(outcomeOf(plan)).toEqual(['deny', 'email_unverified'])
  })

  test('an old identity can sign in: prove, by the account and by no code', async () => {
    const given = { byVerifiedEmail: taken(['connection:d']), otherWays: ['connection:d'] } satisfies Given
    const plan = await decide(given)
    expect(plan).toMatchObject({ verdict: 'prove', proof, ways: ['connection:d'], changes: null })
    expect(findingOf(plan, 'user')).toBe('subject_changed')
    const migrated = allowed(await decide({ ...given, proof }))
    expect(outcomeOf(migrated)).toEqual(['allow', 'subject_migrated'])
    expect(opsOf(migrated, 'identity.unlink')).toMatchObject([{ source: 'connection:c', subject: 'old' }])
  })

  test('a code to the address is no proof of the old account, nor is another account', async () => {
    const given = { byVerifiedEmail: taken(['connection:d']), otherWays: ['connection:d'] } satisfies Given
    for (const wrong of [
      { ...proof, by: 'address' as const },
      { ...proof, user: 'other' },
    ]) {
      expect((await decide({ ...given, proof: wrong })).verdict).toBe('prove')
    }
  })

  test('to who brings an unproved address nothing is said of the account before the address is proved', async () => {
    const old = { source: 'provider:verifying', issuer: 'https://social.example', subject: 'old' } as const
    const given = { identity: { emailVerified: 'no' }, otherWays: ['connection:c'] } satisfies GivenByProvider
    const accounts = {
      active: user(),
      suspended: user({ status: 'suspended' }),
      'with another subject of this provider': user({ identities: [old] }),
    }
    const shown = await Promise.all(
      Object.values(accounts).map(async (byVerifiedEmail) => {
        const plan = await decideByProvider({ ...given, byVerifiedEmail })
        return {
          outcome: outcomeOf(plan),
          proof: plan.verdict === 'prove' && plan.proof,
          writes: plan.changes,
        }
      }),
    )
    const asked = { address: 'ann@o.example', user: 'u', by: 'address' } as const
    for (const answer of shown)
      expect(answer).toEqual({ outcome: ['prove', 'proof_required'], proof: asked, writes: null })

    const proved = async (which: keyof typeof accounts) => {
      const plan = await decideByProvider({ ...given, byVerifiedEmail: accounts[which], proof: asked })
      return [...outcomeOf(plan), plan.verdict === 'prove' && plan.proof.by]
    }
    expect(await proved('active')).toEqual(['allow', 'identity_linked', false])
    expect(await proved('suspended')).toEqual(['deny', 'user_suspended', false])
    expect(await proved('with another subject of this provider')).toEqual([
      'prove',
      'proof_required',
      'account',
    ])
  })

  test('what would refuse it anyway is said before anybody has to prove anything', async () => {
    const given = { otherWays: ['connection:d'] } satisfies Given
    const suspended = { ...taken(['connection:d']), status: 'suspended' as const }
    expect(outcomeOf(await decide({ ...given, byVerifiedEmail: suspended }))).toEqual([
      'deny',
      'user_suspended',
    ])
    const social = user({
      identities: [
        { source: 'provider:authoritative', issuer: 'https://social.example', subject: 'old' },
        { source: 'connection:c', issuer: 'https://idp.example', subject: 's' },
      ],
    })
    const byProvider = {
      provider: 'authoritative',
      byVerifiedEmail: social,
      otherWays: ['connection:c'],
    } satisfies GivenByProvider
    expect(outcomeOf(await decideByProvider({ ...byProvider, sso: true }))).toEqual(['deny', 'sso_required'])
    expect(await decideByProvider(byProvider)).toMatchObject({ verdict: 'prove', ways: ['connection:c'] })
  })
})

describe('known subject, new e-mail', () => {
  const moved = (facts = {}) => known({ verifiedEmail: 'ann@acquired.example', ...facts })
  const adopted = async (given: Given) => {
    const plan = allowed(await decide(given))
    expect(plan.after.user.id).toBe('u')
    return [plan.after.user.verifiedEmail, plan.after.user.contactEmail]
  }

  test('free, adoption off: same user, not adopted', async () => {
    expect(await adopted({ byIdentity: moved() })).toEqual(['ann@acquired.example', 'ann@o.example'])
  })

  test('free, adoption on: adopted', async () => {
    const given = {
      byIdentity: moved({ contactEmail: null }),
      connection: { adoptEmail: true },
    } satisfies Given
    expect(await adopted(given)).toEqual(['ann@o.example', 'ann@o.example'])
    expect(opsOf(await decide(given), 'user.update')).toEqual([
      { op: 'user.update', id: 'u', set: { verifiedEmail: 'ann@o.example', contactEmail: 'ann@o.example' } },
    ])
  })

  test.each([false, true])(
    'taken, adoption %s: never adopted, and the other account untouched',
    async (on) => {
      const given = {
        byIdentity: moved(),
        byVerifiedEmail: user({ id: 'other' }),
        connection: { adoptEmail: on },
      } satisfies Given
      expect((await adopted(given))[0]).toBe('ann@acquired.example')
      expect((await decide(given)).changes?.expect ?? []).not.toContainEqual(
        expect.objectContaining({ user: 'other' }),
      )
    },
  )

  test.each([
    ['foreign', { email: 'ann@p.example' }],
    ['outside', { email: 'ann@nobody.example' }],
    ['vetoed', { emailVerified: 'no' }],
  ] as const)('%s, adoption on: same user, not adopted', async (_, identity) => {
    const given = { byIdentity: moved(), identity, connection: { adoptEmail: true } } satisfies Given
    expect((await adopted(given))[0]).toBe('ann@acquired.example')
  })

  test('an address that only others carry unproved is free', async () => {
    const given = {
      byIdentity: moved(),
      byContactEmail: [carrier()],
      connection: { adoptEmail: true },
    } satisfies Given
    expect((await adopted(given))[0]).toBe('ann@o.example')
  })
})

describe('attribute differs: authority per attribute', () => {
  test.each([
    ['idp', 'Anna'],
    ['app', 'Ann'],
    ['first', 'Ann'],
  ] as const)('%s: %s stands', async (authority, name) => {
    const plan = allowed(
      await decide({
        connection: { attributes: { email: 'email', groups: 'groups', name: { from: 'name', authority } } },
        byIdentity: known(),
        identity: { profile: { name: 'Anna' } },
      }),
    )
    expect(plan.after.user.attributes.name).toBe(name)
  })
})

describe('groups absent / empty / overflowed', () => {
  const given = (absent: 'unknown' | 'empty', groups: object): Given => ({
    connection: { groups: { absent, map: { admins: ['admin'], watchers: ['viewer'] } } },
    byIdentity: known({ memberships: member(['admin', 'sso:c', 'group']) }),
    identity: { groups: groups as never },
  })

  test.each([
    ['absent, unknown by policy: neither grants nor revokes', 'unknown', { kind: 'absent' }, []],
    ['absent, empty by policy: revokes', 'empty', { kind: 'absent' }, ['grant.remove admin sso:c']],
    ['empty: revokes', 'unknown', { kind: 'listed', values: [] }, ['grant.remove admin sso:c']],
    ['overflowed is always unknown', 'empty', { kind: 'overflow' }, []],
  ] as const)('%s', async (_, absent, groups, writes) => {
    expect(written(await decide(given(absent, groups)))).toEqual(writes)
  })

  test.each([{ kind: 'absent' }, { kind: 'overflow' }])(
    '$kind, joining: default roles and no others',
    async (groups) => {
      const plan = allowed(await decide({ identity: { groups: groups as never } }))
      expect(plan.granted).toEqual(['member'])
      expect(findingOf(plan, 'roles')).toBe(`groups_${groups.kind}`)
    },
  )
})

describe('mapped roles shrink', () => {
  test('only grants whose source is this connection go, of those for groups; manual ones stay', async () => {
    const before = member(
      ['admin', 'sso:c', 'group'],
      ['admin', 'manual', 'person'],
      ['viewer', 'sso:other', 'group'],
      ['viewer', 'invitation:i', 'person'],
      ['member', 'sso:c', 'default'],
    )
    const plan = allowed(await decide({ byIdentity: known({ memberships: before }) }))
    expect(written(plan)).toEqual(['grant.remove admin sso:c'])
    expect(plan.revoked, 'still held by hand').toEqual([])
  })

  test('a role that a person revoked by hand stays revoked', async () => {
    const tombstones = [{ organization: 'o', role: 'admin', at: 1500 }]
    const identity = { groups: { kind: 'listed', values: ['admins'] } } as const
    const plan = await decide({ byIdentity: known({ memberships: member(), tombstones }), identity })
    expect(written(plan)).toEqual([])
    expect(written(await decide({ byIdentity: known({ memberships: member() }), identity }))).toEqual([
      'grant.add admin sso:c',
    ])
  })

  test('the last owner is never removed: no sync takes the owner role, whatever its source says', async () => {
    const before = member(['owner', 'sso:c', 'group'], ['owner', 'manual', 'person'])
    const connection: Given['connection'] = { groups: { withoutRole: 'leave', map: { admins: ['admin'] } } }
    const plan = await decide({ byIdentity: known({ memberships: before }), connection })
    expect(written(plan)).toEqual([])
  })
})

describe('organization moves from domain JIT to SSO', () => {
  const domain = (...roles: string[]) =>
    member(...roles.map((role) => [role, 'domain', 'default'] as [string, string, string]))

  test('the first SSO join adopts the domain grants', async () => {
    const plan = allowed(await decide({ byVerifiedEmail: user({ memberships: domain('member', 'viewer') }) }))
    expect(written(plan)).toEqual([
      'identity.link',
      'grant.add member sso:c',
      'grant.add viewer sso:c',
      'grant.remove member domain',
      'grant.remove viewer domain',
    ])
    expect(plan.after.membership?.grants).toEqual([
      { role: 'member', source: 'sso:c', basis: 'default' },
      { role: 'viewer', source: 'sso:c', basis: 'default' },
    ])
    expect([plan.granted, plan.revoked], 'nobody gained or lost a role').toEqual([[], []])
  })

  test('by policy they are kept as default roles, so no later sync takes them back', async () => {
    const kept = known({ memberships: member(['viewer', 'sso:c', 'default']) })
    expect(written(await decide({ byIdentity: kept }))).toEqual([])
  })

  test('with join off nothing is adopted', async () => {
    const connection = { jit: { join: false } }
    const plan = await decide({ byVerifiedEmail: user({ memberships: domain('member') }), connection })
    expect(written(plan)).toEqual(['identity.link'])
  })

  test('no role above the ceiling is adopted', async () => {
    const organization = { assignable: ['member'] }
    const plan = allowed(
      await decide({
        byVerifiedEmail: user({ memberships: domain('admin', 'member') }),
        organization,
        connection: { groups: {} },
      }),
    )
    expect(plan.after.membership?.grants.map(({ role }) => role)).toEqual(['member'])
    expect(plan.revoked).toEqual(['admin'])
  })
})

describe('membership or user was removed by a person', () => {
  const stone = (at: number, role: string | null = null) => ({ organization: 'o', role, at })

  test('membership: tombstone until a newer invitation', async () => {
    const removed = known({ tombstones: [stone(1500)] })
    const plan = allowed(await decide({ byIdentity: removed }))
    expect([plan.joined, findingOf(plan, 'tombstone')]).toEqual([[], 'membership_removed'])
    const invited = allowed(await decide({ byIdentity: removed, invitations: [invitation({ at: 1501 })] }))
    expect(invited.joined).toEqual(['o'])
    expect(written(invited)).toEqual([
      'tombstone.remove',
      'membership.create',
      'grant.add member sso:c',
      'grant.add admin invitation:i',
    ])
  })

  test.each([1500, 1499])('an invitation of %i does not outlive a removal at 1500', async (at) => {
    const given = { byIdentity: known({ tombstones: [stone(1500)] }), invitations: [invitation({ at })] }
    const plan = allowed(await decide(given))
    expect([plan.joined, plan.invitations, plan.changes]).toEqual([[], [], null])
  })

  test('of two invitations the one from before the removal gives nothing', async () => {
    const plan = allowed(
      await decide({
        byIdentity: known({ tombstones: [stone(1500)] }),
        invitations: [
          invitation({ id: 'before', at: 1400, role: 'admin' }),
          invitation({ id: 'after', at: 1600, role: 'viewer' }),
        ],
      }),
    )
    expect(plan.granted).toEqual(['member', 'viewer'])
  })

  test('a role: an invitation as something else leaves it away', async () => {
    const removed = known({ tombstones: [stone(1400), stone(1500, 'admin')] })
    const identity = { groups: { kind: 'listed', values: ['admins'] } } as const
    const plan = allowed(
      await decide({
        byIdentity: removed,
        identity,
        invitations: [invitation({ at: 1600, role: 'viewer' })],
      }),
    )
    expect(plan.granted).toEqual(['member', 'viewer'])
    expect(opsOf(plan, 'tombstone.remove')).toMatchObject([{ role: null }])
    const same = allowed(
      await decide({ byIdentity: removed, identity, invitations: [invitation({ at: 1600, role: 'admin' })] }),
    )
    expect(same.granted).toEqual(['member', 'admin'])
    expect(opsOf(same, 'tombstone.remove')).toMatchObject([{ role: null }, { role: 'admin' }])
  })

  test('a role: an invitation from before its removal does not give it', async () => {
    const given = (at: number) => ({
      byIdentity: known({ tombstones: [stone(1500, 'admin')] }),
      invitations: [invitation({ at })],
    })
    expect(allowed(await decide(given(1400))).granted).toEqual(['member'])
    expect(allowed(await decide(given(1600))).granted).toEqual(['member', 'admin'])
  })

  test('an invitation that waits for a member’s click lifts nothing meanwhile', async () => {
    const plan = allowed(
      await decide({
        byIdentity: known({ memberships: member(), tombstones: [stone(1500, 'admin')] }),
        identity: { groups: { kind: 'listed', values: ['admins'] } },
        invitations: [invitation({ at: 1600 })],
      }),
    )
    expect(plan.granted).toEqual([])
    expect(plan.invitations.map(({ id }) => id)).toEqual(['i'])
  })

  test.each(['identity', 'address'] as const)('user: refused by the keyed hash of the %s', async (of) => {
    const removed = [{ of, at: 1500 }]
    expect(outcomeOf(await decide({ removed }))).toEqual(['deny', 'user_removed'])
    const invited = allowed(await decide({ removed, invitations: [invitation({ at: 1501 })] }))
    expect(outcomeOf(invited)).toEqual(['allow', 'user_provisioned'])
    expect(opsOf(invited, 'removed.remove')).toHaveLength(1)
    expect(outcomeOf(await decide({ removed, invitations: [invitation({ at: 1500 })] }))).toEqual([
      'deny',
      'user_removed',
    ])
  })

  test('user: an invitation from before the removal is not accepted beside a newer one', async () => {
    const plan = allowed(
      await decide({
        removed: [{ of: 'identity', at: 1500 }],
        invitations: [
          invitation({ id: 'before', at: 1400 }),
          invitation({ id: 'p', organization: 'p', at: 1600 }),
        ],
      }),
    )
    expect([plan.granted, plan.invitations.map(({ id }) => id)]).toEqual([['member'], ['p']])
  })

  test('user: an address that is not proved says nothing about who was removed', async () => {
    const identity = { emailVerified: 'unstated' } as const
    const plan = await decideByProvider({ identity, removed: [{ of: 'address', at: 1500 }] })
    expect(outcomeOf(plan)).toEqual(['allow', 'user_created'])
  })

  test('user: whoever is known by now is not removed', async () => {
    expect((await decide({ byIdentity: known(), removed: [{ of: 'identity', at: 1500 }] })).verdict).toBe(
      'allow',
    )
  })

  describe('membership: it stays away where the account it was of is gone', () => {
    const from = 'o'
    const accounts: [string, Given][] = [
      ['made', {}],
      ['known', { byIdentity: known() }],
      ['linked', { byVerifiedEmail: user() }],
      ['claimed', { byContactEmail: [carrier()] }],
    ]
    const cases = accounts.flatMap(([name, given]) =>
      (['identity', 'address'] as const).map((of) => [name, of, given] as const),
    )

    test.each(cases)('of an account that is %s, by the hash of the %s', async (_, of, given) => {
      const removed = [{ of, at: 1500, from }]
      const plan = allowed(await decide({ ...given, removed }))
      expect([plan.joined, findingOf(plan, 'tombstone')]).toEqual([[], 'membership_removed'])
      expect(plan.after.membership).toBeNull()

      const later = [invitation({ at: 1501 })]
      const invited = allowed(await decide({ ...given, removed, invitations: later }))
      expect([invited.joined, findingOf(invited, 'tombstone')]).toEqual([['o'], 'overridden_by_invitation'])
      expect(opsOf(invited, 'removed.remove')).toEqual([
        { op: 'removed.remove', hash: expect.any(String), until: 1500, organization: 'o' },
      ])

      const same = allowed(await decide({ ...given, removed, invitations: [invitation({ at: 1500 })] }))
      expect([same.joined, same.invitations]).toEqual([[], []])
    })

    test.each(accounts)('of an account that is %s, whatever another organization says', async (_, given) => {
      const removed = [
        { of: 'address', at: 1500 },
        { of: 'address', at: 1500, from },
      ] as const
      const invitations = [invitation({ organization: 'p', at: 1600 })]
      const plan = allowed(await decide({ ...given, removed: [...removed], invitations }))
      expect([plan.joined, findingOf(plan, 'tombstone')]).toEqual([[], 'membership_removed'])
      expect(plan.changes?.ops.filter((op) => op.op === 'removed.remove' && op.organization) ?? []).toEqual(
        [],
      )
      expect(plan.invitations).toHaveLength(1)
    })

    test('nor by another address than that of the account', async () => {
      const given = { byIdentity: known({ verifiedEmail: 'former@o.example' }) }
      const removed: Given['removed'] = [{ of: 'own address', at: 1500, from }]
      expect(allowed(await decide(given)).joined).toEqual(['o'])
      expect(allowed(await decide({ ...given, removed })).joined).toEqual([])
    })

    test('the removal from another organization is none from this one', async () => {
      const removed: Given['removed'] = [{ of: 'identity', at: 1500, from: 'p' }]
      expect(allowed(await decide({ removed })).joined).toEqual(['o'])
    })

    test('whoever is a member was let in since', async () => {
      const plan = allowed(
        await decide({
          byIdentity: known({ memberships: member() }),
          identity: { groups: { kind: 'listed', values: ['admins'] } },
          removed: [{ of: 'identity', at: 1500, from }],
        }),
      )
      expect([plan.granted, findingOf(plan, 'tombstone')]).toEqual([['admin'], 'none'])
    })

    test('who is made and joins was removed by nobody meanwhile', async () => {
      const hashesOf = async (given: Given) => {
        const [guard] = guardsOf(await decide(given), 'unremoved')
        return guard?.guard === 'unremoved' ? guard.hashes.length : 0
      }
      expect(await hashesOf({})).toBe(4)
      expect(await hashesOf({ byContactEmail: [carrier()] })).toBe(4)
      expect(await hashesOf({ connection: { jit: { join: false } } })).toBe(2)
      expect(await hashesOf({ byVerifiedEmail: user() })).toBe(0)
    })
  })
})

describe('pending invitation', () => {
  const off = { jit: { create: false, join: false } }

  test('for the organization being joined: accepted, with its role besides the defaults', async () => {
    const plan = allowed(await decide({ invitations: [invitation()] }))
    expect(plan.granted).toEqual(['member', 'admin'])
    expect(guardsOf(plan, 'invitation')).toEqual([{ guard: 'invitation', id: 'i', user: 'new' }])
    expect(plan.changes!.events.map(({ type }) => type)).toContain('accepted')
    expect(plan.invitations).toEqual([])
  })

  test('even with create and join off', async () => {
    expect(outcomeOf(await decide({ connection: off }))).toEqual(['deny', 'user_not_provisioned'])
    const plan = allowed(await decide({ connection: off, invitations: [invitation()] }))
    expect([plan.reason, plan.joined, plan.granted]).toEqual(['user_provisioned', ['o'], ['admin']])
  })

  test('with join off, for an account that exists', async () => {
    const plan = allowed(
      await decide({ connection: off, byVerifiedEmail: user(), invitations: [invitation()] }),
    )
    expect([plan.joined, plan.granted]).toEqual([['o'], ['admin']])
  })

  test('as an owner it is accepted too, and counted', async () => {
    const plan = allowed(await decide({ invitations: [invitation({ role: 'owner' })] }))
    expect(plan.granted).toContain('owner')
    expect(guardsOf(plan, 'owners')).toEqual([{ guard: 'owners', organization: 'o', by: 1 }])
  })

  test.each<[string, Parameters<typeof invitation>[0]]>([
    ['expired', { expiresAt: 2000 }],
    ['for another address', { email: 'bob@o.example' }],
  ])('%s: not accepted, and not told of', async (_, facts) => {
    const plan = allowed(await decide({ invitations: [invitation(facts)] }))
    expect([plan.granted, plan.invitations]).toEqual([['member'], []])
    expect((await decide({ connection: off, invitations: [invitation(facts)] })).reason).toBe(
      'user_not_provisioned',
    )
  })

  test('with a role that the organization no longer has: not accepted', async () => {
    const plan = allowed(await decide({ invitations: [invitation({ role: 'gone' })] }))
    expect(plan.granted).toEqual(['member'])
  })

  test('for an address that is not proved: not accepted', async () => {
    const known_ = known({ memberships: [] })
    const plan = allowed(
      await decide({ byIdentity: known_, identity: { emailVerified: 'no' }, invitations: [invitation()] }),
    )
    expect([plan.joined, plan.invitations]).toEqual([[], []])
  })

  test('others wait for the person’s click', async () => {
    const elsewhere = invitation({ id: 'p', organization: 'p', role: 'member' })
    const plan = allowed(await decide({ invitations: [invitation(), elsewhere] }))
    expect(plan.joined).toEqual(['o'])
    expect(plan.invitations).toEqual([elsewhere])
    expect(guardsOf(plan, 'invitation')).toHaveLength(1)
  })

  test('to a member: waits for the click as well', async () => {
    const plan = allowed(
      await decide({ byIdentity: known({ memberships: member() }), invitations: [invitation()] }),
    )
    expect([plan.changes, plan.invitations.map(({ id }) => id)]).toEqual([null, ['i']])
  })

  test('sign-up by invitation alone: any invitation lets somebody new make an account', async () => {
    const closed = { provider: 'email', signUp: 'invitation', domainJit: { enabled: false } } as const
    expect(outcomeOf(await decideByProvider(closed))).toEqual(['deny', 'sign_up_closed'])
    const plan = allowed(await decideByProvider({ ...closed, invitations: [invitation()] }))
    expect([plan.reason, plan.joined, plan.invitations.length]).toEqual(['user_created', [], 1])
  })

  test('by e-mail code, for the organization whose domain it is: accepted', async () => {
    const plan = allowed(await decideByProvider({ provider: 'email', invitations: [invitation()] }))
    expect([plan.joined, plan.granted]).toEqual([['o'], ['member', 'admin']])
  })
})

describe('seats full', () => {
  const seats = { seatLimit: 5, seatsUsed: 5 }
  const without = { whenFull: 'join-without-seat' }

  test('deny', async () => {
    expect(outcomeOf(await decide({ seats }))).toEqual(['deny', 'seats_full'])
    expect((await decide({ seats: { ...seats, seatsUsed: 4 } })).verdict).toBe('allow')
  })

  test('join-without-seat: joins, and takes none', async () => {
    const plan = allowed(await decide({ seats, organization: without }))
    expect(plan.joined).toEqual(['o'])
    expect(plan.after.membership?.seat).toBe(false)
    expect(opsOf(plan, 'membership.create')).toMatchObject([{ seat: false }])
    expect(guardsOf(plan, 'seats')).toEqual([])
  })

  const waiting = (facts = {}) => [{ ...member(['member', 'sso:c', 'default'])[0]!, seat: false, ...facts }]

  test('who joined without is given a seat at a later sign-in, when one is free', async () => {
    const byIdentity = known({ memberships: waiting() })
    expect((await decide({ byIdentity, seats, organization: without })).changes).toBeNull()
    const plan = allowed(
      await decide({ byIdentity, seats: { ...seats, seatsUsed: 4 }, organization: without }),
    )
    expect(opsOf(plan, 'membership.update')).toMatchObject([{ status: 'active', seat: true }])
    expect(guardsOf(plan, 'seats')).toEqual([{ guard: 'seats', organization: 'o', by: 1 }])
    expect(plan.after.membership?.seat).toBe(true)
  })

  test('also by e-mail, where the domain’s policy is about new users alone', async () => {
    const memberships = [{ ...member(['member', 'domain', 'default'])[0]!, seat: false }]
    const given = { provider: 'email', byVerifiedEmail: user({ memberships }) } as const
    expect((await decideByProvider({ ...given, seats })).changes).toBeNull()
    const plan = await decideByProvider({ ...given, seats: { ...seats, seatsUsed: 4 } })
    expect(written(plan)).toEqual(['membership.update'])
    expect(plan.changes!.guards.map(({ guard }) => guard)).toEqual(['organization', 'seats'])
  })

  test('whose last role goes in the same sign-in takes no seat on the way out', async () => {
    const plan = await decide({
      byIdentity: known({
        memberships: waiting({ grants: [{ role: 'admin', source: 'sso:c', basis: 'group' }] }),
      }),
      connection: { jit: {}, groups: { withoutRole: 'leave', map: { admins: ['admin'] } } },
    })
    expect(written(plan)).toEqual(['grant.remove admin sso:c', 'membership.remove'])
    expect(guardsOf(plan, 'seats')).toEqual([])
  })

  test('a member who leaves frees their seat', async () => {
    const plan = await decide({
      byIdentity: known({ memberships: member(['admin', 'sso:c', 'group']) }),
      connection: { jit: {}, groups: { withoutRole: 'leave', map: { admins: ['admin'] } } },
    })
    expect(written(plan)).toContain('membership.remove')
    expect(guardsOf(plan, 'seats')).toEqual([{ guard: 'seats', organization: 'o', by: -1 }])
  })

  test('a second organization that is full is skipped; whoever is new there is refused', async () => {
    const domainJit = { existingUsers: true }
    const given = { provider: 'email', seats, domainJit } as const
    const plan = allowed(await decideByProvider({ ...given, byVerifiedEmail: user() }))
    expect([plan.joined, findingOf(plan, 'seats')]).toEqual([[], 'full_left_out'])
    expect(outcomeOf(await decideByProvider(given))).toEqual(['deny', 'seats_full'])
    expect(outcomeOf(await decideByProvider({ ...given, byContactEmail: [carrier()] }))).toEqual([
      'deny',
      'seats_full',
    ])
  })

  test('an invitation makes no seat', async () => {
    expect(outcomeOf(await decide({ seats, invitations: [invitation()] }))).toEqual(['deny', 'seats_full'])
    const skipped = allowed(
      await decideByProvider({
        provider: 'email',
        seats,
        domainJit: { existingUsers: true },
        byVerifiedEmail: user(),
        invitations: [invitation()],
      }),
    )
    expect([skipped.changes, skipped.invitations.length], 'it goes on waiting').toEqual([null, 1])
  })
})

describe('user, membership or organization suspended, connection disabled meanwhile', () => {
  const active = known({ memberships: member(['member', 'sso:c', 'default']) })

  test.each<[string, Given, string]>([
    ['user', { byIdentity: { ...active, status: 'suspended' } }, 'user_suspended'],
    ['user found by address', { byVerifiedEmail: user({ status: 'suspended' }) }, 'user_suspended'],
    [
      'membership',
      { byIdentity: { ...active, memberships: [{ ...active.memberships[0]!, status: 'suspended' }] } },
      'membership_suspended',
    ],
    [
      'organization',
      { byIdentity: active, storedOrganization: { status: 'suspended' } },
      'organization_suspended',
    ],
    ['connection', { byIdentity: active, stored: { enabled: false } }, 'connection_disabled'],
  ])('%s: denied, never revived', async (_, given, reason) => {
    // Not by an invitation either.
    for (const more of [{}, { invitations: [invitation()] }]) {
      const plan = await decide({ ...given, ...more })
      expect(outcomeOf(plan)).toEqual(['deny', reason])
      expect(plan.changes).toMatchObject({ expect: [], guards: [], ops: [] })
    }
  })

  test('a tenant’s admin suspends the membership: other ways into the app stay open', async () => {
    const memberships = [{ ...active.memberships[0]!, status: 'suspended' as const }]
    const plan = await decideByProvider({
      provider: 'email',
      byVerifiedEmail: user({ memberships }),
      domainJit: { existingUsers: true },
    })
    expect([plan.verdict, plan.changes]).toEqual(['allow', null])
  })
})

describe('What the app chose, where a policy has a switch', () => {
  test.each<[string, Given, Record<string, string>, [string, string]]>([
    [
      'seats_full',
      { seats: { seatLimit: 1, seatsUsed: 1 } },
      { seats_full: 'join-without-seat' },
      ['seats_full', 'user_provisioned'],
    ],
    [
      'subject_changed',
      {
        byVerifiedEmail: user({
          identities: [{ source: 'connection:c', issuer: 'https://idp.example', subject: 'old' }],
        }),
        connection: { subjectMigration: { until: '2030-01-01T00:00:00Z' } },
      },
      { subject_changed: 'refuse' },
      ['subject_migrated', 'subject_changed'],
    ],
  ])('%s', async (_, given, choices, [byPolicy, chosen]) => {
    expect((await decide(given)).reason).toBe(byPolicy)
    expect((await decide({ ...given, choices })).reason).toBe(chosen)
  })

  test('attribute_differs and address_changed, each attribute by itself', async () => {
    const given = {
      byIdentity: known({ verifiedEmail: null, attributes: { name: 'Ann', title: 'CTO' } }),
      connection: { attributes: { email: 'email', groups: 'groups', name: 'name', title: 'title' } },
      identity: { profile: { name: 'Anna', title: 'CEO' } },
    } satisfies Given
    const plan = allowed(
      await decide({ ...given, choices: { 'attribute_differs:title': 'app', address_changed: 'adopt' } }),
    )
    expect(plan.after.user).toMatchObject({
      attributes: { name: 'Anna', title: 'CTO' },
      verifiedEmail: 'ann@o.example',
    })
    expect(
      plan.conflicts.map(({ kind, attribute, outcomes, outcome }) => [kind, attribute, outcomes, outcome]),
    ).toEqual([
      ['attribute_differs', 'name', ['idp', 'app'], 'idp'],
      ['attribute_differs', 'title', ['idp', 'app'], 'app'],
      ['address_changed', null, ['keep', 'adopt'], 'adopt'],
    ])
  })

  test('account_exists', async () => {
    const given = { provider: 'authoritative', byVerifiedEmail: user() } as const
    const plan = await decideByProvider({ ...given, choices: { account_exists: 'prove' } })
    expect(plan.verdict).toBe('prove')
  })

  test.each<[string, Given]>([
    ['a seat, where one is free', {}],
    ['a taken address', { byIdentity: known({ verifiedEmail: null }), byVerifiedEmail: user({ id: 'x' }) }],
    [
      'a subject, where no window is open',
      { byVerifiedEmail: user({ identities: known().identities }), identity: { subject: 'new' } },
    ],
    [
      'an attribute of the app’s',
      {
        byIdentity: known(),
        identity: { profile: { name: 'Anna' } },
        connection: {
          attributes: { email: 'email', groups: 'groups', name: { from: 'name', authority: 'app' } },
        },
      },
    ],
  ])('is not asked about %s', async (_, given) => {
    expect((await decide(given)).conflicts).toEqual([])
  })

  test.each(['no such outcome', '__proto__', 'toString'])('%s is none of the outcomes', async (nonsense) => {
    const plan = await decide({ seats: { seatLimit: 1, seatsUsed: 1 }, choices: { seats_full: nonsense } })
    expect(outcomeOf(plan)).toEqual(['deny', 'seats_full'])
  })
})
