import { type AssertedIdentity, assertIdentity, type OnConflict, type Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { beforeEach, describe, expect, test } from 'vitest'
import { type Provisioned, type ProvisionPorts, provision } from '../../lib/provision.js'
import { prepared } from '../rig/ports.js'
import { entries, type Given } from '../tables/facts.js'

let store: Store
let ports: ProvisionPorts
let warnings: string[]

async function setUp(given: Pick<Given, 'connection' | 'organization'> = {}, on: Store = memoryStore()) {
  store = on
  warnings = []
  const { directory } = await entries(given.connection, given.organization)
  ports = { ...(await prepared(store, directory)), warn: (message) => warnings.push(message) }
}
beforeEach(() => setUp())

async function identity(subject: string, more: { email?: string; profile?: Record<string, string> } = {}) {
  return assertIdentity({
    source: 'connection:c',
    sourceVersion: (await ports.directory.connection('c'))!.version,
    issuer: 'https://idp.example',
    subject,
    email: `${subject}@o.example`,
    profile: { name: subject },
    at: Date.now(),
    ...more,
  })
}
const signIn = async (
  who: AssertedIdentity,
  onConflict: OnConflict | null,
  more: Partial<ProvisionPorts> = {},
) => (await provision({ ...ports, onConflict, ...more }, who)) as Provisioned

/** An organization whose only seat Ann has. */
const full = () =>
  setUp({ organization: { seatLimit: 1 } }).then(() => identity('ann').then((ann) => signIn(ann, null)))

/** Ann's identity becomes another's while her sign-in is about to be committed. */
async function movedOnCommit() {
  const [ann, bob] = [await identity('ann'), await identity('bob')]
  const [first, second] = [await signIn(ann, null), await signIn(bob, null)]
  const [from, to] = [first.after.user, second.after.user]
  const { source, issuer, subject } = ann
  let moved = false
  const moving: Store = {
    ...store,
    commit: async (changes) => {
      if (!moved) {
        moved = true
        const ops = [
          { op: 'identity.unlink', user: from.id, source, issuer, subject },
          { op: 'identity.link', user: to.id, source, issuer, subject, at: 1 },
        ] as const
        const expect = [from, to].map(({ id, version }) => ({ user: id, version }))
        await store.commit({ id: 'moved', expect, guards: [], ops, events: [] })
      }
      return store.commit(changes)
    },
  }
  return { moving, from, to }
}

const never = () => new Promise<never>(() => {})

describe('What the hook answers', () => {
  test('an outcome that the rules allow is taken', async () => {
    await full()
    const bob = await identity('bob')
    await expect(signIn(bob, () => 'deny')).rejects.toMatchObject({ code: 'seats_full' })
    const done = await signIn(bob, () => 'join-without-seat')
    expect(done).toMatchObject({ joined: ['o'], after: { membership: { seat: false } } })
    expect(warnings).toEqual([])
  })

  test('nothing leaves it to the policy', async () => {
    await full()
    await expect(signIn(await identity('bob'), () => undefined)).rejects.toMatchObject({ code: 'seats_full' })
    expect(warnings).toEqual([])
  })

  test('it is told what is at stake, and cannot change it', async () => {
    await full()
    let asked: unknown
    const bob = await identity('bob')
    await signIn(bob, (conflict) => {
      asked = { ...conflict }
      expect(() => Object.assign(conflict.identity.profile, { name: 'Eve' })).toThrow(TypeError)
      return 'join-without-seat'
    })
    expect(asked).toEqual({
      kind: 'seats_full',
      attribute: null,
      outcomes: ['deny', 'join-without-seat'],
      user: null,
      organization: 'o',
      identity: bob,
    })
  })

  test.each<[string, OnConflict, RegExp]>([
    [
      'an outcome of another conflict',
      () => 'adopt',
      /answered none of deny, join-without-seat about seats_full/,
    ],
    ['a word of no conflict', () => 'owner' as never, /answered none of/],
    ['an object', () => ({ toString: () => 'join-without-seat' }) as never, /answered none of/],
    ['null', () => null as never, /answered none of/],
    [
      'an error, at once',
      () => {
        throw new Error('database away')
      },
      /failed \(database away\) about seats_full; the policy says "deny"/,
    ],
    ['an error, later', async () => Promise.reject(new Error('database away')), /failed \(database away\)/],
    ['something thrown that is no error', async () => Promise.reject('secret'), /failed \(string\)/],
  ])('%s: the policy’s outcome stands, and a line is logged', async (_, hook, line) => {
    await full()
    await expect(signIn(await identity('bob'), hook)).rejects.toMatchObject({ code: 'seats_full' })
    expect(warnings).toEqual([expect.stringMatching(line)])
  })

  test('hanging: the policy’s outcome stands after a second, for all conflicts of the sign-in together', async () => {
    const connection = { attributes: { email: 'email', groups: 'groups', a: 'a', b: 'b', c: 'c' } }
    await setUp({ connection })
    await signIn(await identity('ann', { profile: { a: '1', b: '1', c: '1' } }), null)
    const began = performance.now()
    let asked = 0
    const done = await signIn(await identity('ann', { profile: { a: '2', b: '2', c: '2' } }), () => {
      asked += 1
      return never()
    })
    expect(performance.now() - began).toBeLessThan(3_000)
    expect({ ...done.after.user.attributes }).toEqual({ a: '2', b: '2', c: '2' })
    expect(asked, 'nobody is asked whose answer nobody can wait for').toBe(1)
    expect(warnings).toEqual([
      expect.stringContaining('failed (it took too long) about attribute_differs:a'),
      expect.stringContaining('had no time left about attribute_differs:b'),
      expect.stringContaining('had no time left about attribute_differs:c'),
    ])
  })

  test('P24 hanging: that second is one for all rounds, also where a plan made anew asks about another account', async () => {
    const { moving, from } = await movedOnCommit()
    const asked: (string | null)[] = []
    const hook: OnConflict = ({ user }) => {
      asked.push(user)
      return never()
    }
    await signIn(await identity('ann', { profile: { name: 'Renamed' } }), hook, { store: moving })
    expect(asked).toEqual([from.id])
    expect(warnings).toEqual([
      expect.stringContaining('failed (it took too long) about attribute_differs:name'),
      expect.stringContaining('had no time left about attribute_differs:name'),
    ])
  })

  test('a hook that hangs does not outlast the request’s own deadline', async () => {
    await full()
    const began = performance.now()
    const until = performance.now() + 300
    const refused = provision({ ...ports, onConflict: never }, await identity('bob'), { until })
    await expect(refused).rejects.toBeDefined()
    expect(performance.now() - began).toBeLessThan(900)
  })
})

describe('When it is asked', () => {
  test('once for each conflict, however often the sign-in is planned again', async () => {
    await full()
    let commits = 0
    const busy: Store = {
      ...store,
      commit: async (changes) => {
        commits += 1
        return commits < 4
          ? { committed: false, conflict: { kind: 'busy', detail: '40001' } }
          : store.commit(changes)
      },
    }
    const asked: string[] = []
    const hook: OnConflict = ({ kind }) => {
      asked.push(kind)
      return 'join-without-seat'
    }
    const done = await signIn(await identity('bob'), hook, { store: busy })
    expect([commits, asked, done.after.membership?.seat]).toEqual([4, ['seats_full'], false])
  })

  test('about a conflict that shows only when it is planned again', async () => {
    await setUp({ organization: { seatLimit: 1 } })
    const ann = await identity('ann')
    let raced = false
    const raced_: Store = {
      ...store,
      commit: async (changes) => {
        if (raced) return store.commit(changes)
        raced = true
        await signIn(ann, null)
        return store.commit(changes)
      },
    }
    const asked: string[] = []
    const hook: OnConflict = ({ kind }) => {
      asked.push(kind)
      return 'join-without-seat'
    }
    const done = await signIn(await identity('bob'), hook, { store: raced_ })
    expect([asked, done.after.membership?.seat]).toEqual([['seats_full'], false])
  })

  test('about one account: if the identity is another’s by the time of the commit, it is asked about that one', async () => {
    const { moving, from, to } = await movedOnCommit()
    const asked: (string | null)[] = []
    const hook: OnConflict = ({ user }) => {
      asked.push(user)
      return user === from.id ? 'idp' : 'app'
    }
    const done = await signIn(await identity('ann', { profile: { name: 'Renamed' } }), hook, {
      store: moving,
    })
    expect(asked).toEqual([from.id, to.id])
    expect([done.after.user.id, done.after.user.attributes.name]).toEqual([to.id, 'bob'])
  })

  test('before anything is written or locked, and never while a commit is under way', async () => {
    await full()
    const steps: string[] = []
    const watched: Store = {
      ...store,
      load: (query) => {
        steps.push('load')
        return store.load(query)
      },
      commit: async (changes) => {
        steps.push('commit')
        const result = await store.commit(changes)
        steps.push('committed')
        return result
      },
    }
    const hook: OnConflict = async () => {
      steps.push('asked')
      await new Promise((resolve) => setImmediate(resolve))
      steps.push('answered')
      return 'join-without-seat' as const
    }
    const { acquire } = ports.lock
    const lock: ProvisionPorts['lock'] = {
      acquire: (key, options) => {
        steps.push('lock')
        return acquire(key, options)
      },
    }
    await signIn(await identity('bob'), hook, { store: watched, lock })
    expect(steps).toEqual(['load', 'asked', 'answered', 'lock', 'commit', 'committed'])
  })

  test('never without a conflict, and never for a sign-in that changes nothing', async () => {
    const hook: OnConflict = () => {
      throw new Error('asked')
    }
    expect((await signIn(await identity('ann'), hook)).outcome).toBe('created')
    expect((await signIn(await identity('ann'), hook)).outcome).toBe('unchanged')
    expect(warnings).toEqual([])
  })

  test('it reads what was committed before, so it may ask the store itself', async () => {
    await full()
    const done = await signIn(await identity('bob'), async () => {
      const { rows } = await store.users()
      return rows.length === 1 ? 'join-without-seat' : 'deny'
    })
    expect(done.joined).toEqual(['o'])
  })
})

describe('Each conflict, chosen against the policy', () => {
  test('attribute_differs: attribute by attribute', async () => {
    await setUp({ connection: { attributes: { email: 'email', groups: 'groups', a: 'a', b: 'b' } } })
    await signIn(await identity('ann', { profile: { a: '1', b: '1' } }), null)
    const done = await signIn(await identity('ann', { profile: { a: '2', b: '2' } }), (conflict) =>
      conflict.attribute === 'a' ? 'app' : 'idp',
    )
    expect({ ...done.after.user.attributes }).toEqual({ a: '1', b: '2' })
  })

  test('address_changed', async () => {
    await signIn(await identity('ann'), null)
    const moved = await identity('ann', { email: 'ann@acquired.example', profile: { name: 'ann' } })
    expect((await signIn(moved, null)).after.user.verifiedEmail).toBe('ann@o.example')
    expect((await signIn(moved, () => 'adopt')).after.user.verifiedEmail).toBe('ann@acquired.example')
  })

  test('subject_changed', async () => {
    await setUp({ connection: { subjectMigration: { until: '2100-01-01T00:00:00Z' } } })
    await signIn(await identity('ann'), null)
    const other = await identity('ann-2', { email: 'ann@o.example', profile: { name: 'ann' } })
    await expect(signIn(other, () => 'refuse')).rejects.toMatchObject({ code: 'subject_changed' })
    expect((await signIn(other, null)).reason).toBe('subject_migrated')
  })
})
