import { JitError, legible } from './errors.js'

/** Where an identity or a sign-in comes from; the prefix keeps a connection from posing as a provider. */
export type Source = `connection:${string}` | `provider:${string}`

/**
 * The groups an IdP sent. `absent`: no such claim; `overflow`: the IdP says there were too many to send.
 * Neither says anything about the person's groups.
 */
export type Groups =
  | { readonly kind: 'listed'; readonly values: readonly string[] }
  | { readonly kind: 'absent' }
  | { readonly kind: 'overflow' }

/** A mapped claim that is too long, too many or no text, and is left out rather than cut. */
export interface Omission {
  readonly attribute: string
  readonly reason: 'too_long' | 'too_many' | 'not_text'
}

/** What the IdP says of the address: `yes`, nothing that is proof (`unstated`), or anything else (`no`). */
export type EmailVerified = 'yes' | 'no' | 'unstated'

export interface IdentityInput {
  source: Source
  /** Version of the connection that verified it, as pinned when the sign-in began. */
  sourceVersion: string
  /** SAML entityID or OIDC `iss` (RFC 8414 §2), compared exactly. */
  issuer: string
  /** Stable, never reassigned identifier at the issuer: OIDC `sub` (OIDC Core §8), SAML NameID. */
  subject: string
  email?: string | undefined
  emailVerified?: EmailVerified
  /** Profile attributes by the app's own names. */
  profile?: Readonly<Record<string, string>>
  groups?: Groups
  /** Mapped attributes that were asserted and not taken, with the reason. */
  omitted?: readonly Omission[]
  /** Claims as verified, for the app to read; never for authority. */
  claims?: Readonly<Record<string, unknown>>
  /** When it was proved, in milliseconds since the epoch. */
  at: number
}

/**
 * Longest subject, issuer, attribute and group in characters, how many groups and attributes count, and how long
 * all groups may be together.
 */
export const identityLimits = {
  text: 1024,
  attribute: 2048,
  groups: 10_000,
  groupsText: 1_000_000,
  attributes: 64,
} as const

/** Control characters and halves of surrogate pairs, which not every database takes. */
const unfit = /[\u0000-\u001f\u007f\p{Surrogate}]/gu
/** Such a text as it is kept and told. */
export const plain = (text: string) => text.replace(unfit, ' ')

/**
 * An address as this kit compares it: ASCII, in lower case, exactly one `@`, a host name of at least two
 * labels without a final dot, 254 characters at most (RFC 5321 §4.5.3.1.3). Anything else is `null`: it is
 * neither repaired nor normalised, because two systems repair differently.
 */
export function normalizeEmail(address: unknown): { address: string; domain: string } | null {
  if (typeof address !== 'string' || address.length > 254) return null
  const match = /^([\x21\x23-\x27\x2a\x2b\x2d\x2f-\x39\x3d\x3f\x41-\x5a\x5e-\x7e.]{1,64})@([^@]+)$/.exec(
    address,
  )
  const domain = match && normalizeDomain(match[2])
  if (!match || !domain || /^\.|\.\.|\.$/.test(match[1]!)) return null
  return { address: `${match[1]!.toLowerCase()}@${domain}`, domain }
}

/** A host name in lower case (RFC 1035 §2.3.1 letters, digits, hyphens; two labels or more), else `null`. */
export function normalizeDomain(domain: unknown): string | null {
  if (typeof domain !== 'string' || domain.length > 253) return null
  const ascii = domain.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
  return /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(ascii)
    ? ascii
    : null
}

/**
 * What a strategy proved, frozen. Its private brand can be neither copied nor forged, so `provision`
 * takes nothing that did not come from {@link assertIdentity}.
 */
export class AssertedIdentity {
  readonly #proved = true
  readonly source: Source
  readonly sourceVersion: string
  readonly issuer: string
  readonly subject: string
  readonly email: { readonly address: string; readonly domain: string } | null
  readonly emailVerified: EmailVerified
  readonly profile: Readonly<Record<string, string>>
  readonly groups: Groups
  readonly omitted: readonly Omission[]
  readonly claims: Readonly<Record<string, unknown>>
  readonly at: number

  /** @internal use {@link assertIdentity} */
  constructor(input: IdentityInput, email: AssertedIdentity['email']) {
    this.source = input.source
    this.sourceVersion = input.sourceVersion
    this.issuer = input.issuer
    this.subject = input.subject
    this.email = email
    this.emailVerified = input.emailVerified ?? 'unstated'
    this.profile = freezeCopy(plainText(input.profile ?? {})) as Record<string, string>
    this.groups = freezeCopy(input.groups ?? { kind: 'absent' }) as Groups
    this.omitted = freezeCopy(input.omitted ?? []) as Omission[]
    this.claims = freezeCopy(input.claims ?? {}) as Record<string, unknown>
    this.at = input.at
    Object.freeze(this)
  }

  static is(value: unknown): value is AssertedIdentity {
    return typeof value === 'object' && value !== null && #proved in value && value.#proved
  }
}

/**
 * The one maker of asserted identities.
 * @throws JitError `identity_invalid` for an empty subject or issuer or one with control characters, an address that is
 *   not plain ASCII, or more of anything than {@link identityLimits} allows.
 */
export function assertIdentity(input: IdentityInput): AssertedIdentity {
  const refuse = (what: string): never => {
    throw new JitError('identity_invalid', `${input.source}: ${what}`)
  }
  for (const key of ['issuer', 'subject'] as const) {
    const value: unknown = input[key]
    if (typeof value !== 'string' || value.trim() === '') refuse(`the ${key} is empty`)
    else if (value.length > identityLimits.text)
      refuse(`the ${key} is longer than ${identityLimits.text} characters`)
    else if (plain(value) !== value) refuse(`the ${key} contains control characters`)
  }
  const email = input.email === undefined ? null : normalizeEmail(input.email)
  if (input.email !== undefined && email === null) {
    refuse('the e-mail address is malformed or not plain ASCII; check the "email" attribute mapping')
  }
  const profile = Object.entries(input.profile ?? {})
  if (profile.length > identityLimits.attributes) refuse(`more than ${identityLimits.attributes} attributes`)
  for (const [name, value] of profile) {
    if (value.length > identityLimits.attribute) {
      refuse(`the attribute "${legible(name)}" is longer than ${identityLimits.attribute} characters`)
    }
  }
  const groups = input.groups
  if (groups?.kind === 'listed') {
    if (groups.values.length > identityLimits.groups) refuse(`more than ${identityLimits.groups} groups`)
    if (groups.values.some((group) => group.length > identityLimits.text)) {
      refuse(`a group name is longer than ${identityLimits.text} characters`)
    }
  }
  return new AssertedIdentity(input, email)
}

/** What an identity asserted, as it is kept beside it: normalised, so that the same answer is the same value. */
export interface Asserted {
  readonly email: string | null
  readonly emailVerified: EmailVerified
  readonly profile: Readonly<Record<string, string>>
  /** Each once, in order. */
  readonly groups: Groups
}

export function assertedOf(
  identity: Pick<AssertedIdentity, 'email' | 'emailVerified' | 'profile' | 'groups'>,
): Asserted {
  const { email, emailVerified, profile, groups } = identity
  return {
    email: email?.address ?? null,
    emailVerified,
    profile: Object.fromEntries(Object.entries(profile).sort(([a], [b]) => (a < b ? -1 : 1))),
    groups:
      groups.kind === 'listed'
        ? { kind: 'listed', values: [...new Set(groups.values.map(plain))].sort() }
        : groups,
  }
}

/** A name with control characters is still a name. */
function plainText(profile: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(profile).map(([name, value]) => [name, plain(value).trim()]))
}

function freezeCopy(value: unknown): unknown {
  if (Array.isArray(value)) return Object.freeze(value.map(freezeCopy))
  if (typeof value !== 'object' || value === null) return value
  const copy: Record<string, unknown> = Object.create(null)
  for (const [key, entry] of Object.entries(value)) copy[key] = freezeCopy(entry)
  return Object.freeze(copy)
}
