import { constants, createDecipheriv, type KeyObject, privateDecrypt } from 'node:crypto'
import { childrenOf, everyElement, ns, textOf, type XmlElement } from './saml-xml.js'

interface Cipher {
  readonly name: 'aes-128-gcm' | 'aes-256-gcm' | 'aes-128-cbc' | 'aes-256-cbc'
  readonly keyBytes: number
}

/** Content ciphers taken; Triple DES is not among them. CBC is, because large IdPs know nothing else. */
const ciphers = new Map<string, Cipher>([
  ['http://www.w3.org/2009/xmlenc11#aes128-gcm', { name: 'aes-128-gcm', keyBytes: 16 }],
  ['http://www.w3.org/2009/xmlenc11#aes256-gcm', { name: 'aes-256-gcm', keyBytes: 32 }],
  [`${ns.encryption}aes128-cbc`, { name: 'aes-128-cbc', keyBytes: 16 }],
  [`${ns.encryption}aes256-cbc`, { name: 'aes-256-cbc', keyBytes: 32 }],
])

/** The one key transport taken; RSA PKCS#1 v1.5 is a padding oracle. */
const oaep = `${ns.encryption}rsa-oaep-mgf1p`
const sha1 = `${ns.signature}sha1`

/**
 * Decrypts an EncryptedAssertion (XML Encryption 1.1) that holds one EncryptedData with one EncryptedKey.
 * @returns the plain bytes and the key that opened it; null for every other outcome, so that the answers to
 *   forged ciphertexts are all alike
 */
export function decryptAssertion(
  encrypted: XmlElement,
  keys: readonly KeyObject[],
): { readonly plain: Buffer; readonly key: KeyObject } | null {
  const all = [...everyElement(encrypted)]
  const [data, ...moreData] = all.filter((element) => element.name === 'EncryptedData')
  const [wrapped, ...moreKeys] = all.filter((element) => element.name === 'EncryptedKey')
  if (!data || !wrapped || moreData.length + moreKeys.length > 0) return null
  const content = cipherOf(data)
  const key = cipherOf(wrapped)
  const cipher = content && ciphers.get(content.algorithm)
  if (!cipher || key?.algorithm !== oaep || all.filter(isCipherValue).length !== 2) return null
  // The digest is SHA-1 unless named; as the hash of OAEP it is not used against collisions.
  const digests = all.filter((element) => element.name === 'DigestMethod')
  if (digests.some((digest) => digest.attributes.get('Algorithm') !== sha1)) return null
  for (const candidate of keys) {
    try {
      const secret = privateDecrypt(
        { key: candidate, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha1' },
        key.value,
      )
      if (secret.length !== cipher.keyBytes) continue
      const plain = opened(cipher.name, secret, content.value)
      if (plain) return { plain, key: candidate }
    } catch {}
  }
  return null
}

const isCipherValue = (element: XmlElement) => element.name === 'CipherValue'

function cipherOf(element: XmlElement): { algorithm: string; value: Buffer } | null {
  const [method, ...more] = childrenOf(element, ns.encryption, 'EncryptionMethod')
  const values = childrenOf(element, ns.encryption, 'CipherData').flatMap((data) =>
    childrenOf(data, ns.encryption, 'CipherValue'),
  )
  const text = textOf(values[0])
  if (!method || more.length > 0 || values.length !== 1 || text === null) return null
  return { algorithm: method.attributes.get('Algorithm') ?? '', value: Buffer.from(text, 'base64') }
}

function opened(name: Cipher['name'], key: Buffer, bytes: Buffer): Buffer | null {
  if (name === 'aes-128-gcm' || name === 'aes-256-gcm') {
    if (bytes.length < 12 + 16) return null
    const decipher = createDecipheriv(name, key, bytes.subarray(0, 12), { authTagLength: 16 })
    decipher.setAuthTag(bytes.subarray(-16))
    return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()])
  }
  const decipher = createDecipheriv(name, key, bytes.subarray(0, 16)).setAutoPadding(false)
  const padded = Buffer.concat([decipher.update(bytes.subarray(16)), decipher.final()])
  const padding = padded.at(-1) ?? 0
  return padding >= 1 && padding <= 16 ? padded.subarray(0, -padding) : null
}
