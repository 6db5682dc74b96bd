import type { Change, Seal } from './trail.js'

// What the chain proves, and what it does not. Each seal covers its change and, by `previous`, all seals before
// it. So whoever alters, removes, moves or inserts something below the newest seal must write every later seal
// anew, and is found where a seal noted elsewhere (`expect`) is no longer there. A plain hash needs no key: who may
// write the whole database can do just that, and without a noted seal nothing shows it. What happens before a
// change is sealed (a moment, while the background runs), and a change that somebody commits as the kit would,
// is not found either: the kit seals what it finds.

/** A hash of a text: SHA-256 in hexadecimal digits. */
export type Digest = (text: string) => string

/** A seal as an operator notes it. */
export type Head = Pick<Seal, 'number' | 'hash'>

export interface ChainProblem {
  readonly problem: /** The change, or the seal itself, is not what was sealed. */
    | 'altered'
    /** A change is gone from under its seal, or lost its events before it was sealed. */
    | 'missing'
    /** A change is under no seal and waits for none: its seal is gone, or it was not the kit that wrote it. */
    | 'unsealed'
    /** Seals are gone from between, or from the beginning. */
    | 'gap'
    /** The seal was written after another one than the one before it now. */
    | 'previous'
    /** The chain ends before the expected seal. */
    | 'cut'
    /** In place of the expected seal there is another. */
    | 'rewritten'
  /** Number of the seal; of a gap, the first one that is gone. Null for what was never sealed. */
  readonly seal: number | null
  /** Ids of the changes it is about, as far as they are still there. */
  readonly changes: readonly string[]
  /** A sentence for the operator. */
  readonly message: string
}

export interface Verification {
  readonly ok: boolean
  /** How many there are. */
  readonly seals: number
  readonly changes: number
  /** Changes that wait for a seal, a thousand at most; for long, where no background runs. */
  readonly waiting: number
  /** The newest seal: note it where whoever writes the database cannot, and `expect` it later. */
  readonly head: Head | null
  /** The first hundred. */
  readonly problems: readonly ChainProblem[]
}

export interface Sealed {
  readonly seal: Seal
  readonly changes: readonly Change[]
}

const shown = 100

/** How many changes that wait for a seal are looked at. */
export const mostWaiting = 1_000

/** JSON as RFC 8785 has it: members sorted by name, no spaces. A database may give them in an order of its own. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`
}

/** The hash of a seal: over its number, the hash before it, its time, and its changes with all their events. */
export function sealHash(
  { number, previous, at }: Omit<Seal, 'hash'>,
  changes: readonly Change[],
  digest: Digest,
): string {
  return digest(canonical([number, previous, at, changes]))
}

/** The seal that follows. */
export function nextSeal(last: Seal | null, changes: readonly Change[], at: number, digest: Digest): Seal {
  const seal = { number: (last?.number ?? 0) + 1, previous: last?.hash ?? '', at }
  return { ...seal, hash: sealHash(seal, changes, digest) }
}

/**
 * Walks a chain from its beginning.
 * @param waiting changes that have no seal yet
 * @param listed ids of changes that are shown, and so must be in the chain or wait; read before the others
 * @param expect a seal noted earlier, which must still be there
 */
export async function verifyChain(
  chain: AsyncIterable<Sealed>,
  waiting: readonly Change[],
  listed: Iterable<string>,
  digest: Digest,
  expect: Head | null = null,
): Promise<Verification> {
  const problems: ChainProblem[] = []
  const unsealed = new Set(listed)
  let seals = 0
  let changes = 0
  let before: Sealed | null = null
  for await (const link of chain) {
    const found = [...problemsOf(link, before, digest), ...(expect ? unexpected(link, expect) : [])]
    problems.push(...found.slice(0, shown - problems.length))
    for (const id of idsOf(link)) unsealed.delete(id)
    seals += 1
    changes += link.changes.length
    before = link
  }
  const head = before && { number: before.seal.number, hash: before.seal.hash }
  const end = head?.number ?? 0
  if (expect && end < expect.number) {
    const message = `seal ${expect.number} was noted, but the chain ${end === 0 ? 'is empty' : `ends with seal ${end}`}`
    problems.unshift({ problem: 'cut', seal: expect.number, changes: [], message })
  }
  if (waiting.some((events) => events.length === 0)) {
    const message = 'a change that waits for its seal has lost its events'
    problems.push({ problem: 'missing', seal: null, changes: [], message })
  }
  for (const events of waiting) unsealed.delete(events[0]?.change ?? '')
  // Where more wait than were read, a change that is not among them may be one of the others.
  if (waiting.length < mostWaiting) problems.push(...strays(unsealed))
  return {
    ...{ ok: problems.length === 0, seals, changes, waiting: waiting.length, head },
    problems: problems.slice(0, shown),
  }
}

const idsOf = ({ changes }: Sealed) => changes.flatMap((events) => events?.[0]?.change ?? [])

function problemsOf(link: Sealed, before: Sealed | null, digest: Digest): ChainProblem[] {
  const { seal } = link
  const ids = idsOf(link)
  const problems: ChainProblem[] = []
  const found = (problem: ChainProblem['problem'], at: number, changes: string[], message: string) =>
    problems.push({ problem, seal: at, changes, message })

  const expected = (before?.seal.number ?? 0) + 1
  const gap = seal.number > expected
  if (gap) {
    const last = seal.number - 1
    const gone = last === expected ? `seal ${last} is gone` : `seals ${expected} to ${last} are gone`
    found('gap', expected, [], gone)
  }
  const previous = before?.seal.hash ?? ''
  const unlinked = !gap && seal.previous !== previous
  if (unlinked) {
    const message = before
      ? `seal ${seal.number} was written after another seal ${before.seal.number}: that one, ${over(idsOf(before))}, was written anew, or what seal ${seal.number} says of it was`
      : `seal ${seal.number} was written after another seal, which is gone`
    found('previous', seal.number, before ? idsOf(before) : ids, message)
  }
  if (link.changes.length === 0 || ids.length < link.changes.length) {
    const rest = ids.length > 0 ? `; what is left is ${ids.join(', ')}` : ''
    found('missing', seal.number, ids, `a change under seal ${seal.number} is gone, or its events are${rest}`)
  } else if (
    sealHash(seal, link.changes, digest) !== seal.hash &&
    !(unlinked && sealHash({ ...seal, previous }, link.changes, digest) === seal.hash)
  ) {
    const message = `seal ${seal.number}, ${over(ids)}: its events, or the seal itself, are not what was sealed`
    found('altered', seal.number, ids, message)
  }
  return problems
}

function unexpected(link: Sealed, expect: Head): ChainProblem[] {
  const { seal } = link
  if (seal.number !== expect.number || seal.hash === expect.hash) return []
  const message = `seal ${seal.number}, ${over(idsOf(link))}, is not the one that was noted: the chain was written anew here or before`
  return [{ problem: 'rewritten', seal: seal.number, changes: idsOf(link), message }]
}

const strays = (ids: Iterable<string>) =>
  [...ids].slice(0, shown).map((id): ChainProblem => {
    const message = `change ${id} is under no seal and waits for none`
    return { problem: 'unsealed', seal: null, changes: [id], message }
  })

const over = (ids: readonly string[]) =>
  `over ${ids.length === 1 ? 'change' : 'changes'} ${ids.join(', ') || '(none)'}`
