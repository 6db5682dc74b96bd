import { describe, expect, test } from 'vitest'
import { decide, type Given, known, member, user, written } from './facts.js'

const off = { jit: { create: false, join: false, roles: ['member'] } }
const createOnly = { jit: { create: true, join: false, roles: ['member'] } }
const admins = { groups: { kind: 'listed', values: ['admins', 'unmapped'] } } as const

interface Row {
  name: string
  given: Given
  outcome: string
  reason: string
  writes: string[]
}

/** DESIGN §4, *Enterprise SSO*, row by row: user, JIT, result. */
const rows: Row[] = [
  {
    name: 'does not exist · JIT on: created, joins O with the default roles and the mapped ones',
    given: { identity: admins },
    outcome: 'created',
    reason: 'user_provisioned',
    writes: [
      'user.create',
      'identity.link',
      'membership.create',
      'grant.add member sso:c',
      'grant.add admin sso:c',
    ],
  },
  {
    name: 'exists with the same verified e-mail · JIT on: identity linked, joins O with the right roles',
    given: { byVerifiedEmail: user(), identity: admins },
    outcome: 'linked',
    reason: 'identity_linked',
    writes: ['identity.link', 'membership.create', 'grant.add member sso:c', 'grant.add admin sso:c'],
  },
  {
    name: 'exists in an acquired domain that the connection vouches for · JIT on: linked and joined',
    given: {
      byVerifiedEmail: user({ verifiedEmail: 'ann@acquired.example' }),
      identity: { email: 'ann@acquired.example' },
    },
    outcome: 'linked',
    reason: 'identity_linked',
    writes: ['identity.link', 'membership.create', 'grant.add member sso:c'],
  },
  {
    name: 'identity known, not yet a member of O · JIT on: joins O',
    given: { byIdentity: known() },
    outcome: 'updated',
    reason: 'membership_created',
    writes: ['membership.create', 'grant.add member sso:c'],
  },
  {
    name: 'identity known, not yet a member of O, tombstoned · JIT on: signed in, joins nothing',
    given: { byIdentity: known({ tombstones: [{ organization: 'o', role: null, at: 1500 }] }) },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'already a member of O · JIT on: profile and groups synced, default roles not granted again',
    given: {
      byIdentity: known({ memberships: member(['viewer', 'sso:c', 'group']) }),
      identity: { ...admins, profile: { name: 'Anna' } },
    },
    outcome: 'updated',
    reason: 'identity_synced',
    writes: ['grant.add admin sso:c', 'grant.remove viewer sso:c', 'user.update attributes'],
  },
  {
    name: 'already a member of O, nothing changed: nothing is written',
    given: { byIdentity: known({ memberships: member(['member', 'sso:c', 'default']) }) },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'does not exist · create on, join off: created, joins nothing',
    given: { connection: createOnly, identity: admins },
    outcome: 'created',
    reason: 'user_created',
    writes: ['user.create', 'identity.link'],
  },
  {
    name: 'identity known, the asserted e-mail is now foreign · any: signed in, not adopted, joins nothing',
    given: { byIdentity: known(), identity: { email: 'ann@p.example' }, connection: { adoptEmail: true } },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'identity known, the asserted e-mail is now unvouched · any: signed in, not adopted, joins nothing',
    given: {
      byIdentity: known(),
      identity: { email: 'ann@nobody.example' },
      connection: { adoptEmail: true },
    },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'does not exist · JIT off: denied, user_not_provisioned',
    given: { connection: off },
    outcome: 'denied',
    reason: 'user_not_provisioned',
    writes: [],
  },
  {
    name: 'exists, identity known · JIT off: signed in, no join, no role change',
    given: { connection: off, byIdentity: known(), identity: admins },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'exists, identity known and a member · JIT off: signed in, no role change',
    given: {
      connection: off,
      byIdentity: known({ memberships: member(['viewer', 'sso:c', 'group']) }),
      identity: admins,
    },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'exists, same verified e-mail · JIT off: signed in, linked, no join',
    given: { connection: off, byVerifiedEmail: user() },
    outcome: 'linked',
    reason: 'identity_linked',
    writes: ['identity.link'],
  },
  {
    name: 'exists, profile sync on: mapped attributes take the asserted values',
    given: { connection: createOnly, byIdentity: known(), identity: { profile: { name: 'Anna' } } },
    outcome: 'updated',
    reason: 'identity_synced',
    writes: ['user.update attributes'],
  },
  {
    name: 'exists, profile sync off: attributes left alone',
    given: {
      connection: { jit: { ...createOnly.jit, profileSync: 'never' } } as never,
      byIdentity: known(),
      identity: { profile: { name: 'Anna' } },
    },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'exists, profile sync on the first sign-in of that identity: taken when linked',
    given: {
      connection: { jit: { ...createOnly.jit, profileSync: 'first-sign-in' } } as never,
      byVerifiedEmail: user(),
      identity: { profile: { name: 'Anna' } },
    },
    outcome: 'linked',
    reason: 'identity_linked',
    writes: ['identity.link', 'user.update attributes'],
  },
  {
    name: 'exists, profile sync on the first sign-in of that identity: left alone afterwards',
    given: {
      connection: { jit: { ...createOnly.jit, profileSync: 'first-sign-in' } } as never,
      byIdentity: known(),
      identity: { profile: { name: 'Anna' } },
    },
    outcome: 'unchanged',
    reason: 'identity_known',
    writes: [],
  },
  {
    name: 'e-mail in a domain that another organization owns, identity not yet known: denied',
    given: { identity: { email: 'ann@p.example' }, connection: { outsiders: 'separate' } as never },
    outcome: 'denied',
    reason: 'email_foreign',
    writes: [],
  },
  {
    name: 'e-mail in nobody’s domain, identity not yet known · outsiders deny: denied',
    given: { identity: { email: 'ann@nobody.example' } },
    outcome: 'denied',
    reason: 'email_outside',
    writes: [],
  },
  {
    name: 'no e-mail, identity not yet known · outsiders deny: denied',
    given: { identity: { email: undefined } },
    outcome: 'denied',
    reason: 'email_outside',
    writes: [],
  },
  {
    name: 'e-mail in nobody’s domain, identity not yet known · outsiders separate: an account of its own',
    given: {
      identity: { email: 'ann@nobody.example' },
      byVerifiedEmail: user({ verifiedEmail: 'ann@nobody.example' }),
      connection: { outsiders: 'separate' } as never,
    },
    outcome: 'created',
    reason: 'outsider_created',
    writes: ['user.create', 'identity.link'],
  },
  {
    name: 'no e-mail, identity not yet known · outsiders separate: an account of its own',
    given: { identity: { email: undefined }, connection: { outsiders: 'separate' } as never },
    outcome: 'created',
    reason: 'outsider_created',
    writes: ['user.create', 'identity.link'],
  },
]

describe('Enterprise SSO', () => {
  test.each(rows)('$name', async ({ given, outcome, reason, writes }) => {
    const plan = await decide(given)
    expect({ outcome: plan.outcome, reason: plan.reason, writes: written(plan) }).toEqual({
      outcome,
      reason,
      writes,
    })
    if (outcome === 'denied') expect(plan.changes?.events.map((event) => event.type)).toEqual(['denied'])
    // What was asserted is the same as last time in every row where nothing else changes.
    else expect(plan.changes === null).toBe(writes.length === 0)
  })

  test('an outsider’s account carries no address that anybody could be matched with', async () => {
    const plan = await decide({
      identity: { email: 'ann@nobody.example' },
      connection: { outsiders: 'separate' } as never,
    })
    expect(plan.changes?.ops[0]).toMatchObject({ verifiedEmail: null, contactEmail: null })
  })

  test('joining leaves other memberships and their roles untouched', async () => {
    const plan = await decide({ byVerifiedEmail: user() })
    expect(plan.changes?.ops.every((op) => !('organization' in op) || op.organization === 'o')).toBe(true)
  })
})

describe('Which e-mail counts as verified, by a connection', () => {
  test.each([
    ['the claim is absent', 'unstated', 'user_provisioned'],
    ['the claim is true', 'yes', 'user_provisioned'],
    ['any other value vetoes', 'no', 'email_unverified'],
  ] as const)('in a vouched domain: %s', async (_, emailVerified, reason) => {
    expect((await decide({ identity: { emailVerified } })).reason).toBe(reason)
  })

  test('outside the vouched domains a claim of verification proves nothing', async () => {
    const given = { emailVerified: 'yes' } as const
    expect((await decide({ identity: { ...given, email: 'ann@p.example' } })).reason).toBe('email_foreign')
    expect((await decide({ identity: { ...given, email: 'ann@nobody.example' } })).reason).toBe(
      'email_outside',
    )
  })

  test('a vetoed address matches nobody, not even the account that has it verified', async () => {
    const plan = await decide({ identity: { emailVerified: 'no' }, byVerifiedEmail: user() })
    expect(plan).toMatchObject({ outcome: 'denied', reason: 'email_unverified' })
  })

  test.each(['evil-o.example', 'o.example.evil.example', 'sub.o.example', 'xo.example'])(
    'L13: %s is not o.example',
    async (domain) => {
      expect((await decide({ identity: { email: `ann@${domain}` } })).reason).toBe('email_outside')
    },
  )

  test('an own domain that the connection does not vouch for lets nobody new in', async () => {
    const plan = await decide({
      connection: { vouchesFor: ['acquired.example'], outsiders: 'separate' } as never,
    })
    expect(plan).toMatchObject({ outcome: 'denied', reason: 'email_outside' })
  })
})
