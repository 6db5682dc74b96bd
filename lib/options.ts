import * as z from 'zod'
import type { OnConflict } from './conflict.js'
import { type ErrorCode, JitError, schemaProblems } from './errors.js'
import type { RequestLimits } from './limits.js'
import { nearest } from './lint.js'
import { type Outbound, type OutboundOptions, outboundSchema } from './outbound.js'
import { type Listener, listenersSchema } from './outbox.js'
import type { EmailProvider } from './policy.js'
import { type RevocationsOptions, revocationsSchema } from './revocations.js'
import type { Directory, Lock, Once, Store } from './store.js'
import type { EmailStrategy, Entry, Strategy } from './strategy.js'

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

const optionsSchema = z.strictObject({
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
      z.union(
        [port('strategies', 'attemptKey', 'begin', 'complete'), port('strategies', 'send', 'redeem')],
        'it must be what a strategy returns, such as samlStrategy()',
      ),
    )
    .min(1, 'at least one strategy'),
  outbound: outboundSchema,
  limits: z
    .strictObject({
      starts: port('limits.starts', 'consume').optional(),
      answers: port('limits.answers', 'consume').optional(),
    })
    .optional(),
  log: z
    .custom<NonNullable<JitOptions['log']>>((value) => typeof value === 'function', 'a function')
    .optional(),
  now: z.custom<() => number>((value) => typeof value === 'function', 'a function').optional(),
  fetch: z.custom<typeof globalThis.fetch>((value) => typeof value === 'function', 'a function').optional(),
})

function port(name: string, ...methods: string[]) {
  return z.custom<object>(
    (value) =>
      methods.every((method) => typeof (value as Record<string, unknown> | null)?.[method] === 'function'),
    `${name} must have the methods ${methods.join(', ')}`,
  )
}

/** @throws JitError `config_invalid` naming each wrong option */
export function readOptions(options: JitOptions): z.output<typeof optionsSchema> {
  const parsed = optionsSchema.safeParse(options)
  if (!parsed.success) {
    const names = Object.keys(optionsSchema.shape)
    fail(
      parsed.error.issues.flatMap((issue) =>
        issue.code === 'unrecognized_keys'
          ? issue.keys.map((key) => {
              const near = issue.path.length === 0 ? nearest(key, names) : ''
              return `${[...issue.path, key].join('.')}: there is no such option${near}`
            })
          : schemaProblems([issue]),
      ),
    )
  }
  for (const key of ['allow', 'lookup'] as const) {
    if (options.fetch && options.outbound?.[key])
      fail([`outbound.${key}: it has no effect, because with "fetch" the app sends the requests itself`])
  }
  return parsed.data!
}

/**
 * Whether the strategies can serve what a directory holds as a whole.
 * @returns what to warn the operator of
 * @throws JitError `config_invalid` naming each entry that cannot be served
 */
export function checkEntries(
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
