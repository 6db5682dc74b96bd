import express from 'express'
import type { DirectoryInput } from 'passport-jit'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type App, type Browser, browser, type Person, signedStrategy, startApp } from '../rig/inbox.js'

// An invitation is for an address, so only who has proved that address may take it, once, where it was made.

const bob = 'bob@nobody.example'
const directory: DirectoryInput = {
  organizations: [
    { id: 'o', name: 'O', roles: ['owner', 'admin', 'member'] },
    { id: 'p', name: 'P', roles: ['owner', 'admin', 'member'] },
  ],
  social: [{ id: 'pal', preset: 'passport', link: 'verified-email' }],
  email: { enabled: true },
}

let app: App
/** Bob's, to O, as an administrator. */
let invitation: string
beforeEach(async () => {
  app = await startApp({
    directory,
    strategies: [signedStrategy() as never],
    // A screen of the app's own, where a signed-in person clicks on an invitation.
    mount: (server, jit) => {
      server.post('/invitations/:id/accept', express.json(), (req, res, next) => {
        const user = req.user?.id
        if (user === undefined) return void res.status(401).json({ error: 'nobody' })
        jit.admin
          .accept({ ...req.body, user, invitation: req.params.id, by: user })
          .then((done) => res.json(done), next)
      })
    },
  })
  invitation = await invite()
})
afterEach(() => app.close())

const invite = async (email = bob, organization = 'o') =>
  (await app.jit.admin.invite({ organization, email, role: 'admin', by: 'root' })).invitation

async function byCode(address: string, client = browser()) {
  await app.ask(client, address)
  const done = await app.verify(client, address, app.inbox.to(address).code)
  expect(done.status, done.text).toBe(200)
  return client
}

async function byPal(person: Person, client = browser()) {
  const done = await client.go(await app.atProvider(client, 'pal', person))
  expect(done.location, done.text).toBe(`${app.origin}/me`)
  return client
}

const accept = (client: Browser, id = invitation, body: Record<string, unknown> = {}) =>
  app.post(client, `/invitations/${id}/accept`, body)
const memberships = async (client: Browser) =>
  (await app.me(client)).user.memberships.map(
    ({ organization, roles }: { organization: string; roles: string[] }) => [organization, roles],
  )
const unknown = [404, 'invitation_unknown']
const answered = ({ status, text }: { status: number; text: string }) => [status, JSON.parse(text).error]

/** Refused, nothing changed; and Bob, who has proved the address, takes it. */
async function refused(attacker: Browser, expected = unknown, id = invitation, body = {}) {
  const before = await app.rows()
  expect(answered(await accept(attacker, id, body))).toEqual(expected)
  expect(await app.rows()).toEqual(before)
  const owner = await byCode(bob)
  expect((await accept(owner)).json()).toMatchObject({ changed: true })
  expect(await memberships(owner)).toEqual([['o', ['admin']]])
}

describe('L12 whose invitation it is', () => {
  test.each<[string, Person]>([
    ['says nothing of the address', { sub: 'evil', email: bob }],
    ['says it is unverified', { sub: 'evil', email: bob, verified: false }],
  ])('L12 a provider that %s: the account carries the address and cannot accept', async (_, person) => {
    const attacker = await byPal(person)
    expect((await app.rows()).users).toMatchObject([{ verifiedEmail: null, contactEmail: bob }])
    await refused(attacker)
  })

  test('L12 a provider that verifies the address: it is Bob', async () => {
    const owner = await byPal({ sub: 'bob', email: bob, verified: true })
    expect((await accept(owner)).status).toBe(200)
    expect(await memberships(owner)).toEqual([['o', ['admin']]])
  })

  test.each(['bob@nobody.example.evil.example', 'bob+x@nobody.example', 'b.ob@nobody.example'])(
    'L12 %s is somebody else',
    async (address) => refused(await byCode(address)),
  )

  test('L12 nobody, without a session', async () => {
    await refused(browser(), [401, 'nobody'])
  })

  test('L12 joining by it needs the click: signing in alone joins nothing', async () => {
    expect(await memberships(await byCode(bob))).toEqual([])
    expect(
      await memberships(await byPal({ sub: 'evil', email: 'eve@nobody.example', verified: true })),
    ).toEqual([])
    const owner = await byCode(bob)
    await accept(owner)
    expect(await memberships(owner)).toEqual([['o', ['admin']]])
  })
})

describe('L12 what is altered', () => {
  test.each([
    ['another organization', { organization: 'p' }],
    ['another role', { role: 'owner' }],
    ['another address', { email: 'eve@nobody.example' }],
    ['a grant beside it', { grants: [{ role: 'owner', source: 'manual' }] }],
  ])('L12 %s in the request is refused', async (_, body) => {
    await refused(await byCode(bob), [400, 'request_invalid'], invitation, body)
  })

  test.each(['x', '%00', '..', 'o', "' or true --"])('L12 an invitation "%s" is none', async (id) => {
    const attacker = await byCode(bob)
    const before = await app.rows()
    expect((await accept(attacker, encodeURIComponent(id))).status).toBe(404)
    expect(await app.rows()).toEqual(before)
    expect((await accept(attacker)).status).toBe(200)
  })

  test('L12 an invitation to another organization gives nothing in this one', async () => {
    const other = await invite(bob, 'p')
    const owner = await byCode(bob)
    expect((await accept(owner, other)).status).toBe(200)
    expect(await memberships(owner)).toEqual([['p', ['admin']]])
    expect((await accept(owner)).status).toBe(200)
    expect(await memberships(owner)).toEqual([
      ['o', ['admin']],
      ['p', ['admin']],
    ])
  })
})

describe('L12 how often it is good', () => {
  test('L12 reused: once for Bob, never for anybody else', async () => {
    const owner = await byCode(bob)
    const twice = await Promise.all([accept(owner), accept(owner), accept(owner)])
    expect(twice.map((answer) => [answer.status, answer.json().changed]).sort()).toEqual([
      [200, false],
      [200, false],
      [200, true],
    ])
    expect(answered(await accept(await byCode('eve@nobody.example')))).toEqual(unknown)
    expect(await memberships(owner)).toEqual([['o', ['admin']]])
    expect((await app.rows()).events.filter(({ type }) => type === 'accepted')).toHaveLength(1)
  })

  test('L12 used, and the membership removed: it does not lead back, a newer one does', async () => {
    const owner = await byCode(bob)
    await accept(owner)
    const { id: user } = (await app.me(owner)).user
    const { decision } = await app.jit.admin.remove({ user, organization: 'o', by: 'root' })
    const again = await byCode(bob)
    expect(answered(await accept(again))).toEqual(unknown)
    expect(await memberships(again)).toEqual([])
    // Of two in one moment the removal counts.
    const { at } = (await app.rows()).events.find(({ change }) => change === decision)!
    await expect.poll(() => Date.now()).toBeGreaterThan(at)
    expect((await accept(again, await invite())).status).toBe(200)
    expect(await memberships(again)).toEqual([['o', ['admin']]])
  })

  test('L12 overtaken by a removal, though nobody used it', async () => {
    const asked = { organization: 'o', email: bob, role: 'member', by: 'root' }
    const { invitation: unused } = await app.jit.admin.invite(asked)
    const owner = await byCode(bob)
    await accept(owner)
    await app.jit.admin.remove({ user: (await app.me(owner)).user.id, organization: 'o', by: 'root' })
    const again = await byCode(bob)
    expect(answered(await accept(again, unused))).toEqual(unknown)
    expect(await memberships(again)).toEqual([])
    expect((await accept(again, await invite(bob, 'p'))).status).toBe(200)
  })

  test('L12 withdrawn', async () => {
    await app.jit.admin.withdraw({ invitation, organization: 'o', by: 'root' })
    const owner = await byCode(bob)
    expect(answered(await accept(owner))).toEqual(unknown)
    expect(await memberships(owner)).toEqual([])
    expect((await accept(owner, await invite())).status).toBe(200)
  })

  test('L12 lapsed', async () => {
    const asked = { organization: 'p', email: bob, role: 'admin', expiresIn: 1, by: 'root' }
    const { invitation: short } = await app.jit.admin.invite(asked)
    const made = Date.now()
    await expect.poll(() => Date.now()).toBeGreaterThan(made + 1)
    const owner = await byCode(bob)
    expect(answered(await accept(owner, short))).toEqual(unknown)
    expect((await accept(owner)).status).toBe(200)
    expect(await memberships(owner)).toEqual([['o', ['admin']]])
  })
})

describe('P26 the administrator of another organization', () => {
  test('P26 cannot withdraw it, nor learn that it is there', async () => {
    const { admin } = app.jit
    const by = 'an administrator of P'
    const foreign = await admin.withdraw({ invitation, organization: 'p', by }).catch((error) => error)
    const none = await admin.withdraw({ invitation: 'none', organization: 'p', by }).catch((error) => error)
    expect([foreign.status, foreign.code]).toEqual(unknown)
    expect([none.status, none.publicMessage]).toEqual([foreign.status, foreign.publicMessage])
    expect((await accept(await byCode(bob))).status).toBe(200)
    await invite()
    const [pending] = (await app.store.invitations({ organization: 'o' })).rows
    expect(await admin.withdraw({ invitation: pending!.id, organization: 'o', by })).toMatchObject({
      changed: true,
    })
  })
})
