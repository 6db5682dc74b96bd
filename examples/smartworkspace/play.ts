import { isDeepStrictEqual } from 'node:util'
import type { Audit, Outcome, Reason, Store, UserListing } from 'passport-jit'
import type { Browser, Page } from './browser.js'
import { outcomeOf } from './decisions.js'
import {
  count,
  inSession,
  inStore,
  look,
  type Me,
  me,
  type Rows,
  type Seen,
  type Session,
  tables,
} from './look.js'
import type { Surroundings } from './loopback.js'
import { type Mailed, type Stage, type Steps, words } from './steps.js'

interface Headline {
  readonly title: string
  readonly person: { readonly name: string; readonly email: string }
  /** For the table. */
  readonly way: string
}

/** A sign-in, or something done about a person, and what has to come of it. */
export interface Happening extends Headline {
  readonly steps: Steps
  readonly outcome: Outcome
  /** Of what is refused before any decision, the code that the page shows. */
  readonly reason: Reason | 'last_owner'
  /** Of the last page; 403 where it is denied, else 200. */
  readonly status?: number
  /** Rows more than before, by table; a table that is not named stays as it is. */
  readonly rows: Partial<Rows>
  /**
   * Organizations and roles of the person afterwards, such as `superfantasy: designer by sso, member by sso`; in the
   * session where somebody was to sign in, else as they are stored.
   */
  readonly memberships: readonly string[]
  /** The organization of the person about which something changes; all other memberships stay as they were. */
  readonly touches?: string
  /** The person's name afterwards. */
  readonly called?: string
  /** Mails it sends to the person; none where it is left out. */
  readonly mails?: number
  /** Whose sessions end with it, an address for each session; nobody's where it is left out. */
  readonly ends?: readonly string[]
}

/** What has to hold once all else is over. */
export interface Check extends Headline {
  /** @throws where it does not hold */
  readonly check: (stage: Stage, played: Played) => Promise<{ outcome: string; reason: string }>
}

export type Story = Happening | Check

export interface Told {
  readonly story: Headline
  readonly outcome: string
  readonly reason: string
  readonly rows: string
  /** What differed from the story; empty where it went as told. */
  readonly differences: readonly string[]
}

/** A running demo, its database to look into, what opens the operator's addresses, and what surrounds it. */
export interface Played {
  readonly url: string
  readonly store: Store
  readonly audit: Audit
  readonly adminToken: string | undefined
  readonly around: Surroundings | null
}

/** Plays every story against a running demo, one after the other, each sign-in in a browser of its own. */
export async function play(stories: readonly Story[], played: Played): Promise<Told[]> {
  const sessions: Session[] = []
  const stage = stageOf(played, sessions)
  const told: Told[] = []
  for (const story of stories) {
    try {
      if ('check' in story) {
        told.push({ story, ...(await story.check(stage, played)), rows: 'none', differences: [] })
        continue
      }
      const before = await look(played, stage.inbox, sessions)
      const { browser, page } = await story.steps(stage)
      const signedIn = browser && (await me(browser, played.url))
      const after = await look(played, stage.inbox, sessions)
      told.push(compare(story, { browser, page, me: signedIn, before, after }))
      if (browser && signedIn) sessions.push({ email: story.person.email, browser })
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      told.push({ story, outcome: 'failed', reason: '', rows: '', differences: [why] })
    }
  }
  return told
}

export function stageOf({ url, adminToken, around }: Played, sessions: readonly Session[]): Stage {
  const operator: Stage['operator'] = async (path, body) => {
    const answer = await fetch(url + path, {
      method: body ? 'POST' : 'GET',
      headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { url: new URL(url + path), status: answer.status, text: await answer.text() }
  }
  return {
    url,
    people: `${around?.url}/people/`,
    receiver: `${around?.webhook.url}`,
    operator,
    inbox: async () => {
      const { status, text } = await operator('/api/inbox')
      if (status !== 200) throw new Error(`the inbox answered ${status}`)
      return JSON.parse(text) as Mailed[]
    },
    browserOf: (email) => {
      const found = sessions.findLast((session) => session.email === email)
      if (!found) throw new Error(`${email} has not signed in yet`)
      return found.browser
    },
  }
}

/** What came of a story, and all around it before and after. */
interface Outcomes {
  readonly browser: Browser | null
  readonly page: Page
  readonly me: Me | null
  readonly before: Seen
  readonly after: Seen
}

function compare(story: Happening, { browser, page, me, before, after }: Outcomes): Told {
  const made = after.decisions.length > before.decisions.length ? after.decisions[0] : undefined
  // What is refused before any rule is asked is no decision; the page alone tells.
  const refused = page.status >= 400 ? { outcome: 'denied', reason: refusalCode(page) } : null
  const outcome = me?.jit.outcome ?? (made && outcomeOf(made)) ?? refused?.outcome ?? 'nothing'
  const reason = me?.jit.reason ?? made?.reason ?? refused?.reason ?? 'none'
  const [had, has] = [count(before), count(after)]
  const changed = tables.flatMap((table) => {
    const more = has[table] - had[table]
    return more === 0 ? [] : [[table, more] as const]
  })
  const isTheirs = (user: UserListing) => (user.verifiedEmail ?? user.contactEmail) === story.person.email
  const others = ({ users }: Seen) => users.filter((user) => !isTheirs(user))
  const elsewhere = ({ users }: Seen) =>
    users
      .find(isTheirs)
      ?.memberships.filter(({ organization }) => organization !== story.touches)
      .sort((a, b) => (a.organization < b.organization ? -1 : 1)) ?? []
  const theirs = after.users.find(isTheirs)
  const held = browser ? (me ? inSession(me) : []) : theirs ? inStore(theirs) : []
  const mailsTo = ({ mails }: Seen) => mails.filter(({ to }) => to === story.person.email).length
  const ended = before.alive.filter((session) => !after.alive.includes(session))

  const differences: string[] = []
  const expect = (what: string, wanted: unknown, got: unknown) => {
    if (isDeepStrictEqual(wanted, got)) return
    differences.push(`${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`)
  }
  const denied = story.outcome === 'denied'
  expect('status of the last page', story.status ?? (denied ? 403 : 200), page.status)
  if (differences.length > 0) differences.push(`it said: ${words(page)}`)
  if (browser) expect('signed in', !denied, me !== null)
  expect('outcome', story.outcome, outcome)
  expect('reason', story.reason, reason)
  expect('rows', story.rows, Object.fromEntries(changed))
  expect('memberships', story.memberships, held)
  if (story.called !== undefined) expect('name', story.called, theirs?.attributes.name)
  expect('mails to the person', story.mails ?? 0, mailsTo(after) - mailsTo(before))
  expect('all mails', story.mails ?? 0, after.mails.length - before.mails.length)
  expect('sessions that ended', [...(story.ends ?? [])].sort(), ended.map(({ email }) => email).sort())
  expect(
    'sessions that came back',
    [],
    after.alive.filter((session) => !before.alive.includes(session)),
  )
  expect('everybody else', others(before), others(after))
  const joined = elsewhere(after).filter(
    ({ organization }) => !elsewhere(before).some((entry) => entry.organization === organization),
  )
  const kept = elsewhere(after).filter((entry) => !joined.includes(entry))
  expect('the other memberships', elsewhere(before), kept)
  if (Object.keys(story.rows).length === 0) {
    expect('the stored users', before.users, after.users)
    expect('the decisions', before.decisions, after.decisions)
  }
  const rows = changed.map(([table, more]) => `${table} ${more > 0 ? '+' : '−'}${Math.abs(more)}`)
  if (ended.length > 0) rows.push(`sessions −${ended.length}`)
  return { story, outcome, reason, rows: rows.join(', ') || 'none', differences }
}

/** The code that a refusal shows for the operator. */
const refusalCode = ({ text }: Page) => /<code>(\w+)<\/code>/.exec(text)?.[1] ?? 'none'
