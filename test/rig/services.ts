import { execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Client } from 'pg'
import { describe, test } from 'vitest'

/** A server process of ours on a port of its own; it ends with this process, however this process ends. */
export interface PrivateServer {
  readonly url: string
  readonly port: number
  /** `SIGSTOP` hangs it, `SIGKILL` crashes it; resolves when a killed one is gone. */
  stop(signal?: 'SIGSTOP' | 'SIGKILL' | 'SIGTERM'): Promise<void>
  /** Wakes a hung one. */
  cont(): void
  /** Starts a stopped one again on the same port, and resolves when it answers. */
  restart(): Promise<void>
  close(): Promise<void>
}

export interface PostgresService {
  readonly url: string
  /** An empty database, to be dropped by the test that asked for it. */
  freshDatabase(): Promise<{ readonly url: string; drop(): Promise<void> }>
}

export interface RedisService {
  readonly url: string
}

let foundPostgres: Promise<PostgresService | null> | undefined
let foundRedis: Promise<RedisService | null> | undefined

/** PostgreSQL by `DATABASE_URL`, on its usual port, or a private one; null where none is installed. */
export function postgres(): Promise<PostgresService | null> {
  const usual = 'postgres://postgres@127.0.0.1:5432/postgres'
  foundPostgres ??= find('DATABASE_URL', usual, askPostgres, startPostgres).then((url) =>
    url === null ? null : { url, freshDatabase: () => freshDatabase(url) },
  )
  return foundPostgres
}

/** Redis by `REDIS_URL`, on its usual port, or a private one; null where none is installed. */
export function redis(): Promise<RedisService | null> {
  foundRedis ??= find('REDIS_URL', 'redis://127.0.0.1:6379', askRedis, () => startRedis()).then((url) =>
    url === null ? null : { url },
  )
  return foundRedis
}

/**
 * The tests of a service, or where it is missing one test that says so: skipped, and with `CI=true` failing.
 *
 *     needs('Redis', await redis(), ({ url }) => { test(…) })
 */
export function needs<T>(name: string, service: T | null, body: (service: T) => void): void {
  if (service !== null) {
    describe(name, () => body(service))
    return
  }
  const title = `${name} is neither running nor installed`
  if (process.env.CI === 'true') {
    test(title, () => {
      throw new Error(`${title}, and with CI=true its tests must run`)
    })
  } else test.skip(title)
}

async function find(
  variable: string,
  usual: string,
  ask: (url: string) => Promise<unknown>,
  start: () => Promise<PrivateServer | null>,
): Promise<string | null> {
  const named = process.env[variable]
  if (named) {
    await ask(named).catch((cause) => {
      throw new Error(`${variable} is set, but nothing answers there`, { cause })
    })
    return named
  }
  const answers = await ask(usual).then(
    () => true,
    () => false,
  )
  return answers ? usual : ((await start())?.url ?? null)
}

async function askPostgres(url: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('select 1')
  } finally {
    await client.end().catch(() => {})
  }
}

async function askRedis(url: string): Promise<void> {
  const client = new Redis(url, {
    lazyConnect: true,
    retryStrategy: () => null,
    connectTimeout: 2_000,
    commandTimeout: 2_000,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.ping()
  } finally {
    client.disconnect()
  }
}

async function freshDatabase(url: string) {
  const name = `jit_test_${randomUUID().replaceAll('-', '').slice(0, 16)}`
  const admin = async (sql: string) => {
    const client = new Client({ connectionString: url })
    await client.connect()
    try {
      await client.query(sql)
    } finally {
      await client.end()
    }
  }
  await admin(`create database ${name}`)
  const fresh = new URL(url)
  fresh.pathname = `/${name}`
  return { url: fresh.href, drop: () => admin(`drop database if exists ${name} with (force)`) }
}

/** A Redis of this test's own, without persistence, set up further by these arguments; null where none is installed. */
export async function startRedis(...settings: readonly string[]): Promise<PrivateServer | null> {
  if (!installed('redis-server')) return null
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'jit-redis-'))
  const url = `redis://127.0.0.1:${port}`
  const command = [
    'redis-server',
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--dir',
    directory,
    ...settings,
  ]
  return serve({ url, port, command, directory, farewell: 'KILL', ask: () => askRedis(url) })
}

/** A PostgreSQL of this test's own, without fsync; null where its binaries are not installed. */
export async function startPostgres(): Promise<PrivateServer | null> {
  const installations = '/usr/lib/postgresql'
  const newest = existsSync(installations)
    ? readdirSync(installations).sort((a, b) => Number(b) - Number(a))[0]
    : undefined
  const binary = (name: string) => (newest ? join(installations, newest, 'bin', name) : name)
  if (!newest && !installed('initdb')) return null
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'jit-postgres-'))
  const owner = process.getuid?.() === 0 ? accountOf('postgres') : null
  if (owner) chownSync(directory, owner.uid, owner.gid)
  execFileSync(
    binary('initdb'),
    ['-D', directory, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'],
    {
      ...owner,
      cwd: directory,
      stdio: 'ignore',
    },
  )
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const settings = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', fsync: 'off' }
  const command = [
    binary('postgres'),
    '-D',
    directory,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]
  return serve({ url, port, command, directory, owner, farewell: 'QUIT', ask: () => askPostgres(url) })
}

interface Service {
  readonly url: string
  readonly port: number
  readonly command: readonly string[]
  readonly directory: string
  /** Whom the server runs as, where that is not us. */
  readonly owner?: { uid: number; gid: number } | null
  /** The signal that ends it without ado. */
  readonly farewell: 'KILL' | 'QUIT'
  ask(): Promise<void>
}

// The shell takes the server and its files with it when its standard input ends, which is when this process
// does, killed or not. Each line it reads starts the server again.
const warden = `
start() { "$@" </dev/null >/dev/null 2>&1 & server=$!; echo $server; }
start "$@"
while read -r _; do wait $server; start "$@"; done
kill -CONT $server; kill -$FAREWELL $server; wait $server
cd /; rm -rf "$DIRECTORY"
`

async function serve(service: Service): Promise<PrivateServer> {
  const shell = spawn('sh', ['-c', warden, 'sh', ...service.command], {
    ...service.owner,
    cwd: service.directory,
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { ...process.env, FAREWELL: service.farewell, DIRECTORY: service.directory },
  })
  const started = async () => {
    const [line] = (await once(shell.stdout, 'data')) as [Buffer]
    await until(true)
    return Number(String(line))
  }
  const until = async (answering: boolean) => {
    const deadline = Date.now() + 20_000
    for (;;) {
      const failure = await service.ask().then(
        () => null,
        (error: unknown) => error ?? 'no answer',
      )
      if ((failure === null) === answering) return
      if (Date.now() > deadline) {
        throw new Error(`${service.command[0]} ${answering ? 'does not answer' : 'does not stop'}`, {
          cause: failure,
        })
      }
      await sleep(25)
    }
  }
  let pid = await started()
  // A server that several tests share must not keep their process alive.
  shell.unref()
  for (const pipe of [shell.stdin, shell.stdout]) (pipe as unknown as Socket).unref()
  return {
    url: service.url,
    port: service.port,
    stop: async (signal = 'SIGSTOP') => {
      process.kill(pid, signal)
      if (signal !== 'SIGSTOP') await until(false)
    },
    cont: () => {
      process.kill(pid, 'SIGCONT')
    },
    restart: async () => {
      shell.stdin.write('\n')
      pid = await started()
    },
    close: async () => {
      shell.stdin.end()
      if (shell.exitCode === null) await once(shell, 'exit')
    },
  }
}

function installed(program: string): boolean {
  const path = process.env.PATH ?? ''
  return path.split(':').some((directory) => existsSync(join(directory, program)))
}

function accountOf(name: string): { uid: number; gid: number } {
  const number = (flag: string) => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }))
  return { uid: number('-u'), gid: number('-g') }
}

/** A port that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  const probe = createServer()
  probe.listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
