import type { DirectoryInput } from 'passport-jit'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { afterEach, describe, expect, test } from 'vitest'
import { type App, type AppOptions, browser, signedStrategy, startApp } from '../rig/inbox.js'

let running: App | null = null
afterEach(async () => {
  await running?.close()
  running = null
})

type Organization = DirectoryInput['organizations'][number]
type Connection = NonNullable<DirectoryInput['connections']>[number]

const organization = (id: string, more: Partial<Organization> = {}): Organization => ({
  id,
  name: id.toUpperCase(),
  roles: ['owner', 'admin', 'member'],
  domains: [`${id}.example`],
  ...more,
})
const connection = (id: string, owner: string, more: object = {}) =>
  ({
    id,
    organization: owner,
    protocol: 'oidc',
    issuer: `https://idp.${owner}.example`,
    clientId: 'x',
    clientSecret: 'y',
    jit: { roles: ['member'] },
    ...more,
  }) as Connection

/** O has a domain and no SSO; S has SSO; M has two connections, one domain each, a third of both. */
const directory: DirectoryInput = {
  organizations: [
    organization('o'),
    organization('s', { domains: ['s.example', '*.s.example', 'acquired.example'] }),
    organization('m', { domains: ['m1.example', 'm2.example', 'm3.example'] }),
  ],
  connections: [
    connection('s-sso', 's'),
    connection('m-one', 'm', { vouchesFor: ['m1.example', 'm3.example'] }),
    connection('m-two', 'm', { vouchesFor: ['m2.example', 'm3.example'] }),
  ],
  social: [
    { id: 'pal', preset: 'passport', name: 'Pal & Co' },
    { id: 'buddy', preset: 'passport', enabled: false },
  ],
  email: { enabled: true },
}

async function start(options: Partial<AppOptions> = {}) {
  running = await startApp({
    directory,
    strategies: [oidcStrategy() as never, signedStrategy() as never],
    ...options,
  })
  return running
}

const ways = async (app: App, email: string) => {
  const answer = await app.post(browser(), '/auth/discover', { email })
  expect(answer.status, answer.text).toBe(200)
  return answer.json().ways as { kind: string; id: string; name: string; start: string }[]
}
const ids = async (app: App, email: string) => (await ways(app, email)).map(({ kind, id }) => `${kind} ${id}`)
const refused = (answer: { status: number; text: string }) => [answer.status, JSON.parse(answer.text).error]

describe('POST /auth/discover', () => {
  test('SSO by one connection: there and nowhere else', async () => {
    const app = await start()
    expect(await ways(app, 'ann@s.example')).toEqual([
      { kind: 'sso', id: 's-sso', name: 'S', start: '/auth/sso/s-sso' },
    ])
  })

  test('several domains of one organization lead to the same connection', async () => {
    const app = await start()
    expect(await ids(app, 'ann@acquired.example')).toEqual(['sso s-sso'])
  })

  test('where several connections fit, the person picks', async () => {
    const app = await start()
    expect(await ids(app, 'ann@m1.example')).toEqual(['sso m-one'])
    expect(await ids(app, 'ann@m2.example')).toEqual(['sso m-two'])
    expect(await ways(app, 'ann@m3.example')).toEqual([
      { kind: 'sso', id: 'm-one', name: 'M (m-one)', start: '/auth/sso/m-one' },
      { kind: 'sso', id: 'm-two', name: 'M (m-two)', start: '/auth/sso/m-two' },
    ])
  })

  test('where SSO owns nothing: a code, and every enabled provider', async () => {
    const app = await start()
    for (const address of ['ann@o.example', 'ann@nobody.example', 'ann@gmail.com']) {
      expect(await ways(app, address)).toEqual([
        { kind: 'email', id: 'email', name: 'E-mail code', start: '/auth/email' },
        { kind: 'social', id: 'pal', name: 'Pal & Co', start: '/auth/social/pal' },
      ])
    }
  })

  test('a connection that is not enabled routes nobody; one of a suspended organization still owns', async () => {
    const off = await start({
      directory: { ...directory, connections: [connection('s-sso', 's', { enabled: false })] },
    })
    expect(await ids(off, 'ann@s.example')).toEqual(['email email', 'social pal'])
    const suspended = { ...directory.organizations[1]!, status: 'suspended' as const }
    off.switchTo({ ...directory, organizations: [suspended], connections: [connection('s-sso', 's')] })
    expect(await ids(off, 'ann@s.example')).toEqual(['sso s-sso'])
    expect(refused(await off.ask(browser(), 'ann@s.example'))).toEqual([403, 'sso_required'])
  })

  test('nothing is offered where nothing is set up', async () => {
    const app = await start({ directory: { ...directory, social: [], email: { enabled: false } } })
    expect(await ways(app, 'ann@o.example')).toEqual([])
    const page = await app.submit(browser(), '/auth/discover', { email: 'ann@o.example' })
    expect(page.text).toMatch(/There is no way to sign in with that address/)
    expect(refused(await app.ask(browser(), 'ann@o.example'))).toEqual([404, 'connection_unknown'])
    expect(app.inbox.mails).toEqual([])
  })

  test('L13: the exact domain, in any case; subdomains where the policy says so, and no lookalike', async () => {
    const app = await start()
    for (const domain of ['S.EXAMPLE', 's.example', 'x.s.example', 'a.b.S.example']) {
      expect([domain, await ids(app, `ann@${domain}`)]).toEqual([domain, ['sso s-sso']])
    }
    const others = [
      'xs.example',
      's.example.evil.com',
      's-example.com',
      'sub.acquired.example',
      'sub.m1.example',
    ]
    for (const domain of others) {
      expect([domain, await ids(app, `ann@${domain}`)]).toEqual([domain, ['email email', 'social pal']])
    }
    expect(refused(await app.post(browser(), '/auth/discover', { email: 'ann@s.example.' }))).toEqual([
      400,
      'email_invalid',
    ])
  })

  test('E08: the answer is from the directory alone: it does not change when somebody has an account', async () => {
    const app = await start()
    const addresses = ['ann@o.example', 'ann@s.example', 'ann@nobody.example']
    const before = await Promise.all(addresses.map((address) => ways(app, address)))
    await app.store.commit({
      id: 'seed',
      expect: [],
      guards: [],
      ops: addresses.map((address, index) => ({
        op: 'user.create',
        id: `u${index}`,
        status: index === 2 ? 'suspended' : 'active',
        verifiedEmail: address,
        contactEmail: address,
        attributes: {},
        at: 1,
      })),
      events: [],
    })
    expect(await Promise.all(addresses.map((address) => ways(app, address)))).toEqual(before)
  })

  test('malformed: refused with a sentence for the person', async () => {
    const app = await start()
    for (const email of ['', 'ann', 'ann@s', 'ann@s.exa\u200bmple', undefined]) {
      const answer = await app.post(browser(), '/auth/discover', email === undefined ? {} : { email })
      expect(refused(answer)).toEqual([400, 'email_invalid'])
      expect(answer.json().message).toBe('That does not look like an e-mail address. Please check it.')
    }
    expect(refused(await browser().go(`${app.origin}/auth/discover`))).toEqual([405, 'method_not_allowed'])
  })

  test('as a form, to a program: the same answer', async () => {
    const app = await start()
    const body = new URLSearchParams({ email: 'ann@s.example' })
    const answer = await browser().go(`${app.origin}/auth/discover`, { method: 'POST', body })
    expect(answer.json()).toEqual({ ways: await ways(app, 'ann@s.example') })
  })
})

describe('POST /auth/discover, to a person', () => {
  const links = (text: string) =>
    [...text.matchAll(/<a href="([^"]+)">([^<]*)</g)].map(([, href, name]) => [href, name])

  test('one connection: onward at once, and a link for who is not taken there', async () => {
    const app = await start()
    const answer = await app.submit(browser(), '/auth/discover', {
      email: 'ann@s.example',
      returnTo: '/tasks?a=1',
    })
    expect(answer.text).toContain(
      '<meta http-equiv="refresh" content="0; url=/auth/sso/s-sso?returnTo=%2Ftasks%3Fa%3D1">',
    )
    expect(links(answer.text)).toEqual([['/auth/sso/s-sso?returnTo=%2Ftasks%3Fa%3D1', 'Continue']])
  })

  test('several: a link each', async () => {
    const app = await start()
    const answer = await app.submit(browser(), '/auth/discover', { email: 'ann@m3.example' })
    expect(answer.text).not.toContain('http-equiv')
    expect(links(answer.text)).toEqual([
      ['/me', 'Not you?'],
      ['/auth/sso/m-one', 'Continue with M (m-one)'],
      ['/auth/sso/m-two', 'Continue with M (m-two)'],
    ])
  })

  test('a code: a button that mails it, and signs in from there', async () => {
    const app = await start()
    const person = browser()
    const offer = await app.submit(person, '/auth/discover', {
      email: 'ann@o.example',
      returnTo: '//evil.example',
    })
    expect(offer.text).toMatch(/<form method="post" action="\/auth\/email">.*Mail me a code/)
    expect(links(offer.text)).toEqual([
      ['/me', 'Not you?'],
      ['/auth/social/pal', 'Continue with Pal &#38; Co'],
    ])
    const fields = Object.fromEntries(
      [...offer.text.matchAll(/name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name!, value!]),
    )
    expect(fields).toEqual({ email: 'ann@o.example', returnTo: '/me' })
    expect((await app.submit(person, '/auth/email', fields)).status).toBe(200)
    const { code } = app.inbox.to('ann@o.example')
    const done = await app.submit(person, '/auth/email/verify', { email: 'ann@o.example', code })
    expect([done.status, done.location]).toEqual([303, `${app.origin}/me`])
  })
})

/** Signs in by a mailed code. */
async function byCode(app: App, address: string) {
  const person = browser()
  const asked = await app.ask(person, address)
  if (asked.status !== 200) return { person, answer: asked }
  return { person, answer: await app.verify(person, address, app.inbox.to(address).code) }
}

const user = (id: string, verifiedEmail: string) =>
  ({
    id: `seed ${id}`,
    expect: [],
    guards: [],
    ops: [
      {
        op: 'user.create',
        id,
        status: 'active',
        verifiedEmail,
        contactEmail: verifiedEmail,
        attributes: {},
        at: 1,
      },
    ],
    events: [],
  }) satisfies Parameters<App['store']['commit']>[0]

const withPolicy = (domainJit: Organization['domainJit'], more: Partial<DirectoryInput> = {}) => ({
  directory: { organizations: [organization('o', { domainJit })], email: { enabled: true }, ...more },
})

describe('E-mail domain, by code', () => {
  const on = { enabled: true, roles: ['member', 'admin'] }

  test('does not exist · e-mail code · on: created, joins O with the domain’s default roles', async () => {
    const app = await start(withPolicy(on))
    const { person, answer } = await byCode(app, 'ann@o.example')
    expect(answer.json()).toEqual({ location: '/me' })
    const { user, jit } = await app.me(person)
    expect(jit).toMatchObject({ outcome: 'created', reason: 'user_provisioned', joined: ['o'] })
    expect(user).toMatchObject({
      email: 'ann@o.example',
      via: 'provider:email',
      memberships: [
        {
          organization: 'o',
          active: true,
          grants: [
            { role: 'admin', source: 'domain' },
            { role: 'member', source: 'domain' },
          ],
        },
      ],
    })
  })

  test('exists · e-mail code · on: normal sign-in', async () => {
    const app = await start(withPolicy(on))
    await app.store.commit(user('u', 'ann@o.example'))
    const { person } = await byCode(app, 'ann@o.example')
    expect(await app.me(person)).toMatchObject({
      user: { id: 'u', memberships: [] },
      jit: { outcome: 'unchanged', joined: [] },
    })
  })

  test('exists · e-mail code · on, existingUsers: joins O too', async () => {
    const app = await start(withPolicy({ ...on, existingUsers: true }))
    await app.store.commit(user('u', 'ann@o.example'))
    const { person } = await byCode(app, 'ann@o.example')
    expect(await app.me(person)).toMatchObject({
      user: { id: 'u', memberships: [{ organization: 'o', active: true }] },
      jit: { outcome: 'updated', joined: ['o'] },
    })
  })

  test('does not exist · e-mail code · off: normal sign-up', async () => {
    const app = await start(withPolicy({ ...on, enabled: false }))
    const { person } = await byCode(app, 'ann@o.example')
    expect(await app.me(person)).toMatchObject({
      user: { email: 'ann@o.example', memberships: [] },
      jit: { outcome: 'created', reason: 'user_created' },
    })
  })

  test('exists · e-mail code · off: normal sign-in', async () => {
    const app = await start(withPolicy({ ...on, enabled: false, existingUsers: true }))
    await app.store.commit(user('u', 'ann@o.example'))
    const { person } = await byCode(app, 'ann@o.example')
    expect(await app.me(person)).toMatchObject({
      user: { id: 'u', memberships: [] },
      jit: { outcome: 'unchanged' },
    })
  })

  test('a second sign-in changes nothing', async () => {
    const app = await start(withPolicy(on))
    await byCode(app, 'ann@o.example')
    const rows = await app.rows()
    const { person } = await byCode(app, 'ann@o.example')
    expect((await app.me(person)).jit).toMatchObject({ outcome: 'unchanged' })
    expect(await app.rows()).toEqual(rows)
  })

  test('sign-up by invitation only: told after the proof, and the domain’s own people come in', async () => {
    const closed = { email: { enabled: true, signUp: 'invitation' as const } }
    const app = await start(withPolicy(on, closed))
    const { person, answer } = await byCode(app, 'ann@nobody.example')
    expect(refused(answer)).toEqual([403, 'sign_up_closed'])
    expect(await app.me(person)).toBeNull()
    expect((await app.rows()).users).toEqual([])
    expect((await byCode(app, 'ann@o.example')).answer.status).toBe(200)
  })
})

describe('Domain and SSO on one domain, by code: SSO wins', () => {
  const both = (enabled: boolean): Partial<AppOptions> =>
    withPolicy(
      { enabled: true, roles: ['member'], existingUsers: true },
      { connections: [connection('c', 'o', { enabled })] },
    )

  test('discovery leads there, and no code is sent', async () => {
    const app = await start(both(true))
    expect(await ids(app, 'ann@o.example')).toEqual(['sso c'])
    const answer = await app.ask(browser(), 'ann@o.example')
    expect(refused(answer)).toEqual([403, 'sso_required'])
    expect(answer.json().ways).toEqual([{ kind: 'sso', id: 'c', name: 'O', start: '/auth/sso/c' }])
    const page = await app.submit(browser(), '/auth/email', { email: 'ann@o.example' })
    expect(page.status).toBe(403)
    expect(page.text).toContain('<a href="/auth/sso/c">O</a>')
    expect(app.inbox.mails).toEqual([])
  })

  test('an existing account is refused alike, and stays as it is', async () => {
    const app = await start(both(true))
    await app.store.commit(user('u', 'ann@o.example'))
    const rows = await app.rows()
    expect(refused(await app.ask(browser(), 'ann@o.example'))).toEqual([403, 'sso_required'])
    expect(await app.rows()).toEqual(rows)
  })

  test('the linter says so when the policy is loaded, naming organization, domain and connection', async () => {
    const app = await start(both(true))
    expect(app.log.map(({ message }) => message)).toContainEqual(
      expect.stringMatching(/organization "o".*"o\.example".*connection "c".*SSO wins/),
    )
  })

  test('a connection that is not enabled routes nobody', async () => {
    const app = await start(both(false))
    expect((await byCode(app, 'ann@o.example')).answer.status).toBe(200)
  })

  test('a code that was on its way when SSO was switched on is refused, with the way to SSO', async () => {
    const before = await start(both(false))
    const person = browser()
    await before.ask(person, 'ann@o.example')
    const { code } = before.inbox.to('ann@o.example')
    const { switchTo } = before
    switchTo(both(true).directory!)
    const answer = await before.verify(person, 'ann@o.example', code)
    expect(refused(answer)).toEqual([403, 'sso_required'])
    expect(answer.json().ways).toEqual([{ kind: 'sso', id: 'c', name: 'O', start: '/auth/sso/c' }])
    expect(await before.me(person)).toBeNull()
    expect((await before.rows()).users).toEqual([])
  })
})
