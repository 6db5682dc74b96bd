import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { assertIdentity, type Once } from 'passport-jit'
import { memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { emailStrategy } from 'passport-jit/strategies/email'
import { describe, expect, test } from 'vitest'
import { newToken } from '../../lib/attempt.js'
import type { MiddlewarePorts } from '../../lib/middleware.js'
import { type Provisioned, provision } from '../../lib/provision.js'
import { putWaiting, type Waiting } from '../../lib/sign-in.js'
import { commit, kit, settle, start } from '../audit/kit.js'
import { onEveryStore } from '../directory/stores.js'
import { begin, post, startHonest } from '../http/honest.js'
import { baseUrl } from '../rig/fleet.js'
import { browser } from '../rig/oidc-http.js'
import { prepared } from '../rig/ports.js'
import { entries } from '../tables/facts.js'

// A clock that is wrong for a while, and set back.

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

describe('P23 the lifetimes of what is kept do not depend on the clock', () => {
  /** Everything that is put or claimed, by the first word of its key, with its time to live. */
  const recording = () => {
    const lives: [string, number][] = []
    const inner = memoryOnce()
    const note = (key: string, ttl: number) => lives.push([key.split(':')[0]!, ttl])
    const once: Once = {
      ...inner,
      put: (key, value, ttl) => {
        note(key, ttl)
        return inner.put(key, value, ttl)
      },
      claim: (key, ttl) => {
        note(key, ttl)
        return inner.claim(key, ttl)
      },
    }
    return { once, lives }
  }

  test.each([
    ['an hour ahead', hour],
    ['an hour behind', -hour],
    ['a day ahead', day],
    ['a day behind', -day],
  ])('P23 %s: an attempt, a ticket, a code, a sign-in that waits', async (_, ahead) => {
    const { once, lives } = recording()
    const now = () => Date.now() + ahead
    const app = await startHonest({ store: memoryStore(), once, now })
    try {
      const state = await begin(app, browser(), 'acme-saml')
      expect((await post(app, { state })).status).toBe(303)
      const transport = { sendMail: async () => {} }
      const email = emailStrategy({ transport, from: 'a@app.example', appName: 'App' })
      const asked = { address: 'a@b.example', purpose: 'sign-in', keep: '', site: '', ip: '' } as const
      await email.send({ ...asked, previous: undefined, linkTo: '/' }, { now, once, random: randomBytes })
      const ports = { baseUrl, once, now } as unknown as MiddlewarePorts
      const [req, res] = [{ headers: {} }, { appendHeader: () => {} }]
      const ways = [req as IncomingMessage, res as unknown as ServerResponse, newToken()] as const
      // Written by a process whose clock was right.
      await putWaiting(ports, ...ways, { until: Date.now() + 10 * minute } as Waiting)
    } finally {
      await app.close()
    }
    const names = ['attempt', 'ticket', 'code', 'link', 'waiting']
    expect(lives.map(([name]) => name)).toEqual(names)
    for (const [name, ttl] of lives) {
      expect(ttl, name).toBeLessThanOrEqual(name === 'ticket' ? minute : 10 * minute)
      if (name !== 'waiting' || ahead < 0) expect(ttl, name).toBeGreaterThanOrEqual(minute)
    }
  })

  test('P23 a clock that tells no time is refused, for by it nothing would ever have passed', async () => {
    let broken = false
    const app = await startHonest({ store: memoryStore(), now: () => (broken ? Number.NaN : Date.now()) })
    try {
      expect((await browser().go(app.start('acme'))).status).toBe(302)
      broken = true
      const refused = await browser().go(app.start('acme'))
      expect([refused.status, refused.json().error]).toEqual([500, 'config_invalid'])
    } finally {
      await app.close()
    }
  })
})

onEveryStore((factory) => {
  const onFresh = (name: string, body: (made: Awaited<ReturnType<typeof factory>>) => Promise<void>) =>
    test(name, async () => {
      const made = await factory()
      try {
        await made.store.migrate()
        await body(made)
      } finally {
        await made.close()
      }
    })

  onFresh(
    'P23 a clock that goes back between lock and commit: one of everything, in its order',
    async ({ store }) => {
      const { directory } = await entries()
      const ports = await prepared(store, directory)
      let time = Date.now()
      const identity = assertIdentity({
        source: 'connection:c',
        sourceVersion: (await directory.connection('c'))!.version,
        issuer: 'https://idp.example',
        subject: 'ann',
        email: 'ann@o.example',
        at: time,
      })
      let refusals = 2
      const busy: typeof store = {
        ...store,
        load: (query) => store.load(query),
        commit: async (changes) => {
          time -= hour
          if (refusals-- > 0) return { committed: false, conflict: { kind: 'busy', detail: '40001' } }
          return store.commit(changes)
        },
      }
      const lock: typeof ports.lock = {
        acquire: async (...asked) => {
          time -= day
          return ports.lock.acquire(...asked)
        },
      }
      const going = { ...ports, store: busy, lock, now: () => time }
      const done = (await provision(going, identity)) as Provisioned
      expect(done).toMatchObject({ outcome: 'created', joined: ['o'] })
      time -= day
      expect(await provision(going, identity)).toMatchObject({ outcome: 'unchanged' })
      expect((await store.users()).rows.map(({ id }) => id)).toEqual([done.after.user.id])
      const { rows } = await store.events()
      expect(rows.filter(({ type }) => type === 'created')).toHaveLength(1)
    },
  )

  onFresh(
    'P23 times that go back break neither the chain nor a page, and every delivery is made once',
    async ({ store }) => {
      const clock = { at: start }
      const told: string[] = []
      let away = true
      const listener = {
        id: 'crm',
        deliver: async ({ change }: { change: string }) => {
          if (change === 'c0' && away) throw new Error('away')
          told.push(change)
        },
      }
      const { jit } = kit(store, [listener], clock)
      const names = Array.from({ length: 12 }, (_, n) => `c${n}`)
      for (const [n, name] of names.entries()) {
        // Each is older than the one before it, and so is the seal of every third.
        await commit(store, name, { at: start - n * hour, user: n % 2 ? 'ann' : 'ben' })
        if (n % 3 === 2) await jit.background.runOnce()
        clock.at -= hour
      }
      expect(await jit.audit.verify()).toMatchObject({ ok: true })
      const listed: string[] = []
      let after: string | null | undefined
      do {
        const page = await jit.audit.decisions({ limit: 5, ...(after && { after }) })
        listed.push(...page.rows.map(({ change }) => change))
        after = page.next
      } while (after !== null)
      expect(listed).toEqual([...names].reverse())

      away = false
      // A try that failed is made again when the clock says so, and by then has been right for a while.
      clock.at = start + hour
      await settle(jit)
      for (const parity of [0, 1]) {
        const theirs = names.filter((_, n) => n % 2 === parity)
        expect(told.filter((name) => theirs.includes(name))).toEqual(theirs)
      }
      expect(await jit.audit.verify()).toMatchObject({ ok: true, changes: 12, waiting: 0 })
    },
  )
})
