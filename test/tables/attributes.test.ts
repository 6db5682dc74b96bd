import type { UserFacts } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import type { Hash } from '../../lib/audit.js'
import { planSignIn } from '../../lib/plan.js'
import {
  type ConnectionInput,
  decide,
  decideByProvider,
  type Given,
  known,
  member,
  signIn,
  user,
} from './facts.js'

type Rule = NonNullable<ConnectionInput['attributes']>[string]

/** A sign-in of somebody whose account has these attributes, when the IdP asserts those. */
async function sync(
  rule: Rule,
  own: Record<string, string>,
  asserted: Record<string, string>,
  more: Partial<Given> & { jit?: ConnectionInput['jit'] } = {},
) {
  const { jit, ...given } = more
  const plan = await decide({
    connection: {
      attributes: { email: 'email', groups: 'groups', title: rule },
      ...(jit && { jit }),
    },
    byIdentity: known({ attributes: own }),
    identity: { profile: asserted },
    ...given,
  })
  if (plan.verdict !== 'allow') throw new Error(plan.reason)
  return { ...plan.after.user.attributes }
}

describe('authority', () => {
  test.each<[authority: 'idp' | 'app' | 'first', own: object, asserted: object, after: object]>([
    ['idp', { title: 'CTO' }, { title: 'CEO' }, { title: 'CEO' }],
    ['idp', {}, { title: 'CEO' }, { title: 'CEO' }],
    ['idp', { title: 'CTO' }, {}, { title: 'CTO' }],
    ['app', { title: 'CTO' }, { title: 'CEO' }, { title: 'CTO' }],
    ['app', {}, { title: 'CEO' }, {}],
    ['first', { title: 'CTO' }, { title: 'CEO' }, { title: 'CTO' }],
    ['first', {}, { title: 'CEO' }, { title: 'CEO' }],
  ])('%s, own %j, asserted %j: %j', async (authority, own, asserted, after) => {
    expect(await sync({ from: 'title', authority }, own as never, asserted as never)).toEqual(after)
  })

  test.each(['idp', 'app', 'first'] as const)(
    '%s: whoever is new gets what is asserted',
    async (authority) => {
      const plan = await decide({
        connection: { attributes: { email: 'email', groups: 'groups', title: { from: 'title', authority } } },
        identity: { profile: { title: 'CEO' } },
      })
      expect(plan.changes!.ops[0]).toMatchObject({ op: 'user.create', attributes: { title: 'CEO' } })
    },
  )
})

describe('absent: what becomes of a value that is no longer asserted', () => {
  test.each<['keep' | 'clear' | undefined, 'idp' | 'app' | 'first', object]>([
    [undefined, 'idp', { title: 'CTO' }],
    ['keep', 'idp', { title: 'CTO' }],
    ['clear', 'idp', {}],
    ['clear', 'app', { title: 'CTO' }],
    ['clear', 'first', { title: 'CTO' }],
  ])('%s, authority %s: %j', async (absent, authority, after) => {
    const rule = { from: 'title', authority, ...(absent && { absent }) }
    expect(await sync(rule, { title: 'CTO' }, {})).toEqual(after)
  })

  test.each(['too_long', 'not_text'] as const)(
    'what was left out as %s was asserted all the same',
    async (reason) => {
      const rule = { from: 'title', absent: 'clear' } as const
      const identity = { profile: {}, omitted: [{ attribute: 'title', reason }] }
      expect(await sync(rule, { title: 'CTO' }, {}, { identity })).toEqual({ title: 'CTO' })
      const other = { profile: {}, omitted: [{ attribute: 'name', reason }] }
      expect(await sync(rule, { title: 'CTO' }, {}, { identity: other })).toEqual({})
    },
  )

  test('the trace tells what was left out, and not its value', async () => {
    const plan = await decide({
      byIdentity: known(),
      identity: { profile: { name: 'Ann' }, omitted: [{ attribute: 'name', reason: 'too_long' }] },
    })
    expect(plan.trace.at(-1)).toEqual({
      rule: 'attributes',
      finding: 'unchanged',
      detail: 'name left out: too_long',
    })
  })
})

describe('profileSync', () => {
  const jit = (profileSync: 'never' | 'first-sign-in' | 'every-sign-in') => ({ roles: [], profileSync })
  const linked = (account: UserFacts): Partial<Given> => ({ byVerifiedEmail: account })

  test.each<['never' | 'first-sign-in' | 'every-sign-in', known: string, linked: string]>([
    ['never', 'CTO', 'CTO'],
    ['first-sign-in', 'CTO', 'CEO'],
    ['every-sign-in', 'CEO', 'CEO'],
  ])('%s: a known identity ends with %s, one that is linked with %s', async (when, later, first) => {
    const own = { title: 'CTO' }
    const asserted = { title: 'CEO' }
    expect(await sync('title', own, asserted, { jit: jit(when) })).toEqual({ title: later })
    const given = { jit: jit(when), byIdentity: undefined as never, ...linked(user({ attributes: own })) }
    expect(await sync('title', own, asserted, given)).toEqual({ title: first })
  })
})

describe('What sync leaves alone', () => {
  test('attributes of the app that no mapping names', async () => {
    const own = { title: 'CTO', theme: 'dark' }
    expect(await sync('title', own, { title: 'CEO', theme: 'light' })).toEqual({
      title: 'CEO',
      theme: 'dark',
    })
  })

  test('an account that comes by a provider', async () => {
    const identities = [
      { source: 'provider:verifying', issuer: 'https://social.example', subject: 's' },
    ] as const
    const plan = await decideByProvider({
      byIdentity: user({ identities }),
      identity: { profile: { name: 'Anna' } },
    })
    expect(plan).toMatchObject({
      verdict: 'allow',
      changes: null,
      after: { user: { attributes: { name: 'Ann' } } },
    })
  })

  test('names that mean something to JavaScript', async () => {
    const own = JSON.parse('{"__proto__":"x","constructor":"y","name":"Ann"}')
    const plan = await decide({
      byIdentity: known({ attributes: own }),
      identity: { profile: { name: 'Anna' } },
    })
    const set = plan.changes!.ops.find(({ op }) => op === 'user.update')
    expect(JSON.parse(JSON.stringify(set))).toEqual({
      op: 'user.update',
      id: 'u',
      set: { attributes: JSON.parse('{"__proto__":"x","constructor":"y","name":"Anna"}') },
    })
  })

  test('everything, where nothing differs: no change', async () => {
    const byIdentity = known({ attributes: { name: 'Ann', theme: 'dark' }, memberships: member() })
    expect((await decide({ byIdentity })).changes).toBeNull()
  })
})

describe('What an identity asserted is kept', () => {
  const identity = { profile: { name: 'Ann' }, groups: { kind: 'listed', values: ['b', 'a', 'b'] } } as const
  const kept = async (given: Given) =>
    (await decide(given)).changes?.ops.find(({ op }) => op === 'identity.assert')

  test('normalised, with a digest, when it is new or differs from last time', async () => {
    expect(await kept({ identity })).toMatchObject({
      user: 'new',
      subject: 's',
      asserted: {
        email: 'ann@o.example',
        emailVerified: 'unstated',
        profile: { name: 'Ann' },
        groups: { kind: 'listed', values: ['a', 'b'] },
      },
    })
    expect(await kept({ identity, byIdentity: known() })).toBeUndefined()
    expect(await kept({ identity, byIdentity: known(), asserted: 'another digest' })).toMatchObject({
      user: 'u',
    })
    expect(await kept({ identity, byIdentity: known(), asserted: null })).toMatchObject({ user: 'u' })
  })

  test('it alone is no update: the outcome says unchanged, and the user’s version moves', async () => {
    const plan = await decide({ byIdentity: known({ memberships: member() }), asserted: null })
    expect(plan).toMatchObject({
      outcome: 'unchanged',
      reason: 'identity_known',
      after: { user: { version: 4 } },
      changes: { expect: [{ user: 'u', version: 3 }], ops: [{ op: 'identity.assert' }] },
    })
  })

  test('the e-mail method asserts nothing but the address it proved', async () => {
    const plan = await decideByProvider({ provider: 'email' })
    expect(plan.changes!.ops.map(({ op }) => op)).not.toContain('identity.assert')
  })
})

describe('Values in the trail', () => {
  /** The details of the events of a sign-in by name, and what was hashed for them. */
  async function trail(given: Given) {
    const facts = await signIn(given)
    const hashed: string[] = []
    const hash: Hash = (value) => {
      hashed.push(value)
      return facts.hash(value)
    }
    const { changes } = planSignIn({ ...facts, hash })
    const details = Object.fromEntries(changes!.events.map(({ type, detail }) => [type, detail]))
    return { ...facts, details: JSON.parse(JSON.stringify(details)), hashed }
  }

  test('no name that a person may choose hashes like what is none: an address, an identity, what was asserted', async () => {
    const honest = await trail({})
    const texts = ['["email","ann@o.example"]', '["connection:c","https://idp.example","s"]']
    for (const text of texts) expect(honest.hashed).toContain(text)
    // Whoever is called by one of these would write what stands for somebody else into their own events.
    const names = [...texts, JSON.stringify(honest.asserted)]
    const others = names.map(honest.hash)
    for (const name of names) {
      const { created } = (await trail({ identity: { profile: { name } } })).details
      expect(others).not.toContain(created.attributes.name)
      const { updated } = (await trail({ byIdentity: known(), identity: { profile: { name } } })).details
      expect(others).not.toContain(updated.attributes.name.after)
    }
  })

  test('the same value hashes alike wherever it stands, so that it can be followed', async () => {
    const { created } = (await trail({ identity: { profile: { name: 'Ann' } } })).details
    const { updated } = (await trail({ byIdentity: known(), identity: { profile: { name: 'Anna' } } }))
      .details
    expect(updated.attributes.name.before).toBe(created.attributes.name)
    expect(updated.attributes.name.after).not.toBe(created.attributes.name)
  })
})
