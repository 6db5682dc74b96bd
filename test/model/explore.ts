import { createHash } from 'node:crypto'
import type { Lock, Store } from 'passport-jit'

/**
 * A process under test: it does its work through the ports it is given, and nowhere else. Given the same answers it
 * asks the same questions.
 */
export type Process<R> = (ports: { readonly store: Store; readonly lock: Lock }) => Promise<R>

/** How a process ended: with what it returned or threw, or by being killed. */
export type End<R> =
  | { readonly kind: 'returned'; readonly value: R }
  | { readonly kind: 'threw'; readonly error: unknown }
  | { readonly kind: 'killed' }

export interface Scenario<R> {
  /** A fresh store, the same each time. */
  readonly begin: () => Promise<Store>
  readonly processes: readonly Process<R>[]
  /** What is kept, as text; equal texts are the same state. */
  readonly state: (store: Store) => Promise<string>
  /** Holds after every step. @returns what is broken */
  readonly always: (store: Store) => Promise<readonly string[]>
  /** Holds once everybody has ended. @returns what is broken */
  readonly finally: (store: Store, ends: readonly End<R>[]) => Promise<readonly string[]>
  /** How many processes may be killed, locks may expire and answers of commits may be lost, in one run. */
  readonly mishaps: number
}

export interface Explored {
  readonly states: number
  readonly runs: number
  /** Runs by how they ended: each process's end, in order. */
  readonly ends: ReadonlyMap<string, number>
}

interface Step {
  readonly process: number
  readonly what: 'go' | 'kill' | 'expire' | 'lose' | 'tire'
}

interface Blocked {
  readonly on: 'load' | 'commit' | 'acquire' | 'release'
  /** Of `acquire`: the lock. */
  readonly key: string | null
  /** Lets it go on; `lose` carries it out and takes the answer away, `tire` stops waiting for the lock. */
  readonly proceed: (how: 'go' | 'lose' | 'tire') => Promise<void>
}

/**
 * Runs the processes in every order of their steps: each load, commit, acquire and release is one, and between any two
 * anybody may be killed, a lock may expire, or the answer of a commit may be lost. What a process does next depends on
 * what it was answered, so two runs with the same store, the same locks and the same answers so far go on alike, and one
 * of them is enough.
 * @throws Error naming the steps that led to what is broken
 */
export async function explore<R>(scenario: Scenario<R>): Promise<Explored> {
  const seen = new Set<string>()
  const ends = new Map<string, number>()
  let runs = 0
  const pending: (readonly Step[])[] = [[]]
  for (let path = pending.pop(); path; path = pending.pop()) {
    runs += 1
    const run = await replay(scenario, path)
    const broken = [...(await scenario.always(run.store))]
    const next = run.steps()
    if (next.length === 0) {
      broken.push(...(await scenario.finally(run.store, run.ends())))
      const how = run
        .ends()
        .map(({ kind }) => kind)
        .join(', ')
      ends.set(how, (ends.get(how) ?? 0) + 1)
    }
    if (broken.length > 0) {
      const steps = path.map(({ process, what }) => `${process}:${what}`).join(' ')
      throw new Error(`after ${steps}:\n  ${broken.join('\n  ')}`)
    }
    const fingerprint = createHash('sha256')
      .update(JSON.stringify([await scenario.state(run.store), run.history()]))
      .digest('base64url')
    if (seen.has(fingerprint)) continue
    seen.add(fingerprint)
    for (const step of next) pending.push([...path, step])
  }
  return { states: seen.size, runs, ends }
}

async function replay<R>(scenario: Scenario<R>, path: readonly Step[]) {
  const store = await scenario.begin()
  /** Who holds which lock. */
  const locks = new Map<string, number>()
  const processes = scenario.processes.map((start, process) => actor(start, process, store, locks))
  let mishaps = 0
  for (const { begin } of processes) await begin()

  const steps = (): Step[] => {
    const found: Step[] = []
    const another = mishaps < scenario.mishaps
    for (const [process, { blocked }] of processes.entries()) {
      const ask = blocked()
      if (ask === null) continue
      found.push({ process, what: ask.key !== null && locks.has(ask.key) ? 'tire' : 'go' })
      if (another) found.push({ process, what: 'kill' })
      if (another && ask.on === 'commit') found.push({ process, what: 'lose' })
    }
    if (another) for (const process of new Set(locks.values())) found.push({ process, what: 'expire' })
    return found
  }
  for (const { process, what } of path) {
    const { blocked, kill } = processes[process]!
    const ask = blocked()
    if (what === 'kill') kill()
    else if (what === 'expire') {
      for (const [key, holder] of locks) if (holder === process) locks.delete(key)
    } else {
      await ask!.proceed(what)
      if (what === 'go' && ask!.key !== null) for (const other of processes) other.contend(ask!.key)
    }
    if (what === 'kill' || what === 'expire' || what === 'lose') mishaps += 1
  }
  return {
    store,
    steps,
    ends: () => processes.map(({ end }) => end()!),
    history: () => [processes.map(({ history }) => history()), [...locks], mishaps],
  }
}

/** A process that stops at each of its steps until it is let go on. */
function actor<R>(start: Process<R>, process: number, store: Store, locks: Map<string, number>) {
  const told: unknown[] = []
  let blocked: Blocked | null = null
  let end: End<R> | null = null
  let contended = false
  let stopped = () => {}
  const untilStopped = () =>
    new Promise<void>((resolve) => {
      stopped = resolve
    })
  const ask = <T>(
    on: Blocked['on'],
    work: (how: 'go' | 'lose' | 'tire') => Promise<T>,
    key: string | null = null,
  ): Promise<T> =>
    new Promise((resolve, reject) => {
      const proceed: Blocked['proceed'] = async (how) => {
        blocked = null
        const halted = untilStopped()
        try {
          const value = await work(how)
          told.push([on, value])
          resolve(value)
        } catch (error) {
          told.push([on, String(error)])
          reject(error)
        }
        await halted
      }
      contended = key !== null && locks.has(key)
      blocked = { on, key, proceed }
      stopped()
    })
  const ports: { store: Store; lock: Lock } = {
    store: {
      ...store,
      load: (query) => ask('load', () => store.load(query)),
      commit: (changes) =>
        ask('commit', async (how) => {
          const result = await store.commit(changes)
          if (how === 'lose') throw new Error('the answer was lost')
          return result
        }),
    },
    lock: {
      acquire: async (key) => {
        const take = async (how: string) => {
          if (how === 'tire') return null
          locks.set(key, process)
          return { waited: contended }
        }
        const lease = await ask('acquire', take, key)
        const give = async () => {
          if (locks.get(key) === process) locks.delete(key)
        }
        return lease && { ...lease, release: () => ask('release', give) }
      },
    },
  }
  return {
    begin: async () => {
      const halted = untilStopped()
      start(ports)
        .then(
          (value) => {
            end = { kind: 'returned', value }
          },
          (error) => {
            end = { kind: 'threw', error }
          },
        )
        .finally(() => stopped())
      await halted
    },
    blocked: () => (end === null ? blocked : null),
    /** Somebody else took the lock this one asks for. */
    contend: (key: string) => {
      if (blocked?.key === key) contended = true
    },
    end: () => end,
    kill: () => {
      end = { kind: 'killed' }
    },
    history: () => [told, blocked?.on ?? null, contended, end?.kind ?? null],
  }
}
