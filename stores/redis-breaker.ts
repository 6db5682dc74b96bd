/** Thrown by a command that was not sent, because the backend failed a moment ago. */
export class BreakerOpen extends Error {
  override readonly name = 'BreakerOpen'
}

export interface BreakerOptions {
  /** Longest time a command may take, in milliseconds. */
  readonly timeout: number
  /** How long nothing is sent after a failure, in milliseconds; then one command is let through to try. */
  readonly rest: number
  /** Whether an error means that the backend is away; one that it answered with does not. */
  readonly isFailure: (error: unknown) => boolean
}

/** Runs a command, or fails fast: no call waits longer than `timeout`, and few wait at all while it is away. */
export type Breaker = <T>(command: () => Promise<T>, late?: (value: T) => void) => Promise<T>

/** A circuit breaker. `late` receives the answer of a command that came after its time. */
export function breaker({ timeout, rest, isFailure }: BreakerOptions): Breaker {
  let closedAgainAt = 0
  let trying = false

  return async (command, late) => {
    const resting = performance.now() < closedAgainAt
    const broken = closedAgainAt > 0
    if (resting || (broken && trying)) throw new BreakerOpen('not asked: it did not answer a moment ago')
    if (broken) trying = true
    let timer: NodeJS.Timeout | undefined
    let grace: NodeJS.Immediate | undefined
    try {
      const answer = command()
      const tired = new Promise<never>((_, reject) => {
        const giveUp = () => {
          answer.then(late, () => {})
          reject(new Error(`no answer within ${timeout} ms`))
        }
        // A busy process looks at its timers before its sockets, where the answer may lie unread.
        timer = setTimeout(() => {
          grace = setImmediate(giveUp)
        }, timeout)
      })
      const value = await Promise.race([answer, tired]).catch((error) => {
        if (isFailure(error)) closedAgainAt = performance.now() + rest
        else closedAgainAt = 0
        throw error
      })
      closedAgainAt = 0
      return value
    } finally {
      clearTimeout(timer)
      clearImmediate(grace)
      if (broken) trying = false
    }
  }
}
