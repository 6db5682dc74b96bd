import { isDeepStrictEqual } from 'node:util'
import type { Outcome, Reason, Store, UserListing } from 'passport-jit'
import { Browser, form, links, type Page } from './browser.js'
import { type Decision, readDecisions } from './decisions.js'
import { type Person, people } from './organizations.js'

/** A sign-in, and what has to come of it. */
interface Story {
  readonly title: string
  readonly person: Person
  readonly connection: string
  readonly outcome: Outcome
  readonly reason: Reason
  /** Rows more than before, by table; a table that is not named stays as it is. */
  readonly rows: Partial<Rows>
  /** Organization and roles of the person afterwards, such as `superfantasy: designer, member`. */
  readonly memberships: readonly string[]
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

const [sarah, peter, wanda, otto] = people.superfantasy as unknown as [Person, Person, Person, Person]
const [ines, milton] = people.initech as unknown as [Person, Person]
const refused = { outcome: 'denied', rows: { events: 1 } } as const

const stories: readonly Story[] = [
  {
    title: 'new hire by SAML',
    person: sarah,
    connection: 'superfantasy-saml',
    outcome: 'created',
    reason: 'user_provisioned',
    rows: { users: 1, identities: 1, memberships: 1, grants: 2, events: 5 },
    memberships: ['superfantasy: designer, member'],
  },
  {
    title: 'the same person again',
    person: sarah,
    connection: 'superfantasy-saml',
    outcome: 'unchanged',
    reason: 'identity_known',
    rows: {},
    memberships: ['superfantasy: designer, member'],
  },
  {
    title: 'colleague from the acquired company',
    person: peter,
    connection: 'superfantasy-saml',
    outcome: 'linked',
    reason: 'identity_linked',
    rows: { identities: 1, memberships: 1, grants: 2, events: 4 },
    memberships: ['magictech: admin', 'superfantasy: admin, member'],
  },
  {
    title: 'new hire by OpenID Connect',
    person: people.globex[0]!,
    connection: 'globex-oidc',
    outcome: 'created',
    reason: 'user_provisioned',
    rows: { users: 1, identities: 1, memberships: 1, grants: 2, events: 5 },
    memberships: ['globex: auditor, member'],
  },
  {
    title: 'JIT off, no account',
    person: ines,
    connection: 'initech-saml',
    ...refused,
    reason: 'user_not_provisioned',
    memberships: [],
  },
  {
    title: 'JIT off, account made by hand',
    person: milton,
    connection: 'initech-saml',
    outcome: 'linked',
    reason: 'identity_linked',
    rows: { identities: 1, events: 1 },
    memberships: ['initech: member'],
  },
  {
    title: 'address of another organization',
    person: wanda,
    connection: 'superfantasy-saml',
    ...refused,
    reason: 'email_foreign',
    memberships: [],
  },
  {
    title: 'address in nobody’s domain',
    person: otto,
    connection: 'superfantasy-saml',
    ...refused,
    reason: 'email_outside',
    memberships: [],
  },
]

/** Plays every story against a running demo, one after the other, each person in a browser of their own. */
export async function play(appUrl: string, store: Store): Promise<Told[]> {
  const told: Told[] = []
  for (const story of stories) {
    const before = await look(store)
    try {
      const { page, me } = await signIn(appUrl, story)
      told.push(compare(story, page, me, before, await look(store)))
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      told.push({ story, outcome: 'failed', reason: '', rows: '', differences: [why] })
    }
  }
  return told
}

/** What `GET /api/me` answers, as far as the stories ask. */
interface Me {
  readonly jit?: { readonly outcome: string; readonly reason: string }
  readonly memberships?: readonly {
    readonly organization: string
    readonly grants: readonly { role: string }[]
  }[]
}

/** From the sign-in page through the identity provider and back, as a person would click. */
async function signIn(appUrl: string, { person, connection }: Story): Promise<{ page: Page; me: Me | null }> {
  const browser = new Browser()
  const start = links(await browser.open(appUrl)).find((href) => href.endsWith(`/auth/sso/${connection}`))
  if (start === undefined) throw new Error(`the sign-in page has no button for ${connection}`)
  let page = await browser.open(start)
  const choice = links(page).find((href) => new URL(href).searchParams.get('person') === person.id)
  const chooser = form(page)
  if (choice !== undefined) page = await browser.open(choice)
  else if (chooser) page = await browser.submit(page, chooser, { person: person.id })
  // The identity provider's answer travels as a form that a browser submits by itself.
  const answer = form(page)
  if (answer?.method === 'post' && page.url.origin !== appUrl) page = await browser.submit(page, answer)
  if (page.url.origin !== appUrl)
    throw new Error(`the sign-in got stuck at ${page.url.origin}${page.url.pathname}`)
  const me = await browser.open(`${appUrl}/api/me`)
  return { page, me: me.status === 200 ? (JSON.parse(me.text) as Me) : null }
}

interface Seen {
  readonly users: readonly UserListing[]
  readonly decisions: readonly Decision[]
}

async function look(store: Store): Promise<Seen> {
  const users: UserListing[] = []
  for (let after: string | undefined, more = true; more; ) {
    const page = await store.users({ limit: 1000, ...(after !== undefined && { after }) })
    users.push(...page.rows)
    more = page.next !== null
    after = page.next ?? undefined
  }
  const decisions: Decision[] = []
  for (let after: string | undefined, more = true; more; ) {
    const page = await readDecisions(store, { limit: 1000, ...(after !== undefined && { after }) })
    decisions.push(...page.decisions)
    more = page.next !== null
    after = page.next ?? undefined
  }
  return { users, decisions }
}

function count({ users, decisions }: Seen): Rows {
  const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0)
  return {
    users: users.length,
    identities: sum(users.map((user) => user.identities.length)),
    memberships: sum(users.map((user) => user.memberships.length)),
    grants: sum(users.flatMap((user) => user.memberships.map(({ grants }) => grants.length))),
    events: sum(decisions.map(({ events }) => events.length)),
  }
}

function compare(story: Story, page: Page, me: Me | null, before: Seen, after: Seen): Told {
  const made = after.decisions.length > before.decisions.length ? after.decisions[0] : undefined
  const outcome = me?.jit?.outcome ?? made?.outcome ?? 'nothing'
  const reason = me?.jit?.reason ?? made?.reason ?? 'none'
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
  const others = (seen: Seen) =>
    seen.users.filter(({ verifiedEmail }) => verifiedEmail !== story.person.email)
  const membershipsBefore =
    before.users.find((user) => user.verifiedEmail === story.person.email)?.memberships ?? []
  const membershipsAfter =
    after.users.find((user) => user.verifiedEmail === story.person.email)?.memberships ?? []

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
  expect('everybody else', others(before), others(after))
  for (const membership of membershipsBefore) {
    const now = membershipsAfter.find((entry) => entry.organization === membership.organization)
    expect(`the membership in ${membership.organization}`, membership, now)
  }
  if (story.outcome === 'unchanged') expect('the stored rows', before, after)
  const rows = grown.map(([table, more]) => `${table} +${more}`).join(', ') || 'none'
  return { story, outcome, reason, rows, differences }
}

/** What a person reads on a page. */
const words = ({ text }: Page) =>
  text
    .replace(/^.*<main>/s, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()

/** The stories as a table, with what differed below it. */
export function table(told: readonly Told[]): string {
  const rows = told.map(({ story, outcome, reason, rows: written, differences }) => [
    differences.length === 0 ? '✓' : '✗',
    story.title,
    story.person.name,
    story.connection,
    outcome,
    reason,
    written,
  ])
  const lines = [['', 'story', 'person', 'way in', 'outcome', 'reason', 'rows written'], ...rows]
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const text = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
  text.splice(1, 0, widths.map((width) => '─'.repeat(width)).join('  '))
  const wrong = told.flatMap(({ story, differences }) =>
    differences.map((difference) => `  ${story.title}: ${difference}`),
  )
  return [
    ...text,
    '',
    ...(wrong.length > 0 ? ['What differed:', ...wrong] : ['Every story went as told.']),
  ].join('\n')
}
