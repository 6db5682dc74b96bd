import { createJit, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { afterEach, describe, expect, test } from 'vitest'
import type { App } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { answer, begin, honest, post, startHonest } from './honest.js'

// One client may ask only so much before anything expensive is done for it; others are not held up by it.

let app: App
afterEach(() => app?.close())

const points = (count: number) => new RateLimiterMemory({ points: count, duration: 60 })

describe('Starts of sign-ins', () => {
  test('beyond the limit are refused with the time to wait, before anything is kept; discovery counts too', async () => {
    const kept: string[] = []
    const once = memoryOnce()
    const counting = {
      ...once,
      put: (key: string, value: string, ttl: number) => {
        kept.push(key)
        return once.put(key, value, ttl)
      },
    }
    app = await startHonest({ limits: { starts: points(2) }, once: counting })
    await begin(app, browser())
    const asked = await browser().go(`${app.origin}/auth/discover`, {
      method: 'POST',
      body: new URLSearchParams({ email: 'alice@acme.example' }),
    })
    expect(asked.status).toBe(200)
    expect(kept).toHaveLength(1)
    const refused = await browser().go(app.start('acme'))
    expect([refused.status, JSON.parse(refused.text).error]).toEqual([429, 'too_many_requests'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(kept).toHaveLength(1)
  })

  test.each<[string, () => Promise<{ status: number }>]>([
    ['metadata', () => browser().go(`${app.origin}/auth/sso/acme-saml/metadata`)],
    ['a page of ways to prove an account', () => browser().go(`${app.origin}/auth/prove?ticket=x`)],
    [
      'a mailed code',
      () =>
        browser().go(`${app.origin}/auth/email`, {
          method: 'POST',
          body: new URLSearchParams({ email: 'x' }),
        }),
    ],
  ])('%s counts as a start', async (_what, ask) => {
    app = await startHonest({ limits: { starts: points(1) } })
    expect((await ask()).status).not.toBe(429)
    expect((await ask()).status).toBe(429)
  })

  test('of one client do not hold up another, nor an answer that is on its way', async () => {
    app = await startHonest({ limits: { starts: points(1) } })
    const client = browser()
    const state = await begin(app, client)
    expect((await client.go(app.start('acme'))).status).toBe(429)
    expect((await answer(app, client, state)).status).toBe(303)
  })

  test('are counted by network, for one machine can have a whole IPv6 network', async () => {
    app = await startHonest({
      limits: { starts: points(1) },
      mount: (server, jit) => {
        server.set('trust proxy', 1)
        server.use(jit.routes())
      },
    })
    const start = async (ip: string) =>
      (await browser().go(app.start('acme'), { headers: { 'x-forwarded-for': ip } })).status
    expect(await start('2001:db8:7:7::1')).toBe(302)
    expect(await start('2001:DB8:7:7:ffff::2')).toBe(429)
    expect(await start('2001:db8:7:8::1')).toBe(302)
    expect(await start('203.0.113.7')).toBe(302)
    expect(await start('::ffff:203.0.113.7')).toBe(429)
    expect(await start('::ffff:203.0.113.8')).toBe(302)
  })
})

describe('Answers', () => {
  test('beyond the limit are refused before they are read', async () => {
    const read: string[] = []
    const strategy = honest('saml')
    const counting = {
      ...strategy,
      attemptKey: (incoming: never) => {
        read.push('read')
        return strategy.attemptKey(incoming)
      },
    } as typeof strategy
    app = await startHonest({ limits: { answers: points(2) }, strategies: [honest('oidc'), counting] })
    for (const status of [400, 400, 429]) {
      const refused = await post(app, { state: 'x'.repeat(43), SAMLResponse: 'x' })
      expect(refused.status).toBe(status)
    }
    expect(read).toHaveLength(2)
  })

  test('within it end their sign-in, and the ticket of a SAML answer counts as one', async () => {
    app = await startHonest({ limits: { answers: points(2) } })
    const client = browser()
    const state = await begin(app, client, 'acme-saml')
    const posted = await client.go(app.callback('acme-saml'), {
      method: 'POST',
      body: new URLSearchParams({ state }),
    })
    expect(posted.status).toBe(303)
    expect((await client.go(posted.location!)).status).toBe(303)
  })
})

describe('A limiter', () => {
  test('whose backend fails closes the door, and says which', async () => {
    app = await startHonest({ limits: { starts: { consume: () => Promise.reject(new Error('away')) } } })
    const refused = await browser().go(app.start('acme'))
    expect([refused.status, JSON.parse(refused.text).error]).toEqual([503, 'unavailable'])
  })

  test('that does not answer closes the door in time, until it answers again', async () => {
    let hangs = true
    const consume = () => (hangs ? new Promise(() => {}) : Promise.resolve())
    app = await startHonest({ limits: { starts: { consume } } })
    const client = browser()
    const refused = await client.go(app.start('acme'), { signal: AbortSignal.timeout(4_000) })
    expect([refused.status, JSON.parse(refused.text).error]).toEqual([503, 'unavailable'])
    expect(app.log.at(-1)?.message).toMatch(/limits\.starts/)
    hangs = false
    expect((await answer(app, client, await begin(app, client))).status).toBe(303)
  })

  test('that is none fails at start and names its key', () => {
    const options = {
      baseUrl: 'http://localhost',
      store: memoryStore(),
      lock: memoryLock(),
      once: memoryOnce(),
      directory: staticDirectory({ organizations: [] }),
      strategies: [honest('oidc')],
    }
    expect(() => createJit({ ...options, limits: { starts: {} as never } })).toThrow(/limits\.starts/)
    expect(() => createJit({ ...options, limits: { attempts: points(1) } as never })).toThrow(
      /limits.*attempts/s,
    )
  })
})
