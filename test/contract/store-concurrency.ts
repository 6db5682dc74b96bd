import assert from 'node:assert/strict'
import type { ChangeSet, CommitResult, Conflict, Store } from 'passport-jit'
import { onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { many, races } from './store-races.js'
import {
  at,
  change,
  conflict,
  event,
  invitationCreate,
  landed,
  nobody,
  organizationPut,
  saml,
  userCreate,
  world,
} from './store-world.js'

/** A first sign-in as the planner writes it. */
function firstSignIn(id: string, person: string): ChangeSet {
  const user = `user ${id}`
  return change(id, {
    guards: [
      { guard: 'organization', id: 'acme', version: 'v1' },
      { guard: 'connection', id: 'acme-saml', version: 'v1' },
      { guard: 'seats', organization: 'acme', by: 1 },
    ],
    ops: [
      userCreate(user, { verifiedEmail: `${person}@acme.example` }),
      { op: 'identity.link', user, ...saml, subject: person, at },
      { op: 'membership.create', user, organization: 'acme', status: 'active', seat: true, at },
      {
        op: 'grant.add',
        user,
        organization: 'acme',
        role: 'member',
        source: 'sso:acme-saml',
        basis: 'default',
        at,
      },
    ],
    events: ['created', 'linked', 'joined', 'granted'].map((type, seq) =>
      event(id, seq, { type: type as 'created', user }),
    ),
  })
}

const winners = (results: readonly CommitResult[]) => results.filter((result) => result.committed).length

const misses = (results: readonly CommitResult[]): Conflict[] =>
  results.flatMap((result) => (result.committed ? [] : [result.conflict]))

async function organization(store: Store, id = 'acme') {
  const { organizations } = await store.load({ ...nobody, organizations: [id] })
  return organizations[0]!
}

const unlimited = (version = 'v1') =>
  change(`unlimited ${version}`, { ops: [organizationPut('acme', { version, seatLimit: null })] })

/** Tier three: races by raw change sets, through one instance and through two on the same data. */
export function concurrency(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const raceOf = races(runner, factory)
  const race = (
    name: string,
    body: (store: Store, commit: (changes: ChangeSet) => Promise<CommitResult>) => Promise<void>,
  ) => raceOf(name, (store, next) => body(store, (changes) => next().commit(changes)))

  race('100 parallel first sign-ins of one person make one user', async (store, commit) => {
    await landed(store.commit(unlimited()))
    const results = await Promise.all(many(100).map((n) => commit(firstSignIn(`c${n}`, 'newcomer'))))
    assert.equal(winners(results), 1)
    const { rows } = await store.users()
    assert.equal(rows.length, 1)
    assert.equal(rows[0]!.identities.length, 1)
    assert.deepEqual(rows[0]!.memberships[0]!.grants.length, 1)
    assert.equal((await organization(store)).seatsUsed, 1)
    assert.deepEqual(
      (await store.events()).rows.map(({ type }) => type),
      ['created', 'linked', 'joined', 'granted'],
    )
  })

  race('100 parallel first sign-ins of different people all land', async (store, commit) => {
    await landed(store.commit(unlimited()))
    const results = await Promise.all(many(100).map((n) => commit(firstSignIn(`c${n}`, `person${n}`))))
    assert.deepEqual(misses(results), [])
    assert.equal((await store.users({ limit: 1000 })).rows.length, 100)
    assert.equal((await organization(store)).seatsUsed, 100)
    assert.equal((await store.events({ limit: 1000 })).rows.length, 400)
  })

  race('[P11] of 50 who join an organization of 5 seats, 5 do', async (store, commit) => {
    const results = await Promise.all(many(50).map((n) => commit(firstSignIn(`c${n}`, `person${n}`))))
    assert.equal(winners(results), 5)
    const seats = { kind: 'guard', guard: { guard: 'seats', organization: 'acme', by: 1 } }
    assert.deepEqual(
      misses(results),
      many(45).map(() => seats),
    )
    const { rows } = await store.users()
    assert.deepEqual(
      rows.map(({ memberships }) => memberships.length),
      [1, 1, 1, 1, 1],
    )
    const { seatsUsed, seatLimit } = await organization(store)
    assert.deepEqual([seatsUsed, seatLimit], [5, 5])
  })

  race('of 50 plans made from one version, one lands', async (store, commit) => {
    await landed(store.commit(change('user', { ops: [userCreate('alice')] })))
    const results = await Promise.all(
      many(50).map((n) =>
        commit(
          change(`c${n}`, {
            expect: [{ user: 'alice', version: 1 }],
            ops: [{ op: 'user.update', id: 'alice', set: { attributes: { by: `c${n}` } } }],
          }),
        ),
      ),
    )
    assert.equal(winners(results), 1)
    assert.deepEqual(
      misses(results),
      many(49).map(() => ({ kind: 'version', user: 'alice' })),
    )
    const { user } = (await store.user('alice'))!
    assert.equal(user.version, 2)
    assert.equal(user.attributes.by, `c${results.findIndex((result) => result.committed)}`)
  })

  race('users touched in opposite orders do not block each other', async (store, commit) => {
    const ids = ['alice', 'bob', 'carol']
    await landed(store.commit(change('users', { ops: ids.map((id) => userCreate(id)) })))
    for (let version = 1; version <= 10; version++) {
      const expect = ids.map((user) => ({ user, version }))
      const results = await Promise.all(
        many(10).map((n) =>
          commit(change(`c${version}.${n}`, { expect: n % 2 ? expect : [...expect].reverse() })),
        ),
      )
      assert.equal(winners(results), 1)
      for (const miss of misses(results)) assert.equal(miss.kind, 'version')
    }
  })

  race(
    'counters of organizations taken in opposite orders do not block each other',
    async (store, commit) => {
      const both = [
        { guard: 'seats', organization: 'acme', by: -1 },
        { guard: 'owners', organization: 'acme', by: 1 },
        { guard: 'owners', organization: 'globex', by: 1 },
        { guard: 'seats', organization: 'globex', by: -1 },
      ] as const
      const results = await Promise.all(
        many(60).map((n) => commit(change(`c${n}`, { guards: n % 2 ? both : [...both].reverse() }))),
      )
      assert.deepEqual(misses(results), [])
      for (const id of ['acme', 'globex']) {
        const { seatsUsed, owners } = await organization(store, id)
        assert.deepEqual([seatsUsed, owners], [-60, 60])
      }
    },
  )

  race('two owners demoted at once leave one, 20 times of 20', async (store, commit) => {
    const owner = { organization: 'acme', role: 'owner', source: 'manual' } as const
    const ids = ['alice', 'bob']
    const promote = (user: string) => ({ op: 'grant.add', user, ...owner, basis: 'person', at }) as const
    await landed(
      store.commit(
        change('owners', {
          guards: [{ guard: 'owners', organization: 'acme', by: 2 }],
          ops: ids.flatMap((user) => [
            userCreate(user),
            {
              op: 'membership.create',
              user,
              organization: 'acme',
              status: 'active',
              seat: true,
              at,
            } as const,
            promote(user),
          ]),
        }),
      ),
    )
    for (let round = 0; round < 20; round++) {
      const results = await Promise.all(
        ids.map((user) =>
          commit(
            change(`demote ${user} ${round}`, {
              guards: [{ guard: 'owners', organization: 'acme', by: -1 }],
              ops: [{ op: 'grant.remove', user, ...owner }],
            }),
          ),
        ),
      )
      assert.deepEqual(misses(results), [
        { kind: 'guard', guard: { guard: 'owners', organization: 'acme', by: -1 } },
      ])
      const { rows } = await store.users()
      assert.equal(rows.flatMap(({ memberships }) => memberships[0]!.grants).length, 1)
      assert.equal((await organization(store)).owners, 1)
      const demoted = ids[results.findIndex((result) => result.committed)]!
      await landed(
        commit(
          change(`promote ${round}`, {
            guards: [{ guard: 'owners', organization: 'acme', by: 1 }],
            ops: [promote(demoted)],
          }),
        ),
      )
    }
  })

  race('one invitation taken by two at once has one winner, 20 times of 20', async (store, commit) => {
    for (let round = 0; round < 20; round++) {
      const id = `invitation ${round}`
      await landed(store.commit(change(id, { ops: [invitationCreate(id)] })))
      const takers = ['alice', 'bob'].map((name) => `${name} ${round}`)
      const results = await Promise.all(
        takers.map((user) =>
          commit(
            change(`take ${user}`, {
              guards: [{ guard: 'invitation', id, user }],
              ops: [userCreate(user)],
            }),
          ),
        ),
      )
      assert.equal(winners(results), 1)
      const loser = takers[results.findIndex((result) => !result.committed)]!
      assert.deepEqual(misses(results), [{ kind: 'guard', guard: { guard: 'invitation', id, user: loser } }])
      assert.equal(await store.user(loser), null)
    }
  })

  race('one change set handed in 20 times at once lands once', async (store, commit) => {
    const changes = firstSignIn('once', 'newcomer')
    const results = await Promise.all(many(20).map(() => commit(changes)))
    assert.equal(winners(results), 1)
    assert.equal((await store.users()).rows.length, 1)
    assert.equal((await organization(store)).seatsUsed, 1)
    assert.equal((await store.events()).rows.length, 4)
    conflict(await commit(changes))
    assert.equal((await organization(store)).seatsUsed, 1)
  })

  race('one refusal handed in 20 times at once is one event', async (store, commit) => {
    const changes = change('refused', { events: [event('refused', 0, { type: 'denied' })] })
    const results = await Promise.all(many(20).map(() => commit(changes)))
    assert.equal(winners(results), 1)
    assert.deepEqual(
      misses(results),
      many(19).map(() => ({ kind: 'key', key: 'change' })),
    )
    assert.equal((await store.events()).rows.length, 1)
  })

  race(
    'sign-ins and changes of the policy at once: each lands on the version it planned for',
    async (store, commit) => {
      await landed(store.commit(unlimited()))
      const plans = many(60).map((n) => {
        if (n === 30) return unlimited('v2')
        return firstSignIn(`c${n}`, `person${n}`)
      })
      const results = await Promise.all(plans.map((plan) => commit(plan)))
      const stale = { kind: 'guard', guard: { guard: 'organization', id: 'acme', version: 'v1' } }
      for (const miss of misses(results)) assert.deepEqual(miss, stale)
      assert.equal(results[30]!.committed, true)
      assert.equal((await organization(store)).seatsUsed, winners(results) - 1)
      assert.deepEqual(conflict(await commit(firstSignIn('late', 'late'))), stale)
    },
  )

  race('of 20 claims of one account for one address, one lands', async (store, commit) => {
    await landed(
      store.commit(
        change('user', {
          guards: [{ guard: 'seats', organization: 'acme', by: 1 }],
          ops: [
            userCreate('alice', { contactEmail: 'alice@acme.example' }),
            {
              op: 'membership.create',
              user: 'alice',
              organization: 'acme',
              status: 'active',
              seat: true,
              at,
            },
          ],
        }),
      ),
    )
    const results = await Promise.all(
      many(20).map((n) =>
        commit(
          change(`c${n}`, {
            expect: [{ user: 'alice', version: 1 }],
            ops: [
              { op: 'user.claim', id: 'alice', verifiedEmail: 'alice@acme.example' },
              { op: 'identity.link', user: 'alice', ...saml, subject: `s${n}`, at },
            ],
          }),
        ),
      ),
    )
    assert.equal(winners(results), 1)
    const [found] = (await store.users()).rows
    assert.deepEqual(
      [found!.epoch, found!.memberships, found!.identities.map(({ subject }) => subject)],
      [1, [], [`s${results.findIndex((result) => result.committed)}`]],
    )
    assert.equal((await organization(store)).seatsUsed, 0)
  })

  race('of 20 organizations that claim one domain at once, one gets it', async (store, commit) => {
    const ids = many(20).map((n) => `o${n}`)
    const put = (id: string) =>
      organizationPut(id, { kept: { entry: `"${id}"`, domains: ['shared.example', `${id}.example`] } })
    const results = await Promise.all(ids.map((id) => commit(change(id, { ops: [put(id)] }))))
    assert.equal(winners(results), 1)
    assert.deepEqual(
      misses(results),
      many(19).map(() => ({ kind: 'key', key: 'domain' })),
    )
    const winner = ids[results.findIndex((result) => result.committed)]!
    assert.equal((await store.entries.domain(['shared.example']))?.owner.id, winner)
    for (const id of ids) {
      assert.equal((await store.entries.organization(id))?.id, id === winner ? id : undefined)
      assert.equal((await store.entries.domain([`${id}.example`]))?.owner.id, id === winner ? id : undefined)
    }
  })

  race('who follows the changes of entries misses none', async (store, commit) => {
    let done = false
    const seen = new Set<string>()
    const positions: number[] = []
    const follower = (async () => {
      for (let position = 0, last = false; ; last = done) {
        const changes = await store.entries.changes(position)
        for (const id of changes.ids!) seen.add(id)
        position = changes.position
        positions.push(position)
        if (last) return
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    const ids = many(60).map((n) => `o${n}`)
    const results = await Promise.all(
      ids.map((id) =>
        commit(change(id, { ops: [organizationPut(id, { kept: { entry: `"${id}"`, domains: [] } })] })),
      ),
    )
    done = true
    await follower
    assert.deepEqual(misses(results), [])
    assert.deepEqual([...seen].sort(), [...ids].sort())
    assert.deepEqual(
      positions,
      [...positions].sort((a, b) => a - b),
    )
  })

  race('a plan made before somebody else wrote is refused', async (store, commit) => {
    await landed(store.commit(change('user', { ops: [userCreate('alice')] })))
    await landed(commit(change('admin', { expect: [{ user: 'alice', version: 1 }] })))
    const stale = change('stale', {
      expect: [{ user: 'alice', version: 1 }],
      ops: [{ op: 'user.update', id: 'alice', set: { status: 'suspended' } }],
    })
    assert.deepEqual(conflict(await commit(stale)), { kind: 'version', user: 'alice' })
    assert.deepEqual((await store.user('alice'))!.user.status, 'active')
    await landed(commit({ ...stale, expect: [{ user: 'alice', version: 2 }] }))
  })

  race('readers see whole changes only', async (store, commit) => {
    await landed(store.commit(unlimited()))
    let done = false
    const reader = (async () => {
      const seen: string[] = []
      while (!done) {
        for (const user of (await store.users({ limit: 1000 })).rows) {
          const whole = user.identities.length === 1 && user.memberships[0]?.grants.length === 1
          if (!whole) seen.push(JSON.stringify(user))
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
      return seen
    })()
    const results = await Promise.all(many(40).map((n) => commit(firstSignIn(`c${n}`, `person${n}`))))
    done = true
    assert.deepEqual(await reader, [])
    assert.deepEqual(misses(results), [])
  })

  check('several instances that migrate at once make one schema', async (fresh) => {
    const stores = [fresh.store, ...(await Promise.all(many(5).map(() => fresh.another())))]
    const hashKeys = await Promise.all(
      [...stores, ...stores].map(async (store) => {
        await store.migrate()
        return store.hashKey()
      }),
    )
    assert.equal(new Set(hashKeys).size, 1)
    await world(fresh.store)
    for (const store of stores) assert.equal((await store.users()).rows.length, 4)
  })
}
