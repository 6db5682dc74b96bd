import type { DirectoryInput, Operation } from 'passport-jit'
import { afterEach, describe, expect, test } from 'vitest'
import {
  type App,
  type AppOptions,
  type Browser,
  browser,
  type Person,
  signedStrategy,
  startApp,
  wrongCodes,
} from '../rig/inbox.js'

let running: App | null = null
afterEach(async () => {
  await running?.close()
  running = null
})

const directory: DirectoryInput = {
  organizations: [{ id: 'o', name: 'O', roles: ['owner', 'member'] }],
  social: [
    { id: 'pal', preset: 'passport', name: 'Pal & Co' },
    { id: 'mate', preset: 'passport' },
    { id: 'sure', preset: 'passport', link: 'verified-email' },
  ],
  email: { enabled: true },
}

async function start(options: Partial<AppOptions> = {}) {
  running = await startApp({ directory, strategies: [signedStrategy() as never], ...options })
  return running
}

const ann = 'ann@nobody.example'
const refused = (answer: { status: number; text: string }) => [answer.status, JSON.parse(answer.text).error]
const unknown = [400, 'attempt_unknown']
const wrong = [403, 'code_wrong']

/** What the scene needs to be there already. */
async function given(app: App, ...ops: Operation[]) {
  const result = await app.store.commit({
    id: `given ${Math.random()}`,
    expect: [],
    guards: [],
    ops,
    events: [],
  })
  expect(result).toEqual({ committed: true })
}
const account = (id: string, address: string, verified = true): Operation => ({
  op: 'user.create',
  id,
  status: 'active',
  verifiedEmail: verified ? address : null,
  contactEmail: address,
  attributes: {},
  at: 1,
})
const linked = (user: string, provider: string, subject: string): Operation => ({
  op: 'identity.link',
  user,
  source: `provider:${provider}`,
  issuer: `https://${provider}.test`,
  subject,
  at: 1,
})

const signInBy = async (app: App, client: Browser, provider: string, person: Person, query = '') =>
  client.go(await app.atProvider(client, provider, person, query))

/** Signs in at a provider that does not answer for the address, as far as the page that asks for a proof. */
async function untilProof(
  app: App,
  client: Browser,
  person: Person = { sub: 'ann', email: ann, verified: true },
) {
  const answer = await signInBy(app, client, 'pal', person, '?returnTo=/me?from=pal')
  expect(answer.status, answer.text).toBe(303)
  const page = new URL(answer.location!)
  expect(page.pathname).toBe('/auth/prove')
  expect(await app.me(client)).toBeNull()
  return { page: page.href, ticket: page.searchParams.get('ticket')! }
}

const mailProof = (app: App, client: Browser, ticket: string) => app.post(client, '/auth/prove', { ticket })
const typeCode = (app: App, client: Browser, code: string, email = ann) =>
  app.post(client, '/auth/prove', { email, code })
const identities = async (app: App, id = 'u') =>
  (await app.rows()).users
    .find((user) => user.id === id)!
    .identities.map(({ source, subject }) => `${source} ${subject}`)

describe('Who brings an address that nobody answers for', () => {
  const stranger = { sub: 'eve', email: ann, verified: false }
  const accounts: Record<string, Operation[]> = {
    'an active account': [account('u', ann)],
    'a suspended one': [{ ...account('u', ann), status: 'suspended' } as Operation],
    'one with logins already': [account('u', ann), linked('u', 'pal', 'ann'), linked('u', 'mate', 'ann')],
  }

  test.each(Object.entries(accounts))('is asked to prove it, and told no more of %s', async (_which, ops) => {
    const app = await start()
    await given(app, ...ops)
    const asked = await signInBy(app, browser(), 'pal', stranger)
    const { pathname, searchParams } = new URL(asked.location!)
    expect([asked.status, pathname, [...searchParams.keys()]]).toEqual([303, '/auth/prove', ['ticket', 'by']])
    expect((await app.store.events({ user: 'u' })).rows).toEqual([])
  })

  test('where nothing is left to prove it by, the page leads back', async () => {
    const app = await start()
    const accept = { headers: { accept: 'text/html' } }
    const page = (query: string) => browser().go(`${app.origin}/auth/prove?ticket=x${query}`, accept)
    expect((await page('&ways=connection:gone')).text).toContain('<a href="/me">back to the start</a>')
    expect((await page('')).text).not.toContain('back to the start')
  })

  test('is told what refuses it once it is proved', async () => {
    const app = await start()
    await given(app, ...accounts['a suspended one']!)
    const person = browser()
    const { ticket } = await untilProof(app, person, stranger)
    await mailProof(app, person, ticket)
    const done = await typeCode(app, person, app.inbox.to(ann).code)
    expect(refused(done)).toEqual([403, 'user_suspended'])
  })

  test('then proves the account too, where that has another login of the provider', async () => {
    const app = await start()
    await given(app, ...accounts['one with logins already']!)
    const person = browser()
    const { ticket } = await untilProof(app, person, stranger)
    await mailProof(app, person, ticket)
    const { location } = (await typeCode(app, person, app.inbox.to(ann).code)).json() as { location: string }
    const page = new URL(location, app.origin)
    expect([page.pathname, page.searchParams.get('ways')]).toEqual(['/auth/prove', 'provider:mate'])
    const waiting = `?waiting=${page.searchParams.get('ticket')}`
    await signInBy(app, person, 'mate', { sub: 'ann', email: ann, verified: false }, waiting)
    expect(await app.me(person)).toMatchObject({ user: { id: 'u' }, jit: { reason: 'subject_migrated' } })
    expect(await identities(app)).toEqual(['provider:mate ann', 'provider:pal eve'])
  })
})

describe('A verified account, and a provider that does not answer for the address', () => {
  test('the code goes to the account’s address, and in the same browser completes the sign-in: linked', async () => {
    const app = await start()
    await given(app, account('u', ann))
    const person = browser()
    const { page, ticket } = await untilProof(app, person)
    expect((await person.go(page)).json()).toEqual({
      proof: 'required',
      ticket,
      byCode: true,
      ways: ['mate', 'sure'].map((id) => ({
        name: id,
        start: `/auth/social/${id}?waiting=${ticket}`,
      })),
    })
    expect(app.inbox.mails).toEqual([])
    expect((await mailProof(app, person, ticket)).json()).toEqual({ sent: true })
    expect(app.inbox.mails.map(({ to }) => to)).toEqual([ann])
    expect(app.inbox.to(ann).link).toBeNull()
    const done = await typeCode(app, person, app.inbox.to(ann).code)
    expect(done.json()).toEqual({ location: '/me?from=pal' })
    expect(await app.me(person)).toMatchObject({
      user: { id: 'u', email: ann, via: 'provider:pal' },
      jit: { outcome: 'linked', reason: 'identity_linked' },
    })
    expect(await identities(app)).toEqual(['provider:pal ann'])
    expect((await signInBy(app, browser(), 'pal', { sub: 'ann', email: ann })).location).toBe(
      `${app.origin}/me`,
    )
  })

  test('in an app that issues tokens: linked, and the next sign-in has one', async () => {
    const app = await start({
      sessions: false,
      mount: (server, jit) => {
        const path = '/token'
        server.use(path, jit.authenticate({ provider: 'pal', callback: path }))
        server.use(path, jit.provision({ session: false }), (req, res) => {
          res.json({ token: (req.user as { id: string }).id })
        })
      },
    })
    await given(app, account('u', ann))
    const person = browser()
    const token = async () => {
      const begun = await person.go(`${app.origin}/token`)
      const { searchParams } = new URL(await app.atProvider(browser(), 'pal', { sub: 'ann', email: ann }))
      searchParams.set('state', new URL(begun.location!).searchParams.get('state')!)
      return person.go(`${app.origin}/token?${searchParams}`)
    }
    const asked = await token()
    const ticket = new URL(asked.location!).searchParams.get('ticket')!
    await mailProof(app, person, ticket)
    const done = await typeCode(app, person, app.inbox.to(ann).code)
    expect([done.status, done.json()], done.text).toEqual([200, { location: '/me' }])
    expect(done.headers.getSetCookie().filter((cookie) => !cookie.includes('Max-Age=0'))).toEqual([])
    expect((await token()).json()).toEqual({ token: 'u' })
  })

  test('as a person sees it: pages and forms all the way', async () => {
    const app = await start()
    await given(app, account('u', ann))
    const person = browser()
    const { page, ticket } = await untilProof(app, person)
    const html = { headers: { accept: 'text/html' } }
    const offer = await person.go(page, html)
    expect(offer.text).toMatch(/Is this account yours\?/)
    expect(offer.text).toContain(`<a href="/auth/social/mate?waiting=${ticket}">mate</a>`)
    expect(offer.text, 'the way just come by proves nothing more').not.toContain('/auth/social/pal')
    const form = await app.submit(person, '/auth/prove', { ticket })
    expect(form.text).toContain(
      'only if it was you who signed in with <strong>Pal &#38; Co</strong> just now',
    )
    const { code } = app.inbox.to(ann)
    const again = await app.submit(person, '/auth/prove', { email: ann, code: wrongCodes(code, 1)[0]! })
    expect([again.status, /action="\/auth\/prove".*name="code"/s.test(again.text)]).toEqual([403, true])
    const done = await app.submit(person, '/auth/prove', { email: ann, code })
    expect([done.status, done.location]).toEqual([303, `${app.origin}/me?from=pal`])
    expect((await app.me(person)).user.id).toBe('u')
  })

  test('looking at the page any number of times changes nothing', async () => {
    const app = await start()
    await given(app, account('u', ann))
    const person = browser()
    const { page, ticket } = await untilProof(app, person)
    for (let look = 0; look < 5; look++) {
      expect((await person.go(page)).status).toBe(200)
      expect((await browser().go(page)).status).toBe(200)
    }
    expect(app.inbox.mails).toEqual([])
    expect((await mailProof(app, person, ticket)).status).toBe(200)
  })

  test('a second mail is possible, and ends the first code', async () => {
    const app = await start()
    await given(app, account('u', ann))
    const person = browser()
    const { ticket } = await untilProof(app, person)
    await mailProof(app, person, ticket)
    const first = app.inbox.to(ann).code
    for (const code of wrongCodes(first, 5)) expect(refused(await typeCode(app, person, code))).toEqual(wrong)
    expect(refused(await typeCode(app, person, first))).toEqual(wrong)
    expect((await mailProof(app, person, ticket)).status).toBe(200)
    expect((await typeCode(app, person, app.inbox.to(ann).code)).status).toBe(200)
    expect(await identities(app)).toEqual(['provider:pal ann'])
  })

  test('a mail that could not be sent leaves the sign-in waiting', async () => {
    let down = true
    const mails: { text: string }[] = []
    const transport = {
      sendMail: async (mail: { text: string }) => {
        if (down) throw new Error('down')
        return mails.push(mail)
      },
    }
    const app = await start({ email: { transport } })
    await given(app, account('u', ann))
    const person = browser()
    const { ticket } = await untilProof(app, person)
    expect(refused(await mailProof(app, person, ticket))).toEqual([503, 'unavailable'])
    down = false
    expect((await mailProof(app, person, ticket)).status).toBe(200)
    expect((await typeCode(app, person, mails[0]!.text.slice(0, 6))).status).toBe(200)
    expect(await identities(app)).toEqual(['provider:pal ann'])
  })
})

describe('What proves nothing', () => {
  async function waiting(options: Partial<AppOptions> = {}) {
    const app = await start(options)
    await given(app, account('u', ann))
    const person = browser()
    const { page, ticket } = await untilProof(app, person)
    /** Nobody was linked or signed in, and the person themself gets through. */
    const untouched = async () => {
      expect(await identities(app)).toEqual([])
      expect((await mailProof(app, person, ticket)).status).toBe(200)
      expect((await typeCode(app, person, app.inbox.to(ann).code)).status).toBe(200)
      expect(await identities(app)).toEqual(['provider:pal ann'])
    }
    return { app, person, page, ticket, untouched }
  }

  test('the ticket in another browser: no mail, and the sign-in is over for good', async () => {
    const { app, person, ticket } = await waiting()
    const other = browser()
    expect(refused(await mailProof(app, other, ticket))).toEqual(unknown)
    expect(app.inbox.mails).toEqual([])
    expect(refused(await mailProof(app, person, ticket))).toEqual(unknown)
    expect(await identities(app)).toEqual([])
    const again = await untilProof(app, person)
    expect((await mailProof(app, person, again.ticket)).status).toBe(200)
  })

  test('the code in another browser', async () => {
    const { app, person, ticket, untouched } = await waiting()
    await mailProof(app, person, ticket)
    const other = browser()
    expect(refused(await typeCode(app, other, app.inbox.to(ann).code))).toEqual(wrong)
    expect(await app.me(other)).toBeNull()
    await untouched()
  })

  test('the code and its cookie, without the cookie of the sign-in', async () => {
    const { app, person, ticket } = await waiting()
    await mailProof(app, person, ticket)
    const other = browser()
    other.cookies(app.origin).set('jit-code', person.cookies(app.origin).get('jit-code')!)
    expect(refused(await typeCode(app, other, app.inbox.to(ann).code))).toEqual(unknown)
    expect(await app.me(other)).toBeNull()
    expect(await identities(app)).toEqual([])
  })

  test('a wrong code', async () => {
    const { app, person, ticket, untouched } = await waiting()
    await mailProof(app, person, ticket)
    const [guess] = wrongCodes(app.inbox.to(ann).code, 1)
    expect(refused(await typeCode(app, person, guess!))).toEqual(wrong)
    expect(await app.me(person)).toBeNull()
    await untouched()
  })

  test('E04: a code that was mailed for signing in, nor the other way round', async () => {
    const { app, person, ticket, untouched } = await waiting()
    await app.ask(person, ann)
    expect(refused(await typeCode(app, person, app.inbox.to(ann).code))).toEqual(wrong)
    await mailProof(app, person, ticket)
    const proof = app.inbox.to(ann)
    expect(refused(await app.verify(person, ann, proof.code))).toEqual(wrong)
    expect(await app.me(person)).toBeNull()
    await untouched()
  })

  test('a code for another address', async () => {
    const { app, person, ticket, untouched } = await waiting()
    await mailProof(app, person, ticket)
    const { code } = app.inbox.to(ann)
    expect(refused(await typeCode(app, person, code, 'eve@nobody.example'))).toEqual(wrong)
    await untouched()
  })

  test('ten minutes later: neither the code nor the ticket', async () => {
    let clock = Date.now()
    const { app, person, ticket } = await waiting({ now: () => clock })
    await mailProof(app, person, ticket)
    clock += 10 * 60_000
    expect(refused(await typeCode(app, person, app.inbox.to(ann).code))).toEqual(wrong)
    expect(refused(await mailProof(app, person, ticket))).toEqual(unknown)
    expect(await identities(app)).toEqual([])
  })

  test('a second mail does not prolong the sign-in', async () => {
    let clock = Date.now()
    const { app, person, ticket } = await waiting({ now: () => clock })
    clock += 9 * 60_000
    expect((await mailProof(app, person, ticket)).status).toBe(200)
    clock += 61_000
    expect(refused(await typeCode(app, person, app.inbox.to(ann).code))).toEqual(unknown)
    expect(await identities(app)).toEqual([])
  })

  test('a ticket that was completed', async () => {
    const { app, person, ticket, untouched } = await waiting()
    await untouched()
    const rows = await app.rows()
    expect(refused(await mailProof(app, person, ticket))).toEqual(unknown)
    expect(app.inbox.mails).toHaveLength(1)
    const again = await signInBy(
      app,
      browser(),
      'mate',
      { sub: 'eve', email: 'eve@nobody.example' },
      `?waiting=${ticket}`,
    )
    expect(again.location).toBe(`${app.origin}/me`)
    expect((await app.rows()).users.find(({ id }) => id === 'u')).toEqual(rows.users[0])
  })

  test('N05: a GET, another site’s POST, a stale ticket', async () => {
    const { app, person, page, ticket, untouched } = await waiting()
    await mailProof(app, person, ticket)
    const { code } = app.inbox.to(ann)
    const query = new URLSearchParams({ ticket, email: ann, code })
    expect((await person.go(`${app.origin}/auth/prove?${query}`)).json()).toMatchObject({ proof: 'required' })
    expect(refused(await person.go(`${app.origin}/auth/prove?email=${ann}&code=${code}`))).toEqual(unknown)
    const foreign = [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site', origin: app.origin },
    ]
    for (const headers of foreign) {
      for (const fields of [{ ticket }, { email: ann, code }]) {
        const answer = await app.post(person, '/auth/prove', fields, headers as never)
        expect(refused(answer)).toEqual([403, 'cross_site'])
      }
    }
    // Where a browser says neither, a POST from another site comes without our Lax cookies.
    expect(refused(await typeCode(app, browser(), code))).toEqual(wrong)
    const stale = page.replace(ticket, 'A'.repeat(43))
    expect(refused(await mailProof(app, person, new URL(stale).searchParams.get('ticket')!))).toEqual(unknown)
    expect(app.inbox.mails).toHaveLength(1)
    await untouched()
  })

  test('L10: no ticket, and fields that name whom to link', async () => {
    const { app, person, ticket } = await waiting()
    const fields = { user: 'u', subject: 'evil', source: 'provider:pal', by: 'account', proof: 'u' }
    expect(refused(await app.post(browser(), '/auth/prove', fields))).toEqual([400, 'email_invalid'])
    expect(refused(await app.post(browser(), '/auth/prove', { ...fields, ticket: 'u' }))).toEqual(unknown)
    expect(
      refused(await app.post(browser(), '/auth/prove', { ...fields, email: ann, code: '123456' })),
    ).toEqual(wrong)
    await mailProof(app, person, ticket)
    const { code } = app.inbox.to(ann)
    const done = await app.post(person, '/auth/prove', { ...fields, user: 'other', email: ann, code })
    expect(done.status).toBe(200)
    expect(await identities(app)).toEqual(['provider:pal ann'])
  })
})

describe('Signing in the way one did before', () => {
  async function scene() {
    const app = await start()
    await given(app, account('u', ann), linked('u', 'mate', 'ann'))
    await given(app, account('other', 'eve@nobody.example'), linked('other', 'mate', 'eve'))
    return app
  }

  test('completes the waiting sign-in', async () => {
    const app = await scene()
    const person = browser()
    const { ticket } = await untilProof(app, person)
    const done = await signInBy(app, person, 'mate', { sub: 'ann' }, `?waiting=${ticket}`)
    expect([done.status, done.location]).toEqual([303, `${app.origin}/me?from=pal`])
    expect(await app.me(person)).toMatchObject({
      user: { id: 'u', via: 'provider:pal' },
      jit: { outcome: 'linked' },
    })
    expect(await identities(app)).toEqual(['provider:mate ann', 'provider:pal ann'])
    expect(app.inbox.mails).toEqual([])
  })

  test('also after a code was mailed', async () => {
    const app = await scene()
    const person = browser()
    const { ticket } = await untilProof(app, person)
    await mailProof(app, person, ticket)
    await signInBy(app, person, 'mate', { sub: 'ann' }, `?waiting=${ticket}`)
    expect(await identities(app)).toEqual(['provider:mate ann', 'provider:pal ann'])
    // The code has nothing left to complete.
    expect(refused(await typeCode(app, person, app.inbox.to(ann).code))).toEqual(unknown)
  })

  test('to another account does not: it signs in there, and nothing is linked', async () => {
    const app = await scene()
    const person = browser()
    const { ticket } = await untilProof(app, person)
    await signInBy(app, person, 'mate', { sub: 'eve' }, `?waiting=${ticket}`)
    expect((await app.me(person)).user.id).toBe('other')
    expect(await identities(app)).toEqual(['provider:mate ann'])
    expect(await identities(app, 'other')).toEqual(['provider:mate eve'])
    await signInBy(app, person, 'mate', { sub: 'ann' }, `?waiting=${ticket}`)
    expect(await identities(app)).toEqual(['provider:mate ann'])
  })

  test('N05: in a browser that was lured with somebody else’s ticket does not link theirs', async () => {
    const app = await scene()
    const attacker = browser()
    const { ticket } = await untilProof(app, attacker, { sub: 'evil', email: ann, verified: true })
    const victim = browser()
    const done = await signInBy(app, victim, 'mate', { sub: 'ann' }, `?waiting=${ticket}`)
    expect(done.location).toBe(`${app.origin}/me`)
    expect(await app.me(victim)).toMatchObject({ user: { id: 'u', via: 'provider:mate' } })
    expect(await identities(app)).toEqual(['provider:mate ann'])
    expect(refused(await mailProof(app, attacker, ticket))).toEqual(unknown)
    expect(await app.me(attacker)).toBeNull()
  })
})

describe('Pre-hijacking (Sudhodanan and Paverd, 2022)', () => {
  /** The attacker was here first, with the victim's address, which nobody proved. */
  async function hijacked() {
    const app = await start()
    const attacker = browser()
    await signInBy(app, attacker, 'mate', { sub: 'evil', email: ann })
    const { user } = await app.me(attacker)
    expect(user.email).toBeNull()
    await given(
      app,
      { op: 'membership.create', user: user.id, organization: 'o', status: 'active', seat: true, at: 1 },
      {
        op: 'grant.add',
        user: user.id,
        organization: 'o',
        role: 'member',
        source: 'manual',
        basis: 'person',
        at: 1,
      },
    )
    return { app, attacker, trap: user.id as string }
  }
  const byCode = async (app: App) => {
    const victim = browser()
    await app.ask(victim, ann)
    expect((await app.verify(victim, ann, app.inbox.to(ann).code)).status).toBe(200)
    return victim
  }
  const byProof = async (app: App) => {
    const victim = browser()
    const { ticket } = await untilProof(app, victim, { sub: 'ann', email: ann })
    await mailProof(app, victim, ticket)
    expect((await typeCode(app, victim, app.inbox.to(ann).code)).status).toBe(200)
    return victim
  }
  const byVerifiedSocial = async (app: App) => {
    const victim = browser()
    expect((await signInBy(app, victim, 'pal', { sub: 'ann', email: ann, verified: true })).status).toBe(303)
    return victim
  }

  test.each([
    ['a mailed code', byCode, []],
    ['a social sign-in and a proof', byProof, ['provider:pal ann']],
    ['a provider whose flag is proof', byVerifiedSocial, ['provider:pal ann']],
  ] as const)(
    'L01, L02, L03: %s claims the account, and all that was the attacker’s ends',
    async (_, claim, left) => {
      const { app, attacker, trap } = await hijacked()
      await given(app, linked(trap, 'sure', 'trojan'))
      const victim = await claim(app)
      expect(await app.me(victim)).toMatchObject({
        user: { id: trap, email: ann, memberships: [] },
        jit: { reason: 'account_claimed' },
      })
      // L01, L03: credentials and memberships from before are gone.
      expect(await identities(app, trap)).toEqual(left)
      expect((await app.rows()).users[0]!.memberships).toEqual([])
      expect((await app.rows()).events.map(({ type }) => type)).toContain('claimed')
      // L02: so is the session that was open, while the victim's works.
      expect(await app.me(attacker)).toBeNull()
      expect(await app.me(victim)).not.toBeNull()
      for (const [provider, sub] of [
        ['mate', 'evil'],
        ['sure', 'trojan'],
      ] as const) {
        const back = browser()
        const answer = await signInBy(app, back, provider, { sub, email: ann })
        expect(new URL(answer.location!).pathname).toBe('/auth/prove')
        expect(await app.me(back)).toBeNull()
      }
    },
  )

  test('L04: there is no e-mail change to leave pending; a sign-in that waits does not outlive the claim', async () => {
    const { app, attacker, trap } = await hijacked()
    const { ticket } = await (async () => {
      const answer = await signInBy(app, attacker, 'pal', { sub: 'evil', email: ann })
      return { ticket: new URL(answer.location!).searchParams.get('ticket')! }
    })()
    await mailProof(app, attacker, ticket)
    const victim = await byCode(app)
    const answer = await signInBy(app, attacker, 'mate', { sub: 'evil', email: ann }, `?waiting=${ticket}`)
    expect(new URL(answer.location!).pathname).toBe('/auth/prove')
    expect(await app.me(attacker)).toBeNull()
    expect(await identities(app, trap)).toEqual([])
    expect((await app.me(victim)).user.id).toBe(trap)
  })

  test.each<[string, string, Person]>([
    ['says nothing of the address', 'pal', { sub: 'evil', email: ann }],
    ['says it is unverified', 'pal', { sub: 'evil', email: ann, verified: false }],
    ['verifies, but does not answer for it', 'pal', { sub: 'evil', email: ann, verified: true }],
    ['is authoritative, but says nothing of this one', 'sure', { sub: 'evil', email: ann }],
    ['is authoritative, and says it is unverified', 'sure', { sub: 'evil', email: ann, verified: false }],
  ])('L05: a provider that %s gets a question, and no session', async (_, provider, person) => {
    const app = await start()
    await given(app, account('u', ann))
    const rows = await app.rows()
    const attacker = browser()
    const answer = await signInBy(app, attacker, provider, person)
    expect(new URL(answer.location!).pathname).toBe('/auth/prove')
    expect(await app.me(attacker)).toBeNull()
    expect(await app.rows()).toEqual(rows)
    const authoritative = browser()
    await signInBy(app, authoritative, 'sure', { sub: 'ann', email: ann, verified: true })
    expect((await app.me(authoritative)).user.id).toBe('u')
  })

  test('who signs in to the unproved account the old way keeps it, its address still unproved', async () => {
    const { app, trap } = await hijacked()
    const person = browser()
    const { ticket } = await untilProof(app, person, { sub: 'second', email: ann })
    await signInBy(app, person, 'mate', { sub: 'evil', email: ann }, `?waiting=${ticket}`)
    expect((await app.me(person)).user).toMatchObject({ id: trap, email: null })
    expect(await identities(app, trap)).toEqual(['provider:mate evil', 'provider:pal second'])
  })
})

test('who proves an account, and not its address, joins nobody’s domain', async () => {
  const owner = {
    ...directory.organizations[0]!,
    domains: ['o.example'],
    domainJit: { enabled: true, roles: ['member'], existingUsers: true },
  }
  const app = await start({ directory: { ...directory, organizations: [owner] } })
  const claimed = 'boss@o.example'
  await signInBy(app, browser(), 'mate', { sub: 'evil', email: claimed })
  const attacker = browser()
  const { ticket } = await untilProof(app, attacker, { sub: 'second', email: claimed })
  await signInBy(app, attacker, 'mate', { sub: 'evil', email: claimed }, `?waiting=${ticket}`)
  expect((await app.me(attacker)).user).toMatchObject({ email: null, memberships: [] })
  expect((await app.rows()).users.map(({ memberships }) => memberships)).toEqual([[]])
  const boss = browser()
  await app.ask(boss, claimed)
  await app.verify(boss, claimed, app.inbox.to(claimed).code)
  expect((await app.me(boss)).user).toMatchObject({
    email: claimed,
    memberships: [{ organization: 'o', roles: ['member'] }],
  })
})

test('SSO that owns the account’s own address is offered, though another one was asserted', async () => {
  const app = await start()
  await given(app, account('u', 'ann@o.example'), linked('u', 'mate', 'ann'))
  const person = browser()
  expect((await signInBy(app, person, 'mate', { sub: 'ann', email: ann })).location).toBe(`${app.origin}/me`)
  const connection = {
    id: 'o-sso',
    organization: 'o',
    protocol: 'oidc',
    issuer: 'https://idp.o.example',
    clientId: 'x',
    clientSecret: 'y',
  } as const
  const owner = { ...directory.organizations[0]!, domains: ['o.example'] }
  app.switchTo({ ...directory, organizations: [owner], connections: [connection] })
  const answer = await signInBy(app, browser(), 'mate', { sub: 'ann', email: ann })
  expect(refused(answer)).toEqual([403, 'sso_required'])
  expect(answer.json().ways).toEqual([{ kind: 'sso', id: 'o-sso', name: 'O', start: '/auth/sso/o-sso' }])
})
