import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'libsql'
import type { Decision, Store, Verification } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { commit, kit, start } from '../audit/kit.js'
import { needs, postgres } from '../rig/services.js'

const command = fileURLToPath(new URL('../../dist/lib/command.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'passport-jit-audit-'))
const file = join(folder, 'jit.db')
const inFile = ['--store', `sqlite:${file}`]

const runWith = (env: Record<string, string>, ...args: string[]) =>
  new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const { DATABASE_URL: _, ...rest } = process.env
    const options = { cwd: folder, env: { ...rest, ...env }, maxBuffer: 1e9 }
    execFile(process.execPath, [command, 'audit', ...args], options, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    )
  })
const run = (...args: string[]) => runWith({}, ...args)

const linesOf = (out: string): Decision[] =>
  out
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))

const tamper = (statement: string) => {
  const raw = new Database(file)
  raw.exec(statement)
  raw.close()
}

/** Four decisions, three of them sealed. */
async function filled(store: Store): Promise<void> {
  await store.migrate()
  await commit(store, 'a', { type: 'created', user: 'ann', at: start })
  await commit(store, 'b', { type: 'granted', user: 'ben', organization: 'o', at: start + 1_000 })
  await commit(store, 'c', { type: 'denied', source: 'connection:c', at: start + 2_000 })
  await kit(store).jit.background.runOnce()
  await commit(store, 'd', { type: 'left', user: 'ann', at: start + 86_400_000 })
}

beforeAll(async () => {
  if (!existsSync(command)) throw new Error('build first: npm run build')
  const store = sqliteStore({ file })
  await filled(store)
  store.close()
})
afterAll(() => rmSync(folder, { recursive: true }))

const head = async () => {
  const { head } = JSON.parse((await run('verify', ...inFile, '--json')).out) as Verification
  return `${head!.number}:${head!.hash}`
}

describe('passport-jit audit verify', () => {
  test('a sound chain: exit code 0, the newest seal, and what waits', async () => {
    const { code, out, err } = await run('verify', ...inFile)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(
      /^✓ 3 seals over 3 changes, as they were sealed\n! 1 change waits for a seal; .*\nnewest seal: 3:[0-9a-f]{64} \(note it/,
    )
  })

  test('--json: one object for programs', async () => {
    const { code, out } = await run('verify', ...inFile, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toEqual({
      ...{ ok: true, seals: 3, changes: 3, waiting: 1, problems: [] },
      head: { number: 3, hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
    })
  })

  test('--expect: the noted seal is there, or another is, or none', async () => {
    const noted = await head()
    const fits = await run('verify', ...inFile, '--expect', noted)
    expect(fits.code).toBe(0)
    expect(fits.out).not.toContain('note it')
    const other = await run('verify', ...inFile, '--expect', `3:${'0'.repeat(64)}`)
    expect(other.code).toBe(1)
    expect(other.out).toMatch(/^✗ seal 3, over change c, is not the one that was noted/)
    const cut = await run('verify', ...inFile, '--expect', noted.replace('3:', '9:'), '--json')
    expect(cut.code).toBe(1)
    expect(JSON.parse(cut.out)).toMatchObject({ ok: false, problems: [{ problem: 'cut', seal: 9 }] })
  })

  test('a tampered chain: exit code 1, what is wrong and where, and no seal to note', async () => {
    tamper(`update jit_events set user_id = 'eve' where change_id = 'b'`)
    try {
      const { code, out } = await run('verify', ...inFile)
      expect(code).toBe(1)
      expect(out).toMatch(
        /^✗ seal 2, over change b: its events, or the seal itself, are not what was sealed\n/,
      )
      expect(out).toContain('1 problem')
      expect(out).not.toContain('newest seal')
    } finally {
      tamper(`update jit_events set user_id = 'ben' where change_id = 'b'`)
    }
    expect((await run('verify', ...inFile)).code).toBe(0)
  })
})

describe('passport-jit audit export', () => {
  test('all decisions, a line each, newest first', async () => {
    const { code, out, err } = await run('export', ...inFile)
    expect({ code, err }).toEqual({ code: 0, err: '' })
    const store = sqliteStore({ file })
    expect(linesOf(out)).toEqual((await kit(store).jit.audit.decisions()).rows)
    store.close()
    expect(linesOf(out).map(({ change }) => change)).toEqual(['d', 'c', 'b', 'a'])
  })

  const day = new Date(start).toISOString().slice(0, 10)
  test.each<[string[], string[]]>([
    [
      ['--user', 'ann'],
      ['d', 'a'],
    ],
    [['--organization', 'o'], ['b']],
    [['--source', 'connection:c'], ['c']],
    [['--type', 'granted'], ['b']],
    [['--from', new Date(start + 1_000).toISOString(), '--to', new Date(start + 2_000).toISOString()], ['b']],
    [['--to', day], []],
    [
      ['--from', day],
      ['d', 'c', 'b', 'a'],
    ],
  ])('%j', async (options, ids) => {
    const { code, out } = await run('export', ...inFile, ...options)
    expect(code).toBe(0)
    expect(linesOf(out).map(({ change }) => change)).toEqual(ids)
  })

  test('of a reader that has seen enough ends without a word', async () => {
    const large = join(folder, 'large.db')
    const store = sqliteStore({ file: large })
    await store.migrate()
    for (let n = 0; n < 400; n++) await commit(store, `c${n}`, { detail: { text: 'x'.repeat(2_000) } })
    store.close()
    const shell = spawn('sh', [
      '-c',
      `"$0" "$1" audit export --store "sqlite:$2" | head -n 1`,
      process.execPath,
      command,
      large,
    ])
    let [out, err] = ['', '']
    shell.stdout.on('data', (text) => {
      out += text
    })
    shell.stderr.on('data', (text) => {
      err += text
    })
    await new Promise((resolve) => shell.once('close', resolve))
    expect(linesOf(out)).toMatchObject([{ change: 'c399' }])
    expect(err).toBe('')
  })
})

describe('What cannot be done is a sentence and exit code 1', () => {
  test.each<[string[], RegExp]>([
    [['verify'], /✗ --store \(or DATABASE_URL\) is needed: postgres:\/\/… or sqlite:FILE/],
    [['verify', '--store', 'mysql://root:hunter2@db/x'], /✗ --store \(or DATABASE_URL\) must be: postgres/],
    [['verify', '--store', 'sqlite:nowhere.db'], /✗ --store: there is no file nowhere\.db/],
    [['verify', '--store', 'postgres://u:hunter2@127.0.0.1:1/x'], /✗ .*ECONNREFUSED/],
    [['verify', ...inFile, '--expect', '3'], /It must be a number, a colon and 64 hexadecimal digits/],
    [['export', ...inFile, '--type', 'grant'], /Allowed choices are created/],
    [['export', ...inFile, '--source', 'c'], /It must be connection:ID or provider:ID/],
    [['export', ...inFile, '--from', 'yesterday'], /It must be a date such as 2026-01-31/],
    [['export', ...inFile, '--usr', 'x'], /unknown option '--usr'/],
    [['verfy'], /unknown command 'verfy'/],
  ])('%j', async (args, sentence) => {
    const { code, out, err } = await run(...args)
    expect(code).toBe(1)
    expect(err).toMatch(sentence)
    expect(out).toBe('')
    expect(out + err).not.toMatch(/hunter2|\bat .*\.js:\d+/)
    expect(existsSync(join(folder, 'nowhere.db'))).toBe(false)
  })

  test('a file that holds no tables', async () => {
    new Database(join(folder, 'empty.db')).exec('create table x (y)')
    const { code, err } = await run('verify', '--store', 'sqlite:empty.db')
    expect(code).toBe(1)
    expect(err).toMatch(/✗ .*no such table: jit_/)
    expect(err.split('\n')).toHaveLength(2)
  })
})

needs('On PostgreSQL', await postgres(), ({ freshDatabase }) => {
  test('the same, by DATABASE_URL and in a schema of its own', async () => {
    const { url, drop } = await freshDatabase()
    const pool = new Pool({ connectionString: url })
    await filled(postgresStore({ pool, schema: 'own' }))
    await pool.end()
    try {
      const env = { DATABASE_URL: url }
      const verified = await runWith(env, 'verify', '--schema', 'own', '--json')
      expect(verified).toMatchObject({ code: 0, err: '' })
      expect(JSON.parse(verified.out)).toMatchObject({ ok: true, seals: 3 })
      const exported = await runWith(env, 'export', '--schema', 'own', '--user', 'ann')
      expect(linesOf(exported.out).map(({ change }) => change)).toEqual(['d', 'a'])
      const elsewhere = await runWith(env, 'verify')
      expect(elsewhere.code).toBe(1)
      expect(elsewhere.err).toMatch(/✗ .*jit_/)
    } finally {
      await drop()
    }
  })
})
