import { type Directory, staticDirectory } from 'passport-jit'
import { memoryOnce } from 'passport-jit/stores/memory'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type App, expectRefused, expectSignedIn, twoOrganizations } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { answer, begin, flowCookies, oidc, post, saml, startHonest } from './honest.js'

let app: App
beforeEach(async () => {
  app = await startHonest()
})
afterEach(() => app.close())

describe('the cookie of an attempt', () => {
  const cookieOf = async (on: App) => {
    const begun = await browser().go(on.start('acme'))
    expect(begun.headers.getSetCookie()).toHaveLength(1)
    return begun.headers.getSetCookie()[0]!
  }

  it('N03 on http: HttpOnly, Lax, of this host, for ten minutes', async () => {
    expect(await cookieOf(app)).toMatch(
      /^jit-[\w-]{16}=[\w-]{43}; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax$/,
    )
  })

  it('N03 on https: Secure too, and no other host can set it', async () => {
    const secure = await startHonest({ baseUrl: 'https://app.example.com' })
    expect(await cookieOf(secure)).toMatch(
      /^__Host-jit-[\w-]{16}=[\w-]{43}; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax; Secure$/,
    )
    const client = browser()
    expect((await answer(secure, client, await begin(secure, client))).status).toBe(303)
    expect(flowCookies(secure, client)).toEqual([])
    await secure.close()
  })

  it('is a secret of its own, and gone after the answer', async () => {
    const client = browser()
    const state = await begin(app, client)
    const [name] = flowCookies(app, client)
    expect(client.cookies(app.origin).get(name!)).not.toBe(state)
    await expectSignedIn(app, client, await answer(app, client, state))
    expect(flowCookies(app, client)).toEqual([])
  })

  it('is kept for five attempts at most; the oldest gives way, the others finish', async () => {
    const client = browser()
    const states: string[] = []
    for (let tab = 0; tab < 7; tab++) states.push(await begin(app, client))
    expect(flowCookies(app, client)).toHaveLength(5)
    for (const state of states.slice(2)) await expectSignedIn(app, client, await answer(app, client, state))
    const before = await app.rows()
    const stranger = browser()
    for (const [name, value] of client.cookies(app.origin)) {
      if (name !== 'connect.sid') stranger.cookies(app.origin).set(name, value)
    }
    const oldest = await answer(app, stranger, states[0]!)
    await expectRefused(app, stranger, oldest, { code: 'attempt_foreign', status: 403 }, before)
  })

  it('leaves cookies of the app alone', async () => {
    const client = browser()
    for (let at = 0; at < 9; at++) client.cookies(app.origin).set(`jit-theme-${at}`, 'dark')
    await begin(app, client)
    expect(flowCookies(app, client)).toHaveLength(10)
  })

  it.each([
    ['another value', (value: string) => value.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))],
    ['no value', () => ''],
    ['a longer value', (value: string) => `${value}A`],
  ])('with %s is another browser', async (_name, change) => {
    const client = browser()
    const state = await begin(app, client)
    const [name] = flowCookies(app, client)
    const jar = client.cookies(app.origin)
    jar.set(name!, change(jar.get(name!)!))
    await expectRefused(app, client, await answer(app, client, state), {
      code: 'attempt_foreign',
      status: 403,
    })
    await expectSignedIn(app, client, await answer(app, client, await begin(app, client)))
  })
})

describe('an attempt', () => {
  it('two tabs at once both finish', async () => {
    const client = browser()
    const states = await Promise.all([begin(app, client), begin(app, client)])
    const answers = await Promise.all(states.map((state) => answer(app, client, state)))
    expect(answers.map(({ status }) => status)).toEqual([303, 303])
    expect(await app.me(client)).toBe(200)
    expect((await app.rows()).users).toHaveLength(1)
  })

  it('is for the browser that began', async () => {
    const began = browser()
    const state = await begin(app, began)
    const other = browser()
    await expectRefused(app, other, await answer(app, other, state), { code: 'attempt_foreign', status: 403 })
  })

  it('is used once, and of twenty answers at once by one', async () => {
    const client = browser()
    const state = await begin(app, client)
    const answers = await Promise.all(Array.from({ length: 20 }, () => answer(app, client, state)))
    expect(answers.map(({ status }) => status).toSorted()).toEqual([303, ...Array(19).fill(400)].toSorted())
    expect((await app.rows()).users).toHaveLength(1)
    const late = browser()
    const before = await app.rows()
    await expectRefused(
      app,
      late,
      await answer(app, late, state),
      { code: 'attempt_unknown', status: 400 },
      before,
    )
  })

  it.each([
    ['another connection', 'other'],
    ['another protocol', 'acme-saml'],
  ])('does not end at the callback of %s', async (_name, connection) => {
    const client = browser()
    const state = await begin(app, client)
    const misled = await answer(app, client, state, connection)
    await expectRefused(app, client, misled, { code: 'attempt_unknown', status: 400 })
    await expectSignedIn(app, client, await answer(app, client, await begin(app, client)))
  })

  it.each(['', 'x', 'A'.repeat(43), 'A'.repeat(10_000), '../../etc', '__proto__'])(
    'with the id %j is unknown',
    async (state) => {
      const client = browser()
      const refused = await answer(app, client, encodeURIComponent(state))
      await expectRefused(app, client, refused, { code: 'attempt_unknown', status: 400 })
    },
  )

  it('ends after ten minutes', async () => {
    let time = Date.now()
    const timed = await startHonest({ now: () => time })
    const client = browser()
    const [early, late] = [await begin(timed, client), await begin(timed, client)]
    time += 10 * 60_000 - 1
    await expectSignedIn(timed, client, await answer(timed, client, early))
    time += 1
    const refused = await answer(timed, client, late)
    expect([refused.status, refused.json().error]).toEqual([400, 'attempt_unknown'])
    await timed.close()
  })

  it('is not kept in the clear, neither its id nor its secrets', async () => {
    const kept: string[] = []
    const once = memoryOnce()
    const spied = await startHonest({
      once: {
        ...once,
        put: (key: string, value: string, ttl: number) => {
          kept.push(key, value)
          return once.put(key, value, ttl)
        },
      },
    })
    const client = browser()
    const state = await begin(spied, client)
    expect(kept.join()).not.toContain(state)
    expect(Buffer.from(kept[1]!, 'base64url').toString('latin1')).not.toMatch(/acme|proof|kept/)
    await expectSignedIn(spied, client, await answer(spied, client, state))
    await spied.close()
  })
})

describe('an answer by POST', () => {
  it('ends on a GET of our own, by a ticket', async () => {
    const client = browser()
    const state = await begin(app, client, 'acme-saml', '?returnTo=/me?tab=1')
    const posted = await post(app, { state })
    expect(posted.status).toBe(303)
    expect(posted.location).toMatch(new RegExp(`^${app.callback('acme-saml')}\\?ticket=[\\w-]{43}$`))
    expect((await app.rows()).users).toEqual([])
    const done = await client.go(posted.location!)
    await expectSignedIn(app, client, done)
    expect(done.location).toBe(`${app.origin}/me?tab=1`)
  })

  it('a ticket is used once', async () => {
    const client = browser()
    const posted = await post(app, { state: await begin(app, client, 'acme-saml') })
    await expectSignedIn(app, client, await client.go(posted.location!))
    const before = await app.rows()
    const thief = browser()
    const again = await thief.go(posted.location!)
    await expectRefused(app, thief, again, { code: 'attempt_unknown', status: 400 }, before)
  })

  it('S26 a ticket is for the browser that began', async () => {
    const attacker = browser()
    const posted = await post(app, { state: await begin(app, attacker, 'acme-saml') })
    const victim = browser()
    const refused = await victim.go(posted.location!)
    await expectRefused(app, victim, refused, { code: 'attempt_foreign', status: 403 })
  })

  it('a ticket of another connection is refused', async () => {
    const client = browser()
    const posted = await post(app, { state: await begin(app, client, 'acme-saml') })
    const moved = posted.location!.replace('acme-saml', 'open-saml')
    await expectRefused(app, client, await client.go(moved), { code: 'attempt_unknown', status: 400 })
  })

  it('a ticket by POST is refused', async () => {
    const client = browser()
    const posted = await post(app, { state: await begin(app, client, 'acme-saml') })
    const ticket = new URL(posted.location!).searchParams.get('ticket')!
    const refused = await client.go(app.callback('acme-saml'), {
      method: 'POST',
      body: new URLSearchParams({ ticket }),
    })
    await expectRefused(app, client, refused, { code: 'method_not_allowed', status: 405 })
  })

  it('a ticket ends after a minute', async () => {
    let time = Date.now()
    const timed = await startHonest({ now: () => time })
    const client = browser()
    const posted = await post(timed, { state: await begin(timed, client, 'acme-saml') })
    time += 60_000
    await expectRefused(timed, client, await client.go(posted.location!), {
      code: 'attempt_unknown',
      status: 400,
    })
    await timed.close()
  })
})

describe('S24 P10 a connection that changes while the person is away', () => {
  const versions = (change: object, organization: object = {}) =>
    staticDirectory({
      organizations: [{ ...twoOrganizations![0]!, ...organization }],
      connections: [oidc('acme', change), saml('acme-saml', change)],
    })
  const moving = () => {
    let current = versions({})
    const directory: Directory = {
      organization: (id) => current.organization(id),
      connection: (id) => current.connection(id),
      domain: (name) => current.domain(name),
      provider: (id) => current.provider(id),
      providers: () => current.providers(),
      entries: current.entries!,
    }
    return {
      directory,
      become: (next: Directory) => {
        current = next
      },
    }
  }

  it.each<[string, Directory, string, number]>([
    ['disabled', versions({ enabled: false }), 'connection_disabled', 403],
    ['changed', versions({ outsiders: 'separate' }), 'connection_changed', 503],
    ['gone', staticDirectory({ organizations: [] }), 'connection_unknown', 404],
    ['of a suspended organization', versions({}, { status: 'suspended' }), 'organization_suspended', 403],
  ])('%s: refused', async (_name, next, code, status) => {
    const { directory, become } = moving()
    const timed = await startHonest({ directory })
    const client = browser()
    const state = await begin(timed, client)
    become(next)
    await expectRefused(timed, client, await answer(timed, client, state), { code, status })
    become(versions({}))
    await expectSignedIn(timed, client, await answer(timed, client, await begin(timed, client)))
    await timed.close()
  })

  it.each([
    ['disabled', versions({ enabled: false }), 'connection_disabled', 403],
    ['changed', versions({ outsiders: 'separate' }), 'connection_changed', 503],
  ])('%s between the POST and its ticket: refused', async (_name, next, code, status) => {
    const { directory, become } = moving()
    const timed = await startHonest({ directory })
    const client = browser()
    const posted = await post(timed, { state: await begin(timed, client, 'acme-saml') })
    become(next)
    await expectRefused(timed, client, await client.go(posted.location!), { code, status })
    await timed.close()
  })
})

describe('an IdP-initiated answer', () => {
  const confirmation = (text: string) => ({
    action: /action="([^"]+)"/.exec(text)?.[1],
    ticket: /name="ticket" value="([^"]+)"/.exec(text)?.[1],
  })

  it('is refused where the connection does not allow it', async () => {
    const client = browser()
    const refused = await post(app, { subject: 'alice' }, 'acme-saml')
    await expectRefused(app, client, refused, { code: 'answer_unsolicited', status: 403 })
  })

  it('S23 signs in by a click of the person, never by a GET', async () => {
    const client = browser()
    const posted = await post(app, { subject: 'alice', email: 'a&b@acme.example' }, 'open-saml')
    expect(posted.status).toBe(303)
    const shown = await client.go(posted.location!)
    expect(shown.status).toBe(200)
    expect(shown.headers.get('content-security-policy')).toContain("form-action 'self'")
    expect(shown.text).toContain('a&#38;b@acme.example')
    expect(await app.me(client)).toBe(401)
    expect((await app.rows()).users).toEqual([])

    const { action, ticket } = confirmation(shown.text)
    const done = await client.go(app.origin + action, {
      method: 'POST',
      body: new URLSearchParams({ ticket: ticket! }),
    })
    await expectSignedIn(app, client, done)
    expect(done.location).toBe(`${app.origin}/me`)
  })

  it('S23 the page shown is good for one browser, one click, and no GET', async () => {
    const shown = async () => {
      const client = browser()
      const posted = await post(app, { subject: 'alice' }, 'open-saml')
      const { ticket } = confirmation((await client.go(posted.location!)).text)
      return { client, ticket: ticket!, first: posted.location! }
    }
    const click = (client: ReturnType<typeof browser>, ticket: string) =>
      client.go(app.callback('open-saml'), { method: 'POST', body: new URLSearchParams({ ticket }) })

    const stolen = await shown()
    const thief = browser()
    await expectRefused(app, thief, await click(thief, stolen.ticket), {
      code: 'attempt_foreign',
      status: 403,
    })

    const fetched = await shown()
    const got = await fetched.client.go(`${app.callback('open-saml')}?ticket=${fetched.ticket}`)
    await expectRefused(app, fetched.client, got, { code: 'method_not_allowed', status: 405 })

    const { client, ticket, first } = await shown()
    expect((await client.go(first)).json().error).toBe('attempt_unknown')
    await expectSignedIn(app, client, await click(client, ticket))
    expect((await click(client, ticket)).json().error).toBe('attempt_unknown')
  })
})
