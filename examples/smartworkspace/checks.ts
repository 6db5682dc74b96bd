import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Decision, Verification } from 'passport-jit'
import { all } from './look.js'
import type { Check } from './play.js'

/** How long the background may take to catch up with the stories, in milliseconds. */
const patience = 20_000

/** Every decision is sealed, and none is other than it was sealed. */
export const chainIsIntact: Check['check'] = async ({ operator }) => {
  const verification = await until(
    async () => JSON.parse((await operator('/api/decisions/verify')).text) as Verification,
    ({ ok, waiting }) => !ok || waiting === 0,
    'not every decision is sealed',
  )
  const { ok, seals, changes, problems } = verification
  if (!ok) throw new Error(problems.map(({ message }) => message).join('; '))
  return { outcome: 'intact', reason: `${seals} seals, ${changes} decisions` }
}

/** The receiver has every decision once, as the trail has it, and each person's in the order they were made. */
export const receiverHasAll: Check['check'] = async ({ receiver }, { audit }) => {
  const decisions = (await all((page) => audit.decisions(page))).reverse()
  const received = await until(
    async () => (await (await fetch(receiver)).json()) as Decision[],
    ({ length }) => length >= decisions.length,
    'not every decision was delivered',
  )
  if (received.length > decisions.length) throw new Error('something was delivered that did not happen')
  const about = (list: readonly Decision[], user: string | null) => list.filter((each) => each.user === user)
  const people = new Set(decisions.map(({ user }) => user))
  for (const user of people) {
    const [made, told] = [about(decisions, user), about(received, user)]
    // What is about nobody has no order to keep.
    const sort = (list: Decision[]) =>
      user === null ? list.sort((a, b) => (a.change < b.change ? -1 : 1)) : list
    if (!isDeepStrictEqual(sort(made), sort(told))) {
      throw new Error(`what was delivered about ${user ?? 'nobody'} is not what was committed, in its order`)
    }
  }
  return { outcome: 'delivered', reason: `${received.length} decisions, ${people.size} orders` }
}

async function until<T>(read: () => Promise<T>, done: (value: T) => boolean, otherwise: string): Promise<T> {
  for (const end = performance.now() + patience; ; await delay(50)) {
    const value = await read()
    if (done(value)) return value
    if (performance.now() > end) throw new Error(`${otherwise} within ${patience / 1000} s`)
  }
}
