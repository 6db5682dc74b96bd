import type { ChangeSet, DeliveryState, Operation, Store } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import type { Pool, PoolClient } from 'pg'
import { describe, expect, test } from 'vitest'
import { many } from '../contract/store-races.js'
import {
  at,
  change,
  connectionPut,
  event,
  foundation,
  invitationCreate,
  landed,
  organizationPut,
  saml,
  userCreate,
} from '../contract/store-world.js'
import { onPostgres } from './postgres-database.js'

await onPostgres(({ open, closeAll, freshSchema, waiting }) => {
  interface Place {
    readonly store: Store
    readonly schema: string
    readonly pool: Pool
    /** Somebody else's open transaction. */
    readonly other: PoolClient
  }
  const founded = (name: string, body: (place: Place) => Promise<void>) =>
    test(name, async () => {
      const pool = open()
      const schema = freshSchema()
      const store = postgresStore({ pool, schema })
      await foundation(store)
      const other = await pool.connect()
      await other.query('begin')
      try {
        await body({ store, schema, pool, other })
      } finally {
        other.release(true)
        await closeAll()
      }
    })
  const waits = (count: number) => expect.poll(waiting, { timeout: 10_000 }).toBe(count)
  const seats = (organization: string, by: number) => ({ guard: 'seats', organization, by }) as const
  const organization = (id: string) => ({ guard: 'organization', id, version: 'v1' }) as const
  const connection = { guard: 'connection', id: 'acme-saml', version: 'v1' } as const

  test('P17 a connection is given back, whether its commit lands, conflicts or fails', async () => {
    const pool = open()
    const taken = new Set<PoolClient>()
    pool.on('acquire', (client) => taken.add(client)).on('release', (_, client) => taken.delete(client))
    const store = postgresStore({ pool, schema: freshSchema() })
    await foundation(store)
    const invited = change('invited', { ops: [invitationCreate('door')] })
    await landed(store.commit(invited))
    expect(await store.commit(invited)).toMatchObject({ committed: false })
    await expect(postgresStore({ pool, schema: freshSchema() }).commit(invited)).rejects.toThrow('schema')
    const kept = [...taken]
    // A pool with one that is kept does not end.
    for (const client of kept) client.release(true)
    await closeAll()
    expect(kept.length).toBe(0)
  })

  // Each stops a commit half-way, where it holds what another commit wants that holds what it wants next, were
  // it not for the order. A circle would be broken by the server, and one of the two answered as busy.
  describe('two commits never wait for each other', () => {
    const writes: Record<string, Operation> = {
      'connection.remove': { op: 'connection.remove', id: 'acme-saml' },
      'connection.hold': { op: 'connection.hold', id: 'acme-saml', held: 'a reason', at },
      'connection.put': connectionPut('acme-saml', 'acme', { version: 'v2' }),
    }
    for (const [name, op] of Object.entries(writes)) {
      founded(`a sign-in and a ${name} that frees seats`, async ({ store, schema, other }) => {
        await landed(store.commit(change('invited', { ops: [invitationCreate('door')] })))
        await other.query(`select from ${schema}.jit_invitations where id = 'door' for update`)
        const signIn = store.commit(
          change('sign-in', {
            guards: [
              seats('acme', 1),
              organization('acme'),
              { guard: 'invitation', id: 'door', user: 'u' },
              connection,
            ],
            ops: [userCreate('u')],
          }),
        )
        await waits(1)
        const admin = store.commit(change('admin', { guards: [seats('acme', -1)], ops: [op] }))
        await waits(2)
        await other.query('commit')
        expect(await Promise.all([signIn, admin])).toEqual([{ committed: true }, { committed: true }])
      })
    }

    for (const held of ['acme', 'globex'])
      founded(
        `a sign-in to two organizations and changes of both, ${held} held`,
        async ({ store, schema, other }) => {
          await other.query(`select from ${schema}.jit_organizations where id = '${held}' for update`)
          const puts = store.commit(
            change('puts', {
              ops: [organizationPut('globex', { version: 'v2' }), organizationPut('acme', { version: 'v2' })],
            }),
          )
          await waits(1)
          const signIn = store.commit(
            change('sign-in', { guards: [organization('globex'), seats('acme', 1)], ops: [userCreate('u')] }),
          )
          await waits(2)
          await other.query('commit')
          expect(await puts).toEqual({ committed: true })
          expect(await signIn).toEqual({
            ...{ committed: false, conflict: { kind: 'guard', guard: organization('globex') } },
          })
        },
      )

    founded('two claims, each of an account in the organization that the other joins', async (place) => {
      const { store, schema, other } = place
      const member = (user: string, organization: string): Operation[] => [
        userCreate(user, { contactEmail: `${user}@acme.example` }),
        { op: 'membership.create', user, organization, status: 'active', seat: true, at },
      ]
      const ops = [...member('alice', 'acme'), ...member('bob', 'globex')]
      const guards = [seats('acme', 1), seats('globex', 1)]
      await landed(store.commit(change('members', { guards, ops })))
      const claim = (id: string, organization: string, first: Operation[] = []): ChangeSet =>
        change(`claim ${id}`, {
          guards: [seats(organization, 1)],
          ops: [
            ...first,
            { op: 'user.claim', id, verifiedEmail: `${id}@acme.example` },
            { op: 'membership.create', user: id, organization, status: 'active', seat: true, at },
          ],
        })
      await other.query(
        `insert into ${schema}.jit_identities (source, issuer, subject, user_id, linked_at)
         values ($1, $2, 'alice', 'alice', 1)`,
        [saml.source, saml.issuer],
      )
      const link: Operation = { op: 'identity.link', user: 'alice', ...saml, subject: 'alice', at }
      const one = store.commit(claim('alice', 'globex', [link]))
      await waits(1)
      const two = store.commit(claim('bob', 'acme'))
      await waits(2)
      await other.query('rollback')
      expect(await Promise.all([one, two])).toEqual([{ committed: true }, { committed: true }])
      const { organizations } = await store.load({ email: null, organizations: ['acme', 'globex'] })
      expect(organizations.map(({ seatsUsed }) => seatsUsed)).toEqual([1, 1])
    })

    founded('hundreds of commits of every kind, all at once', async ({ store, pool, schema }) => {
      await landed(store.commit(change('seats', { ops: [organizationPut('acme', { seatLimit: null })] })))
      const people = many(30).map((n) => `u${n}`)
      await landed(
        store.commit(
          change('people', {
            guards: [seats('acme', 30), seats('globex', 30)],
            ops: people.flatMap((user): Operation[] => [
              userCreate(user, { contactEmail: `${user}@acme.example` }),
              { op: 'membership.create', user, organization: 'acme', status: 'active', seat: true, at },
              { op: 'membership.create', user, organization: 'globex', status: 'active', seat: true, at },
            ]),
          }),
        ),
      )
      const kinds: ((n: number, user: string) => Partial<Omit<ChangeSet, 'id'>>)[] = [
        (n) => ({
          guards: [connection, organization('acme'), seats('acme', 1)],
          ops: [userCreate(`new ${n}`)],
        }),
        (n) => ({ guards: [seats('globex', 1), organization('acme')], ops: [userCreate(`new ${n}`)] }),
        (_, id) => ({
          guards: [organization('globex'), seats('globex', 1)],
          ops: [{ op: 'user.claim', id, verifiedEmail: `${id}@acme.example` }],
        }),
        (_, user) => ({
          guards: [seats('acme', -1)],
          ops: [{ op: 'membership.remove', user, organization: 'acme' }],
        }),
        (_, id) => ({
          guards: [seats('globex', -1), seats('acme', -1)],
          ops: [{ op: 'user.remove', id }],
        }),
        (n) => ({ ops: [{ op: 'connection.hold', id: 'acme-saml', held: n % 4 ? 'held' : null, at: n }] }),
        (n) => ({
          guards: [seats('globex', -1)],
          ops: [connectionPut('globex-oidc', 'globex', { version: `v${n}`, kept: { entry: `"${n}"` } })],
        }),
        (n) => ({
          ops: [
            organizationPut('globex', { name: `globex ${n}`, kept: { entry: `"${n}"`, domains: [] } }),
            organizationPut('acme', { name: `acme ${n}`, seatLimit: null }),
          ],
        }),
        (n) => ({ events: [event(`c${n}`, 0, { type: 'denied' })] }),
      ]
      const results = await Promise.all(
        many(600).map((n) => {
          const user = people[n % people.length]!
          return store.commit(change(`c${n}`, kinds[n % kinds.length]!(n, user)))
        }),
      )
      const conflicts = results.flatMap((result) => (result.committed ? [] : [result.conflict.kind]))
      expect(conflicts).not.toContain('busy')
      expect(results.filter(({ committed }) => committed).length).toBeGreaterThan(300)
      const { rows } = await pool.query(`select count(*)::integer as count from ${schema}.jit_users`)
      expect(rows[0].count).toBeGreaterThan(100)
    })
  })

  founded('what a process that starts writes again is not locked', async ({ store, schema, other }) => {
    // As sign-ins under way hold them.
    await other.query(`select from ${schema}.jit_connections for share`)
    await other.query(`select from ${schema}.jit_organizations for key share`)
    const same = [
      organizationPut('acme', { seatLimit: 5 }),
      organizationPut('globex'),
      connectionPut('acme-saml', 'acme'),
    ]
    await landed(store.commit(change('same', { ops: same })))
    const differs = store.commit(
      change('differs', { ops: [...same, connectionPut('globex-oidc', 'globex', { version: 'v2' })] }),
    )
    await waits(1)
    await other.query('commit')
    await landed(differs)
  })

  founded('a change whose commit is late is sealed all the same', async ({ store, schema, other }) => {
    const record = (id: string) => change(id, { events: [event(id, 0)] })
    await other.query(`select ${schema}.jit_commit($1::jsonb)`, [JSON.stringify(record('late'))])
    await landed(store.commit(record('early')))
    const ids = async () => (await store.trail.unsealed(10)).changes.map((events) => events[0]!.change)
    expect(await ids()).toEqual(['early'])
    const seal = (number: number) => ({ number, previous: '', hash: '', at })
    expect(await store.trail.seal(seal(1), ['early'], [])).toBe(true)
    expect(await store.trail.seal(seal(2), ['late'], [])).toBe(false)
    await other.query('commit')
    expect(await ids()).toEqual(['late'])
    expect(await store.trail.seal(seal(2), ['late'], [])).toBe(true)
    const { rows } = await store.events()
    // Positions are given before the commit, so a list of what is new would have passed it over.
    expect(rows.map((row) => row.change)).toEqual(['early', 'late'])
  })

  founded('a delivery that another process claims at this moment is passed over', async (place) => {
    const { store, schema, other } = place
    for (const id of ['a', 'b']) await landed(store.commit(change(id, { events: [event(id, 0)] })))
    const deliveries = ['a', 'b'].map((id) => ({ endpoint: 'hook', change: id, subject: id }))
    await store.trail.seal({ number: 1, previous: '', hash: '', at }, ['a', 'b'], deliveries)
    await other.query(`select from ${schema}.jit_deliveries where change_id = 'a' for update`)
    const take = () => store.outbox.take({ endpoint: 'hook', now: at, lease: 1000, limit: 10 })
    expect((await take()).map((row) => row.change)).toEqual(['b'])
    await other.query('commit')
    expect((await take()).map((row) => row.change)).toEqual(['a'])
  })

  founded('what waits behind a delivery is due with it, and at once when that is done', async ({ store }) => {
    const ids = ['a', 'b', 'c', 'other']
    for (const id of ids) await landed(store.commit(change(id, { events: [event(id, 0)] })))
    const deliveries = ids.map((id) => ({
      ...{ endpoint: 'hook', change: id, subject: id === 'other' ? 'other' : 'alice' },
    }))
    await store.trail.seal({ number: 1, previous: '', hash: '', at }, ids, deliveries)
    const { outbox } = store
    const due = async () => {
      const { rows } = await outbox.deliveries({})
      return Object.fromEntries(rows.map((row) => [row.change, row.dueAt - at]))
    }
    const take = async (now: number) =>
      (await outbox.take({ endpoint: 'hook', now: at + now, lease: 50, limit: 1 })).map((row) => row.change)
    const settle = (change: string, attempts: number, state: DeliveryState, now: number, dueAt = 0) =>
      outbox.settle({
        ...{ endpoint: 'hook', change, attempts, state, error: null, at: at + now, dueAt: at + dueAt },
      })
    expect(await take(1)).toEqual(['a'])
    expect(await settle('a', 1, 'pending', 2, 1_000)).toBe(true)
    expect(await due()).toEqual({ a: 1_000, b: 1_000, c: 1_000, other: 0 })
    expect(await take(3)).toEqual(['other'])
    expect(await take(999)).toEqual(['other'])
    expect(await take(1_000)).toEqual(['a'])
    expect(await settle('a', 2, 'dead', 1_010)).toBe(true)
    expect(await due()).toMatchObject({ b: 1_000, c: 1_000 })
    expect(await take(1_011)).toEqual(['b'])
    // One that was dead is tried again before it; the claim of the one that is under way stays.
    expect(await outbox.again('hook', 'a', at + 1_012)).toBe(true)
    expect(await take(1_013)).toEqual(['a'])
    expect(await settle('a', 3, 'pending', 1_014, 2_000)).toBe(true)
    expect(await due()).toMatchObject({ a: 2_000, b: 1_061, c: 2_000 })
    expect(await settle('b', 1, 'delivered', 1_020)).toBe(true)
    expect(await due()).toMatchObject({ a: 2_000, c: 1_020 })
    expect(await take(1_999)).toEqual(['other'])
    expect(await take(2_000)).toEqual(['a'])
    expect(await settle('a', 4, 'delivered', 2_001)).toBe(true)
    expect(await take(2_001)).toEqual(['c'])
  })
})
