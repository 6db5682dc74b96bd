import type { IncomingMessage, ServerResponse } from 'node:http'
import session from 'express-session'
import passport from 'passport'
import {
  createJit,
  type Directory,
  type Handler,
  JitError,
  type Operation,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type App, expectRefused, expectSignedIn, twoOrganizations } from '../rig/oidc-app.js'
import { type Browser, browser, listen } from '../rig/oidc-http.js'
import { answer, begin, honest, oidc, post, saml, signedIn, startHonest } from './honest.js'

let app: App
beforeEach(async () => {
  app = await startHonest()
})
afterEach(() => app.close())

const sessionsOf = (of: App) =>
  new Promise<Record<string, { passport?: { user: unknown } }>>((resolve, reject) =>
    of.sessions.all((error, all) => (error ? reject(error) : resolve(all as never))),
  )

describe('the session', () => {
  it('holds who it is and how that was proved, and nothing else', async () => {
    const client = await signedIn(app)
    const [only, ...others] = Object.values(await sessionsOf(app))
    expect(others).toEqual([])
    const [user] = (await app.rows()).users
    expect(only!.passport).toEqual({
      user: {
        id: user!.id,
        epochs: { user: 0, connection: 0 },
        via: 'connection:acme',
        jit: {
          outcome: 'created',
          reason: 'user_provisioned',
          joined: ['acme'],
          granted: ['member'],
          revoked: [],
          decision: expect.stringMatching(/^[0-9a-f-]{36}$/),
          correlationId: expect.stringMatching(/^[0-9a-f-]{36}$/),
        },
      },
    })
    const { user: seen, jit } = (await client.go(`${app.origin}/me`)).json()
    expect(seen.memberships).toMatchObject([{ organization: 'acme', active: true, roles: ['member'] }])
    expect(jit.outcome).toBe('created')
  })

  it('N01 has a new id after sign-in, and the old cookie is dead', async () => {
    const client = await signedIn(app)
    const fixed = client.cookies(app.origin).get('connect.sid')!
    await expectSignedIn(app, client, await answer(app, client, await begin(app, client)))
    expect(client.cookies(app.origin).get('connect.sid')).not.toBe(fixed)
    const old = browser()
    old.cookies(app.origin).set('connect.sid', fixed)
    expect(await app.me(old)).toBe(401)
    expect(Object.keys(await sessionsOf(app))).toHaveLength(1)
  })

  const change = async (ops: (id: string) => Operation[], touchesUser: boolean) => {
    const [user] = (await app.rows()).users
    const result = await app.store.commit({
      id: crypto.randomUUID(),
      expect: touchesUser ? [{ user: user!.id, version: user!.version }] : [],
      guards: [],
      ops: ops(user!.id),
      events: [],
    })
    expect(result).toEqual({ committed: true })
  }

  it.each<[string, (id: string) => Operation[], boolean]>([
    ['the user is suspended', (id) => [{ op: 'user.update', id, set: { status: 'suspended' } }], true],
    ['the user’s sessions are ended', (id) => [{ op: 'user.update', id, set: { endSessions: true } }], true],
    [
      'the connection is disabled',
      () => [{ op: 'connection.put', id: 'acme', organization: 'acme', version: 'later', enabled: false }],
      false,
    ],
  ])('N04 ends when %s', async (_name, ops, touchesUser) => {
    const client = await signedIn(app)
    const other = await signedIn(app)
    expect([await app.me(client), await app.me(other)]).toEqual([200, 200])
    await change(ops, touchesUser)
    expect([await app.me(client), await app.me(other)]).toEqual([401, 401])
  })

  it('N04 stays ended when the connection is enabled again', async () => {
    const client = await signedIn(app)
    const put = (enabled: boolean) => () => [
      { op: 'connection.put', id: 'acme', organization: 'acme', version: String(enabled), enabled } as const,
    ]
    await change(put(false), false)
    await change(put(true), false)
    expect(await app.me(client)).toBe(401)
  })

  it('N04 ends when the directory no longer has the connection enabled', async () => {
    let enabled = true
    const on = staticDirectory({ organizations: twoOrganizations!, connections: [oidc('acme')] })
    const own = await startHonest({
      directory: {
        ...on,
        connection: async (id) => {
          const found = await on.connection(id)
          return found && { ...found, enabled }
        },
      },
    })
    const client = await signedIn(own)
    expect(await own.me(client)).toBe(200)
    enabled = false
    expect(await own.me(client)).toBe(401)
    await own.close()
  })

  it('N04 keeps who was signed in by the kit, and no user of another making, not even for who has a session', async () => {
    const own = await startHonest({
      store: app.store,
      mount: (server, jit) => {
        server.use(jit.routes())
        server.get('/again', (req, res, next) => {
          req.login(req.user!, (error) => (error ? next(error) : res.end('kept')))
        })
        server.get('/as-somebody', (req, res, next) => {
          const { id } = req.user!
          req.login({ id } as Express.User, (error) => (error ? next(error) : res.end('kept')))
        })
      },
    })
    const client = await signedIn(own)
    const before = await own.rows()
    expect((await client.go(`${own.origin}/again`)).text).toBe('kept')
    expect(await own.me(client)).toBe(200)
    const refused = await client.go(`${own.origin}/as-somebody`)
    expect([refused.status, refused.json().error]).toEqual([500, 'session_missing'])
    expect(await own.me(client)).toBe(401)
    expect(Object.values(await sessionsOf(own)).filter((entry) => entry.passport?.user)).toEqual([])
    expect(await own.rows()).toEqual(before)
    await own.close()
  })

  it('P17 that cannot be read is an error in time, and goes on when it can be', async () => {
    let hangs = false
    const own = await startHonest({
      store: {
        ...app.store,
        user: (id) => (hangs ? new Promise(() => {}) : app.store.user(id)),
      },
    })
    const client = await signedIn(own)
    expect(await own.me(client)).toBe(200)
    hangs = true
    const refused = await client.go(`${own.origin}/me`, { signal: AbortSignal.timeout(9_000) })
    expect([refused.status, refused.json().error]).toEqual([503, 'unavailable'])
    expect(own.log.at(-1)).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/session/) })
    hangs = false
    expect(await own.me(client)).toBe(200)
    await own.close()
  })
})

describe('sign-out', () => {
  const signOut = (client: Browser, headers: Record<string, string> = {}) =>
    client.go(`${app.origin}/auth/logout`, { method: 'POST', headers })

  it('N04 ends the session on the server', async () => {
    const client = await signedIn(app)
    const cookie = client.cookies(app.origin).get('connect.sid')!
    const out = await signOut(client, { origin: app.origin, 'sec-fetch-site': 'same-origin' })
    expect([out.status, out.location]).toEqual([303, `${app.origin}/me`])
    const copy = browser()
    copy.cookies(app.origin).set('connect.sid', cookie)
    expect([await app.me(client), await app.me(copy)]).toEqual([401, 401])
    expect(Object.values(await sessionsOf(app)).filter((entry) => entry.passport?.user)).toEqual([])
  })

  it.each<[string, Record<string, string>]>([
    ['a page of another site', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }],
    ['a sister host', { 'sec-fetch-site': 'same-site' }],
    ['a page of another origin in an old browser', { origin: 'https://evil.example' }],
    ['a sandboxed frame in an old browser', { origin: 'null' }],
  ])('asked for by %s is refused', async (_name, headers) => {
    const client = await signedIn(app)
    const refused = await signOut(client, headers)
    expect([refused.status, refused.json().error]).toEqual([403, 'cross_site'])
    expect(await app.me(client)).toBe(200)
  })

  it('N04 ends it also where Passport keeps the user under another name', async () => {
    const own = await startHonest({
      sessions: false,
      mount: (server, jit, instance) => {
        server.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
        server.use(instance.initialize({ userProperty: 'account' }) as never, instance.session() as never)
        server.use(jit.routes())
        server.get('/account', (req, res) => {
          res.json((req as { account?: { id: string } }).account?.id ?? null)
        })
      },
    })
    const client = await signedIn(own)
    const account = async () => (await client.go(`${own.origin}/account`)).json()
    expect(await account()).toEqual(expect.any(String))
    expect((await client.go(`${own.origin}/auth/logout`, { method: 'POST' })).status).toBe(303)
    expect(await account()).toBe(null)
    await own.close()
  })

  it('by a page that sends no referrer works, and without a session too', async () => {
    const client = await signedIn(app)
    expect((await signOut(client, { origin: 'null', 'sec-fetch-site': 'same-origin' })).status).toBe(303)
    expect(await app.me(client)).toBe(401)
    expect((await signOut(browser())).status).toBe(303)
  })
})

describe('piece by piece', () => {
  const path = '/login/callback'
  const land: Handler = (req, res) => {
    res.writeHead(303, { location: req.jit!.returnTo }).end()
  }
  const over = async (on: App, client: Browser, query = '') => {
    const begun = await client.go(`${on.origin}${path}${query}`)
    expect(begun.status, begun.text).toBe(302)
    const parameters = new URL(begun.location!).searchParams
    expect(parameters.get('to')).toBe(on.origin + path)
    return client.go(`${on.origin}${path}?state=${parameters.get('state')}`)
  }

  it('on a path of the app', async () => {
    const own = await startHonest({
      mount: (server, jit) => {
        server.use(path, jit.authenticate({ connection: 'acme', callback: path }))
        server.use(path, jit.provision())
        server.use(path, land)
      },
    })
    const client = browser()
    const done = await over(own, client, '?returnTo=/projects')
    await expectSignedIn(own, client, done)
    expect(done.location).toBe(`${own.origin}/projects`)
    // What names an answer is none inside of another parameter.
    const filtered = await over(own, client, '?returnTo=/issues?state=open')
    expect(filtered.location).toBe(`${own.origin}/issues?state=open`)
    await own.close()
  })

  it.each(['HEAD', 'PUT', 'DELETE'])(
    'an answer by %s is none, and the sign-in still waits',
    async (method) => {
      const own = await startHonest({
        mount: (server, jit) => {
          server.use(path, jit.authenticate({ connection: 'acme', callback: path }), jit.provision(), land)
        },
      })
      const client = browser()
      const state = new URL((await client.go(own.origin + path)).location!).searchParams.get('state')!
      expect((await client.go(`${own.origin}${path}?state=${state}`, { method })).status).toBe(405)
      await expectSignedIn(own, client, await client.go(`${own.origin}${path}?state=${state}`))
      await own.close()
    },
  )

  it('a SAML answer on a path of the app ends on that path', async () => {
    const own = await startHonest({
      mount: (server, jit) => {
        server.use(path, jit.authenticate({ connection: 'acme-saml', callback: path }))
        server.use(path, jit.provision(), land)
      },
    })
    const client = browser()
    const begun = await client.go(own.origin + path)
    const state = new URL(begun.location!).searchParams.get('state')!
    const body = new URLSearchParams({ state })
    const posted = await browser().go(own.origin + path, { method: 'POST', body })
    expect(posted.location).toMatch(new RegExp(`^${own.origin}${path}\\?ticket=`))
    await expectSignedIn(own, client, await client.go(posted.location!))
    await own.close()
  })

  it('without a session for apps that issue tokens', async () => {
    const own = await startHonest({
      sessions: false,
      mount: (server, jit) => {
        server.use(path, jit.authenticate({ connection: 'acme', callback: path }))
        server.use(path, jit.provision({ session: false }))
        server.get(path, (req, res) => {
          res.json({ email: req.user!.email, outcome: req.jit!.outcome })
        })
      },
    })
    const client = browser()
    const done = await over(own, client)
    expect(done.json()).toEqual({ email: 'alice@acme.example', outcome: 'created' })
    expect(await own.me(client)).toBe(401)
    await own.close()
  })

  it('without a session where one was meant: an error that says so, before anything is written', async () => {
    const own = await startHonest({
      sessions: false,
      mount: (server, jit) => {
        server.use(path, jit.authenticate({ connection: 'acme', callback: path }), jit.provision())
      },
    })
    const client = browser()
    const refused = await over(own, client)
    const expected = { code: 'session_missing', status: 500, message: /passport\.session\(\)/ }
    await expectRefused(own, client, refused, expected)
    await own.close()
  })

  it.each([
    ['nothing', undefined],
    ['an object with the right fields', { source: 'connection:acme', subject: 'alice', issuer: 'x' }],
  ])('provision() takes an identity of a strategy, not %s', async (_name, identity) => {
    const own = await startHonest({
      mount: (server, jit) => {
        server.use('/in', (req, _res, next) => {
          req.assertedIdentity = identity as never
          next()
        })
        server.use('/in', jit.provision())
      },
    })
    const client = browser()
    const refused = await client.go(`${own.origin}/in`)
    const message = /put jit\.authenticate\(\) .* before it/
    await expectRefused(own, client, refused, { code: 'identity_unproven', status: 500, message })
    await own.close()
  })

  it('L10 provision() takes what a strategy proved, not a copy of it', async () => {
    let copies = true
    const own = await startHonest({
      mount: (server, jit) => {
        server.use(path, jit.authenticate({ connection: 'acme', callback: path }))
        server.use(path, (req, _res, next) => {
          if (copies) req.assertedIdentity = { ...req.assertedIdentity } as never
          next()
        })
        server.use(path, jit.provision(), land)
      },
    })
    const client = browser()
    const refused = await over(own, client)
    await expectRefused(own, client, refused, { code: 'identity_unproven', status: 500 })
    copies = false
    await expectSignedIn(own, client, await over(own, client))
    await own.close()
  })
})

describe('in Passport’s own words', () => {
  const words = (name: string, connection: string) =>
    startHonest({
      mount: (server, jit, instance) => {
        const options = { session: false, assignProperty: 'assertedIdentity', connection, callback: '/in' }
        server.use('/in', instance.authenticate(name, options as never), jit.provision())
        server.use(
          '/in',
          (req, res) => void res.json({ outcome: req.jit!.outcome, returnTo: req.jit!.returnTo }),
        )
      },
    })

  it.each([
    ['oidc', 'acme'],
    ['jit', 'acme'],
  ])('passport.authenticate("%s") signs in', async (name, connection) => {
    const own = await words(name, connection)
    const client = browser()
    const begun = await client.go(`${own.origin}/in?returnTo=/projects`)
    const state = new URL(begun.location!).searchParams.get('state')!
    const done = await client.go(`${own.origin}/in?state=${state}`)
    expect(done.json()).toEqual({ outcome: 'created', returnTo: '/projects' })
    expect(await own.me(client)).toBe(200)

    const before = await own.rows()
    const thief = browser()
    const refused = await thief.go(`${own.origin}/in?state=${state}`)
    await expectRefused(own, thief, refused, { code: 'attempt_unknown', status: 400 }, before)
    await own.close()
  })

  it.each([
    ['saml', 'acme', 'config_invalid', 500, /speaks oidc/],
    ['oidc', 'nobody', 'connection_unknown', 404, /nobody/],
    ['oidc', '', 'config_invalid', 500, /\{ connection \}/],
  ])(
    'passport.authenticate("%s", { connection: "%s" }) is refused as %s',
    async (name, id, code, status, message) => {
      const own = await words(name, id)
      const client = browser()
      await expectRefused(own, client, await client.go(`${own.origin}/in`), { code, status, message })
      await own.close()
    },
  )

  it('nothing is looked for beyond the limit of starts, nor by what no id can be', async () => {
    const looked: string[] = []
    const directory = staticDirectory({ organizations: twoOrganizations, connections: [oidc('acme')] })
    const counting: Directory = {
      ...directory,
      connection: (id) => {
        looked.push(id)
        return directory.connection(id)
      },
    }
    const own = await startHonest({
      directory: counting,
      limits: { starts: new RateLimiterMemory({ points: 3, duration: 60 }) },
      mount: (server, jit, instance) => {
        server.get('/login/:connection', instance.authenticate('oidc', { session: false } as never))
        server.use(jit.routes())
      },
    })
    const statuses: number[] = []
    for (const id of ['acme', '%00', 'x'.repeat(65), 'nobody'])
      statuses.push((await browser().go(`${own.origin}/login/${id}`)).status)
    expect(statuses).toEqual([302, 404, 404, 429])
    expect(new Set(looked)).toEqual(new Set(['acme']))
    expect(own.log.map(({ message }) => message).join()).not.toMatch(/x{65}|\0/)
    await own.close()
  })

  it('without assignProperty Passport would make a session of its own, which is refused', async () => {
    const own = await startHonest({
      mount: (server, _jit, instance) => {
        server.use('/in', instance.authenticate('oidc', { connection: 'acme', callback: '/in' } as never))
      },
    })
    const client = browser()
    const begun = await client.go(`${own.origin}/in`)
    const refused = await client.go(
      `${own.origin}/in?state=${new URL(begun.location!).searchParams.get('state')}`,
    )
    expect(refused.status).toBe(500)
    expect(await own.me(client)).toBe(401)
    expect(await own.rows()).toEqual({ users: [], events: [] })
    await own.close()
  })
})

describe('without Express', () => {
  /** Connect in a few lines: handlers in order, an error to the last. */
  const chain =
    (handlers: Handler[], failed: (error: unknown, res: ServerResponse) => void) =>
    (req: IncomingMessage, res: ServerResponse) => {
      let at = 0
      const next = (error?: unknown): void => {
        const handler = handlers[at++]
        if (error || !handler) return failed(error, res)
        handler(req, res, next)
      }
      next()
    }

  it('the same works on node:http alone', async () => {
    let handle: (req: IncomingMessage, res: ServerResponse) => void = () => {}
    const server = await listen('localhost', (req, res) => handle(req, res))
    const store = memoryStore()
    const jit = createJit({
      baseUrl: server.origin,
      store,
      lock: memoryLock(),
      once: memoryOnce(),
      directory: staticDirectory({
        organizations: twoOrganizations!,
        connections: [oidc('acme'), saml('acme-saml')],
      }),
      strategies: [honest('oidc'), honest('saml')],
      log: () => {},
    })
    const instance = new passport.Passport()
    jit.passport(instance as never)
    const me: Handler = (req, res, next) => {
      if (!req.url!.startsWith('/me')) return next()
      const { user } = req as { user?: { email: string } }
      res.writeHead(user ? 200 : 401).end(user?.email)
    }
    handle = chain(
      [
        session({ secret: 'test', resave: false, saveUninitialized: false }) as unknown as Handler,
        instance.session() as unknown as Handler,
        jit.routes(),
        me,
      ],
      (error, res) => {
        const { status, code } = error instanceof JitError ? error : { status: 404, code: 'none' }
        res.writeHead(status).end(JSON.stringify({ error: code }))
      },
    )
    const bare = {
      origin: server.origin,
      start: (id: string) => `${server.origin}/auth/sso/${id}`,
      callback: (id: string) => `${server.origin}/auth/sso/${id}/callback`,
    } as App

    const client = browser()
    expect((await client.go(`${server.origin}/me`)).status).toBe(401)
    const done = await answer(bare, client, await begin(bare, client, 'acme', '?returnTo=/me'))
    expect([done.status, done.location]).toEqual([303, `${server.origin}/me`])
    expect((await client.go(`${server.origin}/me`)).text).toBe('alice@acme.example')

    const second = browser()
    const posted = await post(bare, {
      state: await begin(bare, second, 'acme-saml'),
      email: 'ann@acme.example',
      subject: 'ann',
    })
    expect((await second.go(posted.location!)).status).toBe(303)
    expect((await second.go(`${server.origin}/me`)).text).toBe('ann@acme.example')

    expect((await client.go(`${bare.callback('acme')}?state=x`)).json()).toEqual({ error: 'attempt_unknown' })
    expect((await client.go(`${server.origin}/auth/logout`, { method: 'POST' })).status).toBe(303)
    expect((await client.go(`${server.origin}/me`)).status).toBe(401)
    expect((await store.users()).rows).toHaveLength(2)
    await server.close()
  })
})
