import fc from 'fast-check'
import type { JWTPayload } from 'jose'
import { describe, expect, it } from 'vitest'
import { expectRefused, signIn } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'

// Attacks of one organization's provider on another organization, and on what a provider may decide at all.

const at = scene({
  attributes: { email: 'email', name: 'name', groups: 'groups' },
  groups: { mode: 'sync', map: { staff: ['member'], admins: ['admin'] } },
})

const claiming = (change: Partial<JWTPayload>) => {
  at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, ...change })
}

describe('L06 L08 another organization', () => {
  it("L06 B's provider asserts the address of a user of A: denied", async () => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    const before = await at.app.rows()
    const client = browser()
    const answer = await signIn(at.app, 'globex', 'mallory', client)
    await expectRefused(at.app, client, answer, { code: 'email_foreign', status: 403, denied: true }, before)
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.id).toBe(alice.user.id)
    expect((await at.app.store.users()).rows[0]!.identities).toHaveLength(1)
  })

  it("L08 B's provider asserts a new person in A's domain: denied, nothing created", async () => {
    const client = browser()
    const answer = await signIn(at.app, 'globex', 'mallory', client)
    await expectRefused(at.app, client, answer, { code: 'email_foreign', status: 403, denied: true })
    await honestSignIn(at.app, 'globex', 'bob')
  })

  it("L06 the same subject at another provider is another person, even if it is called by A's", async () => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    at.globex.faults.idToken = (claims) => at.globex.sign({ ...claims, sub: 'alice' })
    const bob = await honestSignIn(at.app, 'globex', 'bob')
    expect(bob.user.id).not.toBe(alice.user.id)
    expect((await at.app.store.users()).rows.map((row) => row.identities.length)).toEqual([1, 1])
  })
})

describe('L13 domains that look alike', () => {
  it.each([
    'alice@evil-acme.example',
    'alice@acme.example.evil.com',
    'alice@sub.acme.example',
    'alice@xacme.example',
    'alice@acme.exampl',
    'alice@acme-example',
    'alice@acme.example.',
    'alice@acme.example@evil.com',
    'alice@evil.com@acme.example',
    'alice@acme。example',
    'alice@acme.example\u200b',
    '"alice@acme.example"@evil.com',
    'alice@evil.com\u0000@acme.example',
  ])('L13 %j is not in acme.example', async (email) => {
    claiming({ email })
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    const { error } = JSON.parse(answer.text)
    expect(['email_outside', 'identity_invalid']).toContain(error)
    await expectRefused(at.app, client, answer, {
      code: error,
      status: 403,
      denied: error === 'email_outside',
    })
    at.acme.honest()
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.email).toBe('alice@acme.example')
  })

  it('L13 no address whose text after the last @ is not the domain gets in', async () => {
    const near = fc
      .tuple(fc.string({ maxLength: 6 }), fc.string({ maxLength: 6 }))
      .filter(([before, after]) => !/^$/.test(before + after))
      .map(([before, after]) => `alice@${before}acme.example${after}`)
    await fc.assert(
      fc.asyncProperty(near, async (email) => {
        claiming({ email })
        const answer = await signIn(at.app, 'acme', 'alice')
        expect(answer.status, email).toBe(403)
      }),
      { numRuns: 25 },
    )
    expect((await at.app.store.users()).rows).toEqual([])
  })

  it('L13 letters of another case are the same domain and the same person', async () => {
    const alice = await honestSignIn(at.app, 'acme', 'alice')
    claiming({ email: 'Alice@ACME.Example' })
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.id).toBe(alice.user.id)
    expect((await at.app.store.users()).rows).toHaveLength(1)
  })
})

describe('P01 P02 what a provider may not decide', () => {
  it.each([
    [['owner']],
    [['superadmin', 'root', '*']],
    [['Admins', 'ADMINS', 'admins ', ' admins', 'admin', 'ａｄｍｉｎｓ']],
    [['globex:admin', 'admins,owner', 'admins\u0000']],
    [['__proto__', 'constructor', 'toString']],
    [[{ toString: 'admins' }, ['admins'], null]],
  ])('P01 groups %j give no role', async (groups) => {
    claiming({ groups })
    const { user } = await honestSignIn(at.app, 'acme', 'alice')
    expect(user.memberships.map(({ roles }) => roles)).toEqual([['member']])
    claiming({ groups: ['admins'] })
    const mapped = await honestSignIn(at.app, 'acme', 'alice')
    expect(mapped.user.memberships[0]!.roles.toSorted()).toEqual(['admin', 'member'])
  })

  it('P02 claims the operator did not map change nothing', async () => {
    claiming({
      isAdmin: true,
      role: 'owner',
      roles: ['owner', 'admin'],
      organization: 'globex',
      orgId: 'globex',
      id: 'somebody-else',
      userId: 'somebody-else',
      status: 'suspended',
      epochs: { user: 99 },
      source: 'connection:globex',
      memberships: [{ organization: 'globex', roles: ['owner'] }],
      ['__proto__']: { isAdmin: true },
      constructor: { prototype: { isAdmin: true } },
    })
    await honestSignIn(at.app, 'acme', 'alice')
    const [user] = (await at.app.store.users()).rows
    expect(user).toMatchObject({ status: 'active', epoch: 0, attributes: { name: 'Person alice' } })
    expect(Object.keys(user!.attributes)).toEqual(['name'])
    expect(user!.memberships).toMatchObject([{ organization: 'acme', grants: [{ role: 'member' }] }])
    expect(user!.identities).toMatchObject([{ source: 'connection:acme', subject: 'alice' }])
    expect(({} as Record<string, unknown>).isAdmin).toBeUndefined()
  })
})
