import { createPrivateKey } from 'node:crypto'
import { promisify } from 'node:util'
import { type DecryptOptions, decrypt } from 'xml-encryption'
import { everyElement, ns, type XmlElement } from './saml-xml.js'

/**
 * What may stand in an EncryptedAssertion (XML Encryption 1.1). Triple DES is not taken, nor is RSA PKCS#1
 * v1.5, which is a padding oracle. CBC is, because large IdPs know nothing else; SHA-1 is the hash of OAEP,
 * where it is not used against collisions.
 */
const accepted: Readonly<Record<string, readonly string[]>> = {
  EncryptedData: [
    'http://www.w3.org/2009/xmlenc11#aes128-gcm',
    'http://www.w3.org/2009/xmlenc11#aes256-gcm',
    `${ns.encryption}aes128-cbc`,
    `${ns.encryption}aes256-cbc`,
  ],
  EncryptedKey: [`${ns.encryption}rsa-oaep-mgf1p`],
}

/** A decrypted assertion, not verified yet, and the PEM of the key that opened it. */
export interface Opened {
  readonly plain: string
  readonly key: string
}

/**
 * Decrypts the one EncryptedData of a document by the first of these keys that fits.
 * @returns null for every other outcome, so that the answers to forged ciphertexts are all alike
 */
export async function decryptAssertion(
  xml: string,
  encrypted: XmlElement,
  keys: readonly string[],
): Promise<Opened | null> {
  const all = [...everyElement(encrypted)]
  for (const [name, algorithms] of Object.entries(accepted)) {
    const [element, ...more] = all.filter((candidate) => candidate.name === name)
    const [method, ...others] = (element?.content ?? []).filter(
      (child): child is XmlElement => typeof child !== 'string' && child.name === 'EncryptionMethod',
    )
    if (!method || more.length + others.length > 0) return null
    if (!algorithms.includes(method.attributes.get('Algorithm') ?? '')) return null
  }
  for (const pem of keys) {
    const key = createPrivateKey(pem).export({ type: 'pkcs8', format: 'pem' }).toString()
    try {
      return { plain: await decrypted(xml, { key, ...options }), key }
    } catch {
      // Another key may fit; that none does is all that is ever said.
    }
  }
  return null
}

/** The algorithms were chosen above, so the library's own list, which has no CBC, stays out of it. */
const options = { disallowDecryptionWithInsecureAlgorithm: false, warnInsecureAlgorithm: false } as const

const decrypted: (xml: string, options: DecryptOptions) => Promise<string> = promisify(decrypt)
