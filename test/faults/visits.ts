import { errorCodes } from 'passport-jit'
import { expect, vi } from 'vitest'
import { type App, Browser, type Ending, type Person } from '../rig/fleet.js'
import { exactlyOne, type Reader, type Rows, rowsOf } from '../rig/invariants.js'

/** The kit answers within 5 s; the rest is for a machine that does other things too. */
export const longest = 9_000

export const noneAtAll: Rows = { users: 0, identities: 0, memberships: 0, created: 0 }

export interface Timed extends Ending {
  /** Milliseconds that it took. */
  readonly after: number
}

export async function timed(answer: Promise<Ending>): Promise<Timed> {
  const asked = performance.now()
  return { ...(await answer), after: performance.now() - asked }
}

/** A refusal that tells the person to come again, in time. */
export function expectUnavailable(ending: Timed): void {
  expect(ending, ending.body).toMatchObject({ status: 503, retryAfter: '2' })
  expect(errorCodes).toContain(JSON.parse(ending.body).error)
  expect(ending.after).toBeLessThan(longest)
}

/** A browser whose identity provider has answered, so that only the callback is left. */
export async function arrival(app: App, person: Person) {
  const browser = new Browser()
  return { person, browser, answer: await browser.arrive(app, person) }
}

/** Signs in as a person does who is told to come again, and comes again. */
export function signIn(app: App, person: Person): Promise<Browser> {
  const attempt = async () => {
    const browser = new Browser()
    expect(await browser.signIn(app, person)).toMatchObject({ status: 303 })
    return browser
  }
  return vi.waitFor(attempt, { timeout: 20_000 })
}

export async function expectSignedInOnce(app: App, db: Reader, person: Person): Promise<void> {
  expect(await (await signIn(app, person)).me(app)).toMatchObject({ email: person.email })
  expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
}
