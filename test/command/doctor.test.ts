import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'libsql'
import { memoryStore } from 'passport-jit/stores/memory'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { examineApp, examineStore } from '../../lib/doctor.js'
import { startHonest } from '../http/honest.js'
import { everyUser } from '../property/replay.js'
import { listen } from '../rig/oidc-http.js'

const command = fileURLToPath(new URL('../../dist/lib/command.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'passport-jit-doctor-'))
beforeAll(() => {
  if (!existsSync(command)) throw new Error('build first: npm run build')
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (...args: string[]) =>
  new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const env = { ...process.env, DATABASE_URL: '' }
    execFile(process.execPath, [command, 'doctor', ...args], { cwd: folder, env }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    )
  })

const states = (found: readonly { what: string; state: string }[]) =>
  Object.fromEntries(found.map(({ what, state }) => [what, state]))

async function database(name: string): Promise<string> {
  const store = sqliteStore({ file: join(folder, name) })
  await store.migrate()
  store.close()
  return name
}

describe('A store', () => {
  test('whose keys and guards hold is sound, and nothing of the trial is left', async () => {
    const store = memoryStore()
    const found = await examineStore(store)
    expect(found.length).toBeGreaterThan(8)
    expect(new Set(found.map(({ state }) => state))).toEqual(new Set(['sound']))
    expect(await everyUser(store)).toEqual([])
  })

  test('by the command: exit code 0', async () => {
    const { code, out } = await run('--store', `sqlite:${await database('sound.db')}`)
    expect(out).toMatch(/^✓ one account for a verified address/m)
    expect([code, out.includes('✗')]).toEqual([0, false])
  })

  test('that lost an index is told with the key, and still nothing lands: exit code 1', async () => {
    const name = await database('lost.db')
    const db = new Database(join(folder, name))
    db.exec('drop index jit_users_verified_email_key')
    db.close()
    const { code, out } = await run('--store', `sqlite:${name}`)
    expect(out).toMatch(/^✗ one account for a verified address: .*"verified-email"/m)
    expect(out.match(/✗/g)).toHaveLength(1)
    expect(code).toBe(1)
    const store = sqliteStore({ file: join(folder, name) })
    expect(await everyUser(store)).toEqual([])
    store.close()
  })

  test('without tables is told who makes them', async () => {
    new Database(join(folder, 'new.db')).close()
    const { code, err } = await run('--store', 'sqlite:new.db')
    expect(err).toMatch(/^✗ --store: no such table: jit_.*jit\.ready\(\)/)
    expect(code).toBe(1)
  })

  test.each([
    ['versions', (changes: object) => ({ ...changes, expect: [] }), 'a change planned on an older version'],
    ['guards', (changes: object) => ({ ...changes, guards: [] }), 'a connection that is not as planned'],
  ])('that ignores %s is found out', async (_, ignore, what) => {
    const store = memoryStore()
    const careless = { ...store, commit: (changes: never) => store.commit(ignore(changes) as never) }
    expect(states(await examineStore(careless))).toMatchObject({ [what]: 'wrong' })
  })
})

describe('An app', () => {
  const look = (url: string, more: object = {}) =>
    examineApp({ url, path: '/auth', connection: 'acme', now: Date.now, fetch: globalThis.fetch, ...more })

  test('on this machine: sound, but for the plain http it may have there', async () => {
    const app = await startHonest()
    const found = await look(app.origin)
    expect(states(found)).toMatchObject({ scheme: 'odd', clock: 'sound', 'cookie of a sign-in': 'sound' })
    expect(found.filter(({ state }) => state === 'wrong')).toEqual([])
    const { code, out } = await run('--url', app.origin, '--connection', 'acme', '--json')
    expect([code, JSON.parse(out).ok]).toEqual([0, true])
    await app.close()
  })

  test('with a clock that is off is told', async () => {
    const app = await startHonest()
    expect(states(await look(app.origin, { now: () => Date.now() + 60_000 }))).toMatchObject({
      clock: 'wrong',
    })
    expect(states(await look(app.origin, { now: () => Date.now() - 60_000 }))).toMatchObject({
      clock: 'wrong',
    })
    await app.close()
  })

  test('that answers no sign-in is told how to ask', async () => {
    const app = await startHonest()
    const found = await look(app.origin, { connection: 'nobody' })
    expect(found.at(-1)).toMatchObject({
      what: 'sign-in',
      state: 'wrong',
      finding: expect.stringContaining('404'),
    })
    await app.close()
  })

  test('that is not there is told by its address', async () => {
    const { origin, close } = await listen('localhost', (() => {}) as never)
    await close()
    const expected = { what: 'sign-in', state: 'wrong', finding: expect.stringContaining('ECONNREFUSED') }
    expect((await look(origin)).at(-1)).toMatchObject(expected)
    expect((await look(origin)).at(-1)!.finding).toContain(`GET ${origin}/auth/sso/acme `)
  })

  /** An app that someone else wrote, or that a proxy has rewritten. */
  const pretending = async (
    headers: (forwarded: string | undefined) => Record<string, string | string[]>,
  ) => {
    const server = await listen('localhost', ((req: never, res: never) => {
      const { headers: asked } = req as unknown as import('node:http').IncomingMessage
      const response = res as unknown as import('node:http').ServerResponse
      response.writeHead(302, headers(asked['x-forwarded-host'] as string | undefined)).end()
    }) as never)
    const found = states(await look(server.origin))
    await server.close()
    return found
  }
  const to = (origin: string) =>
    `https://idp.example/?redirect_uri=${encodeURIComponent(`${origin}/auth/cb`)}`

  test('that believes a forged host, believes another address, or sets weak cookies is told', async () => {
    const weak = await pretending(() => ({
      location: to('http://other.example'),
      'set-cookie': 'jit-x=1; Path=/',
    }))
    expect(weak).toMatchObject({
      'cookie of a sign-in': 'wrong',
      'own address': 'wrong',
      'forged X-Forwarded-Host': 'sound',
    })
    const forged = await pretending((host) => ({
      location: to(host ? `https://${host}` : 'http://localhost'),
      'set-cookie': 'jit-x=1; Path=/; HttpOnly; SameSite=Lax',
    }))
    expect(forged).toMatchObject({ 'cookie of a sign-in': 'sound', 'forged X-Forwarded-Host': 'wrong' })
  })

  test('served by plain http elsewhere is wrong', async () => {
    const fetch = async () => new Response(null, { status: 404 })
    expect(states(await look('http://app.example', { fetch }))).toMatchObject({ scheme: 'wrong' })
    expect(states(await look('https://app.example', { fetch }))).toMatchObject({ scheme: 'sound' })
  })
})

describe('The command', () => {
  test('without anything to look at says what to give: exit code 1', async () => {
    expect(await run()).toMatchObject({ code: 1, err: expect.stringContaining('--store') })
    expect(await run('--url', 'https://app.example')).toMatchObject({
      code: 1,
      err: expect.stringContaining('--connection'),
    })
  })
})
