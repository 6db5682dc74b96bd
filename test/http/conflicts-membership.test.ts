import { assertIdentity, type Strategy, single } from 'passport-jit'
import { afterEach, describe, expect, test } from 'vitest'
import { browser } from '../rig/inbox.js'
import { startApp } from '../rig/oidc-app.js'
import { directory, type Scene, scene } from './conflicts-scene.js'

// What somebody is a member of, in which roles, and when not.

let at: Scene
const start = async (...given: Parameters<typeof scene>) => {
  at = await scene(...given)
}
afterEach(() => at?.close())

const by = 'root'
const alice = 'alice@o.example'
const bob = { subject: 'bob', email: 'bob@o.example' }
const admins = { groups: ['admins'] }

describe('groups absent / empty / overflowed', () => {
  test.each([
    ['absent, which nobody explained: neither grants nor revokes', 'unknown', 'absent', true],
    ['absent, which means none: revokes', 'empty', 'absent', false],
    ['empty: revokes', 'unknown', [], false],
    ['overflowed is always unknown', 'empty', 'overflow', true],
  ] as const)('%s', async (_, absent, groups, stays) => {
    await start({ c: { groups: { absent, map: { admins: ['admin'] } } } })
    const { user } = await at.me(admins)
    expect(await at.grants(user.id)).toEqual(['admin sso:c', 'member sso:c'])
    await at.me({ groups })
    expect(await at.grants(user.id)).toEqual(stays ? ['admin sso:c', 'member sso:c'] : ['member sso:c'])
    await at.me(admins)
    expect(await at.grants(user.id)).toEqual(['admin sso:c', 'member sso:c'])
  })
})

describe('mapped roles shrink', () => {
  test('only grants of this connection go; manual ones stay', async () => {
    await start()
    const { user } = await at.me(admins)
    await at.me({ subject: 'alice-d', ...admins }, { connection: 'd' })
    await at.app.jit.admin.grant({ by, user: user.id, organization: 'o', role: 'admin' })
    const all = ['admin manual', 'admin sso:c', 'admin sso:d', 'member sso:c']
    expect(await at.grants(user.id)).toEqual(all)
    const { jit } = await at.me({ groups: [] })
    expect(jit).toMatchObject({ reason: 'identity_synced', revoked: [] })
    expect(await at.grants(user.id)).toEqual(all.filter((grant) => grant !== 'admin sso:c'))
  })

  test('a role that an administrator revoked by hand stays revoked', async () => {
    await start()
    const { user } = await at.me(admins)
    await at.app.jit.admin.revoke({ by, user: user.id, organization: 'o', role: 'admin' })
    for (const groups of [['admins'], [], ['admins', 'watchers']]) await at.me({ groups })
    expect(await at.grants(user.id)).toEqual(['member sso:c', 'viewer sso:c'])
    await at.app.jit.admin.readmit({ by, user: user.id, organization: 'o', role: 'admin' })
    await at.me(admins)
    expect(await at.grants(user.id)).toEqual(['admin sso:c', 'member sso:c'])
  })

  test('the last owner is never removed', async () => {
    await start({ c: { groups: { absent: 'empty', map: { admins: ['admin'] }, withoutRole: 'leave' } } })
    const { user } = await at.me(admins)
    await at.app.jit.admin.grant({ by, user: user.id, organization: 'o', role: 'owner' })
    await at.me({ groups: 'absent' })
    expect(await at.grants(user.id)).toEqual(['member sso:c', 'owner manual'])
  })
})

test('organization moves from domain JIT to SSO: the first SSO join adopts the domain grants', async () => {
  await start({ connections: false, o: { domainJit: { enabled: true, roles: ['member', 'viewer'] } } })
  const { user } = (await at.byCode(alice))!
  expect(await at.grants(user.id)).toEqual(['member domain', 'viewer domain'])
  await at.restart({ c: { jit: { roles: ['member'] } } })
  expect(await at.byCode(alice), 'SSO owns the domain now').toBeNull()
  const { jit } = await at.me()
  expect(jit).toMatchObject({ reason: 'identity_linked', granted: [], revoked: [] })
  expect(await at.grants(user.id)).toEqual(['member sso:c', 'viewer sso:c'])
  await at.me()
  expect(await at.grants(user.id)).toEqual(['member sso:c', 'viewer sso:c'])
})

describe('membership or user was removed by a person', () => {
  test('membership: it stays away, until an invitation that is newer', async () => {
    await start()
    const { user } = await at.me()
    const { admin } = at.app.jit
    await admin.invite({ by, organization: 'o', email: alice, role: 'viewer' })
    at.pass(1_000)
    await admin.remove({ by, user: user.id, organization: 'o' })
    const later = await at.me(admins)
    expect(later.user).toMatchObject({ id: user.id, memberships: [] })
    expect(await at.grants(user.id)).toBeNull()
    at.pass(1_000)
    await admin.invite({ by, organization: 'o', email: alice, role: 'viewer' })
    expect((await at.me(admins)).jit.joined).toEqual(['o'])
    expect((await at.grants(user.id))!.map((grant) => grant.replace(/:[\w-]{36}$/, ''))).toEqual([
      'admin sso:c',
      'member sso:c',
      'viewer invitation',
    ])
  })

  test('user: refused by every way in, until an invitation that is newer', async () => {
    await start()
    const { user } = await at.me()
    const { admin } = at.app.jit
    await admin.removeUser({ by, user: user.id })
    expect(await at.refused()).toBe('user_removed')
    // By another subject, of the same mailbox.
    expect(await at.refused({ subject: 'alice-2' })).toBe('user_removed')
    expect(await at.refused({ subject: 'alice-d' }, 'd')).toBe('user_removed')
    expect(await at.refused({ email: 'somebody@o.example' })).toBe('user_removed')
    expect((await at.me(bob)).jit.outcome).toBe('created')
    at.pass(1_000)
    await admin.invite({ by, organization: 'o', email: alice, role: 'member' })
    const back = await at.me()
    expect(back.jit).toMatchObject({ outcome: 'created', joined: ['o'] })
    expect(back.user.id).not.toBe(user.id)
  })

  /** What an organization’s administrator did about Alice, and what then ended her account or its address. */
  const deeds = ['remove', 'suspend'] as const
  test.each(deeds)('membership: `%s` holds where the account is gone', async (deed) => {
    await start()
    const { user } = await at.me()
    const { admin } = at.app.jit
    await admin[deed]({ by, user: user.id, organization: 'o' })
    await admin.removeUser({ by, user: user.id })
    at.pass(1_000)
    await admin.invite({ by, organization: 'p', email: alice, role: 'member' })
    const back = await at.me(admins)
    expect(back.jit).toMatchObject({ outcome: 'created', joined: [] })
    expect(await at.grants(back.user.id)).toBeNull()
    at.pass(1_000)
    await admin.invite({ by, organization: 'o', email: alice, role: 'viewer' })
    expect((await at.me(admins)).jit.joined).toEqual(['o'])
  })

  test.each(deeds)('membership: `%s` holds where the address changed, by domain JIT', async (deed) => {
    await start({
      connections: false,
      o: { domainJit: { enabled: true, existingUsers: true, roles: ['member'] } },
    })
    const { admin } = at.app.jit
    const { user } = (await at.byCode(alice))!
    expect(await at.grants(user.id)).toEqual(['member domain'])
    await admin[deed]({ by, user: user.id, organization: 'o' })
    await admin.changeEmail({ by, user: user.id, email: 'alice@elsewhere.example' })
    const other = (await at.byCode(alice))!
    expect(other.user.id).not.toBe(user.id)
    expect(await at.grants(other.user.id)).toBeNull()
    expect(other.jit.joined).toEqual([])
    await admin.readmit({ by, user: other.user.id, organization: 'o' })
    const again = (await at.byCode(alice))!
    expect(await at.grants(again.user.id)).toEqual(['member domain'])
  })

  test('membership: nor by another address that a provider tells of the new account', async () => {
    await start({
      connections: false,
      o: { domainJit: { enabled: true, existingUsers: true, roles: ['member'] } },
    })
    const { admin } = at.app.jit
    const { user } = (await at.byCode(alice))!
    await admin.remove({ by, user: user.id, organization: 'o' })
    await admin.removeUser({ by, user: user.id })
    await admin.readmitUser({ by, email: alice })
    await at.social('sure', { sub: 'a', email: alice, verified: true })
    const { id } = (await at.byCode(alice))!.user
    for (const email of ['alice@elsewhere.example', 'alice.b@o.example', 'alice@acquired.example']) {
      const client = browser()
      await at.social('sure', { sub: 'a', email, verified: true }, { client })
      expect((await at.app.me(client))!.user.id, email).toBe(id)
      expect(await at.grants(id), email).toBeNull()
    }
    await admin.readmit({ by, user: id, organization: 'o' })
    await at.social('sure', { sub: 'a', email: 'alice@elsewhere.example', verified: true })
    expect(await at.grants(id)).toEqual(['member domain'])
  })

  test('user: nor by a mailed code', async () => {
    await start({ connections: false })
    const { user } = (await at.byCode(alice))!
    await at.app.jit.admin.removeUser({ by, user: user.id })
    expect(await at.byCode(alice)).toBeNull()
    // Nor by the account of somebody else that carries the address.
    await at.social('mate', { sub: 'eve', email: alice })
    expect(await at.byCode(alice)).toBeNull()
    await at.app.jit.admin.readmitUser({ by, email: alice })
    expect((await at.byCode(alice))?.user.email).toBe(alice)
  })
})

describe('pending invitation', () => {
  test('accepted when it is for the organization being joined, even with create and join off', async () => {
    await start({ c: { jit: { create: false, join: false } } })
    expect(await at.refused()).toBe('user_not_provisioned')
    const { invitation } = await at.app.jit.admin.invite({
      ...{ by, organization: 'o', email: alice, role: 'viewer' },
    })
    const { user, jit } = await at.me()
    expect(jit).toMatchObject({ outcome: 'created', joined: ['o'], granted: ['viewer'] })
    expect(await at.grants(user.id)).toEqual([`viewer invitation:${invitation}`])
    expect(await at.refused(bob)).toBe('user_not_provisioned')
  })

  test('with its role besides the defaults, once', async () => {
    await start()
    await at.app.jit.admin.invite({ by, organization: 'o', email: alice, role: 'viewer' })
    expect((await at.me()).jit).toMatchObject({ granted: ['member', 'viewer'] })
    expect((await at.app.store.invitations({ organization: 'o' })).rows).toEqual([])
    expect((await at.me()).jit).toMatchObject({ outcome: 'unchanged' })
  })

  test.each([
    ['who has an account', true],
    ['who was never here', false],
  ])('of somebody %s: not for whose IdP says that address today', async (_, here) => {
    await start()
    const { admin } = at.app.jit
    const { user } = await at.me()
    await admin.remove({ by, user: user.id, organization: 'o' })
    if (here) await at.me(bob, { connection: 'e' })
    at.pass(1_000)
    await admin.invite({ by, organization: 'o', email: bob.email, role: 'owner' })
    const other = await at.me({ email: bob.email })
    expect(other.user).toMatchObject({ id: user.id, email: alice, memberships: [] })
    const { jit, user: own } = await at.me(bob)
    expect(jit).toMatchObject({ joined: ['o'], granted: expect.arrayContaining(['owner']) })
    expect(own.email).toBe(bob.email)
  })

  test('of an address that is adopted: from then on theirs', async () => {
    await start({ c: { adoptEmail: true, jit: { create: true, join: false } } })
    const { user } = await at.me()
    await at.app.jit.admin.invite({ by, organization: 'o', email: bob.email, role: 'viewer' })
    expect((await at.me({ email: bob.email })).user).toMatchObject({ id: user.id, email: bob.email })
    expect((await at.me({ email: bob.email })).jit).toMatchObject({ joined: ['o'], granted: ['viewer'] })
  })

  test('an expired one is nothing', async () => {
    await start({ c: { jit: { create: false } } })
    await at.app.jit.admin.invite({ by, organization: 'o', email: alice, role: 'viewer', expiresIn: 60_000 })
    at.pass(60_000)
    expect(await at.refused()).toBe('user_not_provisioned')
  })

  test('others wait for the person’s click', async () => {
    await start()
    const { admin } = at.app.jit
    const { invitation } = await admin.invite({ by, organization: 'p', email: alice, role: 'viewer' })
    const { user } = await at.me()
    expect(await at.grants(user.id, 'p')).toBeNull()
    await admin.accept({ by: user.id, user: user.id, invitation })
    expect(await at.grants(user.id, 'p')).toEqual([`viewer invitation:${invitation}`])
  })

  test('req.jit tells the request that signs in which ones wait, and no other request', async () => {
    const honest: Strategy = {
      protocol: 'oidc',
      attemptKey: ({ query }) => single(query, 'state'),
      begin: async (_, state) => ({ redirect: `https://idp.example/?state=${state}`, secrets: {} }),
      complete: async ({ id, version }, _, __, { now }) =>
        assertIdentity({
          ...{ source: `connection:${id}`, sourceVersion: version, issuer: 'https://idp.example' },
          ...{ subject: 'alice', email: alice, at: now() },
        }),
    }
    const { organizations, connections } = directory()
    const app = await startApp({
      ...{ organizations, connections: connections!, strategies: [honest] },
      mount: (server, jit) => {
        server.use('/in', jit.authenticate({ connection: 'c', callback: '/in' }))
        // An app may sign in once more, to change something about the session.
        server.use('/in', jit.provision(), (req, res, next) => {
          req.logIn(req.user!, (error) => (error ? next(error) : res.json(req.jit)))
        })
      },
    })
    try {
      const { invitation } = await app.jit.admin.invite({
        ...{ by, organization: 'p', email: alice, role: 'viewer' },
      })
      const client = browser()
      const begun = await client.go(`${app.origin}/in`)
      const state = new URL(begun.location!).searchParams.get('state')
      const done = (await client.go(`${app.origin}/in?state=${state}`)).json()
      expect(done.invitations).toMatchObject([{ id: invitation, organization: 'p', role: 'viewer' }])
      const later = (await client.go(`${app.origin}/me`)).json()
      expect(later.jit).toMatchObject({ outcome: 'created', joined: ['o'] })
      expect(later.jit).not.toHaveProperty('invitations')
    } finally {
      await app.close()
    }
  })
})

describe('seats full', () => {
  test('deny', async () => {
    await start({ o: { seatLimit: 1 } })
    await at.me()
    expect(await at.refused(bob)).toBe('seats_full')
    expect((await at.app.rows()).users).toHaveLength(1)
    expect((await at.me()).jit.outcome).toBe('unchanged')
  })

  test('join-without-seat: nothing of it counts, until a seat is free at a later sign-in', async () => {
    await start({ o: { seatLimit: 1, whenFull: 'join-without-seat' } })
    const { user } = await at.me()
    const waiting = await at.me(bob)
    expect(waiting.user.memberships).toMatchObject([{ organization: 'o', active: false, roles: [] }])
    expect((await at.me(bob)).user.memberships).toMatchObject([{ active: false }])
    await at.app.jit.admin.suspend({ by, user: user.id, organization: 'o' })
    const seated = await at.me(bob)
    expect(seated.user.memberships).toMatchObject([{ active: true, roles: ['member'] }])
    const organization = await at.app.store.load({ email: null, organizations: ['o'] })
    expect(organization.organizations).toMatchObject([{ seatsUsed: 1 }])
  })

  test('a second organization that is full is skipped', async () => {
    const domainJit = { enabled: true, roles: ['member'], existingUsers: false }
    await start({ connections: false, o: { seatLimit: 0, domainJit } })
    expect(await at.byCode(alice), 'new there: refused').toBeNull()
    await at.restart({ connections: false, o: { seatLimit: 0 } })
    const { user } = (await at.byCode(alice))!
    await at.restart({
      connections: false,
      o: { seatLimit: 0, domainJit: { ...domainJit, existingUsers: true } },
    })
    const later = (await at.byCode(alice))!
    expect(later.user).toMatchObject({ id: user.id, memberships: [] })
    await at.restart({
      connections: false,
      o: { seatLimit: 1, domainJit: { ...domainJit, existingUsers: true } },
    })
    expect((await at.byCode(alice))!.user.memberships).toMatchObject([{ organization: 'o' }])
  })
})

describe('user, membership or organization suspended, connection disabled meanwhile', () => {
  test('user: denied by every way in, and not revived by an invitation', async () => {
    await start()
    const { user } = await at.me()
    const { admin } = at.app.jit
    await admin.suspend({ by, user: user.id })
    at.pass(1_000)
    await admin.invite({ by, organization: 'o', email: alice, role: 'viewer' })
    expect(await at.refused()).toBe('user_suspended')
    expect(await at.refused({ subject: 'alice-d' }, 'd')).toBe('user_suspended')
    expect(await at.user(user.id)).toMatchObject({ status: 'suspended' })
    await admin.reactivate({ by, user: user.id })
    expect((await at.me()).user.id).toBe(user.id)
  })

  test('membership: denied by its organization’s SSO', async () => {
    await start()
    const { user } = await at.me()
    await at.app.jit.admin.suspend({ by, user: user.id, organization: 'o' })
    expect(await at.refused()).toBe('membership_suspended')
    expect(await at.refused({ subject: 'alice-d' }, 'd')).toBe('membership_suspended')
    await at.app.jit.admin.reactivate({ by, user: user.id, organization: 'o' })
    expect((await at.me()).user.memberships).toMatchObject([{ active: true }])
  })

  test.each([
    ['organization', { o: { status: 'suspended' } }, 'organization_suspended'],
    ['connection', { c: { enabled: false } }, 'connection_disabled'],
  ] as const)('%s: denied', async (_, policy, code) => {
    await start()
    const { user } = await at.me()
    await at.restart(policy)
    expect(await at.refused()).toBe(code)
    await at.restart({})
    expect((await at.me()).user.id).toBe(user.id)
  })
})
