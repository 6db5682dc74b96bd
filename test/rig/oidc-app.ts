import express from 'express'
import session from 'express-session'
import passport from 'passport'
import {
  createJit,
  type DirectoryInput,
  type Jit,
  type JitOptions,
  type LogEntry,
  type Store,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { expect } from 'vitest'
import { type Browser, browser, listen } from './oidc-http.js'
import type { Provider } from './oidc-provider.js'
import { testStore } from './store.js'

export type ConnectionInput = NonNullable<DirectoryInput['connections']>[number]
export type OidcInput = Extract<ConnectionInput, { protocol: 'oidc' }>

/** The parts of an app that a test may choose. */
export interface AppOptions extends Partial<Omit<JitOptions, 'store' | 'lock' | 'log'>> {
  organizations?: DirectoryInput['organizations']
  connections?: ConnectionInput[]
  /** Of an app before, to go on with its users; a new one by default. */
  store?: Store
  /** Mounts the kit; `app.use(jit.routes())` by default. */
  mount?: (app: express.Express, jit: Jit, passport: passport.Authenticator) => void
  /** False for an app without sessions. */
  sessions?: boolean
}

export const twoOrganizations: DirectoryInput['organizations'] = [
  { id: 'acme', name: 'Acme', roles: ['owner', 'admin', 'member'], domains: ['acme.example'] },
  { id: 'globex', name: 'Globex', roles: ['owner', 'admin', 'member'], domains: ['globex.example'] },
]

/** An Express app with the kit on the store of this run; `/me` says who is signed in, or 401. */
export async function startApp(options: AppOptions) {
  const app = express()
  const own = options.store ? null : await testStore()
  const server = await listen('localhost', app)
  const close = async () => {
    await server.close()
    await own?.close()
  }
  try {
    return await build(app, { ...server, close }, options.store ?? own!.store, options)
  } catch (error) {
    await close()
    throw error
  }
}

async function build(
  app: express.Express,
  server: Awaited<ReturnType<typeof listen>>,
  store: Store,
  options: AppOptions,
) {
  const log: LogEntry[] = []
  const errors: unknown[] = []
  const now = options.now ?? Date.now
  const { organizations = twoOrganizations, connections = [] } = options
  const sessions = new session.MemoryStore()
  const jit = createJit({
    baseUrl: options.baseUrl ?? server.origin,
    ...(options.path && { path: options.path }),
    returnTo: '/me',
    store,
    lock: memoryLock(),
    once: options.once ?? memoryOnce(now),
    directory: options.directory ?? staticDirectory({ organizations, connections }),
    strategies: options.strategies ?? [oidcStrategy()],
    log: (entry) => log.push(entry),
    now,
    ...(options.fetch && { fetch: options.fetch }),
    ...(options.outbound && { outbound: options.outbound }),
    ...(options.limits && { limits: options.limits }),
  })
  const instance = new passport.Passport()
  app.disable('x-powered-by')
  if (options.sessions !== false) {
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false, store: sessions }))
    app.use(instance.session() as express.RequestHandler)
  }
  jit.passport(instance as never)
  if (options.mount) options.mount(app, jit, instance)
  else app.use(jit.routes())
  app.get('/me', (req, res) => {
    if (req.user) res.json({ user: req.user, jit: req.jit })
    else res.status(401).json({ error: 'nobody' })
  })
  const noted: express.ErrorRequestHandler = (error, _req, _res, next) => {
    errors.push(error)
    next(error)
  }
  app.use(noted)
  app.use(jit.errorPage())
  await jit.ready()

  return {
    origin: server.origin,
    close: server.close,
    jit,
    store,
    sessions,
    log,
    /** What an error handler of the app's own gets. */
    errors,
    callback: (connection: string) => `${server.origin}/auth/sso/${connection}/callback`,
    start: (connection: string) => `${server.origin}/auth/sso/${connection}`,
    me: async (client: Browser) => (await client.go(`${server.origin}/me`)).status,
    rows: async () => ({ users: (await store.users()).rows, events: (await store.events()).rows }),
  }
}

export type App = Awaited<ReturnType<typeof startApp>>

export const oidcConnection = (
  id: string,
  provider: { issuer: string },
  more: Partial<OidcInput> = {},
): OidcInput => ({
  id,
  organization: 'acme',
  protocol: 'oidc',
  issuer: provider.issuer,
  clientId: `client-${id}`,
  clientSecret: `secret of ${id}`,
  allowInsecureRequests: true,
  jit: { roles: ['member'] },
  ...more,
})

export const clientOf = (connection: string) => ({
  id: `client-${connection}`,
  secret: `secret of ${connection}`,
})

/** Begins a sign-in, picks a person at the provider, and stops before the callback: its URL. */
export async function untilCallback(
  app: App,
  connection: string,
  who: string,
  client = browser(),
): Promise<URL> {
  const begun = await client.go(app.start(connection))
  expect(begun.status, begun.text).toBe(302)
  const authorize = new URL(begun.location!)
  authorize.searchParams.set('person', who)
  const answered = await client.go(authorize.href)
  expect(answered.status, answered.text).toBe(302)
  return new URL(answered.location!)
}

/** A whole sign-in; the answer of the callback. */
export async function signIn(app: App, connection: string, who: string, client = browser()) {
  return client.go((await untilCallback(app, connection, who, client)).href)
}

/** The callback signed the person in: redirected, known to `/me`, one user with one identity. */
export async function expectSignedIn(app: App, client: Browser, answer: { status: number; text: string }) {
  expect(answer.status, answer.text).toBe(303)
  expect(await app.me(client)).toBe(200)
}

/**
 * A refusal: status and code, no session, no row, one log line that names the code. A refusal of the planner
 * leaves one `denied` event, any other none.
 */
export async function expectRefused(
  app: App,
  client: Browser,
  answer: { status: number; text: string },
  expected: { code: string; status: number; denied?: boolean; message?: RegExp },
  before: Awaited<ReturnType<App['rows']>> = { users: [], events: [] },
) {
  expect([answer.status, JSON.parse(answer.text).error], answer.text).toEqual([
    expected.status,
    expected.code,
  ])
  expect(await app.me(client)).toBe(401)
  const { users, events } = await app.rows()
  expect(users).toEqual(before.users)
  expect(
    events.slice(0, events.length - before.events.length).map(({ type, reason }) => [type, reason]),
  ).toEqual(expected.denied ? [['denied', expected.code]] : [])
  const line = app.log.at(-1)!
  expect(line.code).toBe(expected.code)
  expect(line.correlationId).toBe(JSON.parse(answer.text).correlationId)
  if (expected.message) expect(line.message).toMatch(expected.message)
  expect(line.message).not.toMatch(/eyJ[\w-]{10,}/)
}

export type { Provider }
