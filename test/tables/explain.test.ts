import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { explained } from '../../lib/explain.js'
import { planSignIn, type Rule, rules, type SignIn, type Way } from '../../lib/plan.js'
import {
  type Given,
  type GivenByProvider,
  invitation,
  known,
  member,
  providerSignIn,
  signIn,
  user,
} from './facts.js'

const explain = (facts: SignIn) => explained(planSignIn(facts), facts)
const roles = async (given: Given) => explain(await signIn(given)).trace.find(({ rule }) => rule === 'roles')!
/** Parts of a connection's policy, of any shape the schema takes. */
const policy = (parts: Record<string, unknown>) => parts as NonNullable<Given['connection']>
const groups = (...values: string[]) => ({ groups: { kind: 'listed', values } }) as const

describe('Every rule is told, in order', () => {
  const stray = user({
    identities: [{ source: 'connection:c', issuer: 'https://idp.example', subject: 'old' }],
  })
  const table: [name: string, facts: () => Promise<SignIn>, decidedBy: Rule | null][] = [
    ['allowed', () => signIn(), null],
    ['refused by the first', () => signIn({ connection: { enabled: false } }), 'connection'],
    ['refused by the second', () => signIn({ identity: { email: 'ann@p.example' } }), 'email'],
    ['refused by the account', () => signIn({ byVerifiedEmail: stray }), 'user'],
    ['refused by a status', () => signIn({ byIdentity: known({ status: 'suspended' }) }), 'status'],
    ['refused by the domain', () => providerSignIn({ sso: true }), 'sso-domain'],
    ['waiting for a proof', () => providerSignIn({ byVerifiedEmail: user() }), 'proof'],
    ['refused by a removal', () => signIn({ removed: [{ of: 'identity', at: 1 }] }), 'tombstone'],
    ['refused by the policy', () => signIn({ connection: policy({ jit: { create: false } }) }), 'provision'],
    ['refused by the seats', () => signIn({ seats: { seatLimit: 1, seatsUsed: 1 } }), 'seats'],
  ]
  test.each(table)('%s', async (_, facts, decidedBy) => {
    const { trace, verdict } = explain(await facts())
    expect(verdict === 'allow').toBe(decidedBy === null)
    expect([...new Set(trace.map(({ rule }) => rule))]).toEqual(rules)
    const asked = decidedBy === null ? rules : rules.slice(0, rules.indexOf(decidedBy) + 1)
    for (const { rule, finding, detail } of trace) {
      expect(finding === 'not_asked').toBe(!asked.includes(rule))
      if (finding === 'not_asked') expect(detail).toMatch(new RegExp(`^${decidedBy} `))
    }
  })

  test('what was refused says with what, and what waits that it waits', async () => {
    const last = async (facts: Promise<SignIn>) => explain(await facts).trace.at(-1)
    const refused = signIn({ seats: { seatLimit: 1, seatsUsed: 1 } })
    expect(await last(refused)).toEqual({
      rule: 'attributes',
      finding: 'not_asked',
      detail: 'seats decided with seats_full',
    })
    expect(await last(providerSignIn({ byVerifiedEmail: user() }))).toMatchObject({
      detail: 'proof asks for a proof first',
    })
  })

  test('the plan itself is the same, its trace aside', async () => {
    const facts = await signIn(groups('admins') as Given)
    const { trace: _, ...plan } = planSignIn(facts)
    expect(explain(facts)).toMatchObject(plan)
  })
})

describe('Every finding is told in words', () => {
  const some = <T>(...values: T[]) => fc.constantFrom(...values)
  const account = fc.record({
    status: some('active', 'active', 'suspended') as fc.Arbitrary<'active'>,
    verifiedEmail: some('ann@o.example', 'old@o.example', null),
    memberships: some(
      [],
      member(['member', 'sso:c', 'default']),
      member(['viewer', 'sso:c', 'group']),
      member(['member', 'domain', 'default']),
      [{ ...member(['member', 'sso:c', 'default'])[0]!, status: 'suspended' as const }],
      [{ ...member(['member', 'sso:c', 'default'])[0]!, seat: false }],
    ),
    tombstones: some(
      [],
      [{ organization: 'o', role: null, at: 1 }],
      [{ organization: 'o', role: 'admin', at: 1 }],
    ),
  })
  const common = {
    seats: some(undefined, { seatLimit: 1, seatsUsed: 1 }),
    removed: some([], [], [{ of: 'identity' as const, at: 1 }]),
    invitations: some([], [], [invitation()]),
    organization: some({}, {}, { whenFull: 'join-without-seat' }, { status: 'suspended' }),
    who: some('byIdentity', 'byVerifiedEmail', 'byContactEmail', 'nobody'),
    account,
  }
  type Whose = { who: string; account: Parameters<typeof user>[0] }
  const matched = ({ who, account: facts }: Whose) =>
    who === 'nobody'
      ? {}
      : who === 'byContactEmail'
        ? { byContactEmail: [user({ ...facts, verifiedEmail: null })] }
        : { [who]: who === 'byIdentity' ? known(facts) : user(facts) }

  const expectWords = (facts: SignIn) => {
    const plan = planSignIn(facts)
    for (const { finding, detail } of explained(plan, facts).trace) {
      if (finding === 'not_asked') continue
      // A finding without a sentence of its own would stand there as it is.
      for (const part of finding.split('+')) expect(detail?.split(/[,;] /)).not.toContain(part)
      expect(detail).toMatch(/[a-z]+ [a-z]+/)
    }
  }
  const rounds = { numRuns: 400 }

  test('of sign-ins by a connection', async () => {
    const given = fc.record({
      ...common,
      email: some('ann@o.example', 'ann@p.example', 'ann@nobody.example', 'ann@un.o.example', undefined),
      emailVerified: some('unstated', 'unstated', 'no'),
      groups: some(
        { kind: 'listed', values: [] },
        { kind: 'listed', values: ['admins', 'watchers', 'strangers'] },
        { kind: 'absent' },
        { kind: 'overflow' },
      ),
      policy: some<Record<string, unknown>>(
        ...[{}, {}, { enabled: false }, { outsiders: 'separate' }, { jit: { create: false, join: false } }],
        {
          groups: { map: { admins: ['admin'], watchers: ['viewer'] }, withoutRole: 'leave' },
          jit: { roles: [] },
        },
        { groups: { map: { admins: ['admin'], watchers: ['viewer'] }, oneOf: ['admin', 'viewer'] } },
        { subjectMigration: { until: '2100-01-01T00:00:00Z' } },
      ),
      held: some(null, null, 'it took too much'),
      version: some(undefined, undefined, 'other'),
      former: some([], [{ source: 'connection:c' as const, issuer: 'https://idp.example', subject: 'old' }]),
      otherWays: some([], ['provider:hub']),
    })
    await fc.assert(
      fc.asyncProperty(given, async (it) => {
        const { email, emailVerified, held, version, former } = it
        const who = { ...it, account: { ...it.account, identities: it.who === 'byIdentity' ? [] : former } }
        const facts = await signIn({
          ...(it as unknown as Given),
          ...matched(who),
          identity: { email, emailVerified, groups: it.groups } as never,
          connection: policy(it.policy),
          stored: { held, ...(version && { version }) },
        })
        expectWords(facts)
      }),
      rounds,
    )
  })

  test('of sign-ins by a provider', async () => {
    const given = fc.record({
      ...common,
      provider: some('email', 'verifying', 'authoritative'),
      emailVerified: some('yes', 'unstated'),
      domainJit: some({}, { enabled: false }, { existingUsers: true }),
      signUp: some('open', 'invitation'),
      sso: some(false, false, true),
    })
    await fc.assert(
      fc.asyncProperty(given, async (it) => {
        const { emailVerified } = it
        expectWords(
          await providerSignIn({
            ...(it as unknown as GivenByProvider),
            ...matched(it),
            identity: { emailVerified } as never,
          }),
        )
      }),
      rounds,
    )
  })

  const old = [{ source: 'connection:c' as const, issuer: 'https://idp.example', subject: 'old' }]
  const rare: [finding: string, facts: () => Promise<SignIn>][] = [
    [
      'email.unvouched',
      () => signIn({ organization: { domains: ['own.example'] }, identity: { email: 'ann@own.example' } }),
    ],
    [
      'user.subject_migrated',
      () =>
        signIn({
          byVerifiedEmail: user({ identities: old }),
          connection: policy({ subjectMigration: { until: '2100-01-01T00:00:00Z' } }),
        }),
    ],
    [
      'proof.given',
      () =>
        providerSignIn({
          byVerifiedEmail: user(),
          proof: { by: 'address', address: 'ann@o.example', user: 'u' },
        }),
    ],
    [
      'roles.last_role_gone',
      () =>
        signIn({
          byIdentity: known({ memberships: member(['admin', 'sso:c', 'group']) }),
          connection: policy({
            groups: { map: { admins: ['admin'] }, withoutRole: 'leave' },
            jit: { roles: [] },
          }),
        }),
    ],
  ]
  test.each(rare)('%s', async (name, facts) => {
    const signedIn = await facts()
    expect(planSignIn(signedIn).trace.map(({ rule, finding }) => `${rule}.${finding}`)).toContain(name)
    expectWords(signedIn)
  })
})

describe('Which group gave which role, and why a role was not given', () => {
  const admin = known({ memberships: member(['member', 'sso:c', 'default'], ['admin', 'sso:c', 'group']) })
  const plain = known({ memberships: member(['member', 'sso:c', 'default']) })
  const took = { tombstones: [{ organization: 'o', role: 'admin', at: 1 }] }
  const ranked = policy({
    groups: { map: { admins: ['admin'], watchers: ['viewer'] }, oneOf: ['admin', 'viewer'] },
  })

  const table: [name: string, given: Given, finding: string, says: RegExp, not?: RegExp][] = [
    [
      'by group',
      { byIdentity: plain, identity: groups('admins') },
      'changed',
      /\+admin by group admins/,
      /no rule/,
    ],
    ['by default, on joining', {}, 'changed', /\+member by default/, /no member/],
    [
      'kept by its group',
      { byIdentity: admin, identity: groups('admins') },
      'unchanged',
      /admin stays by group admins/,
    ],
    [
      'taken with its group',
      { byIdentity: admin, identity: groups() },
      'changed',
      /-admin no longer by a group/,
    ],
    [
      'by how a group begins',
      {
        byIdentity: plain,
        connection: policy({ groups: { prefixes: { 'ad-': ['admin'] } } }),
        identity: groups('ad-1'),
      },
      'changed',
      /\+admin by group ad-…/,
      /no rule/,
    ],
    [
      'a group that no rule is about',
      { byIdentity: plain, identity: groups('Admins') },
      'unchanged',
      /no rule for group Admins/,
      /\+admin/,
    ],
    [
      'tombstoned: a person took it away',
      { byIdentity: { ...plain, ...took }, identity: groups('admins') },
      'unchanged',
      /no admin by group admins: a person took it away/,
      /\+admin/,
    ],
    [
      'a default that a person took away',
      { byIdentity: known({ tombstones: [{ organization: 'o', role: 'member', at: 1 }] }) },
      'unchanged',
      /no member by default: a person took it away/,
    ],
    [
      'outranked by oneOf',
      { byIdentity: plain, connection: ranked, identity: groups('watchers', 'admins') },
      'changed',
      /\+admin by group admins; no viewer by group watchers: admin stands before it/,
    ],
    [
      'the only one of oneOf',
      { byIdentity: plain, connection: ranked, identity: groups('watchers') },
      'changed',
      /\+viewer by group watchers/,
      /stands before/,
    ],
    [
      'a sync that is held, with why',
      { byIdentity: admin, stored: { held: 'it took 12 of 40' }, identity: groups() },
      'sync_held',
      /sync of this connection is held.*it took 12 of 40/,
      /-admin/,
    ],
    [
      'groups the answer says nothing about',
      { byIdentity: admin, identity: { groups: { kind: 'absent' } } },
      'groups_absent',
      /says nothing about groups/,
      /-admin/,
    ],
    [
      'too many groups',
      { byIdentity: admin, identity: { groups: { kind: 'overflow' } } },
      'groups_overflow',
      /too many groups/,
      /-admin/,
    ],
    [
      'join switched off',
      { byIdentity: plain, connection: policy({ jit: { join: false } }), identity: groups('admins') },
      'left_alone',
      /jit\.join is off/,
    ],
  ]
  test.each(table)('%s', async (_, given, finding, says, not = /never/) => {
    const told = await roles(given)
    expect(told.finding).toBe(finding)
    expect(told.detail).toMatch(says)
    expect(told.detail).not.toMatch(not)
  })

  test('above the ceiling, which a policy kept from an older version may be', async () => {
    const facts = await signIn({ byIdentity: plain, identity: groups('admins', 'watchers') })
    const way = facts.way as Extract<Way, { kind: 'connection' }>
    const lowered = { ...way, organization: { ...way.organization, assignable: ['member', 'viewer'] } }
    const told = explain({ ...facts, way: lowered }).trace.find(({ rule }) => rule === 'roles')
    expect(told?.detail).toMatch(/\+viewer by group watchers; no admin by group admins: it may not be given/)
  })

  test('of very many strangers among the groups the first are named', async () => {
    const names = Array.from({ length: 1_000 }, (_, n) => `stranger ${n}`)
    const { detail } = await roles({ byIdentity: plain, identity: groups(...names) })
    expect(detail).toMatch(/stranger 19, and 980 more/)
  })
})
