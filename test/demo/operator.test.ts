import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Browser, form, links } from '../../examples/smartworkspace/browser.js'
import { needs, startRedis } from '../rig/services.js'
import { type Demo, start } from './demo-process.js'

/** Sarah by SAML, as a person would click. */
async function signIn(demo: Demo, browser: Browser) {
  const chooser = await browser.open(`${demo.url}/auth/sso/superfantasy-saml`)
  const found = form(chooser)
  if (!found) return chooser
  const answered = await browser.submit(chooser, found, { person: 'sf-sarah' })
  return browser.submit(answered, form(answered)!)
}

const authorized = { authorization: 'Bearer let-me-in' }

describe('the addresses of the operator', () => {
  let demo: Demo
  beforeAll(async () => {
    demo = await start([], { ADMIN_TOKEN: 'let-me-in' })
  })
  afterAll(() => demo.stop())

  test('who is signed in, and by which sign-in', async () => {
    const browser = new Browser()
    expect(await browser.open(`${demo.url}/api/me`)).toMatchObject({ status: 401 })
    expect(await signIn(demo, browser)).toMatchObject({ status: 200 })
    const me = JSON.parse((await browser.open(`${demo.url}/api/me`)).text)
    expect(me).toMatchObject({
      user: { email: 'sarah@superfantasy.example', via: 'connection:superfantasy-saml' },
      jit: { outcome: 'created', reason: 'user_provisioned', joined: ['superfantasy'] },
    })
    expect(me.memberships).toEqual([
      {
        organization: 'superfantasy',
        active: true,
        grants: expect.arrayContaining([
          { role: 'member', source: 'sso:superfantasy-saml' },
          { role: 'designer', source: 'sso:superfantasy-saml' },
        ]),
      },
    ])

    const decisions = await (await fetch(`${demo.url}/api/decisions`, { headers: authorized })).json()
    expect(decisions[0]).toMatchObject({
      id: me.jit.decision,
      outcome: 'created',
      reason: 'user_provisioned',
      user: me.user.id,
      organization: 'superfantasy',
      source: 'connection:superfantasy-saml',
      correlationId: me.jit.correlationId,
    })
    expect(decisions[0].trace.map(({ rule }: { rule: string }) => rule)).toContain('roles')
    expect(decisions[0].events.map(({ type }: { type: string }) => type)).toEqual([
      'created',
      'linked',
      'joined',
      'granted',
      'granted',
      'asserted',
    ])
    const users = await (await fetch(`${demo.url}/api/users`, { headers: authorized })).json()
    expect(users.find(({ id }: { id: string }) => id === me.user.id)).toMatchObject({
      email: 'sarah@superfantasy.example',
      status: 'active',
      attributes: { name: 'Sarah Lindqvist' },
      identities: [{ source: 'connection:superfantasy-saml', subject: 'sf-sarah' }],
      memberships: [{ organization: 'superfantasy', status: 'active', seat: true }],
    })
  })

  test.each(['/api/decisions', '/api/users'])('%s opens to the token alone, page by page', async (path) => {
    for (const authorization of ['', 'Bearer', 'Bearer let-me-inn', 'Bearer let-me', 'Basic bGV0LW1l']) {
      expect((await fetch(demo.url + path, { headers: { authorization } })).status, authorization).toBe(401)
    }
    const whole = (await (await fetch(demo.url + path, { headers: authorized })).json()) as { id: string }[]
    expect(whole.length).toBeGreaterThan(1)
    const paged: { id: string }[] = []
    for (let next: string | undefined = `${path}?limit=1`; next; ) {
      const answer: Response = await fetch(demo.url + next, { headers: authorized })
      const rows = (await answer.json()) as { id: string }[]
      expect(rows.length).toBeLessThanOrEqual(1)
      paged.push(...rows)
      next = /^<(.+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1]
    }
    expect(paged.map(({ id }) => id)).toEqual(whole.map(({ id }) => id))
    expect((await fetch(`${demo.url}${path}?limit=none`, { headers: authorized })).status).toBe(400)
  })

  test('decisions by person, organization, connection and time, page by page', async () => {
    await signIn(demo, new Browser())
    const list = async (query: string) => {
      const found: Listed[] = []
      for (let next: string | undefined = `/api/decisions?${query}`; next; ) {
        const answer: Response = await fetch(demo.url + next, { headers: authorized })
        expect(answer.status, next).toBe(200)
        found.push(...((await answer.json()) as Listed[]))
        next = /^<(.+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1]
      }
      return found
    }
    interface Listed {
      id: string
      at: number
      user: string
      organization: string
      source: string | null
    }
    const whole = await list('limit=1')
    const sarah = whole.find(({ source }) => source === 'connection:superfantasy-saml')!
    const rest = whole.filter(({ id }) => id !== sarah.id)
    expect(rest.length).toBeGreaterThan(1)
    const olga = rest.find(({ organization }) => organization === 'superfantasy')!
    expect(await list(`user=${sarah.user}&limit=1`)).toEqual([sarah])
    expect(await list('connection=superfantasy-saml&limit=1')).toEqual([sarah])
    expect(await list('organization=superfantasy&limit=1')).toEqual([sarah, olga])
    expect(await list(`organization=superfantasy&to=${sarah.at}&limit=1`)).toEqual([olga])
    expect(await list(`from=${new Date(sarah.at).toISOString()}`)).toEqual([sarah])
    expect(await list(`user=${sarah.user}&connection=&from=&organization=magictech`)).toEqual([])

    for (const query of ['usr=x', 'from=yesterday', 'user=a&user=b', 'limit=0']) {
      expect((await fetch(`${demo.url}/api/decisions?${query}`, { headers: authorized })).status).toBe(400)
    }
    const page = async (query: string) => (await fetch(`${demo.url}/decisions?${query}`)).text()
    expect(await page('organization=initech')).not.toContain(`id="${sarah.id}"`)
    expect(await page('organization=superfantasy')).toContain(`id="${sarah.id}"`)
  })

  test('the operator does what administrators do, and reads whether the trail is unaltered', async () => {
    await signIn(demo, new Browser())
    const post = (path: string, body: string, headers: Record<string, string> = authorized) =>
      fetch(`${demo.url}/api/admin/${path}`, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body,
      })
    const users = (await (await fetch(`${demo.url}/api/users`, { headers: authorized })).json()) as {
      id: string
      email: string
      status: string
      memberships: object[]
    }[]
    const user = users.find(({ email }) => email === 'sarah@superfantasy.example')!.id
    const now = async () => {
      const answer = await fetch(`${demo.url}/api/users`, { headers: authorized })
      return ((await answer.json()) as typeof users).find(({ id }) => id === user)!
    }
    for (const headers of [{}, { authorization: 'Bearer let-me-inn' }] as Record<string, string>[]) {
      expect((await post('suspend', JSON.stringify({ user }), headers)).status).toBe(401)
    }
    expect((await post('everything', JSON.stringify({ user }))).status).toBe(404)
    expect((await post('toString', JSON.stringify({ user }))).status).toBe(404)
    expect((await post('suspend', '{')).status).toBe(400)
    expect((await post('suspend', JSON.stringify({ usr: user }))).status).toBe(400)
    expect((await post('suspend', JSON.stringify({ user: 'nobody' }))).status).toBe(404)
    expect(await now()).toMatchObject({ status: 'active', memberships: [{ status: 'active', seat: true }] })

    const done = await post('suspend', JSON.stringify({ user, organization: 'superfantasy', by: 'somebody' }))
    expect([done.status, await done.json()]).toMatchObject([200, { changed: true }])
    expect(await now()).toMatchObject({ memberships: [{ status: 'suspended', seat: false }] })
    const [told] = (await (
      await fetch(`${demo.url}/api/decisions?user=${user}&limit=1`, { headers: authorized })
    ).json()) as object[]
    expect(told).toMatchObject({ actor: 'operator', events: [{ type: 'suspended' }] })
    await post('reactivate', JSON.stringify({ user, organization: 'superfantasy' }))
    expect(await now()).toMatchObject({ memberships: [{ status: 'active', seat: true }] })

    const verify = async () =>
      (await fetch(`${demo.url}/api/decisions/verify`, { headers: authorized })).json()
    await expect.poll(verify, { timeout: 10_000 }).toMatchObject({ ok: true, waiting: 0, problems: [] })
  })

  test('the mails of the on-screen inbox, newest first, open to the token alone', async () => {
    const address = 'mira@magictech.example'
    for (let count = 0; count < 2; count++) {
      const body = new URLSearchParams({ email: address })
      expect(await (await fetch(`${demo.url}/auth/email`, { method: 'POST', body })).json()).toEqual({
        sent: true,
      })
    }
    const mails = await (await fetch(`${demo.url}/api/inbox`, { headers: authorized })).json()
    const expected = {
      to: address,
      subject: 'Your code to sign in to Smartworkspace',
      text: expect.stringMatching(/^\d{6}\n/),
    }
    expect(mails).toEqual([expected, expected])
    expect(mails[0].text).not.toBe(mails[1].text)
    for (const authorization of ['', 'Bearer let-me-inn']) {
      expect((await fetch(`${demo.url}/api/inbox`, { headers: { authorization } })).status).toBe(401)
    }
  })

  test('a mail of the inbox page runs nothing and loads nothing, wherever it is opened', async () => {
    const body = new URLSearchParams({ email: 'tomas@magictech.example' })
    await fetch(`${demo.url}/auth/email`, { method: 'POST', body })
    const inbox = await (await fetch(`${demo.url}/inbox`)).text()
    const [, path, sandbox] = /<iframe src="([^"]+)" sandbox="([^"]+)"/.exec(inbox)!
    expect(sandbox).not.toMatch(/allow-(scripts|same-origin|forms|top)/)
    const mail = await fetch(demo.url + path)
    expect(mail.status).toBe(200)
    const policy = mail.headers.get('content-security-policy')
    expect(policy).toContain(`sandbox ${sandbox};`)
    expect(policy).toContain("default-src 'none'")
    expect((await fetch(`${demo.url}/inbox/mail-999`)).status).toBe(404)
  })

  test('what the linter says stands on the page of the operator', async () => {
    const page = await (await fetch(`${demo.url}/operator`)).text()
    const text = page.replaceAll('&#34;', '"')
    expect(text).toContain('domain "globex.example" has both domainJit and SSO by connection "globex-oidc"')
    expect(text).toContain('vouches for "magictech.example", which organization "magictech" owns')
    expect(text.match(/<section class="card warnings">.*?<\/section>/s)![0].match(/<li>/g)).toHaveLength(2)
  })

  test('the sign-in page offers each way in, on the host it comes back to', async () => {
    const offered = links(await new Browser().open(demo.url)).filter((href) => href.includes('/auth/sso/'))
    expect(offered).toEqual(
      ['superfantasy-saml', 'globex-oidc', 'initech-saml'].map((id) => `${demo.url}/auth/sso/${id}`),
    )
  })
})

test('without a token the operator’s addresses are not there', async () => {
  const demo = await start()
  try {
    for (const path of ['/api/decisions', '/api/decisions/verify', '/api/users', '/api/inbox']) {
      expect((await fetch(demo.url + path, { headers: authorized })).status).toBe(404)
    }
    const answer = await fetch(`${demo.url}/api/admin/suspend`, { method: 'POST', headers: authorized })
    expect(answer.status).toBe(404)
  } finally {
    await demo.stop()
  }
})

needs('a Redis of its own', await startRedis(), (redis) => {
  afterAll(() => redis.close())

  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'Redis gone by %s: a 503 within five seconds, and sign-in again once it is back',
    async (signal) => {
      const demo = await start([], { REDIS_URL: redis.url })
      try {
        const [signedIn, stranger] = [new Browser(), new Browser()]
        expect(await signIn(demo, signedIn)).toMatchObject({ status: 200 })
        await redis.stop(signal)
        const began = performance.now()
        expect((await signedIn.open(`${demo.url}/api/me`)).status).toBe(503)
        expect(performance.now() - began).toBeLessThan(5000)
        const refused = await signIn(demo, stranger)
        expect(refused.status).toBe(503)
        expect(refused.text).not.toMatch(/\.js:\d+|ECONN/)
        expect(performance.now() - began).toBeLessThan(10_000)
        expect((await fetch(`${demo.url}/healthz`)).status).toBe(200)

        if (signal === 'SIGSTOP') redis.cont()
        else await redis.restart()
        await expect
          .poll(async () => (await signIn(demo, new Browser())).status, { timeout: 15_000 })
          .toBe(200)
        expect((demo.output().stderr.match(/Redis is away/g) ?? []).length).toBeLessThanOrEqual(1)
      } finally {
        expect((await demo.stop()).code).toBe(0)
      }
    },
  )
})
