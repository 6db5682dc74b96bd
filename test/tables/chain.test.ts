import { createHash } from 'node:crypto'
import type { AuditEvent, ChainProblem, Head } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { canonical, nextSeal, type Sealed, sealHash, verifyChain } from '../../lib/chain.js'
import { event } from '../contract/store-world.js'

const digest = (text: string) => createHash('sha256').update(text).digest('hex')

/** A chain over these changes, one under each seal; each has two events. */
function chainOf(...ids: string[]): Sealed[] {
  const chain: Sealed[] = []
  for (const [index, id] of ids.entries()) {
    const changes = [[event(id, 0, { user: id, detail: { role: 'member' } }), event(id, 1)]]
    chain.push({ seal: nextSeal(chain.at(-1)?.seal ?? null, changes, 1_000 + index, digest), changes })
  }
  return chain
}

async function* walk(chain: readonly Sealed[]) {
  yield* chain
}

const verify = (chain: readonly Sealed[], expected?: Head) =>
  verifyChain(walk(chain), [], [], digest, expected)

const kinds = (problems: readonly ChainProblem[]) =>
  problems.map(({ problem, seal, changes }) => [problem, seal, ...changes])

describe('The hash of a seal', () => {
  test('is the same in whatever order a database gives the members of an object', () => {
    expect(canonical({ b: [{ d: 1, c: null }], a: 'x' })).toBe('{"a":"x","b":[{"c":null,"d":1}]}')
    expect(canonical({ a: 'x', b: [{ c: null, d: 1 }] })).toBe(canonical({ b: [{ d: 1, c: null }], a: 'x' }))
    expect(canonical([2, 1])).not.toBe(canonical([1, 2]))
  })

  test('knows what is left out from what is null, and a text from a number', () => {
    expect(canonical({ a: undefined })).toBe('{}')
    expect(canonical({ a: null })).toBe('{"a":null}')
    expect(canonical(['1'])).not.toBe(canonical([1]))
  })

  test('keeps members with names that objects have anyway', () => {
    const parsed = JSON.parse('{"__proto__":{"x":1},"constructor":2}')
    expect(canonical(parsed)).toBe('{"__proto__":{"x":1},"constructor":2}')
  })

  test('can be computed by anybody: SHA-256 of the canonical JSON of number, previous, at, changes', () => {
    const [{ seal, changes } = { seal: null, changes: [] }] = chainOf('a')
    const [first, second] = changes[0]!
    const text = (entry: AuditEvent) => {
      const members = Object.entries({ ...entry }).sort(([a], [b]) => (a < b ? -1 : 1))
      return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`
    }
    expect(seal!.hash).toBe(digest(`[1,"",1000,[[${text(first!)},${text(second!)}]]]`))
  })

  const base = chainOf('a', 'b')[1]!
  test.each<[string, Partial<Sealed['seal']>, Sealed['changes']?]>([
    ['the number', { number: 3 }],
    ['the hash before', { previous: 'x' }],
    ['the time', { at: 0 }],
    ['the order of events', {}, [[...base.changes[0]!].reverse()]],
    ['an event', {}, [[base.changes[0]![0]!]]],
    ['the bounds of a change', {}, base.changes[0]!.map((entry) => [entry])],
  ])('covers %s', (_, seal, changes = base.changes) => {
    expect(sealHash(base.seal, base.changes, digest)).toBe(base.seal.hash)
    expect(sealHash({ ...base.seal, ...seal }, changes, digest)).not.toBe(base.seal.hash)
  })

  const fields: [keyof AuditEvent, unknown][] = [
    ...(
      ['change', 'type', 'user', 'organization', 'source', 'actor', 'correlationId', 'reason'] as const
    ).map((name): [keyof AuditEvent, unknown] => [name, 'something else']),
    ...(['seq', 'at'] as const).map((name): [keyof AuditEvent, unknown] => [name, 7]),
    ['detail', { role: 'owner' }],
  ]
  test.each(fields)('covers the %s of an event', (name, value) => {
    const [[first, second] = []] = base.changes
    const changes = [[{ ...first!, [name]: value }, second!]]
    expect(sealHash(base.seal, changes, digest)).not.toBe(base.seal.hash)
  })
})

describe('A verification', () => {
  const chain = chainOf('a', 'b', 'c', 'd')
  const head = { number: 4, hash: chain[3]!.seal.hash }
  const changed = (index: number, change: (link: Sealed) => Sealed | null) =>
    chain.flatMap((link, at) => (at === index ? (change(link) ?? []) : link))
  const altered = (link: Sealed): Sealed => {
    const [[first, second] = []] = link.changes
    return { ...link, changes: [[{ ...first!, detail: { role: 'owner' } }, second!]] }
  }
  /** As somebody would write it who knows how seals are made. */
  const resealed = (link: Sealed): Sealed => ({
    ...link,
    seal: { ...link.seal, hash: sealHash(link.seal, link.changes, digest) },
  })
  /** All from this one on written anew. */
  const rewritten = (from: number, change: (link: Sealed) => Sealed) => {
    const written = chain.slice(0, from)
    for (const link of [change(chain[from]!), ...chain.slice(from + 1)]) {
      const last = written.at(-1)?.seal ?? null
      written.push({ seal: nextSeal(last, link.changes, link.seal.at, digest), changes: link.changes })
    }
    return written
  }

  test('of a sound chain tells its head, and takes a head noted earlier', async () => {
    expect(await verify(chain)).toEqual({
      ...{ ok: true, seals: 4, changes: 4, waiting: 0, head, problems: [] },
    })
    for (const { seal } of chain) expect((await verify(chain, seal)).problems).toEqual([])
  })

  test('of nothing is sound, and knows no head', async () => {
    expect(await verify([])).toMatchObject({ ok: true, seals: 0, head: null })
  })

  test('of seals over several changes names all of them', async () => {
    const changes = [...chain[0]!.changes, ...chain[1]!.changes]
    const link = { seal: nextSeal(null, changes, 0, digest), changes }
    expect(kinds((await verify([link])).problems)).toEqual([])
    const [first] = altered({ ...link, changes: [changes[0]!] }).changes
    const { problems } = await verify([{ ...link, changes: [first!, changes[1]!] }])
    expect(kinds(problems)).toEqual([['altered', 1, 'a', 'b']])
  })

  test.each<[string, Sealed[], unknown[]]>([
    ['an altered event', changed(1, altered), [['altered', 2, 'b']]],
    [
      'an event that is gone from its change',
      changed(1, (link) => ({ ...link, changes: [[link.changes[0]![0]!]] })),
      [['altered', 2, 'b']],
    ],
    ['a change that is gone', changed(1, (link) => ({ ...link, changes: [] })), [['missing', 2]]],
    ['a change without events', changed(1, (link) => ({ ...link, changes: [[]] })), [['missing', 2]]],
    ['a seal that is gone', changed(1, () => null), [['gap', 2]]],
    ['the first seals gone', chain.slice(2), [['gap', 1]]],
    [
      'another time of a seal',
      changed(1, (link) => ({ ...link, seal: { ...link.seal, at: 7 } })),
      [['altered', 2, 'b']],
    ],
    [
      'another hash of a seal',
      changed(1, (link) => ({ ...link, seal: { ...link.seal, hash: 'x' } })),
      [
        ['altered', 2, 'b'],
        ['previous', 3, 'b'],
      ],
    ],
    [
      'another previous hash of a seal',
      changed(1, (link) => ({ ...link, seal: { ...link.seal, previous: 'x' } })),
      [['previous', 2, 'a']],
    ],
    [
      'a previous hash of the first seal',
      changed(0, (link) => ({ ...link, seal: { ...link.seal, previous: 'x' } })),
      [['previous', 1, 'a']],
    ],
    [
      'an altered event under a seal made to fit',
      changed(1, (link) => resealed(altered(link))),
      [['previous', 3, 'b']],
    ],
    [
      'two changes that changed places',
      changed(1, (link) => ({ ...link, changes: chain[2]!.changes })).map((link, at) =>
        at === 2 ? { ...link, changes: chain[1]!.changes } : link,
      ),
      [
        ['altered', 2, 'c'],
        ['altered', 3, 'b'],
      ],
    ],
  ])('finds and names %s', async (_, tampered, problems) => {
    const result = await verify(tampered)
    expect(result.ok).toBe(false)
    expect(kinds(result.problems)).toEqual(problems)
    for (const { message, seal } of result.problems) expect(message).toMatch(new RegExp(`seals? ${seal}\\b`))
  })

  test.each<[string, Sealed[], unknown[]]>([
    ['a cut-off end', chain.slice(0, 3), [['cut', 4]]],
    ['everything cut off', [], [['cut', 4]]],
    ['an end written anew', rewritten(3, altered), [['rewritten', 4, 'd']]],
    ['all from the middle on written anew', rewritten(1, altered), [['rewritten', 4, 'd']]],
    [
      'a change taken out, all after it written anew',
      rewritten(1, () => chain[2]!).slice(0, 3),
      [['cut', 4]],
    ],
  ])('finds %s by a head noted earlier, and by nothing else', async (_, tampered, problems) => {
    expect((await verify(tampered)).problems).toEqual([])
    expect(kinds((await verify(tampered, head)).problems)).toEqual(problems)
  })

  test('a head noted before what was written anew still fits, as what came after it was not noted', async () => {
    expect((await verify(rewritten(3, altered), chain[2]!.seal)).ok).toBe(true)
  })

  test('counts what waits for a seal, and finds what lost its events before it got one', async () => {
    const [waits] = chain[0]!.changes
    expect(await verifyChain(walk([]), [waits!], [], digest)).toMatchObject({ ok: true, waiting: 1 })
    const lost = await verifyChain(walk([]), [waits!, []], [], digest)
    expect(lost.ok).toBe(false)
    expect(kinds(lost.problems)).toEqual([['missing', null]])
  })

  test('finds what is shown, and neither in the chain nor waiting for it', async () => {
    const [waits] = chainOf('w')[0]!.changes
    const shown = ['d', 'a', 'w', 'c', 'b']
    expect((await verifyChain(walk(chain), [waits!], shown, digest)).ok).toBe(true)
    const result = await verifyChain(walk(chain), [waits!], [...shown, 'x'], digest)
    expect(kinds(result.problems)).toEqual([['unsealed', null, 'x']])
    expect(kinds((await verifyChain(walk(chain.slice(0, 3)), [waits!], shown, digest)).problems)).toEqual([
      ['unsealed', null, 'd'],
    ])
    // More may wait than were read.
    const many = Array.from({ length: 1_000 }, () => waits!)
    expect((await verifyChain(walk(chain), many, [...shown, 'x'], digest)).ok).toBe(true)
  })

  test('tells the first hundred problems of many, and stays small', async () => {
    const ids = Array.from({ length: 150 }, (_, index) => `c${index}`)
    const result = await verify(chainOf(...ids).map(altered))
    expect(result).toMatchObject({ ok: false, seals: 150 })
    expect(result.problems.map(({ seal }) => seal)).toEqual(Array.from({ length: 100 }, (_, at) => at + 1))
  })
})
