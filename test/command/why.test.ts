import { describe, expect, test } from 'vitest'
import { policy, signIn, staticApp } from '../provision/policy-scene.js'
import { commandScene } from './scene.js'

let user = ''
const { run } = commandScene(async (store) => {
  const { jit, directory } = staticApp(store, policy())
  await jit.ready()
  const at = Date.parse('2026-01-31T12:00:00Z')
  user = (await signIn(store, directory, 'ann', { groups: ['watchers'], at })).after.user.id
  await jit.admin.grant({ user, organization: 'o', role: 'admin', by: 'root' })
  await jit.admin.revoke({ user, organization: 'o', role: 'viewer', by: 'root' })
})

describe('passport-jit why USER ORGANIZATION', () => {
  test('each grant by its rule, what is absent by whom: exit code 0', async () => {
    const { code, out, err } = await run('why', user, 'o')
    expect({ code, err }).toEqual({ code: 0, err: '' })
    const lines = out.trim().split('\n')
    const decision = String.raw`\(decision [\w-]+\)`
    const expected = [
      `^${user} in o: a member \\(active\\) since 2026-01-31T12:00:00.000Z, by connection:c: user_provisioned ${decision}$`,
      `^✓ admin \\(manual\\) since .*Z, by root by hand: by hand ${decision}$`,
      `^✓ member \\(sso:c\\) since 2026-01-31T12:00:00.000Z, by connection:c: by default ${decision}$`,
      `^✗ viewer: a person took it away, and no policy brings it back; since .*, by root by hand: administered ${decision}$`,
    ]
    expect(lines).toHaveLength(expected.length)
    for (const [n, line] of expected.entries()) expect(lines[n]).toMatch(new RegExp(line))
  })

  test('somebody who is no member', async () => {
    expect(await run('why', user, 'p')).toEqual({ code: 0, out: `${user} in p: no member\n`, err: '' })
  })

  test('--json: one object for programs', async () => {
    const { code, out } = await run('why', user, 'o', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({
      ...{ user, organization: 'o', membership: { status: 'active', seat: true } },
      grants: [
        { role: 'admin', origin: { actor: 'root' } },
        { role: 'member', origin: { because: 'by default' } },
      ],
      absent: [{ finding: 'role_removed', about: 'viewer' }],
    })
  })

  test.each([
    [['why', 'nobody', 'o'], /there is no user "nobody"/],
    [['why', 'ann'], /missing required argument 'organization'/],
  ])('%j: exit code 1 and a sentence', async (args, sentence) => {
    const { code, out, err } = await run(...args)
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(sentence)
  })

  test('an organization that there is not', async () => {
    expect(await run('why', user, 'nowhere')).toMatchObject({
      code: 1,
      err: expect.stringContaining('there is no organization "nowhere"'),
    })
  })
})
