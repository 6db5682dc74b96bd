import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { DirectoryInput } from 'passport-jit'
import { createOidcIdp } from '../../examples/identity-providers/oidc.js'
import { createSamlIdp } from '../../examples/identity-providers/saml.js'
import type { AppOptions, Asked, Held, Told } from './app.js'
import type { Failpoint } from './failpoints.js'

/** Origin under which every process of a fleet believes to be reached; the rig is its load balancer. */
export const baseUrl = 'http://localhost'

export type Protocol = 'oidc' | 'saml'

export interface Person {
  readonly id: string
  readonly email: string
  readonly name: string
  /** As the identity provider tells them at the next sign-in. */
  groups: readonly string[]
  readonly protocol: Protocol
}

/** Two organizations with an identity provider each, served by this process. */
export interface World {
  readonly directory: DirectoryInput
  /** Somebody whom their identity provider knows and the app has never seen. */
  newcomer(protocol?: Protocol): Person
  close(): Promise<void>
}

/** @param seats how many people Globex has room for; no limit by default */
export async function world({ seats = null }: { seats?: number | null } = {}): Promise<World> {
  type Listener = (req: IncomingMessage, res: ServerResponse) => void
  const serve = async () => {
    let listener: Listener = (_req, res) => res.writeHead(503).end()
    const server = createServer((req, res) => listener(req, res)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      answer: (chosen: Listener) => {
        listener = chosen
      },
      close: async () => {
        server.closeAllConnections()
        server.close()
        await once(server, 'close')
      },
    }
  }
  const [oidcServer, samlServer] = [await serve(), await serve()]
  const people: Record<Protocol, Person[]> = { oidc: [], saml: [] }
  const client = { id: 'rig', secret: 'a secret of the rig' }
  const oidc = await createOidcIdp({
    issuer: oidcServer.url,
    people: people.oidc,
    clients: [{ ...client, redirectUris: [`${baseUrl}/auth/sso/acme/callback`] }],
  })
  const saml = await createSamlIdp({ url: samlServer.url, people: people.saml })
  oidcServer.answer(oidc.handler)
  samlServer.answer(saml.handler)

  const policy = {
    jit: { roles: ['member'] },
    groups: { map: { admins: ['admin'] } },
  }
  return {
    directory: {
      organizations: [
        { id: 'acme', name: 'Acme', roles: ['owner', 'admin', 'member'], domains: ['acme.example'] },
        {
          ...{ id: 'globex', name: 'Globex', roles: ['owner', 'admin', 'member'] },
          ...{ domains: ['globex.example'], seatLimit: seats },
        },
      ],
      connections: [
        {
          ...policy,
          id: 'acme',
          organization: 'acme',
          protocol: 'oidc',
          issuer: oidc.issuer,
          clientId: client.id,
          clientSecret: client.secret,
          allowInsecureRequests: true,
          attributes: { email: 'email', name: 'name', groups: 'groups' },
        },
        {
          ...policy,
          id: 'globex',
          organization: 'globex',
          protocol: 'saml',
          idpMetadata: saml.metadata,
          attributes: { email: 'email', name: 'displayName', groups: 'groups' },
        },
      ],
    },
    newcomer: (protocol = 'oidc') => {
      const id = randomUUID()
      const domain = protocol === 'oidc' ? 'acme.example' : 'globex.example'
      const person: Person = { id, email: `${id}@${domain}`, name: 'New Hire', groups: ['admins'], protocol }
      people[protocol].push(person)
      return person
    },
    close: async () => {
      await Promise.all([oidcServer.close(), samlServer.close()])
    },
  }
}

/** An app process of ours. */
export interface App {
  readonly url: string
  readonly pid: number
  /** Resolves with the signal or the exit code that ended it. */
  readonly ended: Promise<NodeJS.Signals | number | null>
  /** Has it die or pause at this failpoint of the steps to come; with null it reports them to `steps` instead. */
  arm(failpoint: Failpoint | null): Promise<void>
  /** Moves its clock this many milliseconds away from the machine's, negative ones into the past. */
  clock(ahead: number): Promise<void>
  /** What it holds open. */
  held(): Promise<Held>
  /** `SIGSTOP` pauses it, `SIGCONT` wakes it, `SIGKILL` ends it. */
  kill(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL'): void
  /** Resolves when the kernel says that it is paused. */
  paused(): Promise<void>
  readonly steps: readonly string[]
  /** What it wrote to standard error. */
  readonly log: () => string
  close(): Promise<void>
}

const compiled = fileURLToPath(new URL('../../dist/test/rig/app.js', import.meta.url))

/** Starts an app process and resolves when it listens. */
export async function startApp(options: AppOptions): Promise<App> {
  if (!existsSync(compiled)) {
    throw new Error('the app processes run compiled code, and there is none: run "npm run build" before')
  }
  const child = spawn(process.execPath, [compiled], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, RIG_OPTIONS: JSON.stringify(options) },
  })
  const steps: string[] = []
  let log = ''
  child.stderr!.setEncoding('utf8').on('data', (text) => {
    log += text
  })
  child.on('message', (message: Told) => {
    if (message.told === 'step') steps.push(message.step)
  })
  const ended = new Promise<NodeJS.Signals | number | null>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? code))
  })
  const ask = <K extends Told['told']>(asked: Asked, answer: K) => {
    const answered = told(child, answer, () => log)
    child.send(asked)
    return answered
  }
  const { port } = await told(child, 'listening', () => log)
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid!,
    ended,
    arm: async (failpoint) => {
      await ask({ ask: 'arm', failpoint }, 'done')
    },
    clock: async (ahead) => {
      await ask({ ask: 'clock', ahead }, 'done')
    },
    held: () => ask({ ask: 'held' }, 'held'),
    kill: (signal) => {
      child.kill(signal)
    },
    paused: async () => {
      while (!/^\d+ \(.*\) T/.test(readFileSync(`/proc/${child.pid}/stat`, 'utf8'))) {
        await sleep(5)
      }
    },
    steps,
    log: () => log,
    close: async () => {
      child.kill('SIGKILL')
      await ended
    },
  }
}

function told<K extends Told['told']>(child: ChildProcess, kind: K, log: () => string) {
  return new Promise<Extract<Told, { told: K }>>((resolve, reject) => {
    const listen = (message: Told) => {
      if (message.told !== kind) return
      child.off('message', listen).off('exit', gone)
      resolve(message as Extract<Told, { told: K }>)
    }
    const gone = () => reject(new Error(`the app process ended before it was ${kind}:\n${log()}`))
    child.on('message', listen).once('exit', gone)
  })
}

/** How a request of a browser ended; the body is kept for what is no redirect. */
export interface Ending {
  readonly status: number
  readonly location: string | null
  readonly retryAfter: string | null
  readonly body: string
}

/** A browser: a cookie jar and the patience of half a minute. */
export class Browser {
  readonly #cookies: Map<string, string>

  /** @param like whose cookies it has, as a copy of them would have been taken */
  constructor(like?: Browser) {
    this.#cookies = new Map(like ? like.#cookies : [])
  }

  /** A request to this process of the fleet. */
  async go(app: Pick<App, 'url'>, path: string, form?: URLSearchParams): Promise<Ending> {
    const response = await fetch(app.url + path, {
      method: form ? 'POST' : 'GET',
      redirect: 'manual',
      signal: AbortSignal.timeout(30_000),
      headers: { cookie: [...this.#cookies].map((pair) => pair.join('=')).join('; ') },
      ...(form && { body: form }),
    })
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
      if (value === '') this.#cookies.delete(name!)
      else this.#cookies.set(name!, value!)
    }
    const { status, headers } = response
    return {
      status,
      location: headers.get('location'),
      retryAfter: headers.get('retry-after'),
      body: await response.text(),
    }
  }

  /** Who this browser is signed in as, or null. */
  async me(app: Pick<App, 'url'>): Promise<{ id: string; email: string } | null> {
    const { status, body } = await this.go(app, '/me')
    if (status === 200) return JSON.parse(body)
    if (status === 401) return null
    throw new Error(`/me answered ${status}: ${body}`)
  }

  /**
   * Begins a sign-in and has the identity provider answer; what is returned carries the answer to a process
   * of the fleet and follows it to the end of the sign-in, in this browser or in another.
   */
  async arrive(
    app: Pick<App, 'url'>,
    person: Person,
  ): Promise<(app: Pick<App, 'url'>, by?: Browser) => Promise<Ending>> {
    const begun = await this.go(
      app,
      `/auth/sso/${person.protocol === 'oidc' ? 'acme' : 'globex'}?returnTo=/me`,
    )
    if (begun.status !== 302) throw new Error(`the start answered ${begun.status}: ${begun.body}`)
    const chosen = new URL(begun.location!)
    chosen.searchParams.set('person', person.id)
    const answer = await fetch(chosen, { redirect: 'manual' })
    if (person.protocol === 'oidc') {
      const callback = new URL(answer.headers.get('location')!)
      return (at, by = this) => by.go(at, callback.pathname + callback.search)
    }
    const page = await answer.text()
    const field = (name: string) => new RegExp(`name="${name}" value="([^"]*)"`).exec(page)![1]!
    const { pathname } = new URL(/action="([^"]*)"/.exec(page)![1]!)
    const form = new URLSearchParams({
      SAMLResponse: field('SAMLResponse'),
      RelayState: field('RelayState'),
    })
    return async (at, by = this) => {
      const posted = await by.go(at, pathname, form)
      return posted.status === 303 ? by.go(at, posted.location!) : posted
    }
  }

  /** A whole sign-in on one process. */
  async signIn(app: Pick<App, 'url'>, person: Person): Promise<Ending> {
    return (await this.arrive(app, person))(app)
  }
}
