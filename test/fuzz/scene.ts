import type { ErrorRequestHandler } from 'express'
import { errorCodes, JitError, type Once } from 'passport-jit'
import { memoryOnce } from 'passport-jit/stores/memory'
import { emailStrategy } from 'passport-jit/strategies/email'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { socialStrategy } from 'passport-jit/strategies/social'
import { browser, inbox } from '../rig/inbox.js'
import { oidcConnection } from '../rig/oidc-app.js'
import { desk, warmed } from '../rig/saml-load.js'
import { createIdp, samlConnection } from '../rig/saml-scene.js'
import { providers, startApp } from '../rig/social-app.js'
import { startWorld } from '../rig/social-world.js'
import { harmless } from './inputs.js'
import type { Answer } from './wire.js'

/** Stands in inputs; a page that holds it as it is would run it. */
export const script = '"><fuzz a=\'&'

const unlimited = { consume: async () => {} }

/** One app with every way in; what must hold whatever it is asked is in `expectSound`. */
export async function startScene() {
  const saml = samlStrategy()
  const acme = await createIdp('acme')
  await warmed(saml, await desk(acme.key))
  const world = await startWorld()
  const mailbox = inbox()
  const clock = { ahead: 0 }
  const now = () => Date.now() + clock.ahead
  const kept = counting(memoryOnce(now))
  const thrown: unknown[] = []
  const note: ErrorRequestHandler = (error, _req, _res, next) => {
    if (!(error instanceof JitError)) thrown.push(error)
    next(error)
  }
  const app = await startApp({
    connections: [
      samlConnection('acme', acme),
      oidcConnection('globex', { issuer: 'https://issuer.example' }, { organization: 'globex' }),
    ],
    social: [providers.google, providers.apple, providers.github],
    email: { enabled: true },
    strategies: [
      saml,
      oidcStrategy(),
      socialStrategy(),
      emailStrategy({
        transport: mailbox.transport,
        from: 'App <no-reply@app.example>',
        appName: 'App',
        limits: {
          addressHour: unlimited,
          addressDay: unlimited,
          clientCodes: unlimited,
          clientGuesses: unlimited,
        },
      }),
    ],
    once: kept.once,
    now,
    fetch: world.fetch,
    limits: { starts: unlimited, answers: unlimited },
    mount: (express, jit) => {
      express.use(jit.routes())
      express.use(note)
    },
  })

  const users = async () => JSON.stringify((await app.store.users()).rows)
  /** Ids of the sessions in which somebody is signed in. */
  const sessions = () =>
    Object.entries((app.sessions as unknown as { sessions: Record<string, string> }).sessions).flatMap(
      ([id, kept]) => (JSON.parse(kept).passport?.user ? [id] : []),
    )

  /** The cookie of a session of Ann's, who signs in again where a request has ended the one before. */
  const ann = browser()
  const session = async () => {
    if ((await app.me(ann)) !== 200) {
      const post = (path: string, fields: Record<string, string>) =>
        ann.go(app.origin + path, { method: 'POST', body: new URLSearchParams(fields) })
      const email = 'ann@free.example'
      await post('/auth/email', { email })
      await post('/auth/email/verify', { email, code: mailbox.to(email).code })
    }
    return `connect.sid=${ann.cookies(app.origin).get('connect.sid')}`
  }

  return {
    ...{ session, app, acme, world, mailbox, clock, users, sessions },
    close: async () => {
      await app.close()
      await saml.close()
    },
    /**
     * Runs requests that prove nothing: nobody new is known or signed in afterwards, nothing was thrown that is not
     * the kit's own, no prototype has changed, and at most `kept` values wait in the backend that did not before.
     */
    provesNothing: async <T>(run: () => Promise<T>, { keeps }: { keeps: number }): Promise<T> => {
      const before = { users: await users(), sessions: new Set(sessions()), kept: kept.grown() }
      const result = await run()
      harmless(() => {})
      if (thrown.length > 0) throw thrown.pop()
      if ((await users()) !== before.users) throw new Error('users have changed')
      if (sessions().some((id) => !before.sessions.has(id))) throw new Error('somebody is signed in')
      const more = kept.grown() - before.kept
      if (more > keeps) throw new Error(`${more} values more wait in the backend`)
      return result
    },
  }
}

export type Scene = Awaited<ReturnType<typeof startScene>>

/** A `Once` that counts what was put and claimed. */
function counting(inner: Once) {
  let grown = 0
  return {
    grown: () => grown,
    once: {
      put: (key, value, ttl) => {
        grown += 1
        return inner.put(key, value, ttl)
      },
      take: (key) => inner.take(key),
      claim: async (key, ttl) => {
        const first = await inner.claim(key, ttl)
        if (first) grown += 1
        return first
      },
    } satisfies Once,
  }
}

/** Headers that the kit, Express and Node write here; another one would be part of an input. */
const ordinary = new Set([
  ...['allow', 'cache-control', 'connection', 'content-length', 'content-security-policy', 'content-type'],
  ...['date', 'etag', 'keep-alive', 'location', 'referrer-policy', 'retry-after', 'set-cookie'],
  ...['transfer-encoding', 'x-content-type-options'],
])

const elsewhere = new Set([
  ...['https://idp.acme.example', 'https://issuer.example', 'https://accounts.google.com'],
  ...['https://appleid.apple.com', 'https://github.com'],
])

const cookie = /^jit-(?:[\w-]{16}|code)=(?:[\w-]{43})?; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/

const sessionCookie = /^connect\.sid=[\w%.-]+; Path=\/; HttpOnly$/

/**
 * What any answer to anybody who proved nothing is like.
 * @param signedIn whether a session may have ended, after which Passport makes an empty one
 */
export function expectSound({ status, headers, body, took }: Answer, origin: string, signedIn = false): void {
  const all = (name: string) => headers.filter(([found]) => found === name).map(([, value]) => value)
  const problems: string[] = []
  const unless = (sound: boolean, problem: string) => sound || problems.push(problem)
  const type = all('content-type')[0] ?? ''
  // Node's own refusals of what is no HTTP, and of what it was not asked to understand.
  const byNode = type === '' && body === '' && [400, 413, 417, 431].includes(status)

  unless(took < 10_000, `it took ${Math.round(took)} ms`)
  unless(status < 500 || status === 503, `status ${status}`)
  unless(byNode || status < 400 || coded(status, type, body), `no code in the answer`)
  unless(!type.startsWith('text/html') || !body.includes('<fuzz'), 'the page holds what it was asked')
  for (const [name] of headers) unless(ordinary.has(name), `a header "${name}"`)
  for (const name of ordinary) unless(name === 'set-cookie' || all(name).length < 2, `"${name}" twice`)
  for (const location of all('location')) {
    const { origin: to } = new URL(location, origin)
    unless(to === origin || elsewhere.has(to), `it leads to ${to}`)
  }
  for (const line of all('set-cookie'))
    unless(cookie.test(line) || (signedIn && sessionCookie.test(line)), `a cookie ${line}`)
  const given = all('set-cookie').filter((line) => cookie.test(line) && !/Max-Age=0;/.test(line))
  unless(given.length <= 1, `${given.length} cookies at once`)
  if (problems.length > 0)
    throw new Error(`${problems.join('; ')}: ${status} ${JSON.stringify(headers)} ${body.slice(0, 300)}`)
}

function coded(status: number, type: string, body: string): boolean {
  // An answer to HEAD.
  if (body === '') return type !== ''
  if (type.startsWith('application/json')) {
    const { error } = JSON.parse(body) as { error: string }
    return (errorCodes as readonly string[]).includes(error) || (status === 401 && error === 'nobody')
  }
  const code = /<p class="note">(\w+)/.exec(body)?.[1]
  if (code !== undefined) return (errorCodes as readonly string[]).includes(code)
  // The code is asked for again; or there is no such page in the app.
  return body.includes('name="code"') || (status === 404 && body.includes('<pre>Cannot '))
}
