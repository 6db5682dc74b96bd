import assert from 'node:assert/strict'
import type { Change, Seal, Store } from 'passport-jit'
import { canonical, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { many, races } from './store-races.js'
import { at, change, event, foundation, landed, userCreate } from './store-world.js'

/** A seal as the store keeps it; whether its hash is right is for others to say. */
export const sealOf = (number: number, parts: Partial<Seal> = {}): Seal => ({
  number,
  previous: number === 1 ? '' : `hash ${number - 1}`,
  hash: `hash ${number}`,
  at: at + number,
  ...parts,
})

/** Commits a change of two events for each id. */
export async function recorded(store: Store, ...ids: string[]): Promise<void> {
  for (const id of ids) {
    const events = [event(id, 1), event(id, 0, { user: id })]
    await landed(store.commit(change(id, { events })))
  }
}

const shape = (changes: readonly Change[]) =>
  changes.map((events) => events.map((e) => `${e.change}.${e.seq}`))

const both = (...ids: string[]) => ids.map((id) => [`${id}.0`, `${id}.1`])

/** Seals: each change once, in one lasting order, and with its deliveries or not at all. */
export function trail(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  const race = races(runner, factory)
  const founded = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await foundation(store)
      await body(store)
    })
  const deliveriesOf = (changes: readonly string[], endpoint = 'hook') =>
    changes.map((id) => ({ endpoint, change: id, subject: `subject of ${id}` }))
  const state = async (store: Store) =>
    canonical([
      await store.trail.unsealed(1000),
      await store.trail.sealed(0, 1000),
      await store.outbox.deliveries({ limit: 1000 }),
    ])

  founded('changes without a seal come whole, in the order of their commits', async ({ trail, ...store }) => {
    assert.deepEqual(await trail.unsealed(10), { last: null, changes: [] })
    await recorded({ trail, ...store }, 'c', 'a', 'b')
    await landed(store.commit(change('silent', { ops: [userCreate('nobody')] })))
    const { last, changes } = await trail.unsealed(10)
    assert.equal(last, null)
    assert.deepEqual(shape(changes), both('c', 'a', 'b'))
    assert.deepEqual(shape((await trail.unsealed(2)).changes), both('c', 'a'))
    const { rows } = await store.events()
    assert.deepEqual(canonical(changes.flat()), canonical(rows))
  })

  founded('a seal is kept with its changes, in the order it was given', async (store) => {
    const { trail } = store
    await recorded(store, 'a', 'b', 'c', 'd')
    assert.equal(await trail.seal(sealOf(1), ['c', 'a'], []), true)
    assert.deepEqual(await trail.unsealed(10).then(({ last, changes }) => [last, shape(changes)]), [
      sealOf(1),
      both('b', 'd'),
    ])
    await recorded(store, 'e')
    assert.equal(await trail.seal(sealOf(2, { hash: `ž'"\\`, at: 0 }), ['e', 'b'], []), true)
    assert.deepEqual((await trail.unsealed(10)).last, sealOf(2, { hash: `ž'"\\`, at: 0 }))
    const seals = await trail.sealed(0, 10)
    assert.deepEqual(
      seals.map(({ seal }) => seal),
      [sealOf(1), sealOf(2, { hash: `ž'"\\`, at: 0 })],
    )
    assert.deepEqual(
      seals.map(({ changes }) => shape(changes)),
      [both('c', 'a'), both('e', 'b')],
    )
    const { rows } = await store.events({ user: 'c' })
    assert.deepEqual(canonical(seals[0]!.changes[0]), canonical(rows))
  })

  founded('seals are read on from any number', async (store) => {
    const { trail } = store
    const ids = many(12).map((n) => `c${n}`)
    await recorded(store, ...ids)
    for (const [index, id] of ids.entries()) assert.ok(await trail.seal(sealOf(index + 1), [id], []))
    const numbers = async (after: number, limit: number) =>
      (await trail.sealed(after, limit)).map(({ seal }) => seal.number)
    assert.deepEqual(await numbers(0, 3), [1, 2, 3])
    assert.deepEqual(await numbers(8, 3), [9, 10, 11])
    assert.deepEqual(await numbers(11, 3), [12])
    assert.deepEqual(await numbers(12, 3), [])
    assert.deepEqual(await trail.unsealed(1), { last: sealOf(12), changes: [] })
  })

  founded('a seal makes a pending delivery of each change for each endpoint', async (store) => {
    await recorded(store, 'a', 'b', 'c')
    const deliveries = [...deliveriesOf(['a', 'b']), ...deliveriesOf(['b'], 'other')]
    assert.ok(await store.trail.seal(sealOf(1), ['a', 'b', 'c'], deliveries))
    const { rows } = await store.outbox.deliveries({})
    const made = rows.map(({ dueAt, ...row }) => row)
    assert.deepEqual(
      canonical(made),
      canonical(deliveries.map((row) => ({ ...row, state: 'pending', attempts: 0, log: [] }))),
    )
    for (const { dueAt } of rows) assert.ok(dueAt <= sealOf(1).at)
  })

  for (const [name, seal, changes] of [
    ['whose number is taken', sealOf(1), ['b', 'c']],
    ['over a change that is sealed', sealOf(2), ['b', 'a', 'c']],
    ['over one change twice', sealOf(2), ['b', 'c', 'b']],
    ['over a change that never landed', sealOf(2), ['b', 'none', 'c']],
  ] as const) {
    founded(`a seal ${name} leaves nothing`, async (store) => {
      await recorded(store, 'a', 'b', 'c')
      assert.ok(await store.trail.seal(sealOf(1), ['a'], deliveriesOf(['a'])))
      const before = await state(store)
      assert.equal(await store.trail.seal(seal, changes, deliveriesOf(changes)), false)
      assert.deepEqual(await state(store), before)
      assert.ok(await store.trail.seal(sealOf(2), ['b', 'c'], deliveriesOf(['b', 'c'])))
    })
  }

  founded('a delivery of what the seal is not over is thrown, and leaves nothing', async (store) => {
    await recorded(store, 'a', 'b')
    const before = await state(store)
    for (const stray of ['b', 'none']) {
      await assert.rejects(store.trail.seal(sealOf(1), ['a'], deliveriesOf(['a', stray])))
      assert.deepEqual(await state(store), before)
    }
    assert.ok(await store.trail.seal(sealOf(1), ['a'], deliveriesOf(['a'])))
  })

  race('of 20 seals with one number, one is kept', async (store, next) => {
    const ids = many(20).map((n) => `c${n}`)
    await recorded(store, ...ids)
    const results = await Promise.all(
      ids.map((id) => next().trail.seal(sealOf(1, { hash: id }), [id], deliveriesOf([id]))),
    )
    assert.equal(results.filter(Boolean).length, 1)
    const winner = ids[results.indexOf(true)]!
    const sealed = await store.trail.sealed(0, 100)
    assert.deepEqual(
      sealed.map(({ seal, changes }) => [seal.hash, shape(changes)]),
      [[winner, both(winner)]],
    )
    assert.equal((await store.trail.unsealed(100)).changes.length, 19)
    assert.deepEqual(
      (await store.outbox.deliveries({})).rows.map((row) => row.change),
      [winner],
    )
  })

  race('of 20 seals over one change, one is kept', async (store, next) => {
    const ids = many(20).map((n) => `c${n}`)
    await recorded(store, 'shared', ...ids)
    const results = await Promise.all(
      ids.map((id, n) => next().trail.seal(sealOf(n + 1), n % 2 ? [id, 'shared'] : ['shared', id], [])),
    )
    assert.equal(results.filter(Boolean).length, 1)
    const sealed = await store.trail.sealed(0, 100)
    assert.deepEqual(
      sealed.map(({ seal }) => seal.number),
      [results.indexOf(true) + 1],
    )
    assert.equal((await store.trail.unsealed(100)).changes.length, 19)
  })

  race('sealers among committers seal each change once, without a gap', async (store, next) => {
    const ids = many(60).map((n) => `c${n}`)
    let done = false
    const sealer = async () => {
      for (;;) {
        const { trail } = next()
        const over = done
        const { last, changes } = await trail.unsealed(7)
        const batch = changes.map((events) => events[0]!.change)
        if (batch.length === 0 && over) return
        if (batch.length > 0) await trail.seal(sealOf((last?.number ?? 0) + 1), batch, deliveriesOf(batch))
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const sealers = many(4).map(sealer)
    await Promise.all(
      ids.map((id) => landed(next().commit(change(id, { events: [event(id, 0), event(id, 1)] })))),
    )
    done = true
    await Promise.all(sealers)
    const sealed = await store.trail.sealed(0, 1000)
    assert.deepEqual(
      sealed.map(({ seal }) => seal.number),
      sealed.map((_, index) => index + 1),
    )
    const changes = sealed.flatMap((entry) => entry.changes)
    assert.deepEqual(canonical(shape(changes)), canonical(both(...ids)))
    const order = changes.map((events) => events[0]!.change)
    const { rows } = await store.outbox.deliveries({ limit: 1000 })
    assert.deepEqual(
      rows.map((row) => row.change),
      [...order].reverse(),
    )
  })

  race('what is sealed is whole to every reader', async (store, next) => {
    const ids = many(40).map((n) => `c${n}`)
    await recorded(store, ...ids)
    let done = false
    const reader = (async () => {
      while (!done) {
        const [sealed, { last, changes }] = await Promise.all([
          next().trail.sealed(0, 100),
          next().trail.unsealed(100),
        ])
        for (const entry of sealed) assert.equal(entry.changes.length, 4)
        assert.equal(changes.length, 40 - (last?.number ?? 0) * 4)
        await new Promise((resolve) => setImmediate(resolve))
      }
    })()
    for (let number = 1; number <= 10; number++) {
      const batch = ids.slice((number - 1) * 4, number * 4)
      assert.ok(await next().trail.seal(sealOf(number), batch, deliveriesOf(batch)))
    }
    done = true
    await reader
  })
}
