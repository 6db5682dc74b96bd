import { JitError, type Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { describe, expect } from 'vitest'
import { deeds } from './admin-deeds.js'
import { by, scenes } from './admin-scene.js'

const o = { organization: 'o', by } as const
const check = scenes(async () => {
  const store = memoryStore()
  return { store, another: async () => store, close: async () => {} }
})

const changesOf = async (store: Store) =>
  new Set((await store.events({ limit: 1000 })).rows.map(({ change }) => change))

describe('An answer that is lost', () => {
  check('of a commit that landed: said to be done, by the decision that the trail has', async (scene) => {
    const losing: Store = {
      ...scene.store,
      commit: async (changes) => {
        await scene.store.commit(changes)
        throw new Error('the connection was cut')
      },
    }
    for (const [name, deed] of Object.entries(await deeds(scene))) {
      const before = await changesOf(scene.store)
      const { changed, decision } = await deed(scene.over(losing))
      const landed = [...(await changesOf(scene.store))].filter((change) => !before.has(change))
      expect([name, changed, landed]).toEqual([name, true, [decision]])
    }
  })

  check('of a commit that never arrived: done by the next', async (scene) => {
    for (const [name, deed] of Object.entries(await deeds(scene))) {
      const before = await changesOf(scene.store)
      let lost = false
      const dropping: Store = {
        ...scene.store,
        commit: async (changes) => {
          if (lost) return scene.store.commit(changes)
          lost = true
          throw new Error('the connection was refused')
        },
      }
      const { changed, decision } = await deed(scene.over(dropping))
      const landed = [...(await changesOf(scene.store))].filter((change) => !before.has(change))
      expect([name, changed, landed]).toEqual([name, true, [decision]])
    }
  })

  check('and of what somebody else did meanwhile: not claimed', async (scene) => {
    const user = await scene.person('ann')
    let other: string | null = null
    const overtaken: Store = {
      ...scene.store,
      commit: async () => {
        other ??= (await scene.elsewhere.suspend({ user, ...o })).decision
        throw new Error('the connection was cut')
      },
    }
    expect(await scene.over(overtaken).suspend({ user, ...o })).toEqual({ changed: false, decision: null })
    expect(await changesOf(scene.store)).toContain(other)
  })

  check('that comes in the end, late: found, and not done twice', async (scene) => {
    const user = await scene.person('ann')
    let late: (() => Promise<unknown>) | null = null
    const slow: Store = {
      ...scene.store,
      commit: async (changes) => {
        if (!late) {
          late = () => scene.store.commit(changes)
          throw new Error('no answer yet')
        }
        await late()
        return scene.store.commit(changes)
      },
    }
    const { changed, decision } = await scene.over(slow).grant({ user, ...o, role: 'admin' })
    expect(changed).toBe(true)
    const { rows } = await scene.store.events({ type: 'granted', user })
    expect(rows.filter(({ detail }) => detail.role === 'admin').map(({ change }) => change)).toEqual([
      decision,
    ])
  })
})

describe('A store in trouble', () => {
  check('that refuses to the end: bounded tries, then 503, nothing written', async (scene) => {
    const user = await scene.person('ann')
    const before = await changesOf(scene.store)
    let commits = 0
    const busy: Store = {
      ...scene.store,
      commit: async () => {
        commits++
        return { committed: false, conflict: { kind: 'busy', detail: '40001' } }
      },
    }
    const refusal = await scene
      .over(busy)
      .suspend({ user, ...o, correlationId: 'mine' })
      .catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(JitError)
    expect(refusal).toMatchObject({
      ...{ code: 'unavailable', status: 503, correlationId: 'mine', headers: { 'retry-after': '2' } },
      message: expect.stringContaining('40001'),
    })
    expect(commits).toBe(9)
    expect(await changesOf(scene.store)).toEqual(before)
  })

  check('that never answers: 503 within the deadline', async (scene) => {
    const user = await scene.person('ann')
    const began = performance.now()
    const hung: Store = { ...scene.store, commit: () => new Promise<never>(() => {}) }
    await expect(scene.over(hung).suspend({ user, ...o })).rejects.toMatchObject({ code: 'unavailable' })
    expect(performance.now() - began).toBeLessThan(6_000)
  })

  check('that cannot be read, then can', async (scene) => {
    const user = await scene.person('ann')
    let reads = 0
    const flaky: Store = {
      ...scene.store,
      load: (query) => (++reads === 1 ? Promise.reject(new Error('cut')) : scene.store.load(query)),
    }
    expect(await scene.over(flaky).suspend({ user, ...o })).toMatchObject({ changed: true })
  })
})

check('a refusal keeps the correlation id, and an event the person and the id', async (scene) => {
  const { admin } = scene.jit
  const user = await scene.person('ann')
  const asked = { user, ...o, by: 'chief', correlationId: 'mine' }
  await expect(admin.grant({ ...asked, role: 'boss' })).rejects.toMatchObject({ correlationId: 'mine' })
  const { decision } = await admin.grant({ ...asked, role: 'admin' })
  const { rows } = await scene.store.events({ user, type: 'granted' })
  expect(rows.find(({ change }) => change === decision)).toMatchObject({
    ...{ actor: 'chief', correlationId: 'mine', source: null, reason: 'administered' },
    detail: { role: 'admin', source: 'manual', basis: 'person', because: 'by hand' },
  })
})

check('an account that joins elsewhere between two reads is read again', async (scene) => {
  const user = await scene.person('ann')
  const { elsewhere } = scene
  const there = { email: 'ann@o.example', organization: 'p', role: 'owner', by }
  const { invitation } = await elsewhere.invite(there)
  const store: Store = {
    ...scene.store,
    user: async (id) => {
      const found = await scene.store.user(id)
      await elsewhere.accept({ invitation, user, by: user })
      return found
    },
  }
  await expect(scene.over(store).suspend({ user, by })).rejects.toMatchObject({ code: 'last_owner' })
})
