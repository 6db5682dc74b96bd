import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { expectRefused, signIn } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'

// The keys of an issuer: changed, asked for too often, or not to be had.

const boundless = { consume: async () => {} }
const at = scene(
  {},
  {
    limits: { starts: boundless, answers: boundless },
    outbound: { maxBytes: 100_000 },
    now: () => Date.now(),
  },
)

const asked = () => at.acme.requests.filter((path) => path === '/jwks').length

/** A key of the issuer that it does not publish yet. */
async function anotherKey(kid: string) {
  const { privateKey, publicKey } = await generateKeyPair('RS256')
  return {
    published: { ...(await exportJWK(publicKey)), kid, use: 'sig' },
    sign: (claims: JWTPayload) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey),
  }
}

describe('O10 keys that nobody published', () => {
  it('O10 a thousand random ones are refused, and the issuer is asked for its keys once', async () => {
    await honestSignIn(at.app, 'acme', 'alice')
    const before = await at.app.rows()
    expect(asked()).toBe(1)
    at.acme.faults.idToken = (claims) =>
      at.acme.sign({ ...claims, sub: 'mallory' }, { kid: randomBytes(8).toString('hex') })
    const client = browser()
    for (let round = 0; round < 100; round++) {
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => signIn(at.app, 'acme', 'ann', browser())),
      )
      for (const { status, text } of answers) {
        expect([status, JSON.parse(text).error]).toEqual([403, 'assertion_refused'])
      }
    }
    expect(asked()).toBe(1)
    const last = await signIn(at.app, 'acme', 'ann', client)
    await expectRefused(at.app, client, last, { code: 'assertion_refused', status: 403 }, before)
    delete at.acme.faults.idToken
    await honestSignIn(at.app, 'acme', 'alice')
  }, 240_000)
})

describe('O10 keys that change', () => {
  afterEach(() => void vi.useRealTimers())
  const pass = (seconds: number) => {
    const now = Date.now()
    vi.useFakeTimers({ toFake: ['Date'], now: now + seconds * 1_000 })
  }

  it('O10 a new key signs in once a minute has passed since the keys were read, and the old one no longer does', async () => {
    at.acme.faults.idToken = (claims) => at.acme.sign(claims)
    await honestSignIn(at.app, 'acme', 'alice')
    expect(asked()).toBe(1)
    const next = await anotherKey('next')
    at.acme.faults.jwks = () => ({ keys: [next.published] })
    at.acme.faults.idToken = (claims) => next.sign(claims)
    const early = browser()
    const refusal = { code: 'assertion_refused', status: 403 }
    await expectRefused(
      at.app,
      early,
      await signIn(at.app, 'acme', 'alice', early),
      refusal,
      await at.app.rows(),
    )
    expect(asked()).toBe(1)
    pass(61)
    await honestSignIn(at.app, 'acme', 'alice')
    expect(asked()).toBe(2)
    at.acme.faults.idToken = (claims) => at.acme.sign(claims)
    const late = browser()
    await expectRefused(
      at.app,
      late,
      await signIn(at.app, 'acme', 'alice', late),
      refusal,
      await at.app.rows(),
    )
    expect(asked()).toBe(2)
  })

  it('O10 a key that is withdrawn is good for five minutes more at most', async () => {
    at.acme.faults.idToken = (claims) => at.acme.sign(claims)
    await honestSignIn(at.app, 'acme', 'alice')
    const next = await anotherKey('next')
    at.acme.faults.jwks = () => ({ keys: [next.published] })
    pass(301)
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    const refusal = { code: 'assertion_refused', status: 403 }
    await expectRefused(at.app, client, answer, refusal, await at.app.rows())
    at.acme.faults.idToken = (claims) => next.sign(claims)
    await honestSignIn(at.app, 'acme', 'alice')
  })
})

/** Answers in the issuer's stead when it is asked for its keys. */
const instead = (answer: (res: ServerResponse) => unknown) => {
  at.acme.faults.intercept = (req, res) => {
    if (!req.url!.endsWith('/jwks')) return false
    answer(res)
    return true
  }
}

async function unavailable() {
  const client = browser()
  const refused = await signIn(at.app, 'acme', 'alice', client)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  await expectRefused(at.app, client, refused, { code: 'idp_unreachable', status: 503 })
  delete at.acme.faults.intercept
  await honestSignIn(at.app, 'acme', 'alice')
  expect((await at.app.rows()).users).toHaveLength(1)
}

describe('O10 keys that cannot be had', () => {
  it.each<[string, (res: ServerResponse) => unknown]>([
    ['an error', (res) => res.writeHead(500).end('{}')],
    ['a redirect', (res) => res.writeHead(302, { location: `${at.globex.issuer}/jwks` }).end()],
    ['no JSON', (res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<p>Soon')],
    ['more than is kept', (res) => res.end(JSON.stringify({ keys: Array(22_000).fill({}) }))],
    ['more than is read', (res) => res.end(JSON.stringify({ keys: [], padding: 'x'.repeat(100_000) }))],
  ])('O10 %s for keys: unavailable, nothing is kept, and trying again signs in', async (_name, answer) => {
    instead(answer)
    await unavailable()
  })

  it('O10 keys that never come: unavailable while the person still waits, and trying again signs in', async () => {
    instead((res) => res.writeHead(200, { 'content-type': 'application/json' }).write('{'))
    const begun = performance.now()
    await unavailable()
    expect(performance.now() - begun).toBeLessThan(10_000)
  })

  it.each([
    ['none', []],
    ['a secret one', [{ kty: 'oct', k: 'c2VjcmV0', kid: 'rig' }]],
    ['one for encrypting', 'enc'],
  ])('O10 keys of which there is %s are no keys: refused', async (_name, keys) => {
    at.acme.faults.jwks = () => ({
      keys: keys === 'enc' ? [{ ...at.acme.keys.published, use: 'enc' }] : (keys as object[]),
    })
    at.acme.faults.idToken = (claims) => at.acme.sign(claims)
    const client = browser()
    const refused = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, refused, { code: 'assertion_refused', status: 403 })
  })
})
