import { readdirSync, readFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { createJit, JitError, type JitOptions, staticDirectory, storeDirectory } from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { socialStrategy } from 'passport-jit/strategies/social'
import { afterEach, describe, expect, it } from 'vitest'
import { sharing } from '../../lib/outbound.js'
import { type App, expectRefused, oidcConnection, startApp, twoOrganizations } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { guard, peers } from '../rig/outbound.js'
import { providers } from '../rig/social-app.js'
import { testStore } from '../rig/store.js'

// What an issuer's address, name, answer or document can make the app's own machine ask, over real sockets.

const at = peers()

/** A refusal by the guard; its message. */
async function refusal(asked: Promise<unknown>): Promise<string> {
  const error = await asked.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(JitError)
  expect((error as JitError).code).toBe('idp_unreachable')
  return (error as JitError).message
}

const to = (address: string) => async () => [address]

describe('O21 a name server that does not answer', () => {
  it('is asked for a name once, however many ask for it, and again when that is over', async () => {
    const asked: string[] = []
    let end = (_: Error) => {}
    const look = sharing((name) => {
      asked.push(name)
      return new Promise<never>((_, reject) => {
        end = reject
      })
    })
    const all = Promise.allSettled(['idp.example', 'idp.example', 'idp.example'].map(look))
    expect(asked).toEqual(['idp.example'])
    end(new Error('ETIMEOUT'))
    expect((await all).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    void look('idp.example').catch(() => {})
    void look('other.example').catch(() => {})
    expect(asked).toEqual(['idp.example', 'idp.example', 'other.example'])
  })
})

describe('O21 an address that is not public', () => {
  it('is not connected to, the message says where it is and how to allow it, and allowed it is asked', async () => {
    const url = `${at.secure.origin}/path?secret=1`
    const message = await refusal(guard().ask(url))
    expect(message).toBe(
      `connection "acme": GET ${at.secure.origin}/path: 127.0.0.1 is no public address (loopback); ` +
        'if it is meant, allow it with createJit({ outbound: { allow: ["127.0.0.1"] } })',
    )
    expect(at.secure.connections).toBe(0)
    expect((await guard({ allow: ['127.0.0.1'] }).ask(url)).status).toBe(200)
    expect(at.secure.seen.map((request) => request.url)).toEqual(['/path?secret=1'])
  })

  it.each(['2130706433', '0x7f000001', '017700000001', '127.1', '127.0.0.1.', '１２７.０.０.１'])(
    'written as %s is the same address',
    async (host) => {
      const url = `https://${host}:${at.secure.port}/`
      expect(await refusal(guard().ask(url))).toContain('127.0.0.1 is no public address')
      expect(at.secure.connections).toBe(0)
      expect((await guard({ allow: ['127.0.0.1'] }).ask(url)).status).toBe(200)
    },
  )

  it.each(['[::ffff:127.0.0.1]', '[::ffff:7f00:1]'])('written as %s is the same address', async (host) => {
    const url = `https://${host}:${at.secure.port}/`
    expect(await refusal(guard().ask(url))).toContain('127.0.0.1 is no public address')
    expect(at.secure.connections).toBe(0)
    expect(guard({ allow: ['127.0.0.1'] }).refused(url)).toBeNull()
  })

  it('behind a name is not connected to', async () => {
    const url = `https://idp.example:${at.secure.port}/`
    const message = await refusal(guard({ lookup: to('127.0.0.1') }).ask(url))
    expect(message).toContain(`GET ${url}: idp.example: 127.0.0.1 is no public address (loopback)`)
    expect(message).toContain('allow: ["127.0.0.1"]')
    expect(at.secure.connections).toBe(0)
    expect((await guard({ lookup: to('127.0.0.1'), allow: ['127.0.0.0/8'] }).ask(url)).status).toBe(200)
  })

  it('behind the system’s own names is not connected to', async () => {
    const url = `https://localhost:${at.secure.port}/`
    expect(await refusal(guard().ask(url))).toMatch(/localhost: (127\.0\.0\.1|::1) is no public address/)
    expect(at.secure.connections).toBe(0)
  })

  it.each([
    ['10.0.0.5'],
    ['169.254.169.254'],
    ['::ffff:169.254.169.254'],
    ['64:ff9b::a9fe:a9fe'],
    ['fd00::1'],
    ['fe80::1%eth0'],
    ['0.0.0.0'],
    ['168.63.129.16'],
    ['not an address'],
  ])('%s refuses the whole name, wherever it stands among its addresses', async (address) => {
    const url = `https://idp.example:${at.secure.port}/`
    for (const addresses of [[address], [address, '127.0.0.1'], ['127.0.0.1', address]]) {
      const asked = guard({ allow: ['127.0.0.1'], lookup: async () => addresses }).ask(url)
      expect(await refusal(asked)).toMatch(/idp\.example: .* is no public address/)
    }
    expect(at.secure.connections).toBe(0)
    expect((await guard({ allow: ['127.0.0.1'], lookup: to('127.0.0.1') }).ask(url)).status).toBe(200)
  })

  it('is not made up where a name has none', async () => {
    const asked = guard({ lookup: async () => [] }).ask('https://idp.example/')
    expect(await refusal(asked)).toMatch(/: idp\.example has no address$/)
  })

  it('is this machine for an entry that is set up for developing, and nothing else', async () => {
    expect(await refusal(guard().ask(at.plain.origin))).toContain('plain http')
    expect(at.plain.connections).toBe(0)
    expect((await guard().askPlainly(at.plain.origin)).status).toBe(200)
    expect((await guard().askPlainly(`http://localhost:${at.plain.port}/`)).status).toBe(200)
    const named = guard({ lookup: to('10.0.0.5') }).askPlainly(`http://idp.example:${at.plain.port}/`)
    expect(await refusal(named)).toContain('10.0.0.5 is no public address (private)')
    expect(await refusal(guard().askPlainly('http://192.168.0.1/'))).toContain('192.168.0.1')
  })
})

describe('O21 a name that changes its mind (DNS rebinding)', () => {
  it('is resolved once for a connection: the address that was checked is the one connected to', async () => {
    const addresses = ['127.0.0.1', at.insideAddress, '169.254.169.254']
    const { ask } = guard({ allow: ['127.0.0.1'], lookup: async () => [addresses.shift()!] })
    const url = `https://idp.example:${at.secure.port}/`
    expect((await ask(url)).status).toBe(200)
    expect(addresses).toHaveLength(2)
    expect(at.secure.connections).toBe(1)
  })

  it('is checked again for every connection, and none is kept for the next request', async () => {
    let address = '127.0.0.1'
    const { ask } = guard({ allow: ['127.0.0.1'], lookup: async () => [address] })
    const url = `https://idp.example:${at.inside.port}/`
    at.secure.answer = (_, res) => res.setHeader('connection', 'keep-alive').end('{}')
    expect((await ask(`https://idp.example:${at.secure.port}/`)).status).toBe(200)
    address = at.insideAddress
    expect(await refusal(ask(url))).toContain(`idp.example: ${at.insideAddress} is no public address`)
    expect(await refusal(ask(`https://idp.example:${at.secure.port}/`))).toContain('is no public address')
    expect([at.secure.connections, at.inside.connections]).toEqual([1, 0])
    await at.secure.idle()
    const allowed = guard({ allow: [at.insideAddress], lookup: async () => [address] })
    expect((await allowed.ask(url)).status).toBe(200)
  })
})

describe('O21 a redirect', () => {
  it.each([301, 302, 303, 307, 308])(
    'with status %i is not followed, and its origin is named',
    async (status) => {
      at.plain.answer = (_, res) =>
        res.writeHead(status, { location: `${at.inside.origin}/latest?token=secret` }).end()
      const message = await refusal(guard({ allow: ['0.0.0.0/0', '::/0'] }).askPlainly(at.plain.origin))
      expect(message).toContain(`HTTP ${status} to ${at.inside.origin}; redirects are not followed`)
      expect(message).not.toContain('secret')
      expect(at.inside.connections).toBe(0)
      at.plain.answer = (_, res) => res.writeHead(200, { location: at.inside.origin }).end('{}')
      expect((await guard().askPlainly(at.plain.origin)).status).toBe(200)
    },
  )

  it.each([
    ['/elsewhere', (origin: string) => ` to ${origin};`],
    ['http://[', () => 'HTTP 302;'],
    ['javascript:alert(1)', () => ' to null;'],
  ])('to %s is not followed either', async (location, expected) => {
    at.plain.answer = (_, res) => res.writeHead(302, { location }).end()
    expect(await refusal(guard().askPlainly(at.plain.origin))).toContain(expected(at.plain.origin))
    expect(at.plain.seen).toHaveLength(1)
  })

  it('with a body that never ends is let go of', async () => {
    at.plain.answer = (_, res) => void res.writeHead(302, { location: '/' }).write('x')
    const begun = performance.now()
    expect(await refusal(guard().askPlainly(at.plain.origin))).toContain('HTTP 302')
    await at.plain.idle()
    expect(performance.now() - begun).toBeLessThan(2_000)
  })
})

describe('O21 an answer that takes too long', () => {
  const headersByTheByte = (_: unknown, res: ServerResponse) => {
    const { socket } = res
    socket!.write('HTTP/1.1 200 OK\r\n')
    const timer = setInterval(() => socket!.write('x: y\r\n'), 20)
    socket!.once('close', () => clearInterval(timer))
  }
  const byTheByte = (_: unknown, res: ServerResponse) => {
    const timer = setInterval(() => res.write(' '), 20)
    res.once('close', () => clearInterval(timer))
  }

  it.each<[string, (_: unknown, res: ServerResponse) => void]>([
    ['none at all', () => {}],
    ['headers alone', (_, res) => res.flushHeaders()],
    ['half of it', (_, res) => void res.writeHead(200, { 'content-length': 10 }).write('{')],
    ['headers one by one', headersByTheByte],
    ['bytes one by one', byTheByte],
  ])('%s is cut, and the connection is closed', async (_name, answer) => {
    at.plain.answer = answer
    const { askPlainly } = guard({ timeout: 300 })
    const begun = performance.now()
    expect(await refusal(askPlainly(at.plain.origin))).toMatch(/no answer in time$/)
    expect(performance.now() - begun).toBeGreaterThan(250)
    expect(performance.now() - begun).toBeLessThan(2_000)
    expect(at.plain.connections).toBe(1)
    await at.plain.idle()
    at.plain.answer = (_, res) => void setTimeout(() => res.end('{}'), 50)
    expect((await askPlainly(at.plain.origin)).status).toBe(200)
  })

  it('a name that is never resolved is given up as well', async () => {
    const silent = guard({ timeout: 300, lookup: () => new Promise(() => {}) })
    expect(await refusal(silent.ask('https://idp.example/'))).toMatch(/no answer in time$/)
  })

  it('the deadline of the sign-in ends it earlier', async () => {
    const stop = new AbortController()
    at.plain.answer = () => stop.abort()
    const asked = guard({ timeout: 5_000 }).askPlainly(at.plain.origin, { signal: stop.signal })
    const begun = performance.now()
    expect(await refusal(asked)).toMatch(/no answer in time$/)
    expect(performance.now() - begun).toBeLessThan(2_000)
    await at.plain.idle()
    expect(await refusal(guard().askPlainly(at.plain.origin, { signal: stop.signal }))).toMatch(/in time$/)
  })
})

describe('O21 an answer that is too large', () => {
  const limited = () => guard({ maxBytes: 1_000, timeout: 1_000 })

  it.each<[string, (size: number) => (_: unknown, res: ServerResponse) => void]>([
    [
      'said beforehand',
      (size) => (_, res) => void res.writeHead(200, { 'content-length': size }).end('x'.repeat(size)),
    ],
    [
      'in pieces',
      (size) => (_, res) => {
        res.write('x'.repeat(600))
        res.end('x'.repeat(size - 600))
      },
    ],
  ])('%s: a thousand bytes are read, one more is not', async (_name, of) => {
    at.plain.answer = of(1_000)
    expect((await (await limited().askPlainly(at.plain.origin)).text()).length).toBe(1_000)
    at.plain.answer = of(1_001)
    expect(await refusal(limited().askPlainly(at.plain.origin))).toMatch(
      /the answer is larger than 1000 bytes$/,
    )
  })

  it('without an end is cut while it comes, and the connection is closed', async () => {
    let sent = 0
    at.plain.answer = (_, res) => {
      const piece = Buffer.alloc(64 * 1024, ' ')
      const more = () => {
        while (!res.destroyed && res.write(piece)) sent += piece.length
      }
      res.on('drain', more)
      more()
    }
    expect(await refusal(limited().askPlainly(at.plain.origin))).toMatch(/larger than 1000 bytes$/)
    await at.plain.idle()
    expect(sent).toBeLessThan(64 * 1024 * 1024)
  })

  it('by its headers is cut by Node', async () => {
    at.plain.answer = (_, res) => {
      for (let at = 0; at < 100; at++) res.setHeader(`x-${at}`, 'x'.repeat(1_000))
      res.end('{}')
    }
    expect(await refusal(limited().askPlainly(at.plain.origin))).toMatch(/HPE_HEADER_OVERFLOW$/)
  })

  it('after unpacking cannot be: nothing packed is asked for, and nothing is unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(500_000))
    at.plain.answer = (_, res) => res.setHeader('content-encoding', 'gzip').end(bomb)
    const answer = await limited().askPlainly(at.plain.origin, { headers: { 'accept-encoding': 'gzip' } })
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(bomb)
    expect(at.plain.seen[0]!.headers['accept-encoding']).toBe('identity')
  })
})

describe('O21 an honest request', () => {
  it('arrives as it was made, and its answer as it was given', async () => {
    at.plain.answer = (_, res) =>
      res
        .writeHead(400, { 'content-type': 'application/json', 'set-cookie': ['a=1', 'b=2'] })
        .end('{"error":"ü"}')
    const answer = await guard().askPlainly(new URL('/token', at.plain.origin), {
      method: 'POST',
      headers: new Headers({ accept: 'application/json', authorization: 'Basic eA==' }),
      body: new URLSearchParams({ code: 'ü&' }),
    })
    expect(at.plain.seen).toMatchObject([
      {
        method: 'POST',
        url: '/token',
        body: 'code=%C3%BC%26',
        headers: {
          accept: 'application/json',
          authorization: 'Basic eA==',
          'content-type': 'application/x-www-form-urlencoded;charset=UTF-8',
          'content-length': '14',
        },
      },
    ])
    expect([answer.status, answer.headers.getSetCookie()]).toEqual([400, ['a=1', 'b=2']])
    expect(await answer.json()).toEqual({ error: 'ü' })
  })

  it('may be a Request, and its answer may be empty', async () => {
    at.plain.answer = (_, res) => res.writeHead(204).end()
    const answer = await guard().askPlainly(new Request(at.plain.origin, { method: 'DELETE' }))
    expect([answer.status, await answer.text(), at.plain.seen[0]!.method]).toEqual([204, '', 'DELETE'])
  })

  it('leaves no connection behind', async () => {
    await Promise.all([1, 2, 3].map(() => guard().askPlainly(at.plain.origin)))
    expect(at.plain.connections).toBe(3)
    await at.plain.idle()
  })

  it.each([
    [
      'a certificate for another name',
      () => `https://other.example:${at.secure.port}/`,
      'ERR_TLS_CERT_ALTNAME_INVALID',
    ],
    ['a port where nobody listens', () => 'https://idp.example:1/', 'ECONNREFUSED'],
    ['a server that speaks no TLS', () => `https://idp.example:${at.plain.port}/`, 'EPROTO'],
  ])('%s is refused with the system’s word for it', async (_name, url, code) => {
    const { ask } = guard({ allow: ['127.0.0.1'], lookup: to('127.0.0.1') })
    expect(await refusal(ask(url()))).toContain(code)
    expect((await ask(`https://idp.example:${at.secure.port}/`)).status).toBe(200)
  })

  it('a password in an address is not repeated', async () => {
    const message = await refusal(guard().ask('https://someone:secret@idp.example/x'))
    expect(message).toMatch(/^connection "acme": GET https:\/\/idp\.example\/x: .*password/)
    expect(message).not.toContain('secret')
  })
})

describe('O21 the app’s own fetch', () => {
  it('decides by itself which addresses are asked', async () => {
    const asked: string[] = []
    const own: typeof fetch = async (input) => {
      asked.push(String(input))
      return Response.json({})
    }
    expect((await guard({}, own).ask('https://10.0.0.5/')).status).toBe(200)
    expect(asked).toEqual(['https://10.0.0.5/'])
    expect(await refusal(guard({}, own).ask('http://10.0.0.5/'))).toContain('plain http')
  })

  it('is held to the limits of time and size all the same', async () => {
    const pull = async (controller: ReadableStreamDefaultController) => {
      await new Promise((resolve) => setImmediate(resolve))
      controller.enqueue(new Uint8Array(100))
    }
    const endless = new ReadableStream({ pull })
    const { ask } = guard({ maxBytes: 1_000 }, async () => new Response(endless))
    expect(await refusal(ask('https://idp.example/'))).toMatch(/larger than 1000 bytes$/)
    const hangs = guard({ timeout: 100 }, () => new Promise(() => {}))
    expect(await refusal(hangs.ask('https://idp.example/'))).toMatch(/no answer in time$/)
  })

  it('is refused what it brings from a redirect, even if it follows them unasked', async () => {
    at.plain.answer = (_, res) => {
      if (at.plain.seen.length === 1) res.writeHead(302, { location: '/elsewhere' }).end()
      else res.end('{}')
    }
    const follows: typeof fetch = (input, init) => fetch(input, { ...init, redirect: 'follow' })
    expect(await refusal(guard({}, follows).askPlainly(at.plain.origin))).toMatch(
      /redirects are not followed/,
    )
    expect((await guard({}, follows).askPlainly(at.plain.origin)).status).toBe(200)
    const asksOnly = guard({}, fetch)
    at.plain.answer = (_, res) => res.writeHead(302, { location: at.inside.origin }).end()
    expect(await refusal(asksOnly.askPlainly(at.plain.origin))).toMatch(/redirects are not followed/)
    expect(at.inside.connections).toBe(0)
  })
})

describe('O21 in a sign-in', () => {
  let app: App
  afterEach(() => app.close())

  /** Acme's issuer is `idp.example`, over https; whatever its document says, `internal.example` is inside. */
  async function start(options: { allow?: string[]; document?: Record<string, string> } = {}) {
    const issuer = `https://idp.example:${at.secure.port}`
    const document = {
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      jwks_uri: `${issuer}/jwks`,
      id_token_signing_alg_values_supported: ['RS256'],
      ...options.document,
    }
    at.secure.answer = (req, res) => {
      const known = req.url === '/.well-known/openid-configuration'
      res.writeHead(known ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(document))
    }
    at.inside.answer = (_, res) => res.writeHead(404).end()
    app = await startApp({
      connections: [oidcConnection('acme', { issuer }, { allowInsecureRequests: false })],
      outbound: {
        allow: options.allow ?? ['127.0.0.1'],
        lookup: async (name) => [name === 'internal.example' ? at.insideAddress : '127.0.0.1'],
      },
    })
    const client = browser()
    return { client, begun: await client.go(app.start('acme')) }
  }
  const expected = { code: 'idp_unreachable', status: 503 }

  it('an issuer whose name leads inside is not asked; allowed it is', async () => {
    const { client, begun } = await start({ allow: [] })
    const message =
      /^connection "acme": GET https:\/\/idp\.example.*127\.0\.0\.1 is no public address.*outbound/
    await expectRefused(app, client, begun, { ...expected, message })
    expect(begun.text).not.toContain('127.0.0.1')
    expect(at.secure.connections).toBe(0)
    await app.close()
    expect((await start()).begun.status).toBe(302)
  })

  it('an issuer whose metadata redirects inside makes no request there', async () => {
    const issuer = `https://idp.example:${at.secure.port}`
    const { begun, client } = await start()
    expect(begun.status).toBe(302)
    await app.close()
    app = await startApp({
      connections: [oidcConnection('acme', { issuer }, { allowInsecureRequests: false })],
      outbound: { allow: ['0.0.0.0/0', '::/0'], lookup: to('127.0.0.1') },
    })
    at.secure.answer = (_, res) => res.writeHead(302, { location: `${at.inside.origin}/latest` }).end()
    const answer = await client.go(app.start('acme'))
    await expectRefused(app, client, answer, { ...expected, message: /redirects are not followed/ })
    expect(at.inside.connections).toBe(0)
  })

  it('a document that names an endpoint inside makes no request there', async () => {
    const token_endpoint = `https://internal.example:${at.inside.port}/token`
    const finish = async ({ client, begun }: Awaited<ReturnType<typeof start>>) => {
      expect(begun.status, begun.text).toBe(302)
      const state = new URL(begun.location!).searchParams.get('state')
      const answer = await client.go(`${app.callback('acme')}?code=x&state=${state}`)
      return { client, answer }
    }
    const refused = await finish(await start({ document: { token_endpoint } }))
    const message = /POST https:\/\/internal\.example:\d+\/token: internal\.example: .* is no public address/
    await expectRefused(app, refused.client, refused.answer, { ...expected, message })
    expect(at.inside.connections).toBe(0)
    await app.close()
    const allowed = ['127.0.0.1', at.insideAddress]
    const asked = await finish(await start({ document: { token_endpoint }, allow: allowed }))
    await expectRefused(app, asked.client, asked.answer, { ...expected, message: /HTTP status 404/ })
    expect(at.inside.seen.map(({ method, url }) => `${method} ${url}`)).toEqual(['POST /token'])
  })

  it.each(['plain', 'secure'] as const)(
    'an administrator who types an issuer on this machine (%s) and that it may be asked does not have it asked',
    async (peer) => {
      const { store, another, close } = await testStore()
      const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]
      const typed = {
        organizations: twoOrganizations,
        connections: [oidcConnection('acme', { issuer: at[peer].origin })],
      }
      const closed = storeDirectory({ store, keys })
      const open = storeDirectory({ store: await another(), keys, allowInsecureRequests: true })
      const begin = async (directory: typeof open) => {
        app = await startApp({ store, directory })
        const client = browser()
        return { client, begun: await client.go(app.start('acme')) }
      }
      await expect(closed.import(typed)).rejects.toMatchObject({
        code: 'config_invalid',
        problems: [expect.stringMatching(/^connection "acme": allowInsecureRequests: .*storeDirectory/)],
      })
      const unknown = await begin(closed)
      await expectRefused(app, unknown.client, unknown.begun, { code: 'connection_unknown', status: 404 })
      await app.close()

      // Kept when it was allowed, or written past the import.
      expect((await open.import(typed)).written).toContain('acme')
      await closed.refresh()
      const { client, begun } = await begin(closed)
      const why =
        peer === 'plain'
          ? { code: 'config_invalid', status: 500, message: /plain http is refused/ }
          : { ...expected, message: /127\.0\.0\.1 is no public address/ }
      await expectRefused(app, client, begun, why)
      expect(at[peer].connections).toBe(0)
      await app.close()

      await begin(open)
      expect(at[peer].seen.map(({ url }) => url)).toEqual(['/.well-known/openid-configuration'])
      await close()
    },
  )

  it.each(['authorization_endpoint', 'token_endpoint', 'jwks_uri'])(
    'a document whose %s is plain http sends nobody away',
    async (endpoint) => {
      const address = `idp.example:${at.secure.port}/elsewhere`
      const { client, begun } = await start({ document: { [endpoint]: `http://${address}` } })
      const message = new RegExp(`"${endpoint}" of https://idp\\.example:\\d+ is plain http`)
      await expectRefused(app, client, begun, { ...expected, message })
      await app.close()
      expect((await start({ document: { [endpoint]: `https://${address}` } })).begun.status).toBe(302)
    },
  )

  it('an issuer that calls itself another is refused', async () => {
    const { client, begun } = await start({ document: { issuer: 'https://login.example' } })
    await expectRefused(app, client, begun, { ...expected, message: /login\.example/ })
    await app.close()
    expect((await start()).begun.status).toBe(302)
  })
})

describe('O21 what createJit says at the start', () => {
  const organizations = twoOrganizations!
  const make = (more: Partial<JitOptions>, directory = staticDirectory({ organizations })) =>
    createJit({
      baseUrl: 'https://app.example',
      store: memoryStore(),
      lock: memoryLock(),
      once: memoryOnce(),
      directory,
      strategies: [oidcStrategy(), socialStrategy()],
      log: () => {},
      ...more,
    })
  const problem = (run: () => unknown) => {
    try {
      run()
    } catch (error) {
      expect(error).toMatchObject({ code: 'config_invalid' })
      return (error as JitError).message
    }
    return null
  }

  it.each<[string, unknown, RegExp]>([
    ['a network that is no list', { allow: '10.0.0.0/8' }, /outbound\.allow: /],
    [
      'a network that is none',
      { allow: ['10.0.0.0/8', '10.0.0.0/33'] },
      /outbound\.allow\.1: an address or a network/,
    ],
    ['a name', { allow: ['intranet.example'] }, /outbound\.allow\.0: an address or a network/],
    ['no time', { timeout: 0 }, /outbound\.timeout: /],
    ['more time than a request has', { timeout: 5_001 }, /outbound\.timeout: /],
    ['no size', { maxBytes: 0 }, /outbound\.maxBytes: /],
    ['a lookup that is none', { lookup: '8.8.8.8' }, /outbound\.lookup: a function/],
    ['an unknown key', { allowed: [] }, /outbound\.allowed: there is no such option/],
  ])('%s is refused by its key', (_name, options, message) => {
    expect(problem(() => make({ outbound: options as never }))).toMatch(message)
  })

  it('options that are right are taken, and those without effect are not', () => {
    const right = {
      allow: ['10.0.0.0/8', 'fd00::/8', '10.0.0.1', '::1'],
      timeout: 5_000,
      maxBytes: 1,
      lookup: to('x'),
    }
    expect(problem(() => make({ outbound: right }))).toBeNull()
    expect(problem(() => make({ outbound: { timeout: 1 }, fetch }))).toBeNull()
    expect(problem(() => make({ outbound: { allow: [] }, fetch }))).toMatch(/outbound\.allow: .*"fetch"/)
    expect(problem(() => make({ outbound: { lookup: to('x') }, fetch }))).toMatch(
      /outbound\.lookup: .*"fetch"/,
    )
    expect(problem(() => make({ fetch: 'x' as never }))).toMatch(/fetch: a function/)
  })

  const inside = 'https://10.0.0.5/x'
  it.each([
    ['connection "acme": issuer', { connections: [oidcConnection('acme', { issuer: inside })] }],
    ['provider "oidc": issuer', { social: [{ ...providers.oidc, issuer: inside }] }],
    ['provider "oauth2": tokenEndpoint', { social: [{ ...providers.oauth2, tokenEndpoint: inside }] }],
    ['provider "oauth2": profileEndpoint', { social: [{ ...providers.oauth2, profileEndpoint: inside }] }],
    ['provider "oauth2": emailsEndpoint', { social: [{ ...providers.oauth2, emailsEndpoint: inside }] }],
  ])('%s with a private address is refused by its key, unless allowed', (key, entries) => {
    const directory = staticDirectory({ organizations, ...entries })
    const found = problem(() => make({}, directory))
    expect(found).toContain(`${key}: 10.0.0.5 is no public address (private)`)
    expect(found).toContain('outbound: { allow: ["10.0.0.5"] }')
    expect(problem(() => make({ outbound: { allow: ['10.0.0.5'] } }, directory))).toBeNull()
    expect(problem(() => make({ fetch }, directory))).toBeNull()
  })

  it('an address that only browsers go to may be anywhere', () => {
    const social = [{ ...providers.oauth2, authorizationEndpoint: inside }]
    expect(problem(() => make({}, staticDirectory({ organizations, social })))).toBeNull()
  })
})

describe('O21 the guard is the only way out', () => {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const files = ['lib', 'strategies'].flatMap((room) =>
    readdirSync(root + room).map((name) => `${room}/${name}`),
  )
  /** What opens a connection or resolves a name by itself, types aside. */
  const opens =
    /^import (?!type\b).* from '(?:node:)?(?:https?|http2|tls|dgram|dns|dns\/promises|undici)'|\bcreateConnection\b|(?<!\.)\bfetch\(|\bglobalThis\.fetch\(/m

  it('nothing else in the engine or a strategy opens a connection, but the command that an operator points at an app', () => {
    const found = files.filter((file) => opens.test(readFileSync(root + file, 'utf8')))
    expect(found).toEqual(['lib/doctor.ts', 'lib/outbound.ts'])
  })

  it('SAML asks nobody: metadata is part of the configuration, and certificates are not looked up', () => {
    const saml = files.filter((file) => file.startsWith('strategies/saml'))
    expect(saml.length).toBeGreaterThan(0)
    for (const file of saml) expect(readFileSync(root + file, 'utf8'), file).not.toMatch(/\bfetch\b/)
  })
})
