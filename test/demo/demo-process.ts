import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const built = fileURLToPath(new URL('../../dist/examples/smartworkspace/main.js', import.meta.url))

export interface Run {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Demo {
  readonly url: string
  /** Everything printed so far. */
  readonly output: () => Run
  /** Ends it as an operator would, and tells how it went. */
  readonly stop: (signal?: 'SIGTERM' | 'SIGINT') => Promise<Run>
}

function launch(args: readonly string[], env: Record<string, string>, cwd?: string) {
  if (!existsSync(built)) throw new Error('the demo is not built; run "npm run build" before these tests')
  const folder = cwd ?? mkdtempSync(join(tmpdir(), 'jit-demo-'))
  const inherited = { ...process.env }
  for (const name of ['DATABASE_URL', 'REDIS_URL', 'ADMIN_TOKEN', 'BASE_URL', 'SMTP_URL', 'MAIL_FROM'])
    delete inherited[name]
  const child = spawn(process.execPath, [built, ...args], {
    cwd: folder,
    env: { ...inherited, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const seen = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text) => {
    seen.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    seen.stderr += text
  })
  const ended = once(child, 'close').then(() => {
    if (cwd === undefined) rmSync(folder, { recursive: true, force: true })
    return { code: child.exitCode, ...seen }
  })
  return { child, seen, ended }
}

/** Runs the built demo to its end, in an empty folder. */
export function run(args: readonly string[], env: Record<string, string> = {}): Promise<Run> {
  return launch(args, env).ended
}

/** Starts the built demo on a free port, in an empty folder or in `cwd`, and waits for its banner. */
export async function start(
  args: readonly string[] = [],
  env: Record<string, string> = {},
  cwd?: string,
): Promise<Demo> {
  const { child, seen, ended } = launch(args, env, cwd)
  const address = () => /is at (http\S+)/.exec(seen.stdout)?.[1]
  const listening = new Promise<string>((resolve) => {
    child.stdout.on('data', () => {
      const url = address()
      if (url !== undefined) resolve(url)
    })
  })
  const url = await Promise.race([
    listening,
    ended.then(({ code, stderr }) => {
      throw new Error(`the demo ended with ${code} before it listened:\n${stderr}`)
    }),
  ])
  return {
    url,
    output: () => ({ code: child.exitCode, ...seen }),
    stop: (signal = 'SIGTERM') => {
      child.kill(signal)
      return ended
    },
  }
}
