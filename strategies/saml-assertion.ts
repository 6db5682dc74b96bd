import { quote, type Refuse, version } from './saml-guard.js'
import { childrenOf, elementsOf, ns, textOf, type XmlElement } from './saml-xml.js'

/** What an answer has to agree with. */
export interface Expected {
  /** EntityID of the IdP. */
  readonly issuer: string
  readonly callbackUrl: string
  /** Our own entityID. */
  readonly audience: string
  /** ID of our AuthnRequest; null for an answer nobody asked for, which must not claim to be one. */
  readonly requestId: string | null
  /** Milliseconds since the epoch. */
  readonly now: number
  /** How far the IdP's clock may be off, in milliseconds. */
  readonly skew: number
  /** Whether an attribute names the person, so that the NameID need not. */
  readonly subjectMapped: boolean
}

/** What a verified assertion says. */
export interface Statement {
  readonly id: string
  readonly nameId: string
  /** The NameID with its qualifiers, where these are not the IdP and us. */
  readonly subject: string
  /** By attribute name; always lists, repeated attributes merged. */
  readonly attributes: ReadonlyMap<string, readonly string[]>
  /** Until when it is good, in milliseconds since the epoch, without the allowed skew. */
  readonly until: number
}

const bearer = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
const transient = 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient'

/** The Response around the assertion: Issuer, Destination (bindings §3.5.5.2), InResponseTo. */
export function checkResponse(
  response: XmlElement,
  signed: boolean,
  expected: Expected,
  refuse: Refuse,
): void {
  const issuers = childrenOf(response, ns.assertion, 'Issuer')
  if (issuers.length > 1) refuse('assertion_refused', 'the Response has several Issuers')
  if (issuers.length === 1) {
    equal('the Issuer of the Response', textOf(issuers[0]), expected.issuer, refuse)
  }
  const destination = response.attributes.get('Destination')
  if (destination !== undefined || signed) {
    equal('Destination', destination, expected.callbackUrl, refuse)
  }
  equal(
    'InResponseTo of the Response',
    response.attributes.get('InResponseTo') || null,
    expected.requestId,
    refuse,
  )
}

/**
 * Checks a verified assertion against what this sign-in expects (SAML profiles §4.1.4.3); each refusal is
 * `assertion_refused` and names the check.
 */
export function checkAssertion(assertion: XmlElement, expected: Expected, refuse: Refuse): Statement {
  version(assertion, refuse)
  const only = (parent: XmlElement, name: string): XmlElement => {
    const found = childrenOf(parent, ns.assertion, name)
    if (found.length !== 1) {
      refuse('assertion_refused', `expected one ${name} in the ${parent.name}, found ${found.length}`)
    }
    return found[0]!
  }
  const clock = times(expected, refuse)
  const id = assertion.attributes.get('ID')
  if (!id) return refuse('assertion_refused', 'the assertion has no ID')
  equal('the Issuer of the assertion', textOf(only(assertion, 'Issuer')), expected.issuer, refuse)
  const subject = only(assertion, 'Subject')
  const confirmed = confirmation(subject, expected, clock, refuse)
  const conditions = conditionsOf(only(assertion, 'Conditions'), expected, clock, refuse)
  for (const statement of childrenOf(assertion, ns.assertion, 'AuthnStatement')) {
    clock.open('SessionNotOnOrAfter', statement.attributes.get('SessionNotOnOrAfter'))
  }
  return {
    id,
    ...nameIdOf(subject, expected, refuse),
    attributes: attributesOf(assertion),
    until: Math.min(confirmed, conditions),
  }
}

interface Clock {
  /** Refuses a time that has come; answers when it comes, or Infinity where none is given. */
  open(what: string, value: string | undefined): number
  /** Refuses a time that has not come. */
  begun(what: string, value: string | undefined): void
}

function times({ now, skew }: Expected, refuse: Refuse): Clock {
  const read = (what: string, value: string): number => {
    const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/.test(value)
      ? Date.parse(value)
      : Number.NaN
    return Number.isNaN(time)
      ? refuse('assertion_refused', `${what} ${quote(value)} is not a time in UTC`)
      : time
  }
  const here = `our clock says ${new Date(now).toISOString()}, ${skew / 1000} s of difference are allowed`
  return {
    open: (what, value) => {
      if (value === undefined) return Number.POSITIVE_INFINITY
      const time = read(what, value)
      return now >= time + skew
        ? refuse('assertion_refused', `${what} ${quote(value)} has passed; ${here}`)
        : time
    },
    begun: (what, value) => {
      if (value !== undefined && now < read(what, value) - skew) {
        refuse('assertion_refused', `${what} ${quote(value)} has not come yet; ${here}`)
      }
    },
  }
}

function equal(
  what: string,
  received: string | null | undefined,
  expected: string | null,
  refuse: Refuse,
): void {
  if ((received ?? null) !== expected) {
    refuse('assertion_refused', `${what}: expected ${quote(expected)}, got ${quote(received)}`)
  }
}

/** One bearer confirmation has to hold (profiles §4.1.4.2); answers until when it does. */
function confirmation(subject: XmlElement, expected: Expected, clock: Clock, refuse: Refuse): number {
  const bearers = childrenOf(subject, ns.assertion, 'SubjectConfirmation').filter(
    (entry) => entry.attributes.get('Method') === bearer,
  )
  if (bearers.length === 0)
    return refuse('assertion_refused', 'the Subject has no bearer SubjectConfirmation')
  let failure: unknown
  for (const entry of bearers) {
    try {
      return bearerUntil(entry, expected, clock, refuse)
    } catch (error) {
      failure ??= error
    }
  }
  throw failure
}

function bearerUntil(confirmed: XmlElement, expected: Expected, clock: Clock, refuse: Refuse): number {
  const data = childrenOf(confirmed, ns.assertion, 'SubjectConfirmationData')
  if (data.length !== 1) {
    return refuse('assertion_refused', 'the SubjectConfirmation has no SubjectConfirmationData')
  }
  const { attributes } = data[0]!
  equal('Recipient', attributes.get('Recipient'), expected.callbackUrl, refuse)
  equal(
    'InResponseTo of the SubjectConfirmation',
    attributes.get('InResponseTo') || null,
    expected.requestId,
    refuse,
  )
  clock.begun('NotBefore of the SubjectConfirmation', attributes.get('NotBefore'))
  const until = clock.open('NotOnOrAfter of the SubjectConfirmation', attributes.get('NotOnOrAfter'))
  if (until === Number.POSITIVE_INFINITY) {
    return refuse('assertion_refused', 'the SubjectConfirmationData has no NotOnOrAfter')
  }
  return until
}

/** Every condition has to hold, and one that we do not know does not (core §2.5.1.1). */
function conditionsOf(conditions: XmlElement, expected: Expected, clock: Clock, refuse: Refuse): number {
  clock.begun('NotBefore of the Conditions', conditions.attributes.get('NotBefore'))
  const until = clock.open('NotOnOrAfter of the Conditions', conditions.attributes.get('NotOnOrAfter'))
  if (until === Number.POSITIVE_INFINITY) {
    return refuse('assertion_refused', 'the Conditions have no NotOnOrAfter')
  }
  const known = new Set(['AudienceRestriction', 'OneTimeUse', 'ProxyRestriction'])
  const unknown = elementsOf(conditions).find(
    (entry) => !known.has(entry.name) || entry.namespace !== ns.assertion,
  )
  if (unknown) return refuse('assertion_refused', `the condition <${quote(unknown.name)}> is not known here`)
  const restrictions = childrenOf(conditions, ns.assertion, 'AudienceRestriction')
  if (restrictions.length === 0)
    return refuse('assertion_refused', 'the Conditions have no AudienceRestriction')
  for (const restriction of restrictions) {
    const audiences = childrenOf(restriction, ns.assertion, 'Audience').map((audience) => textOf(audience))
    if (!audiences.includes(expected.audience)) {
      equal('Audience', audiences[0], expected.audience, refuse)
    }
  }
  return until
}

/** One NameID names as many people as it has qualifiers (core §8.3.7); left out, they are the IdP and we. */
function nameIdOf(subject: XmlElement, { subjectMapped, issuer, audience }: Expected, refuse: Refuse) {
  const found = childrenOf(subject, ns.assertion, 'NameID')
  const nameId = found.length === 1 ? textOf(found[0]) : null
  const ask = 'ask the identity provider for a persistent NameID'
  if (nameId === null || nameId.trim() === '') {
    return refuse('identity_invalid', `the Subject has no NameID that can be read; ${ask}`)
  }
  if (found[0]!.attributes.get('Format') === transient && !subjectMapped) {
    return refuse(
      'identity_invalid',
      `the NameID is transient, so it names the person for this sign-in only; ${ask}, or map attributes.subject`,
    )
  }
  const qualifier = (name: string, own: string) => {
    const value = found[0]!.attributes.get(name) || own
    return value === own ? null : value
  }
  const foreign = [qualifier('NameQualifier', issuer), qualifier('SPNameQualifier', audience)]
  return { nameId, subject: foreign.some(Boolean) ? JSON.stringify([...foreign, nameId]) : nameId }
}

/** Values that hold elements are no text and are left out; `xsi:nil` values too. */
function attributesOf(assertion: XmlElement): Map<string, string[]> {
  const attributes = new Map<string, string[]>()
  const all = childrenOf(assertion, ns.assertion, 'AttributeStatement').flatMap((statement) =>
    childrenOf(statement, ns.assertion, 'Attribute'),
  )
  for (const attribute of all) {
    const name = attribute.attributes.get('Name')
    if (!name) continue
    const values = childrenOf(attribute, ns.assertion, 'AttributeValue')
      .filter((value) => !['true', '1'].includes(value.attributes.get(`{${ns.schema}}nil`) ?? ''))
      .map((value) => textOf(value))
      .filter((value) => value !== null)
    attributes.set(name, [...(attributes.get(name) ?? []), ...values])
  }
  return attributes
}
