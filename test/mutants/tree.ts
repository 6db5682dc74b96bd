import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Edit } from './guards.js'

/** What a run of tests came to. */
export interface Result {
  readonly passed: readonly { readonly file: string; readonly name: string }[]
  /** Names of the tests that failed, and of those that did not end. */
  readonly failed: readonly string[]
  readonly timedOut: readonly string[]
  /** What went wrong besides tests, such as a file that cannot be loaded. */
  readonly problems: readonly string[]
  /** Whether it was ended because it took too long. */
  readonly late: boolean
}

/** A run of tests, by project and path; `changed` since the one before. */
export interface Asked {
  readonly files: readonly (readonly [project: string, file: string])[]
  readonly changed: readonly string[]
  readonly named: string | null
  /** Whether it ends with the first test that fails. */
  readonly first: boolean
}

/** A private copy of the repository, to be changed and tested. */
export interface Tree {
  /** Changes the source; what is returned puts it back. */
  apply(edits: readonly Edit[]): () => void
  test(
    files: readonly string[],
    options: { readonly named?: string | undefined; readonly first?: boolean; readonly patience: number },
  ): Promise<Result>
  close(): void
}

/** The project of a file, as vitest.config.ts has them; of several stores the quickest. */
export function projectOf(file: string): string {
  const [path = '', project] = file.split(':').reverse()
  if (project !== undefined) return project
  if (path === 'attacks/saml-load') return 'no store'
  return /^attacks\/|^http\/(?:admin|prove|session)$/.test(path) ? 'memory' : 'once'
}

export function tree(root: string): Tree {
  const copy = mkdtempSync(join(tmpdir(), 'jit-mutants-'))
  const apart = new Set(['node_modules', 'dist', '.git', '.demo', 'coverage'])
  cpSync(root, copy, { recursive: true, filter: (path) => !apart.has(basename(path)) })
  symlinkSync(join(root, 'dist'), join(copy, 'dist'))
  // A folder of its own, because caches are kept in it.
  mkdirSync(join(copy, 'node_modules'))
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name === '.cache' || name.startsWith('.vite')) continue
    symlinkSync(join(root, 'node_modules', name), join(copy, 'node_modules', name))
  }

  const touched = new Set<string>()
  let tester: ChildProcess | null = null

  return {
    apply: (edits) => {
      const before = new Map<string, string>()
      for (const { in: file, find, off } of edits) {
        const path = join(copy, file)
        const text = readFileSync(path, 'utf8')
        touched.add(file)
        if (!before.has(path)) before.set(path, text)
        writeFileSync(
          path,
          text.replace(find, () => off),
        )
      }
      return () => {
        for (const [path, text] of before) writeFileSync(path, text)
        for (const { in: file } of edits) touched.add(file)
      }
    },
    test: async (files, { named, first = false, patience }) => {
      const pairs = files.map((file) => [projectOf(file), `test/${file.split(':').at(-1)}.test.ts`] as const)
      const asked: Asked = { files: pairs, changed: [...touched], named: named ?? null, first }
      touched.clear()
      tester ??= await start(copy)
      const result = await answer(tester, asked, patience)
      if (result.late) tester = null
      return result
    },
    close: () => {
      if (tester) end(tester)
      rmSync(copy, { recursive: true, force: true })
    },
  }
}

/** Vitest in a process of its own, ready to be asked. */
async function start(cwd: string): Promise<ChildProcess> {
  const child = fork(fileURLToPath(new URL('tester.js', import.meta.url)), {
    cwd,
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: { ...process.env, CI: '', VITEST: 'true', NODE_ENV: 'test' },
  })
  await once(child, 'message')
  return child
}

/** With all that it started. */
const end = (child: ChildProcess) => process.kill(-child.pid!, 'SIGKILL')

function answer(child: ChildProcess, asked: Asked, patience: number): Promise<Result> {
  const nothing = { passed: [], failed: [], timedOut: [], problems: [], late: true }
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(child), patience)
    const settle = (result: Result) => {
      clearTimeout(timer)
      child.removeAllListeners()
      resolve(result)
    }
    child.once('message', settle)
    child.once('exit', () => settle(nothing))
    child.send(asked)
  })
}
