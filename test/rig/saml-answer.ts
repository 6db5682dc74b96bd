import { X509Certificate } from 'node:crypto'
import { promisify } from 'node:util'
import { DOMParser, XMLSerializer } from '@xmldom/xmldom'
import { SignedXml } from 'xml-crypto'
import { encrypt } from 'xml-encryption'
import {
  type AnswerTo,
  answerXml,
  type Person,
  type SigningKey,
} from '../../examples/identity-providers/saml.js'

// Answers of a SAML IdP that is not honest: the honest XML, changed by name, signed, and changed again.

/** A change of an answer's XML. */
export type Mutation = (xml: string) => string

export interface Signing {
  key: SigningKey
  signatureAlgorithm?: string
  digestAlgorithm?: string
  canonicalizationAlgorithm?: string
  transforms?: string[]
  /** Prefixes of an InclusiveNamespaces list. */
  inclusive?: string[]
}

export interface Recipe {
  /** EntityID of the IdP. */
  issuer: string
  person: Person
  to: AnswerTo
  /** Changes before signing. */
  before?: Mutation[]
  /** Elements to sign, in this order; the Assertion by default. */
  sign?: ('Assertion' | 'Response')[]
  signing: Signing
  /** Changes after signing. */
  after?: Mutation[]
}

/** The XML of an answer by a recipe. */
export function forge({
  issuer,
  person,
  to,
  before = [],
  sign = ['Assertion'],
  signing,
  after = [],
}: Recipe): string {
  let xml = before.reduce((text, change) => change(text), answerXml(issuer, person, to))
  for (const element of sign) xml = signed(xml, element, signing)
  return after.reduce((text, change) => change(text), xml)
}

export const posted = (xml: string) => Buffer.from(xml).toString('base64')

export const algorithms = {
  sha1: 'http://www.w3.org/2000/09/xmldsig#sha1',
  sha256: 'http://www.w3.org/2001/04/xmlenc#sha256',
  sha512: 'http://www.w3.org/2001/04/xmlenc#sha512',
  rsaSha1: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1',
  rsaSha256: 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
  rsaSha512: 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha512',
  rsaPss: 'http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1',
  hmacSha1: 'http://www.w3.org/2000/09/xmldsig#hmac-sha1',
  exclusive: 'http://www.w3.org/2001/10/xml-exc-c14n#',
  exclusiveWithComments: 'http://www.w3.org/2001/10/xml-exc-c14n#WithComments',
  inclusive: 'http://www.w3.org/TR/2001/REC-xml-c14n-20010315',
  enveloped: 'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
} as const

/** Signs the root of that name; an assertion, also where it is a child of the root. */
export function signed(xml: string, element: string, signing: Signing): string {
  const signer = new SignedXml({
    privateKey: signing.key.privateKey,
    publicCert: signing.key.certificate,
    signatureAlgorithm: signing.signatureAlgorithm ?? algorithms.rsaSha256,
    canonicalizationAlgorithm: (signing.canonicalizationAlgorithm ??
      algorithms.exclusive) as typeof algorithms.exclusive,
  })
  if (signing.signatureAlgorithm === algorithms.hmacSha1) signer.enableHMAC()
  const xpath =
    element === 'Assertion' ? "(/*|/*/*)[local-name(.)='Assertion'][1]" : `/*[local-name(.)='${element}']`
  signer.addReference({
    xpath,
    transforms: signing.transforms ?? [algorithms.enveloped, algorithms.exclusive],
    digestAlgorithm: signing.digestAlgorithm ?? algorithms.sha256,
    ...(signing.inclusive && { inclusiveNamespacesPrefixList: signing.inclusive }),
  })
  signer.computeSignature(xml, {
    prefix: 'ds',
    location: { reference: `${xpath}/*[local-name(.)='Issuer']`, action: 'after' },
  })
  return signer.getSignedXml()
}

// Mutations. `set` and its kin work on every element of a name.

/** Changes the document as a tree. */
export const edit =
  (change: (document: Document) => void): Mutation =>
  (xml) => {
    const document = new DOMParser().parseFromString(xml, 'text/xml')
    change(document)
    return new XMLSerializer().serializeToString(document)
  }

export const all = (within: Document | Element, name: string): Element[] => [
  ...Array.from(within.getElementsByTagNameNS('*', name)),
]

/** Sets an attribute, or with null takes it away. */
export const set = (element: string, attribute: string, value: string | null): Mutation =>
  edit((document) => {
    for (const found of all(document, element)) {
      if (value === null) found.removeAttribute(attribute)
      else found.setAttribute(attribute, value)
    }
  })

export const setText = (element: string, text: string): Mutation =>
  edit((document) => {
    for (const found of all(document, element)) found.textContent = text
  })

/** Sets the Issuer of the Response or of the assertion. */
export const setIssuer = (parent: 'Response' | 'Assertion', issuer: string | null): Mutation =>
  edit((document) => {
    const found = all(document, 'Issuer').filter(
      (element) => (element.parentNode as Element).localName === parent,
    )
    for (const element of found) {
      if (issuer === null) element.parentNode!.removeChild(element)
      else element.textContent = issuer
    }
  })

export const remove = (element: string): Mutation =>
  edit((document) => {
    for (const found of all(document, element)) found.parentNode?.removeChild(found)
  })

/** Puts XML inside an element, before what it holds already. */
export const inside =
  (element: string, xml: string): Mutation =>
  (text) =>
    text.replace(
      new RegExp(`<((?:\\w+:)?${element})((?:\\s[^>]*[^/>])?)(/?)>`),
      (_, name, attributes, empty) =>
        empty ? `<${name}${attributes}>${xml}</${name}>` : `<${name}${attributes}>${xml}`,
    )

export const after =
  (element: string, xml: string): Mutation =>
  (text) =>
    text.replace(new RegExp(`(</(?:\\w+:)?${element}>)`), (end) => end + xml)

export const replace =
  (find: string | RegExp, by: string): Mutation =>
  (text) =>
    text.replace(find, by)

export const ciphers = {
  aes256gcm: 'http://www.w3.org/2009/xmlenc11#aes256-gcm',
  aes256cbc: 'http://www.w3.org/2001/04/xmlenc#aes256-cbc',
  tripleDes: 'http://www.w3.org/2001/04/xmlenc#tripledes-cbc',
  oaep: 'http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p',
  rsa15: 'http://www.w3.org/2001/04/xmlenc#rsa-1_5',
} as const

/** An EncryptedData for the holder of a certificate. */
export async function encrypted(
  content: string,
  certificate: string,
  methods: { content?: string; key?: string } = {},
): Promise<string> {
  const run = promisify(encrypt) as (text: string, options: object) => Promise<string>
  return run(content, {
    rsa_pub: new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'pem' }),
    pem: certificate,
    encryptionAlgorithm: methods.content ?? ciphers.aes256gcm,
    keyEncryptionAlgorithm: methods.key ?? ciphers.oaep,
    keyEncryptionDigest: 'sha1',
    disallowEncryptionWithInsecureAlgorithm: false,
    warnInsecureAlgorithm: false,
  })
}

/** Encrypts the one assertion of an answer. */
export async function encryptAssertion(
  xml: string,
  certificate: string,
  methods: { content?: string; key?: string } = {},
): Promise<string> {
  const assertion = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)![0]
  const alone = /^<[^>]*xmlns:saml=/.test(assertion)
    ? assertion
    : assertion.replace(
        '<saml:Assertion',
        '<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"',
      )
  const data = await encrypted(alone, certificate, methods)
  return xml.replace(assertion, () => `<saml:EncryptedAssertion>${data}</saml:EncryptedAssertion>`)
}
