import { JitError, type Store } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { Webhook, WebhookVerificationError } from 'standardwebhooks'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type WebhookOptions, webhook } from '../../lib/webhook.js'
import { type Clock, commit, kit, settle } from '../audit/kit.js'
import { answer, type Received, type Receiver, receiver } from './webhook-receiver.js'

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const another = Buffer.alloc(24, 9).toString('base64')

let hook: Receiver
let store: Store
let clock: Clock
beforeEach(async () => {
  hook = await receiver()
  store = memoryStore()
  clock = { at: Date.now() }
})
afterEach(() => hook.close())

/** The kit with one webhook on this machine. */
const world = (options: Partial<WebhookOptions> & { secrets?: readonly string[] } = {}) => {
  const secrets = options.secrets ? {} : { secret }
  const both = { id: 'crm', url: hook.url, allowInsecureRequests: true, ...secrets, ...options }
  return kit(store, [webhook(both as WebhookOptions)], clock)
}

const deliveryOf = async ({ jit }: ReturnType<typeof world>) => (await jit.outbox.deliveries()).rows[0]!
const errorsOf = async (made: ReturnType<typeof world>) =>
  (await deliveryOf(made)).log.map(({ error }) => error)

/** On to when the delivery is due, and one round. */
async function later(made: ReturnType<typeof world>): Promise<void> {
  clock.at = (await deliveryOf(made)).dueAt
  await made.jit.background.runOnce()
}

const headersOf = ({ headers }: Received) => headers as Record<string, string>

describe('What is sent', () => {
  test('one signed post: type, timestamp and the decision as the audit trail has it', async () => {
    const made = world()
    await commit(
      store,
      'change-1',
      { type: 'created', user: 'ann', detail: { status: 'active' } },
      { type: 'joined' },
    )
    await settle(made.jit)
    expect(hook.received).toHaveLength(1)
    const [received] = hook.received
    expect(received!.headers).toMatchObject({
      'content-type': 'application/json',
      'webhook-id': 'change-1',
    })
    const [decision] = (await made.jit.audit.decisions()).rows
    const sent = new Webhook(secret).verify(received!.body, headersOf(received!))
    expect(sent).toEqual({
      type: 'decision.administered',
      timestamp: new Date(decision!.at).toISOString(),
      data: decision,
    })
  })

  const tampered: [string, (received: Received) => Partial<Received>][] = [
    ['a byte of the body', ({ body }) => ({ body: body.replace('ann', 'anm') })],
    ['the id', ({ headers }) => ({ headers: { ...headers, 'webhook-id': 'change-2' } })],
    [
      'the time',
      ({ headers }) => ({
        headers: { ...headers, 'webhook-timestamp': String(Number(headers['webhook-timestamp']) + 1) },
      }),
    ],
    [
      'the signature',
      ({ headers }) => ({
        headers: {
          ...headers,
          'webhook-signature': String(headers['webhook-signature']).replace(/.(?==)/, (c) =>
            c === 'A' ? 'E' : 'A',
          ),
        },
      }),
    ],
  ]
  test.each(tampered)('is refused by the receiver with %s changed', async (_, change) => {
    const made = world()
    await commit(store, 'change-1', { user: 'ann' })
    await settle(made.jit)
    const received = hook.received[0]!
    const verify = ({ body, headers }: Received) =>
      new Webhook(secret).verify(body, headers as Record<string, string>)
    expect(() => verify(received)).not.toThrow()
    const other = { ...received, ...change(received) }
    expect(other).not.toEqual(received)
    expect(() => verify(other)).toThrow(WebhookVerificationError)
  })

  test('while a secret takes the place of another, both sign', async () => {
    const made = world({ secrets: [secret, another] })
    await commit(store, 'a', {})
    await settle(made.jit)
    const [received] = hook.received
    for (const known of [secret, another]) {
      expect(() => new Webhook(known).verify(received!.body, headersOf(received!))).not.toThrow()
    }
    const third = Buffer.alloc(32, 1).toString('base64')
    expect(() => new Webhook(third).verify(received!.body, headersOf(received!))).toThrow(
      WebhookVerificationError,
    )
  })

  test('by a fetch of the app, in its stead', async () => {
    const asked: string[] = []
    const fetch: typeof globalThis.fetch = async (input, init) => {
      asked.push(`${init!.method} ${input}`)
      return globalThis.fetch(hook.url, init)
    }
    const made = world({ url: 'https://crm.example/in', allowInsecureRequests: false, fetch })
    await commit(store, 'a', {})
    await settle(made.jit)
    expect(asked).toEqual(['POST https://crm.example/in'])
    expect(hook.received).toHaveLength(1)
  })
})

describe('P24 A receiver that does not take it', () => {
  test('down: nothing is lost, and once it is up again it is delivered once', async () => {
    const { port } = hook
    await hook.close()
    const made = world()
    await commit(store, 'a', {})
    expect(await made.jit.background.runOnce()).toEqual({ sealed: 1, delivered: 0, failed: 1 })
    expect(await errorsOf(made)).toEqual(['ECONNREFUSED'])
    await later(made)
    hook = await receiver(port)
    await later(made)
    expect(await errorsOf(made)).toEqual(['ECONNREFUSED', 'ECONNREFUSED', null])
    clock.at += 1e9
    await settle(made.jit)
    expect(hook.received.map(({ id }) => id)).toEqual(['a'])
  })

  test('slow: given up after the time limit, tried again, in order', async () => {
    hook.answer = () => {}
    const made = world({ timeout: 200 })
    await commit(store, 'a', { user: 'ann' })
    await commit(store, 'b', { user: 'ann' })
    const begun = performance.now()
    expect(await made.jit.background.runOnce()).toMatchObject({ delivered: 0, failed: 1 })
    expect(performance.now() - begun).toBeLessThan(2_000)
    const { rows } = await made.jit.outbox.deliveries()
    expect(rows.map(({ change, attempts }) => [change, attempts])).toEqual([
      ['b', 0],
      ['a', 1],
    ])
    expect(rows[1]!.log[0]!.error).toMatch(/^(no answer in time|not done in 200 ms)$/)
    hook.answer = answer(200)
    clock.at = rows[1]!.dueAt
    await made.jit.background.runOnce()
    expect(hook.received.map(({ id }) => id)).toEqual(['a', 'a', 'b'])
  })

  test('slow with its answer: given up as well', async () => {
    hook.answer = (res) => res.writeHead(200).write('I am')
    const made = world({ timeout: 200 })
    await commit(store, 'a', {})
    expect(await made.jit.background.runOnce()).toMatchObject({ failed: 1 })
  })

  test('hanging up: tried again', async () => {
    hook.answer = (res) => res.destroy()
    const made = world()
    await commit(store, 'a', {})
    await made.jit.background.runOnce()
    expect(await errorsOf(made)).toEqual(['ECONNRESET'])
    hook.answer = answer(204)
    await later(made)
    expect(await deliveryOf(made)).toMatchObject({ state: 'delivered', attempts: 2 })
  })

  test('failing, then recovering: the same message under the same id, signed anew each time', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: clock.at })
    try {
      hook.answer = answer(500)
      const made = world()
      await commit(store, 'a', {})
      await made.jit.background.runOnce()
      hook.answer = answer(429)
      for (const status of [503, 201]) {
        vi.setSystemTime(Date.now() + 600_000)
        clock.at = Date.now()
        await made.jit.background.runOnce()
        hook.answer = answer(status)
      }
      vi.setSystemTime(Date.now() + 600_000)
      clock.at = Date.now()
      await made.jit.background.runOnce()
      expect(await errorsOf(made)).toEqual(['HTTP 500', 'HTTP 429', 'HTTP 503', null])
      expect(await deliveryOf(made)).toMatchObject({ state: 'delivered', attempts: 4 })
      expect(new Set(hook.received.map(({ id, body }) => id + body)).size).toBe(1)
      const stamps = hook.received.map(({ headers }) => Number(headers['webhook-timestamp']))
      expect(stamps.map((stamp) => stamp - stamps[0]!)).toEqual([0, 600, 1200, 1800])
      const last = hook.received.at(-1)!
      expect(() => new Webhook(secret).verify(last.body, headersOf(last))).not.toThrow()
    } finally {
      vi.useRealTimers()
    }
  })

  test('gone (410): dead at once, and what comes after it is sent', async () => {
    hook.answer = (res, received) => answer(received.id === 'a' ? 410 : 200)(res, received)
    const made = world()
    await commit(store, 'a', { user: 'ann' })
    await commit(store, 'b', { user: 'ann' })
    await settle(made.jit)
    expect(hook.received.map(({ id }) => id)).toEqual(['a', 'b'])
    const { rows } = await made.jit.outbox.deliveries({ state: 'dead' })
    expect(rows).toMatchObject([{ change: 'a', attempts: 1, log: [{ error: 'HTTP 410' }] }])
    expect(made.log.map(({ message }) => message)).toContain(
      'listener "crm": change a was not delivered in 1 tries, and is dead: HTTP 410',
    )
  })

  test.each([
    ['seconds', () => '900', 900_000],
    ['a date', () => new Date(Date.now() + 900_000).toUTCString(), 900_000],
    ['nonsense', () => 'soon', 5_000],
    ['a date that is over', () => new Date(0).toUTCString(), 5_000],
  ])('asking for patience by Retry-After as %s', async (_, header, pause) => {
    hook.answer = answer(503, { 'retry-after': header() })
    const made = world()
    await commit(store, 'a', {})
    await made.jit.background.runOnce()
    const waits = (await deliveryOf(made)).dueAt - clock.at
    expect(waits).toBeGreaterThan(0.79 * pause)
    expect(waits).toBeLessThan(1.21 * pause)
  })

  test('redirecting: not followed, and a failed try', async () => {
    const elsewhere = await receiver()
    try {
      hook.answer = answer(307, { location: elsewhere.url })
      const made = world()
      await commit(store, 'a', {})
      await made.jit.background.runOnce()
      expect(await errorsOf(made)).toEqual([`HTTP 307 to ${new URL(elsewhere.url).origin}`])
      expect(elsewhere.received).toEqual([])
    } finally {
      await elsewhere.close()
    }
  })

  test('of a name that leads inside: not asked, and asked where that is allowed', async () => {
    const secured = { url: `https://localhost:${hook.port}/in`, allowInsecureRequests: false }
    const made = world(secured)
    await commit(store, 'a', {})
    await made.jit.background.runOnce()
    expect((await errorsOf(made))[0]).toMatch(/localhost: (127\.0\.0\.1|::1) is no public address/)
    store = memoryStore()
    const allowed = world({ ...secured, allow: ['127.0.0.0/8', '::1'] })
    await commit(store, 'a', {})
    await allowed.jit.background.runOnce()
    // It speaks no TLS, which shows that it was asked.
    expect((await errorsOf(allowed))[0]).toMatch(/^(ERR_SSL|EPROTO|ECONNRESET|ECONNREFUSED)/)
  })

  test('what goes wrong is told without the path, the secret, or what was sent and answered', async () => {
    const made = world({ secrets: [secret, another] })
    await commit(store, 'a', { user: 'ann-4711' })
    hook.answer = (res) => res.writeHead(422).end('{"email":"ann@o.example"}')
    await made.jit.background.runOnce()
    hook.answer = (res) => res.destroy()
    await later(made)
    await hook.close()
    await later(made)
    const { state, log } = await deliveryOf(made)
    expect([state, log.length]).toEqual(['pending', 3])
    const told = JSON.stringify([log, made.log])
    for (const word of ['a-secret-path', secret, another, secret.slice(6), 'ann-4711', 'ann@']) {
      expect(told).not.toContain(word)
    }
    hook = await receiver()
  })
})

describe('A webhook that cannot work is refused at start', () => {
  const sound = { id: 'crm', url: 'https://crm.example/in', secret }
  test.each([
    ['the nearest that can', {}],
    ['24 bytes', { secret: another }],
    ['64 bytes', { secret: Buffer.alloc(64).toString('base64') }],
    ['two secrets', { secret: undefined, secrets: [secret, another] }],
    ['types', { types: ['granted'] }],
    ['this machine by name', { url: 'http://localhost:1/x', allowInsecureRequests: true }],
    ['this machine by IPv6', { url: 'http://[::1]:1/x', allowInsecureRequests: true }],
    ['an address inside that is allowed', { url: 'https://10.1.2.3/x', allow: ['10.0.0.0/8'] }],
  ])('%s is taken', (_, parts) => {
    expect(() => webhook({ ...sound, ...parts } as unknown as WebhookOptions)).not.toThrow()
  })

  test.each<[string, object, RegExp]>([
    ['no secret', { secret: undefined }, /secret: either/],
    ['both kinds of secrets', { secrets: [secret] }, /secret: either/],
    ['no secret in the list', { secret: undefined, secrets: [] }, /secrets/],
    ['a short secret', { secret: Buffer.alloc(23, 5).toString('base64') }, /secret: 24 to 64 random bytes/],
    ['a long secret', { secret: Buffer.alloc(65, 5).toString('base64') }, /secret: 24 to 64 random bytes/],
    ['a secret that is no base64', { secret: '!'.repeat(80) }, /secret: 24 to 64 random bytes/],
    [
      'a second secret that is none',
      { secret: undefined, secrets: [secret, 'hunter2'] },
      /secrets\.1: 24 to 64/,
    ],
    ['plain http', { url: 'http://crm.example/in' }, /url: plain http is for this machine alone/],
    [
      'plain http elsewhere, in development',
      { url: 'http://crm.example/in', allowInsecureRequests: true },
      /url: plain http is for this machine alone/,
    ],
    [
      'a name that only begins like this machine',
      { url: 'http://127.0.0.1.crm.example/in', allowInsecureRequests: true },
      /url: plain http is for this machine alone/,
    ],
    [
      'plain http here, without the word',
      { url: 'http://127.0.0.1:1/in' },
      /url: plain http, and allowInsecureRequests is off/,
    ],
    ['an address inside', { url: 'https://10.1.2.3/in' }, /url: 10\.1\.2\.3 is no public address/],
    [
      'another spelling of this machine',
      { url: 'https://2130706433/in' },
      /url: 127\.0\.0\.1 is no public address/,
    ],
    ['a password', { url: 'https://u:hunter2@crm.example/in' }, /url: there is a user name or password/],
    ['no URL', { url: 'crm' }, /url/],
    ['another scheme', { url: 'ftp://crm.example' }, /url/],
    ['an unknown type', { types: ['grant'] }, /types\.0/],
    ['an id with spaces', { id: 'a b' }, /id: letters/],
    ['an unknown key', { secretKey: 'x' }, /secretKey/],
    ['a network that is none', { allow: ['10.0.0.0/99'] }, /allow\.0/],
  ])('%s: the key is named, the secret is not', (_, parts, message) => {
    const options = { ...sound, ...parts } as unknown as WebhookOptions
    let refusal: unknown
    try {
      webhook(options)
    } catch (error) {
      refusal = error
    }
    expect(refusal).toBeInstanceOf(JitError)
    expect(refusal).toMatchObject({ code: 'config_invalid', message: expect.stringMatching(message) })
    const told = `${(refusal as JitError).message} ${(refusal as JitError).problems}`
    for (const word of ['hunter2', '!!!!', secret.slice(6)]) expect(told).not.toContain(word)
  })
})
