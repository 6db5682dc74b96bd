import type { JWTPayload } from 'jose'
import { describe, expect, it } from 'vitest'
import { expectRefused, signIn, untilCallback } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'

// Who a person is to an organization, from one sign-in to the next: what changes at the provider, and what an
// administrator has decided meanwhile.

const at = scene({
  attributes: { email: 'email', name: 'name', groups: 'groups' },
  groups: { mode: 'sync', map: { staff: ['member'], admins: ['admin'] } },
})
const by = 'root'

/** Acme's provider says this of Alice, in the ID token and wherever it is asked. */
const claiming = (change: Partial<JWTPayload>) => {
  at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, ...change })
  at.acme.faults.userinfo = (claims) => ({ ...claims, ...change })
}
const users = async (of = at) => (await of.app.rows()).users
const refusing = async (code: string, of = at, denied = true) => {
  const before = await of.app.rows()
  const client = browser()
  const answer = await signIn(of.app, 'acme', 'alice', client)
  await expectRefused(of.app, client, answer, { code, status: 403, denied }, before)
}

describe('O16 a recycled mailbox', () => {
  it('O16 another subject of the same address is not let into the old account', async () => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    claiming({ sub: 'alice-the-second' })
    await refusing('subject_changed')
    at.acme.honest()
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.id).toBe(alice.user.id)
    expect(await users()).toMatchObject([{ identities: [{ subject: 'alice' }] }])
  })

  it('O16 nor where the old account was removed: the mailbox leads nowhere until it is readmitted', async () => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    await at.app.jit.admin.removeUser({ user: alice.user.id, by })
    claiming({ sub: 'alice-the-second' })
    await refusing('user_removed')
    await at.app.jit.admin.readmitUser({ email: 'alice@acme.example', by })
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.id).not.toBe(alice.user.id)
  })
})

describe('O17 a known subject with a new address', () => {
  const adopting = scene({ adoptEmail: true })

  it.each([
    ['free', 'renamed@acme.example'],
    ['taken', 'ann@acme.example'],
    ['of another organization', 'alice@globex.example'],
    ['of nobody', 'alice@nobody.example'],
    ['absent', undefined],
  ])('O17 %s: the same person, whose address stays', async (_name, email) => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    const ann = await honestSignIn(at.app, 'acme', 'ann')
    const known = await users()
    claiming({ email })
    const again = await honestSignIn(at.app, 'acme', 'alice')
    expect(again.user).toMatchObject({ id: alice.user.id, email: 'alice@acme.example' })
    expect((again.user.memberships as { organization?: string }[]).map((one) => one.organization)).toEqual([
      'acme',
    ])
    expect((await users()).map(({ version: _, ...user }) => user)).toEqual(
      known.map(({ version: _, ...user }) => user),
    )
    at.acme.honest()
    expect((await honestSignIn(at.app, 'acme', 'ann')).user.id).toBe(ann.user.id)
  })

  it.each([
    ['free', 'renamed@acme.example', 'renamed@acme.example'],
    ['taken', 'ann@acme.example', 'alice@acme.example'],
    ['of another organization', 'alice@globex.example', 'alice@acme.example'],
    ['of nobody', 'alice@nobody.example', 'alice@acme.example'],
  ])('O17 %s, where new addresses are adopted: %s becomes %s', async (_name, asserted, expected) => {
    const alice = await honestSignIn(adopting.app, 'acme', 'alice')
    await honestSignIn(adopting.app, 'acme', 'ann')
    adopting.acme.faults.idToken = (claims) => adopting.acme.sign({ ...claims, email: asserted })
    const again = await honestSignIn(adopting.app, 'acme', 'alice')
    expect(again.user).toMatchObject({ id: alice.user.id, email: expected })
    expect((await users(adopting)).map(({ verifiedEmail }) => verifiedEmail).sort()).toEqual(
      ['ann@acme.example', expected].sort(),
    )
  })
})

describe('L25 a subject that is an id of ours', () => {
  it('L25 a provider that calls somebody by the id of a user here makes another person', async () => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    for (const sub of [alice.user.id, `connection:acme ${alice.user.id}`, 'connection:acme', '1', 'email']) {
      at.globex.faults.idToken = (claims) =>
        at.globex.sign({ ...claims, sub, email: `x${sub.length}@globex.example` })
      expect((await honestSignIn(at.app, 'globex', 'bob')).user.id).not.toBe(alice.user.id)
    }
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.id).toBe(alice.user.id)
    expect((await users()).find(({ id }) => id === alice.user.id)!.identities).toHaveLength(1)
  })
})

describe('P05 names made to do something', () => {
  it.each([
    ['HTML', '<script>alert(1)</script><img src=x onerror=alert(1)>'],
    ['a formula', '=HYPERLINK("https://evil.example","Click")'],
    ['right-to-left', 'ann\u202egpj.exe'],
    ['NUL', 'ann\u0000\u0000bob'],
    ['line breaks', 'ann\r\nSet-Cookie: a=b'],
    ['half of a character', 'ann\ud800'],
    ['quotes and backslashes', `'"\\'); drop table jit_users; --`],
    ['a template', '{{7*7}}<%= 7*7 %>#{7*7}'],
    ['letters of everywhere', 'Ærøskøbing 漢字 👩‍👩‍👧'],
  ])('P05 %s is kept as text, without what no text has', async (_name, name) => {
    claiming({ name })
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    expect(answer.status, answer.text).toBe(303)
    const me = await client.go(`${at.app.origin}/me`)
    const kept = name.replace(/[\u0000-\u001f\u007f\ud800]/g, ' ').trim()
    expect(me.json().user.attributes.name).toBe(kept)
    expect((await users())[0]!.attributes.name).toBe(kept)
    expect(at.app.log.map(({ message }) => message).join()).not.toContain(kept)
    // The same again changes nothing.
    const before = await at.app.rows()
    await honestSignIn(at.app, 'acme', 'alice')
    expect(await at.app.rows()).toEqual(before)
  })
})

describe('P06 a group that is gone', () => {
  it('P06 takes its role at the next sign-in, and none that a person gave', async () => {
    claiming({ groups: ['staff', 'admins'] })
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    await at.app.jit.admin.grant({ user: user.id, organization: 'acme', role: 'owner', by })
    const grants = async () =>
      (await users())[0]!.memberships[0]!.grants.map(({ role, source }) => `${role} ${source}`).toSorted()
    expect(await grants()).toEqual(['admin sso:acme', 'member sso:acme', 'owner manual'])
    claiming({ groups: ['staff'] })
    await honestSignIn(at.app, 'acme', 'alice')
    expect(await grants()).toEqual(['member sso:acme', 'owner manual'])
    await at.app.jit.admin.grant({ user: user.id, organization: 'acme', role: 'admin', by })
    claiming({ groups: [] })
    await honestSignIn(at.app, 'acme', 'alice')
    expect(await grants()).toEqual(['admin manual', 'member sso:acme', 'owner manual'])
  })

  it('P06 a role that a person took away stays away, whatever the groups say', async () => {
    claiming({ groups: ['admins'] })
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    await at.app.jit.admin.revoke({ user: user.id, organization: 'acme', role: 'admin', by })
    const again = await honestSignIn(at.app, 'acme', 'alice')
    expect(again.user.memberships[0]!.roles).toEqual(['member'])
    await at.app.jit.admin.readmit({ user: user.id, organization: 'acme', role: 'admin', by })
    const back = await honestSignIn(at.app, 'acme', 'alice')
    expect(back.user.memberships[0]!.roles.toSorted()).toEqual(['admin', 'member'])
  })
})

describe('P08 a person who was suspended', () => {
  it.each([
    ['the user', (user: string) => ({ user, by }), 'user_suspended'],
    ['the membership', (user: string) => ({ user, organization: 'acme', by }), 'membership_suspended'],
  ])('P08 %s: denied, and not revived by trying', async (_name, whom, code) => {
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    const asked = whom(user.id)
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    await at.app.jit.admin.suspend(asked)
    const before = await at.app.rows()
    await expectRefused(
      at.app,
      client,
      await client.go(callback.href),
      { code, status: 403, denied: true },
      before,
    )
    claiming({ groups: ['admins'], name: 'Somebody new' })
    for (let attempt = 0; attempt < 3; attempt++) await refusing(code)
    at.acme.honest()
    await at.app.jit.admin.reactivate(asked)
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.id).toBe(user.id)
  })
})

describe('P09 a person who was removed', () => {
  it('P09 the user: denied by the old subject and by the address, no row comes back', async () => {
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    await at.app.jit.admin.removeUser({ user: user.id, by })
    expect(await users()).toEqual([])
    await refusing('user_removed')
    claiming({ email: 'renamed@acme.example' })
    await refusing('user_removed')
    claiming({ sub: 'another-subject' })
    await refusing('user_removed')
    at.acme.honest()
    await at.app.jit.admin.readmitUser({ email: 'alice@acme.example', by })
    const identity = { source: 'connection:acme', issuer: at.acme.issuer, subject: 'alice' } as const
    await at.app.jit.admin.readmitUser({ identity, by })
    const again = await honestSignIn(at.app, 'acme', 'alice')
    expect(again.user.id).not.toBe(user.id)
    expect(again.user.memberships).toMatchObject([{ roles: ['member'] }])
  })

  it('P09 the membership: who was removed signs in to nothing, whatever the groups say, until readmitted', async () => {
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    await at.app.jit.admin.remove({ user: user.id, organization: 'acme', by })
    for (const groups of [['staff'], ['admins'], []]) {
      claiming({ groups })
      const again = await honestSignIn(at.app, 'acme', 'alice')
      expect(again.user).toMatchObject({ id: user.id, memberships: [] })
    }
    expect(await users()).toMatchObject([{ memberships: [] }])
    at.acme.honest()
    await at.app.jit.admin.readmit({ user: user.id, organization: 'acme', by })
    const back = await honestSignIn(at.app, 'acme', 'alice')
    expect(back.user.memberships).toMatchObject([{ roles: ['member'] }])
  })
})
