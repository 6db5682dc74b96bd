import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { JitError } from './errors.js'

/** An operator's key for secrets at rest: 32 bytes in base64 or base64url, with a name of its own. */
export interface SecretKey {
  readonly id: string
  readonly key: string
}

/** Encrypts and decrypts the secrets inside the entry of a connection, wherever they stand in it. */
export interface Vault {
  /** A copy with every secret encrypted by the first key. */
  seal<T>(entry: T, owner: string): T
  /** @throws JitError `config_invalid` where a key is missing or the text was tampered with or moved */
  open<T>(entry: T, owner: string): T
  /** Whether some secret is not encrypted by the first key. */
  outdated(entry: unknown): boolean
}

/** The keys of an entry that hold secrets; `policy` declares the same ones with its `secret` schema. */
const secretKeys = new Set(['clientSecret', 'privateKey'])

/**
 * AES-256-GCM with a fresh IV for each secret. The entry's id and the key's name are authenticated with it, so
 * a ciphertext cannot be moved to another connection.
 * @throws JitError `config_invalid` for no key, one that is not 32 bytes, or an id used twice
 */
export function secretVault(keys: readonly SecretKey[]): Vault {
  const byId = new Map<string, KeyObject>()
  for (const [index, { id, key }] of [...(keys ?? [])].entries()) {
    // A name that is none may be the key itself, put in the wrong place: it is not repeated.
    if (typeof id !== 'string' || !/^[A-Za-z0-9_-]{1,32}$/.test(id)) {
      throw new JitError(
        'config_invalid',
        `keys.${index}: its id must be letters, digits, "-" and "_", 32 at most`,
      )
    }
    const bytes = Buffer.from(typeof key === 'string' ? key : '', 'base64')
    if (bytes.length !== 32) throw new JitError('config_invalid', `keys: "${id}" must be 32 bytes in base64`)
    if (byId.has(id)) throw new JitError('config_invalid', `keys: the name "${id}" is used twice`)
    byId.set(id, createSecretKey(bytes))
  }
  const first = keys?.[0]?.id
  if (first === undefined)
    throw new JitError('config_invalid', 'keys: at least one key is needed to encrypt secrets at rest')

  const encrypt = (text: string, place: string): string => {
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', byId.get(first)!, iv).setAAD(Buffer.from(place))
    const sealed = Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return `sealed:${first}:${sealed.toString('base64url')}`
  }
  const decrypt = (text: string, place: string): string => {
    const [, id, data] = /^sealed:([^:]+):(.+)$/.exec(text) ?? []
    if (id === undefined || data === undefined) {
      throw new JitError('config_invalid', `${place} in the store is not encrypted; import it again`)
    }
    const key = byId.get(id)
    if (!key) {
      const message = `${place} in the store is encrypted with the key "${id}", which was not given`
      throw new JitError('config_invalid', message)
    }
    try {
      const sealed = Buffer.from(data, 'base64url')
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12), { authTagLength: 16 })
      decipher.setAAD(Buffer.from(place)).setAuthTag(sealed.subarray(-16))
      return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString('utf8')
    } catch (cause) {
      const message = `${place} in the store does not decrypt with the key "${id}": another key of that name, or tampered with`
      throw new JitError('config_invalid', message, { cause })
    }
  }
  return {
    seal: (entry, owner) => mapSecrets(entry, owner, encrypt),
    open: (entry, owner) => mapSecrets(entry, owner, decrypt),
    outdated: (entry) => {
      let found = false
      mapSecrets(entry, '', (text) => {
        found ||= !text.startsWith(`sealed:${first}:`)
        return text
      })
      return found
    },
  }
}

/** A copy in which every secret is blank. */
export const blanked = <T>(entry: T): T => mapSecrets(entry, '', () => '')

function mapSecrets<T>(value: T, owner: string, change: (text: string, place: string) => string): T {
  if (Array.isArray(value)) return value.map((entry) => mapSecrets(entry, owner, change)) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [
      key,
      secretKeys.has(key) && typeof entry === 'string'
        ? change(entry, `connection "${owner}": ${key}`)
        : mapSecrets(entry, owner, change),
    ]),
  ) as T
}
