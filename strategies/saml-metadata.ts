import { createPrivateKey, X509Certificate } from 'node:crypto'
import { JitError, type SamlConnection, type Services } from '../lib/index.js'
import {
  childrenOf,
  escapeXml,
  everyElement,
  legible,
  ns,
  readXml,
  textOf,
  type XmlElement,
  XmlProblem,
} from './saml-xml.js'

/** What a connection's `idpMetadata` says. */
export interface IdpMetadata {
  readonly entityId: string
  /** Where AuthnRequests go, by HTTP-Redirect. */
  readonly ssoUrl: string
  /** Signing certificates, the newest first. */
  readonly certificates: readonly X509Certificate[]
  /** Signing certificates passed over, because their keys are not RSA. */
  readonly passedOver: readonly X509Certificate[]
}

const bindings = 'urn:oasis:names:tc:SAML:2.0:bindings:'
const day = 86_400_000

/** Metadata is the operator's own file, so it may be long and carry comments. */
const metadataLimits = {
  characters: 20_000_000,
  elements: 500_000,
  attributes: 1_000_000,
  attributesOfOne: 200,
  siblings: 100_000,
  depth: 60,
  comments: true,
}

/**
 * Reads IdP metadata (SAML metadata §2.4): an EntityDescriptor, alone or as the only IdP of an
 * EntitiesDescriptor.
 * @throws JitError `config_invalid` naming the connection and what its metadata lacks
 */
export function readIdpMetadata(connection: SamlConnection): IdpMetadata {
  const refuse = (what: string): never => {
    throw new JitError('config_invalid', `connection "${connection.id}": idpMetadata: ${what}`)
  }
  let root: XmlElement
  try {
    root = readXml(connection.idpMetadata.replace(/^\ufeff?\s+|^\ufeff/, ''), metadataLimits)
  } catch (error) {
    if (error instanceof XmlProblem) return refuse(`it is not XML that can be read: ${error.message}`)
    throw error
  }
  const entities = [...everyElement(root)].filter(
    (element) => element.name === 'EntityDescriptor' && element.namespace === ns.metadata,
  )
  if (entities.length === 0) {
    return refuse(
      `expected SAML metadata with an EntityDescriptor, got "${legible(root.name)}"; export it from the IdP`,
    )
  }
  const idps = entities.filter((entity) => childrenOf(entity, ns.metadata, 'IDPSSODescriptor').length > 0)
  if (idps.length !== 1) {
    return refuse(
      idps.length === 0
        ? 'it describes no identity provider (IDPSSODescriptor); is it the metadata of a service provider?'
        : `it describes ${idps.length} identity providers; keep the one that is meant`,
    )
  }
  const entityId = idps[0]!.attributes.get('entityID')
  const descriptors = childrenOf(idps[0]!, ns.metadata, 'IDPSSODescriptor')
  if (!entityId) return refuse('its EntityDescriptor has no entityID')
  const ssoUrl = descriptors
    .flatMap((descriptor) => childrenOf(descriptor, ns.metadata, 'SingleSignOnService'))
    .find((service) => service.attributes.get('Binding') === `${bindings}HTTP-Redirect`)
    ?.attributes.get('Location')
  if (!ssoUrl) return refuse('it has no SingleSignOnService with the HTTP-Redirect binding')
  if (!/^https?:$/.test(protocolOf(ssoUrl))) {
    return refuse(
      `its SingleSignOnService is at ${JSON.stringify(ssoUrl.slice(0, 200))}, which is no http(s) URL`,
    )
  }
  return { entityId, ssoUrl, ...signingCertificates(descriptors, refuse) }
}

function protocolOf(url: string): string {
  try {
    return new URL(url).protocol
  } catch {
    return ''
  }
}

function signingCertificates(
  descriptors: readonly XmlElement[],
  refuse: (what: string) => never,
): Pick<IdpMetadata, 'certificates' | 'passedOver'> {
  const found = new Map<string, X509Certificate>()
  const passedOver: X509Certificate[] = []
  const keys = descriptors
    .flatMap((descriptor) => childrenOf(descriptor, ns.metadata, 'KeyDescriptor'))
    .filter((key) => [undefined, 'signing'].includes(key.attributes.get('use')))
  for (const element of keys.flatMap((key) => [...everyElement(key)])) {
    if (element.name !== 'X509Certificate' || element.namespace !== ns.signature) continue
    let certificate: X509Certificate
    try {
      certificate = new X509Certificate(Buffer.from(textOf(element) ?? '', 'base64'))
    } catch {
      return refuse('one of its signing certificates is not an X.509 certificate in base64')
    }
    const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey
    const bits = asymmetricKeyDetails?.modulusLength ?? 0
    if (asymmetricKeyType !== 'rsa') {
      passedOver.push(certificate)
    } else if (bits < 2048) {
      return refuse(
        `the RSA key of the signing certificate ${subjectOf(certificate)} has ${bits} bits; 2048 is the least`,
      )
    } else {
      found.set(certificate.fingerprint256, certificate)
    }
  }
  if (found.size === 0) {
    return refuse(
      passedOver.length === 0
        ? 'it has no signing certificate (KeyDescriptor)'
        : `it has no signing certificate with an RSA key: ${passedOver.map(subjectOf).join(', ')}`,
    )
  }
  const certificates = [...found.values()].sort((a, b) => Date.parse(b.validFrom) - Date.parse(a.validFrom))
  return { certificates, passedOver }
}

const subjectOf = (certificate: X509Certificate) => `"${certificate.subject.replaceAll('\n', ', ')}"`

/** Certificates that expired or will within 30 days: sign-in goes on, as SAML trusts keys and not dates. */
export function certificateWarnings(
  connection: SamlConnection,
  { certificates, passedOver }: IdpMetadata,
  now: number,
): string[] {
  const where = `connection "${connection.id}": idpMetadata: the signing certificate`
  const ending = certificates.flatMap((certificate) => {
    const ends = Date.parse(certificate.validTo)
    if (ends - now > 30 * day) return []
    const when = `${ends <= now ? 'expired' : 'expires'} on ${new Date(ends).toISOString().slice(0, 10)}`
    return [`${where} ${subjectOf(certificate)} ${when}; ask the IdP's administrator for new metadata`]
  })
  return [
    ...ending,
    ...passedOver.map((certificate) => `${where} ${subjectOf(certificate)} is not used: its key is not RSA`),
  ]
}

/**
 * Looks over our own keys of a connection.
 * @throws JitError `config_invalid` where a key or certificate cannot be read or the two do not belong together
 */
export function checkOwnKeys(connection: SamlConnection): void {
  for (const use of ['signing', 'decryption'] as const) {
    for (const [index, { privateKey, certificate }] of connection.sp[use].entries()) {
      const where = `connection "${connection.id}": sp.${use}.${index}`
      const read = <T>(key: string, make: () => T): T => {
        try {
          return make()
        } catch (cause) {
          throw new JitError('config_invalid', `${where}: ${key} must be PEM, as openssl writes it`, {
            cause,
          })
        }
      }
      const own = read('privateKey', () => createPrivateKey(keyText(privateKey)))
      const parsed = read('certificate', () => new X509Certificate(certificate))
      if (own.asymmetricKeyType !== 'rsa') {
        throw new JitError(
          'config_invalid',
          `${where}: privateKey must be an RSA key, not ${own.asymmetricKeyType}`,
        )
      }
      if (!parsed.checkPrivateKey(own)) {
        throw new JitError('config_invalid', `${where}: the certificate is not of this privateKey`)
      }
    }
  }
}

/** A directory resolves `{ env }` when it is loaded; a reference that is still there was never resolved. */
export const keyText = (secret: string | { readonly env: string }): string =>
  typeof secret === 'string' ? secret : ''

/** SP metadata of a connection (SAML metadata §2.4.4), for the IdP's administrator. */
export function spMetadata(connection: SamlConnection, services: Services): string {
  const { signing, decryption } = connection.sp
  const key = (use: string, certificate: string, methods = '') =>
    `<KeyDescriptor use="${use}"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>${new X509Certificate(certificate).raw.toString('base64')}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>${methods}</KeyDescriptor>\n`
  const methods = [
    'http://www.w3.org/2009/xmlenc11#aes256-gcm',
    `${ns.encryption}aes256-cbc`,
    `${ns.encryption}rsa-oaep-mgf1p`,
  ]
    .map((algorithm) => `<EncryptionMethod Algorithm="${algorithm}"/>`)
    .join('')
  // Persistent first: an IdP left to choose may send transient names, which name nobody.
  const formats = ['2.0:nameid-format:persistent', '1.1:nameid-format:emailAddress']
    .map((format) => `<NameIDFormat>urn:oasis:names:tc:SAML:${format}</NameIDFormat>\n`)
    .join('')
  return `<?xml version="1.0" encoding="UTF-8"?>
<EntityDescriptor xmlns="${ns.metadata}" xmlns:ds="${ns.signature}" entityID="${escapeXml(services.entityId)}">
<SPSSODescriptor AuthnRequestsSigned="${signing.length > 0}" WantAssertionsSigned="${connection.signed !== 'response'}" protocolSupportEnumeration="${ns.protocol}">
${signing.map((pair) => key('signing', pair.certificate)).join('')}${decryption.map((pair) => key('encryption', pair.certificate, methods)).join('')}${formats}<AssertionConsumerService Binding="${bindings}HTTP-POST" Location="${escapeXml(services.callbackUrl)}" index="0" isDefault="true"/>
</SPSSODescriptor>
</EntityDescriptor>
`
}
