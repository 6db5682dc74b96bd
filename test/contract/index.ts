export { type LockFixture, lockContract } from './lock.js'
export { type OnceFixture, onceContract } from './once.js'
export type { Runner } from './runner.js'
export { type StoreFixture, storeContract } from './store.js'
