import { afterAll, expect, test } from 'vitest'
import { needs, postgres, startRedis } from '../rig/services.js'
import { run } from './demo-process.js'

const stories = [
  ['new hire by SAML', 'created', 'user_provisioned', 'users +1, identities +1, memberships +1'],
  ['the same person again', 'unchanged', 'identity_known', 'none'],
  ['colleague from the acquired company', 'linked', 'identity_linked', 'identities +1, memberships +1'],
  ['new hire by OpenID Connect', 'created', 'user_provisioned', 'users +1'],
  ['JIT off, no account', 'denied', 'user_not_provisioned', 'events +1'],
  ['JIT off, account made by hand', 'linked', 'identity_linked', 'identities +1, events +2'],
  ['address of another organization', 'denied', 'email_foreign', 'events +1'],
  ['address in nobody’s domain', 'denied', 'email_outside', 'events +1'],
  ['newcomer of a domain, by code', 'created', 'user_provisioned', 'users +1, memberships +1, grants +1'],
  ['newcomer of a domain, by link', 'created', 'user_provisioned', 'users +1, memberships +1, grants +1'],
  ['guest, address unverified', 'created', 'user_created', 'users +1, identities +1, events +3'],
  ['the same guest again', 'unchanged', 'identity_known', 'none'],
  ['a code where SSO owns the domain', 'denied', 'sso_required', 'none'],
  ['another way in, proved by code', 'linked', 'identity_linked', 'identities +1, events +2'],
  ['existing member, by code', 'unchanged', 'identity_known', 'none'],
] as const

function expectEveryStory({ code, stdout, stderr }: Awaited<ReturnType<typeof run>>) {
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' })
  for (const [title, ...cells] of stories) {
    const line = stdout.split('\n').find((each) => each.includes(title)) ?? `no line for "${title}"`
    expect(line).toMatch(/^✓/)
    for (const cell of cells) expect(line).toContain(cell)
  }
}

test('the stories are played and each goes as told', async () => {
  expectEveryStory(await run(['--script']))
})

needs('PostgreSQL', await postgres(), ({ freshDatabase }) => {
  test('the stories go the same way on PostgreSQL, and again on the same database', async () => {
    const database = await freshDatabase()
    try {
      const env = { DATABASE_URL: database.url }
      expectEveryStory(await run(['--script'], env))
      expectEveryStory(await run(['--script'], env))
    } finally {
      await database.drop()
    }
  })
})

needs('a Redis of its own', await startRedis(), (redis) => {
  afterAll(() => redis.close())

  test('the stories go the same way with sessions, lock and one-time values in Redis', async () => {
    expectEveryStory(await run(['--script'], { REDIS_URL: redis.url }))
  })
})
