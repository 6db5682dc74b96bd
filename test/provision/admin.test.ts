import type { Asked, JitError } from 'passport-jit'
import { expect } from 'vitest'
import { onEveryStore } from '../directory/stores.js'
import { by, everything, scenes, told } from './admin-scene.js'

const o = { organization: 'o', by } as const
const done = { changed: true, decision: expect.any(String) }
const nothing = { changed: false, decision: null }

/** The codes of what failed, and `done` or `nothing` for what did not. */
const outcomes = async (all: Promise<{ changed: boolean }>[]) =>
  (await Promise.allSettled(all))
    .map((result) =>
      result.status === 'rejected'
        ? (result.reason as JitError).code
        : result.value.changed
          ? 'done'
          : 'nothing',
    )
    .sort()

onEveryStore((factory) => {
  const check = scenes(factory)

  check('a membership: suspended, active, removed, readmitted, each once', async (scene) => {
    const { jit, store } = scene
    const { admin } = jit
    const user = await scene.person('ann', 'owner')
    await scene.person('bob', 'owner')
    const membership = async () => (await store.user(user))?.memberships[0]

    const suspended = await admin.suspend({ user, ...o })
    expect(suspended).toEqual(done)
    expect(await told(store, suspended.decision)).toEqual(['suspended user o'])
    expect(await membership()).toMatchObject({ status: 'suspended', seat: false })
    expect(await admin.suspend({ user, ...o })).toEqual(nothing)
    await expect(scene.signIn('ann')).rejects.toMatchObject({ code: 'membership_suspended' })

    expect(await admin.reactivate({ user, ...o })).toEqual(done)
    expect(await membership()).toMatchObject({ status: 'active', seat: true })
    expect(await admin.reactivate({ user, ...o })).toEqual(nothing)
    expect(await scene.signIn('ann')).toMatchObject({ outcome: 'unchanged' })

    const before = (await store.user(user))!.user.epoch
    const removed = await admin.remove({ user, ...o })
    expect(await told(store, removed.decision)).toEqual([
      'left user o',
      'removed user o',
      'removed user o',
      'removed user o',
      'updated user',
    ])
    expect((await store.user(user))!.user.epoch).toBe(before + 1)
    expect(await admin.remove({ user, ...o })).toEqual(nothing)
    expect((await scene.signIn('ann')).joined).toEqual([])
    expect(await membership()).toBeUndefined()

    expect(await admin.readmit({ user, ...o })).toEqual(done)
    expect((await scene.signIn('ann')).joined).toEqual(['o'])
    expect(await admin.readmit({ user, ...o })).toEqual(nothing)
    expect(await scene.roles(user)).toEqual(['member sso:c'])
  })

  check('a user: suspended and active, in all organizations at once', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann', 'owner')
    await scene.person('bob', 'owner')
    const before = (await scene.store.user(user))!.user
    const suspended = await admin.suspend({ user, by })
    expect(await told(scene.store, suspended.decision)).toEqual(['suspended user'])
    expect((await scene.store.user(user))!.user).toMatchObject({
      status: 'suspended',
      epoch: before.epoch + 1,
    })
    await expect(scene.signIn('ann')).rejects.toMatchObject({ code: 'user_suspended' })
    expect(await admin.suspend({ user, by })).toEqual(nothing)
    expect(await admin.reactivate({ user, by })).toEqual(done)
    expect(await admin.reactivate({ user, by })).toEqual(nothing)
    expect(await scene.signIn('ann')).toMatchObject({ outcome: 'unchanged' })
  })

  check(
    'roles: by hand they outlive sync, and what is revoked stays away until it is readmitted',
    async (scene) => {
      const { admin } = scene.jit
      const user = (await scene.signIn('ann', { groups: ['admins'] })).after.user.id
      expect(await scene.roles(user)).toEqual(['admin sso:c', 'member sso:c'])
      expect(await admin.grant({ user, ...o, role: 'viewer' })).toEqual(done)
      expect(await admin.grant({ user, ...o, role: 'viewer' })).toEqual(nothing)
      await scene.signIn('ann', { groups: [] })
      expect(await scene.roles(user)).toEqual(['member sso:c', 'viewer manual'])

      await scene.signIn('ann', { groups: ['admins', 'watchers'] })
      const revoked = await admin.revoke({ user, ...o, role: 'viewer' })
      expect((await told(scene.store, revoked.decision)).sort()).toEqual([
        'removed user o',
        'revoked user o',
        'revoked user o',
      ])
      expect(await admin.revoke({ user, ...o, role: 'viewer' })).toEqual(nothing)
      await scene.signIn('ann', { groups: ['admins', 'watchers'] })
      expect(await scene.roles(user)).toEqual(['admin sso:c', 'member sso:c'])

      expect(await admin.readmit({ user, ...o, role: 'viewer' })).toEqual(done)
      await scene.signIn('ann', { groups: ['admins', 'watchers'] })
      expect(await scene.roles(user)).toEqual(['admin sso:c', 'member sso:c', 'viewer sso:c'])

      await admin.revoke({ user, ...o, role: 'viewer' })
      expect(await admin.grant({ user, ...o, role: 'viewer' })).toEqual(done)
      await scene.signIn('ann', { groups: ['watchers'] })
      expect(await scene.roles(user)).toEqual(['member sso:c', 'viewer manual', 'viewer sso:c'])
    },
  )

  check('an invitation: made once, withdrawn, accepted by whom it is for', async (scene) => {
    const { admin } = scene.jit
    const ann = await scene.person('ann')
    const guest = (await scene.signIn('guest', { via: 'email', email: 'guest@elsewhere.example' })).after.user
      .id
    const asked = { ...o, email: 'Guest@elsewhere.example', role: 'admin' }
    const made = await admin.invite(asked)
    expect(made).toEqual({ ...done, invitation: expect.any(String) })
    expect(await admin.invite(asked)).toEqual({ ...nothing, invitation: made.invitation })
    expect(await scene.pending()).toMatchObject([{ id: made.invitation, email: 'guest@elsewhere.example' }])

    const { invitation } = made
    const unknown = { code: 'invitation_unknown', status: 404 }
    await expect(admin.accept({ invitation, user: ann, by: ann })).rejects.toMatchObject(unknown)
    await expect(admin.withdraw({ invitation, organization: 'p', by })).rejects.toMatchObject(unknown)
    const accepted = await admin.accept({ invitation, user: guest, by: guest })
    expect((await told(scene.store, accepted.decision)).sort()).toEqual([
      'accepted user o',
      'granted user o',
      'joined user o',
    ])
    expect(await scene.roles(guest)).toEqual([`admin invitation:${invitation}`])
    expect(await admin.accept({ invitation, user: guest, by: guest })).toEqual(nothing)
    await expect(admin.withdraw({ invitation, ...o })).rejects.toMatchObject(unknown)

    const second = await admin.invite({ ...asked, role: 'owner', expiresIn: 1000 })
    expect(await admin.withdraw({ invitation: second.invitation, ...o })).toEqual(done)
    await expect(admin.withdraw({ invitation: second.invitation, ...o })).rejects.toMatchObject(unknown)
    await expect(admin.accept({ invitation: second.invitation, user: guest, by })).rejects.toMatchObject(
      unknown,
    )
    expect(await scene.pending()).toEqual([])
  })

  check('who was removed comes back by a newer invitation, and not by the older', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann')
    const asked = { ...o, email: 'ann@o.example', role: 'viewer' }
    const older = await admin.invite(asked)
    await admin.remove({ user, ...o })
    const accept = (invitation: string) => admin.accept({ invitation, user, by: user })
    await expect(accept(older.invitation)).rejects.toMatchObject({ code: 'invitation_unknown' })
    // The newer of the two counts, and in one moment the removal.
    const { at } = (await scene.store.load({ user, email: null, organizations: ['o'] })).byId!.tombstones[0]!
    while (Date.now() <= at) await new Promise((resolve) => setImmediate(resolve))
    const newer = await admin.invite(asked)
    expect(newer).toMatchObject({ changed: true })
    expect(await accept(newer.invitation)).toEqual(done)
    expect(await scene.roles(user)).toEqual([`viewer invitation:${newer.invitation}`])
  })

  check(
    'invitations that lapsed do not pile up where a person of another organization signs in',
    async (scene) => {
      const { admin } = scene.jit
      const email = 'ann@o.example'
      const asked = { organization: 'p', email, by }
      const standing = await admin.invite({ ...asked, role: 'viewer' })
      for (let n = 0; n < 20; n++) {
        await admin.invite({ ...asked, role: 'member', expiresIn: 1 })
        const made = Date.now()
        while (Date.now() <= made) await new Promise((resolve) => setImmediate(resolve))
      }
      const last = await admin.invite({ ...asked, role: 'member' })
      const { invitations } = await scene.store.load({ email, organizations: [] })
      expect(invitations.map(({ id }) => id)).toEqual([standing.invitation, last.invitation])
      expect((await scene.signIn('ann')).invitations).toHaveLength(2)
    },
  )

  check('an invitation that a removal overtook stays dead, whatever lifts the removal', async (scene) => {
    const { admin } = scene.jit
    await scene.person('olga', 'owner')
    const user = await scene.person('ann')
    const email = 'ann@o.example'
    const old = await admin.invite({ ...o, email, role: 'owner' })
    await admin.remove({ user, ...o })
    expect(await scene.pending()).toEqual([])
    const { at } = (await scene.store.load({ user, email: null, organizations: ['o'] })).byId!.tombstones[0]!
    while (Date.now() <= at) await new Promise((resolve) => setImmediate(resolve))
    await admin.invite({ ...o, email, role: 'member' })
    await scene.signIn('ann')
    await expect(admin.accept({ by, invitation: old.invitation, user })).rejects.toMatchObject({
      code: 'invitation_unknown',
    })
    expect((await scene.roles(user))!.filter((role) => role.startsWith('owner'))).toEqual([])
  })

  check('a removed user is not made anew by any way in, until they are readmitted', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann', 'owner')
    await scene.person('bob', 'owner')
    await scene.signIn('ann', { via: 'd' })
    const removed = await admin.removeUser({ user, by })
    expect(await told(scene.store, removed.decision)).toEqual([
      'deleted user',
      'removed',
      'removed',
      'removed',
    ])
    await expect(admin.removeUser({ user, by })).rejects.toMatchObject({ code: 'user_unknown' })
    const gone = { code: 'user_removed' }
    await expect(scene.signIn('ann')).rejects.toMatchObject(gone)
    await expect(scene.signIn('ann', { email: 'renamed@o.example' })).rejects.toMatchObject(gone)
    await expect(scene.signIn('other', { email: 'ann@o.example' })).rejects.toMatchObject(gone)

    expect(await admin.readmitUser({ email: 'ann@o.example', by })).toEqual(done)
    expect(await admin.readmitUser({ email: 'ann@o.example', by })).toEqual(nothing)
    const back = await scene.signIn('ann')
    expect(back).toMatchObject({ outcome: 'created', joined: ['o'] })

    await admin.removeUser({ user: back.after.user.id, by })
    const identity = { source: 'connection:c', issuer: 'https://idp.example', subject: 'ann' }
    expect(await admin.readmitUser({ identity, by })).toEqual(done)
    expect(await scene.signIn('ann')).toMatchObject({ outcome: 'created' })
  })

  check('a membership that was taken away stays so under another account', async (scene) => {
    const { admin } = scene.jit
    const invite = (organization: string) =>
      admin.invite({ organization, email: 'ann@o.example', role: 'member', by })
    const identity = { source: 'connection:c', issuer: 'https://idp.example', subject: 'ann' } as const
    const again = async () => {
      const { joined, after } = await scene.signIn('ann')
      return [joined, await scene.roles(after.user.id)]
    }
    const out = [[], null]

    const first = await scene.person('ann')
    await admin.remove({ user: first, ...o })
    await admin.removeUser({ user: first, by })
    await invite('p')
    expect(await again()).toEqual(out)
    const invited = await invite('o')
    expect(await again()).toEqual([['o'], [`member invitation:${invited.invitation}`, 'member sso:c']])

    const second = (await scene.signIn('ann')).after.user.id
    await admin.suspend({ user: second, ...o })
    await admin.removeUser({ user: second, by })
    // What lifts the removal of the account does not lift the organization’s.
    expect(await admin.readmitUser({ identity, by })).toEqual(done)
    expect(await admin.readmitUser({ email: 'ann@o.example', by })).toEqual(nothing)
    expect(await again()).toEqual(out)
    const third = (await scene.signIn('ann')).after.user.id
    await expect(admin.readmit({ user: third, organization: 'p', by })).rejects.toMatchObject({
      code: 'user_unknown',
    })
    const { decision } = await admin.readmit({ user: third, ...o })
    expect(await told(scene.store, decision)).toEqual(['readmitted o', 'readmitted o'])
    expect(await again()).toEqual([['o'], ['member sso:c']])

    await admin.remove({ user: third, ...o })
    await admin.removeUser({ user: third, by })
    await admin.readmitUser({ email: 'ann@o.example', by })
    const fourth = (await scene.signIn('ann')).after.user.id
    const { invitation } = await invite('o')
    expect(await admin.accept({ invitation, user: fourth, by: fourth })).toMatchObject(done)
    expect(await scene.roles(fourth)).toEqual([`member invitation:${invitation}`])
  })

  check(
    'a membership that is suspended stays so where an identity is taken from the account',
    async (scene) => {
      const { admin } = scene.jit
      const identity = { source: 'connection:c', issuer: 'https://idp.example', subject: 'ann' } as const
      // Her address at the provider is not the one of her account, which she had before.
      const again = async () => (await scene.signIn('ann', { email: 'anna@o.example' })).joined
      const user = await scene.person('ann')
      expect(await again()).toEqual([])
      await admin.suspend({ user, ...o })
      await expect(again()).rejects.toMatchObject({ code: 'membership_suspended' })
      await admin.unlink({ user, identity, by })
      expect(await again()).toEqual([])
      expect(await admin.reactivate({ user, ...o })).toEqual(done)
      expect(await again()).toEqual(['o'])
    },
  )

  check('a membership that is suspended stays so where its connection is made anew', async (scene) => {
    const { admin } = scene.jit
    const again = async () => (await scene.signIn('ann', { email: 'anna@o.example' })).joined
    const user = await scene.person('ann')
    await admin.suspend({ user, ...o })
    await scene.configure({}, { enabled: false })
    await admin.deleteConnection({ connection: 'c', grants: 'revoke', by })
    await scene.configure({}, {})
    expect(await again()).toEqual([])
  })

  check(
    'a membership that is suspended stays so where another organization’s word changes the address',
    async (scene) => {
      const { admin } = scene.jit
      await scene.configure({}, { adoptEmail: true, vouchesFor: ['o.example', 'p.example'] })
      const address = { email: 'ann@p.example' }
      const user = (await scene.signIn('ann', address)).after.user.id
      expect((await scene.signIn('ann', { ...address, via: 'e' })).after.user.id).toBe(user)
      await admin.suspend({ user, organization: 'p', by })
      expect((await scene.signIn('ann', { email: 'ann@o.example' })).after.user.verifiedEmail).toBe(
        'ann@o.example',
      )
      const again = () => scene.signIn('whoever has the mailbox', { ...address, via: 'e' })
      expect((await again()).joined).toEqual([])
      expect(await admin.reactivate({ user, organization: 'p', by })).toEqual(done)
      expect((await again()).joined).toEqual(['p'])
    },
  )

  check('who is let in again is so by every address the account had', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann')
    const moves = async (email: string) => admin.changeEmail({ user, email, by })
    await admin.remove({ user, ...o })
    await moves('second@o.example')
    expect((await scene.signIn('ann')).joined).toEqual([])
    await admin.readmit({ user, ...o })
    expect((await scene.signIn('ann')).joined).toEqual(['o'])

    await admin.suspend({ user, ...o })
    await moves('third@o.example')
    const suspended = { code: 'membership_suspended' }
    await expect(scene.signIn('ann')).rejects.toMatchObject(suspended)
    expect((await scene.signIn('other', { email: 'second@o.example' })).joined).toEqual([])
    await admin.reactivate({ user, ...o })
    expect((await scene.signIn('other', { email: 'second@o.example' })).joined).toEqual(['o'])
  })

  check(
    'who is let in again under a new account is so by every address they were kept out by',
    async (scene) => {
      const { admin } = scene.jit
      const again = () => scene.signIn('ann')
      const remade = async (user: string, email: string) => {
        await admin.removeUser({ user, by })
        await admin.readmitUser({ email, by })
        return again()
      }
      const user = await scene.person('ann')
      await admin.suspend({ user, ...o })
      await admin.changeEmail({ user, email: 'then@o.example', by })
      const first = await remade(user, 'then@o.example')
      expect(first.joined).toEqual([])
      await admin.changeEmail({ user: first.after.user.id, email: 'second@o.example', by })
      await admin.readmit({ user: first.after.user.id, ...o })
      expect((await again()).joined).toEqual(['o'])
      expect((await remade(first.after.user.id, 'second@o.example')).joined).toEqual(['o'])
    },
  )

  check('who is let in again brings nobody in who had the address before', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann')
    await admin.remove({ user, ...o })
    await admin.changeEmail({ user, email: 'moved@o.example', by })
    const heir = () => scene.signIn('carol', { email: 'ann@o.example' })
    const { after, joined } = await heir()
    expect(joined).toEqual([])
    await admin.readmit({ user: after.user.id, ...o })
    expect((await heir()).joined).toEqual(['o'])
    await admin.removeUser({ user, by })
    await admin.readmitUser({ email: 'moved@o.example', by })
    expect((await scene.signIn('ann', { email: 'moved@o.example' })).joined).toEqual([])
  })

  check('an account: its address, its attributes, its identities', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann')
    await scene.person('bob')
    const now = async () => (await scene.store.user(user))!.user
    const { epoch } = await now()
    await expect(admin.changeEmail({ user, email: 'bob@o.example', by })).rejects.toMatchObject({
      code: 'email_taken',
      status: 409,
    })
    expect(await admin.changeEmail({ user, email: 'Anna@o.example', by })).toEqual(done)
    expect(await now()).toMatchObject({
      verifiedEmail: 'anna@o.example',
      contactEmail: 'anna@o.example',
      epoch: epoch + 1,
    })
    expect(await admin.changeEmail({ user, email: 'anna@o.example', by })).toEqual(nothing)

    expect(await admin.update({ user, attributes: { name: null, title: 'Head' }, by })).toEqual(done)
    expect(await now()).toMatchObject({ attributes: { title: 'Head' }, epoch: epoch + 1 })
    expect(await admin.update({ user, attributes: { name: null, title: 'Head' }, by })).toEqual(nothing)

    const identity = { source: 'connection:c', issuer: 'https://idp.example', subject: 'ann' }
    const unlinked = await admin.unlink({ user, identity, by })
    expect(await told(scene.store, unlinked.decision)).toEqual(['unlinked user', 'updated user'])
    expect((await now()).epoch).toBe(epoch + 2)
    expect(await admin.unlink({ user, identity, by })).toEqual(nothing)
    expect(await scene.signIn('ann', { email: 'anna@o.example' })).toMatchObject({ outcome: 'linked' })
  })

  check('P26 an organization that lets somebody in again lifts no other’s bar', async (scene) => {
    const { admin } = scene.jit
    const member = (organization: string) => ({ organization, email: 'ann@o.example', role: 'member', by })
    const user = await scene.person('ann')
    const { invitation } = await admin.invite(member('p'))
    await admin.accept({ invitation, user, by: user })
    const later = await admin.invite({ ...member('p'), email: 'anna@elsewhere.example', role: 'viewer' })
    for (const organization of ['o', 'p']) await admin.suspend({ user, organization, by })
    await admin.changeEmail({ user, email: 'anna@elsewhere.example', by })
    const { decision } = await admin.reactivate({ user, organization: 'p', by })
    expect(await told(scene.store, decision)).toEqual(['reactivated user p', 'readmitted p'])
    expect(await admin.readmit({ user, organization: 'p', by })).toEqual(nothing)
    expect(await admin.accept({ invitation: later.invitation, user, by: user })).toEqual(done)
    // Whoever has the address now is kept out of the other one still.
    expect((await scene.signIn('ann again', { email: 'ann@o.example' })).joined).toEqual([])
  })

  check('P26 nobody is reached from an organization that they are no member of', async (scene) => {
    const { admin } = scene.jit
    const user = await scene.person('ann', 'owner')
    await scene.person('bob', 'owner')
    const { invitation } = await admin.invite({ ...o, email: 'ann@o.example', role: 'viewer' })
    const before = await everything(scene.store)
    const there = { user, organization: 'p', by }
    const calls = {
      suspend: () => admin.suspend(there),
      reactivate: () => admin.reactivate(there),
      remove: () => admin.remove(there),
      readmit: () => admin.readmit(there),
      'readmit a role': () => admin.readmit({ ...there, role: 'admin' }),
      grant: () => admin.grant({ ...there, role: 'admin' }),
      revoke: () => admin.revoke({ ...there, role: 'owner' }),
    }
    for (const [name, call] of Object.entries(calls)) {
      await expect(call(), name).rejects.toMatchObject({ code: 'user_unknown', status: 404 })
    }
    await expect(admin.withdraw({ invitation, organization: 'p', by })).rejects.toMatchObject({ status: 404 })
    expect(await everything(scene.store)).toEqual(before)
    expect(await admin.suspend({ user, ...o })).toEqual(done)
    expect(await admin.withdraw({ invitation, ...o })).toEqual(done)
  })

  check('the last owner stays, however they would go', async (scene) => {
    const { admin } = scene.jit
    const ann = await scene.person('ann', 'owner')
    const bob = await scene.person('bob')
    const before = await everything(scene.store)
    const calls = {
      suspend: () => admin.suspend({ user: ann, ...o }),
      'suspend the user': () => admin.suspend({ user: ann, by }),
      remove: () => admin.remove({ user: ann, ...o }),
      'remove the user': () => admin.removeUser({ user: ann, by }),
      revoke: () => admin.revoke({ user: ann, ...o, role: 'owner' }),
    }
    for (const [name, call] of Object.entries(calls)) {
      await expect(call(), name).rejects.toMatchObject({ code: 'last_owner', status: 409 })
    }
    expect(await everything(scene.store)).toEqual(before)
    await admin.grant({ user: bob, ...o, role: 'owner' })
    expect(await admin.revoke({ user: ann, ...o, role: 'owner' })).toEqual(done)
  })

  check('two owners go at once, in whatever way: one stays', async (scene) => {
    const { jit, elsewhere } = scene
    const ways = [
      (user: string, admin = jit.admin) => admin.suspend({ user, ...o }),
      (user: string, admin = jit.admin) => admin.suspend({ user, by }),
      (user: string, admin = jit.admin) => admin.remove({ user, ...o }),
      (user: string, admin = jit.admin) => admin.revoke({ user, ...o, role: 'owner' }),
      (user: string, admin = jit.admin) => admin.removeUser({ user, by }),
    ]
    let owner = await scene.person('owner', 'owner')
    for (const [round, [first, second]] of ways
      .flatMap((a, n) => ways.slice(n).map((b) => [a, b] as const))
      .entries()) {
      const other = await scene.person(`other${round}`, 'owner')
      expect(await outcomes([first(owner), second(other, elsewhere)])).toEqual(['done', 'last_owner'])
      const { rows } = await scene.store.users({ limit: 1000 })
      const left = rows.filter(({ status, memberships }) =>
        memberships.some(
          (entry) =>
            status === 'active' &&
            entry.status === 'active' &&
            entry.grants.some(({ role }) => role === 'owner'),
        ),
      )
      expect(left).toHaveLength(1)
      owner = left[0]!.id
    }
  })

  check('the last seat is taken by one of many at once', async (scene) => {
    const { jit, elsewhere } = scene
    const people = await Promise.all([0, 1, 2, 3].map((n) => scene.person(`p${n}`)))
    for (const user of people) await jit.admin.suspend({ user, ...o })
    await scene.configure({ seatLimit: 1 })
    const { invitation } = await jit.admin.invite({ ...o, email: 'guest@elsewhere.example', role: 'viewer' })
    const guest = (await scene.signIn('guest', { via: 'email', email: 'guest@elsewhere.example' })).after.user
      .id
    const takers = [
      ...people.map((user, n) => (n % 2 ? elsewhere : jit.admin).reactivate({ user, ...o })),
      elsewhere.accept({ invitation, user: guest, by }),
    ]
    expect(await outcomes(takers)).toEqual(['done', ...Array(4).fill('seats_full')])
    const { organizations } = await scene.store.load({ email: null, organizations: ['o'] })
    expect(organizations[0]).toMatchObject({ seatLimit: 1, seatsUsed: 1 })
  })

  check('one invitation accepted by many at once: one joins, the others find it done', async (scene) => {
    const { jit, elsewhere } = scene
    const email = 'guest@elsewhere.example'
    const user = (await scene.signIn('guest', { via: 'email', email })).after.user.id
    const { invitation } = await jit.admin.invite({ ...o, email, role: 'owner' })
    const asked = { invitation, user, by: user }
    const all = [jit.admin, elsewhere, jit.admin, elsewhere].map((admin) => admin.accept(asked))
    expect(await outcomes(all)).toEqual(['done', 'nothing', 'nothing', 'nothing'])
    const { rows } = await scene.store.events({ type: 'accepted' })
    expect(rows.filter(({ type }) => type === 'accepted')).toHaveLength(1)
    expect(await scene.roles(user)).toEqual([`owner invitation:${invitation}`])
  })

  check('an invitation accepted and withdrawn at once is one of the two', async (scene) => {
    const { jit, elsewhere } = scene
    const email = 'guest@elsewhere.example'
    const user = (await scene.signIn('guest', { via: 'email', email })).after.user.id
    for (let round = 0; round < 5; round++) {
      const { invitation } = await jit.admin.invite({ ...o, email, role: 'viewer' })
      const both = [
        jit.admin.accept({ invitation, user, by: user }),
        elsewhere.withdraw({ invitation, ...o }),
      ]
      expect(await outcomes(both)).toEqual(['done', 'invitation_unknown'])
      const accepted = (await Promise.allSettled(both))[0]!.status === 'fulfilled'
      expect((await scene.roles(user))?.includes(`viewer invitation:${invitation}`) ?? false).toBe(accepted)
      expect(await scene.pending()).toEqual([])
    }
  })

  check('several administrators change one person at once: all of it lands', async (scene) => {
    const { jit, elsewhere } = scene
    const user = await scene.person('ann')
    const all = [
      jit.admin.grant({ user, ...o, role: 'admin' }),
      elsewhere.grant({ user, ...o, role: 'viewer' }),
      jit.admin.update({ user, attributes: { title: 'Head' }, by }),
      elsewhere.changeEmail({ user, email: 'anna@o.example', by }),
      scene.signIn('ann', { groups: ['watchers'] }).then(() => ({ changed: true })),
    ]
    expect(await outcomes(all)).toEqual(Array(5).fill('done'))
    expect(await scene.roles(user)).toEqual(['admin manual', 'member sso:c', 'viewer manual', 'viewer sso:c'])
    expect((await scene.store.user(user))!.user).toMatchObject({
      verifiedEmail: 'anna@o.example',
      attributes: { name: 'ann', title: 'Head' },
    })
  })

  check('two accounts are given one address at once: one has it', async (scene) => {
    const { jit, elsewhere } = scene
    const [ann, bob] = [await scene.person('ann'), await scene.person('bob')]
    const email = 'free@o.example'
    const both = [
      jit.admin.changeEmail({ user: ann, email, by }),
      elsewhere.changeEmail({ user: bob, email, by }),
    ]
    expect(await outcomes(both)).toEqual(['done', 'email_taken'])
  })

  check(
    'whoever joined without a seat gets one when one is free',
    async (scene) => {
      const { admin } = scene.jit
      const [ann, bob] = [await scene.person('ann'), await scene.person('bob')]
      const seat = async () => (await scene.store.user(bob))!.memberships[0]!.seat
      expect(await seat()).toBe(false)
      await expect(admin.reactivate({ user: bob, ...o })).rejects.toMatchObject({
        code: 'seats_full',
        status: 403,
      })
      await admin.suspend({ user: ann, ...o })
      expect(await admin.reactivate({ user: bob, ...o })).toEqual(done)
      expect(await seat()).toBe(true)
    },
    { seatLimit: 1, whenFull: 'join-without-seat' },
  )

  check('a policy written elsewhere is obeyed at once', async (scene) => {
    const user = await scene.person('ann')
    const { elsewhere } = scene
    const asked: Asked<'grant'> = { user, ...o, role: 'new' }
    await expect(elsewhere.grant(asked)).rejects.toMatchObject({ code: 'role_unknown', status: 400 })
    await scene.configure({ roles: ['owner', 'admin', 'member', 'viewer', 'new'] })
    expect(await elsewhere.grant(asked)).toEqual(done)
    await scene.configure({ status: 'suspended' })
    const invite = { ...o, email: 'guest@elsewhere.example', role: 'member' }
    await expect(elsewhere.invite(invite)).rejects.toMatchObject({ code: 'organization_suspended' })
    await expect(elsewhere.invite({ ...invite, organization: 'x' })).rejects.toMatchObject({
      code: 'organization_unknown',
      status: 404,
    })
  })
})
