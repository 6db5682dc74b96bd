import { describe, expect, it } from 'vitest'
import { expectRefused, signIn } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'

const at = scene({
  attributes: { email: 'email', name: 'name', groups: 'groups' },
  groups: { absent: 'empty', map: { admins: ['admin'], staff: ['member'] } },
  jit: {},
})

/** Ann has two groups; the next answer says something else besides, or instead. */
async function next(claims: Record<string, unknown>) {
  at.acme.faults.idToken = (honest) => at.acme.sign({ ...honest, ...claims })
  const client = browser()
  return { client, answer: await signIn(at.app, 'acme', 'ann', client) }
}
async function after(claims: Record<string, unknown>) {
  const { client, answer } = await next(claims)
  expect(answer.status, answer.text).toBe(303)
  const { user } = (await client.go(`${at.app.origin}/me`)).json()
  const explained = (await at.app.rows()).events.find(({ detail }) => detail.trace)!.detail.trace as {
    rule: string
    finding: string
    detail?: string
  }[]
  const [membership] = user.memberships
  return {
    roles: [...membership.roles].sort(),
    name: user.attributes.name as string,
    roleRule: explained.find(({ rule }) => rule === 'roles')!.finding,
    left: explained.find(({ rule }) => rule === 'attributes')!.detail ?? '',
  }
}
const numbered = (count: number) => Array.from({ length: count }, (_, n) => `group ${n}`)
const both = ['admin', 'member']

describe('P04 Claims that are too many, too long or of another shape', () => {
  it('10,000 groups are read, all of them', async () => {
    await honestSignIn(at.app, 'acme', 'ann')
    expect(await after({ groups: [...numbered(9_999), 'staff'] })).toMatchObject({ roles: ['member'] })
  })

  it.each<[string, unknown, string]>([
    ['10,001 groups', [...numbered(10_000), 'staff'], 'groups left out: too_many'],
    ['a group of 2,000 characters', ['x'.repeat(2_000)], 'groups left out: too_long'],
    ['an object', { staff: true }, 'groups left out: not_text'],
    ['a list of objects', [{ name: 'staff' }], 'groups left out: not_text'],
    ['lists in a list', [['staff']], 'groups left out: not_text'],
    ['an object among texts', ['staff', { name: 'admins' }], 'groups left out: not_text'],
  ])('%s for groups: roles stay as they are, and the trail says why', async (_, groups, left) => {
    await honestSignIn(at.app, 'acme', 'ann')
    expect(await after({ groups })).toMatchObject({ roles: both, roleRule: 'groups_overflow', left })
    expect(await after({ groups: ['staff'] })).toMatchObject({ roles: ['member'] })
  })

  const crowds: [string, unknown][] = [
    ['lists', Array(20_001).fill([])],
    ['objects', Array(20_001).fill({})],
    ['members', Object.fromEntries(Array.from({ length: 20_001 }, (_, n) => [n, 0]))],
  ]
  it.each(crowds)('a crowd of %s is not read, in the ID token or in UserInfo', async (_name, crowd) => {
    await honestSignIn(at.app, 'acme', 'ann')
    const before = await at.app.rows()
    const refusal = { code: 'idp_unreachable', status: 503, message: /has more than 20000 parts$/ }
    const { client, answer } = await next({ crowd })
    await expectRefused(at.app, client, answer, refusal, before)
    at.acme.faults.idToken = ({ email: _, ...claims }) => at.acme.sign(claims)
    at.acme.faults.userinfo = (claims) => ({ ...claims, crowd })
    const other = browser()
    await expectRefused(at.app, other, await signIn(at.app, 'acme', 'ann', other), refusal, before)
    delete at.acme.faults.userinfo
    delete at.acme.faults.idToken
    await honestSignIn(at.app, 'acme', 'ann')
  })

  it.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty'])(
    'groups and claims called %s are names like any other',
    async (name) => {
      await honestSignIn(at.app, 'acme', 'ann')
      const claims = JSON.parse(`{"groups":["${name}","staff"],"${name}":{"name":"Eve"}}`)
      expect(await after(claims)).toMatchObject({ roles: ['member'] })
      expect(({} as Record<string, unknown>).name).toBeUndefined()
    },
  )

  it('a name of 100,000 characters is left out, and the one from before stays', async () => {
    await honestSignIn(at.app, 'acme', 'ann')
    const before = await after({ name: 'Ann', groups: ['staff'] })
    expect(before).toMatchObject({ name: 'Ann' })
    expect(await after({ name: 'x'.repeat(100_000) })).toMatchObject({
      name: 'Ann',
      left: expect.stringContaining('name left out: too_long'),
    })
  })

  it('control characters and halves of characters, in names and groups, are kept from no database', async () => {
    await honestSignIn(at.app, 'acme', 'ann')
    const odd = await after({ name: 'A\u0000n\ud800n', groups: ['\u0000', '\udfff', 'staff'] })
    expect(odd).toMatchObject({ name: 'A n n', roles: ['member'] })
  })

  it('an answer of 1 MB is refused whole', async () => {
    await honestSignIn(at.app, 'acme', 'ann')
    const before = await at.app.rows()
    const { client, answer } = await next({ blob: 'x'.repeat(1_100_000) })
    await expectRefused(at.app, client, answer, { code: 'idp_unreachable', status: 503 }, before)
    delete at.acme.faults.idToken
    await honestSignIn(at.app, 'acme', 'ann')
  })
})
