import { errorCodes } from 'passport-jit'
import type { AppOptions } from '../rig/app.js'
import { type App, Browser, baseUrl, type Ending, startApp, type World, world } from '../rig/fleet.js'
import type { PrivateServer } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'
import { recovery } from './plan.js'

/** A request that had no answer, because we killed or paused the process it went to. */
export class Cut extends Error {}

/**
 * What a request may take, in milliseconds: the session is read (1 s), the person in it (5 s), the sign-in (5 s), and
 * the session ended, made and written (1 s each); and as much again for a machine that is busy with other things.
 */
const longest = 2 * 14_000

/** Where an app process runs; processes come and go, and are paused. */
export class Place {
  app: App | null = null
  #disturbing = 0
  #disturbed = Number.NEGATIVE_INFINITY

  get url(): string {
    if (!this.app) throw new Cut('no process runs here at the moment')
    return this.app.url
  }

  /** While it lasts, no answer of this process is owed. */
  async disturb<T>(work: () => Promise<T>): Promise<T> {
    this.#disturbing += 1
    try {
      return await work()
    } finally {
      this.#disturbing -= 1
      this.#disturbed = performance.now()
    }
  }

  /** Whether a request that began at this time met a disturbance; a moment more, for connections that are kept. */
  excuses(from: number): boolean {
    return this.#disturbing > 0 || this.#disturbed + 1_000 >= from
  }
}

/** A browser whose every answer is judged. */
export class WatchedBrowser extends Browser {
  readonly #scene: Scene

  constructor(scene: Scene) {
    super()
    this.#scene = scene
  }

  override go(place: Place, path: string, form?: URLSearchParams): Promise<Ending> {
    return this.#scene.judged(place, path.split('?')[0]!, () => super.go(place, path, form))
  }
}

/** Everything that takes part, and what was seen. */
export class Scene {
  readonly places = [new Place(), new Place()] as const
  /** What should not have been seen. */
  readonly found: string[] = []
  readonly counts: Record<'sign-ins' | 'rush' | 'edits' | 'faults', Map<string, number>> = {
    'sign-ins': new Map(),
    rush: new Map(),
    edits: new Map(),
    faults: new Map(),
  }
  answers = 0
  /** Of those that were owed, in milliseconds. */
  slowest = 0
  readonly #began = performance.now()
  readonly #faults = new Set<string>()
  #calmSince = performance.now()

  private constructor(
    readonly world: World,
    readonly servers: { readonly postgres: PrivateServer; readonly redis: PrivateServer },
    readonly lines: { readonly postgres: TcpProxy; readonly redis: TcpProxy },
    readonly options: AppOptions,
  ) {}

  static async open(servers: Scene['servers'], seats: number): Promise<Scene> {
    const { postgres, redis } = servers
    const [people, toPostgres, toRedis] = await Promise.all([
      world({ seats }),
      tcpProxy({ port: postgres.port }),
      tcpProxy({ port: redis.port }),
    ])
    const scene = new Scene(
      people,
      servers,
      { postgres: toPostgres, redis: toRedis },
      {
        baseUrl,
        directory: people.directory,
        store: { kind: 'postgres', url: toPostgres.through(postgres.url), connections: 10 },
        redis: toRedis.through(redis.url),
        background: 200,
        // Groups come and go here more than any operator would like.
        revocations: { share: 1 },
      },
    )
    for (const place of scene.places) await scene.start(place)
    return scene
  }

  /** Starts a process, again and again where what it needs is away. */
  async start(place: Place): Promise<void> {
    if (place.app) return
    for (let tries = 1; !place.app; tries++) {
      place.app = await startApp(this.options).catch((error) => {
        if (tries === 30) throw error
        return null
      })
    }
    const app = place.app!
    void app.ended.then((how) => {
      if (how !== 'SIGKILL') this.see(`a process ended by itself with ${how}: ${app.log().slice(-2_000)}`)
      if (place.app === app) place.app = null
    })
  }

  see(what: string): void {
    const at = ((performance.now() - this.#began) / 1_000).toFixed(1)
    this.found.push(`${what} [after ${at} s, during ${[...this.#faults].join(' and ') || 'no fault'}]`)
  }

  count(what: keyof Scene['counts'], kind: string): void {
    const counts = this.counts[what]
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }

  /** While it lasts, and until everything had time to recover from it, much may be refused. */
  async fault(name: string, work: () => Promise<void>): Promise<void> {
    this.#faults.add(name)
    try {
      await work()
    } finally {
      this.#faults.delete(name)
      this.count('faults', name)
      this.#calmSince = performance.now()
    }
  }

  /** Whether there has been nothing to recover from since this time. */
  calm(from: number): boolean {
    return this.#faults.size === 0 && this.#calmSince + recovery <= from
  }

  /**
   * An answer is a success, a redirect or a refusal with a code that the kit knows, within its time.
   * @throws Cut where there was none and we are why
   */
  async judged(place: Place, what: string, request: () => Promise<Ending>): Promise<Ending> {
    const from = performance.now()
    let ending: Ending
    try {
      ending = await request()
    } catch (error) {
      const cause = (error as Error).cause ?? error
      if (!(error instanceof Cut) && !place.excuses(from)) this.see(`${what} had no answer: ${cause}`)
      throw new Cut(what, { cause })
    }
    const took = Math.round(performance.now() - from)
    this.answers += 1
    if (!place.excuses(from)) this.slowest = Math.max(this.slowest, took)
    if (took > longest && !place.excuses(from)) this.see(`${what} took ${took} ms`)
    const { status, body } = ending
    if (status >= 400 && (codeOf(ending) === null || (status >= 500 && status !== 503)))
      this.see(`${what} answered ${status}: ${body}`)
    return ending
  }

  /** A page of the app that only an operator has. */
  administer(place: Place, verb: string, asked: object): Promise<Ending> {
    return this.judged(place, `admin.${verb}`, async () => {
      const response = await fetch(`${place.url}/admin`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ verb, asked: { ...asked, by: 'operator' } }),
        signal: AbortSignal.timeout(30_000),
      })
      return { status: response.status, location: null, retryAfter: null, body: await response.text() }
    })
  }

  async close(): Promise<void> {
    await Promise.all(this.places.map(({ app }) => app?.close()))
    await Promise.all(Object.values(this.lines).map((line) => line.close()))
    await this.world.close()
  }
}

/** The code of a refusal; null where it has none that is known. */
export function codeOf({ body }: Ending): string | null {
  try {
    const { error } = JSON.parse(body) as { error: string }
    return error === 'signed_out' || (errorCodes as readonly string[]).includes(error) ? error : null
  } catch {
    return null
  }
}
