import {
  assertIdentity,
  createJit,
  type Directory,
  type DirectoryInput,
  JitError,
  type Store,
  type StoreDirectory,
  type Strategy,
  storeDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { expect, test } from 'vitest'
import { provision } from '../../lib/provision.js'
import { provisionPorts } from '../rig/ports.js'
import { directoryInput } from '../tables/facts.js'
import { onEveryStore } from './stores.js'

const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]
const input = (organization: object = {}, connection: object = {}) =>
  ({
    organizations: [
      { ...directoryInput.organizations[0]!, ...organization },
      directoryInput.organizations[1]!,
    ],
    connections: [{ ...directoryInput.connections[0]!, ...connection }],
  }) as DirectoryInput

/** A sign-in through connection `c` as it was when it began. */
async function identity(directory: Directory, subject = 's', groups: readonly string[] = []) {
  const { version } = (await directory.connection('c'))!
  return assertIdentity({
    source: 'connection:c',
    sourceVersion: version,
    issuer: 'https://idp.example',
    subject,
    email: `${subject}@o.example`,
    profile: { name: subject },
    ...(groups.length > 0 && { groups: { kind: 'listed', values: groups } }),
    at: Date.now(),
  })
}

const ports = provisionPorts

onEveryStore((factory) => {
  const check = (
    name: string,
    body: (world: {
      store: Store
      /** The directory of the process that signs people in. */
      here: StoreDirectory
      /** The directory of another process, where an operator imports. */
      elsewhere: StoreDirectory
    }) => Promise<void>,
  ) =>
    test(name, async () => {
      const { store, another, close } = await factory()
      try {
        const here = storeDirectory({ store, keys })
        const elsewhere = storeDirectory({ store: await another(), keys })
        await elsewhere.import(input())
        await body({ store, here, elsewhere })
      } finally {
        await close()
      }
    })
  const memberships = async (store: Store) =>
    (await store.users()).rows.map((row) =>
      row.memberships.map(({ grants }) => grants.map(({ role }) => role)),
    )

  check('a group of whatever characters gives its role on every store', async (world) => {
    const { store, here, elsewhere } = world
    const map = { 'a\0b': ['viewer'], 'a\ud800c': ['editor'] }
    const policy = { attributes: { email: 'email', groups: 'groups' }, groups: { map } }
    await elsewhere.import(input({ roles: ['owner', 'member', 'viewer', 'editor'] }, policy))
    await here.refresh()
    const result = await provision(ports(store, here), await identity(here, 's', Object.keys(map)))
    expect(result).toMatchObject({
      outcome: 'created',
      granted: expect.arrayContaining(['viewer', 'editor']),
    })
    const { rows } = await store.events({ type: 'granted' })
    const told = rows.flatMap(({ detail }) => detail.because ?? [])
    expect(told).toEqual(expect.arrayContaining(['by group a b', 'by group a c']))
  })

  check('a first sign-in by what was imported: one of everything', async ({ store, here }) => {
    const result = await provision(ports(store, here), await identity(here))
    expect(result).toMatchObject({ outcome: 'created', joined: ['o'], granted: ['member'] })
    expect(await memberships(store)).toEqual([[['member']]])
  })

  check('an import before the sign-in is read is obeyed at once', async ({ store, here, elsewhere }) => {
    const arriving = await identity(here)
    await here.organization('o')
    await elsewhere.import(input({ seatLimit: 0 }))
    await expect(provision(ports(store, here), arriving)).rejects.toMatchObject({ code: 'seats_full' })
    expect((await store.users()).rows).toEqual([])
    const events = (await store.events()).rows
    expect(events.map(({ reason }) => reason)).toEqual(['seats_full'])
    await elsewhere.import(input({ seatLimit: 1 }))
    expect(await provision(ports(store, here), arriving)).toMatchObject({ outcome: 'created', joined: ['o'] })
  })

  check('an import between plan and commit: planned again', async ({ store, here, elsewhere }) => {
    const arriving = await identity(here)
    const conflicts: unknown[] = []
    let imported = false
    const raced: Store = {
      ...store,
      commit: async (changes) => {
        if (!imported) {
          imported = true
          await elsewhere.import(input({ status: 'suspended' }))
        }
        const result = await store.commit(changes)
        if (!result.committed) conflicts.push(result.conflict)
        return result
      },
    }
    await expect(provision(ports(raced, here), arriving)).rejects.toMatchObject({
      code: 'organization_suspended',
    })
    expect(conflicts).toEqual([
      { kind: 'guard', guard: { guard: 'organization', id: 'o', version: expect.any(String) } },
    ])
    expect((await store.users()).rows).toEqual([])

    await elsewhere.import(input({ roles: ['member', 'owner', 'admin', 'viewer', 'new'] }))
    imported = false
    const again: Store = {
      ...raced,
      commit: async (changes) => {
        if (!imported) {
          imported = true
          await elsewhere.import(input({ name: 'O II' }))
        }
        return store.commit(changes)
      },
    }
    expect(await provision(ports(again, here), arriving)).toMatchObject({ outcome: 'created', joined: ['o'] })
    expect(await memberships(store)).toEqual([[['member']]])
  })

  check('a connection that changed since the sign-in began: told to start again, once', async (world) => {
    const { store, here, elsewhere } = world
    const arriving = await identity(here)
    await elsewhere.import(input({}, { jit: { roles: ['viewer'] } }))
    await expect(provision(ports(store, here), arriving)).rejects.toMatchObject({
      code: 'connection_changed',
      status: 503,
    })
    expect((await store.users()).rows).toEqual([])
    // What was refused made the directory look: the next sign-in begins under the new policy.
    expect(await provision(ports(store, here), await identity(here))).toMatchObject({ granted: ['viewer'] })
  })

  check(
    '[P10] a connection switched off elsewhere lets nobody finish',
    async ({ store, here, elsewhere }) => {
      const arriving = await identity(here)
      await elsewhere.import(input({}, { enabled: false }))
      await expect(provision(ports(store, here), arriving)).rejects.toMatchObject({
        code: 'connection_disabled',
      })
      expect((await store.users()).rows).toEqual([])
      await elsewhere.import(input())
      await here.refresh()
      expect(await provision(ports(store, here), await identity(here))).toMatchObject({ outcome: 'created' })
    },
  )

  check('50 sign-ins while another process changes the organization: each on one policy', async (world) => {
    const { store, here, elsewhere } = world
    const people = await Promise.all(Array.from({ length: 50 }, (_, n) => identity(here, `p${n}`)))
    let going = true
    const importing = (async () => {
      for (let n = 0; going; n++) {
        await elsewhere.import(input({ name: `O ${n}` }))
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    const results = await Promise.allSettled(people.map((person) => provision(ports(store, here), person)))
    going = false
    await importing
    for (const result of results) {
      if (result.status === 'rejected')
        expect(['connection_changed', 'unavailable']).toContain(result.reason.code)
    }
    const signedIn = results.filter(({ status }) => status === 'fulfilled').length
    const { rows } = await store.users({ limit: 1000 })
    expect(rows.length).toBe(signedIn)
    const { organizations } = await store.load({
      ...{ source: 'connection:c', issuer: '', subject: '', email: null },
      organizations: ['o'],
    })
    expect(organizations[0]?.seatsUsed).toBe(signedIn)
    await here.refresh()
    for (const person of people) await provision(ports(store, here), person)
    expect((await store.users({ limit: 1000 })).rows).toHaveLength(50)
  })

  test('an app on it: import first, ways in checked against the strategies, explained', async () => {
    const { store, close } = await factory()
    try {
      const fails = () => Promise.reject(new Error('not part of this test'))
      const oidc: Strategy = { protocol: 'oidc', attemptKey: () => undefined, begin: fails, complete: fails }
      const options = {
        ...{ baseUrl: 'http://localhost', store, lock: memoryLock(), once: memoryOnce(), strategies: [oidc] },
      }
      const social = { id: 'hub', preset: 'github', clientId: 'x', clientSecret: 'y' } as const
      const withSocial = storeDirectory({ store, keys, providers: { social: [social] } })
      expect(() => createJit({ ...options, directory: withSocial })).toThrow(/provider "hub".*"social"/)

      const directory = storeDirectory({ store, keys })
      await directory.import(input())
      const jit = createJit({ ...options, directory })
      const hypothesis = { connection: 'c', subject: 's', claims: { email: 'ann@o.example' } }
      expect(await jit.explain(hypothesis)).toMatchObject({ verdict: 'allow', joined: ['o'] })
    } finally {
      await close()
    }
  })
})

test.each([
  ['no key', [], 'at least one key'],
  ['a key without a name', ['c2hvcnQ=' as never], 'keys.0: its id must be'],
  ['a short key', [{ id: 'k', key: 'c2hvcnQ=' }], '"k" must be 32 bytes'],
  ['a name twice', [keys[0]!, keys[0]!], '"k" is used twice'],
  ['key and name exchanged', [{ id: keys[0]!.key, key: 'k' }], 'keys.0'],
])('keys are refused early: %s', (_, wrong, message) => {
  const store = {} as Store
  const attempt = () => storeDirectory({ store, keys: wrong })
  expect(attempt).toThrow(JitError)
  expect(attempt).toThrow(message)
  expect(attempt).not.toThrow(keys[0]!.key)
  storeDirectory({ store, keys })
})
