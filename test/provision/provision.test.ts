import { type AssertedIdentity, assertIdentity, JitError, type Lock, type Store } from 'passport-jit'
import { memoryLock, memoryStore } from 'passport-jit/stores/memory'
import { beforeEach, describe, expect, test } from 'vitest'
import { type Provisioned, type ProvisionPorts, provision as provisionOrProve } from '../../lib/provision.js'
import { prepared } from '../rig/ports.js'
import { entries } from '../tables/facts.js'

const provision = async (...call: Parameters<typeof provisionOrProve>) =>
  (await provisionOrProve(...call)) as Provisioned

let store: Store
let ports: ProvisionPorts
let calls: string[]

const counted = (inner: Store): Store => ({
  ...inner,
  load: (query) => {
    calls.push('load')
    return inner.load(query)
  },
  commit: (changes) => {
    calls.push('commit')
    return inner.commit(changes)
  },
})

const countedLock = (inner: Lock): Lock => ({
  acquire: (key, options) => {
    calls.push('lock')
    return inner.acquire(key, options)
  },
})

async function setUp() {
  const { directory } = await entries()
  store = memoryStore()
  const plain = await prepared(store, directory)
  calls = []
  ports = { ...plain, store: counted(store), lock: countedLock(memoryLock()) }
}

beforeEach(setUp)

async function identity(subject = 's', email = 'ann@o.example', name = 'Ann'): Promise<AssertedIdentity> {
  return assertIdentity({
    source: 'connection:c',
    sourceVersion: (await ports.directory.connection('c'))!.version,
    issuer: 'https://idp.example',
    subject,
    email,
    profile: { name },
    at: Date.now(),
  })
}

const state = async () => ({ users: (await store.users()).rows, events: (await store.events()).rows })

describe('What the store is asked for', () => {
  test('L06: no address that the connection does not vouch for, so that no answer tells whether it has an account', async () => {
    const emails: (string | null)[] = []
    const asked: Store = {
      ...store,
      load: (query) => {
        emails.push(query.email)
        return store.load(query)
      },
    }
    const foreign = await identity('s', 'ann@elsewhere.example')
    await expect(provision({ ...ports, store: asked }, foreign)).rejects.toBeInstanceOf(JitError)
    await provision({ ...ports, store: asked }, await identity())
    expect(emails).toEqual([null, 'ann@o.example'])
  })
})

describe('Round trips', () => {
  test('a first sign-in: one read, the lock, one write', async () => {
    expect(await provision(ports, await identity())).toMatchObject({ outcome: 'created', joined: ['o'] })
    expect(calls).toEqual(['load', 'lock', 'commit'])
  })

  test('a returning person with nothing changed: one read, no lock, no write', async () => {
    await provision(ports, await identity())
    calls.length = 0
    expect(await provision(ports, await identity())).toMatchObject({ outcome: 'unchanged', decision: null })
    expect(calls).toEqual(['load'])
  })

  test('a refusal: one read, one event, no lock', async () => {
    const before = await state()
    await expect(provision(ports, await identity('s', 'ann@p.example'))).rejects.toMatchObject({
      code: 'email_foreign',
    })
    expect(calls).toEqual(['load', 'commit'])
    const after = await state()
    expect(after.users).toEqual(before.users)
    expect(after.events.map((event) => event.type)).toEqual(['denied'])
  })
})

describe('Races and faults', () => {
  test('100 parallel first sign-ins of one person make one of everything', async () => {
    const proved = await identity()
    const results = await Promise.all(Array.from({ length: 100 }, () => provision(ports, proved)))
    expect(new Set(results.map((result) => result.after.user.id)).size).toBe(1)
    const { users, events } = await state()
    expect(users).toMatchObject([{ identities: [{}], memberships: [{ grants: [{ role: 'member' }] }] }])
    expect(events.filter((event) => event.type === 'created')).toHaveLength(1)
  })

  test('the same without any lock: the constraints alone hold', async () => {
    const unlocked = { ...ports, lock: { acquire: async () => null } }
    const proved = await identity()
    const results = await Promise.all(Array.from({ length: 100 }, () => provision(unlocked, proved)))
    expect(new Set(results.map((result) => result.after.user.id)).size).toBe(1)
    expect((await state()).users).toMatchObject([{ identities: [{}], memberships: [{}] }])
  })

  test('a commit whose answer is lost is found to have landed, and reported as what it was', async () => {
    let lost = 0
    const flaky: Store = {
      ...store,
      commit: async (changes) => {
        await store.commit(changes)
        lost += 1
        throw new Error('connection terminated')
      },
    }
    const done = await provision({ ...ports, store: flaky }, await identity())
    expect(done).toMatchObject({ outcome: 'created', joined: ['o'] })
    expect(lost).toBe(1)
    expect((await state()).users).toHaveLength(1)
  })

  test('P18: a refusal whose answer is lost is the same refusal, and in the trail once', async () => {
    let lost = 0
    const flaky: Store = {
      ...store,
      commit: async (changes) => {
        const result = await store.commit(changes)
        lost += 1
        if (lost > 1) return result
        throw new Error('connection terminated')
      },
    }
    const foreign = await identity('s', 'ann@p.example')
    await expect(provision({ ...ports, store: flaky }, foreign)).rejects.toMatchObject({
      code: 'email_foreign',
    })
    expect(lost).toBe(2)
    expect((await state()).events).toHaveLength(1)
  })

  test('what another session wrote between plan and commit is planned on again', async () => {
    const first = await provision(ports, await identity())
    let interfered = false
    const interfering: Store = {
      ...store,
      commit: async (changes) => {
        if (!interfered) {
          interfered = true
          const { id } = first.after.user
          await store.commit({
            id: 'suspend',
            expect: [{ user: id, version: first.after.user.version }],
            guards: [],
            ops: [{ op: 'user.update', id, set: { status: 'suspended' } }],
            events: [],
          })
        }
        return store.commit(changes)
      },
    }
    const renamed = await identity('s', 'ann@o.example', 'Anna')
    await expect(provision({ ...ports, store: interfering }, renamed)).rejects.toMatchObject({
      code: 'user_suspended',
    })
    expect((await state()).users[0]!.attributes).toEqual({ name: 'Ann' })
  })

  test('a store that never answers: 503 with Retry-After within the deadline, and the lock is freed', async () => {
    const released: string[] = []
    const hung = { ...store, commit: () => new Promise<never>(() => {}) }
    const lock: Lock = {
      acquire: async () => ({ waited: false, release: async () => void released.push('freed') }),
    }
    const began = performance.now()
    const refusal = await provision({ ...ports, store: hung, lock }, await identity()).catch(
      (error: JitError) => error,
    )
    expect(refusal).toBeInstanceOf(JitError)
    expect(refusal).toMatchObject({ code: 'unavailable', status: 503, headers: { 'retry-after': '2' } })
    expect(performance.now() - began).toBeLessThan(6_000)
    expect(released).toEqual(['freed'])
  })

  test('a store that refuses to the end: bounded re-plans, then 503, nothing written', async () => {
    const busy: Store = {
      ...store,
      commit: async () => {
        calls.push('commit')
        return { committed: false, conflict: { kind: 'busy', detail: '40001' } }
      },
    }
    await expect(provision({ ...ports, store: busy }, await identity())).rejects.toMatchObject({
      code: 'unavailable',
    })
    expect(calls.filter((call) => call === 'commit')).toHaveLength(9)
    expect((await state()).users).toEqual([])
  })
})

describe('Its time', () => {
  const soon = () => ({ until: performance.now() + 300 })

  test('P16: a store that never answers a question is given up, and asked by the next sign-in again', async () => {
    const hanging: Store = { ...store, load: () => new Promise(() => {}) }
    await expect(
      provisionOrProve({ ...ports, store: hanging }, await identity(), soon()),
    ).rejects.toMatchObject({ code: 'unavailable' })
    expect(await provision(ports, await identity(), soon())).toMatchObject({ outcome: 'created' })
  })

  test('P17: a store that never answers a commit is given up', async () => {
    const hanging: Store = { ...store, commit: () => new Promise(() => {}) }
    await expect(
      provisionOrProve({ ...ports, store: hanging }, await identity(), soon()),
    ).rejects.toMatchObject({ code: 'unavailable' })
  })

  test('P14: once it is over nothing is written, although the lock was had', async () => {
    const call = soon()
    const slow: Lock = {
      acquire: async (key, options) => {
        while (performance.now() <= call.until) await new Promise(setImmediate)
        return ports.lock.acquire(key, options)
      },
    }
    await expect(provisionOrProve({ ...ports, lock: slow }, await identity(), call)).rejects.toMatchObject({
      code: 'unavailable',
    })
    expect(calls).toEqual(['load', 'lock'])
  })
})

describe('What it takes', () => {
  test.each([
    ['a copy of an identity', async () => ({ ...(await identity()) })],
    ['an object of the same prototype', async () => Object.create(Object.getPrototypeOf(await identity()))],
    ['nothing', async () => undefined],
  ])('%s is refused', async (_, forged) => {
    await expect(provision(ports, (await forged()) as never)).rejects.toMatchObject({
      code: 'identity_unproven',
    })
    expect(calls).toEqual([])
  })

  test('control characters in a name reach no database', async () => {
    const done = await provision(ports, await identity('s', 'ann@o.example', ' A\u0000n\r\nn\u007f '))
    expect(done.after.user.attributes).toEqual({ name: 'A n  n' })
  })

  test('an identity is frozen to its depth', async () => {
    const proved = await identity()
    expect(() => Object.assign(proved, { subject: 'other' })).toThrow(TypeError)
    expect(() => Object.assign(proved.profile, { name: 'other' })).toThrow(TypeError)
  })
})
