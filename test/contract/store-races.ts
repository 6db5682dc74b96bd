import type { Store } from 'passport-jit'
import { onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { foundation } from './store-world.js'

export const many = (count: number) => Array.from({ length: count }, (_, index) => index)

/** The same race through one instance and through two on the same data; `next` goes round them. */
export function races(runner: Runner, factory: () => Promise<StoreFixture>) {
  const check = onFresh(runner, factory)
  return (name: string, body: (store: Store, next: () => Store) => Promise<void>): void => {
    for (const instances of [1, 2]) {
      check(`${name}, through ${instances === 1 ? 'one instance' : 'two instances'}`, async (fresh) => {
        await foundation(fresh.store)
        const stores = instances === 1 ? [fresh.store] : [fresh.store, await fresh.another()]
        let turn = 0
        await body(fresh.store, () => stores[turn++ % stores.length]!)
      })
    }
  }
}
