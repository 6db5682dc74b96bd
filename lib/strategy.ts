import { JitError } from './errors.js'
import type { AssertedIdentity } from './identity.js'
import type { Connection } from './policy.js'
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

/**
 * A protocol: it verifies an answer, returns an identity, and stops. Refusals are thrown as `JitError`;
 * anything else that escapes is taken for a malformed answer.
 */
export interface Strategy<C extends Connection = Connection> {
  readonly protocol: C['protocol']
  /**
   * Looks over a connection at start-up, without the network.
   * @returns what to warn the operator of
   * @throws JitError `config_invalid` where it could never work
   */
  check?(connection: C): readonly string[]
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

/** The one value of a parameter, or undefined; a repeated one is refused (RFC 6749 §3.1). */
export function single(parameters: URLSearchParams | null, name: string): string | undefined {
  const values = parameters?.getAll(name) ?? []
  if (values.length > 1)
    throw new JitError('answer_malformed', `the parameter "${name}" came ${values.length} times`)
  return values[0]
}
