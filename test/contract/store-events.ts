import assert from 'node:assert/strict'
import type { AuditEvent, EventQuery, Store } from 'passport-jit'
import { canonical, everyPage, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { change, event, foundation, landed } from './store-world.js'

const same = (actual: unknown, expected: unknown) => assert.deepEqual(canonical(actual), canonical(expected))

/** Changes by page, each as the places of its events. */
async function pages(store: Store, query: EventQuery): Promise<(readonly [string, readonly number[]])[][]> {
  const found = await everyPage((from) => store.events({ ...query, ...from }))
  return found.map((rows) => {
    const changes = [...new Set(rows.map((row) => row.change))]
    return changes.map((id) => [id, rows.filter((row) => row.change === id).map(({ seq }) => seq)])
  })
}

/** Tier one, continued: the audit trail as it is read. */
export function auditEvents(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)

  check('events come back whole', async ({ store }) => {
    await foundation(store)
    const full: AuditEvent = event('full', 0, {
      type: 'granted',
      user: 'gone',
      organization: 'unknown',
      source: 'connection:acme-saml',
      actor: `o'hara 漢`,
      reason: 'user_provisioned',
      detail: {
        role: 'member',
        trace: [{ rule: 'roles', finding: 'changed', detail: 'member by group "ž"' }],
        nested: { list: [1, 2.5, null, true, 'x'], empty: {} },
      },
    })
    await landed(store.commit(change('full', { events: [full, event('full', 1)] })))
    const { rows, next } = await store.events()
    assert.equal(next, null)
    assert.deepEqual(
      rows.map(({ seq }) => seq),
      [0, 1],
    )
    same(rows, [full, event('full', 1)])
  })

  check('events come by whole changes, the newest first, page by page', async ({ store }) => {
    await foundation(store)
    const ids = ['c', 'a', 'e', 'b', 'd']
    for (const [index, id] of ids.entries()) {
      const events = Array.from({ length: index + 1 }, (_, seq) => event(id, seq, { at: 1_000 - index }))
      await landed(store.commit(change(id, { events: [...events].reverse() })))
    }
    const expected = ids
      .map((id, index) => [id, Array.from({ length: index + 1 }, (_, n) => n)] as const)
      .reverse()
    for (const limit of [1, 2, 5, 100]) {
      const seen = await pages(store, { limit })
      assert.equal(seen.length, Math.ceil(ids.length / limit))
      assert.deepEqual(seen.flat(), expected)
    }
    assert.deepEqual(await store.events({ after: 'unknown' }), { rows: [], next: null })
  })

  /** Five changes, whose events differ in one key at a time. */
  const filled = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await foundation(store)
      const base: Partial<AuditEvent> = {
        ...{ type: 'granted', user: 'alice', organization: 'acme', source: 'connection:acme-saml' },
        at: 1_000,
      }
      const changes: Record<string, Partial<AuditEvent>[]> = {
        first: [{ ...base }, { ...base, user: 'bob' }, { ...base, type: 'joined', organization: 'globex' }],
        second: [
          { ...base, source: 'provider:github', at: 2_000 },
          { ...base, user: null },
        ],
        third: [{ ...base, organization: 'globex', at: 3_000 }],
        fourth: [{ ...base, user: 'bob', type: 'joined', source: null, at: 500 }],
        fifth: [
          { ...base, type: 'joined', at: 4_000 },
          { ...base, at: 4_000, user: 'Alice' },
        ],
      }
      for (const [id, events] of Object.entries(changes)) {
        await landed(store.commit(change(id, { events: events.map((parts, seq) => event(id, seq, parts)) })))
      }
      await body(store)
    })

  filled('a query finds the changes with an event that matches every key', async (store) => {
    const github = { source: 'provider:github' } as const
    for (const [query, ...ids] of [
      [{ user: 'alice' }, 'fifth', 'third', 'second', 'first'],
      [{ user: 'bob' }, 'fourth', 'first'],
      [{ user: 'Alice' }, 'fifth'],
      [{ user: 'nobody' }],
      [{ user: 'ali%' }],
      [{ user: '' }],
      [{ organization: 'globex' }, 'third', 'first'],
      [{ organization: 'umbrella' }],
      [{ source: 'connection:acme-saml' }, 'fifth', 'third', 'second', 'first'],
      [github, 'second'],
      [{ source: 'provider:acme-saml' }],
      [{ type: 'joined' }, 'fifth', 'fourth', 'first'],
      [{ type: 'withdrawn' }],
      [{ from: 2_000 }, 'fifth', 'third', 'second'],
      [{ from: 2_001 }, 'fifth', 'third'],
      [{ to: 1_000 }, 'fourth'],
      [{ to: 1_001 }, 'fourth', 'second', 'first'],
      [{ from: 1_000, to: 3_000 }, 'second', 'first'],
      [{ from: 3_000, to: 3_000 }],
      [{ user: 'bob', organization: 'globex' }],
      [{ user: 'alice', organization: 'globex' }, 'third', 'first'],
      [{ user: 'bob', type: 'joined' }, 'fourth'],
      [{ user: 'alice', ...github, from: 1_500 }, 'second'],
      [{ user: 'alice', ...github, to: 2_000 }],
      [
        { user: 'alice', organization: 'globex', type: 'joined', source: 'connection:acme-saml', to: 1_001 },
        'first',
      ],
    ] as [EventQuery, ...string[]][]) {
      const found = (await pages(store, query)).flat().map(([id]) => id)
      assert.deepEqual(found, ids, JSON.stringify(query))
    }
  })

  filled('of a change that matches, all events come, and once', async (store) => {
    for (const query of [
      { user: 'bob' },
      { organization: 'acme', from: 1_000 },
      { type: 'joined' },
    ] as const) {
      const whole = new Map((await pages(store, {})).flat())
      for (const [id, places] of (await pages(store, query)).flat()) {
        assert.deepEqual(places, whole.get(id), `${id} of ${JSON.stringify(query)}`)
      }
    }
  })

  filled('a query goes on page by page, from any change', async (store) => {
    const query = { user: 'alice', to: 5_000 }
    const all = (await pages(store, query)).flat()
    assert.equal(all.length, 4)
    for (const limit of [1, 2, 3, 4, 5]) {
      const seen = await pages(store, { ...query, limit })
      assert.equal(seen.length, Math.ceil(4 / limit))
      assert.deepEqual(seen.flat(), all)
    }
    const after = async (id: string) =>
      (await store.events({ ...query, after: id })).rows.map((row) => row.change)
    assert.deepEqual([...new Set(await after('fourth'))], ['third', 'second', 'first'])
    assert.deepEqual(await after('unknown'), [])
  })
}
