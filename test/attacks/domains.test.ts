import { type DirectoryInput, type StoreDirectory, staticDirectory, storeDirectory } from 'passport-jit'
import type { StoreFixture } from 'passport-jit/testing'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type App, browser, signedStrategy, startApp } from '../rig/inbox.js'
import { testStore } from '../rig/store.js'

// Who may own a domain, whose it is, and what it gives once it is somebody else's.

type Organization = DirectoryInput['organizations'][number]

const own = (id: string, ...domains: string[]): Organization => ({
  id,
  name: id,
  roles: ['owner', 'member'],
  domains,
  domainJit: { enabled: true, roles: ['member'] },
})
const ways = {
  social: [{ id: 'pal', preset: 'passport' as const, link: 'verified-email' as const }],
  email: { enabled: true },
}
const by = (...organizations: Organization[]): DirectoryInput => ({ organizations, ...ways })

/** Two processes with their directories in one store, and the app on the first. */
let fixture: StoreFixture
let directory: StoreDirectory
let elsewhere: StoreDirectory
let app: App
beforeEach(async () => {
  fixture = await testStore()
  const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]
  directory = storeDirectory({ store: fixture.store, keys, providers: ways })
  elsewhere = storeDirectory({ store: await fixture.another(), keys, providers: ways })
  app = await startApp({
    store: fixture.store,
    directory: by(),
    kept: directory,
    strategies: [signedStrategy() as never],
  })
})
afterEach(async () => {
  await app.close()
  await fixture.close()
})

const give = (...organizations: Organization[]) => directory.import({ organizations })

/** Its id, or why the claim is refused. */
const claim = (at: StoreDirectory, id: string, ...domains: string[]): Promise<string> =>
  at.import({ organizations: [own(id, ...domains)] }).then(
    () => id,
    (error) => error.code,
  )

/** Signs in by a mailed code; the organizations of who then is signed in. */
async function joined(address: string): Promise<string[]> {
  const client = browser()
  const asked = await app.ask(client, address)
  expect(asked.status, asked.text).toBe(200)
  const answer = await app.verify(client, address, app.inbox.to(address).code)
  expect(answer.status, answer.text).toBe(200)
  const { user } = await app.me(client)
  return user.memberships.map(({ organization }: { organization: string }) => organization)
}

describe('L21 domains below which strangers are', () => {
  const shared = ['gmail.com', 'outlook.com', 'co.uk', 'github.io', '*.github.io', '*.co.jp']

  test.each(shared)('L21 %s is nobody’s to own or to vouch for', async (name) => {
    const connection = {
      ...{ id: 'a-sso', organization: 'a', protocol: 'oidc' as const, issuer: 'https://idp.a.example' },
      ...{ clientId: 'x', clientSecret: 'y' },
    }
    const owning = (domain: string) => by(own('a', domain))
    const vouching = (domain: string) => ({
      ...by(own('a', 'a.example')),
      connections: [{ ...connection, vouchesFor: [domain] }],
    })
    for (const input of [owning, vouching]) {
      const problem = {
        code: 'config_invalid',
        message: expect.stringMatching(/is a public (suffix|mail prov)/),
      }
      expect(() => staticDirectory(input(name))).toThrowError(expect.objectContaining(problem))
      await expect(directory.import(input(name))).rejects.toMatchObject(problem)
      expect(() => staticDirectory(input('a.example'))).not.toThrow()
      await directory.import(input('a.example'))
    }
  })

  test('L21 one that was kept before it was known is refused at sign-in, and nobody joins', async () => {
    await give(own('a', 'a.example'))
    expect(await joined('ann@a.example')).toEqual(['a'])
    const domains = ['a.example', 'gmail.com']
    const { entry } = (await fixture.store.entries.organization('a'))!
    const kept = { entry: JSON.stringify({ ...JSON.parse(entry), domains }), domains }
    const put = { op: 'organization.put', id: 'a', version: 'older', name: 'a', status: 'active' } as const
    const ops = [{ ...put, seatLimit: null, kept }]
    const written = await fixture.store.commit({ id: 'older', expect: [], guards: [], ops, events: [] })
    expect(written).toEqual({ committed: true })
    await directory.refresh()
    const asked = await app.ask(browser(), 'mallory@gmail.com')
    expect([asked.status, asked.json().error]).toEqual([500, 'config_invalid'])
    expect(app.log.at(-1)!.message).toMatch(/organization "a".*gmail\.com" is a public mail provider/)
    expect((await app.rows()).users).toHaveLength(1)
    await give(own('a', 'a.example'))
    expect(await joined('mallory@gmail.com')).toEqual([])
    expect(await joined('bob@a.example')).toEqual(['a'])
  })
})

describe('L22 one domain, one owner', () => {
  test('L22 two in one configuration are refused, and named', () => {
    const two = () => staticDirectory(by(own('first', 'a.example'), own('second', 'a.example')))
    const message = expect.stringMatching(/(?=.*a\.example)(?=.*first)(?=.*second)/)
    expect(two).toThrowError(expect.objectContaining({ code: 'config_invalid', message }))
    expect(() => staticDirectory(by(own('first', 'a.example'), own('second', 'b.example')))).not.toThrow()
  })

  test('L22 whoever comes second is refused, and the people of the domain join the first', async () => {
    expect(await claim(directory, 'a', 'a.example')).toBe('a')
    expect(await claim(elsewhere, 'b', 'a.example')).toBe('config_invalid')
    expect(await claim(elsewhere, 'b', 'A.Example')).toBe('config_invalid')
    expect(await claim(elsewhere, 'b', '*.a.example')).toBe('b')
    await directory.refresh()
    expect(await joined('ann@a.example')).toEqual(['a'])
    expect(await joined('bob@x.a.example')).toEqual(['b'])
  })

  test('L22 of two processes that claim it at once one wins, and its people join that one alone', async () => {
    for (let round = 0; round < 5; round++) {
      const domain = `round${round}.example`
      const results = await Promise.all([
        claim(directory, `a${round}`, domain),
        claim(elsewhere, `b${round}`, domain),
      ])
      expect(results.filter((result) => result === 'config_invalid')).toHaveLength(1)
      await directory.refresh()
      expect(results).toContain((await joined(`ann@${domain}`)).join())
    }
  })

  test.each(['a.example.evil.com', 'aa.example', 'a-example.com', 'x.a.example', 'example.com'])(
    'L22 %s was given to nobody and gives nothing',
    async (domain) => {
      await give(own('a', 'a.example'))
      expect(await joined(`ann@${domain}`)).toEqual([])
      expect(await joined('ann@a.example')).toEqual(['a'])
    },
  )
})

describe('L23 a domain that is taken back', () => {
  test('L23 nobody new joins by it; who joined stays, and the operator is told', async () => {
    expect((await give(own('a', 'a.example'))).warnings).toEqual([])
    expect(await joined('ann@a.example')).toEqual(['a'])
    expect((await give(own('a'))).warnings).toContainEqual(
      expect.stringMatching(/organization "a": domainJit is on, but it owns no domain/),
    )
    expect(await joined('mallory@a.example')).toEqual([])
    expect(await joined('ann@a.example')).toEqual(['a'])
    await give(own('a', 'a.example'))
    expect(await joined('bob@a.example')).toEqual(['a'])
  })

  test('L23 sold to another organization, it gives its new people nothing of the old', async () => {
    await give(own('a', 'a.example'), own('b', 'b.example'))
    expect(await joined('ann@a.example')).toEqual(['a'])
    await give(own('a'))
    await give(own('b', 'a.example'))
    expect(await joined('mallory@a.example')).toEqual(['b'])
    expect(await joined('ann@a.example')).toEqual(['a'])
    expect((await app.rows()).users).toHaveLength(2)
  })
})
