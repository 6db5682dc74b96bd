import type { Operation } from 'passport-jit'
import { afterEach, describe, expect, test } from 'vitest'
import { browser } from '../rig/inbox.js'
import { type Policy, type Scene, scene, type Told } from './conflicts-scene.js'

// Which account somebody gets, and what of it follows the IdP.

let at: Scene
const start = async (...given: Parameters<typeof scene>) => {
  at = await scene(...given)
}
afterEach(() => at.close())

const by = 'root'
const alice = 'alice@o.example'
const identities = async (id: string) =>
  (await at.user(id))!.identities.map(({ source, subject }) => `${source} ${subject}`).sort()

describe('account with this contact e-mail exists, never verified', () => {
  test('a vouched address claims it: its identities, memberships, attributes and sessions end', async () => {
    await start({ connections: false })
    const squatter = browser()
    await at.social('mate', { sub: 'eve', email: alice }, { client: squatter })
    const { user } = await at.app.me(squatter)
    expect(user.email).toBeNull()
    await at.restart({})
    const claimed = await at.me()
    expect(claimed).toMatchObject({
      user: { id: user.id, email: alice, memberships: [{ organization: 'o', roles: ['member'] }] },
      jit: { reason: 'account_claimed' },
    })
    expect(await identities(user.id)).toEqual(['connection:c alice'])
    const { user: after } = (await at.app.store.user(user.id))!
    expect(after.epoch).toBe(user.epochs.user + 1)
  })

  test('anything less is prove', async () => {
    await start({ connections: false })
    const squatter = browser()
    await at.social('mate', { sub: 'eve', email: alice }, { client: squatter })
    const answer = await at.social('pal', { sub: 'alice', email: alice })
    expect(new URL(answer.location!).pathname).toBe('/auth/prove')
  })
})

test('several unverified accounts carry this contact e-mail: each loses it, and a new user is made', async () => {
  await start({ connections: false })
  const made = (id: string): Operation => ({
    op: 'user.create',
    id,
    status: 'active',
    verifiedEmail: null,
    contactEmail: alice,
    attributes: {},
    at: 1,
  })
  const ops = [made('one'), made('two')]
  expect(await at.app.store.commit({ id: 'given', expect: [], guards: [], ops, events: [] })).toEqual({
    committed: true,
  })
  await at.restart({})
  const { user, jit } = await at.me()
  expect(jit.reason).toBe('user_provisioned')
  expect(['one', 'two']).not.toContain(user.id)
  for (const id of ['one', 'two']) expect(await at.user(id)).toMatchObject({ contactEmail: null, version: 2 })
})

test('social sign-in, verified account exists: prove by code, or linked where its word is authoritative', async () => {
  await start({ connections: false })
  const { user } = (await at.byCode(alice))!
  const person = browser()
  const answer = await at.social('pal', { sub: 'a', email: alice, verified: true }, { client: person })
  expect(new URL(answer.location!).pathname).toBe('/auth/prove')
  expect(await at.app.me(person)).toBeNull()
  await at.social('sure', { sub: 'a', email: alice, verified: true }, { client: person })
  expect((await at.app.me(person)).user.id).toBe(user.id)
})

describe('same user already has another subject on this connection', () => {
  const migration = (until: number): Policy => ({
    c: { subjectMigration: { until: new Date(until).toISOString() } },
  })
  const second: Told = { subject: 'alice-2' }

  test('refused; window open: migrated, and the old subject and its sessions end; window over: refused', async () => {
    await start()
    const old = browser()
    const { user } = await at.me({}, { client: old })
    expect(await at.refused(second)).toBe('subject_changed')

    await at.restart(migration(at.time + 60_000))
    const client = browser()
    const migrated = await at.me(second, { client })
    expect(migrated).toMatchObject({ user: { id: user.id }, jit: { reason: 'subject_migrated' } })
    expect(await identities(user.id)).toEqual(['connection:c alice-2'])
    expect(migrated.user.memberships).toMatchObject([{ organization: 'o', roles: ['member'] }])
    expect((await at.app.store.user(user.id))!.user.epoch).toBe(1)

    at.pass(60_000)
    expect(await at.refused({ subject: 'alice-3' })).toBe('subject_changed')
    expect((await at.me(second)).user.id).toBe(user.id)
  })

  /** An account that Alice also has by connection D; she is back at C as somebody else. */
  async function changed() {
    await start()
    const { user } = await at.me()
    expect((await at.me({ subject: 'alice-d' }, { connection: 'd' })).user.id).toBe(user.id)
    const client = browser()
    const answer = await at.enter(second, { client, query: '?returnTo=/me?from=c' })
    expect(answer.status, answer.text).toBe(303)
    const page = new URL(answer.location!)
    expect(page.pathname).toBe('/auth/prove')
    expect(await at.app.me(client)).toBeNull()
    return { id: user.id, client, page: page.href, ticket: page.searchParams.get('ticket')! }
  }

  test('proved by an old identity: the page offers those ways alone, by SSO too, and then it is migrated', async () => {
    const { id, client, page, ticket } = await changed()
    expect((await client.go(page)).json()).toEqual({
      proof: 'required',
      ticket,
      byCode: false,
      ways: [{ name: 'O (d)', start: `/auth/sso/d?waiting=${ticket}` }],
    })
    const html = await client.go(page, { headers: { accept: 'text/html' } })
    expect(html.text).toContain(`<a href="/auth/sso/d?waiting=${ticket}">O (d)</a>`)
    expect(html.text).not.toContain('Mail me a code')

    const done = await at.enter(
      { subject: 'alice-d' },
      { connection: 'd', client, query: `?waiting=${ticket}` },
    )
    expect(done.location).toBe(`${at.app.origin}/me?from=c`)
    expect(await at.app.me(client)).toMatchObject({
      user: { id, via: 'connection:c' },
      jit: { reason: 'subject_migrated' },
    })
    expect(await identities(id)).toEqual(['connection:c alice-2', 'connection:d alice-d'])
    // Her old subject at C is nobody's now, and would have to be proved in its turn.
    expect(new URL((await at.enter()).location!).pathname).toBe('/auth/prove')
  })

  test('never by a mailed code: none is sent, and the sign-in waits on', async () => {
    const { id, client, ticket } = await changed()
    const asked = await at.app.post(client, '/auth/prove', { ticket })
    expect([asked.status, asked.json().error]).toEqual([403, 'proof_required'])
    const typed = await at.app.post(client, '/auth/prove', { email: alice, code: '123456' })
    expect([typed.status, typed.json().error]).toEqual([403, 'code_wrong'])
    expect(at.app.inbox.mails).toEqual([])
    expect(await identities(id)).toEqual(['connection:c alice', 'connection:d alice-d'])
    await at.enter({ subject: 'alice-d' }, { connection: 'd', client, query: `?waiting=${ticket}` })
    expect(await identities(id)).toEqual(['connection:c alice-2', 'connection:d alice-d'])
  })

  test('not by signing in to another account, nor in another browser', async () => {
    const { id, client, ticket } = await changed()
    const bob = await at.me(
      { subject: 'bob-d', email: 'bob@o.example' },
      { connection: 'd', client, query: `?waiting=${ticket}` },
    )
    expect(bob.user.id).not.toBe(id)
    expect(await identities(id)).toEqual(['connection:c alice', 'connection:d alice-d'])

    const again = browser()
    const { location } = await at.enter(second, { client: again })
    const other = new URL(location!).searchParams.get('ticket')!
    const lured = await at.me({ subject: 'alice-d' }, { connection: 'd', query: `?waiting=${other}` })
    expect(lured).toMatchObject({ user: { id }, jit: { reason: 'identity_known' } })
    expect(await identities(id)).toEqual(['connection:c alice', 'connection:d alice-d'])
  })

  test('an old way that is closed proves nothing: refused', async () => {
    await changed()
    const closed = await at.app.jit.admin
      .unlink({
        ...{ by, user: (await at.me()).user.id },
        identity: { source: 'connection:d', issuer: 'https://idp.example/d', subject: 'alice-d' },
      })
      .then(() => at.refused(second))
    expect(closed).toBe('subject_changed')
  })

  test('an old way of another organization, unless that is suspended', async () => {
    await start()
    await at.me()
    await at.me({ subject: 'alice-e' }, { connection: 'e' })
    await at.restart({ p: { status: 'suspended' } })
    expect(await at.refused(second)).toBe('subject_changed')
    await at.restart({})
    const page = new URL((await at.enter(second)).location!)
    expect(page.searchParams.get('ways')).toBe('connection:e')
  })

  test('an old way that SSO has closed for the address proves nothing: refused', async () => {
    await start({ connections: false })
    const { user } = (await at.byCode(alice))!
    await at.social('sure', { sub: 'a', email: alice, verified: true })
    await at.restart({})
    await at.me()
    expect(await identities(user.id)).toEqual(['connection:c alice', 'provider:sure a'])
    expect(await at.refused(second)).toBe('subject_changed')
  })

  test('by a social provider: the other providers alone, and no code', async () => {
    await start()
    const ann = 'ann@nobody.example'
    const client = browser()
    await at.byCode(ann, client)
    for (const provider of ['sure', 'mate']) {
      const answer = await at.social(provider, { sub: 'old', email: ann, verified: true }, { client })
      const page = new URL(answer.location!)
      if (page.pathname !== '/auth/prove') continue
      const ticket = page.searchParams.get('ticket')!
      await at.app.post(client, '/auth/prove', { ticket })
      await at.app.post(client, '/auth/prove', { email: ann, code: at.app.inbox.to(ann).code })
    }
    const { user } = await at.app.me(client)
    expect(await identities(user.id)).toEqual(['provider:mate old', 'provider:sure old'])
    const mails = at.app.inbox.mails.length

    const answer = await at.social('sure', { sub: 'new', email: ann, verified: true }, { client })
    const page = new URL(answer.location!)
    const ticket = page.searchParams.get('ticket')!
    expect((await client.go(page.href)).json()).toMatchObject({
      byCode: false,
      ways: [{ name: 'mate', start: `/auth/social/mate?waiting=${ticket}` }],
    })
    expect((await at.app.post(client, '/auth/prove', { ticket })).status).toBe(403)
    expect(at.app.inbox.mails).toHaveLength(mails)
    await at.social('mate', { sub: 'old' }, { client, query: `?waiting=${ticket}` })
    expect(await identities(user.id)).toEqual(['provider:mate old', 'provider:sure new'])
  })
})

test('what the page of a proof is told to offer are ways that exist and are enabled, and nothing else', async () => {
  await start({ c: { enabled: false } })
  const client = browser()
  const ways = [
    'connection:c',
    'connection:d',
    'connection:x',
    'provider:email',
    'provider:pal',
    'd',
    '//evil',
    '',
  ]
  const page = `${at.app.origin}/auth/prove?ticket=t&ways=${encodeURIComponent(ways.join())}`
  expect((await client.go(page)).json().ways).toEqual([
    { name: 'O (d)', start: '/auth/sso/d?waiting=t' },
    { name: 'pal', start: '/auth/social/pal?waiting=t' },
  ])
})

describe('known subject, new e-mail', () => {
  const married = 'alice@acquired.example'
  const rows: [string, Policy, string, boolean, string][] = [
    ['free, adoption on: adopted', { c: { adoptEmail: true } }, married, false, married],
    ['free, adoption off: not adopted', {}, married, false, alice],
    ['taken, adoption on: never', { c: { adoptEmail: true } }, married, true, alice],
    ['foreign, adoption on: not adopted', { c: { adoptEmail: true } }, 'alice@p.example', false, alice],
  ]

  test.each(rows)('%s; the same user in every case', async (_, policy, email, taken, expected) => {
    await start(policy)
    const { user } = await at.me()
    const other = taken ? (await at.me({ subject: 'other', email })).user.id : null
    const again = await at.me({ email })
    expect(again.user).toMatchObject({ id: user.id, email: expected })
    if (other) expect(await at.user(other)).toMatchObject({ verifiedEmail: email })
  })
})

test('attribute differs: authority per attribute, idp, app or first', async () => {
  const attributes = {
    ...{ email: 'email', groups: 'groups', name: 'name' },
    nickname: { from: 'nickname', authority: 'app' as const },
    title: { from: 'title', authority: 'first' as const },
    team: { from: 'team', absent: 'clear' as const },
  }
  await start({ c: { attributes } })
  const { user } = await at.me({ profile: { name: 'Alice', nickname: 'Al', team: 'red' } })
  expect(user.attributes).toEqual({ name: 'Alice', nickname: 'Al', team: 'red' })
  await at.app.jit.admin.update({ by, user: user.id, attributes: { nickname: 'Ally' } })
  const next = await at.me({ profile: { name: 'Alicia', nickname: 'Allie', title: 'CTO', team: 'blue' } })
  expect(next.user.attributes).toEqual({ name: 'Alicia', nickname: 'Ally', title: 'CTO', team: 'blue' })
  const last = await at.me({ profile: { name: 'Alicia', title: 'CEO' } })
  expect(last.user.attributes).toEqual({ name: 'Alicia', nickname: 'Ally', title: 'CTO' })
})

test('what the app chooses stands over HTTP, and a hook that fails leaves it to the policy', async () => {
  let answer: () => 'adopt' | undefined = () => 'adopt'
  await start({}, { onConflict: ({ kind }) => (kind === 'address_changed' ? answer() : undefined) })
  await at.me()
  expect((await at.me({ email: 'alice@acquired.example' })).user.email).toBe('alice@acquired.example')
  answer = () => {
    throw new Error('away')
  }
  expect((await at.me()).user.email).toBe('alice@acquired.example')
  expect(at.app.log.at(-1)?.message).toMatch(/onConflict failed \(away\) about address_changed/)
})
