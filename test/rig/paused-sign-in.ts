import type { Failpoint } from './failpoints.js'
import { type App, Browser, type Ending, type Person } from './fleet.js'

/** A sign-in that is paused, with the process it runs in. */
export interface PausedSignIn {
  readonly browser: Browser
  /** What carried the identity provider's answer. */
  readonly answer: Awaited<ReturnType<Browser['arrive']>>
  /** Wakes the process, which ends the sign-in. */
  wake(): Promise<Ending>
}

/** Begins a sign-in on this process and pauses it at this point of it. */
export async function pausedSignIn(
  app: App,
  person: Person,
  point: Omit<Failpoint, 'signal'>,
): Promise<PausedSignIn> {
  let early: Ending | null = null
  // A busy machine may be slower than Redis is waited for; then the person tries again.
  for (let tries = 0; tries < 5; tries++) {
    const browser = new Browser()
    const answer = await browser.arrive(app, person)
    await app.arm({ ...point, signal: 'SIGSTOP' })
    const ending = answer(app)
    ending.catch(() => {})
    early = await Promise.race([app.paused().then(() => null), ending])
    const wake = () => {
      app.kill('SIGCONT')
      return ending
    }
    if (early === null) return { browser, answer, wake }
    if (early.status !== 503) break
  }
  throw new Error(`the sign-in was not paused ${point.moment} ${point.step}, but answered ${early?.body}`)
}
