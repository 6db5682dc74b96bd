import {
  assertIdentity,
  type IdentityInput,
  type Incoming,
  JitError,
  type Services,
  type SocialProvider,
  single,
} from '../lib/index.js'
import { plain, printable, reasonOf } from './oidc-http.js'
import type { Family } from './social.js'

type PassportEntry = Extract<SocialProvider, { preset: 'passport' }>

/** A strategy for Passport, as far as it is used here. */
interface PassportStrategy {
  readonly name?: string | undefined
  authenticate(req: never, options?: never): unknown
}

/** What a Passport profile says, in the kit's own words. */
export interface PassportMapping {
  /** Stable, never reassigned identifier at the provider; text. */
  readonly subject: string
  readonly email?: string | null | undefined
  /** Only the boolean `true` counts, and only where the provider's documentation calls it proof. */
  readonly emailVerified?: boolean | undefined
  /** Profile attributes by the app's own names. */
  readonly profile?: Readonly<Record<string, string>> | undefined
}

/** A Passport strategy and how to read its profiles; made by {@link fromPassport}. */
export interface PassportProvider {
  readonly strategy: PassportStrategy
  readonly mapping: (profile: unknown) => PassportMapping
}

/**
 * Brings a Passport strategy that exists already, for a provider with the preset `passport`. Its verify callback
 * hands the profile on, `(accessToken, refreshToken, profile, done) => done(null, profile)`, and `mapping` says
 * what it means. Its callback URL must be the provider's own, `{baseUrl}{path}/social/{id}/callback`, and it must
 * send the `state` it is given, as all of the OAuth 2 family do.
 * @throws JitError `config_invalid` for anything that is no Passport strategy
 */
export function fromPassport<Profile = never>(
  strategy: PassportStrategy,
  mapping: (profile: Profile) => PassportMapping,
): PassportProvider {
  if (typeof strategy?.authenticate !== 'function')
    throw new JitError('config_invalid', 'fromPassport(): the first argument is no Passport strategy')
  if (typeof mapping !== 'function')
    throw new JitError('config_invalid', 'fromPassport(): the second argument must map a profile')
  return Object.freeze({ strategy, mapping: mapping as PassportProvider['mapping'] })
}

export function passportProvider(
  providers: Readonly<Record<string, PassportProvider>>,
): Family<PassportEntry> {
  const own = new Map(Object.entries(providers))
  for (const [id, provider] of own) {
    if (typeof provider?.strategy?.authenticate !== 'function' || typeof provider.mapping !== 'function')
      throw new JitError(
        'config_invalid',
        `socialStrategy({ passport }): "${id}" was not made by fromPassport()`,
      )
  }
  const providerOf = (entry: PassportEntry) => {
    const found = own.get(entry.id)
    if (found) return found
    throw new JitError(
      'config_invalid',
      `provider "${entry.id}": it has no Passport strategy; add socialStrategy({ passport: { "${entry.id}": fromPassport(…) } })`,
    )
  }
  return {
    check: (entry) => {
      providerOf(entry)
      return []
    },
    begin: async (entry, attempt, services) => {
      const { strategy } = providerOf(entry)
      const session = {}
      const incoming = { method: 'GET', query: new URLSearchParams(), body: null } as const
      const request = requestOf(incoming, session, services)
      const outcome = await run(entry, strategy, request, attempt, null)
      if (outcome.kind !== 'redirect')
        throw new JitError(
          'config_invalid',
          `${named(entry, strategy)} did not send the person to its provider`,
        )
      const { url, kept } = outcome
      checkRedirect(entry, strategy, url, attempt, services)
      return { redirect: url, secrets: { session: JSON.stringify(session), kept: kept ?? '' } }
    },
    complete: async (entry, incoming, attempt, services) => {
      const { strategy, mapping } = providerOf(entry)
      for (const name of (incoming.body ?? incoming.query).keys())
        single(incoming.body ?? incoming.query, name)
      const session = JSON.parse(attempt!.secrets.session ?? '{}') as object
      const request = requestOf(incoming, session, services)
      const outcome = await run(entry, strategy, request, attempt!.id, attempt!.secrets.kept ?? '')
      if (outcome.kind === 'redirect')
        throw new JitError('answer_malformed', `${named(entry, strategy)} found no answer in the callback`)
      if (outcome.kind === 'fail')
        throw new JitError('idp_refused', `${named(entry, strategy)} refused: ${outcome.reason}`)
      return assertIdentity({
        source: `provider:${entry.id}`,
        sourceVersion: entry.version,
        issuer: `passport:${strategy.name || 'unnamed'}`,
        ...mapped(entry, mapping, outcome.user),
        at: services.now(),
      })
    },
  }
}

const named = ({ id }: PassportEntry, { name }: PassportStrategy) =>
  `provider "${id}": the Passport strategy "${name || 'unnamed'}"`

type Outcome =
  | { readonly kind: 'success'; readonly user: unknown }
  | { readonly kind: 'redirect'; readonly url: string; readonly kept: string | null }
  | { readonly kind: 'fail'; readonly reason: string }

/**
 * Runs a copy of the strategy, as Passport does, for one request: it keeps nothing, so two people never meet in
 * it. Errors become refusals without their data, which holds whole answers with the tokens in them.
 */
function run(
  entry: PassportEntry,
  strategy: PassportStrategy,
  request: object,
  state: string,
  kept: string | null,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const failed = (error: unknown) => reject(refusal(entry, strategy, error, kept === null))
    let stored: string | null = null
    const copy = Object.assign(Object.create(strategy), {
      success: (user: unknown) => resolve({ kind: 'success', user }),
      redirect: (url: unknown) => resolve({ kind: 'redirect', url: String(url), kept: stored }),
      fail: (challenge: unknown) => resolve({ kind: 'fail', reason: reasonFor(challenge) }),
      pass: () => resolve({ kind: 'fail', reason: 'it passed' }),
      error: failed,
    })
    // The OAuth 2 family keeps its PKCE verifier with its state, and drops it where the state is handed in. So it
    // is given a store instead, as it takes one in its options: the state is the attempt's, already compared.
    const stateful = '_stateStore' in strategy
    if (stateful) {
      copy._stateStore = {
        // Told apart by their number of arguments; older versions pass fewer, and keep no verifier.
        store: taking(5, (args) => {
          if (args.length === 5 && typeof args[1] === 'string') stored = args[1]
          return [null, state]
        }),
        verify: taking(4, ([, given]) => [null, given === state && (kept || true)]),
      }
    }
    try {
      Promise.resolve(copy.authenticate(request as never, (stateful ? {} : { state }) as never)).catch(failed)
    } catch (error) {
      failed(error)
    }
  })
}

/** A function of so many arguments by its `length`, the last of them a callback that gets the answer. */
function taking(length: number, answer: (args: readonly unknown[]) => unknown[]) {
  const call = (...args: unknown[]) => (args.at(-1) as (...results: unknown[]) => void)(...answer(args))
  return Object.defineProperty(call, 'length', { value: length })
}

/** As much of a request as strategies look at; the session is their own, and ends with the sign-in. */
function requestOf({ method, query, body }: Incoming, session: object, { callbackUrl }: Services): object {
  const { host, pathname, protocol } = new URL(callbackUrl)
  const search = query.size > 0 ? `?${query}` : ''
  const connection = { encrypted: protocol === 'https:' }
  return {
    method,
    url: pathname + search,
    originalUrl: pathname + search,
    protocol: protocol.slice(0, -1),
    headers: { host },
    query: Object.fromEntries(query),
    body: Object.fromEntries(body ?? []),
    session,
    connection,
    socket: connection,
  }
}

function checkRedirect(
  entry: PassportEntry,
  strategy: PassportStrategy,
  location: string,
  attempt: string,
  { callbackUrl }: Services,
): void {
  const fail = (what: string): never => {
    throw new JitError('config_invalid', `${named(entry, strategy)} ${what}`)
  }
  if (!URL.canParse(location) || !/^https?:$/.test(new URL(location).protocol))
    fail('sends the person to no http(s) address')
  const { searchParams } = new URL(location)
  const configured = searchParams.get('redirect_uri') ?? (strategy as { _callbackURL?: unknown })._callbackURL
  if (configured !== callbackUrl && typeof configured === 'string')
    fail(
      `has the callback URL "${printable(configured)}", but this provider's answers come to "${callbackUrl}"`,
    )
  if (searchParams.get('state') !== attempt)
    fail('does not send the "state" it is given, so nobody could tell whose answer comes back')
}

function refusal(
  entry: PassportEntry,
  strategy: PassportStrategy,
  error: unknown,
  begins: boolean,
): JitError {
  if (error instanceof JitError) return error
  const { name, code, oauthError } = (error ?? {}) as {
    name?: unknown
    code?: unknown
    oauthError?: { statusCode?: unknown }
  }
  const message = `${named(entry, strategy)}: ${reasonOf(error)}`
  // The names are passport-oauth2's: what the provider refused, and what could not be asked or read.
  const status = oauthError?.statusCode
  const refused = name === 'InternalOAuthError' && typeof status === 'number' && status >= 400 && status < 500
  if (name === 'AuthorizationError' || name === 'TokenError' || refused)
    return new JitError('idp_refused', `${message} (${printable(String(code ?? `HTTP ${status}`))})`)
  if (begins || name === 'InternalOAuthError')
    return new JitError('idp_unreachable', status === undefined ? message : `${message}: HTTP ${status}`)
  return new JitError('answer_malformed', message)
}

function reasonFor(challenge: unknown): string {
  const text =
    typeof challenge === 'string' ? challenge : (challenge as { message?: unknown } | null)?.message
  return typeof text === 'string' ? plain(text) : 'it gave no reason'
}

function mapped(
  entry: PassportEntry,
  mapping: PassportProvider['mapping'],
  user: unknown,
): Pick<IdentityInput, 'subject' | 'email' | 'emailVerified' | 'profile'> {
  const refuse = (what: string): never => {
    throw new JitError('identity_invalid', `provider "${entry.id}": the mapping of fromPassport() ${what}`)
  }
  let result: PassportMapping | undefined
  try {
    result = mapping(user)
  } catch (error) {
    return refuse(`failed: ${reasonOf(error)}`)
  }
  const { subject, email, emailVerified, profile = {} } = result ?? {}
  if (typeof subject !== 'string') return refuse(`returned a subject that is ${typeof subject}, not text`)
  for (const [name, value] of Object.entries(profile)) {
    if (typeof value !== 'string')
      refuse(`returned profile.${printable(name)} that is ${typeof value}, not text`)
  }
  return { subject, email: email ?? undefined, emailVerified: emailVerified === true ? 'yes' : 'no', profile }
}
