import type { ErrorCode } from '../lib/index.js'
import {
  childrenOf,
  elementsOf,
  everyElement,
  legible,
  ns,
  readXml,
  textOf,
  type XmlElement,
  XmlProblem,
} from './saml-xml.js'

/** Throws the refusal of one answer, naming its connection. */
export type Refuse = (code: ErrorCode, what: string, cause?: unknown) => never

/**
 * What an answer may be made of. A thousand groups fit, each with the three attributes that some products
 * give to every value. Measured on one core: an ordinary answer costs 10 ms of CPU, one with a thousand groups
 * 0.1 to 0.35 s, and the worst that fits half a second, signed well or not; without these limits anybody's
 * flood of 100 kB costs 12 s.
 */
export const answerLimits = {
  characters: 512 * 1024,
  elements: 2_500,
  attributes: 5_000,
  attributesOfOne: 24,
  siblings: 2_000,
  depth: 24,
  comments: false,
} as const

/** Elements that may stand around the assertion: issuer, signature, status. */
const outsideLimit = 100

/** A `samlp:Response` whose shape leaves no doubt about which assertion is meant; nothing is verified yet. */
export interface Answer {
  readonly xml: string
  readonly response: XmlElement
  /** Its one assertion; or, where that is encrypted, null. */
  readonly assertion: XmlElement | null
  readonly encrypted: XmlElement | null
}

const success = 'urn:oasis:names:tc:SAML:2.0:status:Success'

/**
 * The form field `SAMLResponse`, so far as it costs nothing to ask. Refuses with `answer_too_large` or
 * `answer_malformed`.
 */
export function bounded(field: string | undefined, refuse: Refuse): string {
  if (field === undefined) return refuse('answer_malformed', 'the form has no SAMLResponse')
  if (field.length > answerLimits.characters * 1.4) {
    return refuse('answer_too_large', `the SAMLResponse has ${field.length} characters`)
  }
  return field
}

/** That field as base64 without white space, or refused with `answer_malformed`. */
export function base64Of(field: string, refuse: Refuse): string {
  const base64 = field.replace(/[ \t\r\n]+/g, '')
  // Written again and compared: a pattern takes ten times as long over half a megabyte.
  if (base64 === '' || Buffer.from(base64, 'base64').toString('base64') !== base64) {
    return refuse('answer_malformed', 'the SAMLResponse is not base64')
  }
  return base64
}

/**
 * Reads an answer before any parser of the SAML library does.
 * Refuses with `answer_too_large`, `answer_malformed`, `idp_refused` for a status other than Success, and
 * `assertion_refused` where more than one assertion could be meant.
 */
export function readAnswer(base64: string, refuse: Refuse): Answer {
  const xml = decodeUtf8(Buffer.from(base64, 'base64'), refuse)
  const response = readDocument(xml, refuse)
  if (response.name !== 'Response' || response.namespace !== ns.protocol) {
    return refuse('answer_malformed', `expected a samlp:Response, got <${quote(response.name)}>`)
  }
  version(response, refuse)
  const known = new Set(['Issuer', 'Signature', 'Status', 'Assertion', 'EncryptedAssertion'])
  const odd = elementsOf(response).find((child) => !known.has(child.name))
  if (odd)
    return refuse('assertion_refused', `the Response holds <${quote(odd.name)}>, which no sign-in needs`)
  statusOf(response, refuse)
  const [assertion = null] = childrenOf(response, ns.assertion, 'Assertion')
  const [encrypted = null] = childrenOf(response, ns.assertion, 'EncryptedAssertion')
  inspect(response, [response, assertion], refuse)
  const outside = count(response) - count(assertion ?? encrypted!)
  if (outside > outsideLimit) return refuse('answer_too_large', `${outside} elements around the assertion`)
  // Decrypting takes the first EncryptedData of a document: a decoy before the assertion would be judged in its place.
  if (encrypted && ciphertexts(response) !== ciphertexts(encrypted)) {
    return refuse('assertion_refused', 'something is encrypted outside of the EncryptedAssertion')
  }
  return { xml, response, assertion, encrypted }
}

const count = (element: XmlElement) => [...everyElement(element)].length

const ciphertexts = (element: XmlElement) =>
  [...everyElement(element)].filter(({ name }) => name === 'EncryptedData' || name === 'EncryptedKey').length

/** Reads a decrypted assertion by the same limits. */
export function readDecrypted(plain: string, refuse: Refuse): XmlElement {
  const assertion = readDocument(plain, refuse)
  if (assertion.name !== 'Assertion' || assertion.namespace !== ns.assertion) {
    return refuse('assertion_refused', 'what was encrypted is no assertion')
  }
  inspect(assertion, [assertion], refuse)
  return assertion
}

/** Reads XML by the limits of an answer. */
export function readDocument(xml: string, refuse: Refuse): XmlElement {
  try {
    return readXml(xml, answerLimits)
  } catch (error) {
    if (!(error instanceof XmlProblem)) throw error
    return refuse(
      error.tooLarge ? 'answer_too_large' : 'answer_malformed',
      `the answer's XML: ${error.message}`,
    )
  }
}

function decodeUtf8(bytes: Buffer, refuse: Refuse): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return refuse('answer_malformed', 'the answer is not UTF-8')
  }
}

export function version(element: XmlElement, refuse: Refuse): void {
  if (element.attributes.get('Version') !== '2.0') {
    refuse('assertion_refused', `the ${element.name} is not of SAML version 2.0`)
  }
}

/** SAML core §3.2.2.2: the top-level code says whether it worked, the one inside it says why not. */
function statusOf(response: XmlElement, refuse: Refuse): void {
  const statuses = childrenOf(response, ns.protocol, 'Status')
  const codes = statuses.flatMap((status) => childrenOf(status, ns.protocol, 'StatusCode'))
  const value = codes[0]?.attributes.get('Value')
  if (statuses.length !== 1 || codes.length !== 1 || !value) {
    return refuse('assertion_refused', 'the Response does not have one Status with one StatusCode')
  }
  if (value === success) return
  const reason = childrenOf(codes[0]!, ns.protocol, 'StatusCode')[0]?.attributes.get('Value')
  const message = textOf(childrenOf(statuses[0]!, ns.protocol, 'StatusMessage')[0])
  const said = [value, reason, message].filter((part) => typeof part === 'string').map(quote)
  refuse('idp_refused', `the identity provider answered ${said.join(', ')}`)
}

/**
 * One assertion in the whole document and where it belongs, every ID once, and signatures only in the
 * elements they sign: what every kind of signature wrapping has to break.
 */
function inspect(root: XmlElement, signable: readonly (XmlElement | null)[], refuse: Refuse): void {
  const ids = new Set<string>()
  let assertions = 0
  let responses = 0
  let signedInfos = 0
  const signatures = signable.flatMap((element) =>
    element ? childrenOf(element, ns.signature, 'Signature') : [],
  )
  for (const element of everyElement(root)) {
    if (element.name === 'Assertion' || element.name === 'EncryptedAssertion') assertions += 1
    if (element.name === 'Response') responses += 1
    if (element.name === 'SignedInfo') signedInfos += 1
    if (element.name === 'Signature' && !signatures.includes(element)) {
      return refuse('assertion_refused', 'there is a Signature outside of the elements that may be signed')
    }
    for (const [name, value] of element.attributes) {
      if (!/(?:^|\})id$/i.test(name)) continue
      if (ids.has(value)) return refuse('assertion_refused', 'the same ID is used twice')
      ids.add(value)
    }
  }
  const placed = signable.filter((element) => element?.name === 'Assertion').length
  const encrypted = root.name === 'Response' ? childrenOf(root, ns.assertion, 'EncryptedAssertion').length : 0
  if (assertions !== 1 || placed + encrypted !== 1) {
    return refuse('assertion_refused', `expected one assertion, in the Response; found ${assertions}`)
  }
  if (responses > 1) return refuse('assertion_refused', 'there is a Response inside the Response')
  const parents = signable.filter(
    (element) => element && childrenOf(element, ns.signature, 'Signature').length > 0,
  )
  if (signatures.length !== parents.length || signedInfos !== signatures.length) {
    return refuse('assertion_refused', 'an element has more than one Signature or SignedInfo')
  }
}

/** A value of the protocol for an operator's message: shortened, and safe in a log line. */
export const quote = (value: string | undefined | null) =>
  value === undefined || value === null ? 'nothing' : JSON.stringify(legible(value))
