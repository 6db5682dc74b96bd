import { storeDirectory } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { app, everything, keys, policy, signIn, staticApp } from '../provision/policy-scene.js'
import { commandScene } from './scene.js'

const { run, store, policyFile } = commandScene(async (store) => {
  const { jit, directory } = staticApp(store, policy())
  await jit.ready()
  for (let n = 0; n < 8; n++) await signIn(store, directory, `p${n}`, { groups: ['admins'] })
})

const secret = { clientSecret: { env: 'NOBODY_SETS_THIS' } }
const fewer = { groups: { absent: 'unknown', map: { watchers: ['viewer'] } } }
const same = policyFile('same.json', policy(secret))
const much = policyFile('much.json', policy({ ...secret, ...fewer }))

describe('passport-jit preview FILE', () => {
  test('nothing is different: exit code 0', async () => {
    const { code, out, err } = await run('preview', same)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(
      /^✓ o \(c\): 0 of 16 grants would be revoked \(0 %\), 0 given; of 8 identities none is concerned\ndigest [\w-]{22}\n$/,
    )
  })

  test('too much: exit code 2, each person, and the digest to accept', async () => {
    const before = await everything(store)
    const { code, out } = await run('preview', much)
    expect(code).toBe(2)
    expect(out).toMatch(
      /^! o \(c\): 8 of 16 grants would be revoked \(50 %\), 0 given; of 8 identities 8 losing\n/,
    )
    expect(out.match(/^ {2}[\w-]+ in o by c: -admin no longer by a group$/gm)).toHaveLength(8)
    expect(out).toMatch(/! this must be accepted: import it with \{ accept: "[\w-]{22}" \}\n$/)
    expect(await everything(store)).toEqual(before)
  })

  test('--people: the first of them, and that there are more', async () => {
    const { out } = await run('preview', much, '--people', '2')
    expect(out.match(/^ {2}.* in o by c: /gm)).toHaveLength(2)
    expect(out).toMatch(/\n {2}these are the first; --people/)
    expect((await run('preview', much, '--people', '9')).out).not.toMatch(/these are the first/)
  })

  test('--json: one object for programs', async () => {
    const { code, out } = await run('preview', much, '--json')
    expect(code).toBe(2)
    expect(JSON.parse(out)).toMatchObject({
      ...{ digest: expect.any(String), guarded: true },
      organizations: [{ organization: 'o', connections: ['c'], revoked: 8, losing: 8, share: 0.5 }],
    })
  })

  test('a sync that was held at start: what it will do once it is let go', async () => {
    const next = staticApp(store, policy(fewer))
    await next.jit.ready()
    expect(next.log).toHaveLength(1)
    expect((await run('preview', much)).code).toBe(2)
    await next.jit.admin.releaseSync({ connection: 'c', by: 'root' })
    const back = staticApp(store, policy())
    await back.jit.ready()
    expect((await run('preview', same)).code).toBe(0)
  })

  test.each([
    [['preview', 'nowhere.json'], /nowhere\.json: there is no such file/],
    [['preview', policyFile('wrong.json', policy({ jit: { roles: ['cheif'] } }))], /no role "cheif"/],
    [['preview', same, '--people', 'all'], /must be a number/],
    [['preview'], /missing required argument 'file'/],
  ])('%j: exit code 1 and a sentence', async (args, sentence) => {
    const { code, out, err } = await run(...args)
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(sentence)
    expect(err).not.toMatch(/\bat .*\.js:\d+/)
  })

  test('of a directory in the store: its digest is what an import asks for', async () => {
    const directory = storeDirectory({ store, keys })
    await directory.import(policy())
    const { jit } = app(store, directory)
    expect(await run('preview', same)).toEqual({ code: 0, out: '✓ nobody is concerned\n', err: '' })
    const { digest } = JSON.parse((await run('preview', much, '--json')).out)
    expect((await jit.preview(policy(fewer))).digest).toBe(digest)
    await expect(directory.import(policy(fewer))).rejects.toMatchObject({ code: 'preview_required' })
    expect((await directory.import(policy(fewer), { accept: digest })).written).toEqual(['c'])
    expect((await run('preview', much)).out).toBe('✓ nobody is concerned\n')
  })
})
