import { constants, createHash, verify, type X509Certificate } from 'node:crypto'
import { canonical } from './saml-canonical.js'
import { elementsOf, ns, textOf, type XmlElement } from './saml-xml.js'

const exclusiveC14n = ns.exclusive
const enveloped = `${ns.signature}enveloped-signature`

/** Signature algorithms taken, and how node:crypto calls them; SHA-1, HMAC and everything else is refused. */
const signatureMethods = new Map([
  ['http://www.w3.org/2001/04/xmldsig-more#rsa-sha256', { hash: 'sha256', pss: false }],
  ['http://www.w3.org/2001/04/xmldsig-more#rsa-sha512', { hash: 'sha512', pss: false }],
  ['http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1', { hash: 'sha256', pss: true }],
])
const digestMethods = new Map([
  [`${ns.encryption}sha256`, 'sha256'],
  [`${ns.encryption}sha512`, 'sha512'],
])

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
  const quoted = (element: XmlElement) => JSON.stringify(algorithm(element).slice(0, 100))
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

/**
 * The one of these certificates whose key signed `parent`, which holds a signature that
 * {@link signatureProblem} finds nothing wrong with; or why there is none. What is accepted here is verified
 * by node-saml as well, and only its word counts: this keeps a forgery from ever costing its full validation.
 */
export function signerOf(
  signature: XmlElement,
  parent: XmlElement,
  certificates: readonly X509Certificate[],
): X509Certificate | string {
  const [signedInfo, value] = elementsOf(signature)
  const [canonicalization, method, reference] = elementsOf(signedInfo!)
  const { hash, pss } = signatureMethods.get(method!.attributes.get('Algorithm')!)!
  const bytes = Buffer.from(canonical(signedInfo!, prefixesOf(canonicalization!)))
  const made = Buffer.from(textOf(value)!, 'base64')
  const signer = certificates.find(({ publicKey }) => {
    const key = pss
      ? {
          key: publicKey,
          padding: constants.RSA_PKCS1_PSS_PADDING,
          saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
        }
      : { key: publicKey, padding: constants.RSA_PKCS1_PADDING }
    return verify(hash, bytes, key, made)
  })
  if (!signer) return `it is signed by none of the ${certificates.length} certificate(s) of idpMetadata`
  const [transforms, digestMethod, digestValue] = elementsOf(reference!)
  const digest = createHash(digestMethods.get(digestMethod!.attributes.get('Algorithm')!)!)
    .update(canonical(parent, prefixesOf(elementsOf(transforms!)[1]!), signature))
    .digest()
  const same = digest.equals(Buffer.from(textOf(digestValue)!, 'base64'))
  return same ? signer : 'it is not what the identity provider signed'
}

const prefixesOf = (method: XmlElement): string[] =>
  (elementsOf(method)[0]?.attributes.get('PrefixList') ?? '').split(/[ \t\n]+/).filter(Boolean)
