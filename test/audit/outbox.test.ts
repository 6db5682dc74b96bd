import {
  createJit,
  type Decision,
  DeliveryError,
  type EventType,
  type Listener,
  type Store,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { describe, expect, test } from 'vitest'
import { eventually } from '../contract/runner.js'
import { change, event } from '../contract/store-world.js'
import { onEveryStore } from '../directory/stores.js'
import { directoryInput } from '../tables/facts.js'
import { type Clock, commit, kit, settle, start } from './kit.js'

interface Taken {
  readonly decision: Decision
  readonly attempt: number
}

/** A listener that keeps what it took; `refuse` says why it takes one not. */
function recorder(parts: Partial<Listener> & { refuse?: (decision: Decision) => unknown } = {}) {
  const { refuse = () => null, ...rest } = parts
  const taken: Taken[] = []
  const tried: string[] = []
  const listener: Listener = {
    id: 'recorder',
    deliver: async (decision, { attempt }) => {
      tried.push(decision.change)
      const why = refuse(decision)
      if (why !== null) throw why
      taken.push({ decision, attempt })
    },
    ...rest,
  }
  return { listener, taken, tried, changes: () => taken.map(({ decision }) => decision.change) }
}

const hour = 3_600_000

onEveryStore((factory) => {
  const check = (
    name: string,
    body: (store: Store, clock: Clock, another: () => Promise<Store>) => Promise<void>,
  ) =>
    test(name, async () => {
      const { store, another, close } = await factory()
      try {
        await store.migrate()
        await body(store, { at: start }, another)
      } finally {
        await close()
      }
    })

  check('every listener is told of each decision once, whole, and never again', async (store, clock) => {
    const [first, second] = [recorder(), recorder({ id: 'second' })]
    const { jit } = kit(store, [first.listener, second.listener], clock)
    await commit(
      store,
      'a',
      { type: 'created', user: 'ann', detail: { x: { z: 1, a: [2] } } },
      { type: 'joined' },
    )
    await commit(store, 'b', { type: 'denied' })
    expect(await jit.background.runOnce()).toEqual({ sealed: 2, delivered: 4, failed: 0 })
    const { rows } = await jit.audit.decisions()
    for (const { taken } of [first, second]) {
      expect(taken.map(({ attempt }) => attempt)).toEqual([1, 1])
      expect(taken.map(({ decision }) => decision).sort((a, b) => (a.change < b.change ? 1 : -1))).toEqual(
        rows,
      )
    }
    clock.at += 100 * hour
    expect(await jit.background.runOnce()).toEqual({ sealed: 0, delivered: 0, failed: 0 })
    const log = await jit.outbox.deliveries({ endpoint: 'second' })
    expect(log.rows).toMatchObject([
      { change: 'b', subject: 'b', state: 'delivered', attempts: 1, log: [{ at: start, error: null }] },
      { change: 'a', subject: 'ann', state: 'delivered' },
    ])
  })

  check('with types, a listener is told of decisions with such a fact alone', async (store, clock) => {
    const some = recorder({ types: ['joined', 'denied'] })
    const { jit } = kit(store, [some.listener], clock)
    await commit(store, 'a', { type: 'created' }, { type: 'joined' })
    await commit(store, 'b', { type: 'created' })
    await commit(store, 'c', { type: 'denied' })
    await settle(jit)
    expect(some.changes().sort()).toEqual(['a', 'c'])
    expect(some.taken[0]!.decision.facts).toHaveLength(2)
  })

  check('a decision from before a listener is not delivered to it', async (store, clock) => {
    await commit(store, 'a', {})
    await settle(kit(store, [], clock).jit)
    const late = recorder()
    const { jit } = kit(store, [late.listener], clock)
    await commit(store, 'b', {})
    await settle(jit)
    expect(late.changes()).toEqual(['b'])
  })

  check('nothing is delivered for what did not commit', async (store, clock) => {
    const all = recorder()
    const { jit } = kit(store, [all.listener], clock)
    await jit.ready()
    const refused = [
      change('version', { expect: [{ user: 'nobody', version: 1 }], events: [event('version', 0)] }),
      change('guard', {
        guards: [{ guard: 'connection', id: 'c', version: 'another' }],
        events: [event('guard', 0)],
      }),
      change('operation', {
        ops: [{ op: 'membership.remove', user: 'nobody', organization: 'o' }],
        events: [event('operation', 0)],
      }),
    ]
    for (const changes of refused) expect((await store.commit(changes)).committed).toBe(false)
    const torn = change('torn', { ops: [{ op: 'nothing known' } as never], events: [event('torn', 0)] })
    await expect(store.commit(torn)).rejects.toThrow()
    await commit(store, 'lands', {})
    await settle(jit)
    expect(all.changes()).toEqual(['lands'])
    expect((await jit.outbox.deliveries()).rows).toHaveLength(1)
  })

  check('one user waits for what failed, in order; another goes on', async (store, clock) => {
    let down = true
    const picky = recorder({
      refuse: ({ user }) => (user === 'ann' && down ? new Error('not now') : null),
    })
    const { jit } = kit(store, [picky.listener], clock)
    for (const n of [1, 2, 3]) {
      await commit(store, `ann ${n}`, { user: 'ann' })
      await commit(store, `ben ${n}`, { user: 'ben' })
    }
    for (let round = 0; round < 3; round++) {
      clock.at += 10_000
      await jit.background.runOnce()
    }
    expect(picky.changes()).toEqual(['ben 1', 'ben 2', 'ben 3'])
    expect(picky.tried.filter((id) => id.startsWith('ann'))).toEqual(expect.arrayContaining(['ann 1']))
    expect(picky.tried).not.toContain('ann 2')
    down = false
    clock.at += hour
    await settle(jit)
    expect(picky.changes().slice(3)).toEqual(['ann 1', 'ann 2', 'ann 3'])
    expect(picky.taken[3]!.attempt).toBeGreaterThan(1)
  })

  check('one listener that fails holds up no other', async (store, clock) => {
    const [broken, sound] = [recorder({ refuse: () => new Error('no') }), recorder({ id: 'sound' })]
    const { jit } = kit(store, [broken.listener, sound.listener], clock)
    for (const n of [1, 2, 3]) await commit(store, `ann ${n}`, { user: 'ann' })
    await jit.background.runOnce()
    expect(sound.changes()).toEqual(['ann 1', 'ann 2', 'ann 3'])
    expect(broken.tried).toEqual(['ann 1'])
  })

  check(
    'retried from 5 seconds to 12 hours, for three days; then dead, told, and out of the way',
    async (store, clock) => {
      const broken = recorder({ refuse: ({ change }) => (change === 'a' ? new Error('HTTP 500') : null) })
      const { jit, log } = kit(store, [broken.listener], clock)
      await commit(store, 'a', { user: 'ann' })
      await commit(store, 'b', { user: 'ann' })
      const pauses: number[] = []
      while (pauses.length < 20) {
        await jit.background.runOnce()
        const { rows } = await jit.outbox.deliveries()
        const delivery = rows.find(({ change }) => change === 'a')!
        expect(delivery.attempts).toBe(broken.tried.filter((id) => id === 'a').length)
        expect(delivery.log.at(-1)).toEqual({ at: clock.at, error: 'HTTP 500' })
        if (delivery.state === 'dead') break
        pauses.push(delivery.dueAt - clock.at)
        clock.at = delivery.dueAt - 1
        expect(await jit.background.runOnce()).toMatchObject({ failed: 0 })
        clock.at = delivery.dueAt
      }
      expect(pauses).toHaveLength(14)
      for (const [index, pause] of pauses.entries()) {
        const middle = Math.min(5_000 * 3 ** index, 12 * hour)
        expect(pause).toBeGreaterThanOrEqual(0.8 * middle)
        expect(pause).toBeLessThanOrEqual(1.2 * middle)
      }
      expect(
        new Set(pauses.map((pause, index) => pause / Math.min(5_000 * 3 ** index, 12 * hour))).size,
      ).toBeGreaterThan(5)
      expect(clock.at - start).toBeGreaterThan(48 * hour)
      expect(clock.at - start).toBeLessThan(96 * hour)

      // In the round that gave up on it, or the next one.
      await settle(jit)
      expect(broken.changes()).toEqual(['b'])
      expect(log.filter(({ level }) => level === 'error').map(({ message }) => message)).toEqual([
        'listener "recorder": change a was not delivered in 15 tries, and is dead: HTTP 500',
      ])
      const dead = await jit.outbox.deliveries({ state: 'dead' })
      expect(dead.rows).toMatchObject([{ endpoint: 'recorder', change: 'a' }])
    },
  )

  check(
    'a receiver that is down is not tried for everybody who waits, in one round',
    async (store, clock) => {
      const { listener, tried } = recorder({ refuse: () => new Error('down') })
      const { jit } = kit(store, [listener], clock)
      for (let n = 0; n < 30; n++) await commit(store, `c${n}`, { user: `user ${n}` })
      expect(await jit.background.runOnce()).toEqual({ sealed: 30, delivered: 0, failed: 8 })
      expect(await jit.background.runOnce()).toMatchObject({ failed: 8 })
      expect(tried).toEqual(Array.from({ length: 16 }, (_, n) => `c${n}`))
    },
  )

  check('a dead delivery is tried again when an operator says so', async (store, clock) => {
    let down = true
    const { listener, changes, tried } = recorder({
      refuse: () => (down ? new DeliveryError('gone', { final: true }) : null),
    })
    const { jit } = kit(store, [listener], clock)
    await commit(store, 'a', {})
    await settle(jit)
    expect(tried).toEqual(['a'])
    expect((await jit.outbox.deliveries({ state: 'dead' })).rows).toHaveLength(1)
    clock.at += 100 * hour
    await settle(jit)
    expect(tried).toEqual(['a'])

    expect(await jit.outbox.retry('recorder', 'a')).toBe(true)
    expect(await jit.outbox.retry('recorder', 'a')).toBe(false)
    await settle(jit)
    expect(tried).toEqual(['a', 'a'])
    expect((await jit.outbox.deliveries({ state: 'dead' })).rows).toHaveLength(1)

    down = false
    expect(await jit.outbox.retry('recorder', 'a')).toBe(true)
    await settle(jit)
    expect(changes()).toEqual(['a'])
    expect(await jit.outbox.retry('recorder', 'a')).toBe(false)
    expect(await jit.outbox.retry('nobody', 'a')).toBe(false)
  })

  check('a listener may say when to come back, for a day at most', async (store, clock) => {
    let seconds = 600
    const { listener } = recorder({ refuse: () => new DeliveryError('later', { retryAfter: seconds }) })
    const { jit } = kit(store, [listener], clock)
    await commit(store, 'a', {})
    const due = async () => {
      await jit.background.runOnce()
      return (await jit.outbox.deliveries()).rows[0]!.dueAt - clock.at
    }
    expect(await due()).toBe(600_000)
    clock.at += 600_000
    seconds = 10 ** 9
    expect(await due()).toBe(24 * hour)
    clock.at += 24 * hour
    // Sooner than we would come back anyway.
    seconds = 1
    expect(await due()).toBeGreaterThan(30_000)
  })

  check(
    'a try that takes too long has failed, is told so, and holds up nobody else',
    async (store, clock) => {
      const told: unknown[] = []
      const done: string[] = []
      const slow: Listener = {
        id: 'slow',
        timeout: 100,
        deliver: async ({ change }, { signal }) => {
          if (change !== 'ann 1') return void done.push(change)
          await new Promise(() => signal.addEventListener('abort', () => told.push(signal.reason)))
        },
      }
      const { jit } = kit(store, [slow], clock)
      for (const n of [1, 2]) {
        await commit(store, `ann ${n}`, { user: 'ann' })
        await commit(store, `ben ${n}`, { user: 'ben' })
      }
      expect(await jit.background.runOnce()).toMatchObject({ delivered: 2, failed: 1 })
      expect(done).toEqual(['ben 1', 'ben 2'])
      expect(told).toHaveLength(1)
      const { rows } = await jit.outbox.deliveries({ state: 'pending' })
      expect(rows.find(({ change }) => change === 'ann 1')!.log).toEqual([
        { at: start, error: 'not done in 100 ms' },
      ])
    },
  )

  check(
    'the process died with the delivery: another makes it, once the claim is over',
    async (store, clock) => {
      const { listener, taken } = recorder({ timeout: 1_000 })
      const { jit } = kit(store, [listener], clock)
      await commit(store, 'a', {})
      // Sealed and claimed by a process that is never heard of again.
      const dying = { ...store, outbox: { ...store.outbox, settle: () => new Promise<boolean>(() => {}) } }
      void kit(dying, [{ ...listener, deliver: async () => {} }], clock).jit.background.runOnce()
      await eventually(async () => (await jit.outbox.deliveries()).rows[0]?.attempts === 1)
      clock.at += 30_999
      expect(await jit.background.runOnce()).toMatchObject({ delivered: 0 })
      clock.at += 1
      expect(await jit.background.runOnce()).toMatchObject({ delivered: 1 })
      expect(taken).toMatchObject([{ attempt: 2, decision: { change: 'a' } }])
    },
  )

  check('a delivery that ends every process that tries it is given up some day', async (store, clock) => {
    const { listener, tried, changes } = recorder()
    const { jit } = kit(store, [listener], clock)
    await commit(store, 'deadly', { user: 'ann' })
    await commit(store, 'next', { user: 'ann' })
    const seal = (await store.trail.unsealed(10)).changes.map((events) => events[0]!.change)
    const deliveries = seal.map((id) => ({ endpoint: 'recorder', change: id, subject: 'ann' }))
    await store.trail.seal({ number: 1, previous: '', hash: 'h', at: start }, seal, deliveries)
    for (let times = 0; times < 15; times++) {
      const [taken] = await store.outbox.take({ endpoint: 'recorder', now: clock.at, lease: 1_000, limit: 1 })
      expect(taken).toMatchObject({ change: 'deadly', attempts: times + 1 })
      clock.at += 1_000
    }
    await settle(jit)
    expect(tried).toEqual(['next'])
    expect(changes()).toEqual(['next'])
    expect((await jit.outbox.deliveries({ state: 'dead' })).rows).toMatchObject([
      { change: 'deadly', log: [{ error: 'no try was ever finished' }] },
    ])
    // By hand it is tried all the same.
    await jit.outbox.retry('recorder', 'deadly')
    await settle(jit)
    expect(changes()).toEqual(['next', 'deadly'])
  })

  check(
    'a store that is away when a delivery is done is asked again, and the delivery is not',
    async (store, clock) => {
      let failures = 2
      const shaky: Store = {
        ...store,
        outbox: {
          ...store.outbox,
          settle: async (result) => {
            if (failures-- > 0) throw new Error('connection lost')
            return store.outbox.settle(result)
          },
        },
      }
      const { listener, taken } = recorder()
      const { jit } = kit(shaky, [listener], clock)
      await commit(store, 'a', {})
      expect(await jit.background.runOnce()).toMatchObject({ delivered: 1 })
      clock.at += hour
      await settle(jit)
      expect(taken).toHaveLength(1)
    },
  )

  check(
    'two processes at once tell of each decision once, each user in order',
    async (store, clock, another) => {
      const order = new Map<string, string[]>()
      const running = new Set<string>()
      const deliver: Listener['deliver'] = async ({ change, user }) => {
        // Never two of one user at a time.
        expect(running.has(user!)).toBe(false)
        running.add(user!)
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 3))
        order.set(user!, [...(order.get(user!) ?? []), change])
        running.delete(user!)
      }
      const both = [store, await another()].map((each) => kit(each, [{ id: 'shared', deliver }], clock).jit)
      const users = Array.from({ length: 12 }, (_, index) => `user ${index}`)
      const told = () => [...order.values()].flat().length
      const expected = new Map(users.map((user) => [user, [1, 2, 3, 4, 5].map((n) => `${user}, ${n}`)]))
      const working = both.map(async (jit) => {
        while (told() < 60) {
          await jit.background.runOnce()
          await new Promise((resolve) => setImmediate(resolve))
        }
      })
      await Promise.all(
        users.map(async (user) => {
          for (const id of expected.get(user)!) await commit(store, id, { user })
        }),
      )
      await Promise.all(working)
      for (const jit of both) await settle(jit)
      expect(new Map([...order].sort())).toEqual(new Map([...expected].sort()))
      const { rows } = await both[0]!.outbox.deliveries({ limit: 1_000 })
      expect(rows.map(({ state, attempts }) => `${state} ${attempts}`)).toEqual(rows.map(() => 'delivered 1'))
      expect(rows).toHaveLength(60)
    },
  )
})

describe('What the delivery log keeps of an error', () => {
  const errors: [what: string, thrown: unknown, kept: string][] = [
    ['its words', new Error('HTTP 503'), 'HTTP 503'],
    ['its code', Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }), 'connect: ECONNREFUSED'],
    [
      'the code of what is underneath',
      new TypeError('fetch failed', { cause: { code: 'ENOTFOUND' } }),
      'fetch failed: ENOTFOUND',
    ],
    ['nothing of an answer', new Error('HTTP 422: {"email":"ann@o.example"}'), 'HTTP 422:'],
    ['one line', new Error('refused\nauthorization: Bearer x'), 'refused'],
    ['200 characters', new Error('x'.repeat(5_000)), 'x'.repeat(200)],
    ['its name, where it has no words', new TypeError(''), 'TypeError'],
    ['nothing of what is no error', { password: 'x' }, 'something that is no Error was thrown'],
    ['nothing of nothing', undefined, 'an unknown error'],
  ]
  test.each(errors)('%s', async (_, thrown, kept) => {
    const store = memoryStore()
    const { jit } = kit(store, [recorder({ refuse: () => thrown }).listener])
    await commit(store, 'a', {})
    await jit.background.runOnce()
    expect((await jit.outbox.deliveries()).rows[0]!.log.map(({ error }) => error)).toEqual([kept])
  })

  test('nor does a listener that throws before it is asynchronous end anything', async () => {
    const store = memoryStore()
    const deliver = () => {
      throw new Error('at once')
    }
    const { jit } = kit(store, [{ id: 'hasty', deliver }])
    await commit(store, 'a', {})
    expect(await jit.background.runOnce()).toMatchObject({ failed: 1 })
  })
})

describe('Listeners are checked at start', () => {
  const deliver = async () => {}
  const withListeners = (listeners: unknown) => () =>
    createJit({
      baseUrl: 'http://localhost',
      store: memoryStore(),
      lock: memoryLock(),
      once: memoryOnce(),
      directory: staticDirectory({ organizations: directoryInput.organizations }),
      strategies: [{ protocol: 'email', send: deliver, redeem: deliver } as never],
      listeners: listeners as Listener[],
      log: () => {},
    })

  test('two of different ids, with types and a limit, are taken', () => {
    const listeners = [
      { id: 'crm', deliver },
      { id: 'audit.log_2', types: ['granted', 'revoked'] satisfies EventType[], timeout: 60_000, deliver },
    ]
    expect(withListeners(listeners)).not.toThrow()
    class Mailer {
      id = 'mailer'
      async deliver() {}
    }
    expect(withListeners([new Mailer()])).not.toThrow()
  })

  const wrong: [unknown, RegExp][] = [
    [
      [
        { id: 'crm', deliver },
        { id: 'x', deliver },
        { id: 'crm', deliver },
      ],
      /listeners\.2\.id: the id "crm" is used twice/,
    ],
    [[{ id: '', deliver }], /listeners\.0\.id: letters/],
    [[{ id: 'a b', deliver }], /listeners\.0\.id: letters/],
    [[{ id: 'a' }], /listeners\.0\.deliver: a function/],
    [[{ id: 'a', types: ['grant'], deliver }], /listeners\.0\.types\.0: .*"granted"/],
    [[{ id: 'a', types: [], deliver }], /listeners\.0\.types: at least one type/],
    [[{ id: 'a', timeout: 0, deliver }], /listeners\.0\.timeout/],
    [[{ id: 'a', timeout: 60_001, deliver }], /listeners\.0\.timeout/],
    [{}, /listeners: /],
  ]
  test.each(wrong)('%j is refused, naming the key', (listeners, message) => {
    expect(withListeners(listeners)).toThrow(
      expect.objectContaining({ code: 'config_invalid', message: expect.stringMatching(message) }),
    )
  })
})
