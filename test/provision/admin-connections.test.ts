import { createJit, type Store, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { describe, expect, test } from 'vitest'
import { onEveryStore } from '../directory/stores.js'
import { by, type Scene, scenes, told } from './admin-scene.js'

const done = { changed: true, decision: expect.any(String) }
const nothing = { changed: false, decision: null }
const c = { connection: 'c', by } as const

/** Connection C as guards and sessions see it. */
const facts = async ({ store }: Scene) =>
  (await store.load({ source: 'connection:c', email: null, organizations: [] })).connection

const identities = async ({ store }: Scene, user: string) => {
  const { rows } = await store.users({ limit: 1000 })
  return rows.find(({ id }) => id === user)!.identities.map(({ source }) => source)
}

/** Disables C and then deletes it. */
const remove = async ({ jit }: Scene, grants: 'revoke' | { adoptBy: string }, admin = jit.admin) => {
  await jit.admin.disableConnection(c)
  return admin.deleteConnection({ ...c, grants })
}

/** A store of which a commit fails, from the time of `failing` on. */
function failing(store: Store, after: number): Store {
  let commits = 0
  return {
    ...store,
    commit: (changes) =>
      ++commits > after ? Promise.reject(new Error('the process ends here')) : store.commit(changes),
  }
}

onEveryStore((factory) => {
  const check = scenes(factory)

  check('disabled and enabled: at once, once, and sessions of before stay ended', async (scene) => {
    const { admin } = scene.jit
    await scene.person('ann')
    const before = await facts(scene)
    const off = await admin.disableConnection(c)
    expect(off).toEqual(done)
    expect(await told(scene.store, off.decision)).toEqual(['suspended o'])
    expect(await facts(scene)).toMatchObject({ enabled: false, epoch: before!.epoch + 1 })
    expect(await admin.disableConnection(c)).toEqual(nothing)
    await expect(scene.signIn('ann')).rejects.toMatchObject({ code: 'connection_disabled' })
    expect((await scene.directory.domain('o.example')).sso.map(({ id }) => id)).toEqual(['d'])

    const on = await admin.enableConnection(c)
    expect(await told(scene.store, on.decision)).toEqual(['reactivated o'])
    expect(await facts(scene)).toMatchObject({ enabled: true, epoch: before!.epoch + 1 })
    expect(await admin.enableConnection(c)).toEqual(nothing)
    expect(await scene.signIn('ann')).toMatchObject({ outcome: 'unchanged' })
    const unknown = { code: 'connection_unknown', status: 404 }
    await expect(admin.enableConnection({ connection: 'x', by })).rejects.toMatchObject(unknown)
  })

  check('its secret is as good afterwards', async (scene) => {
    const before = await scene.directory.connection('c')
    await scene.jit.admin.disableConnection(c)
    await scene.jit.admin.enableConnection(c)
    expect(await scene.directory.connection('c')).toEqual(before)
  })

  check('a policy written in the same moment is not overwritten', async (scene) => {
    let raced = false
    const racing: Store = {
      ...scene.store,
      commit: async (changes) => {
        if (!raced && changes.ops.some(({ op }) => op === 'connection.put')) {
          raced = true
          await scene.configure({}, { jit: { roles: ['viewer'] } })
        }
        return scene.store.commit(changes)
      },
    }
    expect(await scene.over(racing).disableConnection(c)).toEqual(done)
    expect(await scene.directory.connection('c')).toMatchObject({
      enabled: false,
      jit: { roles: ['viewer'] },
    })
  })

  check('what cannot be deleted is refused before anybody is looked for', async (scene) => {
    const blind: Store = { ...scene.store, users: () => Promise.reject(new Error('not to be asked')) }
    const refused = scene.over(blind).deleteConnection({ ...c, grants: 'revoke' })
    await expect(refused).rejects.toMatchObject({ code: 'connection_enabled' })
    await expect(remove(scene, 'revoke', scene.over(blind))).rejects.toMatchObject({ code: 'unavailable' })
  })

  check('a held sync is let go', async (scene) => {
    const { admin } = scene.jit
    expect(await admin.releaseSync(c)).toEqual(nothing)
    const hold = { op: 'connection.hold', id: 'c', held: 'too much', at: 1 } as const
    await scene.store.commit({ id: 'held', expect: [], guards: [], ops: [hold], events: [] })
    const released = await admin.releaseSync(c)
    expect(await told(scene.store, released.decision)).toEqual(['released'])
    expect(await facts(scene)).toMatchObject({ held: null })
    expect(await admin.releaseSync(c)).toEqual(nothing)
    await expect(admin.releaseSync({ connection: 'x', by })).rejects.toMatchObject({
      code: 'connection_unknown',
    })
  })

  check('deleted, its grants revoked: nothing of it stays, and all else does', async (scene) => {
    const { admin } = scene.jit
    const ann = await scene.person('ann', 'viewer')
    const bob = (await scene.signIn('bob', { via: 'd' })).after.user.id
    await scene.signIn('bob')
    const eve = (await scene.signIn('eve', { via: 'e' })).after.user.id
    await expect(admin.deleteConnection({ ...c, grants: 'revoke' })).rejects.toMatchObject({
      code: 'connection_enabled',
      status: 409,
    })
    expect(await scene.roles(ann)).toEqual(['member sso:c', 'viewer manual'])

    expect(await remove(scene, 'revoke')).toEqual({ ...done, users: 2 })
    expect(await scene.roles(ann)).toEqual(['viewer manual'])
    expect(await scene.roles(bob)).toEqual(['member sso:d'])
    expect([await identities(scene, ann), await identities(scene, bob)]).toEqual([[], ['connection:d']])
    expect(await identities(scene, eve)).toEqual(['connection:e'])
    expect(await facts(scene)).toBeNull()
    expect(await scene.directory.connection('c')).toBeNull()
    expect(await admin.deleteConnection({ ...c, grants: 'revoke' })).toEqual({ ...nothing, users: 0 })
    expect(await scene.signIn('ann', { via: 'd' })).toMatchObject({ outcome: 'linked' })
  })

  check('deleted, its grants adopted: sync by the other goes on with them', async (scene) => {
    const { admin } = scene.jit
    const user = (await scene.signIn('ann', { groups: ['admins'] })).after.user.id
    await scene.signIn('ann', { via: 'd', groups: ['admins'] })
    await admin.disableConnection(c)
    for (const adoptBy of ['e', 'c']) {
      await expect(admin.deleteConnection({ ...c, grants: { adoptBy } })).rejects.toMatchObject({
        code: 'request_invalid',
      })
    }
    await expect(admin.deleteConnection({ ...c, grants: { adoptBy: 'x' } })).rejects.toMatchObject({
      code: 'connection_unknown',
    })
    expect(await scene.roles(user)).toEqual(['admin sso:c', 'admin sso:d', 'member sso:c'])
    expect(await remove(scene, { adoptBy: 'd' })).toEqual({ ...done, users: 1 })
    expect(await scene.roles(user)).toEqual(['admin sso:d', 'member sso:d'])
    await scene.signIn('ann', { via: 'd', groups: [] })
    expect(await scene.roles(user)).toEqual(['member sso:d'])
  })

  check('deleting that stops anywhere goes on when it is asked again', async (scene) => {
    const people = await Promise.all([0, 1, 2].map((n) => scene.person(`p${n}`)))
    await scene.jit.admin.disableConnection(c)
    for (const after of [0, 1, 2]) {
      // What is done already is not done again, so each call gets one step further.
      const stopped = scene.over(failing(scene.store, after === 0 ? 0 : 1))
      await expect(stopped.deleteConnection({ ...c, grants: 'revoke' })).rejects.toMatchObject({
        code: 'unavailable',
      })
      const left = (await Promise.all(people.map((user) => identities(scene, user)))).filter(
        (all) => all.length > 0,
      )
      expect(left).toHaveLength(3 - after)
      expect(await facts(scene)).not.toBeNull()
    }
    expect(await scene.jit.admin.deleteConnection({ ...c, grants: 'revoke' })).toEqual({ ...done, users: 1 })
    expect(await facts(scene)).toBeNull()
    for (const user of people) expect(await scene.roles(user)).toEqual([])
  })

  check('a sign-in that lands while it is deleted leaves nothing behind', async (scene) => {
    await scene.person('ann')
    const late: string[] = []
    const racing: Store = {
      ...scene.store,
      commit: async (changes) => {
        if (changes.ops.some(({ op }) => op === 'connection.remove')) {
          // Switched on again and used, in the moment between the last look and this write.
          await scene.elsewhere.enableConnection(c)
          await scene.directory.refresh()
          late.push((await scene.signIn('bob')).after.user.id)
        }
        return scene.store.commit(changes)
      },
    }
    expect(await remove(scene, 'revoke', scene.over(racing))).toMatchObject({ changed: true, users: 2 })
    expect(late).toHaveLength(1)
    expect(await scene.roles(late[0]!)).toEqual([])
    expect(await facts(scene)).toBeNull()
  })
})

describe('a directory from a file', () => {
  const input = (enabled: boolean) => ({
    organizations: [{ id: 'o', name: 'O', roles: ['owner', 'member'], domains: ['o.example'] }],
    connections: [
      {
        ...({ id: 'c', organization: 'o', protocol: 'oidc', issuer: 'https://idp.example' } as const),
        ...{ clientId: 'x', clientSecret: 'y', enabled },
      },
    ],
  })
  const never = () => Promise.reject(new Error('not part of this'))
  const admin = async (store: Store, connections: boolean, enabled = true) => {
    const { organizations, connections: entries } = input(enabled)
    const jit = createJit({
      ...{ baseUrl: 'http://localhost', lock: memoryLock(), once: memoryOnce(), log: () => {}, store },
      directory: staticDirectory({ organizations, connections: connections ? entries : [] }),
      strategies: [{ protocol: 'oidc', attemptKey: () => undefined, begin: never, complete: never }],
    })
    await jit.ready()
    return jit.admin
  }

  test('is written by hand: the refusal says what to write', async () => {
    const asked = (await admin(memoryStore(), true)).disableConnection(c)
    await expect(asked).rejects.toMatchObject({ code: 'config_invalid', message: /"enabled": false/ })
  })

  test('its connection is deleted when it is disabled, or no longer there', async () => {
    const store = memoryStore()
    const asked = { ...c, grants: 'revoke' } as const
    await expect((await admin(store, true)).deleteConnection(asked)).rejects.toMatchObject({
      code: 'connection_enabled',
    })
    const stored = async () =>
      (await store.load({ source: 'connection:c', email: null, organizations: [] })).connection
    expect(await stored()).not.toBeNull()
    expect(await (await admin(store, true, false)).deleteConnection(asked)).toEqual({ ...done, users: 0 })
    expect(await stored()).toBeNull()
    await admin(store, true)
    expect(await stored()).not.toBeNull()
    expect(await (await admin(store, false)).deleteConnection(asked)).toEqual({ ...done, users: 0 })
    expect(await stored()).toBeNull()
  })
})
