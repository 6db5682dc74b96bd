import { assertIdentity, type DirectoryInput, type Groups, type Strategy, single } from 'passport-jit'
import { expect } from 'vitest'
import {
  type App,
  type AppOptions,
  type Browser,
  browser,
  type Person,
  signedStrategy,
  startApp,
} from '../rig/inbox.js'

// People who come back, by SSO, by social providers and by e-mail, while policies and administrators change things.

/** What an IdP says of somebody; `alice` of o.example where nothing else is said. */
export interface Told {
  readonly subject?: string
  readonly email?: string | null
  readonly emailVerified?: 'yes' | 'no'
  readonly profile?: Record<string, string>
  readonly groups?: readonly string[] | 'absent' | 'overflow'
}

/** Believes what the test tells it; what is under test comes after. */
const told: Strategy = {
  protocol: 'oidc',
  attemptKey: ({ query }) => single(query, 'state'),
  begin: async (_, attempt) => ({ redirect: `https://idp.example/?state=${attempt}`, secrets: {} }),
  complete: async (connection, { query }, _, { now }) => {
    const { groups = [], email, ...rest } = JSON.parse(single(query, 'told')!) as Told
    return assertIdentity({
      source: `connection:${connection.id}`,
      sourceVersion: connection.version,
      issuer: `https://idp.example/${connection.id}`,
      subject: 'alice',
      ...(email !== null && { email: email ?? 'alice@o.example' }),
      groups: (typeof groups === 'string' ? { kind: groups } : { kind: 'listed', values: groups }) as Groups,
      at: now(),
      ...rest,
    })
  },
}

type Connection = Extract<NonNullable<DirectoryInput['connections']>[number], { protocol: 'oidc' }>
type Organization = DirectoryInput['organizations'][number]

export interface Policy {
  /** Of connection C. */
  readonly c?: Partial<Connection>
  /** Of organization O. */
  readonly o?: Partial<Organization>
  /** Of organization P, whose connection E vouches for O's people too. */
  readonly p?: Partial<Organization>
  /** Without them O's people come by e-mail. */
  readonly connections?: false
}

/** O with the connections C and D, P with E; e-mail, and three social providers of which `sure` is authoritative. */
export function directory({ c, o, p, connections }: Policy = {}): DirectoryInput {
  const roles = ['owner', 'admin', 'member', 'viewer']
  const connection = (id: string, organization: string, more: object = {}): Connection => ({
    ...{
      id,
      organization,
      protocol: 'oidc',
      issuer: 'https://idp.example',
      clientId: 'x',
      clientSecret: 'y',
    },
    jit: { roles: ['member'] },
    attributes: { email: 'email', groups: 'groups', name: 'name' },
    groups: { absent: 'unknown', map: { admins: ['admin'], watchers: ['viewer'] } },
    ...more,
  })
  return {
    organizations: [
      { id: 'o', name: 'O', roles, domains: ['o.example', 'acquired.example'], ...o },
      { id: 'p', name: 'P', roles, domains: ['p.example'], ...p },
    ],
    connections:
      connections === false
        ? []
        : [
            connection('c', 'o', c),
            connection('d', 'o'),
            connection('e', 'p', { vouchesFor: ['p.example', 'o.example'] }),
          ],
    social: [
      { id: 'pal', preset: 'passport' },
      { id: 'mate', preset: 'passport' },
      { id: 'sure', preset: 'passport', link: 'verified-email' },
    ],
    email: { enabled: true },
  }
}

export async function scene(policy: Policy = {}, more: Partial<AppOptions> = {}) {
  let time = Date.now()
  const options = { strategies: [told, signedStrategy() as never], now: () => time, ...more }
  const first = await startApp({ directory: directory(policy), ...options })
  const running: App[] = [first]
  const app = () => running.at(-1)!

  /** Comes by a connection; the answer of its callback. */
  async function enter(who: Told = {}, { connection = 'c', client = browser(), query = '' } = {}) {
    const begun = await client.go(`${app().origin}/auth/sso/${connection}${query}`)
    if (begun.status !== 302) return begun
    const state = new URL(begun.location!).searchParams.get('state')!
    const answer = new URLSearchParams({ state, told: JSON.stringify(who) })
    return client.go(`${app().origin}/auth/sso/${connection}/callback?${answer}`)
  }
  const signedIn = async (
    answer: { status: number; text: string; location: string | null },
    client: Browser,
  ) => {
    expect([answer.status, answer.location && new URL(answer.location).pathname], answer.text).toEqual([
      303,
      '/me',
    ])
    return (await app().me(client)) as Me
  }

  return {
    get app() {
      return app()
    },
    enter,
    /** Comes by a connection and is signed in. */
    me: async (who: Told = {}, { connection = 'c', client = browser(), query = '' } = {}) =>
      signedIn(await enter(who, { connection, client, query }), client),
    /** Comes by a connection and is refused; with which code. */
    refused: async (who: Told = {}, connection = 'c') => {
      const client = browser()
      const answer = await enter(who, { connection, client })
      expect(answer.status, answer.text).toBeGreaterThanOrEqual(400)
      expect(await app().me(client)).toBeNull()
      return (answer.json() as { error: string }).error
    },
    /** Comes by a social provider; the answer of its callback. */
    social: async (provider: string, who: Person, { client = browser(), query = '' } = {}) =>
      client.go(await app().atProvider(client, provider, who, query)),
    /** Signs in with a mailed code; null where that is refused. */
    byCode: async (email: string, client = browser()): Promise<Me | null> => {
      const asked = await app().ask(client, email)
      if (asked.status !== 200) return null
      await app().verify(client, email, app().inbox.to(email).code)
      return app().me(client)
    },
    /** The same store under another policy, as after a restart. */
    restart: async (next: Policy) => {
      running.push(await startApp({ directory: directory(next), ...options, store: first.store }))
    },
    pass: (milliseconds: number) => {
      time += milliseconds
    },
    get time() {
      return time
    },
    user: async (id: string) => (await app().rows()).users.find((user) => user.id === id),
    /** Roles in an organization with their sources; null for no member. */
    grants: async (id: string, organization = 'o') => {
      const user = (await app().rows()).users.find((entry) => entry.id === id)
      const member = user?.memberships.find((entry) => entry.organization === organization)
      return member ? member.grants.map(({ role, source }) => `${role} ${source}`).sort() : null
    },
    close: async () => {
      for (const one of running.toReversed()) await one.close()
    },
  }
}

export type Scene = Awaited<ReturnType<typeof scene>>

export interface Me {
  readonly user: {
    readonly id: string
    readonly email: string | null
    readonly attributes: Record<string, string>
    readonly memberships: readonly { organization: string; roles: string[]; active: boolean }[]
  }
  readonly jit: { readonly outcome: string; readonly reason: string; readonly joined: string[] }
}
