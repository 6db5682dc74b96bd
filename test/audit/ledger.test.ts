import { type AuditEvent, assertIdentity, type Decision, type Store, staticDirectory } from 'passport-jit'
import { expect, test } from 'vitest'
import { provision } from '../../lib/provision.js'
import { onEveryStore } from '../directory/stores.js'
import { prepared } from '../rig/ports.js'
import { directoryInput } from '../tables/facts.js'
import { commit, kit, start } from './kit.js'

async function linesOf(lines: AsyncIterable<string>): Promise<Decision[]> {
  let text = ''
  for await (const line of lines) text += line
  expect(text === '' || text.endsWith('\n')).toBe(true)
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

onEveryStore((factory) => {
  const check = (name: string, body: (store: Store, another: () => Promise<Store>) => Promise<void>) =>
    test(name, async () => {
      const { store, another, close } = await factory()
      try {
        await store.migrate()
        await body(store, another)
      } finally {
        await close()
      }
    })

  check('a sign-in and a refusal are a decision each, with who, why and the rules', async (store) => {
    const directory = staticDirectory(directoryInput)
    const ports = await prepared(store, directory)
    const identity = async (email: string) =>
      assertIdentity({
        source: 'connection:c',
        sourceVersion: (await directory.connection('c'))!.version,
        issuer: 'https://idp.example',
        subject: email,
        email,
        at: Date.now(),
      })
    const done = await provision(ports, await identity('ann@o.example'), { correlationId: 'first' })
    await expect(
      provision(ports, await identity('eve@p.example'), { correlationId: 'second' }),
    ).rejects.toMatchObject({ code: 'email_foreign' })

    const { rows, next } = await kit(store).jit.audit.decisions()
    expect(next).toBe(null)
    expect(rows).toMatchObject([
      { correlationId: 'second', reason: 'email_foreign', user: null, facts: [{ type: 'denied' }] },
      {
        correlationId: 'first',
        change: (done as { decision: string }).decision,
        source: 'connection:c',
        organization: 'o',
        reason: 'user_provisioned',
      },
    ])
    expect(rows[1]!.facts.map(({ type }) => type)).toEqual(
      expect.arrayContaining(['created', 'linked', 'joined', 'granted']),
    )
    for (const { trace } of rows) expect(trace.length).toBeGreaterThan(0)
    expect(JSON.stringify(rows)).not.toContain('@')
  })

  const events: [string, ...Partial<AuditEvent>[]][] = [
    ['a', { type: 'created', user: 'ann' }, { type: 'joined', user: 'ann', organization: 'o' }],
    ['b', { type: 'denied', organization: 'o', source: 'connection:c', at: start + 10 }],
    ['c', { type: 'revoked', user: 'ann', organization: 'p', source: 'connection:c', at: start + 20 }],
    ['d', { type: 'suspended', user: 'ben', actor: 'ann', at: start + 30 }],
  ]
  const queries: [Parameters<Store['events']>[0], string[]][] = [
    [{}, ['d', 'c', 'b', 'a']],
    [{ user: 'ann' }, ['c', 'a']],
    [{ organization: 'o' }, ['b', 'a']],
    [{ source: 'connection:c' }, ['c', 'b']],
    [{ type: 'joined' }, ['a']],
    [{ from: start + 10 }, ['d', 'c', 'b']],
    [{ to: start + 10 }, ['a']],
    [{ from: start + 10, to: start + 30, user: 'ann' }, ['c']],
    [{ user: 'nobody' }, []],
  ]
  check('decisions are found by every key, page by page, and exported newest first', async (store) => {
    for (const [id, ...parts] of events) await commit(store, id, ...parts)
    const { audit } = kit(store).jit
    for (const [query, ids] of queries) {
      const all = (await audit.decisions(query)).rows
      expect(all.map(({ change }) => change)).toEqual(ids)
      expect(await linesOf(audit.export(query))).toEqual(all)
      const pages: Decision[] = []
      for (let after: string | null | undefined; after !== null; ) {
        const page = await audit.decisions({ ...query, limit: 1, ...(after && { after }) })
        pages.push(...page.rows)
        after = page.next
      }
      expect(pages).toEqual(all)
    }
    // All facts of a decision, not only the one that was asked for.
    const { rows } = await audit.decisions({ type: 'joined' })
    expect(rows[0]!.facts.map(({ type }) => type)).toEqual(['created', 'joined'])
  })

  check('an export of several pages leaves out and repeats nothing', async (store) => {
    const ids = Array.from({ length: 230 }, (_, index) => `c${index}`)
    for (const id of ids) await commit(store, id, {})
    const lines = await linesOf(kit(store).jit.audit.export())
    expect(lines.map(({ change }) => change)).toEqual([...ids].reverse())
  })

  check('what is committed waits, is sealed by a round, and verifies', async (store) => {
    const { audit, background } = kit(store).jit
    expect(await audit.verify()).toMatchObject({ ok: true, seals: 0, waiting: 0, head: null })
    for (const [id, ...parts] of events) await commit(store, id, ...parts)
    expect(await audit.verify()).toMatchObject({ ok: true, seals: 0, waiting: 4 })
    expect(await background.runOnce()).toEqual({ sealed: 4, delivered: 0, failed: 0 })
    const first = await audit.verify()
    expect(first).toMatchObject({ ok: true, seals: 4, changes: 4, waiting: 0, head: { number: 4 } })
    expect(await background.runOnce()).toMatchObject({ sealed: 0 })

    await commit(store, 'e', { type: 'granted' })
    await background.runOnce()
    expect(await audit.verify({ expect: first.head! })).toMatchObject({ ok: true, seals: 5 })
    const wrong = { number: 4, hash: first.head!.hash.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) }
    expect((await audit.verify({ expect: wrong })).problems).toMatchObject([
      { problem: 'rewritten', seal: 4, changes: ['d'] },
    ])
  })

  check('a chain of several pages verifies', async (store) => {
    for (let index = 0; index < 120; index++) await commit(store, `c${index}`, {})
    const { audit, background } = kit(store).jit
    expect(await background.runOnce()).toMatchObject({ sealed: 120 })
    expect(await audit.verify()).toMatchObject({ ok: true, seals: 120, changes: 120 })
  })

  check('of two that seal at the same moment, one goes on, and the chain is one', async (store, another) => {
    for (const id of ['a', 'b', 'c']) await commit(store, id, {})
    const elsewhere = await another()
    let first = true
    const late: Store = {
      ...store,
      trail: {
        ...store.trail,
        seal: async (...sealed) => {
          if (first) {
            first = false
            const [change] = (await elsewhere.trail.unsealed(1)).changes
            await elsewhere.trail.seal({ ...sealed[0], hash: 'of another' }, [change![0]!.change], [])
          }
          return store.trail.seal(...sealed)
        },
      },
    }
    expect(await kit(late).jit.background.runOnce()).toMatchObject({ sealed: 0 })
    expect(await kit(store).jit.background.runOnce()).toMatchObject({ sealed: 2 })
    const [, second] = await store.trail.sealed(0, 3)
    expect(second!.seal).toMatchObject({ number: 2, previous: 'of another' })
  })

  check(
    '200 commits at once, and two that seal meanwhile: each is sealed exactly once',
    async (store, another) => {
      const processes = [kit(store).jit, kit(await another()).jit]
      const ids = Array.from({ length: 200 }, (_, index) => `c${index}`)
      let committing = true
      const sealers = processes.map(async ({ background }) => {
        for (;;) {
          const over = !committing
          const { sealed } = await background.runOnce()
          if (over && sealed === 0 && (await store.trail.unsealed(1)).changes.length === 0) return
          await new Promise((resolve) => setImmediate(resolve))
        }
      })
      await Promise.all(ids.map((id) => commit(store, id, { user: id }, { type: 'joined', user: id })))
      committing = false
      await Promise.all(sealers)

      expect(await processes[0]!.audit.verify()).toMatchObject({
        ok: true,
        seals: 200,
        changes: 200,
        waiting: 0,
      })
      const sealed = await store.trail.sealed(0, 1_000)
      expect(sealed.map(({ seal }) => seal.number)).toEqual(ids.map((_, index) => index + 1))
      const changes = sealed.flatMap((link) => link.changes.map((all) => all[0]!.change))
      expect(changes.sort()).toEqual([...ids].sort())
    },
  )
})
