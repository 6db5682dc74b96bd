import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { browser } from '../rig/inbox.js'
import { person } from '../rig/social-app.js'
import { bytesOf, expectedOf, request } from './anything.js'
import { type FlowName, finish, flows } from './flows.js'
import { patience, runs } from './inputs.js'
import { applies, kinds, mutated } from './mutations.js'
import { expectSound, type Scene, startScene } from './scene.js'
import { send } from './wire.js'

vi.setConfig({ testTimeout: patience })

let scene: Scene
beforeAll(async () => {
  scene = await startScene()
})
afterAll(() => scene.close())

const minutes = 60_000

/** The untouched one signs in, so a refusal before it was for the mutation and nothing else. */
const honest = async (flow: FlowName) => {
  const before = scene.sessions().length
  const answer = await finish(scene, await flows[flow].begin(scene))
  expect([flow, answer.status, scene.sessions().length - before]).toEqual([
    flow,
    flow === 'code' || flow === 'link' ? 200 : 303,
    1,
  ])
}

describe('S29, S30, O22, L20: any request at all', () => {
  test('is answered in time and by a code of its own, and leaves no trace', () =>
    fc.assert(
      fc.asyncProperty(request, async (asked) => {
        const { origin } = scene.app
        const bytes = bytesOf(asked, asked.signedIn ? await scene.session() : '')
        const sent = () => send(origin, bytes, expectedOf(asked))
        // A mail has a code and a link.
        const answer = await scene.provesNothing(sent, { keeps: 2 })
        if (answer) expectSound(answer, origin, asked.signedIn)
      }),
      { numRuns: runs },
    ))
})

describe('S17, S19, S26, O01, O03, E03, E04: a sign-in with one thing wrong', () => {
  beforeAll(async () => {
    for (const flow of Object.keys(flows) as FlowName[]) await honest(flow)
  })

  test.each(Object.keys(flows) as FlowName[])('%s: signs nobody in, and the untouched one does', (flow) => {
    const mutation = fc.record({
      kind: fc.constantFrom(...kinds),
      field: fc.nat(20),
      at: fc.nat(),
      char: fc.constantFrom(...'abcdefghijklmnopqrstuvwxy0123456789'),
    })
    return fc.assert(
      fc.asyncProperty(
        mutation.filter((one) => applies(flow, one)),
        async (one) => {
          const last = await flows[flow].begin(scene)
          const changed = mutated(last, await flows[flow].begin(scene), one)
          const untouched = JSON.stringify(changed) === JSON.stringify(last)
          if (one.kind === 'again') await finish(scene, last)
          else if (one.kind === 'late') scene.clock.ahead = 11 * minutes
          else fc.pre(!untouched)
          try {
            await scene.provesNothing(() => finish(scene, changed), { keeps: 2 })
          } finally {
            scene.clock.ahead = 0
          }
          await honest(flow)
        },
      ),
      { numRuns: Math.ceil(runs / 80) },
    )
  })
})

describe('O01, O03, S29: several sign-ins under way', () => {
  /** Somebody begins; or what came back to sign-in `of` is brought by a browser, its own or not; or time goes by. */
  const step = fc.oneof(
    fc.record({ act: fc.constant('begin' as const), browser: fc.nat(1) }),
    fc.record({ act: fc.constant('finish' as const), browser: fc.nat(1), of: fc.nat(12) }),
    fc.record({ act: fc.constant('wait' as const), minutes: fc.integer({ min: 1, max: 6 }) }),
  )

  test('in two browsers: one is good once, in its own browser, in its time, and as one of the newest five', () =>
    fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), async (steps) => {
        const clients = [browser(), browser()]
        const { origin } = scene.app
        const begun: { url: string; browser: number; until: number; kept: boolean; cookie: boolean }[] = []
        try {
          for (const step of steps) {
            if (step.act === 'wait') scene.clock.ahead += step.minutes * minutes
            if (step.act === 'begin') {
              const own = begun.filter((one) => one.browser === step.browser && one.cookie)
              if (own.length === 5) own[0]!.cookie = false
              const asked = await clients[step.browser]!.go(`${origin}/auth/social/github`)
              const answer = scene.world.arrive(asked.location!, person('github', 1, 'h@free.example'))
              const until = scene.clock.ahead + 10 * minutes
              const url = `${origin}/auth/social/github/callback?${answer}`
              begun.push({ url, browser: step.browser, until, kept: true, cookie: true })
            }
            if (step.act === 'finish' && begun.length > 0) {
              const one = begun[step.of % begun.length]!
              const alive = one.kept && scene.clock.ahead < one.until
              const good = alive && one.browser === step.browser && one.cookie
              const before = scene.sessions()
              const answer = await clients[step.browser]!.go(one.url)
              const made = scene.sessions().filter((id) => !before.includes(id))
              expect([answer.status === 303, made.length]).toEqual([good, good ? 1 : 0])
              one.kept = false
              // Only an attempt that is still there names the cookie to clear.
              if (good) one.cookie = false
            }
            const held = clients.map((client) => [...client.cookies(origin).keys()])
            for (const names of held)
              expect(names.filter((name) => name.startsWith('jit-')).length).toBeLessThanOrEqual(5)
          }
        } finally {
          scene.clock.ahead = 0
        }
      }),
      { numRuns: Math.ceil(runs / 30) },
    ))

  test('with as many fields as fit: the answer comes in time', async () => {
    const last = await flows.apple.begin(scene)
    const fields = Array.from({ length: 120_000 }, (_, n) => [`f${n}`, ''] as const)
    const began = performance.now()
    const answer = await finish(scene, { ...last, fields: [...last.fields, ...fields] })
    expect([answer.status, performance.now() - began < 5_000]).toEqual([400, true])
    await honest('apple')
  })
})
