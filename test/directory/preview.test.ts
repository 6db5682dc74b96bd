import { type DirectoryInput, JitError, type Store, type StoreDirectory, storeDirectory } from 'passport-jit'
import { expect, test } from 'vitest'
import { app, everything, keys, policy, rolesIn, signIn, staticApp } from '../provision/policy-scene.js'
import { onEveryStore } from './stores.js'

/** Nobody is an admin by a group any more. */
const fewer = (more: Record<string, unknown> = {}) =>
  policy({ groups: { absent: 'unknown', map: { watchers: ['viewer'] } }, ...more })
const limit = { share: 0.25, atLeast: 3 }
const by = 'root'

async function refusal(work: Promise<unknown>): Promise<JitError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof JitError)) throw new Error(`expected a refusal, got ${String(error)}`)
  return error
}

onEveryStore((factory) => {
  const check = (
    name: string,
    body: (world: {
      readonly store: Store
      readonly directory: StoreDirectory
      readonly jit: ReturnType<typeof app>['jit']
      /** So many people who are an admin by their group, and so many who are not. */
      readonly people: (admins: number, others: number) => Promise<string[]>
    }) => Promise<void>,
  ) =>
    test(name, async () => {
      const { store, close } = await factory()
      try {
        const directory = storeDirectory({ store, keys, revocations: limit })
        await directory.import(policy())
        const { jit } = app(store, directory, { revocations: limit })
        const people = async (admins: number, others: number) => {
          const users: string[] = []
          for (let n = 0; n < admins + others; n++) {
            const groups = n < admins ? ['admins'] : []
            users.push((await signIn(store, directory, `p${n}`, { groups })).after.user.id)
          }
          return users
        }
        await body({ store, directory, jit, people })
      } finally {
        await close()
      }
    })

  check('exactly the share is taken', async ({ store, directory, people }) => {
    // 3 of 12 grants.
    await people(3, 6)
    expect((await directory.import(fewer())).written).toEqual(['c'])
    for (let n = 0; n < 3; n++) await signIn(store, directory, `p${n}`, { groups: ['admins'] })
    expect(new Set(Object.values(await rolesIn(store)).flat())).toEqual(new Set(['member sso:c']))
  })

  check(
    'one more than the share is refused, and nothing is written',
    async ({ store, directory, people }) => {
      // 3 of 11 grants.
      await people(3, 5)
      const before = await everything(store)
      const error = await refusal(directory.import(fewer()))
      expect(error).toMatchObject({ code: 'preview_required', status: 409 })
      expect(error.problems).toEqual(['organization "o": 3 of 11 grants (27.3 %) would be revoked'])
      expect(error.message).toMatch(/jit\.preview\(\).*passport-jit preview.*\{ accept: "[\w-]{22}" \}/)
      expect(await everything(store)).toEqual(before)
      expect((await directory.connection('c'))?.groups.map).toHaveProperty('admins')
    },
  )

  check('fewer than are ever too many are taken, whatever their share', async ({ directory, people }) => {
    await people(2, 0)
    expect((await directory.import(fewer())).written).toEqual(['c'])
  })

  check('the digest of its preview lets it pass, and does what was shown', async (world) => {
    const { store, directory, jit, people } = world
    await people(4, 1)
    const preview = await jit.preview(fewer())
    expect(preview).toMatchObject({ guarded: true, organizations: [{ revoked: 4, grants: 9, losing: 4 }] })
    const error = await refusal(directory.import(fewer()))
    expect(error.message).toContain(`{ accept: "${preview.digest}" }`)
    const other = preview.digest.replace(/.$/, (last) => (last === '_' ? '-' : '_'))
    const wrong = await refusal(directory.import(fewer(), { accept: other }))
    expect(wrong.code).toBe('preview_required')
    expect((await directory.import(fewer(), { accept: preview.digest })).written).toEqual(['c'])
    for (let n = 0; n < 4; n++) await signIn(store, directory, `p${n}`, { groups: ['admins'] })
    expect(Object.values(await rolesIn(store))).toEqual(Array.from({ length: 5 }, () => ['member sso:c']))
  })

  check('a digest is good for its effect alone', async ({ store, directory, jit, people }) => {
    await people(4, 1)
    const { digest } = await jit.preview(fewer())
    await signIn(store, directory, 'p4', { groups: ['admins'] })
    expect((await refusal(directory.import(fewer(), { accept: digest }))).code).toBe('preview_required')
    const again = await jit.preview(fewer())
    // A change beside it that no rule asks for is the same effect.
    const input = fewer({ clientSecret: 'rotated' })
    expect((await directory.import(input, { accept: again.digest })).written).toEqual(['c'])
  })

  check('the only owner is not touched unlooked at', async ({ directory, jit, people }) => {
    const [ann, bob] = await people(1, 1)
    const off = policy({ enabled: false })
    await jit.admin.grant({ user: ann!, organization: 'o', role: 'owner', by })
    const error = await refusal(directory.import(off))
    expect(error.code).toBe('preview_required')
    expect(error.problems).toEqual([
      'organization "o": 0 of 4 grants (0 %) would be revoked, and its only owner would lose something or be refused',
    ])
    await jit.admin.grant({ user: bob!, organization: 'o', role: 'owner', by })
    expect((await directory.import(off)).written).toEqual(['c'])
  })

  check('what takes nothing is never asked about, whoever else loses', async ({ store, people }) => {
    await people(4, 0)
    const asked: string[] = []
    const watched: Store = {
      ...store,
      load: (query) => {
        asked.push('load')
        return store.load(query)
      },
      asserted: (query) => {
        asked.push(query.source)
        return store.asserted(query)
      },
    }
    const directory = storeDirectory({ store: watched, keys, revocations: limit })
    const written = async (input: DirectoryInput) => (await directory.import(input)).written
    expect(await written(policy())).toEqual([])
    expect(await written(policy({ clientSecret: 'rotated' }))).toEqual(['c'])
    expect(await written(policy({ clientSecret: 'rotated' }, { name: 'Renamed' }))).toEqual(['o'])
    expect(asked).toEqual([])
    expect(await written(policy({}, { name: 'Renamed', seatLimit: 9 }))).toEqual(['o', 'c'])
    expect(asked).toContain('connection:c')
  })

  check('the people of a directory that was a file are seen by the first import', async ({ store }) => {
    const { jit, directory } = staticApp(store, policy(), { revocations: { share: 1 } })
    await jit.ready()
    for (let n = 0; n < 4; n++) await signIn(store, directory, `p${n}`, { groups: ['admins'] })
    const kept = storeDirectory({ store, keys, revocations: limit })
    expect((await refusal(kept.import(fewer()))).problems).toEqual([
      'organization "o": 4 of 8 grants (50 %) would be revoked',
    ])
    expect((await kept.import(policy())).written).toContain('c')
  })

  check(
    'an entry that cannot be read is mended, on what people have',
    async ({ store, directory, people }) => {
      await people(4, 1)
      const other = storeDirectory({
        ...{ store, revocations: limit },
        keys: [{ id: 'k', key: Buffer.alloc(32, 8).toString('base64') }],
      })
      expect((await refusal(other.import(fewer()))).problems).toEqual([
        'organization "o": 4 of 9 grants (44.4 %) would be revoked',
      ])
      expect((await other.import(policy())).written).toEqual(['c'])
      await expect(directory.import(policy())).resolves.toMatchObject({ written: ['c'] })
    },
  )
})

test('a limit that is none is refused, naming it', async () => {
  const { memoryStore } = await import('passport-jit/stores/memory')
  const refused = (revocations: object) => () => storeDirectory({ store: memoryStore(), keys, revocations })
  expect(refused({ share: 1.5 })).toThrow(/revocations\.share/)
  expect(refused({ atLeast: 0 })).toThrow(/revocations\.atLeast/)
  expect(refused({ atMost: 5 })).toThrow(/revocations.*atMost/)
  expect(refused({ share: 1, atLeast: 1 })).not.toThrow()
})
