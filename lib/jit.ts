import { createHmac, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { type Admin, administration } from './admin.js'
import type { Hash } from './audit.js'
import { type Background, background } from './background.js'
import { requestLimit } from './deadline.js'
import { deploymentProblems, isLoopback } from './deployment.js'
import { type ErrorCode, JitError } from './errors.js'
import { explain } from './explain.js'
import { type Hypothesis, suppose } from './hypothesis.js'
import { type Audit, audit, sealing } from './ledger.js'
import { requestLimits } from './limits.js'
import * as middleware from './middleware.js'
import { checkEntries, type JitOptions, type LogEntry, readOptions } from './options.js'
import { outbound } from './outbound.js'
import { type Deliveries, deliveries, delivering } from './outbox.js'
import { usePassport } from './passport.js'
import type { Plan } from './plan.js'
import { changesOf, heldSyncs, type PolicyInput, policiesOf } from './policy-change.js'
import { type Preview, preview } from './preview.js'
import { guarding } from './revocations.js'
import { routes } from './routes.js'
import { prepare } from './start.js'
import type { EmailStrategy, Strategy } from './strategy.js'
import { type Why, why } from './why.js'

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

/**
 * The kit, set up once for an app.
 * @throws JitError `config_invalid` naming each wrong option, each connection that no strategy serves, and
 *   each connection its strategy cannot work with.
 */
export function createJit(options: JitOptions): Jit {
  const { baseUrl, path, returnTo, revocations: limit, ...parsed } = readOptions(options)
  const out = outbound(parsed.outbound, options.fetch)
  const log = unfailing(options.log)
  const now = telling(options.now ?? Date.now)
  const strategies = new Map<string, Strategy>()
  let email: EmailStrategy | null = null
  for (const strategy of options.strategies) {
    if (strategy.protocol === 'email') email = strategy as EmailStrategy
    else strategies.set(strategy.protocol, strategy as Strategy)
  }
  const warnings = [
    ...(options.directory.warnings ?? []),
    ...checkEntries(options.directory, strategies, email, out),
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
    keeping: { on: false },
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
          // What no time mends is told as what it is.
          if (cause instanceof JitError && cause.code === 'config_invalid') throw cause
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

/** What the app's log throws, at once or later, must not undo what it was told of; that goes to standard error then. */
function unfailing(log: JitOptions['log']): NonNullable<JitOptions['log']> {
  const print = (entry: LogEntry) => console.error(JSON.stringify(entry))
  if (!log) return print
  return (entry) => {
    new Promise((resolve) => resolve(log(entry))).catch(() => print(entry))
  }
}

/** Compared with a time that is no number nothing has passed, so a clock that tells none is refused. */
function telling(clock: () => number): () => number {
  return () => {
    const at = clock()
    if (Number.isFinite(at)) return at
    throw new JitError('config_invalid', 'createJit({ now }) must give milliseconds since the epoch')
  }
}

async function keyedHash({ hashKey, store }: Pick<JitOptions, 'hashKey' | 'store'>): Promise<Hash> {
  const key = hashKey ?? (await store.hashKey())
  return (value) => createHmac('sha256', key).update(value).digest('base64url')
}
