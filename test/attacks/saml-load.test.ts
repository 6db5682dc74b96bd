import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { JitError } from 'passport-jit'
import { type SamlStrategy, samlStrategy } from 'passport-jit/strategies/saml'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { browser } from '../rig/oidc-http.js'
import { posted, replace } from '../rig/saml-answer.js'
import { blocking, costly, desk, type Posted, threads, warmed } from '../rig/saml-load.js'
import { answer, begin, post, scene } from '../rig/saml-scene.js'

// Answers made to cost as much as they can, many at once: nobody else's sign-in suffers for them.

const idp = await desk()
const { answer: made, complete } = idp
/** Costs a few times what an ordinary answer does: enough to wait for, also on a busy machine. */
const slow = (padding = 0) => costly({ elements: 300, padding })
/** Fills what may be posted. */
const longest = 480_000
const forgery = { code: 'assertion_refused', message: expect.stringMatching(/signed by none of the 1/) }

let watched: ReturnType<typeof threads>
let opened: SamlStrategy[]
beforeEach(() => {
  watched = threads()
  opened = []
})
afterEach(async () => {
  watched.stop()
  await Promise.all(opened.map((strategy) => strategy.close()))
})

/** A strategy with its threads running. */
async function ready(options: Parameters<typeof samlStrategy>[0]) {
  const strategy = samlStrategy(options)
  opened.push(strategy)
  await warmed(strategy, idp)
  return strategy
}

/** The subject of the identity, or code and message of the refusal. */
const outcome = (strategy: SamlStrategy, given: Posted, signal?: AbortSignal) =>
  complete(strategy, given, signal).then(
    ({ subject }) => subject,
    (error: unknown) => {
      if (!(error instanceof JitError)) throw error
      const { code, message, status, headers } = error
      return { code, message, status, headers }
    },
  )

const overloaded = (message: RegExp) => ({
  code: 'unavailable',
  status: 503,
  headers: { 'retry-after': '2' },
  message: expect.stringMatching(message),
})

describe('S29 the event loop', () => {
  it('S29 goes on while a costly answer is verified, which in place holds it to the end', async () => {
    const rounds = async (strategy: SamlStrategy) => {
      const all: Awaited<ReturnType<typeof blocking>>[] = []
      for (let round = 0; round < 3; round++) {
        const given = made(costly({ elements: 900 }))
        all.push(
          await blocking(async () => {
            expect(await outcome(strategy, given)).toMatchObject(forgery)
          }),
        )
      }
      return all.sort((a, b) => a.blocked - b.blocked)[0]!
    }
    const inPlace = await rounds(await ready({ workers: 0 }))
    const threaded = await rounds(await ready({ workers: 1 }))
    expect(inPlace.blocked).toBeGreaterThan(inPlace.took / 2)
    expect(threaded.blocked).toBeLessThan(inPlace.blocked / 4)
  })

  it('S29 says of each answer the same in a thread as in place, down to the cause', async () => {
    const inPlace = await ready({ workers: 0 })
    const threaded = await ready({ workers: 1 })
    const told = (strategy: SamlStrategy, given: Posted) =>
      complete(strategy, given).then(
        ({ subject, email, groups, claims }) => ({ subject, email, groups, claims }),
        (error: JitError) => {
          expect(error).toBeInstanceOf(JitError)
          const cause = error.cause === undefined ? null : error.cause
          if (cause !== null) expect(cause).toBeInstanceOf(Error)
          return { code: error.code, message: error.message, cause: (cause as Error | null)?.message }
        },
      )
    const changes = [
      undefined,
      replace('alice@acme.example', 'victim@acme.example'),
      replace('2.0:status:Success', '2.0:status:Responder'),
      replace('/sso/acme/callback', '/sso/globex/callback'),
      replace('<samlp:Status>', '<!DOCTYPE x><samlp:Status>'),
      costly({ padding: 600_000 }),
    ]
    const codes: unknown[] = []
    for (const change of changes) {
      const here = made(change)
      const there = change ? here : made()
      const said = await told(inPlace, here)
      expect(await told(threaded, there)).toEqual(said)
      codes.push('code' in said ? said.code : said.subject)
    }
    expect(codes).toEqual([
      'alice-1',
      'assertion_refused',
      'idp_refused',
      'assertion_refused',
      'answer_malformed',
      'answer_too_large',
    ])
  })
})

describe('S29 the queue', () => {
  it.each([0, 1])(
    'S29 full with %i threads: 503, and the untouched answer is taken afterwards',
    async (workers) => {
      const strategy = await ready({ workers, queue: 2 })
      const flood = [1, 2, 3].map(() => outcome(strategy, made(slow())))
      const given = made(replace('</samlp:Response>', `${' '.repeat(50_000)}</samlp:Response>`))
      expect(await outcome(strategy, given)).toEqual(
        overloaded(/^connection "acme": the queue of SAML answers is full$/),
      )
      for (const forged of await Promise.all(flood)) expect(forged).toMatchObject(forgery)
      expect(await outcome(strategy, given)).toBe('alice-1')
    },
  )

  it('S29 sheds the longest, so that an ordinary answer goes before a flood of long ones', async () => {
    const strategy = await ready({ workers: 1, queue: 2 })
    const order: string[] = []
    const flood = [1, 2, 3].map(() =>
      outcome(strategy, made(slow(longest))).then((refusal) => {
        order.push('long')
        return refusal
      }),
    )
    expect(await outcome(strategy, made())).toBe('alice-1')
    order.push('ordinary')
    expect(await Promise.all(flood)).toEqual([
      expect.objectContaining(forgery),
      expect.objectContaining(forgery),
      overloaded(/queue of SAML answers is full/),
    ])
    // One was under way, one was shed, and one came after it.
    expect(order).toEqual(['long', 'long', 'ordinary', 'long'])
  })

  it('S29 answers nobody asked for come last, however short', async () => {
    const strategy = await ready({ workers: 1 })
    const order: string[] = []
    const given = { busy: made(slow()), unasked: { ...made(), attempt: null }, asked: made(slow()) }
    await Promise.all(
      Object.entries(given).map(([name, one]) => outcome(strategy, one).then(() => order.push(name))),
    )
    expect(order).toEqual(['busy', 'asked', 'unasked'])
  })

  it('S29 an answer whose time is up is refused at once and never verified', async () => {
    const strategy = await ready({ workers: 1 })
    const time = new AbortController()
    const busy = outcome(strategy, made(slow()))
    const given = made()
    const waiting = outcome(strategy, given, time.signal)
    const order: string[] = []
    void busy.then(() => order.push('busy'))
    time.abort()
    expect(await waiting).toEqual(overloaded(/waited too long in the queue of SAML answers$/))
    expect(order).toEqual([])
    const under = new AbortController()
    expect(await busy).toMatchObject(forgery)
    const running = outcome(strategy, made(slow()), under.signal)
    under.abort()
    expect(await running).toEqual(overloaded(/waited too long to be verified$/))
    expect(await outcome(strategy, made(), AbortSignal.abort())).toEqual(overloaded(/waited too long/))
    expect(await outcome(strategy, given)).toBe('alice-1')
    expect(watched.started).toHaveLength(1)
  })

  it('S29 no answer waits longer than the step of a sign-in lasts', async () => {
    const strategy = await ready({ workers: 1 })
    const began = performance.now()
    const late = overloaded(/waited too long in the queue/)
    const flood = await Promise.all(Array.from({ length: 40 }, () => outcome(strategy, made(costly()))))
    expect(flood).toContainEqual(expect.objectContaining(forgery))
    expect(flood).toContainEqual(late)
    // Waiting ends after 3 s; what was under way then is still answered.
    expect(performance.now() - began).toBeLessThan(3_000 + 40 * 50 + 3_000)
    expect(await outcome(strategy, made())).toBe('alice-1')
  })

  it('S29 a closed strategy refuses what waits and what comes, and its threads end', async () => {
    const strategy = await ready({ workers: 1 })
    const [thread] = watched.started
    const ended = once(thread!, 'exit')
    const running = outcome(strategy, made(slow()))
    const waiting = outcome(strategy, made())
    await strategy.close()
    await ended
    expect(await running).toEqual(overloaded(/the strategy was closed/))
    expect(await waiting).toEqual(overloaded(/the SAML strategy was closed/))
    expect(await outcome(strategy, made())).toEqual(overloaded(/the SAML strategy was closed/))
    expect(watched.started).toHaveLength(1)
  })
})

describe('S29 threads', () => {
  it('S29 start with the first answer, as many as answers wait and no more than allowed', async () => {
    const strategy = samlStrategy({ workers: 2 })
    opened.push(strategy)
    expect(watched.started).toHaveLength(0)
    expect(await outcome(strategy, made())).toBe('alice-1')
    expect(watched.started).toHaveLength(1)
    const all = await Promise.all(Array.from({ length: 6 }, () => outcome(strategy, made())))
    expect(all).toEqual(Array(6).fill('alice-1'))
    expect(watched.started).toHaveLength(2)
  })

  it.runIf(process.platform === 'linux')(
    'S29 stand behind the event loop where cores are short',
    async () => {
      /** The field after the name, which may hold spaces, is the third; proc(5) has the niceness as its 19th. */
      const niceness = () =>
        readdirSync('/proc/self/task').map((thread) =>
          Number(readFileSync(`/proc/self/task/${thread}/stat`, 'utf8').split(') ')[1]!.split(' ')[16]),
        )
      const own = getPriority()
      const before = niceness().filter((nice) => nice === 10).length
      await ready({ workers: 1 })
      expect(niceness().filter((nice) => nice === 10)).toHaveLength(before + 1)
      expect(getPriority()).toBe(own)
    },
  )

  it('S29 none start where none are wanted', async () => {
    const strategy = samlStrategy({ workers: 0 })
    expect(await outcome(strategy, made())).toBe('alice-1')
    expect(watched.started).toHaveLength(0)
  })

  it('S29 one that is killed over an answer is replaced', async () => {
    const strategy = await ready({ workers: 1 })
    const running = outcome(strategy, made(costly()))
    const waiting = outcome(strategy, made())
    void watched.started[0]!.terminate()
    expect(await running).toEqual(
      overloaded(/^connection "acme": the thread that verified the answer was lost: /),
    )
    expect(await waiting).toBe('alice-1')
    expect(watched.started).toHaveLength(2)
  })

  it('S29 one that crashes by an error that nothing catches is replaced, and the error told', async () => {
    const strategy = await ready({ workers: 1 })
    // No message of ours: the thread fails at reading it, before it gets to the answer.
    watched.started[0]!.postMessage(null)
    const running = outcome(strategy, made())
    const waiting = outcome(strategy, made())
    expect(await running).toEqual(
      overloaded(/the thread that verified the answer was lost: TypeError: .*null/),
    )
    expect(await waiting).toBe('alice-1')
    expect(watched.started).toHaveLength(2)
  })

  it('S29 one that is lost while idle is replaced when it is needed', async () => {
    const strategy = await ready({ workers: 1 })
    const [thread] = watched.started
    const ended = once(thread!, 'exit')
    void thread!.terminate()
    await ended
    expect(watched.started).toHaveLength(1)
    expect(await outcome(strategy, made())).toBe('alice-1')
    expect(watched.started).toHaveLength(2)
  })

  it('S29 one that takes too long is ended, and the next answer gets another', async () => {
    const strategy = await ready({ workers: 1 })
    const [thread] = watched.started
    const ended = once(thread!, 'exit')
    // Work of nobody's, for a minute: the answer behind it is not reached.
    const field = made(costly()).incoming.body!.get('SAMLResponse')!
    const job = {
      field,
      expected: {},
      signed: 'either',
      certificates: [],
      decryptionKeys: [],
    }
    for (let count = 0; count < 2_000; count++) thread!.postMessage({ number: -1, job })
    expect(await outcome(strategy, made())).toEqual(
      overloaded(/was lost: Error: it did not verify the answer within 3 s$/),
    )
    await ended
    expect(await outcome(strategy, made())).toBe('alice-1')
    expect(watched.started).toHaveLength(2)
  })
})

describe('S29 a process of its own', () => {
  const program = fileURLToPath(new URL('../../dist/test/rig/saml-process.js', import.meta.url))
  const run = async (...flags: string[]) => {
    if (!existsSync(program)) throw new Error('build first: npm run build')
    // It has 20 s; a thread that kept it alive would use them up and be an error here.
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, program], { timeout: 20_000 })
    return JSON.parse(stdout)
  }

  it('S29 waits for its answers and ends by itself while a thread is idle', async () => {
    expect(await run()).toEqual({
      told: ['alice-1', expect.stringMatching(/^assertion_refused: .*signed by none of the 1/)],
      threads: 1,
    })
  })

  it('S29 starts threads without what the process was started with', async () => {
    const preload = 'import { isMainThread } from "node:worker_threads"; if (!isMainThread) throw new Error()'
    const { told } = await run('--import', `data:text/javascript,${encodeURIComponent(preload)}`)
    expect(told[0]).toBe('alice-1')
  })

  it('S29 where threads are forbidden every answer is refused, and says why', async () => {
    const flag = ['--permission', '--experimental-permission'].find((name) =>
      process.allowedNodeEnvironmentFlags.has(name),
    )!
    const { told, threads: count } = await run('--no-warnings', flag, '--allow-fs-read=*', '--allow-addons')
    expect([told, count]).toEqual([
      Array(2).fill(
        expect.stringMatching(/^unavailable: connection "acme": no thread could be started: .*restricted/),
      ),
      0,
    ])
  })
})

describe('S29 over HTTP', () => {
  const strategy = samlStrategy({ workers: 1, queue: 6 })
  const { at, xmlFor, honest } = scene({ idpInitiated: true }, {}, strategy)

  /** Does something while these go on, over and over. */
  async function during<T>(attacks: (() => Promise<unknown>)[], work: () => Promise<T>): Promise<T> {
    let over = false
    const all = attacks.map(async (attack) => {
      while (!over) await attack()
    })
    try {
      return await work()
    } finally {
      over = true
      await Promise.allSettled(all)
    }
  }

  /** Does something while the thread and the queue are full. */
  const whileFull = <T>(work: () => Promise<T>) => {
    const given = made(slow())
    const fill = async () => {
      const { code } = (await outcome(strategy, given)) as JitError
      // One that was pushed out must not come back in the same breath, or nothing else would ever run.
      if (code === 'unavailable') await turnOfTheLoop()
    }
    return during(Array(7).fill(fill), work)
  }

  it('S29 during a flood of forged answers at the size limit, genuine sign-ins succeed', {
    timeout: 60_000,
  }, async () => {
    const statuses = new Set<number>()
    const attack = async () => {
      const begun = await begin(at.app, 'acme')
      statuses.add((await answer(begun, xmlFor(begun, { after: [slow(longest)] }))).status)
    }
    await during(Array(10).fill(attack), async () => {
      await expect.poll(() => statuses.has(503), { timeout: 20_000 }).toBe(true)
      for (let count = 0; count < 6; count++) await honest()
    })
    // Some were looked at perhaps, and the rest shed; nothing else came of any.
    expect([...statuses].filter((status) => status !== 503 && status !== 403)).toEqual([])
    expect((await at.app.rows()).users).toHaveLength(1)
  })

  it('S29 a full queue is a 503 with Retry-After, and the same answer is good afterwards', async () => {
    const client = browser()
    const callbackUrl = at.app.callback('acme')
    const unasked = xmlFor({ ...(await begin(at.app, 'acme')), requestId: null })
    const bring = () => post(client, callbackUrl, { SAMLResponse: posted(unasked) })
    const full = await whileFull(bring)
    expect([full.status, full.headers.get('retry-after'), full.json().error]).toEqual([
      503,
      '2',
      'unavailable',
    ])
    expect(at.app.log.at(-1)!.message).toBe('connection "acme": the queue of SAML answers is full')
    expect((await at.app.rows()).users).toEqual([])
    const page = await bring()
    expect([page.status, /name="ticket"/.test(page.text)]).toEqual([200, true])
    const ticket = /name="ticket" value="([^"]+)"/.exec(page.text)![1]!
    expect((await post(client, callbackUrl, { ticket })).status).toBe(303)
    expect(await at.app.me(client)).toBe(200)
  })

  it('S29 what no sign-in waits for, and what is too long, is refused before the queue', async () => {
    const begun = await begin(at.app, 'globex')
    const form = (text: string, relayState = begun.relayState) => ({
      SAMLResponse: text,
      RelayState: relayState,
    })
    // Longer than what waits: in the queue these would be the first to go, with 503.
    const refusals = await whileFull(async () => [
      await post(begun.client, begun.callbackUrl, form(posted(' '.repeat(300_000)), 'A'.repeat(43))),
      await post(begun.client, begun.callbackUrl, form('A'.repeat(800_000))),
    ])
    expect(refusals.map(({ status, text }) => [JSON.parse(text).error, status])).toEqual([
      ['attempt_unknown', 400],
      ['answer_too_large', 413],
    ])
    await honest()
  })
})
