import fc from 'fast-check'
import { JitError, type Preview, type Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { describe, expect, test } from 'vitest'
import { onEveryStore } from '../directory/stores.js'
import { type Asserting, everything, policy, rolesIn, signIn, staticApp } from './policy-scene.js'

type Parts = Record<string, unknown>
type Policy = readonly [connection: Parts, organization: Parts]

interface Person {
  readonly name: string
  readonly asserting: Asserting
  readonly by: 'nobody' | 'grant' | 'revoke' | 'suspend' | 'remove' | 'own'
}

const by = 'root'
/** No sync is held for what it takes; one that touches the only owner is, and then let go. */
const unguarded = { revocations: { share: 1 } }

/** Everybody signs in under one policy, administrators do this and that, and all is settled. */
async function populated(store: Store, now: Policy, people: readonly Person[]) {
  const scene = staticApp(store, policy(...now), unguarded)
  const { jit, directory } = scene
  await jit.ready()
  const users = new Map<string, string>()
  const everybody = async () => {
    for (const { name, asserting } of people) {
      const done = await signIn(store, directory, name, asserting).catch((error: JitError) => error)
      if (!(done instanceof JitError)) users.set(name, done.after.user.id)
    }
  }
  await everybody()
  for (const person of people) {
    const user = users.get(person.name)
    const here = { user: user!, organization: 'o', by }
    const member =
      user && (await store.user(user))?.memberships.some(({ organization }) => organization === 'o')
    if (!member || person.by === 'nobody') continue
    const { admin } = jit
    if (person.by === 'grant') await admin.grant({ ...here, role: 'viewer' })
    if (person.by === 'own') await admin.grant({ ...here, role: 'owner' })
    if (person.by === 'revoke') await admin.revoke({ ...here, role: 'admin' })
    if (person.by === 'suspend') await admin.suspend(here)
    if (person.by === 'remove') await admin.remove(here)
  }
  await everybody()
  await everybody()
  return { ...scene, users }
}

/** The app under the policy in force, with everybody settled in it as far as it lets them in. */
async function settled(store: Store, now: Policy, people: readonly Person[]) {
  const { jit, directory } = staticApp(store, policy(...now), unguarded)
  await jit.ready()
  await jit.admin.releaseSync({ connection: 'c', by })
  const refusals = new Set<string>()
  for (let round = 0; round < 2; round++) {
    for (const { name, asserting } of people) {
      const done = await signIn(store, directory, name, asserting).catch((error: JitError) => error)
      if (done instanceof JitError) refusals.add(name)
      else refusals.delete(name)
    }
  }
  return { jit, refusals }
}

/** What really is different for each user once everybody has signed in under another policy. */
async function applied(store: Store, coming: Policy, people: readonly Person[], users: Map<string, string>) {
  const { jit, directory } = staticApp(store, policy(...coming), unguarded)
  const before = await rolesIn(store)
  await jit.ready()
  await jit.admin.releaseSync({ connection: 'c', by })
  const refusals = new Map<string, string>()
  for (const { name, asserting } of people) {
    if (!users.has(name)) continue
    const done = await signIn(store, directory, name, asserting).catch((error: JitError) => error)
    if (done instanceof JitError) refusals.set(name, done.code)
  }
  const after = await rolesIn(store)
  return { before, after, refusals }
}

const names = Array.from({ length: 12 }, (_, n) => `person${String(n).padStart(2, '0')}`)
const maps: Parts[] = [
  { map: { admins: ['admin'], watchers: ['viewer'] } },
  { map: { admins: ['admin', 'viewer'] } },
  { map: { watchers: ['viewer'] }, withoutRole: 'leave' },
  { map: {}, prefixes: { ad: ['admin'] }, absent: 'empty' },
  { map: { admins: ['admin'], watchers: ['viewer'] }, oneOf: ['admin', 'viewer'] },
  { map: { admins: ['admin'] }, mode: 'add' },
]
const jits: Parts[] = [{ roles: ['member'] }, { roles: [] }, { roles: ['member'], join: false }]
const organizations: Parts[] = [
  {},
  {},
  { seatLimit: 6 },
  { seatLimit: 6, whenFull: 'join-without-seat' },
  { seatLimit: 9 },
]
const anyPolicy = fc
  .record({
    groups: fc.constantFrom(...maps),
    jit: fc.constantFrom(...jits),
    enabled: fc.constantFrom(true, true, true, true, true, false),
    organization: fc.constantFrom(...organizations),
    status: fc.constantFrom('active', 'active', 'active', 'active', 'active', 'suspended'),
    vouchesFor: fc.constantFrom(['o.example'], ['o.example'], ['other.example']),
  })
  .map(
    ({ groups, organization, status, ...rest }): Policy => [
      { ...rest, groups: { absent: 'unknown', ...groups } },
      { ...organization, status },
    ],
  )
const anyPeople = fc
  .array(
    fc.record({
      groups: fc.constantFrom<Asserting['groups'][]>(
        ['admins'],
        ['watchers'],
        ['admins', 'watchers'],
        [],
        'absent',
      ),
      by: fc.constantFrom<Person['by'][]>(
        'nobody',
        'nobody',
        'nobody',
        'grant',
        'revoke',
        'suspend',
        'remove',
        'own',
      ),
    }),
    { minLength: names.length, maxLength: names.length },
  )
  .map((all) =>
    all.map(({ groups, by }, n): Person => ({ name: names[n]!, asserting: { groups: groups! }, by })),
  )

/** By user, what the preview says. */
const said = ({ people }: Preview) =>
  Object.fromEntries(
    people.map(({ user, gains, loses, membership, refused, admitted }) => [
      user,
      {
        gains: gains.map(({ role }) => role).sort(),
        loses: loses.map(({ role }) => role).sort(),
        membership,
        refused,
        admitted,
      },
    ]),
  )

describe('A preview is what then happens', () => {
  test('for a dozen people of any history, under any two policies', async () => {
    let different = 0
    const property = fc.asyncProperty(anyPolicy, anyPolicy, anyPeople, async (now, coming, people) => {
      const store = memoryStore()
      // Nobody gets an account where the first policy refuses everybody, and there would be nothing to compare.
      const open: Policy = [
        { ...now[0], enabled: true, vouchesFor: ['o.example'] },
        { ...now[1], status: 'active' },
      ]
      const { users } = await populated(store, open, people)
      const scene = await settled(store, now, people)
      const preview = await scene.jit.preview(policy(...coming))
      const { before, after, refusals } = await applied(store, coming, people, users)

      const really: ReturnType<typeof said> = {}
      for (const [name, user] of users) {
        const roles = (of: typeof before) => [
          ...new Set((of[name] ?? []).map((grant) => grant.split(' ')[0]!)),
        ]
        const [was, is] = [roles(before), roles(after)]
        const refused = refusals.get(name) ?? null
        const wasRefused = scene.refusals.has(name)
        const found = {
          gains: is.filter((role) => !was.includes(role)).sort(),
          loses: was.filter((role) => !is.includes(role)).sort(),
          membership: !before[name] && after[name] ? 'joins' : before[name] && !after[name] ? 'leaves' : null,
          refused: wasRefused ? null : refused,
          admitted: wasRefused && !refused,
        } as ReturnType<typeof said>[string]
        const nothing = found.gains.length + found.loses.length === 0
        if (nothing && !found.membership && !found.refused && !found.admitted) continue
        really[user] = found
        different += 1
      }
      expect(said(preview)).toEqual(really)

      const [count] = preview.organizations
      const everyone = Object.values(really)
      const grants = (of: typeof before) => Object.values(of).flatMap((held) => held ?? []).length
      if (count) {
        expect(count).toMatchObject({
          ...{ organization: 'o', identities: users.size, complete: true, grants: grants(before) },
          gaining: everyone.filter(({ gains }) => gains.length > 0).length,
          losing: everyone.filter(({ loses }) => loses.length > 0).length,
          joining: everyone.filter(({ membership }) => membership === 'joins').length,
          leaving: everyone.filter(({ membership }) => membership === 'leaves').length,
          refused: everyone.filter(({ refused }) => refused).length,
          admitted: everyone.filter(({ admitted }) => admitted).length,
        })
      } else expect(everyone).toEqual([])
    })
    await fc.assert(property, { numRuns: 60 })
    expect(different).toBeGreaterThan(60)
  }, 120_000)
})

const dozen = (groups: (n: number) => string[], by: (n: number) => Person['by'] = () => 'nobody') =>
  names.map((name, n): Person => ({ name, asserting: { groups: groups(n) }, by: by(n) }))

onEveryStore((factory) => {
  const check = (name: string, body: (store: Store) => Promise<void>) =>
    test(name, async () => {
      const { store, close } = await factory()
      try {
        await body(store)
      } finally {
        await close()
      }
    })
  const one: Policy = [{}, {}]
  const other: Policy = [{ groups: { map: { watchers: ['viewer'] }, absent: 'unknown' } }, {}]

  check('the same on every store, and nothing is written', async (store) => {
    const people = dozen(
      (n) => (n < 6 ? ['admins'] : ['watchers']),
      (n) => (n === 0 ? 'revoke' : 'nobody'),
    )
    const { jit, users } = await populated(store, one, people)
    const before = await everything(store)
    const preview = await jit.preview(policy(...other))
    expect(await everything(store)).toEqual(before)
    expect(preview.organizations).toEqual([
      {
        ...{ organization: 'o', connections: ['c'], identities: 12, complete: true, grants: 23, granted: 0 },
        ...{
          revoked: 5,
          share: 5 / 23,
          gaining: 0,
          losing: 5,
          joining: 0,
          leaving: 0,
          refused: 0,
          admitted: 0,
        },
        ...{ lastOwner: false, guarded: false },
      },
    ])
    const { before: was, after } = await applied(store, other, people, users)
    const lost = names.filter((name) => (was[name]?.length ?? 0) > (after[name]?.length ?? 0))
    expect(preview.people.map(({ user }) => user).sort()).toEqual(lost.map((name) => users.get(name)).sort())
    expect(lost).toEqual(names.slice(1, 6))
  })

  check('as many people are told of as were asked for; counts and digest are about all', async (store) => {
    const { jit } = await populated(
      store,
      one,
      dozen(() => ['admins']),
    )
    const all = await jit.preview(policy(...other))
    const some = await jit.preview(policy(...other), { people: 3 })
    expect(all.people).toHaveLength(12)
    expect(some.people).toEqual(all.people.slice(0, 3))
    expect(some).toEqual({ ...all, people: some.people })
  })

  check('pages of identities are read one after the other', async (store) => {
    await populated(
      store,
      one,
      dozen(() => ['admins']),
    )
    const asked: number[] = []
    const pages: Store = {
      ...store,
      asserted: async (query) => {
        const page = await store.asserted({ ...query, limit: 5 })
        asked.push(page.rows.length)
        return page
      },
    }
    const { jit } = staticApp(pages, policy(...one))
    const [whole, paged] = [staticApp(store, policy(...one)).jit, jit]
    expect(await paged.preview(policy(...other))).toEqual(await whole.preview(policy(...other)))
    expect(asked).toEqual([5, 5, 2])
  })

  check('few identities are read at once, and other work has its turn between them', async (store) => {
    // An identity provider may have asserted a megabyte about each.
    const first = dozen(() => ['admins'])
    await populated(store, one, [
      ...first,
      ...first.map((person) => ({ ...person, name: `${person.name}2` })),
    ])
    const asked: number[] = []
    const turns: number[] = []
    let turn = 0
    const count = () => {
      turn += 1
      counter = setImmediate(count)
    }
    let counter = setImmediate(count)
    const pages: Store = {
      ...store,
      asserted: async (query) => {
        const page = await store.asserted(query)
        asked.push(page.rows.length)
        turns.push(turn)
        return page
      },
    }
    await staticApp(pages, policy(...one)).jit.preview(policy(...other))
    clearImmediate(counter)
    expect(asked).toEqual([20, 4])
    expect(turns[1]).toBeGreaterThan(turns[0]!)
  })

  check('the digest is that of the effect', async (store) => {
    const { jit, directory } = await populated(
      store,
      one,
      dozen(() => ['admins']),
    )
    const digest = async (coming: Policy) => (await jit.preview(policy(...coming))).digest
    const first = await digest(other)
    expect(await digest(other)).toBe(first)
    expect(await digest([{ ...other[0], clientSecret: 'another' }, { name: 'Another' }])).toBe(first)
    expect(await digest([{ groups: { map: { admins: ['viewer'] } } }, {}])).not.toBe(first)
    // Somebody for whom nothing is different does not count, and somebody for whom it is does.
    await signIn(store, directory, 'newcomer', { groups: [] })
    expect(await digest(other)).toBe(first)
    await signIn(store, directory, 'newcomer', { groups: ['admins'] })
    expect(await digest(other)).not.toBe(first)
  })

  check('an input that changes nothing is about syncs that are held', async (store) => {
    const { jit, directory } = await populated(
      store,
      one,
      dozen(() => ['admins']),
    )
    expect((await jit.preview(policy(...one))).organizations).toEqual([])
    await store.commit({
      ...{ id: 'hold', expect: [], guards: [], events: [] },
      ops: [{ op: 'connection.hold', id: 'c', held: 'it took too much', at: Date.now() }],
    })
    for (const name of names.slice(0, 3)) await signIn(store, directory, name, { groups: [] })
    const { organizations } = await jit.preview(policy(...one))
    expect(organizations).toMatchObject([{ organization: 'o', losing: 3, revoked: 3 }])
  })
})

test('whose word counts for an address is asked under each policy', async () => {
  // Of eu.o.example, which P owns now and O from then on, C vouches by a pattern that is less close.
  const domains = (o: string[], p: string[], jit: Parts = {}) => {
    const input = policy({ vouchesFor: ['o.example', '*.o.example'], jit })
    const [first, second] = input.organizations
    return {
      ...input,
      organizations: [
        { ...first!, domains: o },
        { ...second!, domains: p },
      ],
    }
  }
  const store = memoryStore()
  const early = staticApp(store, domains(['o.example', '*.o.example'], [], { join: false }), unguarded)
  await early.jit.ready()
  const { after } = await signIn(store, early.directory, 'ann', { email: 'ann@eu.o.example' })
  expect(after.membership).toBeNull()

  const now = staticApp(store, domains(['o.example'], ['eu.o.example'], { roles: ['member'] }), unguarded)
  await now.jit.ready()
  const given = domains(['o.example', 'eu.o.example'], [], { roles: ['member'] })
  const { people } = await now.jit.preview(given)
  expect(people).toMatchObject([{ user: after.user.id, membership: 'joins', gains: [{ role: 'member' }] }])

  expect((await signIn(store, now.directory, 'ann', { email: 'ann@eu.o.example' })).joined).toEqual([])
  const coming = staticApp(store, given, unguarded)
  await coming.jit.ready()
  expect((await signIn(store, coming.directory, 'ann', { email: 'ann@eu.o.example' })).joined).toEqual(['o'])
})

test('a store that cannot be read: unavailable; an input that is wrong: every problem', async () => {
  const store = memoryStore()
  const { jit } = staticApp(
    { ...store, asserted: () => Promise.reject(new Error('connection lost')) },
    policy(),
  )
  await jit.ready().catch(() => {})
  const refusal = (work: Promise<unknown>) => work.catch((error: JitError) => [error.code, error.message])
  expect(await refusal(jit.preview(policy({ enabled: false })))).toEqual([
    'unavailable',
    expect.stringContaining('connection lost'),
  ])
  expect(await refusal(jit.preview(policy({ jit: { roles: ['cheif'] } })))).toEqual([
    'config_invalid',
    expect.stringContaining('no role "cheif"'),
  ])
})
