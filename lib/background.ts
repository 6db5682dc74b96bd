import { setTimeout as delay } from 'node:timers/promises'
import { JitError } from './errors.js'

/** What a round did. */
export interface Round {
  /** Changes that were sealed. */
  readonly sealed: number
  /** Deliveries that listeners took. */
  readonly delivered: number
  /** Tries that failed; each will be made again, or its delivery is dead now. */
  readonly failed: number
}

/** Something to do in the background. Several processes may do it at once. */
export interface Job {
  /** What is being done, for the log. */
  readonly name: string
  /** How long to wait at least between two rounds of `start`, in milliseconds. */
  readonly every?: number
  /** @param stop takes up nothing new once it is aborted; what is under way is finished */
  readonly run: (stop: AbortSignal) => Promise<Partial<Round>>
}

export interface Background {
  /**
   * One round: seals what was committed, then delivers what is due. For a scheduler, where no process stays. Begins
   * nothing new after ten seconds; what is left is for the next round.
   * @throws what the store threw; everything that could be done is done then
   */
  runOnce(): Promise<Round>
  /**
   * Round after round, in this process. Any number of processes may do so. Keeps no process alive; what fails is
   * logged and tried again, at longer intervals.
   * @throws JitError `config_invalid` for an interval that is none
   */
  start(options?: {
    /** Pause between two rounds, in milliseconds; 1000 by default, 10 at least. */
    readonly interval?: number
  }): {
    /** Resolves when what was under way is finished. */
    stop(): Promise<void>
  }
}

export interface BackgroundPorts {
  /** Resolves when the store can be used. */
  readonly ready: () => Promise<void>
  readonly log: (entry: { readonly level: 'warn' | 'error'; readonly message: string }) => void
}

/** How long a round goes on beginning new things, in milliseconds. */
export const roundLimit = 10_000

const longestPause = 60_000

/** @param first what the others build on in the same round */
export function background(first: Job, others: readonly Job[], { ready, log }: BackgroundPorts): Background {
  return {
    runOnce: async () => {
      await ready()
      const never = new AbortController().signal
      const results = await Promise.allSettled([first.run(never)])
      results.push(...(await Promise.allSettled(others.map((job) => job.run(never)))))
      const round = { sealed: 0, delivered: 0, failed: 0 }
      for (const result of results) {
        if (result.status === 'rejected') throw result.reason
        for (const key of Object.keys(round) as (keyof Round)[]) round[key] += result.value[key] ?? 0
      }
      return round
    },

    start: ({ interval = 1_000 } = {}) => {
      if (!Number.isInteger(interval) || interval < 10) {
        throw new JitError('config_invalid', 'background.start: interval: milliseconds, 10 at least')
      }
      const stop = new AbortController()
      /** Each in a loop of its own, so that a slow listener holds up nobody else. */
      const loop = async ({ name, every = 0, run }: Job) => {
        for (let failures = 0; !stop.signal.aborted; ) {
          try {
            await ready()
            await run(stop.signal)
            failures = 0
          } catch (error) {
            failures += 1
            const detail = error instanceof Error ? error.message : String(error)
            log({ level: 'error', message: `${name} failed, and is tried again: ${detail}` })
          }
          const pause = Math.max(interval, every, Math.min(interval * 2 ** failures, longestPause))
          // Not in step with other processes that were started at the same moment.
          const time = pause * (0.9 + Math.random() * 0.2)
          await delay(time, undefined, { ref: false, signal: stop.signal }).catch(() => {})
        }
      }
      const loops = [first, ...others].map(loop)
      return {
        stop: async () => {
          stop.abort()
          await Promise.all(loops)
        },
      }
    },
  }
}
