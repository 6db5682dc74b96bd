import { type DirectoryInput, type JitOptions, type Store, storeDirectory } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { onEveryStore } from '../directory/stores.js'
import { everything, keys, policy, signIn, staticApp } from './policy-scene.js'

const groups = { absent: 'unknown' }
/** The same connection, which the file now has under P. */
const moved = (id = 'c') => policy({ id, organization: 'p', groups })
const without = (): DirectoryInput => ({ ...policy(), connections: [] })

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
  const start = async (store: Store, input: DirectoryInput, options: Partial<JitOptions> = {}) => {
    const scene = staticApp(store, input, options)
    await scene.jit.ready()
    return scene
  }
  /** The account of O's boss, and the one that P's identity provider reaches by the same subject. */
  const begun = async (store: Store) => {
    const { directory } = await start(store, policy())
    return (await signIn(store, directory, 'boss')).after.user.id
  }
  const boss = async (store: Store, { directory }: Awaited<ReturnType<typeof start>>, id = 'c') =>
    (await signIn(store, directory, 'boss', { email: 'eve@p.example', via: `connection:${id}` })).after.user

  describe('L25 the id of a connection under another organization of a file', () => {
    check('is refused at the start, by name and with the ways out, and nothing is written', async (store) => {
      const user = await begun(store)
      const before = await everything(store)
      const problem =
        'connection "c" of organization "p" belongs to organization "o" in the store; give it another id, or ' +
        'leave it out, delete it with jit.admin.deleteConnection, and start again'
      for (let turn = 0; turn < 2; turn++) {
        const refused = { code: 'config_invalid', message: problem, problems: [problem] }
        await expect(start(store, moved())).rejects.toMatchObject(refused)
      }
      expect(await everything(store)).toEqual(before)
      // With its own organization it starts as ever, whatever else of it changed.
      const { directory } = await start(store, policy({ enabled: true, clientId: 'another' }))
      expect((await signIn(store, directory, 'boss')).after.user.id).toBe(user)
    })

    check('another id starts, and reaches people of its own', async (store) => {
      const user = await begun(store)
      const after = await boss(store, await start(store, moved('d')), 'd')
      expect(after.id).not.toBe(user)
      expect(after.verifiedEmail).toBe('eve@p.example')
    })

    check(
      'once it was deleted while no file had it, it starts, and nobody of before is reached',
      async (store) => {
        const user = await begun(store)
        const { jit } = await start(store, without())
        await expect(start(store, moved())).rejects.toMatchObject({ code: 'config_invalid' })
        await jit.admin.deleteConnection({ connection: 'c', grants: 'revoke', by: 'root' })
        const after = await boss(store, await start(store, moved()))
        expect(after.id).not.toBe(user)
        expect((await store.user(user))!.connections).toEqual([])
      },
    )

    check(
      'an import over what a file left is refused alike, at once, until it was deleted',
      async (store) => {
        const user = await begun(store)
        const before = await everything(store)
        let commits = 0
        const counted: Store = {
          ...store,
          commit: (changes) => {
            commits += 1
            return store.commit(changes)
          },
        }
        const kept = storeDirectory({ store: counted, keys })
        const { email: _, ...input } = moved()
        const problem =
          'connection "c" of organization "p" belongs to organization "o" in the store; give it another id, or ' +
          'leave it out, delete it with jit.admin.deleteConnection, and import again'
        const refused = { code: 'config_invalid', message: problem, problems: [problem] }
        await expect(kept.import(input)).rejects.toMatchObject(refused)
        expect(commits).toBe(1)
        expect(await everything(store)).toEqual(before)
        const { jit } = await start(store, without())
        await jit.admin.deleteConnection({ connection: 'c', grants: 'revoke', by: 'root' })
        expect((await kept.import(input)).written).toContain('c')
        const after = (await signIn(store, kept, 'boss', { email: 'eve@p.example' })).after.user
        expect(after.id).not.toBe(user)
      },
    )

    check('an import of it under its own organization lands over what a file left', async (store) => {
      const user = await begun(store)
      const kept = storeDirectory({ store, keys })
      const { email: _, ...input } = policy()
      expect((await kept.import(input)).written).toContain('c')
      expect((await signIn(store, kept, 'boss')).after.user.id).toBe(user)
    })
  })
})
