import { afterAll, expect, test } from 'vitest'
import { stories as played } from '../../examples/smartworkspace/stories.js'
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
  ['promoted: a group more', 'updated', 'identity_synced', 'grants +1, events +2'],
  ['given a role by hand', 'updated', 'administered', 'grants +1, events +1'],
  ['out of the groups', 'updated', 'identity_synced', 'grants −2, events +3'],
  ['renamed at the identity provider', 'updated', 'identity_synced', 'events +2'],
  ['guest removed', 'updated', 'administered', 'memberships −1, grants −1, events +5, sessions −1'],
  ['guest stays out', 'unchanged', 'identity_known', 'none'],
  ['guest back', 'updated', 'membership_created', 'memberships +1, grants +1'],
  ['invited colleague', 'created', 'user_provisioned', 'memberships +1, grants +2'],
  ['the invited role stays', 'updated', 'identity_synced', 'events +4'],
  ['invited while signed in, and accepts', 'updated', 'administered', 'memberships +1, grants +1'],
  ['leaver suspended', 'updated', 'administered', 'events +1, sessions −2'],
  ['leaver at the door', 'denied', 'membership_suspended', 'events +1'],
  ['the only owner stays one', 'denied', 'last_owner', 'none'],
  ['too many groups to send', 'unchanged', 'identity_known', 'events +1'],
  ['another subject, same address', 'denied', 'subject_changed', 'events +1'],
  ['the new login leads to the same account', 'linked', 'identity_linked', 'identities +1'],
  ['another subject, proved by the old way in', 'linked', 'subject_migrated', 'sessions −4'],
  ['no seat left: joins without one', 'created', 'user_provisioned', 'memberships +1'],
  ['no seat left: refused', 'denied', 'seats_full', 'events +1'],
  ['connection switched off', 'updated', 'administered', 'sessions −3'],
  ['by the connection that is off', 'denied', 'connection_disabled', 'none'],
  ['the audit chain verifies', 'intact', 'seals'],
  ['a receiver of webhooks has it all', 'delivered', 'decisions'],
] as const

function expectEveryStory({ code, stdout, stderr }: Awaited<ReturnType<typeof run>>) {
  expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: '' })
  for (const [title, ...cells] of stories) {
    const line = stdout.split('\n').find((each) => each.includes(title)) ?? `no line for "${title}"`
    expect(line).toMatch(/^✓/)
    for (const cell of cells) expect(line).toContain(cell)
  }
  expect(stdout.match(/^[✓✗]/gm)).toEqual(Array(played.length).fill('✓'))
  expect(stdout).toContain('Every story went as told.')
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
