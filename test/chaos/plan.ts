/** Numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function numbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface Chance {
  /** A whole number from `from` up to and with `to`. */
  whole(from: number, to: number): number
  one<T>(list: readonly T[]): T
  shuffled<T>(list: readonly T[]): T[]
}

export function chance(seed: number): Chance {
  const next = numbers(seed)
  const whole = (from: number, to: number) => from + Math.floor(next() * (to - from + 1))
  return {
    whole,
    one: (list) => list[whole(0, list.length - 1)]!,
    shuffled: (list) => {
      const left = [...list]
      return list.map(() => left.splice(whole(0, left.length - 1), 1)[0]!)
    },
  }
}

/** What can be at fault; two things at once do not happen to one of them. */
export type Where = 'Redis' | 'Redis line' | 'PostgreSQL' | 'PostgreSQL line' | 'first app' | 'second app'

const line = {
  delay: [1_000, 4_000],
  stall: [100, 6_000],
  refuse: [300, 3_000],
  reset: [0, 0],
  swallow: [500, 1_500],
} as const
const app = { pause: [300, 7_000], 'pause at': [5_500, 7_000], clock: [2_000, 5_000] } as const

/** What can happen to it, and for how many milliseconds: less and more than the time limits of the kit. */
const kinds = {
  Redis: { hang: [50, 4_000], kill: [200, 3_000], flush: [0, 0] },
  'Redis line': line,
  PostgreSQL: { hang: [200, 6_500], kill: [300, 3_000], terminate: [0, 0] },
  'PostgreSQL line': line,
  // The first one lives through all, so that what it holds can be compared; everything else around it dies.
  'first app': app,
  'second app': { ...app, kill: [0, 1_500], 'kill at': [0, 1_500] },
} as const satisfies Record<Where, Readonly<Record<string, readonly [number, number]>>>

type KindOf<W extends Where> = keyof (typeof kinds)[W]
export type What = { [W in Where]: KindOf<W> }[Where]

export interface Fault {
  readonly where: Where
  readonly what: What
  /** Milliseconds from the beginning of its storm. */
  readonly at: number
  readonly lasts: number
  /** Decides what is left to decide. */
  readonly chance: number
}

/** How long a storm is, and the calm after it, in milliseconds. */
export const storm = 12_000
export const calm = 8_000
/** How long after the last fault everything must be as it was: what hung gives up, what was cut connects again. */
export const recovery = 5_000
export const faultsInAStorm = 8

export const everyKind = (Object.keys(kinds) as Where[]).flatMap((where) =>
  (Object.keys(kinds[where]) as What[]).map((what) => ({ where, what })),
)

/** The storms of a run, each with its faults in the order of their beginning; every kind comes before one comes again. */
export function timetable(seed: number, storms: number): Fault[][] {
  const { whole, shuffled } = chance(seed)
  let deck: typeof everyKind = []
  return Array.from({ length: storms }, () => {
    const faults: Fault[] = []
    while (faults.length < faultsInAStorm) {
      if (deck.length === 0) deck = shuffled(everyKind)
      const { where, what } = deck.pop()!
      const [least, most] = (kinds[where] as Record<What, readonly [number, number]>)[what]
      const lasts = whole(least, most)
      const before = faults.filter((fault) => fault.where === where)
      const free = Math.max(0, ...before.map(({ at, lasts }) => at + lasts))
      faults.push({
        where,
        what,
        at: whole(free, Math.max(free, storm - lasts)),
        lasts,
        chance: whole(0, 2 ** 31),
      })
    }
    return faults.sort((a, b) => a.at - b.at)
  })
}
