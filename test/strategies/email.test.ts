import { randomBytes, randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { createTransport } from 'nodemailer'
import { type CodeRequest, codeLifetime, type EmailServices, JitError } from 'passport-jit'
import { memoryOnce } from 'passport-jit/stores/memory'
import { redisOnce } from 'passport-jit/stores/redis'
import { type EmailOptions, emailStrategy } from 'passport-jit/strategies/email'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { clientKey } from '../../lib/limits.js'
import { inbox, recordingOnce, wrongCodes } from '../rig/inbox.js'
import { needs, redis } from '../rig/services.js'

const ann = 'ann@acme.example'
const linkTo = 'https://app.example/auth/email/verify'
const ip = '192.0.2.1'

function scene(options: Partial<EmailOptions> = {}, more: Partial<EmailServices> = {}) {
  let clock = 1_000_000
  const mailbox = inbox()
  const recorded = recordingOnce(memoryOnce(() => clock))
  const services: EmailServices = { now: () => clock, random: randomBytes, once: recorded.once, ...more }
  const strategy = emailStrategy({
    transport: mailbox.transport,
    from: 'no-reply@app.example',
    appName: 'Smartworkspace',
    ...options,
  })
  return {
    mailbox,
    recorded,
    strategy,
    wait: (milliseconds: number) => {
      clock += milliseconds
    },
    send: (request: Partial<CodeRequest> = {}) =>
      strategy.send(
        {
          address: ann,
          purpose: 'sign-in',
          keep: '/tasks',
          site: 'https://app.example',
          ip,
          previous: undefined,
          linkTo,
          ...request,
        },
        services,
      ),
    redeem: (token: string, code: string, address = ann, purpose: CodeRequest['purpose'] = 'sign-in') =>
      strategy.redeem({ token, address, code, ip }, purpose, services),
    follow: (href: string, purpose: CodeRequest['purpose'] = 'sign-in') =>
      strategy.redeem({ link: new URL(href).searchParams.get('link')!, ip }, purpose, services),
  }
}

const refusal = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => expect.unreachable('it was not refused'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(JitError)
  return error as JitError
}
const code = async (work: Promise<unknown>) => (await refusal(work)).code

describe('A code and its link', () => {
  test('the code hands back what was kept', async () => {
    const { send, redeem, mailbox } = scene()
    expect(await redeem(await send(), mailbox.to(ann).code)).toEqual({ address: ann, keep: '/tasks' })
  })

  test('so does the link', async () => {
    const { send, follow, mailbox } = scene()
    await send()
    expect(await follow(mailbox.to(ann).link!)).toEqual({ address: ann, keep: '/tasks' })
  })

  test('E03: they are one attempt, good once, whichever comes first', async () => {
    for (const first of ['code', 'link'] as const) {
      const { send, redeem, follow, mailbox } = scene()
      const token = await send()
      const mailed = mailbox.to(ann)
      await (first === 'code' ? redeem(token, mailed.code) : follow(mailed.link!))
      expect(await code(redeem(token, mailed.code))).toBe('code_wrong')
      expect(await code(follow(mailed.link!))).toBe('code_wrong')
    }
  })

  test('E03: handed in ten times at once, one is served', async () => {
    const { send, redeem, follow, mailbox } = scene()
    const token = await send()
    const mailed = mailbox.to(ann)
    const served = await Promise.allSettled([
      ...Array.from({ length: 5 }, () => redeem(token, mailed.code)),
      ...Array.from({ length: 5 }, () => follow(mailed.link!)),
    ])
    expect(served.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
  })

  test('E03: asking again in the same browser ends the older ones', async () => {
    const { send, redeem, follow, mailbox } = scene()
    const token = await send()
    const older = mailbox.to(ann)
    const newer = await send({ previous: token })
    expect(await code(redeem(token, older.code))).toBe('code_wrong')
    expect(await code(follow(older.link!))).toBe('code_wrong')
    expect(await redeem(newer, mailbox.to(ann).code)).toMatchObject({ address: ann })
  })

  test('and in another browser it does not: nobody can end somebody else’s code', async () => {
    const { send, redeem, mailbox } = scene()
    const token = await send()
    const { code: right } = mailbox.to(ann)
    await send()
    expect(await redeem(token, right)).toMatchObject({ address: ann })
  })

  test('they last ten minutes', async () => {
    expect(codeLifetime).toBe(600_000)
    for (const [waited, good] of [
      [codeLifetime - 1, true],
      [codeLifetime, false],
    ] as const) {
      const { send, redeem, wait, mailbox } = scene()
      const token = await send()
      wait(waited)
      const answer = redeem(token, mailbox.to(ann).code)
      if (good) expect(await answer).toMatchObject({ address: ann })
      else expect(await code(answer)).toBe('code_wrong')
    }
    const { send, follow, wait, mailbox } = scene()
    await send()
    wait(codeLifetime)
    expect(await code(follow(mailbox.to(ann).link!))).toBe('code_wrong')
  })

  test('E04: the code is good with its own token, address and purpose, and with no other', async () => {
    const { send, redeem, follow, mailbox } = scene()
    const token = await send()
    const mailed = mailbox.to(ann)
    const other = await send({ address: 'bob@acme.example' })
    expect(await code(redeem(other, mailed.code))).toBe('code_wrong')
    expect(await code(redeem(token, mailed.code, 'bob@acme.example'))).toBe('code_wrong')
    expect(await code(redeem(token, mailed.code, ann, 'prove'))).toBe('code_wrong')
    expect(await redeem(token, mailed.code)).toMatchObject({ address: ann })
    const proving = await send({ purpose: 'prove' })
    const proof = mailbox.to(ann)
    expect(await code(redeem(proving, proof.code))).toBe('code_wrong')
    expect(await code(follow(proof.link!))).toBe('code_wrong')
  })

  test('what is no code and no token is refused, and no try is spent on it', async () => {
    const { send, redeem, recorded, mailbox } = scene()
    const token = await send()
    for (const typed of ['', '12345', '1234567', '12 456', '１２３４５６', '12345a', '-12345', '1e5555']) {
      expect(await code(redeem(token, typed))).toBe('code_wrong')
    }
    for (const forged of ['', 'x', `${token}=`, `${token.slice(0, -1)}\n`]) {
      expect(await code(redeem(forged, '123456'))).toBe('code_wrong')
    }
    expect(recorded.evaluated()).toEqual([])
    expect(await redeem(token, mailbox.to(ann).code)).toMatchObject({ address: ann })
  })

  test('no link is made where none is asked for', async () => {
    const { send, mailbox, recorded } = scene()
    await send({ linkTo: null, purpose: 'prove' })
    expect(mailbox.to(ann).link).toBeNull()
    expect(recorded.told.filter((key) => key.startsWith('link:'))).toEqual([])
  })

  test('E10: the backend holds neither code, token, link, address nor what is kept', async () => {
    const { send, redeem, follow, mailbox, recorded } = scene()
    const token = await send({ keep: 'a secret destination' })
    const mailed = mailbox.to(ann)
    for (const guess of wrongCodes(mailed.code, 2)) await refusal(redeem(token, guess))
    await redeem(token, mailed.code)
    await refusal(follow(mailed.link!))
    const all = recorded.told.join('\n')
    const link = new URL(mailed.link!).searchParams.get('link')!
    for (const secret of [mailed.code, token, link, ann, 'acme', 'secret', 'sign-in']) {
      expect(all).not.toContain(secret)
    }
    expect(all).toMatch(/^code:.{43}$/m)
  })
})

describe('The draw', () => {
  const drawing = async (...numbers: number[]) => {
    const draws = [...numbers]
    const random = (bytes: number) => {
      if (bytes !== 4) return randomBytes(bytes)
      const four = Buffer.alloc(4)
      four.writeUInt32BE(draws.shift()!)
      return four
    }
    const { send, mailbox } = scene({}, { random })
    await send()
    return { code: mailbox.to(ann).code, left: draws.length }
  }

  test.each([
    [0, '000000'],
    [42, '000042'],
    [999_999, '999999'],
    [1_000_007, '000007'],
    [4_293_999_999, '999999'],
  ])('%i gives %s', async (number, digits) => {
    expect(await drawing(number)).toEqual({ code: digits, left: 0 })
  })

  test.each([4_294_000_000, 4_294_967_295])(
    '%i would favour small codes, and is drawn again',
    async (number) => {
      expect(await drawing(number, number, 5)).toEqual({ code: '000005', left: 0 })
    },
  )
})

describe('The mail', () => {
  const { mailbox, send } = scene({ from: 'Smart <no-reply@app.example>', appName: 'Tom & "Jerry" <Ltd>' })
  const mailed = async (request: Partial<CodeRequest> = {}) => {
    await send(request)
    return mailbox.to(ann)
  }

  test('says the code first, then which app and site, how long, and what to do if nobody asked', async () => {
    const { mail, code, link } = await mailed()
    expect(mail.text.split('\n')[0]).toBe(code)
    for (const said of ['Tom & "Jerry" <Ltd>', 'https://app.example', ann, '10 minutes', link!]) {
      expect(mail.text).toContain(said)
    }
    expect(mail.text).toMatch(/did not ask/)
    expect(mail).toMatchObject({ from: 'Smart <no-reply@app.example>', to: ann })
    expect(mail.headers).toEqual({ 'Auto-Submitted': 'auto-generated' })
  })

  test('says the same as HTML, escaped, the code in one piece, nothing loaded from elsewhere', async () => {
    const { mail, code, link } = await mailed()
    expect(mail.html).toContain(`>${code}<`)
    expect(mail.html).toContain('Tom &#38; &#34;Jerry&#34; &#60;Ltd&#62;')
    expect(mail.html).not.toContain('<Ltd>')
    expect(mail.html).toMatch(/user-select:all/)
    expect(mail.html).not.toMatch(/<img|src=|url\(|@import|<link|<script/i)
    expect([...mail.html.matchAll(/href="([^"]*)"/g)].map(([, href]) => href)).toEqual([link])
  })

  test('E10: an address of letters that mean something to HTML is text in it', async () => {
    const address = "a&b'c@app.example"
    await send({ address })
    const { mail } = mailbox.to(address)
    expect(mail.text).toContain(address)
    expect(mail.html).toContain('a&#38;b&#39;c@app.example')
    expect(mail.html).not.toContain(address)
  })

  test('keeps the code out of the subject', async () => {
    const { mail, code } = await mailed()
    expect(mail.subject).toBe('Your code to sign in to Tom & "Jerry" <Ltd>')
    expect(mail.subject).not.toContain(code)
  })

  test('nodemailer makes of it a message with a text and an HTML part', async () => {
    const sent: string[] = []
    const transporter = createTransport({ streamTransport: true, buffer: true })
    const { send: mail } = scene({
      from: 'Smart “é” <no-reply@app.example>',
      appName: 'Café <évil>',
      transport: {
        sendMail: async (one) => sent.push(String((await transporter.sendMail(one)).message)),
      },
    })
    await mail()
    const [head, body] = sent[0]!.split(/\r\n\r\n(.*)/s)
    expect(head).toMatch(/^To: ann@acme\.example\r$/m)
    expect(head).toMatch(/^From: .* <no-reply@app\.example>\r$/m)
    expect(head).toMatch(/^Auto-Submitted: auto-generated\r$/m)
    expect(head).toMatch(/^Content-Type: multipart\/alternative;/m)
    expect(head).not.toMatch(/^(?:B?cc|Reply-To):/im)
    expect(body).toMatch(/Content-Type: text\/plain.*Content-Type: text\/html/s)
    // The transporter itself fits the option.
    expect(emailStrategy({ transport: transporter, from: 'a@b.example', appName: 'App' }).protocol).toBe(
      'email',
    )
  })

  test('a code that proves an address says so, and warns of who might be behind it', async () => {
    const { mail } = await mailed({ purpose: 'prove', linkTo: null })
    expect(mail.text).toMatch(/show Tom .* that this address is yours/)
    expect(mail.text).toMatch(/join another way to sign in to your account/)
    expect(mail.text).not.toMatch(/link/)
  })
})

describe('What fails', () => {
  test('a transport that fails: unavailable, and not a word of the mail, whatever its error holds', async () => {
    const { strategy: _, ...good } = scene()
    const token = await good.send()
    const failing = scene({
      transport: {
        sendMail: async ({ text }) => {
          throw Object.assign(new Error(`could not send ${text}`), { code: 'EENVELOPE', responseCode: 550 })
        },
      },
    })
    const error = await refusal(failing.send({ previous: token }))
    expect(error).toMatchObject({ code: 'unavailable', status: 503 })
    expect(error.message).toBe('e-mail method: the mail transport failed EENVELOPE 550')
    expect(error.cause).toBeUndefined()
  })

  test('and leaves the person the code they had', async () => {
    let down = false
    const mailbox = inbox()
    const { send, redeem } = scene({
      transport: {
        sendMail: async (mail) => {
          if (down) throw new Error('down')
          return mailbox.transport.sendMail(mail)
        },
      },
    })
    const token = await send()
    down = true
    expect(await code(send({ previous: token }))).toBe('unavailable')
    expect(await redeem(token, mailbox.to(ann).code)).toMatchObject({ address: ann })
  })

  test('a transport that throws at once, or hangs', async () => {
    const throwing = scene({
      transport: {
        sendMail: () => {
          throw new Error('misconfigured')
        },
      },
    })
    expect(await code(throwing.send())).toBe('unavailable')
    const hanging = scene({ timeout: 100, transport: { sendMail: () => new Promise(() => {}) } })
    expect((await refusal(hanging.send())).message).toMatch(/the mail transport did not answer in time/)
  })

  test.each(['addressHour', 'addressDay', 'clientCodes'] as const)(
    'a limiter without its backend (%s) mails nothing: fail closed',
    async (name) => {
      const cause = new Error('Redis is away')
      const { send, mailbox, recorded } = scene({
        limits: { [name]: { consume: () => Promise.reject(cause) } },
      })
      expect(await refusal(send())).toMatchObject({ code: 'unavailable', cause })
      expect(mailbox.mails).toEqual([])
      expect(recorded.told).toEqual([])
    },
  )

  test('a limiter that hangs, or fails when a code comes back', async () => {
    const hanging = scene({ timeout: 100, limits: { addressDay: { consume: () => new Promise(() => {}) } } })
    expect((await refusal(hanging.send())).message).toMatch(/rate limiter did not answer in time/)
    let away = true
    const limiter = { consume: () => (away ? Promise.reject(new Error('away')) : Promise.resolve()) }
    const { send, redeem, mailbox, recorded } = scene({ limits: { clientGuesses: limiter } })
    const token = await send()
    expect(await code(redeem(token, mailbox.to(ann).code))).toBe('unavailable')
    expect(recorded.evaluated()).toEqual([])
    away = false
    expect(await redeem(token, mailbox.to(ann).code)).toMatchObject({ address: ann })
  })

  test('options that cannot work are named', () => {
    const good = { transport: { sendMail: async () => {} }, from: 'a@b.example', appName: 'App' }
    expect(emailStrategy(good).protocol).toBe('email')
    const bad: [Record<string, unknown>, RegExp][] = [
      [{ transport: {} }, /transport: it has no method sendMail/],
      [{ transport: undefined }, /transport/],
      [{ from: 'nobody' }, /from: one address/],
      [{ from: 'App <a@b.example>, Eve <e@evil.example>' }, /from: one address/],
      [{ from: 'a@b.example\r\nBcc: e@evil.example' }, /from: one line/],
      [{ appName: '' }, /appName/],
      [{ appName: 'App\r\nBcc: e@evil.example' }, /appName: one line/],
      [{ appName: 'x'.repeat(61) }, /appName/],
      [{ limits: { addressHour: {} } }, /limits.addressHour: it has no method consume/],
      [{ limits: { perDay: {} } }, /limits: Unrecognized key: "perDay"/],
      [{ timeout: 0 }, /timeout/],
      [{ senderName: 'App' }, /^emailStrategy: Unrecognized key: "senderName"$/],
    ]
    for (const [part, said] of bad) {
      try {
        emailStrategy({ ...good, ...part } as never)
        expect.unreachable(JSON.stringify(part))
      } catch (error) {
        expect(error).toMatchObject({ code: 'config_invalid' })
        expect((error as Error).message).toMatch(said)
      }
    }
  })
})

describe('Limits', () => {
  afterEach(() => void vi.useRealTimers())

  test('five codes an hour to one address, ten a day; the refusal says when to come back', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] })
    const { send, mailbox } = scene()
    for (let sent = 0; sent < 5; sent++) await send({ ip: `192.0.2.${sent}` })
    expect(await refusal(send())).toMatchObject({
      code: 'too_many_requests',
      status: 429,
      headers: { 'retry-after': '3600' },
    })
    expect(mailbox.mails).toHaveLength(5)
    expect(await send({ address: 'bob@acme.example' })).toMatch(/^.{43}$/)
    vi.advanceTimersByTime(3_600_000)
    for (let sent = 0; sent < 5; sent++) await send()
    vi.advanceTimersByTime(3_600_000)
    expect((await refusal(send())).retryAfter).toBe(22 * 3_600)
    vi.advanceTimersByTime(22 * 3_600_000)
    await send()
  })

  test('sixty codes an hour to one client; it is refused before it uses up anybody’s address', async () => {
    const { send } = scene()
    for (let sent = 0; sent < 60; sent++) await send({ address: `user${sent}@acme.example` })
    for (let more = 0; more < 20; more++) expect(await code(send())).toBe('too_many_requests')
    await send({ ip: '198.51.100.7' })
  })

  test('three hundred guesses an hour by one client, at whatever codes', async () => {
    const { strategy, recorded } = scene()
    const services = { now: Date.now, random: randomBytes, once: recorded.once }
    const guess = (from: string) =>
      code(
        strategy.redeem(
          { token: randomBytes(32).toString('base64url'), address: ann, code: '123456', ip: from },
          'sign-in',
          services,
        ),
      )
    const answers = new Map<string, number>()
    for (let sent = 0; sent < 320; sent++) {
      const answer = await guess(ip)
      answers.set(answer, (answers.get(answer) ?? 0) + 1)
    }
    expect(Object.fromEntries(answers)).toEqual({ code_wrong: 300, too_many_requests: 20 })
    expect(recorded.evaluated()).toHaveLength(300)
    expect(await guess('198.51.100.7')).toBe('code_wrong')
  })

  test('E01: in any 24 hours less than 1 in 10,000, from any number of sessions and clients', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] })
    // The attacker that does best: one code opens the windows, the rest waits for the end of the first.
    const minute = 60_000
    const day = 24 * 60 * minute
    for (const [patient, most] of [
      [true, 95],
      [false, 50],
    ] as const) {
      const { strategy, mailbox } = scene()
      const once = recordingOnce(memoryOnce(Date.now))
      const services = { now: Date.now, random: randomBytes, once: once.once }
      const start = Date.now()
      const guesses: number[] = []
      for (let at = 0; at < 3 * day; at += 5 * minute) {
        vi.setSystemTime(start + at)
        if (patient && at > 0 && at < day - 130 * minute) continue
        for (let sent = 0; sent < (patient && at === 0 ? 1 : 12); sent++) {
          const from = `2001:db8:0:${(at / minute + sent).toString(16)}::1`
          const request = { purpose: 'sign-in', keep: '', site: '', previous: undefined, linkTo } as const
          const token = await strategy
            .send({ ...request, address: ann, ip: from }, services)
            .catch((error) => void expect(error.code).toBe('too_many_requests'))
          if (!token) break
          const before = once.evaluated().length
          for (const wrong of wrongCodes(mailbox.to(ann).code, 8)) {
            await refusal(
              strategy.redeem({ token, address: ann, code: wrong, ip: from }, 'sign-in', services),
            )
          }
          expect(once.evaluated().length - before).toBe(5)
          for (let one = 0; one < 5; one++) guesses.push(at)
        }
      }
      const inADay = guesses.map((from) => guesses.filter((at) => at >= from && at < from + day).length)
      expect(Math.max(...inADay)).toBe(most)
      expect(most / 1_000_000).toBeLessThan(1e-4)
    }
  })

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:DB8::1', '2001:db8:0:0::/64'],
    ['2001:db8:0:0:ffff::2', '2001:db8:0:0::/64'],
    ['2001:0db8:0000:0001:1:2:3:4', '2001:db8:0:1::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::ffff:c000:207', '192.0.2.7'],
    ['192.0.2.7:50123', '192.0.2.7'],
    ['[2001:db8::1]:50123', '2001:db8:0:0::/64'],
    ['[2001:db8::1]', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['', ''],
  ])('the client %s counts as %s', (address, key) => {
    expect(clientKey(address)).toBe(key)
  })
})

needs('Redis', await redis(), ({ url }) => {
  test('E01: a hundred guesses at once, counted in Redis, evaluate five at most', async () => {
    const client = new Redis(url)
    const prefix = `jit-test:${randomUUID()}:`
    try {
      const { once, evaluated } = recordingOnce(redisOnce({ client, prefix }))
      const { send, redeem, mailbox } = scene({}, { once })
      const token = await send()
      const right = mailbox.to(ann).code
      const answers = await Promise.all(wrongCodes(right, 100).map((guess) => code(redeem(token, guess))))
      // Where the machine is too slow for Redis's time limit a guess fails closed, and may use up a slot.
      expect(answers.every((answer) => ['code_wrong', 'unavailable'].includes(answer))).toBe(true)
      expect(evaluated().length).toBeGreaterThan(0)
      expect(evaluated().length).toBeLessThanOrEqual(5)
      const keys = (await client.keys(`${prefix}*`)).join()
      expect(keys).toMatch(/once:try:/)
      expect(keys).not.toContain(token)
    } finally {
      await client.del(await client.keys(`${prefix}*`))
      client.disconnect()
    }
  })

  test('limiters of the app’s own, shared by two processes’ strategies', async () => {
    const client = new Redis(url)
    const keyPrefix = `jit-test:${randomUUID()}`
    try {
      const limiter = () => new RateLimiterRedis({ storeClient: client, keyPrefix, points: 3, duration: 60 })
      const one = scene({ limits: { addressHour: limiter() } })
      const two = scene({ limits: { addressHour: limiter() } })
      await Promise.all([one.send(), two.send(), one.send()])
      const refused = await refusal(two.send())
      expect(refused.code).toBe('too_many_requests')
      expect(refused.retryAfter).toBeGreaterThan(0)
      expect(refused.retryAfter).toBeLessThanOrEqual(60)
      const keys = await client.keys(`${keyPrefix}*`)
      expect(keys).toHaveLength(1)
      expect(keys[0]).not.toContain('ann')
    } finally {
      await client.del(await client.keys(`${keyPrefix}*`))
      client.disconnect()
    }
    const away = new Redis(url, { enableOfflineQueue: false, lazyConnect: true })
    const { send, mailbox } = scene({
      limits: { addressHour: new RateLimiterRedis({ storeClient: away, points: 3, duration: 60 }) },
    })
    expect(await code(send())).toBe('unavailable')
    expect(mailbox.mails).toEqual([])
    away.disconnect()
  })
})
