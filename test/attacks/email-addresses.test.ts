import fc from 'fast-check'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { afterEach, describe, expect, test } from 'vitest'
import { type App, browser, startApp, twoOwners } from '../rig/inbox.js'

let running: App | null = null
afterEach(async () => {
  await running?.close()
  running = null
})

const unlimited = { consume: async () => {} }

async function start() {
  running = await startApp({
    directory: twoOwners,
    strategies: [oidcStrategy()],
    email: { limits: { addressHour: unlimited, addressDay: unlimited, clientCodes: unlimited } },
  })
  return running
}

const ann = 'ann@o.example'
const refused = (answer: { status: number; text: string }) => [answer.status, JSON.parse(answer.text).error]

/** The refusal is the same at every door, nothing is mailed or kept, and the plain address goes through. */
async function expectInvalid(app: App, email: unknown, code = 'email_invalid') {
  const kept = app.recorded.told.length
  const mailed = app.inbox.mails.length
  const person = browser()
  expect(refused(await app.post(person, '/auth/discover', { email }))).toEqual([400, code])
  expect(refused(await app.post(person, '/auth/email', { email }))).toEqual([400, code])
  expect(refused(await app.post(person, '/auth/email/verify', { email, code: '123456' }))).toEqual([
    400,
    code,
  ])
  expect(app.recorded.told).toHaveLength(kept)
  expect(app.inbox.mails).toHaveLength(mailed)
  expect((await app.ask(person, ann)).status).toBe(200)
}

async function signedInAs(app: App, typed: string) {
  const person = browser()
  const asked = await app.ask(person, typed)
  expect(asked.status, asked.text).toBe(200)
  const { to } = app.inbox.mails.at(-1)!
  const done = await app.verify(person, typed, app.inbox.to(to).code)
  expect(done.status, done.text).toBe(200)
  return (await app.me(person)).user as { id: string; email: string }
}

describe('L15: letters that look or fold alike', () => {
  test('case variants are one user, whose address is in lower case', async () => {
    const app = await start()
    const users = []
    for (const typed of [ann, 'ANN@O.EXAMPLE', 'Ann@o.Example', 'aNN@O.example', `  ${ann} `]) {
      users.push(await signedInAs(app, typed))
    }
    expect(new Set(users.map(({ id }) => id)).size).toBe(1)
    expect(new Set(users.map(({ email }) => email))).toEqual(new Set([ann]))
    expect((await app.rows()).users).toHaveLength(1)
  })

  test.each([
    ['K of Kelvin (U+212A)', 'mi\u212ae@o.example'],
    ['dotless i (U+0131)', 'm\u0131ke@o.example'],
    ['dotted I (U+0130)', 'M\u0130ke@o.example'],
    ['long s (U+017F)', 'a\u017fk@o.example'],
    ['sharp s', 'stra\u00dfe@o.example'],
    ['fullwidth @', 'ann\uff20o.example'],
    ['fullwidth letters', '\uff41nn@o.example'],
    ['Kelvin in the domain', 'ann@o.e\u212aample'],
    ['combining accent', 'a\u0301nn@o.example'],
  ])('%s: refused', async (_, typed) => {
    await expectInvalid(await start(), typed)
  })
})

describe('L16: domains that a URL parser would launder', () => {
  test.each([
    ['ideographic full stop', 'ann@o\u3002example'],
    ['halfwidth full stop', 'ann@o\uff61example'],
    ['zero-width space', 'ann@o.exa\u200bmple'],
    ['zero-width joiner', 'ann@o.exa\u200dmple'],
    ['byte order mark', '\ufeffann@o.example'],
    ['soft hyphen', 'ann@o.exam\u00adple'],
    ['percent-encoding', 'ann@o.ex%61mple'],
    ['fullwidth domain', 'ann@\uff4f.example'],
    ['no-break space at the end', 'ann@o.example\u00a0'],
    ['right-to-left override', 'ann@\u202eelpmaxe.o'],
    ['a path', 'ann@o.example/x'],
    ['a port', 'ann@o.example:25'],
    ['a user', 'ann@x@o.example'],
    ['an address literal', 'ann@[192.0.2.1]'],
    ['a bare number', 'ann@192.0.2.1'],
    ['an underscore', 'ann@o_.example'],
    ['a final dot', 'ann@o.example.'],
    ['an empty label', 'ann@o..example'],
    ['a label that ends with a hyphen', 'ann@o-.example'],
    ['one label', 'ann@localhost'],
  ])('%s: refused as it is typed', async (_, typed) => {
    await expectInvalid(await start(), typed)
  })
})

describe('L17, L18: different addresses are different people', () => {
  test('a homoglyph is refused; its A-label is a domain of its own', async () => {
    const app = await start()
    await expectInvalid(app, 'ann@\u043e.example')
    const user = await signedInAs(app, 'ann@xn--n1a.example')
    expect(user.email).toBe('ann@xn--n1a.example')
    expect((await app.rows()).users.map(({ memberships }) => memberships)).toEqual([[]])
  })

  test('tags, dots and what only looks like an escape are part of the address', async () => {
    const app = await start()
    const typed = ['ann@o.example', 'ann+work@o.example', 'a.nn@o.example', '%61nn@o.example']
    const users = []
    for (const one of typed) users.push(await signedInAs(app, one))
    expect(users.map(({ email }) => email)).toEqual(typed)
    expect(new Set(users.map(({ id }) => id)).size).toBe(4)
  })
})

describe('L20: what is no text of an address', () => {
  const long = (length: number) => `${'a'.repeat(64)}@${'b'.repeat(60)}.${'c'.repeat(length - 134)}.example`

  test.each<[string, unknown]>([
    ['NUL', 'ann@o.example\0'],
    ['NUL inside', 'ann\0@o.example'],
    ['CRLF and a header', 'ann@o.example\r\nBcc: eve@evil.example'],
    ['LF at the end', 'ann@o.example\n'],
    ['tab', 'ann\t@o.example'],
    ['space inside', 'an n@o.example'],
    ['space before @', 'ann @o.example'],
    ['two addresses', 'ann@o.example,eve@evil.example'],
    ['two addresses and a space', 'ann@o.example, eve@evil.example'],
    ['a name', 'Ann <ann@o.example>'],
    ['a comment', 'ann(eve)@o.example'],
    ['quotes', '"ann"@o.example'],
    ['a quoted route', '"eve@evil.example ann"@o.example'],
    ['a group', 'all:ann@o.example;'],
    ['lone surrogate', 'ann\ud800@o.example'],
    ['an emoji', 'ann\u{1f600}@o.example'],
    ['more than 254 characters', `${'a'.repeat(60)}@${'b.'.repeat(95)}example`],
    ['a local part of 65', `${'a'.repeat(65)}@o.example`],
    ['a dot at its end', 'ann.@o.example'],
    ['two dots', 'an..n@o.example'],
    ['as many spaces as are read', `${' '.repeat(32_000)}x`],
    ['no local part', '@o.example'],
    ['nothing', ''],
    ['no @', 'ann'],
  ])('%s: refused', async (_, typed) => {
    await expectInvalid(await start(), typed)
  })

  test.each<[string, unknown]>([
    ['two in a list', [ann, 'eve@evil.example']],
    ['an object', { address: ann }],
    ['a number', 5],
    ['null', null],
    ['a list in a list', [[ann]]],
  ])('%s: refused as no text', async (_, typed) => {
    await expectInvalid(await start(), typed, 'answer_malformed')
  })

  test('a field that comes twice in a form is refused', async () => {
    const app = await start()
    const answer = await browser().go(`${app.origin}/auth/email`, {
      method: 'POST',
      body: new URLSearchParams([
        ['email', ann],
        ['email', 'eve@evil.example'],
      ]),
    })
    expect(refused(answer)).toEqual([400, 'answer_malformed'])
    expect(app.inbox.mails).toEqual([])
  })

  test('254 characters are an address', async () => {
    const app = await start()
    const typed = long(196).replace('.example', `.${'d'.repeat(57)}.example`)
    expect(typed).toHaveLength(254)
    expect((await signedInAs(app, typed)).email).toBe(typed)
    await expectInvalid(app, typed.replace('.example', 'd.example'))
  })
})

describe('Whatever is typed', () => {
  const part = fc.oneof(
    fc.stringMatching(/^[a-zA-Z0-9.+%'_-]{1,12}$/),
    fc.string({ unit: 'grapheme', maxLength: 6 }),
    fc.string({ unit: 'binary', maxLength: 4 }),
    fc.constantFrom(
      'o.example',
      's.example',
      'xn--n1a.example',
      '@',
      '.',
      ' ',
      '\u3002',
      '\u200b',
      '\u212a',
      '\r\n',
    ),
  )
  const typed = fc.oneof(
    fc.tuple(part, part).map(([local, domain]) => `${local}@${domain}`),
    fc.tuple(part, part, part).map(([a, b, c]) => `${a}@${b}.${c}`),
    fc.array(part, { maxLength: 5 }).map((parts) => parts.join('')),
    fc.stringMatching(/^ ?[a-zA-Z0-9+-]{1,20}@[a-zA-Z0-9]{1,10}\.[a-zA-Z]{2,6} ?$/),
  )

  test('a mail goes to exactly what was typed, in lower case, or nowhere at all', async () => {
    const app = await start()
    const person = browser()
    let mailed = 0
    await fc.assert(
      fc.asyncProperty(typed, async (email) => {
        const before = app.inbox.mails.length
        const answer = await app.ask(person, email)
        const sent = app.inbox.mails.slice(before)
        if (answer.status === 200) {
          mailed += 1
          expect(sent.map(({ to }) => to)).toEqual([email.replace(/^ +| +$/g, '').toLowerCase()])
          expect(sent[0]!.to).toMatch(/^[\x21-\x7e]{1,64}@[a-z0-9.-]{3,253}$/)
        } else {
          expect([
            [400, 'email_invalid'],
            [403, 'sso_required'],
          ]).toContainEqual(refused(answer))
          expect(sent).toEqual([])
        }
      }),
      { numRuns: 400 },
    )
    expect(mailed).toBeGreaterThan(50)
  })

  test('nothing that is not in the domain by its own letters is led to its SSO', async () => {
    const app = await start()
    const person = browser()
    const near = fc.oneof(
      typed,
      fc
        .constantFrom('S.Example', 's.example', 'x.s.example', 'es.example', 's.example.evil.com')
        .map((domain) => `ann@${domain}`),
    )
    await fc.assert(
      fc.asyncProperty(near, async (email) => {
        const answer = await app.post(person, '/auth/discover', { email })
        const sso =
          answer.status === 200 && answer.json().ways.some(({ kind }: { kind: string }) => kind === 'sso')
        expect(sso).toBe(answer.status === 200 && /@s\.example *$/i.test(email))
      }),
      { numRuns: 300 },
    )
  })
})
