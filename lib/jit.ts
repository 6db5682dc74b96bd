import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import * as z from 'zod'
import { type ErrorCode, JitError } from './errors.js'
import type { AssertedIdentity, Source } from './identity.js'
import { normalizeEmail, readClaims } from './identity.js'
import * as middleware from './middleware.js'
import { usePassport } from './passport.js'
import type { IdentityFacts, Plan } from './plan.js'
import type { Connection } from './policy.js'
import { explain } from './provision.js'
import type { Directory, Lock, Once, Operation, Store } from './store.js'
import type { Strategy } from './strategy.js'

/** A line of the log; never holds a token, a code or an assertion. */
export interface LogEntry {
  readonly level: 'warn' | 'error'
  readonly message: string
  readonly code?: ErrorCode
  readonly correlationId?: string
}

export interface JitOptions {
  /** Origin of the app as browsers see it, such as `https://app.example.com`; no path. */
  baseUrl: string
  /** Path of the routes; `/auth` by default. */
  path?: string
  /** Where to go after sign-in where the start named no address, and after sign-out; `/` by default. */
  returnTo?: string
  store: Store
  lock: Lock
  once: Once
  directory: Directory
  strategies: readonly Strategy[]
  /** Takes log lines; by default they go to standard error as JSON. */
  log?: (entry: LogEntry) => void
  /** Milliseconds since the epoch; the system clock by default. */
  now?: () => number
  /** Outbound requests to identity providers; the global `fetch` by default. */
  fetch?: typeof globalThis.fetch
}

/** Who might sign in, for `explain`; `claims` are read by the connection's own mapping. */
export interface Hypothesis {
  readonly connection: string
  readonly subject: string
  readonly claims: Readonly<Record<string, unknown>>
  readonly issuer?: string
}

export interface Jit {
  /** Registers the Passport strategies `jit` and one for each protocol, and (de)serialization. */
  passport: (passport: Parameters<typeof usePassport>[1]) => void
  routes: () => middleware.Handler
  authenticate: (options: middleware.AuthenticateOptions) => middleware.Handler
  provision: (options?: middleware.ProvisionOptions) => middleware.Handler
  /** Express error handler that shows refusals. */
  errorPage: () => ReturnType<typeof middleware.errorPage>
  /** The plan and its trace for somebody who might sign in; writes nothing. */
  explain: (hypothesis: Hypothesis) => Promise<Plan>
  /** Resolves when tables and directory are in the store; requests wait for it, start-up scripts may. */
  ready: () => Promise<void>
  /** Refusals since the start, by code. */
  refusals: () => Readonly<Partial<Record<ErrorCode, number>>>
}

const optionsSchema = z.object({
  baseUrl: z
    .url({ protocol: /^https?$/ })
    .transform((url) => new URL(url))
    .refine(
      (url) => url.pathname === '/' && !url.search && !url.hash && !url.username,
      'only an origin, no path',
    )
    .transform((url) => url.origin),
  path: z
    .string()
    .regex(/^(?:\/[A-Za-z0-9._~-]+)+$/, 'a path such as "/auth", without a final slash')
    .default('/auth'),
  returnTo: z
    .string()
    .regex(/^\/(?![/\\])/, 'a path of this app')
    .default('/'),
  store: port('store', 'load', 'user', 'commit', 'migrate'),
  lock: port('lock', 'acquire'),
  once: port('once', 'put', 'take', 'claim'),
  directory: port('directory', 'organization', 'connection', 'domainOwner'),
  strategies: z.array(port('strategies', 'attemptKey', 'begin', 'complete')).min(1, 'at least one strategy'),
})

function port(name: string, ...methods: string[]) {
  return z.custom<object>(
    (value) =>
      methods.every((method) => typeof (value as Record<string, unknown> | null)?.[method] === 'function'),
    `${name} must have the methods ${methods.join(', ')}`,
  )
}

/**
 * The kit, set up once for an app.
 * @throws JitError `config_invalid` naming each wrong option, each connection that no strategy serves, and
 *   each connection its strategy cannot work with.
 */
export function createJit(options: JitOptions): Jit {
  const parsed = optionsSchema.safeParse(options)
  if (!parsed.success) {
    fail(parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`))
  }
  const { baseUrl, path, returnTo } = parsed.data!
  const log = options.log ?? ((entry) => console.error(JSON.stringify(entry)))
  const now = options.now ?? Date.now
  const strategies = new Map<string, Strategy>(
    options.strategies.map((strategy) => [strategy.protocol, strategy]),
  )
  for (const message of [...(options.directory.warnings ?? []), ...check(options.directory, strategies)]) {
    log({ level: 'warn', message })
  }
  if (baseUrl.startsWith('http:') && !/^http:\/\/(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:|$)/.test(baseUrl)) {
    log({ level: 'warn', message: `baseUrl: ${baseUrl} is plain http, so cookies travel unprotected` })
  }

  const counters: Partial<Record<ErrorCode, number>> = {}
  const correlations = new WeakMap<IncomingMessage, string>()
  const correlationId = (req: IncomingMessage) => {
    const id = correlations.get(req) ?? randomUUID()
    correlations.set(req, id)
    return id
  }
  let starting: Promise<void> | null = null
  const ports: middleware.MiddlewarePorts = {
    baseUrl,
    path,
    returnTo,
    store: options.store,
    lock: options.lock,
    once: options.once,
    directory: options.directory,
    strategies,
    now,
    fetch: options.fetch ?? globalThis.fetch,
    destinations: new WeakMap<AssertedIdentity, string>(),
    correlationId,
    refused: (error, req) => {
      if (counted.has(error)) return error
      counted.add(error)
      error.correlationId ??= correlationId(req)
      counters[error.code] = (counters[error.code] ?? 0) + 1
      log({
        level: error.status >= 500 ? 'error' : 'warn',
        code: error.code,
        message: error.message,
        correlationId: error.correlationId,
      })
      return error
    },
    ready: () => {
      starting ??= prepare(options.store, options.directory).catch((cause) => {
        starting = null
        throw new JitError(
          'unavailable',
          `the store could not be prepared: ${cause instanceof Error ? cause.message : cause}`,
          { cause },
        )
      })
      return starting
    },
  }
  const counted = new WeakSet<JitError>()
  return {
    passport: (passport) => usePassport(ports, passport),
    routes: () => middleware.routes(ports),
    authenticate: (chosen) => middleware.authenticate(ports, chosen),
    provision: (chosen) => middleware.provision(ports, chosen),
    errorPage: () => middleware.errorPage(ports),
    explain: async (hypothesis) => {
      await ports.ready()
      return explain(ports, await suppose(options.directory, hypothesis, now()))
    },
    ready: ports.ready,
    refusals: () => ({ ...counters }),
  }
}

function check(directory: Directory, strategies: ReadonlyMap<string, Strategy>): string[] {
  const problems: string[] = []
  const warnings: string[] = []
  for (const connection of directory.entries?.connections ?? []) {
    const strategy = strategies.get(connection.protocol)
    if (!strategy) {
      problems.push(
        `connection "${connection.id}": no strategy for protocol "${connection.protocol}"; add ${connection.protocol}Strategy() to strategies`,
      )
      continue
    }
    try {
      warnings.push(...(strategy.check?.(connection) ?? []))
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
    }
  }
  if (problems.length > 0) fail(problems)
  return warnings
}

function fail(problems: string[]): never {
  throw new JitError(
    'config_invalid',
    `createJit has ${problems.length} problem(s):\n  ${problems.join('\n  ')}`,
    { problems },
  )
}

/** Tables first, then a row for each entry of a static directory, so that guards have rows to stand on. */
async function prepare(store: Store, directory: Directory): Promise<void> {
  await store.migrate()
  const puts: Operation[] = [
    ...(directory.entries?.organizations ?? []).map(
      ({ id, version, name, status, seatLimit }) =>
        ({ op: 'organization.put', id, version, name, status, seatLimit }) as const,
    ),
    ...(directory.entries?.connections ?? []).map(
      ({ id, version, organization, enabled }) =>
        ({ op: 'connection.put', id, version, organization, enabled }) as const,
    ),
  ]
  const batch = 500
  for (let at = 0; at < puts.length; at += batch) {
    const ops = puts.slice(at, at + batch)
    for (let attempt = 1; ; attempt++) {
      const result = await store.commit({ id: randomUUID(), expect: [], guards: [], ops, events: [] })
      if (result.committed) break
      if (attempt === 5)
        throw new Error(`the directory could not be written: ${JSON.stringify(result.conflict)}`)
    }
  }
}

async function suppose(directory: Directory, hypothesis: Hypothesis, now: number): Promise<IdentityFacts> {
  const connection: Connection | null = await directory.connection(hypothesis.connection)
  if (!connection)
    throw new JitError('connection_unknown', `there is no connection "${hypothesis.connection}"`)
  const { email, groups, profile } = readClaims(hypothesis.claims, connection.attributes)
  const source: Source = `connection:${connection.id}`
  const verified = hypothesis.claims.email_verified
  return {
    source,
    sourceVersion: connection.version,
    issuer: hypothesis.issuer ?? (connection.protocol === 'oidc' ? connection.issuer : ''),
    subject: hypothesis.subject,
    email: email === undefined ? null : normalizeEmail(email),
    emailVerified: verified === undefined ? 'unstated' : verified === true ? 'yes' : 'no',
    profile,
    groups,
    claims: hypothesis.claims,
    at: now,
  }
}
