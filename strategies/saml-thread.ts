import { Worker } from 'node:worker_threads'
import type { Lane, OpenLane } from './saml-queue.js'
import type { Verdict } from './saml-verify.js'
import type { Asked, Told } from './saml-worker.js'

/** How long a thread may take to load, and how long over one answer; in milliseconds. */
const limits = { start: 10_000, run: 3_000 }

/** Of a thread's memory, in MB; the worst answer that fits the limits needs less than 32. */
const heap = 128

/**
 * A worker thread that verifies one answer at a time. It keeps the process alive while it works and not while
 * it waits. One that takes too long is ended, whatever it is doing.
 */
export const openThread: OpenLane = ({ ready, gone }) => {
  const worker = new Worker(new URL('./saml-worker.js', import.meta.url), {
    name: 'passport-jit saml',
    // What the process was started with may be for its main program alone.
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: heap },
  })
  let number = 0
  let answer: ((verdict: Verdict) => void) | null = null
  let why: unknown
  /** Ends the thread unless the timer is cleared. */
  const within = (limit: number, what: string) =>
    setTimeout(() => {
      why ??= new Error(`it did not ${what} within ${limit / 1000} s`)
      void worker.terminate()
    }, limit).unref()
  let timer = within(limits.start, 'start')

  worker.on('message', (told: Told) => {
    // One that is being ended may still speak, and would be taken for idle.
    if (why !== undefined || (told !== 'ready' && told.number !== number)) return
    clearTimeout(timer)
    worker.unref()
    if (told === 'ready') return ready()
    const settle = answer
    answer = null
    settle?.(told.verdict)
  })
  worker.on('error', (error) => {
    why ??= error
  })
  worker.on('exit', () => {
    clearTimeout(timer)
    const cause = why ?? new Error('it ended by itself')
    answer?.({
      refused: 'unavailable',
      what: `the thread that verified the answer was lost: ${cause}`,
      cause,
    })
    gone(cause)
  })

  return {
    verify: (job) =>
      new Promise((resolve) => {
        answer = resolve
        number += 1
        timer = within(limits.run, 'verify the answer')
        worker.ref()
        worker.postMessage({ number, job } satisfies Asked)
      }),
    close: async () => {
      why ??= new Error('the strategy was closed')
      await worker.terminate()
    },
  } satisfies Lane
}
