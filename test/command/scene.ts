import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DirectoryInput, Store } from 'passport-jit'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { afterAll, beforeAll } from 'vitest'

const command = fileURLToPath(new URL('../../dist/lib/command.js', import.meta.url))

/** A folder with a store in a file, and the command run in it. */
export function commandScene(filled: (store: Store) => Promise<void>) {
  const folder = mkdtempSync(join(tmpdir(), 'passport-jit-command-'))
  const database = join(folder, 'jit.db')
  const opened = sqliteStore({ file: database })
  beforeAll(async () => {
    if (!existsSync(command)) throw new Error('build first: npm run build')
    await filled(opened)
  })
  afterAll(() => {
    opened.close()
    rmSync(folder, { recursive: true })
  })
  const write = (name: string, content: unknown) => {
    writeFileSync(join(folder, name), JSON.stringify(content))
    return name
  }
  return {
    store: opened,
    write,
    policyFile: (name: string, input: DirectoryInput) => write(name, input),
    run: (...args: string[]) =>
      new Promise<{ code: number; out: string; err: string }>((resolve) => {
        const env = { ...process.env, DATABASE_URL: `sqlite:${database}` }
        const options = { cwd: folder, env, maxBuffer: 1e8 }
        execFile(process.execPath, [command, ...args], options, (error, out, err) =>
          resolve({ code: error ? Number(error.code) : 0, out, err }),
        )
      }),
  }
}
