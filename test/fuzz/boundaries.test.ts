import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { type EntryRow, JitError, type JitUser, storeDirectory } from 'passport-jit'
import { memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { putSealed, takeSealed } from '../../lib/attempt.js'
import { anything, patience, runs, text } from './inputs.js'
import { type Scene, startScene } from './scene.js'

vi.setConfig({ testTimeout: patience })

// What a backend gives back, and what an operator or a tenant's administrator hands in.

/** Something as JSON keeps it. */
const json = fc
  .oneof(
    anything,
    fc.json().map((text) => JSON.parse(text) as unknown),
  )
  .map((value) => {
    const kept = JSON.stringify(value, (_, entry) => (typeof entry === 'bigint' ? null : entry))
    return kept === undefined ? null : (JSON.parse(kept) as unknown)
  })

/** A value with one of its parts, at any depth, taken away or replaced. */
const damaged = (sound: object) => {
  const paths: string[][] = []
  const walk = (value: unknown, path: string[]) => {
    if (path.length > 0) paths.push(path)
    if (typeof value === 'object' && value !== null)
      for (const [key, entry] of Object.entries(value)) walk(entry, [...path, key])
  }
  walk(sound, [])
  return fc.tuple(fc.constantFrom(...paths), fc.option(json, { nil: undefined })).map(([path, value]) => {
    const copy = structuredClone(sound) as Record<string, never>
    let at = copy
    for (const step of path.slice(0, -1)) at = at[step]!
    const last = path.at(-1)!
    if (value === undefined) delete at[last]
    else
      Object.defineProperty(at, last, {
        value: value as never,
        enumerable: true,
        configurable: true,
        writable: true,
      })
    return copy as unknown
  })
}

describe('N01, N04: what a session store gives back', () => {
  let scene: Scene
  let sound: { passport: { user: object } }
  const store = () => (scene.app.sessions as unknown as { sessions: Record<string, string> }).sessions
  beforeAll(async () => {
    scene = await startScene()
    await scene.session()
    sound = JSON.parse(store()[scene.sessions()[0]!]!)
  })
  afterAll(() => scene.close())

  test('is a session that still is one, or nobody’s; whatever it holds, the app goes on', async () => {
    const lost: unknown[] = []
    const note = (reason: unknown) => lost.push(reason)
    process.on('unhandledRejection', note)
    const given = async (user: unknown) => {
      const cookie = await scene.session()
      const [id] = scene.sessions()
      store()[id!] = JSON.stringify({ ...sound, passport: { user } })
      const answer = await fetch(`${scene.app.origin}/me`, { headers: { cookie } })
      delete store()[id!]
      return answer
    }
    try {
      expect((await given(sound.passport.user)).status).toBe(200)
      await fc.assert(
        fc.asyncProperty(fc.oneof(json, damaged(sound.passport.user)), async (user) => {
          const { id: who, epochs, via } = sound.passport.user as JitUser
          const answer = await given(user)
          expect([200, 401]).toContain(answer.status)
          if (answer.status === 200) {
            // She came by mail, and no connection whose epoch could have ended her session.
            const expected = { id: who, via, epochs: { user: epochs.user } }
            expect(((await answer.json()) as { user: object }).user).toMatchObject(expected)
          }
        }),
        {
          numRuns: Math.ceil(runs / 10),
          examples: [['42'], [{ ...sound.passport.user, jit: null }]],
        },
      )
    } finally {
      process.off('unhandledRejection', note)
    }
    expect(lost).toEqual([])
  })
})

describe('O01, P16: what the backend of one-time values gives back', () => {
  test('is what was put there, or nothing', async () => {
    const token = 'a'.repeat(43)
    const value = { source: 'connection:acme', returnTo: '/' }
    const change = fc.record({
      kind: fc.constantFrom('anything', 'cut', 'flipped', 'longer', 'of another', 'as it was'),
      with: text,
      at: fc.nat(),
    })
    await fc.assert(
      fc.asyncProperty(change, async ({ kind, with: other, at }) => {
        const inner = memoryOnce()
        await putSealed(inner, 'attempt', 'b'.repeat(43), { source: 'connection:globex' }, 1_000)
        const foreign: string[] = []
        const kept: string[] = []
        const once = { ...inner, put: async (_: string, sealed: string) => void kept.push(sealed) }
        await putSealed(once, 'attempt', token, value, 1_000)
        await putSealed(
          { ...inner, put: async (_, sealed) => void foreign.push(sealed) },
          'ticket',
          token,
          value,
          1,
        )
        const sealed = kept[0]!
        const place = at % sealed.length
        const given = {
          anything: other,
          cut: sealed.slice(0, place),
          flipped: sealed.slice(0, place) + (sealed[place] === 'A' ? 'B' : 'A') + sealed.slice(place + 1),
          longer: sealed + (other || 'AAAA'),
          'of another': foreign[0]!,
          'as it was': sealed,
        }[kind]
        const same = Buffer.from(given, 'base64url').equals(Buffer.from(sealed, 'base64url'))
        const taken = await takeSealed({ ...inner, take: async () => given }, 'attempt', token).catch(
          (error) => {
            expect(error).toBeInstanceOf(JitError)
            expect(error.code).toBe('unavailable')
            return null
          },
        )
        expect(taken).toEqual(same ? value : null)
      }),
      { numRuns: runs },
    )
  })
})

const entries = {
  organizations: [
    { id: 'o', name: 'O', roles: ['member'], domains: ['o.example'], domainJit: { roles: ['member'] } },
  ],
  connections: [
    {
      id: 'c',
      organization: 'o',
      protocol: 'oidc',
      issuer: 'https://idp.example',
      clientId: 'c',
      clientSecret: 's',
      vouchesFor: ['o.example'],
      jit: { create: true, join: true, roles: ['member'] },
      attributes: { email: 'email', groups: 'groups' },
      groups: { map: { staff: ['member'] } },
    },
  ],
} as const

/** What is refused is refused by a code and with its problems. */
async function orRefused<T>(work: () => Promise<T>): Promise<T | JitError> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof JitError)) throw error
    expect(error.code).toBe('config_invalid')
    return error
  }
}

const keys = [{ id: 'k', key: Buffer.alloc(32, 1).toString('base64') }]

describe('L21, L25: a directory in the store', () => {
  test('takes an import whole, or refuses it and stays as it was', () =>
    fc.assert(
      fc.asyncProperty(
        fc.oneof(
          damaged(entries),
          json,
          fc.record({ entries: json }),
          fc.record({ organizations: json, connections: json }),
        ),
        async (input) => {
          const store = memoryStore()
          const directory = storeDirectory({ store, keys, env: {} })
          const found = await orRefused(() => directory.import(input as never))
          const { organizations, connections } = await store.entries.known({
            organizations: ['o'],
            connections: ['c'],
            domains: [],
          })
          if (found instanceof JitError) expect([...organizations, ...connections]).toEqual([])
        },
      ),
      {
        numRuns: Math.ceil(runs / 2),
        examples: [[{ entries: {} }], [{ entries: { organizations: [null], connections: [] } }]],
      },
    ))

  test('answers with what a row holds, or says which row is broken', async () => {
    const store = memoryStore()
    await storeDirectory({ store, keys, env: {} }).import(entries as never)
    const row = (await store.entries.connection('c'))!
    const kept = JSON.parse(row.entry) as object
    const without = (name: string) => JSON.stringify({ ...kept, [name]: undefined })
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          text,
          damaged(kept).map((entry) => JSON.stringify(entry)),
          json.map((entry) => JSON.stringify(entry)),
        ),
        async (entry) => {
          const broken: EntryRow = { ...row, entry }
          const damagedStore = {
            ...store,
            entries: {
              ...store.entries,
              connection: async () => broken,
              connections: async (after: string) => (after === '' ? [broken] : []),
              domain: async () => ({
                owner: (await store.entries.organization('o'))!,
                connections: [broken],
              }),
              known: async (query: Parameters<typeof store.entries.known>[0]) => ({
                ...(await store.entries.known(query)),
                connections: [broken],
              }),
            },
          }
          const directory = storeDirectory({ store: damagedStore, keys, env: {} })
          const found = await orRefused(() => directory.connection('c'))
          if (found instanceof JitError) expect(found.message).toContain('"c"')
          await orRefused(() => directory.domain('o.example'))
          await orRefused(() => directory.rotate())
          await orRefused(async () => directory.switched('c', false))
          await orRefused(() => directory.import(entries as never))
        },
      ),
      {
        numRuns: Math.ceil(runs / 4),
        examples: [['null'], ['5'], ['[]'], [without('vouchesFor')], [without('attributes')]],
      },
    )
  })
})

describe('S29, O21: passport-jit on the command line', () => {
  const command = fileURLToPath(new URL('../../dist/lib/command.js', import.meta.url))
  const folder = mkdtempSync(join(tmpdir(), 'passport-jit-fuzz-'))
  beforeAll(() => {
    if (!existsSync(command)) throw new Error('build first: npm run build')
    writeFileSync(join(folder, 'sound.json'), JSON.stringify(entries))
    writeFileSync(join(folder, 'no.db'), 'this is no database')
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** The code is the signal's name where one ended the process. */
  const run = (args: readonly string[]) =>
    new Promise<{ code: number | string; out: string }>((resolve) => {
      const { DATABASE_URL: _, ...env } = process.env
      execFile(process.execPath, [command, ...args], { cwd: folder, env }, (error, out, err) =>
        resolve({ code: error ? (error.code ?? error.signal ?? 'lost') : 0, out: out + err }),
      )
    })

  const word = fc.oneof(
    fc.constantFrom(
      ...[
        'check',
        'explain',
        'why',
        'preview',
        'audit',
        'verify',
        'export',
        'doctor',
        'file.json',
        'sound.json',
      ],
      ...[
        '--json',
        '--store',
        'sqlite:no.db',
        'sqlite:none.db',
        'sqlite:.',
        'postgres://127.0.0.1:1/x',
        'postgres://%',
      ],
      ...[
        '--connection',
        'c',
        '--subject',
        's',
        '--claims',
        '{}',
        '{"email":[]}',
        '@file.json',
        '@',
        '--people',
        '9',
      ],
      ...[
        '--expect',
        `1:${'a'.repeat(64)}`,
        '--from',
        '2026-13-45',
        '--type',
        'created',
        '--url',
        'http://127.0.0.1:1',
      ],
    ),
    text.map((value) => value.replaceAll('\0', '')),
  )
  const sensible = fc.tuple(
    fc.constantFrom(
      ['check', 'file.json'],
      ['check', 'file.json', '--json'],
      ['explain', 'file.json', '--subject', 's', '--connection', 'c', '--store', 'sqlite:no.db'],
      [
        'explain',
        'sound.json',
        '--subject',
        's',
        '--connection',
        'c',
        '--claims',
        '@file.json',
        '--store',
        'sqlite:no.db',
      ],
      ['preview', 'file.json', '--store', 'sqlite:no.db'],
      ['audit', 'verify', '--store', 'sqlite:no.db'],
      ['doctor', '--url', 'http://127.0.0.1:1', '--connection', 'c'],
    ),
    fc.array(word, { maxLength: 2 }),
  )
  const args = fc.oneof(
    sensible.map(([usual, more]) => [...usual, ...more]),
    fc.array(word, { maxLength: 5 }),
  )
  const file = fc.oneof(
    text,
    damaged(entries).map((value) => JSON.stringify(value)),
    json.map((value) => JSON.stringify(value)),
  )

  test('says what is wrong in a sentence and by its exit code, and never by a stack trace', () =>
    fc.assert(
      fc.asyncProperty(args, file, async (args, content) => {
        writeFileSync(join(folder, 'file.json'), content)
        const { code, out } = await run(args)
        expect(out).not.toMatch(/^\s+at .*:\d+:\d+\)?$/m)
        expect(out).not.toContain('Node.js v')
        expect([0, 1, 2]).toContain(code)
        if (code !== 0) expect(out.trim()).not.toBe('')
      }),
      {
        numRuns: Math.ceil(runs / 125),
        // Each is a process.
        endOnFailure: true,
        examples: [
          [['check', 'file.json'], '{"connections":[{"id":{"toString":1}}]}'],
          [['check', 'file.json'], `${'['.repeat(20_000)}${']'.repeat(20_000)}`],
          [['check', 'file.json'], `{"organizations":${'['.repeat(20_000)}${']'.repeat(20_000)}}`],
        ],
      },
    ))
})
