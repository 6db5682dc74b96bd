import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Store } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { Pool } from 'pg'
import { Webhook } from 'standardwebhooks'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { webhook } from '../../lib/webhook.js'
import { commit, kit, settle } from '../audit/kit.js'
import { eventually } from '../contract/runner.js'
import type { AppOptions } from '../rig/app.js'
import type { Failpoint } from '../rig/failpoints.js'
import { needs, postgres } from '../rig/services.js'
import type { ProcessOptions } from './webhook-process.js'
import { answer, receiver } from './webhook-receiver.js'

// Each test starts a process of its own.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const secret = Buffer.alloc(32, 7).toString('base64')
const compiled = fileURLToPath(new URL('../../dist/test/faults/webhook-process.js', import.meta.url))
const hour = 3_600_000

interface Started {
  readonly child: ChildProcess
  readonly steps: readonly string[]
  readonly log: () => string
  /** The signal or the exit code that ended it. */
  readonly ended: Promise<NodeJS.Signals | number | null>
}

function startProcess(options: Omit<ProcessOptions, 'secret'>): Started {
  if (!existsSync(compiled)) throw new Error('build first: npm run build')
  const child = spawn(process.execPath, [compiled], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, RIG_OPTIONS: JSON.stringify({ ...options, secret }) },
  })
  let log = ''
  child.stderr!.setEncoding('utf8').on('data', (text) => {
    log += text
  })
  const steps: string[] = []
  child.on('message', (told: { told: string; step?: string }) => {
    if (told.told === 'step') steps.push(told.step!)
  })
  const ended = once(child, 'exit').then(([code, signal]) => signal ?? code)
  return { child, steps, log: () => log, ended }
}

/** A place of its own in a database, which processes and the test share. */
interface Place {
  readonly store: AppOptions['store']
  open(): { readonly store: Store; close(): Promise<void> }
}

const commits = [
  { id: 'a', user: 'ann' },
  { id: 'b', user: 'ann' },
]

async function crashes(place: () => Promise<Place>): Promise<() => void> {
  const hook = await receiver()
  const at = await place()
  const traced = startProcess({ store: at.store, url: hook.url, commits, rounds: 'one', failpoint: null })
  if ((await traced.ended) !== 0) throw new Error(traced.log())
  await hook.close()
  const steps = traced.steps
  // Before a step is after the one before it; a file answers at once, so nothing in it is under way.
  const moments: Failpoint['moment'][] = at.store.kind === 'sqlite' ? ['before'] : ['before', 'during']
  const points = steps
    .flatMap((step): Failpoint[] => moments.map((moment) => ({ step, moment })))
    .concat({ step: steps.at(-1)!, moment: 'after' })

  return () => {
    test('a round commits, seals, takes, delivers and settles', () => {
      expect(steps.slice(0, 4)).toEqual(['store.commit', 'store.commit#2', 'trail.unsealed', 'trail.seal'])
      expect(steps).toEqual(
        expect.arrayContaining(['trail.seal#2', 'outbox.take', 'outbox.settle', 'outbox.settle#2']),
      )
    })

    test.each(points)('P24 killed $moment $step: nothing is lost, and nothing made up', async (failpoint) => {
      const hook = await receiver()
      const { store: kind, open } = await place()
      const { store, close } = open()
      try {
        const victim = startProcess({ store: kind, url: hook.url, commits, rounds: 'one', failpoint })
        expect(await victim.ended, victim.log()).toBe('SIGKILL')
        const before = hook.received.map(({ id }) => id)
        const committed = (await store.events()).rows.map((event) => event.change).sort()

        // Another process, when every claim of the dead one is over.
        const listener = webhook({ id: 'crm', url: hook.url, secret, allowInsecureRequests: true })
        const { jit } = kit(store, [listener], { at: Date.now() + hour })
        await settle(jit)

        const ids = hook.received.map(({ id }) => id)
        expect([...new Set(ids)]).toEqual(committed)
        // Twice only what was under way, and then it is the same message.
        expect(ids.length - committed.length).toBeLessThanOrEqual(1)
        const bodies = new Set(hook.received.map(({ id, body }) => id + body))
        expect(bodies.size).toBe(committed.length)
        for (const { body, headers } of hook.received) {
          expect(() => new Webhook(secret).verify(body, headers as Record<string, string>)).not.toThrow()
        }
        if (failpoint.moment === 'before') {
          if (failpoint.step === 'store.commit') expect(committed).toEqual([])
          // Between commit and delivery.
          if (failpoint.step === 'trail.unsealed') expect([before, ids]).toEqual([[], ['a', 'b']])
          if (failpoint.step === 'outbox.take') expect([before, ids]).toEqual([[], ['a', 'b']])
          // Between delivery and settling.
          if (failpoint.step === 'outbox.settle') expect([before, ids]).toEqual([['a'], ['a', 'a', 'b']])
        }
        expect(await jit.audit.verify()).toMatchObject({ ok: true, changes: committed.length, waiting: 0 })
        const { rows } = await jit.outbox.deliveries()
        expect(rows.map(({ change, state }) => [change, state])).toEqual(
          committed.reverse().map((id) => [id, 'delivered']),
        )
      } finally {
        await close()
        await hook.close()
      }
    })

    test.each<Failpoint['moment']>(['before', 'after'])(
      'P24 killed %s it says that the receiver refused: tried again in its time, by the next',
      async (moment) => {
        const hook = await receiver()
        const { store: kind, open } = await place()
        const { store, close } = open()
        try {
          hook.answer = answer(500)
          const failpoint = { step: 'outbox.settle', moment }
          const victim = startProcess({ store: kind, url: hook.url, commits, rounds: 'one', failpoint })
          expect(await victim.ended, victim.log()).toBe('SIGKILL')
          hook.answer = answer(200)
          const listener = webhook({ id: 'crm', url: hook.url, secret, allowInsecureRequests: true })
          const clock = { at: Date.now() }
          const { jit } = kit(store, [listener], clock)
          await settle(jit)
          expect(
            hook.received.map(({ id }) => id),
            'not before its time',
          ).toEqual(['a'])
          clock.at += hour
          await settle(jit)
          expect(hook.received.map(({ id }) => id)).toEqual(['a', 'a', 'b'])
          const { rows } = await jit.outbox.deliveries()
          expect(rows.at(-1)).toMatchObject({ change: 'a', state: 'delivered', attempts: 2 })
          expect(rows.at(-1)!.log.map(({ error }) => error)).toEqual(
            moment === 'before' ? [null] : ['HTTP 500', null],
          )
        } finally {
          await close()
          await hook.close()
        }
      },
    )

    test('P24 two processes at once, and nobody dies: each decision is posted once, each user in order', async () => {
      const hook = await receiver()
      const { store: kind, open } = await place()
      const { store, close } = open()
      await store.migrate()
      const both = [1, 2].map(() =>
        startProcess({ store: kind, url: hook.url, commits: [], rounds: 'many', failpoint: null }),
      )
      try {
        await Promise.all(both.map(({ child }) => running(child)))
        const users = ['ann', 'ben', 'cay', 'dan', 'eve', 'fay']
        const numbers = Array.from({ length: 8 }, (_, index) => index + 1)
        await Promise.all(
          users.map(async (user) => {
            for (const n of numbers) await commit(store, `${user} ${n}`, { user })
          }),
        )
        await eventually(async () => hook.received.length >= 48, 30_000)
        for (const { child } of both) child.send('stop')
        for (const { ended, log } of both) expect(await ended, log()).toBe(0)
        for (const user of users) {
          const ids = hook.received.map(({ id }) => id).filter((id) => id.startsWith(user))
          expect(ids).toEqual(numbers.map((n) => `${user} ${n}`))
        }
        expect(await kit(store).jit.audit.verify()).toMatchObject({ ok: true, seals: 48, waiting: 0 })
        const { rows } = await store.outbox.deliveries({ limit: 100 })
        expect(rows.filter(({ state, attempts }) => state === 'delivered' && attempts === 1)).toHaveLength(48)
      } finally {
        for (const { child } of both) child.kill('SIGKILL')
        await Promise.all(both.map(({ ended }) => ended))
        await close()
        await hook.close()
      }
    })
  }
}

const running = (child: ChildProcess) =>
  new Promise<void>((resolve, reject) => {
    child.on('message', ({ told }: { told: string }) => told === 'running' && resolve())
    child.once('exit', () => reject(new Error('the process ended before it was running')))
  })

const directory = mkdtempSync(join(tmpdir(), 'jit-webhook-'))
let files = 0
const inFile = async (): Promise<Place> => {
  const file = join(directory, `${++files}.db`)
  return {
    store: { kind: 'sqlite', file },
    open: () => {
      const store = sqliteStore({ file })
      return { store, close: async () => store.close() }
    },
  }
}
describe('Processes on a SQLite file', await crashes(inFile))

const database = await postgres()
const dropped: (() => Promise<void>)[] = []
const inDatabase = async (): Promise<Place> => {
  const { url, drop } = await database!.freshDatabase()
  dropped.push(drop)
  return {
    store: { kind: 'postgres', url, connections: 4 },
    open: () => {
      const pool = new Pool({ connectionString: url, max: 4 }).on('error', () => {})
      return { store: postgresStore({ pool }), close: () => pool.end() }
    },
  }
}
needs('Processes with PostgreSQL', database && (await crashes(inDatabase)), (body) => body())

afterAll(async () => {
  await Promise.all(dropped.map((drop) => drop()))
  rmSync(directory, { recursive: true })
})
