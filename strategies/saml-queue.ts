import type { AnswerJob, Verdict } from './saml-verify.js'

/** Something that verifies one answer at a time. */
export interface Lane {
  /** Asked when the lane is ready and the answer before is done; never rejects. */
  verify(job: AnswerJob): Promise<Verdict>
  close(): Promise<void>
}

/**
 * Makes a lane, which says once that it is ready, and once that it is gone and why; never before this returns.
 * May throw.
 */
export type OpenLane = (tell: { ready(): void; gone(cause: unknown): void }) => Lane

export interface AnswerQueue {
  /**
   * Verifies an answer when its turn has come; never rejects. Refused as `unavailable` where there is no room or
   * no time.
   * @param unasked whether nobody here waits for it
   */
  verify(job: AnswerJob, unasked: boolean, signal: AbortSignal): Promise<Verdict>
  /** Refuses what waits and ends all lanes; whatever comes later is refused. */
  close(): Promise<void>
}

interface Waiting {
  readonly job: AnswerJob
  readonly unasked: boolean
  readonly settle: (verdict: Verdict) => void
}

interface Open {
  lane: Lane | null
  state: 'starting' | 'idle' | 'busy'
}

/**
 * How long an answer may wait for its turn, in milliseconds; less than a step of a sign-in has, so that the
 * refusal is still heard and no thread works for nobody.
 */
const patience = 3_000

/**
 * A bounded queue in front of a few lanes, which open when they are first needed and again after they were lost.
 *
 * The shortest answer is first, those nobody asked for last, and when the queue overflows the last one goes:
 * what makes an answer costly makes it long, while an ordinary one has 4 to 20 kB, so a flood of costly answers
 * waits behind the sign-ins it was meant to keep out. The price: while it lasts, a genuine answer as long as
 * those of the flood waits among them.
 *
 * Not a pool library: piscina refuses whoever comes last rather than what costs most, and its time limit runs
 * while a task waits. The rest of what one does is short (saml-thread.ts).
 */
export function answerQueue(open: OpenLane, most: { lanes: number; waiting: number }): AnswerQueue {
  const waiting: Waiting[] = []
  const lanes = new Set<Open>()
  let closed = false

  const start = () => {
    const entry: Open = { lane: null, state: 'starting' }
    lanes.add(entry)
    const ready = () => {
      entry.state = 'idle'
      pump()
    }
    const gone = (cause: unknown) => {
      lanes.delete(entry)
      // Each start that fails takes an answer with it, so that starting again comes to an end.
      const what = `no thread could be started: ${cause}; samlStrategy({ workers: 0 }) needs none`
      if (entry.state === 'starting') waiting.shift()?.settle(unavailable(what, cause))
      pump()
    }
    try {
      entry.lane = open({ ready, gone })
    } catch (error) {
      gone(error)
    }
  }

  const run = async (entry: Open, { job, settle }: Waiting) => {
    entry.state = 'busy'
    settle(await entry.lane!.verify(job))
    entry.state = 'idle'
    pump()
  }

  const pump = () => {
    for (const entry of lanes) {
      if (waiting.length > 0 && entry.state === 'idle') void run(entry, waiting.shift()!)
    }
    const starting = [...lanes].filter(({ state }) => state === 'starting').length
    if (waiting.length > starting && lanes.size < most.lanes) {
      start()
      pump()
    }
  }

  return {
    verify: (job, unasked, signal) =>
      new Promise((resolve) => {
        const settle = (verdict: Verdict) => {
          clearTimeout(timer)
          signal.removeEventListener('abort', late)
          resolve(verdict)
        }
        const entry: Waiting = { job, unasked, settle }
        const late = () => {
          const at = waiting.indexOf(entry)
          if (at >= 0) waiting.splice(at, 1)
          const where = at >= 0 ? 'in the queue of SAML answers' : 'to be verified'
          settle(unavailable(`the answer waited too long ${where}`))
        }
        const timer = setTimeout(() => waiting.includes(entry) && late(), patience).unref()
        if (closed) return settle(unavailable('the SAML strategy was closed'))
        if (signal.aborted) return late()
        signal.addEventListener('abort', late, { once: true })
        const next = waiting.findIndex((other) => isBefore(entry, other))
        waiting.splice(next < 0 ? waiting.length : next, 0, entry)
        pump()
        if (waiting.length > most.waiting) {
          waiting.pop()!.settle(unavailable('the queue of SAML answers is full'))
        }
      }),
    close: async () => {
      closed = true
      for (const { settle } of waiting.splice(0)) settle(unavailable('the SAML strategy was closed'))
      await Promise.all([...lanes].map(({ lane }) => lane?.close()))
    },
  }
}

const isBefore = (one: Waiting, other: Waiting) =>
  one.unasked === other.unasked ? one.job.field.length < other.job.field.length : other.unasked

const unavailable = (what: string, cause?: unknown): Verdict => ({ refused: 'unavailable', what, cause })
