import { setTimeout as delay } from 'node:timers/promises'

/** How long a request may take, refusals included, in milliseconds. */
export const requestLimit = 5_000

/** What `work` gives within `limit` milliseconds, else an error; the work itself is not stopped by it. */
export async function within<T>(
  limit: number,
  work: Promise<T>,
  late = 'the store did not answer in time',
): Promise<T> {
  const stop = new AbortController()
  const timeout = delay(Math.max(limit, 0), undefined, { signal: stop.signal, ref: false }).then(
    () => Promise.reject(new Error(late)),
    () => new Promise<never>(() => {}),
  )
  try {
    return await Promise.race([work, timeout])
  } finally {
    stop.abort()
    work.catch(() => {})
  }
}
