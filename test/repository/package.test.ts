import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const project = mkdtempSync(join(tmpdir(), 'passport-jit-pack-'))
const installed = join(project, 'node_modules', 'passport-jit')
const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** A project of somebody else, with the packed kit installed beside the packages it needs. */
beforeAll(() => {
  if (!existsSync(join(root, 'dist/lib/index.js'))) throw new Error('build first: npm run build')
  const tarball = execFileSync(
    'npm',
    ['pack', '--silent', '--ignore-scripts', '--pack-destination', project],
    {
      cwd: root,
      encoding: 'utf8',
    },
  ).trim()
  mkdirSync(installed, { recursive: true })
  execFileSync('tar', ['-xzf', join(project, tarball), '-C', installed, '--strip-components=1'])
  for (const name of readdirSync(join(root, 'node_modules')).filter((entry) => !entry.startsWith('.'))) {
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name))
  }
})
afterAll(() => rmSync(project, { recursive: true, force: true }))

const entries = Object.keys(
  (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: Record<string, string> })
    .exports,
)
  .filter((name) => name !== './package.json')
  .map((name) => name.replace('.', 'passport-jit'))

describe('The packed package', () => {
  test.each(entries)('%s can be imported and required, and both give the same', (name) => {
    const script = `import { createRequire } from 'node:module'
const required = createRequire(import.meta.url)('${name}')
const imported = await import('${name}')
for (const key of Object.keys(imported)) if (key !== 'default' && required[key] !== imported[key]) throw new Error(key)
console.log(Object.keys(imported).length)`
    const file = join(project, 'load.mjs')
    writeFileSync(file, script)
    expect(Number(run(process.execPath, '--no-warnings', file))).toBeGreaterThan(0)
  })

  test('holds the built kit, its documents and nothing else', () => {
    const files = readdirSync(installed, { recursive: true, encoding: 'utf8' })
    expect(files).toEqual(
      expect.arrayContaining([
        ...['README.md', 'SECURITY.md', 'docs/errors.md', 'LICENSE'],
        ...['dist/lib/index.js', 'dist/lib/index.d.ts'],
      ]),
    )
    expect(
      files.filter((file) =>
        /^(lib|test|examples|stores|strategies|docs)\/(?!errors\.md)|dist\/examples|dist\/test\/(?!contract)/.test(
          file,
        ),
      ),
    ).toEqual([])
    expect(files.filter((file) => /\.(map|sqlite|tsbuildinfo)$/.test(file))).toEqual([])
  })

  test('holds no failpoint, and nothing in the environment switches a check off', () => {
    const code = readdirSync(join(installed, 'dist'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.js'))
      .map((file) => [file, readFileSync(join(installed, 'dist', file), 'utf8')] as const)
    expect(code.length).toBeGreaterThan(50)
    const naming = (pattern: RegExp) => code.filter(([, text]) => pattern.test(text)).map(([file]) => file)
    expect(naming(/NODE_ENV|JIT_TEST|RIG_|SIGKILL|SIGSTOP|failpoint/i)).toEqual([])
    // Secrets that a configuration names are read from it, and nothing else is.
    const kit = (file: string) => !file.startsWith('test/contract/')
    expect(
      naming(/process\.env/)
        .filter(kit)
        .sort(),
    ).toEqual(['configuration', 'directory', 'store-directory'].map((name) => `lib/${name}.js`))
  })

  test('its types serve a strict project, and refuse what is wrong', () => {
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          module: 'nodenext',
          target: 'es2023',
          noEmit: true,
          skipLibCheck: true,
          types: ['node'],
        },
        files: ['app.ts'],
      }),
    )
    writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
    writeFileSync(
      join(project, 'app.ts'),
      `import express from 'express'
import passport from 'passport'
import { createJit, staticDirectory, JitError } from 'passport-jit'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'

const jit = createJit({
  baseUrl: 'http://localhost:3000',
  store: memoryStore(), lock: memoryLock(), once: memoryOnce(),
  directory: staticDirectory({ organizations: [{ id: 'a', name: 'A', roles: ['member'] }] }),
  strategies: [samlStrategy(), oidcStrategy()],
})
jit.passport(passport)
const app = express()
app.use(jit.routes())
app.use('/login', jit.authenticate({ connection: 'x', callback: '/login' }), jit.provision({ session: false }), (req, res) => {
  const email: string | null | undefined = req.user?.email
  const roles: readonly string[] = req.user?.memberships.flatMap((membership) => membership.roles) ?? []
  const outcome: 'created' | 'linked' | 'updated' | 'unchanged' | 'denied' | undefined = req.jit?.outcome
  res.json({ email, roles, outcome })
})
app.use(jit.errorPage())
export const code = (error: JitError): 'seats_full' | false => error.code === 'seats_full' && error.code

// @ts-expect-error an unknown option
createJit({ baseURL: '' })
// @ts-expect-error an unknown error code
export const wrong = (error: JitError) => error.code === 'no_such_code'
`,
    )
    expect(run(process.execPath, join(root, 'node_modules/typescript/bin/tsc'), '-p', '.')).toBe('')
  })
})
