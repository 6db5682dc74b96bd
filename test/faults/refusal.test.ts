import { assertIdentity, JitError, type Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { expect, test } from 'vitest'
import { provision } from '../../lib/provision.js'
import { prepared } from '../rig/ports.js'
import { entries } from '../tables/facts.js'

async function setUp(wrap: (store: Store) => Store) {
  const { directory } = await entries()
  const store = memoryStore()
  const ports = await prepared(store, directory)
  const stranger = assertIdentity({
    source: 'connection:c',
    sourceVersion: (await directory.connection('c'))!.version,
    issuer: 'https://idp.example',
    subject: 's',
    email: 'ann@nowhere.example',
    at: Date.now(),
  })
  const refused = await provision({ ...ports, store: wrap(store) }, stranger).catch((error) => error)
  return { refused, events: (await store.events()).rows }
}

test.each([
  ['was lost once', 1],
  ['was never lost', 0],
])('a refusal whose commit landed and whose answer %s: the same refusal, and one event', async (_, lost) => {
  let left = lost
  const { refused, events } = await setUp((store) => ({
    ...store,
    commit: async (changes) => {
      const result = await store.commit(changes)
      if (left-- > 0) throw new Error('connection reset')
      return result
    },
  }))
  expect(refused).toBeInstanceOf(JitError)
  expect(refused.code).toBe('email_outside')
  expect(events.map((event) => event.type)).toEqual(['denied'])
})
