import { createHash } from 'node:crypto'
import * as z from 'zod'
import {
  type CodeRequest,
  clientKey,
  codeLifetime,
  count,
  type EmailServices,
  type EmailStrategy,
  JitError,
  putSealed,
  schemaProblems,
  takeSealed,
} from '../lib/index.js'
import { addressKey, type EmailLimits, limitNames, withDefaults } from './email-limits.js'
import { type Mail, mailOf } from './email-mail.js'

export type { Limiter } from '../lib/index.js'
export type { EmailLimits } from './email-limits.js'
export type { Mail } from './email-mail.js'

export interface EmailOptions {
  /** A nodemailer transporter, or anything else that sends such a mail. */
  transport: { sendMail(mail: Mail): Promise<unknown> }
  /** Who the mail is from, such as `no-reply@app.example.com` or `Smartworkspace <no-reply@app.example.com>`. */
  from: string
  /** What the person knows the app by; stands in the subject and the text. */
  appName: string
  /** The app's own rate limiters in place of those in memory. */
  limits?: Partial<EmailLimits>
  /** How long limits and transport together may take, in milliseconds; 4,500 by default. */
  timeout?: number
}

/** Guesses at one code, however many arrive and from wherever. */
const tries = 5

/** A code and its link are one attempt: whichever is handed in first ends both. */
interface Kept {
  readonly purpose: CodeRequest['purpose']
  readonly address: string
  readonly keep: string
  readonly attempt: string
}

const oneLine = /^[^\u0000-\u001f\u007f\u2028\u2029]+$/

const optionsSchema = z.strictObject({
  transport: having('sendMail'),
  from: z
    .string()
    .max(320)
    .regex(oneLine, 'one line')
    .regex(
      /^(?:[^<>@,;]*<[^\s<>@,;]+@[^\s<>@,;]+>|[^\s<>@,;]+@[^\s<>@,;]+)$/,
      'one address, such as "App <no-reply@app.example>"',
    ),
  appName: z.string().trim().min(1).max(60).regex(oneLine, 'one line'),
  limits: z
    .strictObject(Object.fromEntries(limitNames.map((name) => [name, having('consume').optional()])))
    .default({}),
  timeout: z.number().int().min(100).max(30_000).default(4_500),
})

function having(method: string) {
  return z.custom<object>(
    (value) => typeof (value as Record<string, unknown> | null)?.[method] === 'function',
    `it has no method ${method}()`,
  )
}

/**
 * The e-mail method. A mail holds a code of six digits for the browser that asked, and a link for any other; the
 * two are one attempt, good once and for ten minutes. A code takes five guesses in all. What is kept in `Once`
 * is found and encrypted by hashes of purpose, token, address and code together, so that a wrong guess finds
 * nothing and whoever reads the backend learns nothing.
 * @throws JitError `config_invalid` naming each option that cannot work
 */
export function emailStrategy(options: EmailOptions): EmailStrategy {
  const parsed = optionsSchema.safeParse(options)
  if (!parsed.success) {
    const problems = schemaProblems(parsed.error.issues)
    throw new JitError('config_invalid', `emailStrategy: ${problems.join('; ')}`, { problems })
  }
  const { from, appName, timeout } = parsed.data
  const { transport } = options
  const limits = withDefaults(options.limits ?? {})

  return {
    protocol: 'email',

    send: async (request, services) => {
      const { address, purpose, keep, linkTo, previous } = request
      const { once } = services
      const until = AbortSignal.timeout(timeout)
      // The client first: one that is over its limit must not use up the limit of somebody's address.
      await within(until, 'a rate limiter', count(limits, 'clientCodes', clientKey(request.ip)))
      await within(until, 'a rate limiter', count(limits, 'addressHour', addressKey(address)))
      await within(until, 'a rate limiter', count(limits, 'addressDay', addressKey(address)))

      const token = randomToken(services)
      const code = randomCode(services)
      const kept: Kept = { purpose, address, keep, attempt: attemptOf(token) }
      await putSealed(once, 'code', codeKey(purpose, token, address, code), kept, codeLifetime)
      let link: string | null = null
      if (linkTo !== null) {
        const secret = randomToken(services)
        await putSealed(once, 'link', secret, kept, codeLifetime)
        link = `${linkTo}?link=${secret}`
      }
      const minutes = codeLifetime / 60_000
      const mail = mailOf({ from, appName, request, code, link, minutes })
      await within(
        until,
        'the mail transport',
        // Started inside, so that what it throws at once is a rejection like any other.
        Promise.resolve().then(() => transport.sendMail(mail)),
      )
      // Only now, so that a mail that could not be sent leaves the person what they had.
      if (previous !== undefined && isToken(previous))
        await once.claim(usedKey(attemptOf(previous)), codeLifetime)
      return token
    },

    redeem: async (answer, purpose, services) => {
      const { once } = services
      const until = AbortSignal.timeout(timeout)
      await within(until, 'a rate limiter', count(limits, 'clientGuesses', clientKey(answer.ip)))
      const kept =
        'link' in answer
          ? await takeSealed<Kept>(once, 'link', answer.link)
          : await guess(answer, purpose, services)
      if (kept === null || kept.purpose !== purpose) {
        throw wrong(
          'link' in answer ? 'the link is unknown, used or expired' : 'the code is wrong, used or expired',
        )
      }
      if (!(await once.claim(usedKey(kept.attempt), codeLifetime))) {
        throw wrong('its code or link was used already, or a newer one was asked for')
      }
      return { address: kept.address, keep: kept.keep }
    },
  }
}

/** Looks a code up if a try is left. Slots are claimed one by one, so no number of parallel guesses gets a sixth. */
async function guess(
  { token, address, code }: { token: string; address: string; code: string },
  purpose: CodeRequest['purpose'],
  { once }: EmailServices,
): Promise<Kept | null> {
  if (!isToken(token) || !/^[0-9]{6}$/.test(code)) return null
  const attempt = attemptOf(token)
  for (let slot = 1; slot <= tries; slot++) {
    if (await once.claim(`try:${attempt}:${slot}`, codeLifetime)) {
      return takeSealed<Kept>(once, 'code', codeKey(purpose, token, address, code))
    }
  }
  throw wrong(`all ${tries} tries at this code are used`)
}

const wrong = (message: string) => new JitError('code_wrong', `e-mail method: ${message}`)

const isToken = (text: string) => /^[A-Za-z0-9_-]{43}$/.test(text)

const hash = (...parts: readonly string[]) =>
  createHash('sha256').update(JSON.stringify(parts)).digest('base64url')

/** Names an attempt in the backend without naming its token. */
const attemptOf = (token: string) => hash('attempt', token)

const usedKey = (attempt: string) => `used:${attempt}`

/** What a code is found by: with any of these different, there is nothing. */
const codeKey = (purpose: string, token: string, address: string, code: string) =>
  hash('code', purpose, token, address, code)

const randomToken = ({ random }: EmailServices) => Buffer.from(random(32)).toString('base64url')

/** Six digits, each of the million equally likely: numbers beyond the last whole million are drawn again. */
function randomCode({ random }: EmailServices): string {
  for (;;) {
    const number = Buffer.from(random(4)).readUInt32BE()
    if (number < 4_294_000_000) return String(number % 1_000_000).padStart(6, '0')
  }
}

/** Work in its time. What fails says which part it was, and never what was in the mail. */
async function within<T>(until: AbortSignal, part: string, work: Promise<T>): Promise<T> {
  work.catch(() => {})
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => {
        if (until.aborted) reject(until.reason)
        else until.addEventListener('abort', () => reject(until.reason), { once: true })
      }),
    ])
  } catch (cause) {
    if (cause instanceof JitError) throw cause
    // A transport may put the whole mail into its error, so that is not kept as a cause; its code, such as ECONNECTION, says enough.
    const { code, responseCode } = (cause ?? {}) as { code?: unknown; responseCode?: unknown }
    const detail = [code, responseCode].filter((one) => /^[A-Z_]{1,40}$|^[1-5]\d\d$/.test(String(one)))
    const why = until.aborted ? 'did not answer in time' : ['failed', ...detail].join(' ')
    throw new JitError('unavailable', `e-mail method: ${part} ${why}`)
  }
}
