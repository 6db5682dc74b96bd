import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Listener, Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { describe, expect, test } from 'vitest'
import { background, type Job, type Round } from '../../lib/background.js'
import { eventually } from '../contract/runner.js'
import { commit, kit } from './kit.js'

/** A job that a test lets finish, or fail. */
function slow(name = 'slow') {
  let running = 0
  const runs: { done(result?: Partial<Round>): void; fail(error: unknown): void; stop: AbortSignal }[] = []
  const job: Job = {
    name,
    run: async (stop) => {
      running += 1
      try {
        return await new Promise<Partial<Round>>((resolve, reject) => {
          runs.push({ done: (result = {}) => resolve(result), fail: reject, stop })
        })
      } finally {
        running -= 1
      }
    },
  }
  return { job, runs, running: () => running }
}

/** A job that does this and has nothing to tell. */
const doing = (name: string, act: () => unknown): Job => ({
  name,
  run: async () => {
    act()
    return {}
  },
})

const idle: Job = { name: 'idle', run: async () => ({}) }
const ports = () => {
  const log: string[] = []
  return {
    log,
    ports: { ready: async () => {}, log: (entry: { message: string }) => log.push(entry.message) },
  }
}

describe('One round', () => {
  test('does the first thing first, then the others at once, and adds up', async () => {
    const [first, second, third] = [slow(), slow(), slow()]
    const round = background(first.job, [second.job, third.job], ports().ports).runOnce()
    await eventually(async () => first.running() === 1)
    expect([second.running(), third.running()]).toEqual([0, 0])
    first.runs[0]!.done({ sealed: 3 })
    await eventually(async () => second.running() === 1 && third.running() === 1)
    third.runs[0]!.done({ delivered: 1, failed: 1 })
    second.runs[0]!.done({ delivered: 2 })
    expect(await round).toEqual({ sealed: 3, delivered: 3, failed: 1 })
  })

  test('that fails in one part does the others, and then says so', async () => {
    const done: string[] = []
    const broken: Job = { name: 'broken', run: () => Promise.reject(new Error('the store is away')) }
    const sound = doing('sound', () => done.push('sound'))
    await expect(background(broken, [sound], ports().ports).runOnce()).rejects.toThrow('the store is away')
    expect(done).toEqual(['sound'])
    await expect(background(sound, [broken, sound], ports().ports).runOnce()).rejects.toThrow(
      'the store is away',
    )
    expect(done).toEqual(['sound', 'sound', 'sound'])
  })

  test('that fails in one part at once ends when the slowest other has', async () => {
    const done: string[] = []
    const broken: Job = { name: 'broken', run: () => Promise.reject(new Error('the store is away')) }
    // By then whatever does not wait has failed.
    const late: Job = {
      name: 'late',
      run: async () => {
        await new Promise((resolve) => setImmediate(resolve))
        done.push('late')
        return {}
      },
    }
    await expect(background(idle, [broken, late], ports().ports).runOnce()).rejects.toThrow(
      'the store is away',
    )
    expect(done).toEqual(['late'])
  })

  test('waits until the store can be used', async () => {
    let prepared = false
    const ready = async () => {
      await new Promise((resolve) => setImmediate(resolve))
      prepared = true
    }
    const seen: boolean[] = []
    const job = doing('job', () => seen.push(prepared))
    await background(job, [], { ready, log: () => {} }).runOnce()
    expect(seen).toEqual([true])
  })
})

describe('Round after round', () => {
  test('each job goes at its own pace: a slow one holds up no other', async () => {
    const stuck = slow()
    let rounds = 0
    const quick = doing('quick', () => rounds++)
    const running = background(stuck.job, [quick], ports().ports).start({ interval: 10 })
    await eventually(async () => rounds >= 5)
    expect(stuck.runs).toHaveLength(1)
    stuck.runs[0]!.done()
    await eventually(async () => stuck.runs.length === 2)
    stuck.runs[1]!.done()
    const stopped = running.stop()
    for (const { done } of stuck.runs) done()
    await stopped
  })

  test('stop waits for what is under way, tells it so, and nothing begins after it', async () => {
    const { job, runs } = slow()
    let rounds = 0
    const quick = doing('quick', () => rounds++)
    const running = background(job, [quick], ports().ports).start({ interval: 10 })
    await eventually(async () => runs.length === 1)
    expect(runs[0]!.stop.aborted).toBe(false)
    let stopped = false
    const stopping = running.stop().then(() => {
      stopped = true
    })
    expect(runs[0]!.stop.aborted).toBe(true)
    // Several intervals, in which anything wrong would show.
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(stopped).toBe(false)
    runs[0]!.done()
    await stopping
    const before = rounds
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect([runs.length, rounds]).toEqual([1, before])
    await running.stop()
  })

  test('what fails is logged and tried again, at longer intervals; what works is not', async () => {
    const { ports: given, log } = ports()
    const times: number[] = []
    const broken: Job = {
      name: 'sealing',
      run: () => {
        times.push(performance.now())
        return times.length < 5 ? Promise.reject(new Error('connection refused')) : Promise.resolve({})
      },
    }
    const running = background(broken, [idle], given).start({ interval: 20 })
    await eventually(async () => times.length === 10)
    await running.stop()
    expect(log).toEqual(Array(4).fill('sealing failed, and is tried again: connection refused'))
    const pause = (index: number) => times[index + 1]! - times[index]!
    expect(pause(0)).toBeGreaterThan(30)
    expect(pause(3)).toBeGreaterThan(250)
    expect(Math.min(...[4, 5, 6, 7, 8].map(pause))).toBeLessThan(100)
  })

  test('a job may want longer pauses', async () => {
    let [often, seldom] = [0, 0]
    const quick = doing('quick', () => often++)
    const lazy: Job = { ...doing('lazy', () => seldom++), every: 60_000 }
    const running = background(quick, [lazy], ports().ports).start({ interval: 10 })
    await eventually(async () => often >= 5)
    await running.stop()
    expect(seldom).toBe(1)
  })

  test.each([0, 9, 10.5, Number.NaN, -1, '1000' as never])('an interval of %s is refused', (interval) => {
    expect(() => background(idle, [], ports().ports).start({ interval })).toThrow(
      expect.objectContaining({ code: 'config_invalid', message: expect.stringContaining('interval') }),
    )
  })

  test('keeps no process alive', async () => {
    const dist = fileURLToPath(new URL('../../dist/', import.meta.url))
    if (!existsSync(`${dist}lib/background.js`)) throw new Error('build first: npm run build')
    const script = `import { background } from '${dist}lib/background.js'
      background({ name: 'x', run: async () => { console.log('round'); return {} } }, [],
        { ready: async () => {}, log: console.error }).start({ interval: 60000 })`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 20_000,
    })
    expect(stdout).toBe('round\n')
  })
})

describe('In an app', () => {
  const told: string[] = []
  const listener: Listener = {
    id: 'crm',
    deliver: async ({ change }) => {
      told.push(change)
    },
  }

  test('start seals and delivers what is committed while it runs, and outlives a store that was away', async () => {
    const store = memoryStore()
    let away = true
    const shaky: Store = {
      ...store,
      trail: {
        ...store.trail,
        unsealed: async (limit) => {
          if (away) throw new Error('the store is away')
          return store.trail.unsealed(limit)
        },
      },
    }
    const { jit, log } = kit(shaky, [listener])
    const running = jit.background.start({ interval: 10 })
    await commit(store, 'a', {})
    const error = { level: 'error', message: 'sealing failed, and is tried again: the store is away' }
    await eventually(async () => log.some(({ level }) => level === 'error'))
    expect(log).toContainEqual(error)
    away = false
    await eventually(async () => told.includes('a'))
    await commit(store, 'b', {})
    await eventually(async () => told.includes('b'))
    await running.stop()
    await commit(store, 'c', {})
    expect(await jit.background.runOnce()).toEqual({ sealed: 1, delivered: 1, failed: 0 })
    expect(told).toEqual(['a', 'b', 'c'])
  })

  test('stop lets a delivery under way end, and takes up no other', async () => {
    const store = memoryStore()
    let finish = () => {}
    const begun: string[] = []
    const { jit } = kit(store, [
      {
        id: 'slow',
        deliver: async ({ change }) => {
          begun.push(change)
          await new Promise<void>((resolve) => {
            finish = resolve
          })
        },
      },
    ])
    for (const id of ['a', 'b']) await commit(store, id, { user: 'ann' })
    const running = jit.background.start({ interval: 10 })
    await eventually(async () => begun.length === 1)
    const stopping = running.stop()
    finish()
    await stopping
    expect(begun).toEqual(['a'])
    const { rows } = await jit.outbox.deliveries()
    expect(rows.map(({ change, state }) => `${change} ${state}`)).toEqual(['b pending', 'a delivered'])
  })
})
