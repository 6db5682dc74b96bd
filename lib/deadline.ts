/** How long a request may take, refusals included, in milliseconds. */
export const requestLimit = 5_000

/** What `work` gives within `limit` milliseconds, else an error; the work itself is not stopped by it. */
export async function within<T>(
  limit: number,
  work: Promise<T>,
  late = 'the store did not answer in time',
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(late)), Math.max(limit, 0)).unref()
  })
  try {
    return await Promise.race([work, timeout])
  } finally {
    clearTimeout(timer)
    work.catch(() => {})
  }
}
