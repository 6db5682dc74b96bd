import { describe, expect, test } from 'vitest'
import { decideByProvider, type GivenByProvider, member, user, written } from './facts.js'

/** An account of this provider's identity. */
const known = (provider: string, facts = {}) =>
  user({
    identities: [{ source: `provider:${provider}`, issuer: 'https://social.example', subject: 's' }],
    ...facts,
  })

interface Row {
  name: string
  given: GivenByProvider
  outcome: string
  reason: string
  writes: string[]
}

const joined = ['membership.create', 'grant.add member domain']

/** DESIGN §4, *E-mail domain*, row by row: user, method, JIT. */
const rows: Row[] = [
  {
    name: 'does not exist · e-mail code · on: created, joins O with the domain’s default roles',
    given: { provider: 'email' },
    outcome: 'created',
    reason: 'user_provisioned',
    writes: ['user.create', ...joined],
  },
  {
    name: 'does not exist · social, verified e-mail · on: created, joins O with the domain’s default roles',
    given: {},
    outcome: 'created',
    reason: 'user_provisioned',
    writes: ['user.create', 'identity.link', ...joined],
  },
  {
    name: 'does not exist · social, unverified e-mail · on: created, joins nothing',
    given: { identity: { emailVerified: 'unstated' } },
    outcome: 'created',
    reason: 'user_created',
    writes: ['user.create', 'identity.link'],
  },
  {
    name: 'does not exist · social, no e-mail · on: created, joins nothing',
    given: { identity: { email: undefined } },
    outcome: 'created',
    reason: 'user_created',
    writes: ['user.create', 'identity.link'],
  },
  {
    name: 'exists · e-mail code · on: normal sign-in',
    given: { provider: 'email', byVerifiedEmail: user() },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'exists · social · on: normal sign-in',
    given: { byIdentity: known('verifying') },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'exists · e-mail code · on, existingUsers: joins O too',
    given: { provider: 'email', byVerifiedEmail: user(), domainJit: { existingUsers: true } },
    outcome: 'updated',
    reason: 'membership_created',
    writes: joined,
  },
  {
    name: 'exists · social · on, existingUsers: joins O too, decided by the account’s own verified address',
    given: {
      byIdentity: known('verifying'),
      identity: { email: 'ann@nobody.example' },
      domainJit: { existingUsers: true },
    },
    outcome: 'updated',
    reason: 'membership_created',
    writes: joined,
  },
  {
    name: 'does not exist · e-mail code · off: normal sign-up',
    given: { provider: 'email', domainJit: { enabled: false } },
    outcome: 'created',
    reason: 'user_created',
    writes: ['user.create'],
  },
  {
    name: 'does not exist · social · off: normal sign-up',
    given: { domainJit: { enabled: false } },
    outcome: 'created',
    reason: 'user_created',
    writes: ['user.create', 'identity.link'],
  },
  {
    name: 'exists · e-mail code · off: normal sign-in',
    given: { provider: 'email', byVerifiedEmail: user(), domainJit: { enabled: false, existingUsers: true } },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'exists · social · off: normal sign-in',
    given: { byIdentity: known('verifying'), domainJit: { enabled: false } },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
]

describe('E-mail domain', () => {
  test.each(rows)('$name', async ({ given, outcome, reason, writes }) => {
    const plan = await decideByProvider(given)
    expect({ outcome: plan.outcome, reason: plan.reason, writes: written(plan) }).toEqual({
      outcome,
      reason,
      writes,
    })
  })

  test('an address that nobody proved is kept for writing to, and matches nobody', async () => {
    const plan = await decideByProvider({ identity: { emailVerified: 'unstated' } })
    expect(plan.changes?.ops[0]).toMatchObject({ verifiedEmail: null, contactEmail: 'ann@o.example' })
  })

  test('sign-up by invitation: somebody new is refused, unless a domain policy lets them in', async () => {
    const closed = { signUp: 'invitation' } as const
    expect((await decideByProvider({ ...closed, domainJit: { enabled: false } })).reason).toBe(
      'sign_up_closed',
    )
    expect((await decideByProvider({ ...closed, identity: { emailVerified: 'unstated' } })).reason).toBe(
      'sign_up_closed',
    )
    expect((await decideByProvider(closed)).reason).toBe('user_provisioned')
    expect((await decideByProvider({ ...closed, provider: 'email', byVerifiedEmail: user() })).outcome).toBe(
      'unchanged',
    )
  })

  test('a full organization: who is new is refused, who exists signs in without joining', async () => {
    const seats = { seatLimit: 5, seatsUsed: 5 }
    expect((await decideByProvider({ seats })).reason).toBe('seats_full')
    const plan = await decideByProvider({
      seats,
      provider: 'email',
      byVerifiedEmail: user(),
      domainJit: { existingUsers: true },
    })
    expect(plan).toMatchObject({ outcome: 'unchanged', joined: [] })
  })

  test('L11: an account without a verified address of its own joins by none that is asserted', async () => {
    const domainJit = { existingUsers: true }
    const verified = await decideByProvider({ byIdentity: known('verifying'), domainJit })
    expect(verified).toMatchObject({ joined: ['o'] })
    const own = known('verifying', { verifiedEmail: null, contactEmail: null })
    expect(await decideByProvider({ byIdentity: own, domainJit })).toMatchObject({
      joined: [],
      changes: null,
    })
  })

  test('a suspended organization is joined by nobody, and keeps nobody out of the app', async () => {
    const plan = await decideByProvider({ organization: { status: 'suspended' } })
    expect(plan).toMatchObject({ outcome: 'created', reason: 'user_created', joined: [] })
  })

  test('a tombstone holds', async () => {
    const removed = user({ tombstones: [{ organization: 'o', role: null, at: 1500 }] })
    const plan = await decideByProvider({
      provider: 'email',
      byVerifiedEmail: removed,
      domainJit: { existingUsers: true },
    })
    expect(plan).toMatchObject({ outcome: 'unchanged', joined: [] })
  })
})

describe('Domain and SSO on one domain: SSO wins', () => {
  test.each<[string, GivenByProvider]>([
    ['e-mail code, somebody new', { provider: 'email' }],
    ['social with a verified address, somebody new', {}],
    ['social with an unverified address', { identity: { emailVerified: 'unstated' } }],
    ['e-mail code, an existing account', { provider: 'email', byVerifiedEmail: user() }],
    [
      'social, a known identity whose own address is owned',
      { byIdentity: known('verifying'), identity: { email: 'ann@nobody.example' } },
    ],
    [
      'social, a known identity whose own address is owned, no address asserted',
      { byIdentity: known('verifying'), identity: { email: undefined } },
    ],
    [
      'social without proof for an existing account: no code is sent',
      { byVerifiedEmail: user(), identity: { emailVerified: 'unstated' } },
    ],
  ])('%s: refused with the way to SSO, and domain JIT does not run', async (_, given) => {
    const plan = await decideByProvider({ ...given, sso: true, domainJit: { existingUsers: true } })
    expect(plan).toMatchObject({ verdict: 'deny', reason: 'sso_required' })
    expect(plan.trace.at(-1)).toMatchObject({ rule: 'sso-domain', detail: 'c' })
    expect(plan.changes?.events.map((event) => event.type)).toEqual(['denied'])
  })

  test('a connection that is not enabled routes nobody', async () => {
    expect((await decideByProvider({ sso: false })).reason).toBe('user_provisioned')
  })
})

describe('Linking a social identity', () => {
  test('a verified account of that address, the provider not authoritative: proved first', async () => {
    const plan = await decideByProvider({ byVerifiedEmail: user() })
    expect(plan).toMatchObject({
      verdict: 'prove',
      outcome: 'unproved',
      proof: { address: 'ann@o.example', user: 'u', by: 'address' },
      changes: null,
    })
  })

  test.each(['address', 'account'] as const)('and linked once the %s is proved', async (by) => {
    const plan = await decideByProvider({
      byVerifiedEmail: user(),
      proof: { address: 'ann@o.example', user: 'u', by },
    })
    expect(plan).toMatchObject({ outcome: 'linked', after: { user: { id: 'u' } } })
    expect(written(plan)).toEqual(['identity.link'])
  })

  test('L10: who signed in as before has proved the account, and by a code the address that joins O', async () => {
    const joining = async (by: 'address' | 'account') => {
      const plan = await decideByProvider({
        identity: { emailVerified: 'unstated' },
        byVerifiedEmail: user(),
        domainJit: { existingUsers: true },
        proof: { address: 'ann@o.example', user: 'u', by },
      })
      return written(plan)
    }
    expect(await joining('account')).toEqual(['identity.link'])
    expect(await joining('address')).toEqual(['identity.link', ...joined])
  })

  test('a proof of another account or another address is none', async () => {
    for (const proof of [
      { address: 'ann@o.example', user: 'other', by: 'address' },
      { address: 'bob@o.example', user: 'u', by: 'address' },
    ] as const) {
      expect((await decideByProvider({ byVerifiedEmail: user(), proof })).verdict).toBe('prove')
    }
  })

  test('an authoritative provider links by the verified address, and by no other', async () => {
    const given = { provider: 'authoritative', byVerifiedEmail: user() } as const
    expect((await decideByProvider(given)).outcome).toBe('linked')
    expect((await decideByProvider({ ...given, identity: { emailVerified: 'unstated' } })).verdict).toBe(
      'prove',
    )
  })

  test('another subject of this provider is already linked: denied', async () => {
    const taken = user({
      identities: [{ source: 'provider:authoritative', issuer: 'https://social.example', subject: 'old' }],
    })
    const plan = await decideByProvider({ provider: 'authoritative', byVerifiedEmail: taken })
    expect(plan).toMatchObject({ verdict: 'deny', reason: 'subject_changed' })
  })

  const carrier = user({ verifiedEmail: null, contactEmail: 'ann@o.example', memberships: member() })

  test('an account that carries the address unproved is claimed by a proved one', async () => {
    for (const given of [{ provider: 'email' }, {}] as const) {
      const plan = await decideByProvider({ ...given, byContactEmail: [carrier] })
      expect(plan).toMatchObject({
        reason: 'account_claimed',
        after: { user: { verifiedEmail: 'ann@o.example', epoch: 1 } },
      })
      expect(written(plan)).toContain('user.claim')
    }
  })

  test('an unverified address claims nothing: it is proved first', async () => {
    const given = {
      byContactEmail: [carrier],
      identity: { emailVerified: 'unstated' },
    } satisfies GivenByProvider
    expect(await decideByProvider(given)).toMatchObject({
      verdict: 'prove',
      proof: { user: 'u', by: 'address' },
    })
    const claimed = await decideByProvider({
      ...given,
      proof: { address: 'ann@o.example', user: 'u', by: 'address' },
    })
    expect(claimed).toMatchObject({ reason: 'account_claimed' })
  })

  test('who proves the account by signing in to it keeps it as it is, its address still unproved', async () => {
    const plan = await decideByProvider({
      byContactEmail: [carrier],
      identity: { emailVerified: 'unstated' },
      proof: { address: 'ann@o.example', user: 'u', by: 'account' },
    })
    expect(written(plan)).toEqual(['identity.link'])
    expect(plan).toMatchObject({
      outcome: 'linked',
      after: { user: { id: 'u', verifiedEmail: null, epoch: 0 } },
    })
  })
})
