import { type StoreDirectory, storeDirectory } from 'passport-jit'
import type { StoreFixture } from 'passport-jit/testing'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { answer, begin, honest, oidc, startHonest } from '../http/honest.js'
import { type App, expectRefused, twoOrganizations } from '../rig/oidc-app.js'
import { type Browser, browser } from '../rig/oidc-http.js'
import { testStore } from '../rig/store.js'

// An administrator switches something off while a person is at the identity provider.

const by = 'root'
let fixture: StoreFixture
let directory: StoreDirectory
/** The directory of another process, and what it knows this one learns within a second. */
let elsewhere: StoreDirectory
let app: App

const policy = (connection: object = {}, organization: object = {}) => ({
  organizations: twoOrganizations!.map((entry) => ({ ...entry, ...(entry.id === 'acme' && organization) })),
  connections: [oidc('acme', connection), oidc('other')],
})

beforeEach(async () => {
  fixture = await testStore()
  const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]
  directory = storeDirectory({ store: fixture.store, keys })
  elsewhere = storeDirectory({ store: await fixture.another(), keys })
  await directory.import(policy())
  app = await startHonest({ store: fixture.store, directory, strategies: [honest('oidc')] })
})
afterEach(async () => {
  await app.close()
  await fixture.close()
})

const signIn = async (client = browser()) => ({
  client,
  done: await answer(app, client, await begin(app, client)),
})

async function signedIn(client: Browser, done: { status: number; text: string }) {
  expect(done.status, done.text).toBe(303)
  return (await client.go(`${app.origin}/me`)).json().user as { memberships: { organization: string }[] }
}

describe('P10 while a person is away', () => {
  it.each<[string, () => Promise<unknown>, string, number]>([
    [
      'the connection is switched off',
      () => app.jit.admin.disableConnection({ connection: 'acme', by }),
      'connection_disabled',
      403,
    ],
    [
      'the organization is suspended',
      () => directory.import(policy({}, { status: 'suspended' })),
      'organization_suspended',
      403,
    ],
    [
      'provisioning is switched off',
      () => directory.import(policy({ jit: { create: false, join: false } })),
      'connection_changed',
      503,
    ],
    [
      'the connection is another organization’s to vouch for',
      () => directory.import(policy({ vouchesFor: [] })),
      'connection_changed',
      503,
    ],
  ])('P10 %s: refused at once, and nobody is made', async (_name, switchOff, code, status) => {
    const client = browser()
    const state = await begin(app, client)
    await switchOff()
    await directory.refresh()
    const before = await app.rows()
    await expectRefused(app, client, await answer(app, client, state), { code, status }, before)
    expect((await app.rows()).users).toEqual([])
    await directory.import(policy())
    await directory.refresh()
    const again = await signIn()
    expect((await signedIn(again.client, again.done)).memberships).toHaveLength(1)
  })

  it('P10 another process switches off what this one still remembers: the commit refuses it', async () => {
    const client = browser()
    const state = await begin(app, client)
    await elsewhere.import(policy({ enabled: false }))
    const refused = await answer(app, client, state)
    expect([refused.status, await app.me(client)]).toEqual([
      refused.json().error === 'connection_disabled' ? 403 : 503,
      401,
    ])
    expect(['connection_changed', 'connection_disabled']).toContain(refused.json().error)
    expect((await app.rows()).users).toEqual([])
    await directory.refresh()
    const later = browser()
    const off = await later.go(app.start('acme'))
    await expectRefused(app, later, off, { code: 'connection_disabled', status: 403 }, await app.rows())
    await directory.import(policy())
    await directory.refresh()
    const again = await signIn()
    await signedIn(again.client, again.done)
  })

  it('P10 what was switched off meanwhile holds for the next attempt: no account, or no membership', async () => {
    await directory.import(policy({ jit: { create: false, join: false } }))
    await directory.refresh()
    const stranger = await signIn()
    const refusal = { code: 'user_not_provisioned', status: 403, denied: true }
    await expectRefused(app, stranger.client, stranger.done, refusal)
    await directory.import(policy({ jit: { create: true, join: false } }))
    await directory.refresh()
    const joinless = await signIn()
    expect((await signedIn(joinless.client, joinless.done)).memberships).toEqual([])
    await directory.import(policy())
    await directory.refresh()
    const joined = await signIn()
    expect((await signedIn(joined.client, joined.done)).memberships).toMatchObject([{ organization: 'acme' }])
  })
})
