import { createHmac, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import * as z from 'zod'
import { type Admin, administration } from './admin.js'
import type { Hash } from './audit.js'
import { type Background, background } from './background.js'
import type { OnConflict } from './conflict.js'
import { requestLimit } from './deadline.js'
import { deploymentProblems, isLoopback } from './deployment.js'
import { type ErrorCode, JitError } from './errors.js'
import { explain } from './explain.js'
import { type Hypothesis, suppose } from './hypothesis.js'
import { type Audit, audit, sealing } from './ledger.js'
import { type RequestLimits, requestLimits } from './limits.js'
import * as middleware from './middleware.js'
import { type Outbound, type OutboundOptions, outbound, outboundSchema } from './outbound.js'
import { type Deliveries, deliveries, delivering, type Listener, listenersSchema } from './outbox.js'
import { usePassport } from './passport.js'
import type { Plan } from './plan.js'
import type { EmailProvider } from './policy.js'
import { changesOf, heldSyncs, type PolicyInput, policiesOf } from './policy-change.js'
import { type Preview, preview } from './preview.js'
import { guarding, type RevocationsOptions, revocationsSchema } from './revocations.js'
import { routes } from './routes.js'
import { prepare } from './start.js'
import type { Directory, Lock, Once, Store } from './store.js'
import type { EmailStrategy, Entry, Strategy } from './strategy.js'
import { type Why, why } from './why.js'

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
  /** Protocols and methods the app speaks; every connection and provider of the directory needs its own. */
  strategies: readonly (Strategy | EmailStrategy)[]
  /**
   * Key of the hashes that stand for addresses, subjects and attribute values in the audit trail, and for users who
   * were removed; 32 characters at least. By default a random one kept in the store, which whoever has a copy of
   * the database has too. With another key, removed users are no longer recognised.
   */
  hashKey?: string
  /** Chooses among the outcomes that the rules allow, where a policy has a switch. */
  onConflict?: OnConflict
  /**
   * Who is told of decisions once they are committed: by `background`, so every process that runs one must have the
   * same listeners. What was sealed before a listener was there is not delivered to it.
   */
  listeners?: readonly Listener[]
  /**
   * How much a sync may revoke: one that took more within the window is held, and so is at start one whose changed
   * policy would. A directory in the store has the same option, for its imports.
   */
  revocations?: RevocationsOptions
  /** Takes log lines; by default they go to standard error as JSON. */
  log?: (entry: LogEntry) => void
  /** Milliseconds since the epoch; the system clock by default. */
  now?: () => number
  /** How often one client may start sign-ins and bring answers; counted in this process by default. */
  limits?: Partial<RequestLimits>
  /** Which addresses identity providers may have, and how long and large their answers may be. */
  outbound?: OutboundOptions
  /**
   * Sends the requests to identity providers in our place, through a proxy perhaps. It then decides which
   * addresses may be asked; time, size and redirects stay limited.
   */
  fetch?: typeof globalThis.fetch
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
  /** Where each grant of a person in an organization comes from, and why they have no more. */
  why: (user: string, organization: string) => Promise<Why>
  /**
   * What a policy that is to come would do to the people whom the changed connections know, by what they asserted
   * last, compared with the one in force. An input that changes none is about those whose sync is held: what they will
   * do once it is let go. It cannot see who never signed in, what an IdP would assert today, what other claims would
   * mean (`attributes`, `issuer`), or what `onConflict` would choose; e-mail-domain policies revoke nothing.
   */
  preview: (input: PolicyInput, options?: { readonly people?: number }) => Promise<Preview>
  /** The audit trail: decisions by user, organization and so on, as lines of JSON, and whether they are unaltered. */
  audit: Audit
  /** What was delivered to listeners, and what could not be. */
  outbox: Deliveries
  /** Seals the audit trail and delivers to listeners; at least one process of the app must run it. */
  background: Background
  /** What administrators do. */
  admin: Admin
  /** Resolves when tables and directory are in the store; requests wait for it, start-up scripts may. */
  ready: () => Promise<void>
  /** What is set up oddly, by the directory and by the strategies' checks; logged at start as well. */
  warnings: readonly string[]
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
  store: port('store', 'load', 'user', 'commit', 'migrate', 'hashKey'),
  lock: port('lock', 'acquire'),
  once: port('once', 'put', 'take', 'claim'),
  directory: port('directory', 'organization', 'connection', 'provider', 'providers', 'domain'),
  hashKey: z.string().min(32, 'at least 32 random characters').optional(),
  onConflict: z.custom<OnConflict>((value) => typeof value === 'function', 'a function').optional(),
  listeners: listenersSchema,
  revocations: revocationsSchema,
  strategies: z
    .array(
      z.union([port('strategies', 'attemptKey', 'begin', 'complete'), port('strategies', 'send', 'redeem')]),
    )
    .min(1, 'at least one strategy'),
  outbound: outboundSchema,
  limits: z
    .strictObject({
      starts: port('limits.starts', 'consume').optional(),
      answers: port('limits.answers', 'consume').optional(),
    })
    .optional(),
  fetch: z.custom<typeof globalThis.fetch>((value) => typeof value === 'function', 'a function').optional(),
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
  const { baseUrl, path, returnTo, revocations: limit } = parsed.data!
  for (const key of ['allow', 'lookup'] as const) {
    if (options.fetch && options.outbound?.[key])
      fail([`outbound.${key}: it has no effect, because with "fetch" the app sends the requests itself`])
  }
  const out = outbound(parsed.data!.outbound, options.fetch)
  const log = options.log ?? ((entry) => console.error(JSON.stringify(entry)))
  const now = options.now ?? Date.now
  const strategies = new Map<string, Strategy>()
  let email: EmailStrategy | null = null
  for (const strategy of options.strategies) {
    if (strategy.protocol === 'email') email = strategy as EmailStrategy
    else strategies.set(strategy.protocol, strategy as Strategy)
  }
  const warnings = [
    ...(options.directory.warnings ?? []),
    ...check(options.directory, strategies, email, out),
  ]
  if (baseUrl.startsWith('http:') && !isLoopback(baseUrl)) {
    warnings.push(`baseUrl: ${baseUrl} is plain http, so cookies travel unprotected`)
  }
  for (const message of warnings) log({ level: 'warn', message })

  const counters: Partial<Record<ErrorCode, number>> = {}
  const said = new Set<string>()
  const correlations = new WeakMap<IncomingMessage, string>()
  const deadlines = new WeakMap<IncomingMessage, number>()
  const correlationId = (req: IncomingMessage) => {
    const id = correlations.get(req) ?? randomUUID()
    correlations.set(req, id)
    return id
  }
  let starting: Promise<void> | null = null
  let hashing: Promise<Hash> | null = null
  const hash = () => {
    hashing ??= keyedHash(options).catch((error) => {
      hashing = null
      throw error
    })
    return hashing
  }
  const ports: middleware.MiddlewarePorts = {
    baseUrl,
    path,
    returnTo,
    store: options.store,
    lock: options.lock,
    once: options.once,
    directory: options.directory,
    strategies,
    email,
    now,
    outbound: out,
    limits: requestLimits(options.limits),
    hash,
    onConflict: options.onConflict ?? null,
    warn: (message) => log({ level: 'warn', message }),
    destinations: new WeakMap(),
    examine: (req) => {
      for (const message of deploymentProblems(req, baseUrl)) {
        if (said.has(message)) continue
        said.add(message)
        log({ level: 'warn', message })
      }
    },
    correlationId,
    until: (req) => {
      const until = deadlines.get(req) ?? performance.now() + requestLimit
      deadlines.set(req, until)
      return until
    },
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
      // The key is read here, so that the first sign-in costs what every other does.
      starting ??= prepare(ports, limit)
        .then(async () => {
          await ports.hash()
        })
        .catch((cause) => {
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
  const listeners = options.listeners ?? []
  const stored = { store: options.store, now, log }
  return {
    passport: (passport) => usePassport(ports, passport),
    routes: () => routes(ports),
    authenticate: (chosen) => middleware.authenticate(ports, chosen),
    provision: (chosen) => middleware.provision(ports, chosen),
    errorPage: () => middleware.errorPage(ports),
    explain: async (hypothesis) => {
      await ports.ready()
      return explain(ports, await suppose(options.directory, hypothesis, now()))
    },
    why: async (user, organization) => {
      await ports.ready()
      return why(options.store, user, organization)
    },
    preview: async (input, { people } = {}) => {
      const policies = policiesOf(input)
      await ports.ready()
      await options.directory.refresh?.()
      const { domain } = options.directory
      const changed = await changesOf(options.directory, policies)
      const changes = changed.length > 0 ? changed : await heldSyncs(options.store, policies)
      return preview({ store: options.store, domain, now }, changes, {
        limit,
        ...(people !== undefined && { people }),
      })
    },
    audit: audit(options.store, ports.ready),
    outbox: deliveries(options.store, ports.ready, now),
    background: background(
      sealing(stored, listeners),
      [...listeners.map((listener) => delivering(stored, listener)), guarding(ports, limit)],
      { ready: ports.ready, log },
    ),
    admin: administration(ports),
    ready: ports.ready,
    warnings,
    refusals: () => ({ ...counters }),
  }
}

function check(
  directory: Directory,
  strategies: ReadonlyMap<string, Strategy>,
  email: EmailStrategy | null,
  out: Outbound,
): string[] {
  const problems: string[] = []
  const warnings: string[] = []
  const entries: readonly (Entry | EmailProvider)[] = [
    ...(directory.entries?.connections ?? []),
    ...(directory.entries?.providers ?? []),
  ]
  for (const entry of entries) {
    const kind = entry.protocol === 'social' || entry.protocol === 'email' ? 'provider' : 'connection'
    if (entry.protocol === 'email' ? email : strategies.has(entry.protocol)) {
      if (entry.protocol === 'email') continue
      try {
        warnings.push(
          ...(strategies.get(entry.protocol)!.check?.(entry, (url) => out.refused(entry, url)) ?? []),
        )
      } catch (error) {
        problems.push(error instanceof Error ? error.message : String(error))
      }
    } else {
      problems.push(
        `${kind} "${entry.id}": no strategy for "${entry.protocol}"; add ${entry.protocol}Strategy() to strategies`,
      )
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

async function keyedHash({ hashKey, store }: Pick<JitOptions, 'hashKey' | 'store'>): Promise<Hash> {
  const key = hashKey ?? (await store.hashKey())
  return (value) => createHmac('sha256', key).update(value).digest('base64url')
}
