import { createHmac } from 'node:crypto'
import type { Directory, Store } from 'passport-jit'
import { memoryLock } from 'passport-jit/stores/memory'
import type { ProvisionPorts } from '../../lib/provision.js'

/** What `provision` stands on, over a store and a directory, with nothing chosen by the app. */
export const provisionPorts = (store: Store, directory: Directory): ProvisionPorts => ({
  store,
  directory,
  lock: memoryLock(),
  now: Date.now,
  hash: async () => {
    const key = await store.hashKey()
    return (value) => createHmac('sha256', key).update(value).digest('base64url')
  },
  onConflict: null,
  warn: (message) => {
    throw new Error(message)
  },
})
