/** Where in a step it happens: before it, with the step under way and unanswered, or after it. */
export type Moment = 'before' | 'during' | 'after'

export interface Failpoint {
  /** A step as `onStep` names it: `store.commit`, and `session.set#2` for the second of its kind. */
  readonly step: string
  readonly moment: Moment
  /** `SIGSTOP` has it pause there, all of it, until a SIGCONT; by default it dies. */
  readonly signal?: 'SIGKILL' | 'SIGSTOP'
}

/** Steps of this process in which it can be made to die or to pause by a signal, which nothing in it can soften. */
export interface Failpoints {
  /** Counts steps from here on; dies or pauses at the failpoint, if one is given. */
  arm(failpoint: Failpoint | null): void
  /** Makes each of these methods of `port` a step: of promises, or of a last argument that is called back. */
  watch<T extends object>(name: string, port: T, methods: readonly (keyof T & string)[]): T
}

export function failpoints(onStep: (step: string) => void): Failpoints {
  const counts = new Map<string, number>()
  let armed: Failpoint | null = null

  const enter = (name: string): string => {
    const count = (counts.get(name) ?? 0) + 1
    counts.set(name, count)
    const step = count === 1 ? name : `${name}#${count}`
    onStep(step)
    return step
  }
  const reach = (step: string, moment: Moment) => {
    if (armed?.step === step && armed.moment === moment) process.kill(process.pid, armed.signal ?? 'SIGKILL')
  }
  // By then the step has handed its bytes to the kernel, and no answer has been read.
  const underWay = (step: string) => setImmediate(() => reach(step, 'during'))

  const watch: Failpoints['watch'] = (name, port, methods) => {
    for (const method of methods) {
      const inner = (port[method] as (...args: unknown[]) => unknown).bind(port)
      const outer = (...args: unknown[]): unknown => {
        const step = enter(`${name}.${method}`)
        reach(step, 'before')
        const done = args.at(-1)
        if (typeof done === 'function') {
          args[args.length - 1] = (...results: unknown[]) => {
            reach(step, 'after')
            done(...results)
          }
        }
        const result = inner(...args)
        underWay(step)
        if (!(result instanceof Promise) || typeof done === 'function') return result
        return result.then((value) => {
          reach(step, 'after')
          return value
        })
      }
      Object.defineProperty(port, method, { value: outer })
    }
    return port
  }
  return {
    arm: (failpoint) => {
      counts.clear()
      armed = failpoint
    },
    watch,
  }
}
