import { setTimeout as delay } from 'node:timers/promises'
import * as z from 'zod'
import { type Decision, decisionsOf, type EventType, eventTypes } from './audit.js'
import { type BackgroundPorts, type Job, roundLimit } from './background.js'
import type { Store } from './store.js'
import type { Change, Delivery, Outbox } from './trail.js'

/**
 * Something that is told of decisions once they are committed, each at least once: who was told and crashed, or
 * was too late to say so, is told again. Of one user (or of one change, where it is about none) in order; a
 * decision that cannot be delivered holds back those behind it until it is dead, and nobody else's.
 */
export interface Listener {
  /** Deliveries are kept under it; letters, digits, `.`, `_` and `-`, 64 at most. */
  readonly id: string
  /** Only decisions with a fact of one of these types; all by default, refusals too. */
  readonly types?: readonly EventType[]
  /** How long one try may take, in milliseconds; 15000 by default, a minute at most. */
  readonly timeout?: number
  /**
   * Resolves when it is done with the decision. What it throws is a failed try; the first line of the message is
   * kept in the delivery log, up to the first bracket, so it should name nobody.
   */
  deliver(
    decision: Decision,
    call: {
      /** 1 for the first try. */
      readonly attempt: number
      /** Aborted when the time is over; the try has failed then. */
      readonly signal: AbortSignal
    },
  ): Promise<void>
}

/** A failed try that says how to go on; any other error is tried again in due time. */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError'
  /** Not to be tried again. */
  readonly final: boolean
  /** Not to be tried again before, in seconds from now; a day at most. */
  readonly retryAfter: number

  constructor(message: string, options: { final?: boolean; retryAfter?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.final = options.final ?? false
    this.retryAfter = options.retryAfter ?? 0
  }
}

/** The delivery log and the dead letters, for an operator. */
export interface Deliveries {
  /** Newest first; the dead letters are those of the state `dead`. */
  deliveries(query?: Parameters<Outbox['deliveries']>[0]): ReturnType<Outbox['deliveries']>
  /** Has a dead delivery tried once more; false where there is no dead one of this change. */
  retry(listener: string, change: string): Promise<boolean>
}

/** Times in milliseconds. */
export const deliveryDefaults = {
  timeout: 15_000,
  /** How much longer than a try its claim lasts: clocks of processes may differ by this much. */
  margin: 30_000,
  /** Tries at the same time for one listener, by one process. */
  atOnce: 8,
  firstPause: 5_000,
  longestPause: 12 * 3_600_000,
  /** With pauses three times as long each, about three days. */
  tries: 15,
} as const

const day = 24 * 3_600_000

/** What every listener must be; its own other keys are its business. */
export const listenerSchema = z.looseObject({
  id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'letters, digits, ".", "_" and "-", 64 at most'),
  types: z.array(z.enum(eventTypes)).min(1, 'at least one type, or leave it out for all').optional(),
  timeout: z.int().min(1).max(60_000).optional(),
  deliver: z.custom<Listener['deliver']>((value) => typeof value === 'function', 'a function'),
})

export const listenersSchema = z
  .array(listenerSchema)
  .default([])
  .superRefine((listeners, { addIssue }) => {
    for (const [index, { id }] of listeners.entries()) {
      if (listeners.findIndex((other) => other.id === id) < index) {
        addIssue({ code: 'custom', path: [index, 'id'], message: `the id "${id}" is used twice` })
      }
    }
  })

/** The deliveries of a change, one for each listener that wants it. */
export function deliveriesOf(change: Change, listeners: readonly Listener[]) {
  const [decision] = decisionsOf(change)
  return listeners
    .filter(({ types }) => !types || change.some(({ type }) => types.includes(type)))
    .map(({ id }) => ({
      endpoint: id,
      change: decision!.change,
      subject: decision!.user ?? decision!.change,
    }))
}

export function deliveries(store: Store, ready: () => Promise<void>, now: () => number): Deliveries {
  return {
    deliveries: async (query = {}) => {
      await ready()
      return store.outbox.deliveries(query)
    },
    retry: async (listener, change) => {
      await ready()
      return store.outbox.again(listener, change, now())
    },
  }
}

/** Delivers what is due for one listener. */
export function delivering(
  { store, now, log }: { readonly store: Store; readonly now: () => number } & Pick<BackgroundPorts, 'log'>,
  listener: Listener,
): Job {
  const { id: endpoint, timeout = deliveryDefaults.timeout } = listener
  const lease = timeout + deliveryDefaults.margin
  const take = (limit: number) => store.outbox.take({ endpoint, now: now(), lease, limit })

  /** What was delivered is not delivered again because the store was away for a moment. */
  const settle = async (result: Parameters<Outbox['settle']>[0]): Promise<boolean> => {
    for (let pause = 50; ; pause *= 3) {
      try {
        return await store.outbox.settle(result)
      } catch (error) {
        if (pause > 5_000) throw error
        await delay(pause)
      }
    }
  }

  /** One try and what comes of it; true where it succeeded. */
  const attempt = async (delivery: Delivery & { readonly events: Change }): Promise<boolean> => {
    const { change, attempts } = delivery
    const failure = crashing(delivery) ?? (await tried(listener, delivery, timeout))
    const at = now()
    const error = failure && shortOf(failure)
    const dead = failure !== null && (isFinal(failure) || attempts >= deliveryDefaults.tries)
    const state = failure === null ? 'delivered' : dead ? 'dead' : 'pending'
    const dueAt = state === 'pending' ? at + pauseAfter(attempts, failure) : at
    const settled = await settle({ endpoint, change, attempts, at, error, state, dueAt })
    if (settled && dead) {
      const message = `listener "${endpoint}": change ${change} was not delivered in ${attempts} tries, and is dead: ${error}`
      log({ level: 'error', message })
    }
    return failure === null
  }

  return {
    name: `delivering to listener "${endpoint}"`,
    run: async (stop) => {
      const until = performance.now() + roundLimit
      const counts = { delivered: 0, failed: 0 }
      // Takes the next one when it is done with one, and gives up where the receiver does not take any.
      const lane = async (first: Awaited<ReturnType<typeof take>>[number]) => {
        for (let next: typeof first | undefined = first; next; ) {
          const succeeded = await attempt(next)
          counts[succeeded ? 'delivered' : 'failed'] += 1
          if (!succeeded || stop.aborted || performance.now() > until) return
          next = (await take(1))[0]
        }
      }
      const lanes = await Promise.allSettled((await take(deliveryDefaults.atOnce)).map(lane))
      for (const result of lanes) if (result.status === 'rejected') throw result.reason
      return counts
    },
  }
}

/** Tries that all ended with the process that made them end too, or there would be no end of it. */
function crashing({ attempts, log }: Delivery): DeliveryError | null {
  return log.length === 0 && attempts > deliveryDefaults.tries
    ? new DeliveryError('no try was ever finished', { final: true })
    : null
}

async function tried(
  listener: Listener,
  { events, attempts }: Delivery & { readonly events: Change },
  timeout: number,
): Promise<NonNullable<unknown> | null> {
  const [decision] = decisionsOf(events)
  if (!decision) return new DeliveryError('its events are gone', { final: true })
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(new DeliveryError(`not done in ${timeout} ms`)), timeout)
  const { signal } = over
  try {
    await Promise.race([
      Promise.resolve().then(() => listener.deliver(decision, { attempt: attempts, signal })),
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    ])
    return null
  } catch (error) {
    return error ?? new DeliveryError('an unknown error')
  } finally {
    clearTimeout(timer)
  }
}

const isFinal = (failure: unknown) => failure instanceof DeliveryError && failure.final

/** Jitter keeps those that failed together from coming back together. */
function pauseAfter(attempts: number, failure: unknown): number {
  const { firstPause, longestPause } = deliveryDefaults
  const pause = Math.min(firstPause * 3 ** (attempts - 1), longestPause) * (0.8 + Math.random() * 0.4)
  const asked = failure instanceof DeliveryError ? Math.min(failure.retryAfter * 1000, day) || 0 : 0
  return Math.round(Math.max(pause, asked))
}

/** What the delivery log keeps of an error: enough to know what is wrong, and nothing that was sent or answered. */
function shortOf(failure: unknown): string {
  if (!(failure instanceof Error)) return 'something that is no Error was thrown'
  const { code = (failure.cause as { code?: unknown } | undefined)?.code } = failure as { code?: unknown }
  const told = (value: unknown) => (typeof value === 'string' ? value : '')
  const line = told(failure.message)
    .split(/[\r\n{[]/, 1)[0]!
    .trim()
    .slice(0, 200)
  const words = [line, typeof code === 'string' && /^[A-Z0-9_]{1,40}$/.test(code) ? code : '']
  return words.filter(Boolean).join(': ') || told(failure.name).slice(0, 40)
}
