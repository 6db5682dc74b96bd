import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, describe, expect, test, vi } from 'vitest'
import type { AppOptions } from '../rig/app.js'
import type { Failpoint } from '../rig/failpoints.js'
import { type App, Browser, baseUrl, type Protocol, startApp, type World, world } from '../rig/fleet.js'
import { exactlyOne, reader, rowsOf, violations } from '../rig/invariants.js'
import { needs, postgres, startRedis } from '../rig/services.js'

// Each test starts a process of its own.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

/** The steps that a first sign-in takes when nothing happens to it: the list of places to die in. */
async function stepsOf(options: AppOptions, scene: World, protocol: Protocol): Promise<string[]> {
  const app = await startApp(options)
  try {
    await app.arm(null)
    const ending = await new Browser().signIn(app, scene.newcomer(protocol))
    if (ending.status !== 303) throw new Error(`the traced sign-in answered ${ending.status}: ${ending.body}`)
    // Messages keep their order, so what was reported before this answer has arrived.
    await app.arm(null)
    return [...app.steps]
  } finally {
    await app.close()
  }
}

/** The tests of one kind of app; its steps are traced before, so that each is a test of its own. */
async function crashes(
  options: AppOptions,
  scene: World,
  protocols: readonly Protocol[],
): Promise<() => void> {
  const traced = await Promise.all(
    protocols.map(async (protocol) => ({ protocol, steps: await stepsOf(options, scene, protocol) })),
  )
  // Before a step is after the one before it, so only the last needs its own.
  const points = traced.flatMap(({ protocol, steps }) =>
    steps
      .flatMap((step): Failpoint[] => [
        { step, moment: 'before' },
        { step, moment: 'during' },
      ])
      .concat({ step: steps.at(-1)!, moment: 'after' })
      .map((failpoint) => ({ protocol, ...failpoint })),
  )
  return () => {
    // The next process starts while this one is tried; it also is the one where the person tries again.
    let spare: Promise<App> | undefined
    const running = new Set<App>()
    const start = async () => {
      const app = await startApp(options)
      running.add(app)
      return app
    }
    afterAll(async () => {
      await spare
      await Promise.all([...running].map((app) => app.close()))
    })

    test.each(traced)(
      'a first sign-in by $protocol reads, locks, commits and keeps a session',
      ({ steps }) => {
        expect(steps).toEqual(
          expect.arrayContaining([
            'once.put',
            'once.take',
            'store.load',
            'lock.acquire',
            'store.commit',
            'lease.release',
            'session.set',
          ]),
        )
      },
    )

    test.each(points)(
      'by $protocol, killed $moment $step: the next sign-in ends with exactly one of everything',
      async (point) => {
        const victim = await (spare ?? start())
        spare = start()
        const person = scene.newcomer(point.protocol)
        const browser = new Browser()
        await victim.arm(point)
        // Whether an answer still came out does not matter; that it died at this point does.
        await browser.signIn(victim, person).catch(() => {})
        expect(await victim.ended).toBe('SIGKILL')
        running.delete(victim)

        const next = await spare
        expect(await browser.signIn(next, person)).toMatchObject({ status: 303, location: '/me' })
        expect(await browser.me(next)).toMatchObject({ email: person.email })
        const db = await reader(options.store)
        try {
          expect(await rowsOf(db, person.email)).toEqual(exactlyOne)
          expect(await violations(db)).toEqual([])
        } finally {
          await db.close()
        }
      },
    )
  }
}

const directory = mkdtempSync(join(tmpdir(), 'jit-crash-'))
const scene = await world()
const inFile: AppOptions = {
  baseUrl,
  directory: scene.directory,
  store: { kind: 'sqlite', file: join(directory, 'crash.db') },
  redis: null,
}
describe('P20: One process after another on a SQLite file', await crashes(inFile, scene, ['oidc']))

const database = await postgres()
const redis = await startRedis()
const fresh = database && redis && (await database.freshDatabase())
const inServers: AppOptions | null = fresh && {
  baseUrl,
  directory: scene.directory,
  store: { kind: 'postgres', url: fresh.url, connections: 5 },
  redis: redis!.url,
}
needs(
  'P20: Two processes with PostgreSQL and Redis',
  inServers && { body: await crashes(inServers, scene, ['oidc', 'saml']), url: redis!.url },
  ({ body, url }) => {
    body()

    test('what the killed ones left in Redis ends by itself', async () => {
      const client = new Redis(url)
      try {
        const keys = await client.keys('*')
        expect(keys.length).toBeGreaterThan(0)
        for (const key of keys) expect(await client.pttl(key)).toBeGreaterThan(0)
      } finally {
        client.disconnect()
      }
    })
  },
)

afterAll(async () => {
  await scene.close()
  await fresh?.drop()
  await redis?.close()
  rmSync(directory, { recursive: true })
})
