import { describe, expect, test } from 'vitest'
import { rules } from '../../lib/plan.js'
import { everything, policy, signIn, staticApp } from '../provision/policy-scene.js'
import { commandScene } from './scene.js'

const { run, store, write, policyFile } = commandScene(async (store) => {
  const { jit, directory } = staticApp(store, policy())
  await jit.ready()
  await signIn(store, directory, 'ann', { groups: ['admins'] })
})

const file = policyFile('jit.json', policy({ clientSecret: { env: 'NOBODY_SETS_THIS' } }))
const asked = (subject: string, claims: object, ...more: string[]) =>
  run('explain', file, '--connection', 'c', '--subject', subject, '--claims', JSON.stringify(claims), ...more)

describe('passport-jit explain FILE', () => {
  test('somebody new: exit code 0, what they would get, and every rule in order', async () => {
    const { code, out, err } = await asked('new', { email: 'new@o.example', groups: ['admins', 'strangers'] })
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(
      /^✓ they would come in: user_provisioned \(created\)\n {2}would join o\n {2}would get member, admin\n/,
    )
    expect(out).toMatch(/roles changed .*\+admin by group admins.*no rule for group strangers/)
    const told = out.split('\n').map((line) => /^ {2}([a-z-]+) /.exec(line)?.[1])
    expect(told.filter((rule) => rules.some((name) => name === rule))).toEqual(rules)
  })

  test('somebody known: what they would lose', async () => {
    const { code, out } = await asked('ann', { email: 'ann@o.example', groups: [] })
    expect(code).toBe(0)
    expect(out).toMatch(/^✓ they would come in: identity_synced \(updated\)\n {2}would lose admin\n/)
    expect(out).toMatch(/user by_identity /)
  })

  test('the policy is the one of the file, whatever runs', async () => {
    const other = policyFile(
      'other.json',
      policy({ groups: { absent: 'unknown', map: { leads: ['admin'] } } }),
    )
    const claims = JSON.stringify({ email: 'new@o.example', groups: ['leads'] })
    const { out } = await run('explain', other, '--connection', 'c', '--subject', 'new', '--claims', claims)
    expect(out).toMatch(/\+admin by group leads/)
    expect((await asked('new', { email: 'new@o.example', groups: ['leads'] })).out).toMatch(
      /no rule for group leads/,
    )
  })

  test('an organization that the store does not know yet', async () => {
    const fresh = {
      ...policy(),
      organizations: [{ id: 'o', name: 'O', roles: ['member', 'admin', 'viewer'] }],
    }
    const input = JSON.parse(JSON.stringify(fresh).replaceAll('"o"', '"q"').replaceAll('"c"', '"qc"'))
    input.connections[0].vouchesFor = ['q.example']
    const claims = JSON.stringify({ email: 'new@q.example' })
    const { code, out } = await run(
      ...[
        'explain',
        policyFile('fresh.json', input),
        '--connection',
        'qc',
        '--subject',
        'new',
        '--claims',
        claims,
      ],
    )
    expect([code, out]).toEqual([0, expect.stringMatching(/would join q/)])
  })

  test('refused: exit code 2, why, and which rules were not asked', async () => {
    const { code, out } = await asked('new', { email: 'new@p.example' })
    expect(code).toBe(2)
    expect(out).toMatch(/^✗ refused: email_foreign\n/)
    expect(out).toMatch(/roles not_asked .*email decided with email_foreign/)
  })

  test('by a provider; claims of a file; --json for programs', async () => {
    const claims = write('claims.json', { email: 'guest@nobody.example' })
    const { code, out } = await run(
      ...['explain', file, '--provider', 'email', '--subject', 'x', '--claims', `@${claims}`, '--json'],
    )
    const plan = JSON.parse(out)
    expect([code, plan.verdict, plan.reason]).toEqual([0, 'allow', 'user_created'])
    expect(plan.trace.map(({ rule }: { rule: string }) => rule)).toEqual(rules)
  })

  test('nothing is written', async () => {
    const before = await everything(store)
    await asked('ann', { email: 'ann@o.example', groups: [] })
    await asked('new', { email: 'new@p.example' })
    expect(await everything(store)).toEqual(before)
  })

  test.each([
    [
      ['explain', 'nowhere.json', '--connection', 'c', '--subject', 's'],
      /nowhere\.json: there is no such file/,
    ],
    [['explain', file, '--connection', 'none', '--subject', 's'], /there is no entry for .*"none"/],
    [['explain', file, '--subject', 's'], /give --connection or --provider/],
    [['explain', file, '--connection', 'c', '--provider', 'p', '--subject', 's'], /cannot be used with/],
    [['explain', file, '--connection', 'c', '--subject', 's', '--claims', '[]'], /must be a JSON object/],
    [['explain', file, '--connection', 'c', '--subject', 's', '--claims', '@none.json'], /none\.json/],
    [['explain', file, '--connection', 'c'], /--subject/],
    [['explain', file, '--connection', 'c', '--subject', 's', '--store', 'mysql://x'], /--store .* must be/],
  ])('%j: exit code 1 and a sentence', async (args, sentence) => {
    const { code, out, err } = await run(...args)
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(sentence)
    expect(err).not.toMatch(/\bat .*\.js:\d+/)
  })
})
