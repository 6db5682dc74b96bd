import { quote } from './saml-guard.js'
import { elementsOf, ns, type XmlElement } from './saml-xml.js'

const exclusiveC14n = ns.exclusive
const enveloped = `${ns.signature}enveloped-signature`

/** Signature algorithms taken; SHA-1, HMAC and everything else is refused. */
const signatureMethods = new Set([
  'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
  'http://www.w3.org/2001/04/xmldsig-more#rsa-sha512',
  'http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1',
])
const digestMethods = new Set([`${ns.encryption}sha256`, `${ns.encryption}sha512`])

/**
 * Why a signature is not one that a SAML IdP makes over its parent, or null (SAML core §5.4): one SignedInfo
 * with one reference to the parent's ID, enveloped, exclusively canonicalized, by a listed algorithm. What
 * is left out here has no room to mean two things to two parsers.
 */
export function signatureProblem(signature: XmlElement, parent: XmlElement): string | null {
  const shape = (element: XmlElement, ...names: string[]): XmlElement[] | null => {
    const children = elementsOf(element)
    return children.length === names.length &&
      children.every((child, index) => child.namespace === ns.signature && child.name === names[index])
      ? children
      : null
  }
  const parts =
    shape(signature, 'SignedInfo', 'SignatureValue', 'KeyInfo') ??
    shape(signature, 'SignedInfo', 'SignatureValue')
  if (!parts) return 'a Signature must hold one SignedInfo, SignatureValue and KeyInfo, and nothing else'
  const info = shape(parts[0]!, 'CanonicalizationMethod', 'SignatureMethod', 'Reference')
  if (!info) return 'SignedInfo must hold one Reference'
  const [canonicalization, method, reference] = info
  const [transforms, digest, digestValue] =
    shape(reference!, 'Transforms', 'DigestMethod', 'DigestValue') ?? []
  if (!transforms || !digest || !digestValue) {
    return 'Reference must hold Transforms, DigestMethod and DigestValue'
  }
  const algorithm = (element: XmlElement) => element.attributes.get('Algorithm') ?? ''
  const quoted = (element: XmlElement) => quote(algorithm(element))
  if (algorithm(canonicalization!) !== exclusiveC14n) {
    return `the canonicalization ${quoted(canonicalization!)} is not exclusive`
  }
  if (!signatureMethods.has(algorithm(method!))) {
    return `the signature algorithm ${quoted(method!)} is not accepted; ask the IdP for RSA with SHA-256`
  }
  if (!digestMethods.has(algorithm(digest))) {
    return `the digest algorithm ${quoted(digest)} is not accepted; ask the IdP for SHA-256`
  }
  const steps = elementsOf(transforms)
  if (
    steps.length !== 2 ||
    steps.some((step) => step.name !== 'Transform' || step.namespace !== ns.signature) ||
    algorithm(steps[0]!) !== enveloped ||
    algorithm(steps[1]!) !== exclusiveC14n
  ) {
    return 'the transforms must be enveloped-signature and exclusive canonicalization'
  }
  // The enveloped transform has no parameters, but xml-crypto as a signer repeats those of the next one there.
  for (const step of [canonicalization!, ...steps]) {
    const [list, ...more] = elementsOf(step)
    const own = list?.namespace === ns.exclusive || list?.namespace === enveloped
    if (more.length > 0 || (list && (list.name !== 'InclusiveNamespaces' || !own))) {
      return 'a canonicalization may hold InclusiveNamespaces only'
    }
    if (list && elementsOf(list).length > 0) return 'InclusiveNamespaces must not hold elements'
    if (prefixesOf(step).length > 20) return 'more than 20 InclusiveNamespaces'
  }
  for (const leaf of [method!, digest, parts[1]!, digestValue]) {
    if (elementsOf(leaf).length > 0) return `${leaf.name} must not hold elements`
  }
  const id = parent.attributes.get('ID') ?? ''
  if (!/^[\w.-]+$/.test(id) || reference!.attributes.get('URI') !== `#${id}`) {
    return 'the Reference does not point at the element that holds the signature'
  }
  return null
}

const prefixesOf = (method: XmlElement): string[] =>
  (elementsOf(method)[0]?.attributes.get('PrefixList') ?? '').split(/[ \t\n]+/).filter(Boolean)
