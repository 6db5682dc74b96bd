import type { RequestHandler } from 'express'
import { memoryOnce } from 'passport-jit/stores/memory'
import { afterEach, describe, expect, it } from 'vitest'
import { answer, begin, post, saml, signedIn, startHonest } from '../http/honest.js'
import { type App, expectRefused } from '../rig/oidc-app.js'
import { type Browser, browser } from '../rig/oidc-http.js'

// The session and the cookies around it.

let app: App
afterEach(() => app.close())

describe('N03 cookies', () => {
  const flags = (cookie: string) => cookie.split('; ').slice(1).sort()
  const flowCookie = /^(?:__Host-)?jit-[\w-]{16}=[\w-]{43};/

  it.each([
    ['https://app.example', /^__Host-jit-/, ['HttpOnly', 'Max-Age=600', 'Path=/', 'SameSite=Lax', 'Secure']],
    ['http://localhost', /^jit-/, ['HttpOnly', 'Max-Age=600', 'Path=/', 'SameSite=Lax']],
  ])('N03 at %s the cookie of a sign-in under way says who may have it', async (baseUrl, name, expected) => {
    app = await startHonest({ baseUrl })
    for (const start of ['acme', 'acme-saml']) {
      const begun = await browser().go(app.start(start))
      const own = begun.headers.getSetCookie().filter((cookie) => flowCookie.test(cookie))
      expect(own).toHaveLength(1)
      expect(own[0]).toMatch(name)
      expect(flags(own[0]!)).toEqual(expected)
    }
  })

  it('N03 an answer posted from the IdP’s page comes without any of them, and the sign-in ends well', async () => {
    app = await startHonest()
    const person = browser()
    const state = await begin(app, person, 'acme-saml')
    // A cross-site POST carries no cookie that is Lax.
    const posted = await post(app, { state })
    expect(posted.status, posted.text).toBe(303)
    expect(posted.headers.getSetCookie()).toEqual([])
    const stranger = browser()
    expect((await stranger.go(posted.location!)).status).toBe(403)
    expect(await app.me(stranger)).toBe(401)
    const again = await post(app, { state: await begin(app, person, 'acme-saml') })
    const done = await person.go(again.location!)
    expect([done.status, await app.me(person)]).toEqual([303, 200])
  })

  it('S26 a cookie of the right name with another value is none', async () => {
    app = await startHonest()
    for (const connection of ['acme', 'acme-saml']) {
      const attacker = browser()
      const state = await begin(app, attacker, connection)
      const [name, value] = [...attacker.cookies(app.origin)].find(([key]) => key.startsWith('jit-'))!
      const victim = browser()
      victim.cookies(app.origin).set(
        name,
        value.replace(/^./, (first) => (first === 'A' ? 'B' : 'A')),
      )
      const ended =
        connection === 'acme'
          ? await answer(app, victim, state)
          : await victim.go((await post(app, { state })).location!)
      await expectRefused(app, victim, ended, { code: 'attempt_foreign', status: 403 })
    }
    await signedIn(app)
  })

  it.each(['\u00a0', '\u00a0 ', ' \u00a0\t'])(
    'S26 a cookie that only looks like the browser’s own is none (%j before it)',
    async (before) => {
      // A sister host may set it: to a browser its name does not begin with "__Host-".
      app = await startHonest({ baseUrl: 'https://app.example' })
      const attacker = browser()
      const tossed = (name: string) => {
        const value = attacker.cookies(app.origin).get(name)!
        return { headers: { cookie: `${before}${name}=${value}; other=1` } }
      }
      for (const connection of ['acme', 'acme-saml']) {
        const state = await begin(app, attacker, connection)
        const name = [...attacker.cookies(app.origin).keys()].at(-1)!
        expect(name).toMatch(/^__Host-jit-/)
        const address =
          connection === 'acme'
            ? `${app.callback(connection)}?state=${state}`
            : (await post(app, { state })).location!
        const victim = browser()
        const ended = await victim.go(address, tossed(name))
        await expectRefused(app, victim, ended, { code: 'attempt_foreign', status: 403 })
      }
      await signedIn(app)
    },
  )

  it('N03 spaces before a cookie are none of it, and the first of a name is meant', async () => {
    app = await startHonest()
    const person = browser()
    const state = await begin(app, person)
    const [name, value] = [...person.cookies(app.origin)][0]!
    const cookie = `a; =b; x=; \t${name}=${value};${name}=another`
    const done = await browser().go(`${app.callback('acme')}?state=${state}`, { headers: { cookie } })
    expect(done.status, done.text).toBe(303)
  })

  it('N03 nothing of a sign-in stays in the browser when it has ended', async () => {
    app = await startHonest()
    const person = await signedIn(app)
    expect([...person.cookies(app.origin).keys()]).toEqual(['connect.sid'])
    const failed = browser()
    const state = await begin(app, failed)
    expect((await failed.go(`${app.callback('acme')}?state=${state}&throw=x`)).status).toBe(400)
    expect([...failed.cookies(app.origin).keys()]).toEqual([])
  })
})

describe('N05 an answer nobody asked for', () => {
  const confirmed = async (client: Browser, fields: Record<string, string>, headers = {}) =>
    client.go(app.callback('open-saml'), { method: 'POST', body: new URLSearchParams(fields), headers })
  const ticketOf = (page: { text: string }) => /name="ticket" value="([^"]+)"/.exec(page.text)![1]!

  it('N05 is confirmed by whom it was shown to: not by GET, not elsewhere, not twice', async () => {
    app = await startHonest({ connections: [saml('open-saml', { idpInitiated: true })] })
    const person = browser()
    const shown = async () => ticketOf(await person.follow((await post(app, {}, 'open-saml')).location!))
    const asked = await shown()
    const byGet = await person.go(`${app.callback('open-saml')}?ticket=${asked}`)
    expect([byGet.status, byGet.json().error]).toEqual([405, 'method_not_allowed'])
    const elsewhere = await confirmed(browser(), { ticket: await shown() })
    expect([elsewhere.status, elsewhere.json().error]).toEqual([403, 'attempt_foreign'])
    expect(await app.me(person)).toBe(401)
    expect((await app.rows()).users).toEqual([])
    const ticket = await shown()
    expect((await confirmed(person, { ticket })).status).toBe(303)
    expect(await app.me(person)).toBe(200)
    const twice = await confirmed(person, { ticket })
    expect([twice.status, twice.json().error]).toEqual([400, 'attempt_unknown'])
  })
})

describe('N07 a slow request that ends after the session has', () => {
  type Session = Record<string, unknown>

  /** A route whose requests wait until the test lets them go, and then may change their session. */
  function slow(change: (session: Session) => void = () => {}, reloads = false) {
    const waiting: (() => void)[] = []
    const handler: RequestHandler = async (req, res) => {
      if (reloads) await new Promise((resolve) => req.session.reload(resolve))
      await new Promise<void>((resolve) => waiting.push(resolve))
      change(req.session as unknown as Session)
      res.json({ user: req.user?.id ?? null })
    }
    return {
      handler,
      arrived: (count: number) => expect.poll(() => waiting.length).toBe(count),
      release: (count = waiting.length) => {
        for (const go of waiting.splice(0, count)) go()
      },
    }
  }

  const fillBasket = (session: Session) => {
    session.basket = [...((session.basket as string[] | undefined) ?? []), 'a book']
  }

  /** Ways to end a session; the last two are an app's own. */
  const ends: Record<string, (client: Browser) => Promise<unknown>> = {
    'POST /auth/logout': (client) => client.go(`${app.origin}/auth/logout`, { method: 'POST' }),
    'signing in again': async (client) => answer(app, client, await begin(app, client)),
    'req.logout()': (client) => client.go(`${app.origin}/leave`),
    'req.session.destroy()': (client) => client.go(`${app.origin}/destroy`),
  }

  async function start(route: ReturnType<typeof slow>, once = memoryOnce()) {
    app = await startHonest({
      once,
      mount: (server, jit) => {
        server.use(jit.routes())
        server.get('/slow', route.handler)
        server.get('/basket', (req, res) => {
          fillBasket(req.session as unknown as Session)
          res.json((req.session as unknown as Session).basket)
        })
        server.get('/leave', (req, res, next) =>
          req.logout((error) => (error ? next(error) : res.end('left'))),
        )
        server.get('/renew', (req, res, next) =>
          req.login(req.user!, (error) => (error ? next(error) : res.end('renewed'))),
        )
        server.get('/rotate', (req, res, next) => {
          const { passport } = req.session as unknown as Session
          req.session.regenerate((error) => {
            Object.assign(req.session, { passport })
            if (error) next(error)
            else res.end('renewed')
          })
        })
        server.get('/destroy', (req, res, next) =>
          req.session.destroy((error) => (error ? next(error) : res.end('destroyed'))),
        )
      },
    })
    const person = await signedIn(app)
    const copy = browser()
    copy.cookies(app.origin).set('connect.sid', person.cookies(app.origin).get('connect.sid')!)
    return { person, copy }
  }

  describe.each([
    ['leaves it as it was', undefined, false],
    ['changes it', fillBasket, false],
    ['has read it anew and changes it', fillBasket, true],
  ])('N07 and %s', (_name, change, reloads) => {
    it.each(Object.entries(ends))('N07 stays ended by %s', async (_way, end) => {
      const route = slow(change, reloads)
      const { person, copy } = await start(route)
      const under = [1, 2, 3].map(() => copy.go(`${app.origin}/slow`))
      await route.arrived(3)
      await end(person)
      // The first alone, then two at once: none uses up what the next one needs.
      route.release(1)
      await Promise.race(under)
      expect(await app.me(copy)).toBe(401)
      route.release()
      for (const answered of await Promise.all(under))
        expect(answered.json().user).toEqual(expect.any(String))
      expect(await app.me(copy)).toBe(401)
    })
  })

  it('N07 a session that has not ended keeps what its requests put there', async () => {
    const route = slow(fillBasket)
    const { person, copy } = await start(route)
    const under = copy.go(`${app.origin}/slow`)
    await route.arrived(1)
    route.release()
    await under
    expect((await person.go(`${app.origin}/basket`)).json()).toEqual(['a book', 'a book'])
    await ends['POST /auth/logout']!(person)
    expect(await app.me(copy)).toBe(401)
    // The next session of the same person, in the same browser, is another.
    expect((await answer(app, person, await begin(app, person))).status).toBe(303)
    expect((await person.go(`${app.origin}/basket`)).json()).toEqual(['a book'])
    expect(await app.me(person)).toBe(200)
  })

  it.each(['/renew', '/rotate'])(
    'N07 a session that the app gave another id (%s) is a session like any',
    async (path) => {
      const route = slow(fillBasket)
      const { person, copy } = await start(route)
      const under = copy.go(`${app.origin}/slow`)
      await route.arrived(1)
      expect((await person.go(app.origin + path)).text).toBe('renewed')
      route.release()
      await under
      expect(await app.me(copy)).toBe(401)
      for (const basket of [['a book'], ['a book', 'a book']]) {
        expect((await person.go(`${app.origin}/basket`)).json()).toEqual(basket)
        expect(await app.me(person)).toBe(200)
      }
      const late = browser()
      late.cookies(app.origin).set('connect.sid', person.cookies(app.origin).get('connect.sid')!)
      const again = late.go(`${app.origin}/slow`)
      await route.arrived(1)
      await ends['POST /auth/logout']!(person)
      route.release()
      await again
      expect(await app.me(late)).toBe(401)
    },
  )

  it('N07 the request that signs in is no exception, where its answer begins before it ends', async () => {
    let release = () => {}
    app = await startHonest({
      mount: (server, jit) => {
        server.use(jit.routes())
        const path = '/in'
        server.use(path, jit.authenticate({ connection: 'acme', callback: path }), jit.provision())
        server.use(path, async (req, res) => {
          res.write('Welcome')
          await new Promise<void>((resolve) => {
            release = resolve
          })
          fillBasket(req.session as unknown as Session)
          res.end()
        })
      },
    })
    const person = browser()
    const begun = await person.go(`${app.origin}/in`)
    const state = new URL(begun.location!).searchParams.get('state')!
    const cookie = [...person.cookies(app.origin)].map((pair) => pair.join('=')).join('; ')
    const answered = await fetch(`${app.origin}/in?state=${state}`, { headers: { cookie } })
    const [, id] = /connect\.sid=([^;]+)/.exec(answered.headers.getSetCookie().join())!
    const copy = browser()
    for (const client of [person, copy]) client.cookies(app.origin).set('connect.sid', id!)
    expect(await app.me(person)).toBe(200)
    await ends['POST /auth/logout']!(person)
    release()
    expect(await answered.text()).toBe('Welcome')
    expect(await app.me(copy)).toBe(401)
  })

  it('N07 a session that ended is taken away also where no mark can be left for the next', async () => {
    const route = slow(fillBasket)
    const once = memoryOnce()
    let taken = false
    const { person, copy } = await start(route, {
      ...once,
      put: (...args) => (taken ? Promise.reject(new Error('away')) : once.put(...args)),
      take: async (key) => {
        const value = await once.take(key)
        if (key.startsWith('ended:') && value !== null) taken = true
        return value
      },
    })
    const under = copy.go(`${app.origin}/slow`)
    await route.arrived(1)
    await ends['POST /auth/logout']!(person)
    route.release()
    await under
    expect([taken, await app.me(copy)]).toEqual([true, 401])
    expect(app.log.map(({ message }) => message)).toContainEqual(expect.stringMatching(/may come back.*away/))
  })

  it('N07 signing out works while nothing can be marked, and the operator is told', async () => {
    let away = false
    const once = memoryOnce()
    const failing = () => Promise.reject(new Error('away'))
    const { person, copy } = await start(slow(), {
      ...once,
      put: (...args) => (away ? failing() : once.put(...args)),
      take: (...args) => (away ? failing() : once.take(...args)),
    })
    away = true
    expect((await copy.go(`${app.origin}/basket`)).json()).toEqual(['a book'])
    await ends['POST /auth/logout']!(person)
    expect(await app.me(copy)).toBe(401)
    expect(app.log.map(({ message }) => message)).toContainEqual(expect.stringMatching(/may come back.*away/))
  })
})
