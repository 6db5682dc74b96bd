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
  for (const path of typeof source === 'string' ? [source] : source) {
    const found = Object.hasOwn(claims, path) ? claims[path] : follow(claims, path)
    if (found !== undefined && found !== null && found !== '') return found
  }
  return undefined
}

function follow(claims: Claims, path: string): unknown {
  if (!path.startsWith('/')) return undefined
  let value: unknown = claims
  for (const step of path.slice(1).split('/')) {
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~')
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
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
 * can never set what the operator did not name. More groups than {@link identityLimits} allows are `overflow`.
 * @throws JitError `identity_invalid` where the subject is mapped and missing, or the address is not one.
 */
export function readClaims(claims: Claims, mapping: AttributeMapping): Reading {
  const profile: Record<string, string> = Object.create(null)
  const omitted: Omission[] = []
  for (const [attribute, { from, maxLength = identityLimits.attribute }] of attributeRules(mapping)) {
    const claim = claimAt(claims, from)
    if (claim === undefined) continue
    const value = texts(claim)[0]?.trim()
    if (value === undefined) omitted.push({ attribute, reason: 'not_text' })
    else if (value.length > maxLength) omitted.push({ attribute, reason: 'too_long' })
    else if (value !== '') profile[attribute] = value
  }
  const only = (name: 'email' | 'subject'): string | undefined => {
    const source = mapping[name]
    const values = source === undefined ? [] : texts(claimAt(claims, source)).filter((value) => value !== '')
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
    throw new JitError('identity_invalid', `attributes.subject: the answer has no claim ${names}`)
  }
  return { subject, email: only('email'), groups: groupsAt(claims, mapping.groups), profile, omitted }
}

function groupsAt(claims: Claims, source: ClaimSource | undefined): Groups {
  const claim = source === undefined ? undefined : claimAt(claims, source)
  if (claim === undefined) return { kind: 'absent' }
  const values = [...new Set(texts(claim))]
  const long = values.reduce((sum, { length }) => sum + length, 0) > identityLimits.groupsText
  const longest = values.some(({ length }) => length > identityLimits.text)
  return long || longest || values.length > identityLimits.groups
    ? { kind: 'overflow' }
    : { kind: 'listed', values }
}

/** The texts of a claim with one value or several; numbers and booleans are written out, objects are none. */
function texts(claim: unknown): string[] {
  return (Array.isArray(claim) ? claim : [claim])
    .filter((value) => ['string', 'number', 'boolean'].includes(typeof value))
    .map(String)
}
