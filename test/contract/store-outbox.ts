import assert from 'node:assert/strict'
import type { Delivery, DeliveryState, Store } from 'passport-jit'
import { canonical, everyPage, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { many, races } from './store-races.js'
import { recorded, sealOf } from './store-trail.js'
import { at, foundation } from './store-world.js'

/** Seals changes, named `subject number`, with a delivery of each for each endpoint. */
async function queued(store: Store, names: readonly string[], endpoints = ['hook']): Promise<void> {
  await recorded(store, ...names)
  const { last } = await store.trail.unsealed(0)
  const deliveries = endpoints.flatMap((endpoint) =>
    names.map((name) => ({ endpoint, change: name, subject: name.split(' ')[0]! })),
  )
  assert.ok(await store.trail.seal(sealOf((last?.number ?? 0) + 1), names, deliveries.reverse()))
}

/** Later than every seal. */
const now = at + 1_000_000
const lease = 1_000

/** Deliveries: claimed once at a time, in the order of seals for each subject, until they are done or dead. */
export function outbox(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const race = races(runner, factory)
  const founded = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await foundation(store)
      await body(store)
    })
  const take = (store: Store, parts: { endpoint?: string; now?: number; limit?: number } = {}) =>
    store.outbox.take({ endpoint: 'hook', now, lease, limit: 100, ...parts })
  const names = async (taken: Promise<readonly Delivery[]>) => (await taken).map(({ change }) => change)
  /** Ends a try, which was taken at `now`, as the first of its delivery unless told otherwise. */
  const settle = (
    store: Store,
    change: string,
    state: DeliveryState,
    parts: { attempts?: number; at?: number; error?: string | null; dueAt?: number; endpoint?: string } = {},
  ) => {
    const error = state === 'delivered' ? null : 'refused'
    return store.outbox.settle({
      ...{ endpoint: 'hook', change, attempts: 1, at: now, error, state, dueAt: now + 60_000 },
      ...parts,
    })
  }
  const row = async (store: Store, change: string, endpoint = 'hook') => {
    const { rows } = await store.outbox.deliveries({ endpoint })
    return rows.find((delivery) => delivery.change === change)!
  }
  const state = async (store: Store) => canonical(await store.outbox.deliveries({ limit: 1000 }))

  founded('take claims what is due with its events, for as long as the lease', async (store) => {
    await queued(store, ['alice 1', 'bob 1'])
    assert.deepEqual(await take(store, { endpoint: 'other' }), [])
    const taken = await take(store)
    const { rows } = await store.events({ user: 'alice 1' })
    assert.deepEqual(
      canonical(taken[0]),
      canonical({
        ...{ endpoint: 'hook', change: 'alice 1', subject: 'alice', state: 'pending', attempts: 1, log: [] },
        ...{ dueAt: now + lease, events: rows },
      }),
    )
    assert.deepEqual(
      taken[0]!.events.map(({ seq }) => seq),
      [0, 1],
    )
    assert.equal(taken.length, 2)
    const { events: _, ...delivery } = taken[0]!
    assert.deepEqual(await row(store, 'alice 1'), delivery)
    assert.deepEqual(await take(store), [])
    assert.deepEqual(await take(store, { now: now + lease - 1 }), [])
    const again = await take(store, { now: now + lease })
    assert.deepEqual(
      again.map(({ change, attempts, dueAt }) => [change, attempts, dueAt]),
      [
        ['alice 1', 2, now + 2 * lease],
        ['bob 1', 2, now + 2 * lease],
      ],
    )
  })

  founded('take goes by the order of seals, and of changes within one', async (store) => {
    await queued(store, ['z 1', 'b 1', 'm 1'])
    await queued(store, ['a 1', 'c 1'])
    assert.deepEqual(await names(take(store, { limit: 2 })), ['z 1', 'b 1'])
    assert.deepEqual(await names(take(store, { limit: 2 })), ['m 1', 'a 1'])
    assert.deepEqual(await names(take(store)), ['c 1'])
    assert.deepEqual(await names(take(store, { now: now + lease })), ['z 1', 'b 1', 'm 1', 'a 1', 'c 1'])
  })

  founded('of each subject the oldest pending delivery is taken alone', async (store) => {
    await queued(store, ['alice 2', 'bob 1', 'alice 1'])
    await queued(store, ['bob 2', 'carol 1'])
    assert.deepEqual(await names(take(store)), ['alice 2', 'bob 1', 'carol 1'])
    assert.deepEqual(await names(take(store)), [])
    assert.ok(await settle(store, 'alice 2', 'delivered'))
    assert.deepEqual(await names(take(store)), ['alice 1'])
    assert.ok(await settle(store, 'bob 1', 'delivered'))
    assert.deepEqual(await names(take(store)), ['bob 2'])
    assert.deepEqual(await names(take(store)), [])
  })

  founded('what is not due holds back its subject, and what is dead does not', async (store) => {
    await queued(store, ['alice 1', 'alice 2', 'bob 1', 'bob 2'])
    await take(store)
    assert.ok(await settle(store, 'alice 1', 'pending', { dueAt: now + 60_000 }))
    assert.ok(await settle(store, 'bob 1', 'dead'))
    assert.deepEqual(await names(take(store)), ['bob 2'])
    assert.deepEqual(await names(take(store, { now: now + 59_999 })), ['bob 2'])
    assert.deepEqual(await names(take(store, { now: now + 60_000 })), ['alice 1'])
  })

  founded('endpoints go their own ways', async (store) => {
    await queued(store, ['alice 1', 'alice 2'], ['hook', 'other'])
    assert.deepEqual(await names(take(store)), ['alice 1'])
    assert.ok(await settle(store, 'alice 1', 'delivered'))
    assert.deepEqual(await names(take(store)), ['alice 2'])
    assert.deepEqual(await names(take(store, { endpoint: 'other' })), ['alice 1'])
    assert.equal((await row(store, 'alice 1', 'other')).state, 'pending')
    assert.equal((await row(store, 'alice 2', 'other')).attempts, 0)
  })

  founded('settle ends a try with its state, its time and a line of the log', async (store) => {
    await queued(store, ['alice 1', 'bob 1'])
    await take(store)
    assert.ok(await settle(store, 'alice 1', 'pending', { at: now + 5, error: `ž'"`, dueAt: now + 7_000 }))
    const first = { at: now + 5, error: `ž'"` }
    assert.deepEqual(await row(store, 'alice 1'), {
      ...{ endpoint: 'hook', change: 'alice 1', subject: 'alice', state: 'pending', attempts: 1 },
      ...{ dueAt: now + 7_000, log: [first] },
    })
    await take(store, { now: now + 7_000 })
    assert.ok(await settle(store, 'alice 1', 'delivered', { attempts: 2, at: now + 7_001 }))
    const { state, attempts, log } = await row(store, 'alice 1')
    assert.deepEqual([state, attempts, log], ['delivered', 2, [first, { at: now + 7_001, error: null }]])
    assert.deepEqual(await names(take(store, { now: now + 1e9 })), ['bob 1'])
  })

  founded('the log keeps the last ten tries', async (store) => {
    await queued(store, ['alice 1'])
    for (let attempts = 1; attempts <= 13; attempts++) {
      const [taken] = await take(store, { now: now + attempts })
      assert.equal(taken?.attempts, attempts)
      const parts = { attempts, at: now + attempts, error: `error ${attempts}`, dueAt: now + attempts + 1 }
      assert.ok(await settle(store, 'alice 1', 'pending', parts))
    }
    const { attempts, log } = await row(store, 'alice 1')
    assert.equal(attempts, 13)
    assert.deepEqual(
      log,
      many(10).map((n) => ({ at: now + n + 4, error: `error ${n + 4}` })),
    )
  })

  founded('a try whose claim has passed to another ends nothing', async (store) => {
    await queued(store, ['alice 1', 'bob 1'])
    await take(store)
    await take(store, { now: now + lease })
    const before = await state(store)
    assert.equal(await settle(store, 'alice 1', 'delivered'), false)
    assert.equal(await settle(store, 'alice 1', 'delivered', { attempts: 3 }), false)
    assert.equal(await settle(store, 'alice 1', 'delivered', { attempts: 2, endpoint: 'other' }), false)
    assert.equal(await settle(store, 'none', 'delivered', { attempts: 2 }), false)
    assert.deepEqual(await state(store), before)
    assert.ok(await settle(store, 'alice 1', 'delivered', { attempts: 2 }))
    const after = await state(store)
    for (const ended of ['pending', 'dead', 'delivered'] as const) {
      assert.equal(await settle(store, 'alice 1', ended, { attempts: 2 }), false)
    }
    assert.deepEqual(await state(store), after)
  })

  founded('a dead delivery is tried again, first of its subject', async (store) => {
    await queued(store, ['alice 1', 'alice 2', 'alice 3'])
    await take(store)
    assert.ok(await settle(store, 'alice 1', 'dead'))
    assert.deepEqual(await names(take(store)), ['alice 2'])
    assert.ok(await settle(store, 'alice 2', 'delivered'))
    const before = await state(store)
    for (const [endpoint, change] of [
      ...[['hook', 'alice 2'] as const, ['hook', 'alice 3'] as const],
      ...[['other', 'alice 1'] as const, ['hook', 'none'] as const],
    ]) {
      assert.equal(await store.outbox.again(endpoint, change, now), false)
    }
    assert.deepEqual(await state(store), before)
    assert.equal(await store.outbox.again('hook', 'alice 1', now + 5), true)
    const { state: pending, attempts, dueAt, log } = await row(store, 'alice 1')
    assert.deepEqual([pending, attempts, dueAt, log.length], ['pending', 1, now + 5, 1])
    assert.equal(await store.outbox.again('hook', 'alice 1', now), false)
    assert.deepEqual(await names(take(store, { now: now + 4 })), [])
    assert.deepEqual(await names(take(store, { now: now + 5 })), ['alice 1'])
    assert.equal(await settle(store, 'alice 1', 'delivered'), false)
    assert.ok(await settle(store, 'alice 1', 'delivered', { attempts: 2 }))
    assert.deepEqual(await names(take(store)), ['alice 3'])
  })

  founded('deliveries are listed, the newest first, by endpoint and state, page by page', async (store) => {
    await queued(store, ['a 1', 'b 1', 'c 1'], ['hook', 'other'])
    await queued(store, ['d 1', 'e 1'])
    await take(store, { limit: 4 })
    for (const change of ['a 1', 'b 1', 'd 1']) assert.ok(await settle(store, change, 'dead'))
    assert.ok(await settle(store, 'c 1', 'delivered'))
    const all = ['hook e 1', 'hook d 1', 'hook c 1', 'hook b 1', 'hook a 1']
    for (const [query, ids] of [
      [{ endpoint: 'hook' }, all],
      [{ endpoint: 'hook', state: 'dead' }, ['hook d 1', 'hook b 1', 'hook a 1']],
      [{ state: 'dead' }, ['hook d 1', 'hook b 1', 'hook a 1']],
      [{ endpoint: 'hook', state: 'delivered' }, ['hook c 1']],
      [{ endpoint: 'hook', state: 'pending' }, ['hook e 1']],
      [{ endpoint: 'other' }, ['other c 1', 'other b 1', 'other a 1']],
      [{ endpoint: 'other', state: 'dead' }, []],
      [{ endpoint: 'none' }, []],
    ] as const) {
      for (const limit of [1, 2, 3, 5, 100]) {
        const pages = await everyPage((from) => store.outbox.deliveries({ ...query, limit, ...from }))
        assert.ok(pages.every((rows) => rows.length <= limit))
        assert.equal(pages.length, Math.max(1, Math.ceil(ids.length / limit)))
        const seen = pages.flat().map(({ endpoint, change }) => `${endpoint} ${change}`)
        assert.deepEqual(seen, ids, JSON.stringify(query))
      }
    }
    const { rows } = await store.outbox.deliveries({})
    assert.deepEqual(
      rows.map(({ change }) => change),
      ['e 1', 'd 1', 'c 1', 'c 1', 'b 1', 'b 1', 'a 1', 'a 1'],
    )
  })

  race('of 20 who take at once, one gets each delivery', async (store, next) => {
    const all = many(30).map((n) => `s${n} 1`)
    await queued(store, all)
    const taken = (await Promise.all(many(20).map(() => names(take(next(), { limit: 3 }))))).flat()
    assert.ok(taken.length > 0)
    taken.push(...(await names(take(store))))
    assert.deepEqual([...taken].sort(), [...all].sort())
    for (const { attempts } of (await store.outbox.deliveries({})).rows) assert.equal(attempts, 1)
  })

  race('of 20 who end one try at once, one does', async (store, next) => {
    await queued(store, ['alice 1'])
    await take(store)
    const ends = many(20).map((n) => settle(next(), 'alice 1', n % 2 ? 'delivered' : 'dead', { at: now + n }))
    const results = await Promise.all(ends)
    assert.equal(results.filter(Boolean).length, 1)
    const winner = results.indexOf(true)
    const { state, log } = await row(store, 'alice 1')
    assert.deepEqual([state, log.length], [winner % 2 ? 'delivered' : 'dead', 1])
    assert.equal(log[0]!.at, now + winner)
  })

  race('workers at once deliver each change once, in order for each subject', async (store, next) => {
    const subjects = many(8).map((n) => `s${n}`)
    const order = many(6).flatMap((n) => subjects.map((subject) => `${subject} ${n}`))
    await queued(store, order.slice(0, 20))
    const underWay = new Set<string>()
    const delivered: string[] = []
    const worker = async () => {
      for (let idle = 0; idle < 5; ) {
        const taken = await take(next(), { limit: 2 })
        idle = taken.length === 0 ? idle + 1 : 0
        for (const { subject, attempts } of taken) {
          assert.ok(!underWay.has(subject), `two of ${subject} at once`)
          underWay.add(subject)
          assert.equal(attempts, 1)
        }
        for (const { change, subject } of taken) {
          await new Promise((resolve) => setImmediate(resolve))
          delivered.push(change)
          underWay.delete(subject)
          assert.ok(await settle(next(), change, 'delivered'))
        }
      }
    }
    const workers = many(5).map(worker)
    await queued(next(), order.slice(20))
    await Promise.all(workers)
    await worker()
    assert.equal(delivered.length, order.length)
    for (const subject of subjects) {
      assert.deepEqual(
        delivered.filter((change) => change.startsWith(`${subject} `)),
        many(6).map((n) => `${subject} ${n}`),
      )
    }
  })
}
