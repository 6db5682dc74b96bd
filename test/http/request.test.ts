import { once } from 'node:events'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import express from 'express'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { asJitError } from '../../lib/errors.js'
import { readIncoming } from '../../lib/incoming.js'
import { single } from '../../lib/strategy.js'
import { type App, expectRefused, expectSignedIn } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { answer, begin, honest, oidc, post, saml, startHonest } from './honest.js'

let app: App
beforeEach(async () => {
  app = await startHonest()
})
afterEach(() => app.close())

describe('S25 the return address', () => {
  const arrive = async (asked: string) => {
    const client = browser()
    const state = await begin(app, client, 'acme', `?returnTo=${asked}`)
    const done = await answer(app, client, state)
    expect(done.status).toBe(303)
    return { location: done.headers.get('location')!, resolved: new URL(done.location!) }
  }

  it.each([
    ['/', '/'],
    ['/projects/7?tab=a%26b#top', '/projects/7?tab=a%26b#top'],
    ['/a/../b', '/b'],
    ['/käse', '/k%C3%A4se'],
    ['/path?next=https://elsewhere.example', '/path?next=https://elsewhere.example'],
    ['/authors', '/authors'],
    ['/auth-help/sso/acme', '/auth-help/sso/acme'],
    ['/docs/auth/sso/acme', '/docs/auth/sso/acme'],
    ['/auth/../docs', '/docs'],
    ['/%61bout//100%', '/%61bout//100%'],
    ['/path?next=/auth/sso/other#/auth/sso/other', '/path?next=/auth/sso/other#/auth/sso/other'],
  ])('%s is a path of this app', async (asked, expected) => {
    expect((await arrive(encodeURIComponent(asked))).location).toBe(expected)
  })

  it.each([
    '//evil.example',
    '///evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '/\r\n/evil.example',
    '/%09/evil.example',
    '/%2f/evil.example',
    '/%2Fevil.example',
    '/%5cevil.example',
    '/..//evil.example',
    '/.//evil.example',
    '/a/../..//evil.example',
    '/%2e%2e//evil.example',
    'https://evil.example',
    'https:evil.example',
    'javascript:alert(1)',
    'data:text/html,x',
    'evil.example',
    ' /path',
    '/path with space',
    '/pa\u0000th',
    '/x\r\nset-cookie: a=b',
    '',
    `/${'a'.repeat(10_000)}`,
  ])('%j leads to the default page', async (asked) => {
    expect((await arrive(encodeURIComponent(asked))).location).toBe('/me')
  })

  it.each([
    '/auth',
    '/auth/',
    '/auth?x',
    '/auth#x',
    '/auth/sso/other',
    '/auth/sso/other?returnTo=/x',
    '/auth/logout',
    '/AUTH/sso/other',
    '/Auth/SSO/other',
    '/auth/../auth/sso/other',
    '/x/../auth/sso/other',
    '/./auth/sso/other',
    '/%2e/auth/sso/other',
    '/x/%2E%2e/auth/sso/other',
    '/x//../../auth/sso/other',
    '/auth//sso/other',
    '/%61uth/sso/other',
    '/%2561uth/sso/other',
    '/auth%2fsso%2fother',
    '/x%2f..%2fauth%2fsso/other',
    '/x%5c..%5cauth/sso/other',
    '/.%2f/auth/sso/other',
  ])(
    '%s, the kit’s own or one that a router or proxy takes for it, leads to the default page',
    async (asked) => {
      expect((await arrive(encodeURIComponent(asked))).location).toBe('/me')
    },
  )

  it('where the kit is mounted elsewhere, so is what leads to the default page', async () => {
    const moved = await startHonest({ path: '/Account/in' })
    const arriveAt = async (asked: string) => {
      const client = browser()
      const begun = await client.go(`${moved.origin}/Account/in/sso/acme?returnTo=${asked}`)
      const state = new URL(begun.location!).searchParams.get('state')
      const done = await client.go(`${moved.origin}/Account/in/sso/acme/callback?state=${state}`)
      return done.headers.get('location')
    }
    expect(await arriveAt('/auth/sso/other')).toBe('/auth/sso/other')
    expect(await arriveAt('/account')).toBe('/account')
    expect(await arriveAt('/account/in/sso/other')).toBe('/me')
    await moved.close()
  })

  it('of several the first is taken or none, never another origin', async () => {
    expect((await arrive('/a&returnTo=//evil.example')).resolved.origin).toBe(app.origin)
    expect((await arrive('//evil.example&returnTo=/a')).resolved.origin).toBe(app.origin)
  })

  it('whatever is asked for, the browser stays on this origin', async () => {
    const pieces = fc.constantFrom(
      ...[
        '/',
        '\\',
        '.',
        '..',
        '%2f',
        '%5c',
        '%09',
        '\t',
        '\n',
        '@',
        ':',
        '?',
        '#',
        ';',
        'evil.example',
        'x',
        '\u2028',
      ],
      ...['//', 'http:', 'https://', 'javascript:', '%00', '\u0000', '／', '。', '%e3%80%82', ' '],
    )
    const asked = fc.oneof(
      fc.array(pieces, { maxLength: 8 }).map((parts) => parts.join('')),
      fc.array(pieces, { maxLength: 8 }).map((parts) => `/${parts.join('')}`),
      fc.webUrl(),
      fc.string(),
    )
    await fc.assert(
      fc.asyncProperty(asked, async (text) => {
        const { location, resolved } = await arrive(encodeURIComponent(text))
        expect(resolved.origin).toBe(app.origin)
        // As browsers and as lenient proxies read it.
        expect(location).toMatch(/^\/(?![/\\])[\x21-\x7e]*$/)
      }),
      { numRuns: 150 },
    )
  })
})

describe('methods', () => {
  it.each([
    ['POST', 'sso/acme', 'GET'],
    ['HEAD', 'sso/acme', 'GET'],
    ['PUT', 'sso/acme/callback', 'GET, POST'],
    ['DELETE', 'sso/acme/callback', 'GET, POST'],
    ['HEAD', 'sso/acme/callback', 'GET, POST'],
    ['POST', 'sso/acme/metadata', 'GET'],
    ['GET', 'logout', 'POST'],
  ])('%s %s is refused, and told what to use', async (method, path, allow) => {
    const client = browser()
    const refused = await client.go(`${app.origin}/auth/${path}`, { method })
    expect(refused.status).toBe(405)
    expect(refused.headers.get('allow')).toBe(allow)
    expect(app.log.at(-1)!.code).toBe('method_not_allowed')
    expect(await app.me(client)).toBe(401)
  })

  it('HEAD of a callback, as link scanners send it, leaves the sign-in to the person', async () => {
    const client = browser()
    const state = await begin(app, client)
    const head = await browser().go(`${app.callback('acme')}?state=${state}`, { method: 'HEAD' })
    expect(head.status).toBe(405)
    await expectSignedIn(app, client, await answer(app, client, state))
  })

  it('an unknown connection is refused; paths that are not routes belong to the app', async () => {
    const client = browser()
    const refused = await client.go(app.start('nobody'))
    await expectRefused(app, client, refused, { code: 'connection_unknown', status: 404 })
    const long = 'a'.repeat(65)
    const strange = ['/auth/sso/%00', '/auth/sso/a%2fb/metadata', `/auth/sso/${long}`, `/auth/social/${long}`]
    for (const path of ['/auth/', '/auth/sso/acme/other', '/authx/sso/acme', '/auth/sso', ...strange]) {
      expect((await client.go(app.origin + path)).text).toContain('Cannot GET')
    }
    expect(app.jit.refusals()).toEqual({ connection_unknown: 1 })
  })
})

describe('bodies', () => {
  const to = () => app.callback('acme-saml')
  const form = { 'content-type': 'application/x-www-form-urlencoded' }

  it('a body of a megabyte is read, a larger one is not', async () => {
    const client = browser()
    const state = await begin(app, client, 'acme-saml')
    const fits = await post(app, { state, filler: 'x'.repeat(1024 * 1024 - 100) })
    expect(fits.status).toBe(303)
    const large = await post(app, { state, filler: 'x'.repeat(1024 * 1024) })
    await expectRefused(app, client, large, { code: 'answer_too_large', status: 413 })
  })

  it('a large body without a length is given up while it comes', async () => {
    const client = browser()
    // It is never closed: whoever waits for its end refuses it as one that did not arrive.
    const endless = new ReadableStream({
      start(controller) {
        for (let chunk = 0; chunk < 40; chunk++)
          controller.enqueue(new TextEncoder().encode('x'.repeat(64 * 1024)))
      },
    })
    const refused = await client.go(to(), {
      method: 'POST',
      headers: form,
      body: endless,
      duplex: 'half',
    } as never)
    await expectRefused(app, client, refused, { code: 'answer_too_large', status: 413 })
  })

  it.each(['application/json', 'text/plain', 'multipart/form-data; boundary=x', 'application/xml'])(
    'a body of type %s is refused',
    async (type) => {
      const client = browser()
      const refused = await client.go(to(), {
        method: 'POST',
        headers: { 'content-type': type },
        body: '{"state":"x"}',
      })
      await expectRefused(app, client, refused, { code: 'answer_malformed', status: 400, message: /form/ })
    },
  )

  it.each([
    ['Application/XML; charset=ann@acme.example', '', 'got "application/xml"'],
    ['ann@acme.example', '', 'got something else'],
    [`text/${'x'.repeat(127)}`, '', `got "text/${'x'.repeat(127)}"`],
    [`text/${'x'.repeat(128)}`, '', 'got something else'],
    ['application/json', 'ann@acme.example', 'the body is not JSON'],
  ])('E10 of a body that cannot be read nothing is repeated, of type %s', async (type, body, told) => {
    const request = Object.assign(Readable.from([Buffer.from(body)]), {
      method: 'POST',
      url: '/',
      headers: { 'content-type': type },
    })
    const reading = readIncoming(request as never, performance.now() + 5_000, 'form or JSON')
    const refused = inspect(await reading.catch((error: unknown) => error))
    expect(refused).toContain(told)
    expect(refused).not.toContain('ann@')
  })

  it.each(['discover', 'email', 'email/verify', 'prove'])(
    'S29 what is typed at %s is read to 32 kilobytes, in which every return address fits',
    async (route) => {
      const url = `${app.origin}/auth/${route}`
      const field = (length: number) => 'x'.repeat(length)
      const bodies = (length: number) => [
        [form, `filler=${field(length - 7)}`] as const,
        [{ 'content-type': 'application/json' }, `{"filler":"${field(length - 13)}"}`] as const,
      ]
      for (const [headers, body] of bodies(32 * 1024)) {
        const client = browser()
        const fits = await client.go(url, { method: 'POST', headers, body })
        expect(JSON.parse(fits.text).error).not.toBe('answer_too_large')
        const large = await client.go(url, { method: 'POST', headers, body: `${body} ` })
        await expectRefused(app, client, large, { code: 'answer_too_large', status: 413 })
      }
      const returnTo = `/${'界'.repeat(2_047)}`
      expect(
        `${new URLSearchParams({ email: `${'a'.repeat(242)}@o.example`, returnTo })}`.length,
      ).toBeLessThan(32 * 1024)
    },
  )

  it('S29 a form of nothing but spaces takes no longer than one of letters', async () => {
    const reading = async (sign: string) => {
      const chunks = Array.from({ length: 15 }, () => Buffer.alloc(64 * 1024, sign))
      const request = () =>
        Object.assign(Readable.from([Buffer.from('x='), ...chunks, Buffer.from('&y=%')]), {
          method: 'POST',
          url: '/',
          headers: form,
        })
      let least = Number.POSITIVE_INFINITY
      for (let round = 0; round < 5; round++) {
        const began = performance.now()
        const { body } = await readIncoming(request() as never, began + 5_000)
        least = Math.min(least, performance.now() - began)
        expect([body!.get('x')!.length, body!.get('y')]).toEqual([15 * 64 * 1024, '%'])
      }
      return least
    }
    const letters = await reading('x')
    expect(await reading('+')).toBeLessThan(letters * 4)
  })

  it('of a hundred parameters all are read, of more none', async () => {
    const client = browser()
    const filled = (state: string, count: number) => {
      const names = Array.from({ length: count }, (_, n) => [`x${n}`, ''])
      return Object.fromEntries([['state', state], ...names])
    }
    const state = await begin(app, client, 'acme-saml')
    const refused = await post(app, filled(state, 100))
    const tooMany = { code: 'answer_malformed', status: 400, message: /more than 100 parameters/ } as const
    await expectRefused(app, client, refused, tooMany)
    const body = `${'&'.repeat(100)}${new URLSearchParams({ state })}`
    const separated = await client.go(to(), { method: 'POST', headers: form, body })
    await expectRefused(app, client, separated, tooMany)
    expect((await post(app, filled(state, 99))).status).toBe(303)
    const query = new URLSearchParams(filled(await begin(app, client), 100))
    const asked = await client.go(`${app.callback('acme')}?${query}`)
    await expectRefused(app, client, asked, tooMany)
  })

  it('a body that never ends has its answer in time', async () => {
    const { hostname, port } = new URL(app.origin)
    const socket = connect(Number(port), hostname)
    try {
      await once(socket, 'connect')
      const head = `POST ${new URL(to()).pathname} HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/x-www-form-urlencoded\r\n`
      socket.write(`${head}Content-Length: 100\r\n\r\nstate=`)
      const began = performance.now()
      const [bytes] = (await once(socket, 'data')) as [Buffer]
      expect(String(bytes)).toMatch(/^HTTP\/1\.1 400 [\s\S]*answer_malformed/)
      expect(performance.now() - began).toBeGreaterThan(4_000)
      expect(performance.now() - began).toBeLessThan(9_000)
    } finally {
      socket.destroy()
    }
  })

  it('an empty body and a field twice are refused', async () => {
    const client = browser()
    const empty = await client.go(to(), { method: 'POST', headers: form, body: '' })
    await expectRefused(app, client, empty, { code: 'answer_unsolicited', status: 403 })
    const twice = await client.go(to(), { method: 'POST', headers: form, body: 'state=a&state=b' })
    await expectRefused(app, client, twice, { code: 'answer_malformed', status: 400, message: /2 times/ })
  })

  it.each([
    ['a field of a plain name', 'subject', 'the parameter "subject" came 2 times'],
    ['a line of its own', 'x\n[error] forged', 'a parameter came 2 times'],
    ['an escape of a terminal', '\u001b[2J', 'a parameter came 2 times'],
    ['an address', 'ann@acme.example', 'a parameter came 2 times'],
    ['a name without end', 'x'.repeat(400_000), 'a parameter came 2 times'],
  ])('E10 S30 that %s came twice is told in one short line', (_, name, told) => {
    const one = new URLSearchParams([[name, 'a']])
    expect(single(one, name)).toBe('a')
    one.append(name, 'b')
    expect(() => single(one, name)).toThrow(expect.objectContaining({ message: told }))
  })

  it.each([
    ['the body broke', 'sign-in failed: the body broke'],
    [
      'a\r\nb\u001b[2J\u009b\u2028\u202e\ud800',
      'sign-in failed: a\\u{d}\\u{a}b\\u{1b}[2J\\u{9b}\\u{2028}\\u{202e}\\u{d800}',
    ],
    ['x'.repeat(400_000), `sign-in failed: ${'x'.repeat(200)}…`],
  ])('S30 what a library threw is told in one short line', (thrown, told) => {
    expect(asJitError(new Error(thrown), 'unavailable', 'sign-in failed').message).toBe(told)
  })

  it('S30 the site that asked is told in one short line', async () => {
    for (const [origin, told] of [
      ['https://evil.example', 'by https://evil.example, not'],
      ['\u009b2J', 'by \\u{9b}2J, not'],
      [`https://${'x'.repeat(8_000)}`, `by https://${'x'.repeat(192)}…, not`],
    ] as const) {
      const refused = await browser().go(`${app.origin}/auth/logout`, { method: 'POST', headers: { origin } })
      expect(refused.status).toBe(403)
      expect(app.log.at(-1)!.message).toContain(told)
    }
  })

  it('a body that breaks off is refused, and the sign-in still waits', async () => {
    const client = browser()
    const state = await begin(app, client, 'acme-saml')
    const { hostname, port, pathname } = new URL(to())
    const socket = connect(Number(port), hostname)
    await once(socket, 'connect')
    socket.write(
      `POST ${pathname} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\nstate=${state}`,
    )
    setImmediate(() => socket.destroy())
    await vi.waitFor(() => expect(app.log.at(-1)?.code).toBe('answer_malformed'))
    await expectSignedIn(app, client, await client.go((await post(app, { state })).location!))
  })

  it('behind a body parser its fields are taken, and anything nested is refused', async () => {
    const parsing = await startHonest({
      mount: (server, jit) => server.use(express.urlencoded({ extended: true, limit: '2mb' }), jit.routes()),
    })
    const client = browser()
    const state = await begin(parsing, client, 'acme-saml')
    for (const body of ['state[a]=x', 'state=x&other[b][c]=1']) {
      const refused = await client.go(parsing.callback('acme-saml'), { method: 'POST', headers: form, body })
      await expectRefused(parsing, client, refused, { code: 'answer_malformed', status: 400 })
    }
    const posted = await post(parsing, { state })
    await expectSignedIn(parsing, client, await client.go(posted.location!))
    await parsing.close()
  })

  it('an empty object that a parser of Express 4 leaves, with the form unread, is no form', async () => {
    const before = await startHonest({
      mount: (server, jit) =>
        server.use((req, _res, next) => {
          req.body = req.body || {}
          next()
        }, jit.routes()),
    })
    const client = browser()
    const posted = await post(before, { state: await begin(before, client, 'acme-saml') })
    await expectSignedIn(before, client, await client.go(posted.location!))
    await before.close()
  })

  it('where something read the body and left none, the operator is told', async () => {
    const greedy = await startHonest({
      mount: (server, jit) =>
        server.use((req, _res, next) => {
          req.resume()
          req.on('end', next)
        }, jit.routes()),
    })
    const client = browser()
    const refused = await post(greedy, { state: 'x' })
    await expectRefused(greedy, client, refused, {
      code: 'body_consumed',
      status: 500,
      message: /before body parsers/,
    })
    await greedy.close()
  })
})

describe('mounting', () => {
  it.each(['/auth', '/sso-app'])('under "%s" is an error that names both paths', async (prefix) => {
    const wrong = await startHonest({ mount: (server, jit) => server.use(prefix, jit.routes()) })
    const client = browser()
    for (const path of ['/auth/sso/acme', '/sso/acme']) {
      const refused = await client.go(wrong.origin + prefix + path)
      const expected = { code: 'path_mismatch', status: 500, message: new RegExp(`"${prefix}".*"/auth/`) }
      await expectRefused(wrong, client, refused, expected)
    }
    await wrong.close()
  })

  it('an address that the app rewrote is no mount, and leads into no sign-in', async () => {
    const rewriting = await startHonest({
      mount: (server, jit) => {
        server.use((req, _res, next) => {
          req.url = req.url.replace(/^\/en\//, '/')
          next()
        })
        server.use(jit.routes())
      },
    })
    const client = browser()
    expect((await client.go(`${rewriting.origin}/en/me`)).status).toBe(401)
    const refused = await client.go(`${rewriting.origin}/en/auth/sso/acme`)
    await expectRefused(rewriting, client, refused, { code: 'path_mismatch', status: 500 })
    await expectSignedIn(rewriting, client, await answer(rewriting, client, await begin(rewriting, client)))
    await rewriting.close()
  })

  it('under another path by its option', async () => {
    const moved = await startHonest({ path: '/account/in' })
    const client = browser()
    const begun = await client.go(`${moved.origin}/account/in/sso/acme`)
    const parameters = new URL(begun.location!).searchParams
    expect(parameters.get('to')).toBe(`${moved.origin}/account/in/sso/acme/callback`)
    const done = await client.go(`${parameters.get('to')}?state=${parameters.get('state')}`)
    await expectSignedIn(moved, client, done)
    await moved.close()
  })
})

describe('a strategy that misbehaves', () => {
  it.each([
    ['throws', '&throw=boom', 'answer_malformed', 400],
    ['returns an identity of its own making', '&hand-made=1', 'identity_unproven', 500],
    ['finds an address nobody can have', '&email=not-an-address', 'identity_invalid', 403],
    ['finds no subject', '&subject=', 'identity_invalid', 403],
  ])('%s: a coded refusal', async (_name, more, code, status) => {
    const client = browser()
    const state = await begin(app, client)
    await expectRefused(app, client, await answer(app, client, state, 'acme', more), { code, status })
    await expectSignedIn(app, client, await answer(app, client, await begin(app, client)))
  })

  it('L10 gives a copy of what it proved: refused, and put on no ticket, from which it would come proved', async () => {
    let copies = true
    const strategy = honest('saml')
    const copying = {
      ...strategy,
      complete: async (...args: Parameters<typeof strategy.complete>) => {
        const proved = await strategy.complete(...args)
        return copies ? ({ ...proved } as typeof proved) : proved
      },
    }
    const own = await startHonest({ strategies: [honest('oidc'), copying] })
    const client = browser()
    const refused = await post(own, { state: await begin(own, client, 'acme-saml') })
    await expectRefused(own, client, refused, { code: 'identity_unproven', status: 500 })
    copies = false
    const posted = await post(own, { state: await begin(own, client, 'acme-saml') })
    await expectSignedIn(own, client, await client.go(posted.location!))
    await own.close()
  })

  it('that never answers is given up in time', async () => {
    const hung = await startHonest({
      connections: [oidc('acme'), saml('acme-saml')],
      strategies: [
        {
          protocol: 'oidc',
          attemptKey: () => undefined,
          begin: () => new Promise(() => {}),
          complete: () => new Promise(() => {}),
        } as never,
        {
          ...({ protocol: 'saml', attemptKey: () => undefined } as never as object),
          begin: async () => ({}),
          complete: async () => ({}),
        } as never,
      ],
    })
    const client = browser()
    const started = performance.now()
    const refused = await client.go(hung.start('acme'))
    expect(performance.now() - started).toBeLessThan(5_500)
    await expectRefused(hung, client, refused, { code: 'idp_unreachable', status: 503 })
    await hung.close()
  })
})

describe('a refusal', () => {
  it('is one line in the log and one in the count, tied to the answer by its id', async () => {
    const client = browser()
    const refused = await client.go(`${app.callback('acme')}?state=x`)
    expect(app.log).toEqual([
      {
        level: 'warn',
        code: 'attempt_unknown',
        message: expect.stringContaining('connection "acme"'),
        correlationId: refused.json().correlationId,
      },
    ])
    expect(refused.json().correlationId).toMatch(/^[0-9a-f-]{36}$/)
    expect(app.jit.refusals()).toEqual({ attempt_unknown: 1 })
    await client.go(`${app.callback('acme')}?state=x`)
    expect(app.jit.refusals()).toEqual({ attempt_unknown: 2 })
  })

  it('of the planner has the same id in its event', async () => {
    const client = browser()
    const refused = await answer(app, client, await begin(app, client), 'acme', '&email=eve@globex.example')
    await expectRefused(app, client, refused, { code: 'email_foreign', status: 403, denied: true })
    expect((await app.rows()).events[0]!.correlationId).toBe(refused.json().correlationId)
    expect(app.log).toHaveLength(1)
  })

  it('is a page to a person and JSON to a program, and holds nothing that arrived', async () => {
    const url = `${app.callback('acme')}?state=${encodeURIComponent('"><script>alert(1)</script>')}`
    const page = await browser().go(url, { headers: { accept: 'text/html,application/xhtml+xml' } })
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(page.headers.get('cache-control')).toBe('no-store')
    expect(page.text).toContain('Please start again.')
    expect(page.text).not.toContain('script>')
    for (const accept of ['application/json', '*/*']) {
      const json = await browser().go(url, { headers: { accept } })
      expect(json.headers.get('content-type')).toBe('application/json; charset=utf-8')
      expect(Object.keys(json.json())).toEqual(['error', 'message', 'correlationId'])
    }
  })
})

describe('no answer of the kit', () => {
  it('E10 is kept by caches, whether it begins, ends or refuses a sign-in', async () => {
    const client = browser()
    const form = (path: string, fields = {}) =>
      client.go(app.origin + path, { method: 'POST', body: new URLSearchParams(fields) })
    const begun = await client.go(app.start('acme'))
    const state = new URL(begun.location!).searchParams.get('state')!
    const ended = await answer(app, client, state)
    const posted = await post(app, { state: await begin(app, client, 'acme-saml') })
    const answers = {
      begun,
      ended,
      again: await answer(app, client, state),
      posted,
      redeemed: await client.go(posted.location!),
      discovered: await form('/auth/discover', { email: 'alice@acme.example' }),
      method: await client.go(app.start('acme'), { method: 'DELETE' }),
      out: await form('/auth/logout'),
    }
    const told = Object.entries(answers).map(([name, { status, headers }]) => [
      name,
      status,
      headers.get('cache-control'),
    ])
    expect(told).toEqual([
      ['begun', 302, 'no-store'],
      ['ended', 303, 'no-store'],
      ['again', 400, 'no-store'],
      ['posted', 303, 'no-store'],
      ['redeemed', 303, 'no-store'],
      ['discovered', 200, 'no-store'],
      ['method', 405, 'no-store'],
      ['out', 303, 'no-store'],
    ])
    // What is the app's own is left to it.
    expect((await client.go(`${app.origin}/me`)).headers.get('cache-control')).toBeNull()
  })
})
