import express from 'express'
import { type Admin, storeDirectory } from 'passport-jit'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type App, twoOrganizations } from '../rig/oidc-app.js'
import { type Browser, browser } from '../rig/oidc-http.js'
import { testStore } from '../rig/store.js'
import { answer, begin, honest, oidc, startHonest } from './honest.js'

const by = 'root'
const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]

let app: App
let admin: Admin
let close: () => Promise<void>
let configure: (organization: object) => Promise<unknown>

/** Acme with two connections and Globex with one that vouches for Acme's people too; tenants in the store. */
beforeEach(async () => {
  const { store, close: drop } = await testStore()
  close = drop
  const directory = storeDirectory({ store, keys })
  configure = (organization) =>
    directory.import({
      organizations: twoOrganizations!.map((entry) =>
        entry.id === 'acme' ? { ...entry, ...organization } : entry,
      ),
      connections: [
        oidc('acme'),
        oidc('other'),
        oidc('globex', { organization: 'globex', vouchesFor: ['globex.example', 'acme.example'] }),
      ],
    })
  await configure({})
  app = await startHonest({
    store,
    directory,
    strategies: [honest('oidc')],
    mount: (server, jit) => {
      server.use(jit.routes())
      // A screen of the app's own, for the administrators of its tenants.
      server.post('/tenants/:tenant/members/:user/:verb', express.json(), (req, res, next) => {
        const { tenant, user, verb } = req.params
        jit.admin[verb as 'grant']({ ...req.body, user, organization: tenant, by: 'an administrator' }).then(
          (done) => res.json(done),
          next,
        )
      })
    },
  })
  admin = app.jit.admin
})
afterEach(async () => {
  await app.close()
  await close()
})

async function enter(name: string, connection = 'acme', client = browser()): Promise<Browser> {
  const state = await begin(app, client, connection)
  const done = await answer(app, client, state, connection, `&subject=${name}&email=${name}@acme.example`)
  if (done.status !== 303) throw new Error(`${done.status} ${done.text}`)
  return client
}
const seen = async (client: Browser) => (await client.go(`${app.origin}/me`)).json().user
const membership = async (client: Browser, organization = 'acme') =>
  (await seen(client)).memberships.find(
    (entry: { organization: string }) => entry.organization === organization,
  )
const idOf = async (client: Browser): Promise<string> => (await seen(client)).id
const statuses = (clients: Browser[]) => Promise.all(clients.map((client) => app.me(client)))

const identity = { source: 'connection:acme', issuer: 'https://idp.example', subject: 'alice' }

describe('sessions', () => {
  const all = [401, 401, 401]
  const throughAcme = [401, 401, 200]
  const none = [200, 200, 200]

  /** Of Alice: two through Acme's connection, one through that of Globex. */
  it.each<[string, (user: string) => Promise<{ changed: boolean }>, number[]]>([
    ['suspending the user', (user) => admin.suspend({ user, by }), all],
    ['suspending the membership', (user) => admin.suspend({ user, organization: 'acme', by }), throughAcme],
    ['removing the membership', (user) => admin.remove({ user, organization: 'acme', by }), all],
    ['removing the user', (user) => admin.removeUser({ user, by }), all],
    ['unlinking an identity', (user) => admin.unlink({ user, identity, by }), all],
    ['changing the address', (user) => admin.changeEmail({ user, email: 'new@acme.example', by }), all],
    ['disabling the connection', () => admin.disableConnection({ connection: 'acme', by }), throughAcme],
    [
      'deleting the connection',
      async () => {
        await admin.disableConnection({ connection: 'acme', by })
        return admin.deleteConnection({ connection: 'acme', grants: { adoptBy: 'other' }, by })
      },
      all,
    ],
    ['giving a role', (user) => admin.grant({ user, organization: 'acme', role: 'admin', by }), none],
    ['taking a role', (user) => admin.revoke({ user, organization: 'acme', role: 'member', by }), none],
    ['changing an attribute', (user) => admin.update({ user, attributes: { title: 'Head' }, by }), none],
    [
      'disabling another connection',
      () => admin.disableConnection({ connection: 'globex', by }),
      [200, 200, 401],
    ],
  ])(
    'N04 %s ends those that it should on their next request, and nobody else’s',
    async (_, act, expected) => {
      const alice = [await enter('alice'), await enter('alice'), await enter('alice', 'globex')]
      const bob = await enter('bob', 'other')
      expect(await statuses([...alice, bob])).toEqual([200, 200, 200, 200])
      expect(await act(await idOf(alice[0]!))).toMatchObject({ changed: true })
      expect(await statuses([...alice, bob])).toEqual([...expected, 200])
      // Not a matter of one request.
      expect(await statuses([...alice, bob])).toEqual([...expected, 200])
    },
  )

  it.each<[string, (user: string) => Promise<unknown>, (user: string) => Promise<unknown>]>([
    ['a user', (user) => admin.suspend({ user, by }), (user) => admin.reactivate({ user, by })],
    [
      'a connection',
      () => admin.disableConnection({ connection: 'acme', by }),
      () => admin.enableConnection({ connection: 'acme', by }),
    ],
  ])('N04 stay ended when %s is switched on again before they were used', async (_, off, on) => {
    const client = await enter('alice')
    const user = await idOf(client)
    await off(user)
    await on(user)
    expect(await app.me(client)).toBe(401)
    await enter('alice', 'acme', client)
    expect(await app.me(client)).toBe(200)
  })

  it('a suspended membership counts nowhere, and lets nobody in by its own connection', async () => {
    const [alice, elsewhere] = [await enter('alice'), await enter('alice', 'globex')]
    const user = await idOf(alice)
    await admin.suspend({ user, organization: 'acme', by })
    expect(await membership(elsewhere)).toMatchObject({ status: 'suspended', active: false, roles: [] })
    expect(await membership(elsewhere, 'globex')).toMatchObject({ active: true })
    const state = await begin(app, alice, 'acme')
    const refused = await answer(app, alice, state, 'acme', '&subject=alice&email=alice@acme.example')
    expect([refused.status, refused.json().error]).toEqual([403, 'membership_suspended'])
    await admin.reactivate({ user, organization: 'acme', by })
    expect(await membership(await enter('alice'))).toMatchObject({ active: true, roles: ['member'] })
  })

  it('a role is there on the next request, and gone on the next', async () => {
    const alice = await enter('alice')
    const asked = { user: await idOf(alice), organization: 'acme', role: 'admin', by }
    await admin.grant(asked)
    expect((await membership(alice)).roles).toEqual(['admin', 'member'])
    await admin.revoke(asked)
    expect((await membership(alice)).roles).toEqual(['member'])
  })

  it('P10 a suspended organization’s memberships are inactive at once, and its own sessions end for good', async () => {
    const [alice, elsewhere] = [await enter('alice'), await enter('alice', 'globex')]
    expect([await app.me(alice), await app.me(elsewhere)]).toEqual([200, 200])
    await configure({ status: 'suspended' })
    expect(await app.me(alice)).toBe(401)
    expect(await membership(elsewhere)).toMatchObject({ status: 'active', active: false, roles: [] })
    expect(await membership(elsewhere, 'globex')).toMatchObject({ active: true })
    await configure({})
    expect(await app.me(alice)).toBe(401)
    expect(await membership(elsewhere, 'globex')).toMatchObject({ active: true })
    expect(await membership(await enter('alice'))).toMatchObject({ active: true, roles: ['member'] })
  })

  it('a membership without a seat is inactive, from the first request on until it has one', async () => {
    await configure({ seatLimit: 1, whenFull: 'join-without-seat' })
    const [alice, bob] = [await enter('alice'), await enter('bob')]
    expect(await membership(alice)).toMatchObject({ active: true })
    expect(await membership(bob)).toMatchObject({ status: 'active', active: false, roles: [] })
    await admin.suspend({ user: await idOf(alice), organization: 'acme', by })
    await admin.reactivate({ user: await idOf(bob), organization: 'acme', by })
    expect(await membership(bob)).toMatchObject({ active: true, roles: ['member'] })
  })
})

describe('an app’s own screen for the administrators of a tenant', () => {
  const ask = (tenant: string, user: string, verb: string, body: object = {}) =>
    browser().go(`${app.origin}/tenants/${tenant}/members/${user}/${verb}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(body),
    })

  it('P26 reaches its members, and of nobody else even that they are there', async () => {
    const alice = await enter('alice')
    const user = await idOf(alice)
    for (const verb of ['suspend', 'reactivate', 'remove', 'readmit']) {
      const [stranger, nobody] = [await ask('globex', user, verb), await ask('globex', 'nobody', verb)]
      expect([stranger.status, stranger.json().error]).toEqual([404, 'user_unknown'])
      expect([nobody.status, nobody.json().message]).toEqual([404, stranger.json().message])
    }
    expect(await app.me(alice)).toBe(200)
    expect((await ask('acme', user, 'suspend')).json()).toEqual({
      changed: true,
      decision: expect.any(String),
    })
    expect(await app.me(alice)).toBe(401)
  })

  it('is told what is wrong with what was entered', async () => {
    const user = await idOf(await enter('alice'))
    const codes = async (body: object) => {
      const { status, json } = await ask('acme', user, 'grant', body)
      return [status, json().error]
    }
    expect(await codes({ role: 'boss' })).toEqual([400, 'role_unknown'])
    expect(await codes({ role: ['admin'] })).toEqual([400, 'request_invalid'])
    expect(await codes({})).toEqual([400, 'request_invalid'])
    expect(await codes({ role: 'admin', source: 'sso:acme' })).toEqual([400, 'request_invalid'])
    expect(await codes({ role: 'admin' })).toEqual([200, undefined])
  })
})
