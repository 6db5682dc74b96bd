import {
  createJit,
  type DirectoryInput,
  type Jit,
  type JitOptions,
  type Strategy,
  staticDirectory,
  storeDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import type { Pool } from 'pg'
import { describe, expect, test, vi } from 'vitest'
import { deeds } from '../provision/admin-deeds.js'
import { inScene, keys, type Scene } from '../provision/admin-scene.js'
import { type Fault, injection } from '../rig/injection.js'
import { tcpProxy } from '../rig/tcp-proxy.js'
import { onPostgres } from '../stores/postgres-database.js'

vi.setConfig({ testTimeout: 120_000 })

// Each raised by the server itself: a transaction that could not be serialized, a deadlock, a key that is taken,
// and a session that an administrator ended.
const faults: readonly (Fault & { readonly at: string })[] = ['40001', '40P01', '23505', '57P01'].flatMap(
  (code) => [
    { at: 'first write', code, moment: 'write' } as const,
    { at: 'commit', code, moment: 'commit' } as const,
  ],
)
const atCommit = faults.filter(({ at }) => at === 'commit')
const unavailable = { code: 'unavailable', status: 503, retryAfter: 2 }
/** The kit answers within 5 s; the rest is for a machine that does other things too. */
const longest = 9_000

await onPostgres((database) => {
  const { open, freshSchema } = database
  interface Place {
    readonly scene: Scene
    readonly pool: Pool
    /** Every row, but for what differs each time. */
    rows(): Promise<string[]>
    /** What `work` comes to while the server fails so often, and how often it did. */
    during<T>(
      fault: Fault,
      times: number | undefined,
      work: () => Promise<T>,
    ): Promise<{ result: T; raised: number }>
  }
  const inPlace = <T>(body: (place: Place) => Promise<T>, pool = open()): Promise<T> => {
    const schema = freshSchema()
    const store = postgresStore({ pool, schema })
    const factory = async () => ({ store, another: async () => store, close: () => pool.end() })
    return inScene(factory, async (scene) => {
      const server = await injection(pool, schema)
      return body({
        scene,
        pool,
        rows: () => rowsIn(pool, schema),
        during: async (fault, times, work) => {
          await server.arm(fault, times)
          try {
            const result = await work()
            return { result, raised: await server.disarm() }
          } finally {
            await pool.query(`delete from ${schema}.rig_fault`)
          }
        },
      })
    })
  }
  /** What the writes leave where nothing happens to them. */
  const undisturbed = new Map<unknown, Promise<string[]>>()
  const expectSame = async (place: Place, work: (place: Place) => Promise<unknown>) => {
    const found =
      undisturbed.get(work) ??
      inPlace(async (other) => {
        await work(other)
        return other.rows()
      })
    undisturbed.set(work, found)
    expect(await place.rows()).toEqual(await found)
  }

  const administering = async ({ scene }: Place) => {
    for (const deed of Object.values(await deeds(scene))) await deed(scene.jit.admin)
  }

  const more = {
    organizations: [{ id: 'q', name: 'Q', roles: ['member'], domains: ['q.example'] }],
    connections: [
      {
        ...{ id: 'f', organization: 'q', protocol: 'oidc', issuer: 'https://idp.example', clientId: 'x' },
        ...{ clientSecret: 'y', attributes: { email: 'email' } },
      },
    ],
  } as DirectoryInput
  const anew = [{ id: 'n', key: Buffer.alloc(32, 8).toString('base64') }, ...keys]
  const rotating = ({ scene: { store } }: Place) => storeDirectory({ store, keys: anew }).rotate()
  const importing = ({ scene: { directory } }: Place) => directory.import(more)

  describe('P18: Administration', () => {
    test.each(faults)(
      'while the server raises $code twice at the $at of every command: the same as without',
      (fault) =>
        inPlace(async (place) => {
          const { scene, during } = place
          for (const [name, deed] of Object.entries(await deeds(scene))) {
            const { result, raised } = await during(fault, 2, () => deed(scene.jit.admin))
            expect([name, raised]).toEqual([name, 2])
            expect(result).toMatchObject({ changed: true })
            const { rows } = await scene.store.events({ limit: 1000 })
            expect(rows.some(({ change }) => change === result.decision)).toBe(true)
          }
          await expectSame(place, administering)
        }),
    )

    test.each(atCommit)(
      'while the server raises $code at every commit: each command is given up in time, and nothing written',
      (fault) =>
        inPlace(async ({ scene, rows, during }) => {
          // Where the one before it was done, its connection would be enabled.
          const { disableConnection: _, ...rest } = await deeds(scene)
          const waiting = Object.entries(rest)
          const before = await rows()
          const began = performance.now()
          const { result } = await during(fault, undefined, () =>
            Promise.all(waiting.map(([, deed]) => deed(scene.jit.admin).catch((error: unknown) => error))),
          )
          expect(performance.now() - began).toBeLessThan(longest)
          for (const error of result) expect(error).toMatchObject(unavailable)
          expect(await rows()).toEqual(before)
        }),
    )
  })

  describe('P18: A directory in the store', () => {
    test.each(faults)(
      'while the server raises $code twice at the $at of an import and of a rotation: the same as without',
      (fault) =>
        inPlace(async (place) => {
          const imported = await place.during(fault, 2, () => importing(place))
          expect(imported).toEqual({ raised: 2, result: { written: ['q', 'f'], warnings: [] } })
          await expectSame(place, importing)
          expect(await place.during(fault, 2, () => rotating(place))).toEqual({ raised: 2, result: 4 })
          expect(await rotating(place)).toBe(0)
        }),
    )

    test.each(atCommit)(
      'while the server raises $code at every commit: given up, and nothing written',
      (fault) =>
        inPlace(async (place) => {
          const before = await place.rows()
          for (const work of [importing, rotating]) {
            const tried = () => work(place).catch((error: unknown) => error)
            expect((await place.during(fault, undefined, tried)).result).toMatchObject(unavailable)
          }
          expect(await place.rows()).toEqual(before)
          expect((await importing(place)).written).toEqual(['q', 'f'])
        }),
    )
  })

  test('P18: commands, an import and a rotation whose connection is cut when they have committed: found to be done, and not done twice', async () => {
    const proxy = await tcpProxy({ port: Number(new URL(database.url).port || 5432) })
    const cut = async <T>(work: () => Promise<T>): Promise<T> => {
      const swallowed = proxy.swallowReply((bytes) => bytes.includes('jit_commit_'))
      const result = await work()
      await swallowed
      return result
    }
    const body = async (place: Place) => {
      for (const [name, deed] of Object.entries(await deeds(place.scene))) {
        const { changed, decision } = await cut(() => deed(place.scene.jit.admin))
        const { rows } = await place.scene.store.events({ limit: 1000 })
        expect([name, changed, rows.some(({ change }) => change === decision)]).toEqual([name, true, true])
      }
      await expectSame(place, administering)
      expect(await cut(() => importing(place))).toEqual({ written: ['q', 'f'], warnings: [] })
      expect(await cut(() => rotating(place))).toBe(3)
      expect(await rotating(place)).toBe(0)
    }
    try {
      await inPlace(body, open(proxy.through(database.url)))
    } finally {
      await proxy.close()
    }
  })

  describe('P18: Work in the background', () => {
    const delivered: string[] = []
    const listener = {
      id: 'hook',
      deliver: async ({ change }: { change: string }) => {
        delivered.push(change)
      },
    }
    const app = ({ scene }: Place) => appOver(scene, { listeners: [listener], revocations: { atLeast: 3 } })
    /** Four people lose the role of their group, which is more than a sync may take. */
    const leave = async ({ scene }: Place) => {
      for (const groups of [['admins'], []]) {
        for (const name of ['ann', 'bob', 'cy', 'dee']) await scene.signIn(name, { groups })
      }
    }
    /** Rounds until one has nothing left to do, as many as there are faults and three. */
    const rounds = async (jit: Jit) => {
      let failed = 0
      for (let round = 0; round < 5; round++) {
        await jit.background.runOnce().catch(() => {
          failed += 1
        })
      }
      return failed
    }
    const work = async (place: Place) => {
      await leave(place)
      await rounds(app(place))
    }

    test.each(faults)(
      'while the server raises $code twice at the $at: sealed, delivered and held once, as without',
      (fault) =>
        inPlace(async (place) => {
          await leave(place)
          const jit = app(place)
          await jit.ready()
          delivered.length = 0
          const { raised } = await place.during(fault, 2, () => rounds(jit))
          expect(raised).toBe(2)
          const { rows } = await place.scene.store.events({ limit: 1000 })
          const changes = new Set(rows.map(({ change }) => change))
          expect([...delivered].sort()).toEqual([...changes].sort())
          expect(rows.filter(({ type }) => type === 'held')).toHaveLength(1)
          expect(await jit.audit.verify()).toMatchObject({ ok: true, waiting: 0 })
          await expectSame(place, work)
        }),
    )
  })

  describe('P18: A start', () => {
    const input = (seatLimit: number): DirectoryInput => ({
      organizations: [{ id: 's', name: 'S', roles: ['member'], seatLimit, domains: ['s.example'] }],
      connections: [],
    })
    const starting = ({ scene }: Place) => appOver(scene, { directory: staticDirectory(input(3)) })
    const started = (place: Place) => starting(place).ready()

    test.each(faults)('while the server raises $code twice at the $at: the same as without', (fault) =>
      inPlace(async (place) => {
        expect(await place.during(fault, 2, () => starting(place).ready())).toMatchObject({ raised: 2 })
        await expectSame(place, started)
      }),
    )

    test.each(atCommit)(
      'while the server raises $code at every commit: given up in time, nothing written, and made up for by the next request',
      (fault) =>
        inPlace(async (place) => {
          const before = await place.rows()
          const jit = starting(place)
          const began = performance.now()
          const tried = () => jit.ready().catch((error: unknown) => error)
          expect((await place.during(fault, undefined, tried)).result).toMatchObject(unavailable)
          expect(performance.now() - began).toBeLessThan(longest)
          expect(await place.rows()).toEqual(before)
          await jit.ready()
          expect(await place.rows()).not.toEqual(before)
        }),
    )
  })
})

const never = () => Promise.reject(new Error('not part of this'))

function appOver({ store, directory }: Scene, options: Partial<JitOptions>): Jit {
  const strategies = ['oidc', 'email'].map((protocol) => ({
    ...{ protocol, attemptKey: () => undefined, begin: never, complete: never, send: never, redeem: never },
  })) as unknown as Strategy[]
  return createJit({
    ...{ baseUrl: 'http://localhost', store, directory, strategies, lock: memoryLock(), once: memoryOnce() },
    log: () => {},
    ...options,
  })
}

const tables = [
  ...['users', 'identities', 'memberships', 'grants', 'tombstones', 'removed', 'invitations'],
  ...['organizations', 'connections', 'entries', 'domains', 'changes', 'events', 'seals', 'deliveries'],
]
/** Positions have gaps where a transaction was rolled back; secrets are encrypted differently each time. */
const varying = ['position', 'entry', 'previous', 'hash', 'digest', 'seal', 'place', 'number']

async function rowsIn(pool: Pool, schema: string): Promise<string[]> {
  const found: string[] = []
  for (const table of tables) {
    const { rows } = await pool.query<{ row: object }>(
      `select to_jsonb(t) - $1::text[] as row from ${schema}.jit_${table} t`,
      [varying],
    )
    found.push(...rows.map(({ row }) => `${table} ${JSON.stringify(row)}`))
  }
  return found
    .map((row) =>
      row
        .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '‹id›')
        .replace(/\b1[0-9]{12}\b/g, '‹time›')
        .replace(/"[A-Za-z0-9_-]{16,}"/g, '‹hash›'),
    )
    .sort()
}
