import type { Audit, Decision, Store, UserListing } from 'passport-jit'
import type { Browser } from './browser.js'
import type { Mailed } from './steps.js'

/** A session that somebody began in the course of the stories. */
export interface Session {
  readonly email: string
  readonly browser: Browser
}

/** Everything that a story may change, and all that it must leave alone. */
export interface Seen {
  readonly users: readonly UserListing[]
  /** Newest first. */
  readonly decisions: readonly Decision[]
  readonly mails: readonly Mailed[]
  /** Sessions that still answer. */
  readonly alive: readonly Session[]
}

/** What `GET /api/me` answers, as far as the stories ask. */
export interface Me {
  readonly user: { readonly attributes: Readonly<Record<string, string>> }
  readonly jit: { readonly outcome: string; readonly reason: string }
  readonly memberships: readonly {
    readonly organization: string
    readonly active: boolean
    readonly grants: readonly Granted[]
  }[]
}

type Granted = { readonly role: string; readonly source: string }

export async function look(
  { url, store, audit }: { readonly url: string; readonly store: Store; readonly audit: Audit },
  inbox: () => Promise<readonly Mailed[]>,
  sessions: readonly Session[],
): Promise<Seen> {
  const known = await Promise.all(sessions.map(({ browser }) => me(browser, url)))
  return {
    users: await all((page) => store.users(page)),
    decisions: await all((page) => audit.decisions(page)),
    mails: await inbox(),
    alive: sessions.filter((_, index) => known[index]),
  }
}

/** Who is signed in there, or null. */
export async function me(browser: Browser, url: string): Promise<Me | null> {
  const { status, text } = await browser.open(`${url}/api/me`)
  return status === 200 ? (JSON.parse(text) as Me) : null
}

export async function all<T>(
  read: (page: { limit: number; after?: string }) => Promise<{ rows: readonly T[]; next: string | null }>,
): Promise<T[]> {
  const found: T[] = []
  for (let after: string | null = ''; after !== null; ) {
    const page: Awaited<ReturnType<typeof read>> = await read({ limit: 1000, ...(after && { after }) })
    found.push(...page.rows)
    after = page.next
  }
  return found
}

export type Rows = Record<(typeof tables)[number], number>
export const tables = ['users', 'identities', 'memberships', 'grants', 'events'] as const

export function count({ users, decisions }: Seen): Rows {
  const sum = (numbers: number[]) => numbers.reduce((total, each) => total + each, 0)
  return {
    users: users.length,
    identities: sum(users.map((user) => user.identities.length)),
    memberships: sum(users.map((user) => user.memberships.length)),
    grants: sum(users.flatMap((user) => user.memberships.map(({ grants }) => grants.length))),
    events: sum(decisions.map(({ facts }) => facts.length)),
  }
}

/** Such as `magictech: admin by hand, member by domain`. */
const rolesOf = (grants: readonly Granted[]) =>
  grants
    .map(({ role, source }) => `${role} by ${source === 'manual' ? 'hand' : source.replace(/:.*/s, '')}`)
    .sort()
    .join(', ')

/** Memberships as they count in a session. */
export const inSession = ({ memberships }: Me): string[] =>
  memberships
    .map(
      ({ organization, active, grants }) =>
        `${organization}${active ? '' : ', not here'}: ${rolesOf(grants)}`,
    )
    .sort()

/** Memberships as they are stored. */
export const inStore = ({ memberships }: Pick<UserListing, 'memberships'>): string[] =>
  memberships
    .map(({ organization, status, seat, grants }) => {
      const state = status === 'suspended' ? ', suspended' : seat ? '' : ', no seat'
      return `${organization}${state}: ${rolesOf(grants)}`
    })
    .sort()
