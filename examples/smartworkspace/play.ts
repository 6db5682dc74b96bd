import { isDeepStrictEqual } from 'node:util'
import type { Audit, Decision, Outcome, Reason, Store, UserListing } from 'passport-jit'
import type { Page } from './browser.js'
import { outcomeOf } from './decisions.js'
import { type Mailed, type Stage, type Steps, words } from './steps.js'

/** A sign-in, and what has to come of it. */
export interface Story {
  readonly title: string
  readonly person: { readonly name: string; readonly email: string }
  /** For the table. */
  readonly way: string
  readonly steps: Steps
  readonly outcome: Outcome
  readonly reason: Reason
  /** Rows more than before, by table; a table that is not named stays as it is. */
  readonly rows: Partial<Rows>
  /** Organization and roles of the person afterwards, such as `superfantasy: designer, member`. */
  readonly memberships: readonly string[]
  /** Mails it sends to the person; none where it is left out. */
  readonly mails?: number
}

type Rows = Record<(typeof tables)[number], number>
const tables = ['users', 'identities', 'memberships', 'grants', 'events'] as const

export interface Told {
  readonly story: Story
  readonly outcome: string
  readonly reason: string
  readonly rows: string
  /** What differed from the story; empty where it went as told. */
  readonly differences: readonly string[]
}

/** A running demo, its database to look into, and what opens the operator's addresses. */
export interface Played {
  readonly url: string
  readonly store: Store
  readonly audit: Audit
  readonly adminToken: string | undefined
}

/** Plays every story against a running demo, one after the other, each person in a browser of their own. */
export async function play(
  stories: readonly Story[],
  { url, store, audit, adminToken }: Played,
): Promise<Told[]> {
  const stage: Stage = { url, inbox: () => inboxOf(url, adminToken) }
  const told: Told[] = []
  for (const story of stories) {
    try {
      const before = await look(store, audit, stage)
      const { browser, page } = await story.steps(stage)
      const me = await browser.open(`${url}/api/me`)
      const signedIn = me.status === 200 ? (JSON.parse(me.text) as Me) : null
      told.push(compare(story, page, signedIn, before, await look(store, audit, stage)))
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      told.push({ story, outcome: 'failed', reason: '', rows: '', differences: [why] })
    }
  }
  return told
}

async function inboxOf(url: string, token: string | undefined): Promise<readonly Mailed[]> {
  const answer = await fetch(`${url}/api/inbox`, { headers: { authorization: `Bearer ${token}` } })
  if (!answer.ok) throw new Error(`the inbox answered ${answer.status}`)
  return (await answer.json()) as Mailed[]
}

/** What `GET /api/me` answers, as far as the stories ask. */
interface Me {
  readonly jit?: { readonly outcome: string; readonly reason: string }
  readonly memberships?: readonly {
    readonly organization: string
    readonly grants: readonly { role: string }[]
  }[]
}

interface Seen {
  readonly users: readonly UserListing[]
  readonly decisions: readonly Decision[]
  readonly mails: readonly Mailed[]
}

async function look(store: Store, audit: Audit, { inbox }: Stage): Promise<Seen> {
  const users: UserListing[] = []
  for (let after: string | undefined, more = true; more; ) {
    const page = await store.users({ limit: 1000, ...(after !== undefined && { after }) })
    users.push(...page.rows)
    more = page.next !== null
    after = page.next ?? undefined
  }
  const decisions: Decision[] = []
  for (let after: string | undefined, more = true; more; ) {
    const page = await audit.decisions({ limit: 1000, ...(after !== undefined && { after }) })
    decisions.push(...page.rows)
    more = page.next !== null
    after = page.next ?? undefined
  }
  return { users, decisions, mails: await inbox() }
}

function count({ users, decisions }: Seen): Rows {
  const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0)
  return {
    users: users.length,
    identities: sum(users.map((user) => user.identities.length)),
    memberships: sum(users.map((user) => user.memberships.length)),
    grants: sum(users.flatMap((user) => user.memberships.map(({ grants }) => grants.length))),
    events: sum(decisions.map(({ facts }) => facts.length)),
  }
}

function compare(story: Story, page: Page, me: Me | null, before: Seen, after: Seen): Told {
  const made = after.decisions.length > before.decisions.length ? after.decisions[0] : undefined
  // What is refused before any rule is asked is no decision; the page alone tells.
  const refused = page.status === 403 ? { outcome: 'denied', reason: refusalCode(page) } : null
  const outcome = me?.jit?.outcome ?? (made && outcomeOf(made)) ?? refused?.outcome ?? 'nothing'
  const reason = me?.jit?.reason ?? made?.reason ?? refused?.reason ?? 'none'
  const [had, has] = [count(before), count(after)]
  const grown = tables.flatMap((table) => {
    const more = has[table] - had[table]
    return more === 0 ? [] : [[table, more] as const]
  })
  const held = (me?.memberships ?? [])
    .map(
      ({ organization, grants }) =>
        `${organization}: ${grants
          .map(({ role }) => role)
          .sort()
          .join(', ')}`,
    )
    .sort()
  const isTheirs = (user: UserListing) => (user.verifiedEmail ?? user.contactEmail) === story.person.email
  const others = ({ users }: Seen) => users.filter((user) => !isTheirs(user))
  const membershipsOf = ({ users }: Seen) => users.find(isTheirs)?.memberships ?? []
  const mailsTo = ({ mails }: Seen) => mails.filter(({ to }) => to === story.person.email).length

  const differences: string[] = []
  const expect = (what: string, wanted: unknown, got: unknown) => {
    if (isDeepStrictEqual(wanted, got)) return
    differences.push(`${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`)
  }
  expect('status of the last page', story.outcome === 'denied' ? 403 : 200, page.status)
  if (differences.length > 0) differences.push(`it said: ${words(page)}`)
  expect('signed in', story.outcome !== 'denied', me !== null)
  expect('outcome', story.outcome, outcome)
  expect('reason', story.reason, reason)
  expect('rows', story.rows, Object.fromEntries(grown))
  expect('memberships', story.memberships, held)
  expect('mails to the person', story.mails ?? 0, mailsTo(after) - mailsTo(before))
  expect('all mails', story.mails ?? 0, after.mails.length - before.mails.length)
  expect('everybody else', others(before), others(after))
  for (const membership of membershipsOf(before)) {
    const now = membershipsOf(after).find((entry) => entry.organization === membership.organization)
    expect(`the membership in ${membership.organization}`, membership, now)
  }
  if (story.outcome === 'unchanged') {
    expect('the stored users', before.users, after.users)
    expect('the decisions', before.decisions, after.decisions)
  }
  const rows = grown.map(([table, more]) => `${table} +${more}`).join(', ') || 'none'
  return { story, outcome, reason, rows, differences }
}

/** The code that a refusal shows for the operator. */
const refusalCode = ({ text }: Page) => /<code>(\w+)<\/code>/.exec(text)?.[1] ?? 'none'
