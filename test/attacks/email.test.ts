import { request } from 'node:http'
import { loadavg } from 'node:os'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { afterEach, describe, expect, test } from 'vitest'
import {
  type App,
  type AppOptions,
  browser,
  signedStrategy,
  startApp,
  twoOwners,
  wrongCodes,
} from '../rig/inbox.js'
import { testStore } from '../rig/store.js'

let running: App | null = null
afterEach(async () => {
  await running?.close()
  running = null
})

async function start(options: Partial<AppOptions> = {}) {
  running = await startApp({ directory: twoOwners, strategies: [oidcStrategy()], ...options })
  return running
}

const ann = 'ann@o.example'
const refused = (answer: { status: number; text: string }) => [answer.status, JSON.parse(answer.text).error]
const wrong = [403, 'code_wrong']

/** A user as an administrator or an earlier version of the app left them. */
async function seed(app: App, user: { id: string; verifiedEmail: string; status?: 'active' | 'suspended' }) {
  const committed = await app.store.commit({
    id: `seed-${user.id}`,
    expect: [],
    guards: [],
    ops: [
      {
        op: 'user.create',
        status: 'active',
        contactEmail: user.verifiedEmail,
        attributes: {},
        at: 1,
        ...user,
      },
    ],
    events: [],
  })
  expect(committed.committed).toBe(true)
}

describe('E01: guessing', () => {
  test('a hundred guesses at once evaluate five, and then the code is burned', async () => {
    const app = await start()
    const attacker = browser()
    await app.ask(attacker, ann)
    const right = app.inbox.to(ann).code
    const answers = await Promise.all(wrongCodes(right, 100).map((code) => app.verify(attacker, ann, code)))
    expect(answers.map(refused)).toEqual(Array(100).fill(wrong))
    expect(app.recorded.evaluated()).toHaveLength(5)
    expect(new Set(app.recorded.evaluated()).size).toBe(5)
    expect(refused(await app.verify(attacker, ann, right))).toEqual(wrong)
    expect(app.recorded.evaluated()).toHaveLength(5)
    expect(await app.me(attacker)).toBeNull()
    expect((await app.rows()).users).toEqual([])
  })

  test('the right code among a hundred at once signs in once at most, and only if it is one of the five', async () => {
    const app = await start()
    const person = browser()
    await app.ask(person, ann)
    const right = app.inbox.to(ann).code
    const guesses = [right, ...wrongCodes(right, 99)]
    const answers = await Promise.all(guesses.map((code) => app.verify(person, ann, code)))
    expect(app.recorded.evaluated()).toHaveLength(5)
    expect(answers.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1)
    expect((await app.rows()).users.length).toBe(answers.filter(({ status }) => status === 200).length)
  })

  test('the fifth guess may be right', async () => {
    const app = await start()
    const person = browser()
    await app.ask(person, ann)
    const right = app.inbox.to(ann).code
    for (const code of wrongCodes(right, 4))
      expect(refused(await app.verify(person, ann, code))).toEqual(wrong)
    expect((await app.verify(person, ann, right)).status).toBe(200)
    expect((await app.me(person)).user.email).toBe(ann)
  })

  test('a thousand fresh sessions do not help', async () => {
    // Each from a client of its own: Express takes the address from a proxy only where it is told to.
    const app = await start({ trustProxy: true })
    let mailed = 0
    for (let session = 0; session < 1_000; session++) {
      const headers = { 'x-forwarded-for': `10.0.${session >> 8}.${session & 255}` }
      const attacker = browser()
      const asked = await app.post(attacker, '/auth/email', { email: ann }, headers)
      if (asked.status === 429) {
        // Without a token of its own a session has nothing to guess at.
        const guess = { email: ann, code: app.inbox.to(ann).code }
        if (session % 50 === 0) {
          expect(refused(await app.post(attacker, '/auth/email/verify', guess, headers))).toEqual(wrong)
        }
        continue
      }
      expect(asked.status).toBe(200)
      mailed += 1
      for (const code of wrongCodes(app.inbox.to(ann).code, 8)) {
        await app.post(attacker, '/auth/email/verify', { email: ann, code }, headers)
      }
    }
    expect(mailed).toBe(5)
    expect(app.inbox.mails).toHaveLength(5)
    expect(app.recorded.evaluated()).toHaveLength(25)
    expect((await app.rows()).users).toEqual([])
  })

  test('a stolen code without the browser that asked for it is worth nothing', async () => {
    const app = await start()
    const person = browser()
    const thief = browser()
    await app.ask(person, ann)
    const { code } = app.inbox.to(ann)
    expect(refused(await app.verify(thief, ann, code))).toEqual(wrong)
    await app.ask(thief, 'thief@nobody.example')
    expect(refused(await app.verify(thief, ann, code))).toEqual(wrong)
    expect((await app.verify(person, ann, code)).status).toBe(200)
  })
})

describe('E03: reuse', () => {
  test('a code signs in once: again, twice at once, and after a newer one', async () => {
    const app = await start()
    const person = browser()
    await app.ask(person, ann)
    const older = app.inbox.to(ann).code
    await app.ask(person, ann)
    const { code } = app.inbox.to(ann)
    if (older !== code) expect(refused(await app.verify(person, ann, older))).toEqual(wrong)
    const cookies = [...person.cookies(app.origin)]
    const twice = await Promise.all([app.verify(person, ann, code), app.verify(person, ann, code)])
    expect(twice.map(({ status }) => status).sort()).toEqual([200, 403])
    const copy = browser()
    for (const [name, value] of cookies) copy.cookies(app.origin).set(name, value)
    expect(refused(await app.verify(copy, ann, code))).toEqual(wrong)
    expect((await app.rows()).users).toHaveLength(1)
  })
})

describe('E04: swapped', () => {
  test('a code for x does not sign in as y, though the browser asked for both', async () => {
    const app = await start()
    const person = browser()
    await app.ask(person, ann)
    const { code } = app.inbox.to(ann)
    expect(refused(await app.verify(person, 'victim@o.example', code))).toEqual(wrong)
    expect(await app.me(person)).toBeNull()
    expect((await app.verify(person, ann, code)).status).toBe(200)
    expect((await app.rows()).users.map(({ verifiedEmail }) => verifiedEmail)).toEqual([ann])
  })

  test('and a link takes no address at all', async () => {
    const app = await start()
    await app.ask(browser(), ann)
    const link = new URL(app.inbox.to(ann).link!).searchParams.get('link')!
    const other = browser()
    const answer = await app.post(other, '/auth/email/verify', { link, email: 'victim@o.example' })
    expect(answer.status).toBe(200)
    expect((await app.me(other)).user.email).toBe(ann)
  })
})

describe('E06: scanners', () => {
  test('following the link by GET and HEAD five times uses nothing up and signs nobody in', async () => {
    const app = await start()
    const person = browser()
    await app.ask(person, ann)
    const { link, code } = app.inbox.to(ann)
    const before = app.recorded.told.length
    const scanner = browser()
    for (let visit = 0; visit < 5; visit++) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await scanner.go(link!, { method, headers: { accept: 'text/html' } })
        expect(answer.status).toBe(method === 'GET' ? 200 : 405)
        expect(answer.headers.getSetCookie()).toEqual([])
        if (method === 'HEAD') continue
        expect(answer.headers.get('cache-control')).toBe('no-store')
        expect(answer.headers.get('referrer-policy')).toBe('strict-origin')
      }
    }
    expect(app.recorded.told).toHaveLength(before)
    expect(await app.me(scanner)).toBeNull()
    expect((await app.rows()).users).toEqual([])
    expect((await app.verify(person, ann, code)).status).toBe(200)
  })

  test('the button on that page uses it up', async () => {
    const app = await start()
    await app.ask(browser(), ann)
    const person = browser()
    const page = await person.go(app.inbox.to(ann).link!, { headers: { accept: 'text/html' } })
    const [, action] = /<form method="post" action="([^"]+)">/.exec(page.text)!
    const [, link] = /name="link" value="([^"]+)"/.exec(page.text)!
    const answer = await app.submit(person, action!, { link: link! })
    expect([answer.status, answer.location]).toEqual([303, `${app.origin}/me`])
    expect((await app.me(person)).user).toMatchObject({ email: ann, via: 'provider:email' })
    expect(refused(await app.post(browser(), '/auth/email/verify', { link }))).toEqual(wrong)
  })

  test('the button works where browsers say by their origin alone which site asks', async () => {
    const baseUrl = 'http://intranet.example'
    const app = await start({ baseUrl })
    await app.ask(browser(), ann)
    const link = new URL(app.inbox.to(ann).link!).search
    const person = browser()
    const page = await person.go(`${app.origin}/auth/email/verify${link}`, {
      headers: { accept: 'text/html' },
    })
    // Fetch Standard, "append a request `Origin` header"; Fetch Metadata is for trustworthy addresses only.
    const origin = page.headers.get('referrer-policy') === 'no-referrer' ? 'null' : baseUrl
    const fields = { link: new URLSearchParams(link).get('link')! }
    const answer = await app.submit(person, '/auth/email/verify', fields, { origin })
    expect(answer.status, answer.text).toBe(303)
  })

  test('what is put into the link comes back as text', async () => {
    const app = await start()
    const page = await browser().go(
      `${app.origin}/auth/email/verify?link=${encodeURIComponent('"><script>alert(1)</script>')}`,
    )
    expect(page.text).toContain('value="&#34;&#62;&#60;script&#62;')
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'/)
    expect(refused(await browser().go(`${app.origin}/auth/email/verify`))).toEqual(wrong)
  })
})

describe('E07: the link in another browser', () => {
  test('signs in that browser and not the one that asked', async () => {
    const app = await start()
    const asker = browser()
    await app.ask(asker, ann)
    const { link, code } = app.inbox.to(ann)
    const other = browser()
    expect((await other.go(link!)).status).toBe(200)
    expect(await app.me(other)).toBeNull()
    const token = new URL(link!).searchParams.get('link')!
    expect((await app.post(other, '/auth/email/verify', { link: token })).status).toBe(200)
    expect((await app.me(other)).user.email).toBe(ann)
    expect(await app.me(asker)).toBeNull()
    expect(refused(await app.verify(asker, ann, code))).toEqual(wrong)
    expect(await app.me(asker)).toBeNull()
  })

  test('another site cannot press the button', async () => {
    const app = await start()
    await app.ask(browser(), ann)
    const link = new URL(app.inbox.to(ann).link!).searchParams.get('link')!
    const victim = browser()
    for (const headers of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }]) {
      for (const path of ['/auth/email/verify', '/auth/email']) {
        const answer = await app.post(victim, path, { link, email: ann }, headers as never)
        expect(refused(answer)).toEqual([403, 'cross_site'])
      }
    }
    expect(app.inbox.mails).toHaveLength(1)
    expect(await app.me(victim)).toBeNull()
    const own = { 'sec-fetch-site': 'same-origin', origin: 'null' }
    expect((await app.post(victim, '/auth/email/verify', { link }, own)).status).toBe(200)
  })
})

describe('E08: nothing tells who has an account', () => {
  const people = ['known--@nobody.example', 'suspend@nobody.example', 'unknown@nobody.example']

  async function populated() {
    const app = await start()
    await seed(app, { id: 'known', verifiedEmail: people[0]! })
    await seed(app, { id: 'suspended', verifiedEmail: people[1]!, status: 'suspended' })
    await seed(app, { id: 'sso', verifiedEmail: 'known@s.example' })
    return app
  }
  const shape = (answer: Awaited<ReturnType<App['post']>>, address: string) => ({
    status: answer.status,
    text: answer.text.replaceAll(address, '…').replace(/"correlationId":"[^"]+"/, ''),
    headers: [...answer.headers.keys()].filter((name) => name !== 'date').sort(),
  })

  test('known, suspended and unknown: the same answer, the same work, a mail of the same words', async () => {
    const app = await populated()
    const seen = []
    for (const address of people) {
      const before = app.recorded.told.length
      const answers = [
        shape(await app.ask(browser(), address), address),
        shape(await app.submit(browser(), '/auth/email', { email: address }), address),
      ]
      const { mail, code, link } = app.inbox.to(address)
      const text = mail.text.replace(code, '…').replace(link!, '…').replace(address, '…')
      const kept = app.recorded.told
        .slice(before)
        .map((told) => [/^\w+:/.exec(told)?.[0] ?? 'sealed', told.length])
      seen.push({ answers, text, kept })
    }
    expect(seen[1]).toEqual(seen[0])
    expect(seen[2]).toEqual(seen[0])
    expect(seen[0]!.answers[0]!.status).toBe(200)
  })

  test('the store is not asked before an address is proved', async () => {
    const { store, close } = await testStore()
    let loads = 0
    const counting = {
      ...store,
      load: (query: Parameters<typeof store.load>[0]) => {
        loads += 1
        return store.load(query)
      },
    }
    const app = await start({ store: counting })
    loads = 0
    const person = browser()
    await app.post(person, '/auth/discover', { email: ann })
    await app.ask(person, ann)
    await app.verify(person, ann, wrongCodes(app.inbox.to(ann).code, 1)[0]!)
    expect(loads).toBe(0)
    await app.verify(person, ann, app.inbox.to(ann).code)
    expect(loads).toBeGreaterThan(0)
    await close()
  })

  test('E08 asked five hundred times each, none is answered sooner', async () => {
    const unlimited = { consume: async () => {} }
    const app = await start({
      limits: { starts: unlimited },
      email: { limits: { addressHour: unlimited, addressDay: unlimited, clientCodes: unlimited } },
    })
    await seed(app, { id: 'known', verifiedEmail: people[0]! })
    await seed(app, { id: 'suspended', verifiedEmail: people[1]!, status: 'suspended' })
    // Whatever else runs on this machine is noise that no number of requests takes away.
    const quiet = () => loadavg()[0]! < 2
    const rounds = quiet() ? 500 : 5
    const took = people.map(() => [] as number[])
    for (let round = 0; round < rounds; round++) {
      for (const turn of people.keys()) {
        const at = (round + turn) % people.length
        const client = browser()
        const begun = performance.now()
        const answer = await app.ask(client, people[at]!)
        took[at]!.push(performance.now() - begun)
        expect(answer.status).toBe(200)
      }
    }
    expect(app.inbox.mails).toHaveLength(people.length * rounds)
    if (rounds < 500 || !quiet()) return
    // Where a median lies with 99.9 % confidence, by rank (the normal approximation of the sign test).
    const margin = Math.ceil(3.29 * Math.sqrt(rounds / 4))
    const ranges = took.map((times) => {
      const sorted = times.toSorted((a, b) => a - b)
      return { low: sorted[rounds / 2 - margin]!, high: sorted[rounds / 2 + margin]! }
    })
    const high = Math.min(...ranges.map((range) => range.high))
    expect(Math.max(...ranges.map(({ low }) => low))).toBeLessThan(high)
  }, 120_000)

  test('in a domain that SSO owns: one refusal with the way to SSO, whoever it is, and no mail', async () => {
    const app = await populated()
    const answers = []
    for (const address of ['known@s.example', 'unknown@s.example']) {
      const answer = await app.ask(browser(), address)
      expect(refused(answer)).toEqual([403, 'sso_required'])
      expect(answer.json().ways).toEqual([{ kind: 'sso', id: 's-sso', name: 'S', start: '/auth/sso/s-sso' }])
      answers.push(shape(answer, address))
    }
    expect(answers[1]).toEqual(answers[0])
    expect(app.inbox.mails).toEqual([])
  })

  test('a suspended account is told so after its address is proved, and not before', async () => {
    const app = await populated()
    const person = browser()
    await app.ask(person, people[1]!)
    const answer = await app.verify(person, people[1]!, app.inbox.to(people[1]!).code)
    expect(refused(answer)).toEqual([403, 'user_suspended'])
    expect(await app.me(person)).toBeNull()
  })
})

describe('E09: floods', () => {
  test('asking again and again, in any spelling and from any claimed client, mails five times', async () => {
    const app = await start()
    const spellings = [ann, 'ANN@o.example', 'Ann@O.EXAMPLE', ` ${ann} `]
    const answers = []
    for (let sent = 0; sent < 20; sent++) {
      const headers = { 'x-forwarded-for': `198.51.100.${sent}`, 'x-real-ip': `198.51.100.${sent}` }
      const answer = await app.post(browser(), '/auth/email', { email: spellings[sent % 4] }, headers)
      answers.push(answer.status)
    }
    expect(answers).toEqual([...Array(5).fill(200), ...Array(15).fill(429)])
    expect(app.inbox.mails.map(({ to }) => to)).toEqual(Array(5).fill(ann))
  })

  test('the refusal says when to come back, and mails nothing', async () => {
    const app = await start()
    for (let sent = 0; sent < 5; sent++) await app.ask(browser(), ann)
    const answer = await app.ask(browser(), ann)
    expect(refused(answer)).toEqual([429, 'too_many_requests'])
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(3_500)
    expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(3_600)
  })

  test('a client that claims other addresses is one client all the same', async () => {
    const app = await start()
    const answers = []
    for (let sent = 0; sent < 62; sent++) {
      const headers = { 'x-forwarded-for': `198.51.100.${sent}` }
      const answer = await app.post(browser(), '/auth/email', { email: `u${sent}@nobody.example` }, headers)
      answers.push(answer.status)
    }
    expect(answers).toEqual([...Array(60).fill(200), 429, 429])
  })

  test('whoever is flooded keeps the code they had, and every other way in', async () => {
    const app = await start({
      directory: { ...twoOwners, social: [{ id: 'pal', preset: 'passport', link: 'verified-email' }] },
      strategies: [oidcStrategy(), signedStrategy() as never],
    })
    const person = browser()
    await app.ask(person, ann)
    const { code } = app.inbox.to(ann)
    for (let sent = 0; sent < 10; sent++) await app.ask(browser(), ann)
    expect((await app.verify(person, ann, code)).status).toBe(200)
    const elsewhere = browser()
    expect((await app.ask(elsewhere, ann)).status).toBe(429)
    const callback = await app.atProvider(elsewhere, 'pal', { sub: '1', email: ann, verified: true })
    expect((await elsewhere.go(callback)).status).toBe(303)
    expect((await app.me(elsewhere)).user.email).toBe(ann)
  })
})

describe('E10: what leaks', () => {
  /** Node's fetch sets the Host header itself. */
  const withHost = (app: App, host: string) =>
    new Promise<number>((resolve, reject) => {
      const body = JSON.stringify({ email: ann })
      request(
        `${app.origin}/auth/email`,
        {
          method: 'POST',
          headers: {
            host,
            'x-forwarded-host': host,
            forwarded: `host=${host}`,
            'content-type': 'application/json',
            'content-length': body.length,
          },
        },
        (response) => resolve(response.resume().statusCode!),
      )
        .on('error', reject)
        .end(body)
    })

  test('a forged Host header changes no link: it leads to the configured origin', async () => {
    const app = await start({ trustProxy: true })
    expect(await withHost(app, 'evil.example')).toBe(200)
    const { mail, link } = app.inbox.to(ann)
    expect(new URL(link!).origin).toBe(app.origin)
    expect(mail.text + mail.html).not.toContain('evil.example')
  })

  test('no code, token or link in logs, errors, answers, events or the backend', async () => {
    const app = await start()
    const person = browser()
    const answers: string[] = []
    const keep = async (answer: Promise<Awaited<ReturnType<App['post']>>>) => {
      const { text, headers } = await answer
      answers.push(text, ...[...headers].filter(([name]) => name !== 'set-cookie').map(String))
    }
    await keep(app.ask(person, ann))
    const first = app.inbox.to(ann)
    const token = person.cookies(app.origin).get('jit-code')!
    expect(token).toMatch(/^.{43}$/)
    await keep(app.verify(person, 'other@o.example', first.code))
    await keep(app.verify(browser(), ann, first.code))
    const link = new URL(first.link!).searchParams.get('link')!
    await keep(app.post(browser(), '/auth/email/verify', { link: `${link.slice(0, -1)}_` }))
    await keep(app.verify(person, ann, first.code))
    await keep(app.post(browser(), '/auth/email/verify', { link }))
    await keep(app.verify(person, ann, first.code))
    expect(await app.me(person)).not.toBeNull()
    const { events } = await app.rows()
    expect(events.map(({ type }) => type)).toContain('created')
    expect(app.log.map(({ code }) => code)).toEqual(expect.arrayContaining(['code_wrong']))
    const emitted = JSON.stringify([app.log, answers, events, app.recorded.told, await app.me(person)])
    for (const secret of [first.code, token, link, link.slice(0, -1)]) expect(emitted).not.toContain(secret)
    expect(app.recorded.told.join('\n')).not.toContain('ann')
  })

  test('the cookie is for this site and the network alone', async () => {
    const app = await start({ baseUrl: 'https://app.example' })
    const answer = await app.ask(browser(), ann)
    expect(answer.headers.getSetCookie()).toEqual([
      expect.stringMatching(
        /^__Host-jit-code=[\w-]{43}; Path=\/; Max-Age=600; HttpOnly; SameSite=Lax; Secure$/,
      ),
    ])
    expect(app.inbox.to(ann).link).toMatch(/^https:\/\/app\.example\/auth\/email\/verify\?link=[\w-]{43}$/)
  })

  test('five other sign-ins under way do not push the code out of the browser', async () => {
    const app = await start({
      directory: { ...twoOwners, social: [{ id: 'pal', preset: 'passport' }] },
      strategies: [oidcStrategy(), signedStrategy() as never],
    })
    const person = browser()
    await app.ask(person, ann)
    for (let tab = 0; tab < 7; tab++) await person.go(`${app.origin}/auth/social/pal`)
    expect((await app.verify(person, ann, app.inbox.to(ann).code)).status).toBe(200)
  })
})

describe('To a person', () => {
  test('a wrong code is answered by the form again, logged and counted; the right one then signs in', async () => {
    const app = await start()
    const person = browser()
    const asked = await app.submit(person, '/auth/email', { email: ann, returnTo: '/me?from=mail' })
    expect(asked.text).toMatch(/We have mailed a code to <strong>ann@o\.example<\/strong>/)
    const { code } = app.inbox.to(ann)
    const again = await app.submit(person, '/auth/email/verify', {
      email: ann,
      code: wrongCodes(code, 1)[0]!,
    })
    expect(again.status).toBe(403)
    expect(again.text).toMatch(/That code is not right/)
    expect(again.text).toMatch(/name="email" value="ann@o\.example"/)
    expect(app.jit.refusals()).toEqual({ code_wrong: 1 })
    expect(app.log.at(-1)).toMatchObject({ code: 'code_wrong', correlationId: expect.any(String) })
    const spaced = `${code.slice(0, 3)} ${code.slice(3)} `
    expect(person.cookies(app.origin).has('jit-code')).toBe(true)
    const done = await app.submit(person, '/auth/email/verify', { email: ann, code: spaced })
    expect([done.status, done.location]).toEqual([303, `${app.origin}/me?from=mail`])
    expect(person.cookies(app.origin).has('jit-code')).toBe(false)
    expect((await app.me(person)).user.email).toBe(ann)
  })

  test('the return address stays in this app', async () => {
    const app = await start()
    for (const returnTo of [
      'https://evil.example',
      '//evil.example',
      '/\\evil.example',
      'javascript:alert(1)',
    ]) {
      const person = browser()
      await app.post(person, '/auth/email', { email: `${app.inbox.mails.length}@o.example`, returnTo })
      const { to } = app.inbox.mails.at(-1)!
      const done = await app.verify(person, to, app.inbox.to(to).code)
      expect(done.json()).toEqual({ location: '/me' })
    }
  })
})
