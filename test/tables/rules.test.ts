import { describe, expect, test } from 'vitest'
import { planSignIn, rules, type Way } from '../../lib/plan.js'
import { decide, known, member, signIn, user, written } from './facts.js'

describe('The order of the rules', () => {
  test('a plan asks every rule once, in the stated order', async () => {
    const { trace } = await decide()
    expect(trace.map((entry) => entry.rule)).toEqual(rules)
  })

  test.each([
    [
      'connection',
      { connection: { enabled: false }, identity: { email: 'ann@p.example' } },
      'connection_disabled',
    ],
    [
      'email',
      { identity: { email: 'ann@p.example' }, connection: { jit: { create: false } } },
      'email_foreign',
    ],
    [
      'user before status',
      {
        byVerifiedEmail: user({
          status: 'suspended',
          identities: [{ source: 'connection:c', issuer: 'https://idp.example', subject: 'other' }],
        }),
      },
      'subject_changed',
    ],
    [
      'status before seats',
      { byIdentity: known({ status: 'suspended' }), seats: { seatLimit: 0, seatsUsed: 0 } },
      'user_suspended',
    ],
    [
      'provision before seats',
      { connection: { jit: { create: false } }, seats: { seatLimit: 0, seatsUsed: 0 } },
      'user_not_provisioned',
    ],
  ] as const)('%s: the earlier rule gives the reason', async (_, given, reason) => {
    expect((await decide(given as never)).reason).toBe(reason)
  })
})

describe('Connection and organization', () => {
  test.each([
    ['disabled in the directory', { connection: { enabled: false } }, 'connection_disabled'],
    ['disabled in the store', { stored: { enabled: false } }, 'connection_disabled'],
    ['of another version in the store', { stored: { version: 'other' } }, 'connection_changed'],
    ['changed since the sign-in began', { identity: { sourceVersion: 'older' } }, 'connection_changed'],
    [
      'organization suspended in the directory',
      { organization: { status: 'suspended' } },
      'organization_suspended',
    ],
    [
      'organization suspended in the store',
      { storedOrganization: { status: 'suspended' } },
      'organization_suspended',
    ],
    [
      'organization of another version in the store',
      { storedOrganization: { version: 'other' } },
      'connection_changed',
    ],
  ] as const)('%s: denied, even for a known member', async (_, given, reason) => {
    const plan = await decide({
      byIdentity: known({ memberships: member(['member', 'sso:c', 'default']) }),
      ...given,
    } as never)
    expect(plan).toMatchObject({ outcome: 'denied', reason })
  })

  test('every change is guarded by the versions it was decided on', async () => {
    const facts = await signIn()
    const { organization, connection } = facts.way as Extract<Way, { kind: 'connection' }>
    expect(planSignIn(facts).changes?.guards).toEqual([
      { guard: 'organization', id: 'o', version: organization.version },
      { guard: 'connection', id: 'c', version: connection.version },
      { guard: 'seats', organization: 'o', by: 1 },
      // Of the user and of the membership, each by identity and address.
      { guard: 'unremoved', hashes: Array(4).fill(expect.any(String)) },
    ])
  })
})

describe('Users', () => {
  test.each([
    ['user suspended', { byIdentity: known({ status: 'suspended' }) }, 'user_suspended'],
    ['user suspended, found by e-mail', { byVerifiedEmail: user({ status: 'suspended' }) }, 'user_suspended'],
    [
      'membership suspended',
      {
        byIdentity: known({
          memberships: [{ organization: 'o', status: 'suspended', seat: false, grants: [] }],
        }),
      },
      'membership_suspended',
    ],
  ] as const)('%s: denied, never revived', async (_, given, reason) => {
    expect(await decide(given)).toMatchObject({ outcome: 'denied', reason })
  })

  test('another subject of this connection is already linked to the account: denied', async () => {
    const taken = user({
      identities: [{ source: 'connection:c', issuer: 'https://idp.example', subject: 'old' }],
    })
    expect(await decide({ byVerifiedEmail: taken })).toMatchObject({
      outcome: 'denied',
      reason: 'subject_changed',
    })
  })

  test('an identity of another connection does not stand in the way of linking', async () => {
    const other = user({
      identities: [{ source: 'connection:d', issuer: 'https://idp.example', subject: 'old' }],
    })
    expect(await decide({ byVerifiedEmail: other })).toMatchObject({ outcome: 'linked' })
  })

  const carrier = (id: string) => user({ id, verifiedEmail: null, contactEmail: 'ann@o.example', epoch: 4 })

  test('an account that carries a vouched address unproved is claimed: all else about it ends', async () => {
    const plan = await decide({ byContactEmail: [carrier('squatter')] })
    expect(plan).toMatchObject({
      outcome: 'linked',
      reason: 'account_claimed',
      after: { user: { id: 'squatter', verifiedEmail: 'ann@o.example', epoch: 5 } },
    })
    expect(written(plan)[0]).toBe('user.claim')
    expect(plan.changes?.expect).toEqual([{ user: 'squatter', version: 3 }])
  })

  test('of several accounts that carry it none is claimed: each loses the address, and a new user is made', async () => {
    const plan = await decide({ byContactEmail: [carrier('one'), carrier('two')] })
    expect(plan).toMatchObject({ outcome: 'created', after: { user: { id: 'new' } } })
    expect(plan.changes?.ops.filter(({ op }) => op === 'user.update')).toEqual([
      { op: 'user.update', id: 'one', set: { contactEmail: null } },
      { op: 'user.update', id: 'two', set: { contactEmail: null } },
    ])
    expect(plan.changes?.expect.map((entry) => entry.user)).toEqual(['one', 'two'])
  })

  test.each([
    ['foreign', { email: 'ann@p.example' }],
    ['outside', { email: 'ann@nobody.example' }],
    ['vetoed', { emailVerified: 'no' }],
  ] as const)('an address that is %s claims nobody', async (_, identity) => {
    const plan = await decide({ identity, byContactEmail: [carrier('squatter')] })
    expect(plan.outcome).toBe('denied')
  })

  test('the identity decides over an account that has the asserted address', async () => {
    const plan = await decide({ byIdentity: known({ id: 'mine' }), byVerifiedEmail: user({ id: 'theirs' }) })
    expect(plan).toMatchObject({ verdict: 'allow', after: { user: { id: 'mine' } } })
  })

  test.each([
    ['off by default', {}, undefined, null],
    ['adopted where free', { adoptEmail: true }, undefined, 'ann@o.example'],
    ['never where taken', { adoptEmail: true }, user({ id: 'other' }), null],
  ] as const)('a new vouched address of a known identity: %s', async (_, connection, taken, adopted) => {
    const plan = await decide({
      connection,
      byIdentity: known({ verifiedEmail: null, contactEmail: null }),
      ...(taken && { byVerifiedEmail: taken }),
    })
    expect(plan).toMatchObject({ verdict: 'allow', after: { user: { verifiedEmail: adopted } } })
  })
})

describe('A domain that another organization owns below a wildcard', () => {
  const below = async (vouchesFor: string[], owned: string[]) => {
    const facts = await signIn({
      identity: { email: 'ann@med.o.example' },
      connection: { vouchesFor } as never,
    })
    const { organization } = facts.way as Extract<Way, { kind: 'connection' }>
    const owner = { ...organization, id: 'p', domains: owned }
    return planSignIn({ ...facts, domain: { owner, sso: [] } })
  }

  test('a wildcard does not reach over the closer owner', async () => {
    expect(await below(['o.example', '*.o.example'], ['med.o.example'])).toMatchObject({
      reason: 'email_foreign',
    })
    expect(await below(['*.o.example'], ['med.o.example', '*.o.example'])).toMatchObject({
      reason: 'email_foreign',
    })
  })

  test('a pattern as close as the owner’s, which the operator named, does', async () => {
    expect((await below(['med.o.example'], ['med.o.example'])).outcome).toBe('created')
    expect((await below(['*.o.example'], ['*.o.example'])).outcome).toBe('created')
  })
})

describe('Seats', () => {
  test('full: whoever would join is denied, and a member still comes in', async () => {
    const seats = { seatLimit: 5, seatsUsed: 5 }
    expect(await decide({ seats })).toMatchObject({ outcome: 'denied', reason: 'seats_full' })
    const plan = await decide({
      seats,
      byIdentity: known({ memberships: member(['member', 'sso:c', 'default']) }),
    })
    expect(plan).toMatchObject({ outcome: 'unchanged' })
  })

  test('one left: taken under a guard', async () => {
    const plan = await decide({ seats: { seatLimit: 5, seatsUsed: 4 } })
    expect(plan.changes?.guards).toContainEqual({ guard: 'seats', organization: 'o', by: 1 })
  })
})

describe('Roles', () => {
  const groups = (...values: string[]) => ({ groups: { kind: 'listed', values } as const })
  const joined = (...roles: Parameters<typeof member>) => known({ memberships: member(...roles) })

  test.each([
    ['an unmapped group', groups('owner', 'superadmin', 'member')],
    ['the name with a space', groups('admins ')],
    ['another case', groups('Admins')],
    ['fullwidth letters', groups('ａｄｍｉｎｓ')],
    ['a name from Object.prototype', groups('__proto__', 'constructor', 'toString')],
  ])('P01: %s gives nothing', async (_, identity) => {
    expect(written(await decide({ identity, byIdentity: joined() }))).toEqual([])
  })

  test('P02: claims and profile fields named like authority give nothing', async () => {
    const claims = { isAdmin: true, orgId: 'p', userId: 'u', status: 'active', role: 'owner' }
    const plan = await decide({
      identity: { claims, profile: { name: 'Ann', status: 'suspended', role: 'owner' } },
    })
    expect(plan.changes?.ops[0]).toMatchObject({
      op: 'user.create',
      status: 'active',
      verifiedEmail: 'ann@o.example',
    })
    expect(plan).toMatchObject({ granted: ['member'], joined: ['o'] })
  })

  test('sync takes back only what this connection gave for a group', async () => {
    const plan = await decide({
      byIdentity: joined(
        ['admin', 'sso:c', 'group'],
        ['admin', 'manual', 'person'],
        ['viewer', 'sso:other', 'group'],
        ['member', 'sso:c', 'default'],
      ),
    })
    expect(written(plan)).toEqual(['grant.remove admin sso:c'])
  })

  test('mode add never takes back', async () => {
    const plan = await decide({
      connection: { groups: { mode: 'add', map: { admins: ['admin'] } } } as never,
      byIdentity: joined(['viewer', 'sso:c', 'group']),
      identity: groups('admins'),
    })
    expect(written(plan)).toEqual(['grant.add admin sso:c'])
  })

  test.each([
    ['absent', 'unknown', []],
    ['absent', 'empty', ['grant.remove admin sso:c']],
    ['overflow', 'unknown', []],
    ['overflow', 'empty', []],
  ] as const)('groups %s, groups.absent %s: writes %j', async (kind, absent, writes) => {
    const plan = await decide({
      connection: { groups: { absent, map: { admins: ['admin'] } } } as never,
      byIdentity: joined(['admin', 'sso:c', 'group']),
      identity: { groups: { kind } },
    })
    expect(written(plan)).toEqual(writes)
  })

  test('a role that a person took away stays away', async () => {
    const plan = await decide({
      byIdentity: known({
        memberships: member(),
        tombstones: [{ organization: 'o', role: 'admin', at: 1500 }],
      }),
      identity: groups('admins', 'watchers'),
    })
    expect(written(plan)).toEqual(['grant.add viewer sso:c'])
  })

  test('a default role that a group gives too is not revoked with the group', async () => {
    const connection = { groups: { map: { staff: ['member'] } } } as never
    const first = await decide({ connection, identity: groups('staff') })
    expect(first.changes?.ops).toContainEqual(expect.objectContaining({ role: 'member', basis: 'default' }))
    const later = await decide({ connection, byIdentity: joined(['member', 'sso:c', 'default']) })
    expect(written(later)).toEqual([])
  })
})

describe('Events', () => {
  test('one fact for each operation, and the first carries the trace', async () => {
    const plan = await decide({ identity: { groups: { kind: 'listed', values: ['admins'] } } })
    const events = plan.changes!.events
    expect(events.map((event) => event.type)).toEqual([
      'created',
      'linked',
      'joined',
      'granted',
      'granted',
      'asserted',
    ])
    expect(events.map((event) => event.seq)).toEqual([0, 1, 2, 3, 4, 5])
    expect(events[0]!.detail.trace).toEqual(plan.trace)
    expect(
      events.every(
        (event) => event.change === 'change' && event.correlationId === 'correlation' && event.at === 2000,
      ),
    ).toBe(true)
  })

  test('they name no claim, no address, no subject and no attribute’s value', async () => {
    const identity = {
      subject: 'subject-in-claims',
      profile: { name: 'Ann Nym' },
      claims: { secret: 'claim' },
    }
    const first = await decide({ identity })
    const later = await decide({ identity, byIdentity: user({ attributes: { name: 'Ann Before' } }) })
    expect(later.changes!.events.map(({ type }) => type)).toContain('updated')
    for (const { changes } of [first, later]) {
      expect(JSON.stringify(changes!.events)).not.toMatch(/ann@|subject-in-claims|secret|Ann (?:Nym|Before)/)
    }
  })
})

test('planning is pure: frozen facts give the same plan twice', async () => {
  const freeze = (value: unknown): unknown => {
    if (typeof value === 'object' && value !== null) {
      for (const entry of Object.values(value)) freeze(entry)
      Object.freeze(value)
    }
    return value
  }
  const facts = freeze(await signIn({ byVerifiedEmail: user() })) as Awaited<ReturnType<typeof signIn>>
  expect(planSignIn(facts)).toEqual(planSignIn(facts))
})
