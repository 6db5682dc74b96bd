import { describe, expect, it } from 'vitest'
import { expectRefused } from '../rig/oidc-app.js'
import { type Mutation, posted, replace } from '../rig/saml-answer.js'
import { alice, begin, post, scene } from '../rig/saml-scene.js'

// What an administrator has decided about a person stands against every answer that the IdP really signed.

const { at, attempt, xmlFor, honest } = scene()
const by = 'root'

/** Refused by the planner, for that reason, and nothing else changes. */
async function denied(code: string, person = alice) {
  const before = await at.app.rows()
  const { client, response } = await attempt({ person })
  await expectRefused(at.app, client, response, { code, status: 403, denied: true }, before)
}

describe('P08 a person who was suspended', () => {
  it.each([
    ['the user', (user: string) => ({ user, by }), 'user_suspended'],
    ['the membership', (user: string) => ({ user, organization: 'acme', by }), 'membership_suspended'],
  ])('P08 %s: denied, also where the answer was verified before', async (_name, whom, code) => {
    const { user } = await honest()
    const begun = await begin(at.app, 'acme')
    const form = { SAMLResponse: posted(xmlFor(begun)), RelayState: begun.relayState }
    const parked = await begun.client.go(begun.callbackUrl, {
      method: 'POST',
      body: new URLSearchParams(form),
    })
    await at.app.jit.admin.suspend(whom(user.id))
    const before = await at.app.rows()
    const refused = await begun.client.go(parked.location!)
    await expectRefused(at.app, begun.client, refused, { code, status: 403, denied: true }, before)
    await denied(code, { ...alice, groups: ['admins'] })
    await at.app.jit.admin.reactivate(whom(user.id))
    expect((await honest()).user.id).toBe(user.id)
  })
})

describe('P09 a person who was removed', () => {
  it('P09 the user: denied by the old subject and by the address, no row comes back', async () => {
    const { user } = await honest()
    await at.app.jit.admin.removeUser({ user: user.id, by })
    await denied('user_removed')
    await denied('user_removed', { ...alice, email: 'renamed@acme.example' })
    await denied('user_removed', { ...alice, id: 'alice-2' })
    expect((await at.app.rows()).users).toEqual([])
    expect((await honest({ person: { ...alice, id: 'bob-1', email: 'bob@acme.example' } })).user.id).not.toBe(
      user.id,
    )
  })

  it('P09 the membership: it is not made again by any group', async () => {
    const { user } = await honest()
    await at.app.jit.admin.remove({ user: user.id, organization: 'acme', by })
    const again = await honest({ person: { ...alice, groups: ['admins', 'staff'] } })
    expect(again.user).toMatchObject({ id: user.id, memberships: [] })
    await at.app.jit.admin.readmit({ user: user.id, organization: 'acme', by })
    expect((await honest()).user.memberships).toMatchObject([{ roles: ['member'] }])
  })
})

describe('S23 answers nobody asked for, where nobody new is let in', () => {
  const closed = scene({ idpInitiated: true, jit: { create: false, join: false } })
  const unasked: Mutation = replace(/ InResponseTo="[^"]*"/g, '')

  async function bring() {
    const begun = await begin(closed.at.app, 'acme')
    const form = { SAMLResponse: posted(closed.xmlFor(begun, { before: [unasked] })) }
    const page = await post(begun.client, begun.callbackUrl, form)
    const ticket = /name="ticket" value="([^"]+)"/.exec(page.text)![1]!
    return { client: begun.client, response: await post(begun.client, begun.callbackUrl, { ticket }) }
  }

  it('S23 nobody is made by one; whose account is there is linked and signed in, and joins nothing', async () => {
    const { app } = closed.at
    const first = await bring()
    const refusal = { code: 'user_not_provisioned', status: 403, denied: true }
    await expectRefused(app, first.client, first.response, refusal)
    const op = {
      op: 'user.create',
      id: 'u',
      status: 'active',
      verifiedEmail: alice.email,
      contactEmail: alice.email,
      attributes: {},
      at: 1,
    } as const
    const made = await app.store.commit({ id: 'given', expect: [], guards: [], ops: [op], events: [] })
    expect(made).toEqual({ committed: true })
    const { client, response } = await bring()
    expect([response.status, await app.me(client)]).toEqual([303, 200])
    expect((await app.rows()).users).toMatchObject([
      { id: 'u', memberships: [], identities: [{ source: 'connection:acme', subject: alice.id }] },
    ])
  })
})
