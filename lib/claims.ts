import { JitError } from './errors.js'
import { type Groups, identityLimits, type Omission } from './identity.js'

/**
 * Where a value is found among the claims: by the name of a claim or SAML attribute, compared exactly, or by a
 * JSON Pointer into nested claims (RFC 6901), such as `/realm_access/roles`. Of several the first that is there.
 */
export type ClaimSource = string | readonly string[]

/** An attribute's source, and what is done with it where the plain way is not meant. */
export interface AttributeRule {
  readonly from: ClaimSource
  /**
   * Whose word stands after the account is made: the IdP's at each sync, the app's, or whoever's was first (it
   * is written once, where there is no value). `idp` by default.
   */
  readonly authority?: 'idp' | 'app' | 'first' | undefined
  /** What becomes of it when the IdP no longer sends it: `keep` by default. */
  readonly absent?: 'keep' | 'clear' | undefined
  /** Longest value in characters; a longer one is left out. 2,048 by default and at most. */
  readonly maxLength?: number | undefined
}

/** How a connection names the claims it wants. Every further key is a profile attribute of the app. */
export interface AttributeMapping {
  readonly email: ClaimSource
  /** For IdPs whose own subject is no stable identifier, an e-mail address for one. */
  readonly subject?: ClaimSource | undefined
  readonly groups?: ClaimSource | undefined
  readonly [profileAttribute: string]: ClaimSource | AttributeRule | undefined
}

type Claims = Readonly<Record<string, unknown>>

/** The profile attributes of a mapping with their rules. */
export function attributeRules(mapping: AttributeMapping): ReadonlyMap<string, AttributeRule> {
  const rules = new Map<string, AttributeRule>()
  for (const [attribute, value] of Object.entries(mapping)) {
    if (value === undefined || ['email', 'subject', 'groups'].includes(attribute)) continue
    rules.set(
      attribute,
      typeof value === 'object' && 'from' in value ? value : { from: value as ClaimSource },
    )
  }
  return rules
}

/** Every source of a mapping, by what it is for. */
export function claimSources(mapping: AttributeMapping): readonly (readonly [name: string, ClaimSource])[] {
  const named = (['email', 'subject', 'groups'] as const).flatMap((name) => {
    const source = mapping[name]
    return source === undefined ? [] : [[name, source] as const]
  })
  return [...named, ...[...attributeRules(mapping)].map(([name, { from }]) => [name, from] as const)]
}

/** What a source leads to: the first of its claims that is there, neither null nor an empty text. */
export function claimAt(claims: Claims, source: ClaimSource): unknown {
  return [source]
    .flat()
    .map((path) => follow(claims, path))
    .find((found) => found !== undefined && found !== null && found !== '')
}

/** A name stands before a pointer, for SAML attributes whose names begin with a slash. */
function follow(claims: Claims, path: string): unknown {
  if (Object.hasOwn(claims, path)) return claims[path]
  if (!path.startsWith('/')) return undefined
  let value: unknown = claims
  for (const step of path.slice(1).split('/')) {
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
    if (Array.isArray(value) && !/^\d+$/.test(key)) return undefined
    value = (value as Record<string, unknown>)[key]
  }
  return value
}

/** What a mapping finds in the claims of an answer. */
export interface Reading {
  /** Where the mapping has a source for it. */
  readonly subject: string | undefined
  readonly email: string | undefined
  readonly groups: Groups
  readonly profile: Record<string, string>
  readonly omitted: readonly Omission[]
}

/**
 * Reads an identity out of verified claims by the connection's mapping. Only mapped names are read, so a claim
 * can never set what the operator did not name. More groups than {@link identityLimits} allows are `overflow`, and so
 * are groups that are no texts.
 * @throws JitError `identity_invalid` where the subject is mapped and missing, or the address is not one.
 */
export function readClaims(claims: Claims, mapping: AttributeMapping): Reading {
  const profile: Record<string, string> = Object.create(null)
  const omitted: Omission[] = []
  /** The texts of the first claim that has any. */
  const read = (attribute: string, source: ClaimSource): string[] => {
    let other = false
    for (const path of [source].flat()) {
      const { values, complete } = texts(follow(claims, path))
      if (values.length > 0) return values
      other ||= !complete
    }
    if (other) omitted.push({ attribute, reason: 'not_text' })
    return []
  }
  for (const [attribute, { from, maxLength = identityLimits.attribute }] of attributeRules(mapping)) {
    const value = read(attribute, from)[0]?.trim()
    if (value === undefined) continue
    if (value.length > maxLength) omitted.push({ attribute, reason: 'too_long' })
    else profile[attribute] = value
  }
  const only = (name: 'email' | 'subject'): string | undefined => {
    const source = mapping[name]
    const values = source === undefined ? [] : read(name, source)
    if (new Set(values).size > 1) {
      throw new JitError(
        'identity_invalid',
        `the claim for "${name}" holds ${values.length} different values`,
      )
    }
    return values[0]
  }
  const subject = only('subject')
  if (mapping.subject !== undefined && subject === undefined) {
    const names = [mapping.subject].flat().join(', ')
    throw new JitError('identity_invalid', `attributes.subject: the answer has no text in ${names}`)
  }
  const email = only('email')
  const { groups, reason } = groupsAt(claims, mapping.groups)
  if (reason) omitted.push({ attribute: 'groups', reason })
  return { subject, email, groups, profile, omitted }
}

/** Groups that cannot be read as a whole are `overflow`: what is missing of them must not look like leaving. */
function groupsAt(
  claims: Claims,
  source: ClaimSource | undefined,
): { readonly groups: Groups; readonly reason?: Omission['reason'] } {
  const claim = source === undefined ? undefined : claimAt(claims, source)
  if (claim === undefined) return { groups: { kind: 'absent' } }
  const read = texts(claim)
  const values = [...new Set(read.values)]
  const long = values.reduce((sum, { length }) => sum + length, 0) > identityLimits.groupsText
  const longest = values.some(({ length }) => length > identityLimits.text)
  const reason = !read.complete
    ? 'not_text'
    : values.length > identityLimits.groups
      ? 'too_many'
      : long || longest
        ? 'too_long'
        : null
  return reason ? { groups: { kind: 'overflow' }, reason } : { groups: { kind: 'listed', values } }
}

/**
 * The texts of a claim with one value or several, without blank ones; numbers and booleans are written out. Not
 * `complete` where there is anything else, an object or a list in a list.
 */
function texts(claim: unknown): { readonly values: string[]; readonly complete: boolean } {
  const all = (Array.isArray(claim) ? claim : [claim]).filter(
    (value) => value !== undefined && value !== null,
  )
  const plain = all.filter((value) => ['string', 'number', 'boolean'].includes(typeof value)).map(String)
  return { values: plain.filter((value) => value.trim() !== ''), complete: plain.length === all.length }
}
