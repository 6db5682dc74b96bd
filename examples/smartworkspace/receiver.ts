import { randomBytes } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Decision } from 'passport-jit'
import { Webhook } from 'standardwebhooks'

/** Somebody else's program that is told of every decision. */
export interface Receiver {
  /** What it verifies with. */
  readonly secret: string
  /** `POST` takes a webhook; `GET` lists the decisions it has, in the order of their coming. */
  readonly handler: RequestListener
}

/** Decisions that it remembers; an older one is forgotten. */
const most = 1000

export function createReceiver(): Receiver {
  const secret = `whsec_${randomBytes(32).toString('base64')}`
  const webhook = new Webhook(secret)
  const taken = new Map<string, Decision>()
  const take = (body: string, headers: Record<string, string>) => {
    const { data } = webhook.verify(body, headers) as { data: Decision }
    // Told twice is told once: the id is the same in every try.
    const id = headers['webhook-id']!
    if (!taken.has(id)) taken.set(id, data)
    if (taken.size > most) taken.delete(taken.keys().next().value!)
  }
  return {
    secret,
    handler: (req, res) => {
      if (req.method !== 'POST') {
        res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify([...taken.values()]))
        return
      }
      text(req)
        .then((body) => take(body, req.headers as Record<string, string>))
        .then(
          () => res.writeHead(204).end(),
          () => res.writeHead(400).end(),
        )
    },
  }
}
