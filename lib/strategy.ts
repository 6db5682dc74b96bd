import { JitError } from './errors.js'
import type { AssertedIdentity } from './identity.js'
import type { Connection, SocialProvider } from './policy.js'
import type { Once } from './store.js'

/** An identity provider's answer as it arrived, parsed and nothing more. */
export interface Incoming {
  readonly method: 'GET' | 'POST'
  readonly query: URLSearchParams
  /** Form fields of a POST; null for a GET. */
  readonly body: URLSearchParams | null
}

/** 32 random bytes, base64url; travels as OIDC `state` or SAML `RelayState`. */
export type AttemptId = string

/** A sign-in under way, taken from `Once` by its id; it exists for one answer only. */
export interface Attempt {
  readonly id: AttemptId
  /** When it began, in milliseconds since the epoch. */
  readonly at: number
  /** What the strategy's `begin` asked to be kept (nonce, PKCE verifier, request id). */
  readonly secrets: Readonly<Record<string, string>>
}

/** What a strategy may use of the world; it sees no request, response, session or store. */
export interface Services {
  /**
   * Asks an address of this entry's: without redirects, within limits of time and size, public ones only unless
   * allowed. What it throws is a `JitError` `idp_unreachable` that names entry and address.
   */
  readonly fetch: typeof globalThis.fetch
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly random: (bytes: number) => Uint8Array
  readonly once: Once
  /** Aborts when the sign-in's time is up. */
  readonly signal: AbortSignal
  /** Absolute URL of this sign-in's callback: redirect_uri, assertion consumer service. */
  readonly callbackUrl: string
  /** Our SAML entityID for this connection: the URL of its metadata. */
  readonly entityId: string
}

/** What a sign-in with a redirect is set up by: an organization's connection or an app-wide provider. */
export type Entry = Connection | SocialProvider

/**
 * A protocol: it verifies an answer, returns an identity, and stops. Refusals are thrown as `JitError`;
 * anything else that escapes is taken for a malformed answer.
 */
export interface Strategy<C extends Entry = Entry> {
  readonly protocol: C['protocol']
  /**
   * Looks over an entry at start-up, without the network.
   * @param refused why `Services.fetch` would never ask a URL, as far as it shows without the network, or null
   * @returns what to warn the operator of
   * @throws JitError `config_invalid` where it could never work
   */
  check?(connection: C, refused?: (url: string) => string | null): readonly string[]
  /** Which attempt an answer belongs to. */
  attemptKey(incoming: Incoming): AttemptId | undefined
  begin(
    connection: C,
    attempt: AttemptId,
    services: Services,
  ): Promise<{ readonly redirect: string; readonly secrets: Record<string, string> }>
  /** `attempt` is null for an IdP-initiated answer, where the connection allows it. */
  complete(
    connection: C,
    incoming: Incoming,
    attempt: Attempt | null,
    services: Services,
  ): Promise<AssertedIdentity>
  /** What to hand to the IdP's administrator; XML. */
  metadata?(connection: C, services: Services): string
}

/** How long a mailed code and its link are good, in milliseconds. */
export const codeLifetime = 10 * 60_000

export interface CodeRequest {
  /** As {@link normalizeEmail} made it. */
  readonly address: string
  /** A code for one purpose is no good for another. */
  readonly purpose: 'sign-in' | 'prove'
  /** Text to hand back when the code is redeemed. */
  readonly keep: string
  /** Origin of the app, as it is configured; the mail says which site asked. */
  readonly site: string
  /** Address of the client, for rate limits. */
  readonly ip: string
  /** The token this browser held before; its code and link end. */
  readonly previous: string | undefined
  /** Where a link leads to; null for a purpose without one. */
  readonly linkTo: string | null
}

/** The e-mail method: it sends a code, with a link for the same attempt, and redeems one of them, once. */
export interface EmailStrategy {
  readonly protocol: 'email'
  /**
   * @returns the token for this browser's cookie, without which the code is worth nothing
   * @throws JitError `too_many_requests`; `unavailable` where a limit cannot be asked or the mail not be sent
   */
  send(request: CodeRequest, services: EmailServices): Promise<string>
  /**
   * @throws JitError `code_wrong` for anything but the right code or link in its time; `too_many_requests`
   */
  redeem(answer: CodeAnswer, purpose: CodeRequest['purpose'], services: EmailServices): Promise<CodeProof>
}

export type EmailServices = Pick<Services, 'now' | 'random' | 'once'>

/** What came back, and from which client (`ip`, for rate limits). */
export type CodeAnswer =
  | { readonly token: string; readonly address: string; readonly code: string; readonly ip: string }
  | { readonly link: string; readonly ip: string }

export interface CodeProof {
  /** The address that was proved. */
  readonly address: string
  readonly keep: string
}

/** The one value of a parameter, or undefined; a repeated one is refused (RFC 6749 §3.1). */
export function single(parameters: URLSearchParams | null, name: string): string | undefined {
  const values = parameters?.getAll(name) ?? []
  if (values.length > 1) throw new JitError('answer_malformed', `${named(name)} came ${values.length} times`)
  return values[0]
}

/** Every protocol's parameters have such names; any other is a stranger's, and is not repeated in the log. */
const named = (name: string) => (/^[\w.-]{1,40}$/.test(name) ? `the parameter "${name}"` : 'a parameter')
