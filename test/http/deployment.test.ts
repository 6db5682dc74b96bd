import type { IncomingMessage } from 'node:http'
import session from 'express-session'
import { afterEach, describe, expect, test } from 'vitest'
import { deploymentProblems } from '../../lib/deployment.js'
import { readOptions } from '../../lib/options.js'
import type { App } from '../rig/oidc-app.js'
import { signedIn, startHonest } from './honest.js'

const sound = {
  headers: { 'x-forwarded-for': '203.0.113.7' },
  session: { cookie: { secure: true, httpOnly: true, sameSite: 'lax' } },
  sessionStore: new (class RedisStore {})(),
  app: { get: (setting: string) => (setting === 'trust proxy' ? 1 : undefined) },
}
const problems = (change: object, baseUrl = 'https://app.example') =>
  deploymentProblems({ ...sound, ...change } as unknown as IncomingMessage, baseUrl)

describe('What shows only inside the running app', () => {
  test('a sound deployment: nothing', () => {
    expect(problems({})).toEqual([])
    expect(problems({ session: { cookie: { ...sound.session.cookie, secure: 'auto' } } })).toEqual([])
    expect(problems({ headers: {}, app: undefined })).toEqual([])
  })

  test.each([
    ['sessions in memory', { sessionStore: new session.MemoryStore() }, /kept in this process/],
    [
      'a session cookie without Secure',
      { session: { cookie: { ...sound.session.cookie, secure: false } } },
      /cookie\.secure/,
    ],
    [
      'a session cookie for scripts',
      { session: { cookie: { ...sound.session.cookie, httpOnly: false } } },
      /httpOnly/,
    ],
    [
      'a session cookie for other sites',
      { session: { cookie: { ...sound.session.cookie, sameSite: 'none' } } },
      /sameSite/,
    ],
    [
      'a session cookie that says nothing of sites',
      { session: { cookie: { secure: true, httpOnly: true } } },
      /sameSite/,
    ],
    ['a proxy that Express does not trust', { app: { get: () => false } }, /does not trust it/],
    ['every proxy trusted', { app: { get: () => true } }, /trusts every proxy/],
  ])('%s: said, with the way out', (_, change, sentence) => {
    const found = problems(change)
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(sentence)
  })

  test('on this machine alone nothing is said', () => {
    const all = { sessionStore: new session.MemoryStore(), session: { cookie: {} }, app: { get: () => true } }
    expect(problems(all, 'http://localhost:3000')).toEqual([])
    expect(problems(all).length).toBeGreaterThan(2)
  })
})

describe('The log', () => {
  let app: App
  afterEach(() => app?.close())

  test('says it at the first sign-in, once', async () => {
    app = await startHonest({ baseUrl: 'http://app.example' })
    await signedIn(app)
    await signedIn(app)
    const said = app.log.filter(({ message }) => message.startsWith('sessions are kept in this process'))
    expect(said).toEqual([{ level: 'warn', message: expect.stringContaining('connect-redis') }])
  })
})

describe('Options that would weaken it', () => {
  const complaints = (options: object): string => {
    try {
      readOptions(options as never)
      return ''
    } catch (error) {
      return (error as Error).message
    }
  }

  test.each([
    ['E09: a key of hashes', 'hashKey', 'k'.repeat(32), 'k'.repeat(31)],
    ['S25: the address to go to', 'returnTo', '/home', '//evil.example'],
    ['S25: the address to go to', 'returnTo', '/', '/\\evil.example'],
    ['E10: the origin', 'baseUrl', 'https://app.example', 'https://app.example/path'],
  ])('%s, of %s: %s is taken, %s is not', (_, name, good, bad) => {
    expect(complaints({ [name]: good })).not.toContain(`${name}:`)
    expect(complaints({ [name]: bad })).toContain(`${name}:`)
  })

  test('an option that is none is named, with the one that was probably meant', () => {
    expect(complaints({ hashkey: 'k'.repeat(32) })).toContain(
      'hashkey: there is no such option (did you mean "hashKey"?)',
    )
    expect(complaints({ limits: { start: {} } })).toContain('limits.start: there is no such option')
  })

  test('a strategy that was not made is told as that', () => {
    expect(complaints({ strategies: [() => {}] })).toContain(
      'strategies.0: it must be what a strategy returns',
    )
  })
})
