/**
 * Every refusal the kit can give: its stable code, the HTTP status, and a sentence that is safe to show to
 * the person and names the way out. The operator's sentence is the error's `message`.
 */
const catalog = {
  // What an operator set up wrongly: thrown at start-up, or by the first request that shows it.
  config_invalid: [500, 'Sign-in is not set up correctly. Please tell the people who run this app.'],
  path_mismatch: [500, 'Sign-in is not set up correctly. Please tell the people who run this app.'],
  session_missing: [500, 'Sign-in is not set up correctly. Please tell the people who run this app.'],
  body_consumed: [500, 'Sign-in is not set up correctly. Please tell the people who run this app.'],
  identity_unproven: [500, 'Sign-in is not set up correctly. Please tell the people who run this app.'],
  // A request that cannot be a sign-in.
  connection_unknown: [404, 'There is no such sign-in. Please start from the sign-in page.'],
  method_not_allowed: [405, 'That address does not work this way. Please start from the sign-in page.'],
  cross_site: [403, 'That request came from another site. Please use the button on our own page.'],
  // An answer refused before any rule was asked.
  attempt_unknown: [400, 'This sign-in was already used or has expired. Please start again.'],
  attempt_foreign: [403, 'This sign-in was started in another browser. Please start again in this one.'],
  answer_malformed: [400, 'The answer of your identity provider could not be read. Please start again.'],
  answer_too_large: [413, 'The answer of your identity provider is too large. Please ask your IT team.'],
  answer_unsolicited: [403, 'Please start from our sign-in page rather than from your identity provider.'],
  answer_replayed: [403, 'This sign-in was already used. Please start again.'],
  assertion_refused: [403, 'Your identity provider could not be verified. Please ask your IT team.'],
  identity_invalid: [403, 'Your identity provider sent details we cannot accept. Please ask your IT team.'],
  idp_refused: [403, 'Your identity provider did not sign you in. Please try again or ask your IT team.'],
  // Something that passes.
  idp_unreachable: [503, 'Your identity provider cannot be reached right now. Please try again in a minute.'],
  unavailable: [503, 'Sign-in is not available right now. Please try again in a few seconds.'],
  // What the planner refused; the same words are its reasons.
  connection_changed: [503, 'Sign-in was being changed at that moment. Please try again.'],
  connection_disabled: [403, 'This way to sign in has been switched off. Please ask your administrator.'],
  organization_suspended: [
    403,
    'Your organization cannot sign in at the moment. Please ask its administrator.',
  ],
  email_foreign: [403, 'Your e-mail address belongs to another organization. Please sign in through it.'],
  email_outside: [403, 'Your e-mail address is not one of this organization. Please ask its administrator.'],
  email_unverified: [
    403,
    'Your identity provider says your e-mail address is not verified. Please verify it.',
  ],
  user_not_provisioned: [403, 'You do not have an account here yet. Please ask your administrator for one.'],
  user_suspended: [403, 'Your account is suspended. Please ask your administrator.'],
  user_removed: [403, 'Your account was removed. Please ask your administrator for a new invitation.'],
  membership_suspended: [403, 'Your membership is suspended. Please ask your administrator.'],
  subject_changed: [403, 'Your account is tied to another login at your company. Please ask your IT team.'],
  sso_required: [403, 'Your company has its own sign-in for this app. Please use it.'],
  sign_up_closed: [403, 'New accounts are by invitation only. Please ask for an invitation.'],
  proof_required: [403, 'You already have an account here. Please sign in the way you did before.'],
  code_wrong: [403, 'That code is not right, or no longer good. Please check it or ask for a new one.'],
  email_invalid: [400, 'That does not look like an e-mail address. Please check it.'],
  too_many_requests: [429, 'That was tried too often. Please wait a few minutes.'],
  seats_full: [403, 'Your organization has no free seat. Please ask its administrator.'],
  // What an administrator asked for and cannot be done.
  user_unknown: [404, 'There is no such person here.'],
  organization_unknown: [404, 'There is no such organization.'],
  role_unknown: [400, 'There is no such role here. Please choose one of the list.'],
  invitation_unknown: [404, 'This invitation is not for you, was used or withdrawn, or has expired.'],
  email_taken: [409, 'That address belongs to another account.'],
  last_owner: [409, 'Nobody else owns this organization. Please make somebody else an owner first.'],
  preview_required: [409, 'This change would take roles from many people. Please look at its preview first.'],
  connection_enabled: [409, 'This way to sign in is still switched on. Please switch it off first.'],
  request_invalid: [400, 'That cannot be done as it was asked for. Please check what was entered.'],
} as const satisfies Record<string, readonly [status: number, publicMessage: string]>

/** The closed union of error codes. */
export type ErrorCode = keyof typeof catalog

export const errorCodes = Object.keys(catalog) as readonly ErrorCode[]

export interface JitErrorOptions {
  /** What went wrong underneath; kept for the log, never shown. */
  cause?: unknown
  /** Ties the response, the log line and the audit event of one request together. */
  correlationId?: string
  /** Each thing found wrong, where several were looked for at once (configuration). */
  problems?: readonly string[]
  /** Ways in to offer instead. */
  ways?: readonly { readonly name: string; readonly start: string }[]
  /** When to try again, in seconds from now. */
  retryAfter?: number
}

/** Every error this kit raises on purpose. `message` is for the operator, `publicMessage` for the person. */
export class JitError extends Error {
  override readonly name = 'JitError'
  readonly code: ErrorCode
  /** HTTP status; Express's own error handling reads it too. */
  readonly status: number
  readonly publicMessage: string
  readonly problems: readonly string[]
  readonly ways: readonly { readonly name: string; readonly start: string }[]
  correlationId: string | undefined
  /** When to try again, in seconds from now, where that is known. */
  readonly retryAfter: number | undefined

  constructor(code: ErrorCode, message: string, options: JitErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.status = catalog[code][0]
    this.publicMessage = catalog[code][1]
    this.problems = options.problems ?? []
    this.ways = options.ways ?? []
    this.correlationId = options.correlationId
    this.retryAfter = options.retryAfter ?? (this.status === 503 ? 2 : undefined)
  }

  /** Response headers that belong to this refusal (RFC 9110 §10.2.3 for Retry-After). */
  get headers(): Record<string, string> {
    return this.retryAfter === undefined ? {} : { 'retry-after': String(this.retryAfter) }
  }
}

/** Text from outside for a log line: 200 characters of it, and none that ends the line or steers a terminal. */
export function legible(text: string): string {
  const cut = text.length > 200 ? `${text.slice(0, 200)}…` : text
  return cut.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)!.toString(16)}}`
  })
}

/** What a schema finds wrong, each with its key in front; an unknown key of the whole has none. */
export const schemaProblems = (
  issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[],
): string[] =>
  issues.map(({ path, message }) => (path.length > 0 ? `${path.join('.')}: ${message}` : message))

/** An error as a `JitError`: itself, or wrapped under `code` with its own message kept as the cause. */
export function asJitError(error: unknown, code: ErrorCode, message: string): JitError {
  if (error instanceof JitError) return error
  const detail = error instanceof Error ? `${message}: ${legible(error.message)}` : message
  return new JitError(code, detail, { cause: error })
}
