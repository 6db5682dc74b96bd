import type { JitOptions, Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { describe, expect, test } from 'vitest'
import { onEveryStore } from '../directory/stores.js'
import { everything, policy, rolesIn, signIn, staticApp } from './policy-scene.js'

const limit = { share: 0.25, atLeast: 3, window: 3_600_000 }
const by = 'root'
const hour = 3_600_000
const source = 'connection:c'

const held = async (store: Store) =>
  (await store.load({ source, email: null, organizations: [] })).connection?.held
const events = async (store: Store, type: 'held' | 'released') =>
  (await store.events({ type })).rows.filter((event) => event.type === type)

onEveryStore((factory) => {
  const check = (
    name: string,
    body: (world: { readonly store: Store; readonly another: () => Promise<Store> }) => Promise<void>,
  ) =>
    test(name, async () => {
      const { store, another, close } = await factory()
      try {
        await body({ store, another })
      } finally {
        await close()
      }
    })
  const start = async (store: Store, options: Partial<JitOptions> = {}, input = policy()) => {
    const scene = staticApp(store, input, { revocations: limit, ...options })
    await scene.jit.ready()
    return scene
  }
  type Directory = Awaited<ReturnType<typeof start>>['directory']
  /** So many who are an admin by their group, and so many who are not: a grant or two each. */
  const people = async (store: Store, directory: Directory, admins: number, others: number) => {
    for (let n = 0; n < admins + others; n++)
      await signIn(store, directory, `p${n}`, { groups: n < admins ? ['admins'] : [] })
  }
  const leave = async (store: Store, directory: Directory, from: number, to: number, at?: number) => {
    for (let n = from; n < to; n++)
      await signIn(store, directory, `p${n}`, { ...(at !== undefined && { at }) })
  }

  describe('A sync that took too much', () => {
    check('exactly the share within the window: it goes on; one more: it is held', async ({ store }) => {
      // 3 of 12 grants, then 4 of 13.
      const { jit, directory, log } = await start(store)
      await people(store, directory, 3, 6)
      await leave(store, directory, 0, 3)
      await jit.background.runOnce()
      expect(await held(store)).toBeNull()
      expect(log).toEqual([])
      await signIn(store, directory, 'late', { groups: ['admins'] })
      await signIn(store, directory, 'late')
      await jit.background.runOnce()
      const reason = 'its sync revoked 4 of 14 grants within 60 min, more than 25 %'
      expect(await held(store)).toBe(reason)
      expect(log.map(({ level, message }) => [level, message])).toEqual([
        [
          'warn',
          `connection "c": ${reason}; the sync is held until jit.admin.releaseSync lets it go on (passport-jit preview shows what it would do)`,
        ],
      ])
      const told = await events(store, 'held')
      expect(told).toMatchObject([
        { source, actor: null, user: null, reason: 'guarded', detail: { connection: 'c', held: reason } },
      ])
    })

    check('fewer than are ever too many do not count, whatever their share', async ({ store }) => {
      const { jit, directory } = await start(store)
      await people(store, directory, 3, 0)
      await leave(store, directory, 0, 2)
      await jit.background.runOnce()
      expect(await held(store)).toBeNull()
      await leave(store, directory, 2, 3)
      await jit.background.runOnce()
      expect(await held(store)).toMatch(/3 of 6 grants/)
    })

    check('what it took before the window does not count', async ({ store }) => {
      const now = Date.now()
      const { jit, directory } = await start(store)
      await people(store, directory, 4, 0)
      await leave(store, directory, 0, 1, now - hour - 60_000)
      await leave(store, directory, 1, 3, now)
      await jit.background.runOnce()
      expect(await held(store)).toBeNull()
      await leave(store, directory, 3, 4, now)
      await jit.background.runOnce()
      expect(await held(store)).toMatch(/3 of 7 grants/)
    })

    check('what a person took is nothing that a sync took', async ({ store }) => {
      const { jit, directory } = await start(store)
      await people(store, directory, 4, 0)
      for (const { id } of (await store.users()).rows)
        await jit.admin.revoke({ user: id, organization: 'o', role: 'admin', by })
      await jit.background.runOnce()
      expect(await held(store)).toBeNull()
    })

    check('two jobs at once hold once: one event, one line', async ({ store, another }) => {
      const [here, there] = [await start(store), await start(await another())]
      await people(store, here.directory, 6, 0)
      await leave(store, here.directory, 0, 6)
      const jobs = [here, there, here, there, here, there]
      await Promise.all(jobs.map(({ jit }) => jit.background.runOnce()))
      expect(await held(store)).toMatch(/6 of 12 grants/)
      expect(await events(store, 'held')).toHaveLength(1)
      expect([...here.log, ...there.log]).toHaveLength(1)
      await here.jit.background.runOnce()
      expect(await events(store, 'held')).toHaveLength(1)
    })

    check('while it is held, groups neither give nor take; once it is let go, they do', async ({ store }) => {
      const { jit, directory } = await start(store)
      await people(store, directory, 6, 3)
      await leave(store, directory, 0, 4)
      await jit.background.runOnce()
      const before = await rolesIn(store)
      await leave(store, directory, 4, 6)
      await signIn(store, directory, 'p0', { groups: ['admins'] })
      await signIn(store, directory, 'p6', { groups: ['watchers'] })
      await signIn(store, directory, 'new', { groups: ['admins'] })
      expect(await rolesIn(store)).toEqual({ ...before, new: ['member sso:c'] })

      await jit.admin.releaseSync({ connection: 'c', by })
      expect(await held(store)).toBeNull()
      expect(await events(store, 'released')).toMatchObject([{ actor: by }])
      await leave(store, directory, 4, 6)
      await signIn(store, directory, 'p0', { groups: ['admins'] })
      await signIn(store, directory, 'p6', { groups: ['watchers'] })
      await signIn(store, directory, 'new', { groups: ['admins'] })
      expect(await rolesIn(store)).toEqual({
        ...before,
        ...{ p4: ['member sso:c'], p5: ['member sso:c'], p0: ['admin sso:c', 'member sso:c'] },
        ...{ p6: ['member sso:c', 'viewer sso:c'], new: ['admin sso:c', 'member sso:c'] },
      })
      // What it took before counts no more.
      await jit.background.runOnce()
      expect(await held(store)).toBeNull()
    })

    check('let go and too much again: held again', async ({ store }) => {
      const { jit, directory, log } = await start(store)
      for (const round of [1, 2, 3]) {
        await people(store, directory, 4, 0)
        await leave(store, directory, 0, 4)
        await jit.background.runOnce()
        expect(await held(store)).toMatch(/4 of 8 grants/)
        expect(await events(store, 'held')).toHaveLength(round)
        expect(log).toHaveLength(round)
        await jit.admin.releaseSync({ connection: 'c', by })
      }
    })

    check('by the app’s own limit', async ({ store }) => {
      const { jit, directory } = await start(store, { revocations: { share: 1 } })
      await people(store, directory, 6, 0)
      await leave(store, directory, 0, 6)
      await jit.background.runOnce()
      expect(await held(store)).toBeNull()
    })
  })

  const fewer = (more: object = {}, organization: Record<string, unknown> = {}) =>
    policy({ groups: { absent: 'unknown', map: { watchers: ['viewer'] } }, ...more }, organization)

  describe('A file with a changed policy, at start', () => {
    check('exactly the share: written, and its sync goes on', async ({ store }) => {
      const { directory } = await start(store)
      await people(store, directory, 3, 6)
      const next = await start(store, {}, fewer())
      expect(await held(store)).toBeNull()
      expect(next.log).toEqual([])
      await signIn(store, next.directory, 'p0', { groups: ['admins'] })
      expect((await rolesIn(store)).p0).toEqual(['member sso:c'])
    })

    check('one more: it starts, the policy is written, and its sync is held', async ({ store }) => {
      const { directory } = await start(store)
      await people(store, directory, 3, 5)
      const next = await start(store, {}, fewer())
      const reason = 'its changed policy would revoke 3 of 11 grants (27.3 %)'
      expect(await held(store)).toBe(reason)
      expect(next.log).toMatchObject([
        { level: 'warn', message: expect.stringMatching(/releaseSync.*passport-jit preview/s) },
      ])
      expect(await events(store, 'held')).toMatchObject([{ reason: 'guarded', detail: { held: reason } }])

      const before = await rolesIn(store)
      for (let n = 0; n < 3; n++) await signIn(store, next.directory, `p${n}`, { groups: ['admins'] })
      await signIn(store, next.directory, 'new', { groups: ['watchers'] })
      expect(await rolesIn(store)).toEqual({ ...before, new: ['member sso:c'] })

      await next.jit.admin.releaseSync({ connection: 'c', by })
      for (let n = 0; n < 3; n++) await signIn(store, next.directory, `p${n}`, { groups: ['admins'] })
      expect(new Set(Object.values(await rolesIn(store)).flat())).toEqual(new Set(['member sso:c']))
    })

    check('the only owner: held, where it would lose something', async ({ store }) => {
      const { directory, jit } = await start(store)
      const { after } = await signIn(store, directory, 'p0', { groups: ['admins'] })
      await jit.admin.grant({ user: after.user.id, organization: 'o', role: 'owner', by })
      await start(store, {}, fewer())
      expect(await held(store)).toBe(
        'its changed policy would revoke 1 of 3 grants (33.3 %) and touch the only owner',
      )
    })

    check('a changed organization is one for each of its connections', async ({ store }) => {
      const { directory } = await start(store)
      await people(store, directory, 4, 0)
      await start(store, {}, fewer({ jit: { roles: [] }, groups: { map: {} } }, { assignable: ['viewer'] }))
      expect(await held(store)).toMatch(/8 of 8 grants \(100 %\)/)
    })

    check('an organization that alone is another is looked at too', async ({ store }) => {
      const { directory, jit } = await start(store)
      const { after } = await signIn(store, directory, 'p0')
      await jit.admin.grant({ user: after.user.id, organization: 'o', role: 'owner', by })
      await start(store, {}, policy({}, { name: 'Renamed' }))
      expect(await held(store)).toBeNull()
      await start(store, {}, policy({}, { name: 'Renamed', status: 'suspended' }))
      expect(await held(store)).toMatch(/0 of 2 grants \(0 %\) and touch the only owner/)
    })

    check(
      'several processes at once hold once; a later start looks at nothing',
      async ({ store, another }) => {
        const { directory } = await start(store)
        await people(store, directory, 6, 0)
        const stores = [store, await another(), store, await another()]
        const started = await Promise.all(stores.map((each) => start(each, {}, fewer())))
        expect(await held(store)).toMatch(/6 of 12/)
        expect(await events(store, 'held')).toHaveLength(1)
        expect(started.flatMap(({ log }) => log)).toHaveLength(1)

        await started[0]!.jit.admin.releaseSync({ connection: 'c', by })
        const asked: string[] = []
        const watched: Store = {
          ...store,
          asserted: (query) => {
            asked.push(query.source)
            return store.asserted(query)
          },
        }
        await start(watched, {}, fewer())
        expect(asked).toEqual([])
        expect(await held(store)).toBeNull()
      },
    )

    check('the first start, and one that changes nothing, write what they did before', async ({ store }) => {
      await start(store)
      const before = await everything(store)
      await start(store)
      expect(await everything(store)).toEqual(before)
    })
  })
})

describe('What a start costs', () => {
  test('of one that is very large a part is looked at', async () => {
    const store = memoryStore()
    const { jit, directory } = staticApp(store, policy(), { revocations: limit })
    await jit.ready()
    await signIn(store, directory, 'p0', { groups: ['admins'] })
    const [row] = (await store.asserted({ source, organization: 'o' })).rows
    let read = 0
    const endless: Store = {
      ...store,
      asserted: async ({ limit: rows = 100 }) => {
        read += rows
        return { rows: Array.from({ length: rows }, () => row!), next: String(read) }
      },
    }
    const next = staticApp(endless, policy({ groups: { map: { watchers: ['viewer'] } } }), {
      revocations: limit,
    })
    await next.jit.ready()
    expect(read).toBeLessThanOrEqual(5_200)
    expect(await held(store)).toMatch(/would revoke 5000 of 10000 grants/)
  })
})

test('a store that fails while it is held: the round says so, and the next one does it', async () => {
  const store = memoryStore()
  let broken = true
  const flaky: Store = {
    ...store,
    commit: async (changes) => {
      const holds = changes.ops.some(({ op }) => op === 'connection.hold')
      return holds && broken
        ? { committed: false, conflict: { kind: 'busy', detail: 'deadlock' } }
        : store.commit(changes)
    },
  }
  const { jit, directory } = staticApp(flaky, policy(), { revocations: limit })
  await jit.ready()
  for (let n = 0; n < 4; n++) await signIn(store, directory, `p${n}`, { groups: ['admins'] })
  for (let n = 0; n < 4; n++) await signIn(store, directory, `p${n}`)
  await expect(jit.background.runOnce()).rejects.toThrow(/sync of connection "c" could not be held.*deadlock/)
  broken = false
  await jit.background.runOnce()
  expect(await held(store)).toMatch(/4 of 8 grants/)
})
