import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { directoryInput } from '../tables/facts.js'

const command = fileURLToPath(new URL('../../dist/lib/command.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'passport-jit-check-'))
beforeAll(() => {
  if (!existsSync(command)) throw new Error('build first: npm run build')
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (...args: string[]) =>
  new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const env = { ...process.env, CHECKED_SECRET: '' }
    execFile(process.execPath, [command, ...args], { cwd: folder, env }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    )
  })

function file(name: string, change: (input: Record<string, Record<string, unknown>[]>) => void): string {
  const input = structuredClone(directoryInput) as unknown as Record<string, Record<string, unknown>[]>
  input.connections![0]!.vouchesFor = ['o.example']
  change(input)
  writeFileSync(join(folder, name), JSON.stringify(input))
  return name
}

describe('passport-jit check FILE', () => {
  test('a sound file: exit code 0, and says so', async () => {
    expect(
      await run(
        'check',
        file('sound.json', () => {}),
      ),
    ).toEqual({ code: 0, out: '✓ sound.json can be used\n', err: '' })
  })

  test('warnings: exit code 0, each a sentence', async () => {
    const odd = file('odd.json', (input) => {
      input.connections![0]!.vouchesFor = ['acquired.example']
    })
    const { code, out } = await run('check', odd)
    expect(code).toBe(0)
    expect(out).toMatch(
      /^! connection "c" of organization "o" vouches for "acquired\.example", which organization "p" owns/m,
    )
  })

  test('problems: exit code 1, all of them at once, and no stack trace', async () => {
    const wrong = file('wrong.json', (input) => {
      input.connections![0]!.vouchFor = []
      input.organizations![0]!.domains = ['gmail.com']
      input.connections![0]!.clientSecret = { env: 'CHECKED_SECRET' } as never
    })
    const { code, out, err } = await run('check', wrong)
    expect(code).toBe(1)
    expect(out).toContain('✗ connection "c": there is no key "vouchFor" (did you mean "vouchesFor"?)')
    expect(out).toContain('✗ organization "o": domains.0: "gmail.com" is a public mail provider')
    expect(out + err).not.toMatch(/\bat .*\.js:\d+/)
  })

  test('--json: one object for programs', async () => {
    const wrong = file('wrong-too.json', (input) => {
      input.organizations![0]!.domains = ['co.uk']
    })
    const { code, out } = await run('check', wrong, '--json')
    expect(code).toBe(1)
    expect(JSON.parse(out)).toEqual({
      ok: false,
      problems: [expect.stringContaining('public suffix')],
      warnings: [],
    })
    const fine = await run(
      'check',
      file('fine.json', () => {}),
      '--json',
    )
    expect(JSON.parse(fine.out)).toEqual({ ok: true, problems: [], warnings: [] })
  })

  test.each([
    [['check', 'nowhere.json'], /nowhere\.json/],
    [['check'], /missing required argument 'file'/],
    [['chek', 'x.json'], /unknown command 'chek'/],
    [['check', 'x.json', '--jsn'], /unknown option '--jsn'/],
  ])('%j: exit code 1 and a sentence', async (args, sentence) => {
    const { code, out, err } = await run(...args)
    expect(code).toBe(1)
    expect(out + err).toMatch(sentence)
  })
})
