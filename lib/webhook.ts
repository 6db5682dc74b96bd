import { Webhook } from 'standardwebhooks'
import * as z from 'zod'
import type { EventType } from './audit.js'
import { JitError, schemaProblems } from './errors.js'
import { outbound, outboundSchema } from './outbound.js'
import { DeliveryError, deliveryDefaults, type Listener, listenerSchema } from './outbox.js'

export type WebhookOptions = {
  /** Id of the listener. */
  readonly id: string
  /** Where to post to; https, plain http for this machine alone. */
  readonly url: string
  /** Only decisions with a fact of one of these types; all by default. */
  readonly types?: readonly EventType[]
  /** How long one try may take, in milliseconds; 15000 by default, a minute at most. */
  readonly timeout?: number
  /** Addresses and networks beside the public ones, such as `10.0.0.0/8`; none by default. */
  readonly allow?: readonly string[]
  /** For development: this machine may be posted to, by plain http too. Off by default. */
  readonly allowInsecureRequests?: boolean
  /** Sends the requests in our place, through a proxy perhaps; which addresses may be asked is its business then. */
  readonly fetch?: typeof globalThis.fetch
} & (
  | {
      /** What the receiver verifies with: 24 to 64 random bytes in base64, with or without `whsec_` before them. */
      readonly secret: string
    }
  | {
      /** Several at once while one takes the place of another: each signs, and the receiver needs one of them. */
      readonly secrets: readonly string[]
    }
)

const schema = z
  .strictObject({
    ...listenerSchema.pick({ id: true, types: true, timeout: true }).shape,
    url: z.url({ protocol: /^https?$/ }),
    secret: z.string().optional(),
    secrets: z.array(z.string()).min(1).optional(),
    allow: outboundSchema.unwrap().shape.allow,
    allowInsecureRequests: z.boolean().default(false),
    fetch: z.custom<typeof globalThis.fetch>((value) => typeof value === 'function', 'a function').optional(),
  })
  .refine(({ secret, secrets }) => (secret === undefined) !== (secrets === undefined), {
    path: ['secret'],
    message: 'either "secret" or "secrets"',
  })

/**
 * A listener that posts each decision, signed as Standard Webhooks has it (`webhook-id` is the id of the change, the same
 * in every try, so that receivers can drop what they have), as `{ type, timestamp, data }`: `decision.` and its
 * reason, when it was made, and the decision. Any 2xx is success, 410 is final, `Retry-After` is respected,
 * redirects are not followed, and the answer's body is not looked at.
 * @throws JitError `config_invalid` naming each wrong option
 */
export function webhook(options: WebhookOptions): Listener {
  const parsed = schema.safeParse(options)
  if (!parsed.success) {
    fail(options, ...schemaProblems(parsed.error.issues))
  }
  const { id, url, types, timeout = deliveryDefaults.timeout, allow, ...rest } = parsed.data!
  const { allowInsecureRequests, secret, secrets } = rest
  const signers = (secrets ?? [secret!]).map((text, index) =>
    signer(text, (problem) => fail(options, `${secrets ? `secrets.${index}` : 'secret'}: ${problem}`)),
  )
  const asker = { id, protocol: 'webhook', allowInsecureRequests }
  const out = outbound({ ...outboundSchema.parse({ allow }), timeout }, rest.fetch)
  const { protocol, hostname, origin, pathname } = new URL(url)
  if (protocol === 'http:' && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)) {
    fail(options, 'url: plain http is for this machine alone')
  }
  const refused = out.refused(asker, url)
  if (refused) fail(options, `url: ${withoutAdvice(refused)}`)

  return {
    id,
    timeout,
    ...(types && { types }),
    deliver: async (decision, { signal }) => {
      const now = new Date()
      const type = `decision.${decision.reason}`
      const timestamp = new Date(decision.at).toISOString()
      const body = JSON.stringify({ type, timestamp, data: decision })
      const headers = {
        'content-type': 'application/json',
        'user-agent': 'passport-jit',
        'webhook-id': decision.change,
        'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
        'webhook-signature': signers.map((each) => each.sign(decision.change, now, body)).join(' '),
      }
      let response: Response
      try {
        response = await out.fetch(asker)(url, { method: 'POST', headers, body, signal })
      } catch (error) {
        // The path is not repeated: with some receivers it is a secret.
        const what = error instanceof JitError ? error.message.split(`${origin}${pathname}: `)[1] : undefined
        throw new DeliveryError(withoutAdvice(what ?? 'the request failed'))
      }
      if (response.ok) return
      const retryAfter = secondsOf(response.headers.get('retry-after'), now.getTime())
      throw new DeliveryError(`HTTP ${response.status}`, { final: response.status === 410, retryAfter })
    },
  }
}

/** @throws what `refuse` throws, for a secret that is too short to be one, or no base64; it is not repeated. */
function signer(secret: string, refuse: (problem: string) => never): Webhook {
  const bytes = Buffer.from(secret.replace(/^whsec_/, ''), 'base64').length
  try {
    if (bytes >= 24 && bytes <= 64) return new Webhook(secret)
  } catch {}
  return refuse('24 to 64 random bytes in base64')
}

/** `Retry-After` as RFC 9110 §10.2.3 has it: seconds, or a date. */
function secondsOf(header: string | null, now: number): number {
  if (header === null) return 0
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - now) / 1000
  return Math.max(seconds || 0, 0)
}

/** The guard tells how an identity provider's address would be allowed, which is another option here. */
const withoutAdvice = (problem: string) => problem.split(';', 1)[0]!

function fail(options: { readonly id?: unknown }, ...problems: string[]): never {
  throw new JitError('config_invalid', `webhook "${options?.id}": ${problems.join('; ')}`, { problems })
}
