import { createHmac } from 'node:crypto'
import { createJit, type Directory, type Store, type Strategy } from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import type { ProvisionPorts } from '../../lib/provision.js'

/** What `provision` stands on, over a store and a directory, with nothing chosen by the app. */
export function provisionPorts(store: Store, directory: Directory): ProvisionPorts {
  let key: Promise<string> | null = null
  return {
    store,
    directory,
    lock: memoryLock(),
    now: Date.now,
    hash: async () => {
      key ??= store.hashKey()
      const known = await key
      return (value) => createHmac('sha256', known).update(value).digest('base64url')
    },
    onConflict: null,
    warn: (message) => {
      throw new Error(message)
    },
  }
}

/** The same, with tables and directory entries in place. */
export async function prepared(store: Store, directory: Directory): Promise<ProvisionPorts> {
  const strategies = [
    ...['oidc', 'saml', 'social'].map((protocol) => ({
      protocol,
      attemptKey: () => undefined,
      begin: never,
      complete: never,
    })),
    { protocol: 'email', send: never, redeem: never },
  ]
  await createJit({
    baseUrl: 'http://localhost',
    store,
    lock: memoryLock(),
    once: memoryOnce(),
    directory,
    log: () => {},
    strategies: strategies as unknown as Strategy[],
  }).ready()
  return provisionPorts(store, directory)
}

const never = () => Promise.reject(new Error('not part of this'))
