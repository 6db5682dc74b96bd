import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Received {
  readonly id: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** How a request is answered; what answers nothing keeps the sender waiting. */
export type Answer = (res: ServerResponse, received: Received) => void

export const answer =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (res) =>
    res.writeHead(status, headers).end()

export interface Receiver {
  readonly url: string
  readonly port: number
  /** Every request that came in whole, in their order. */
  readonly received: Received[]
  /** How it answers from now on; 200 at first. */
  answer: Answer
  close(): Promise<void>
}

/** A receiver of webhooks on a real socket. */
export async function receiver(port = 0): Promise<Receiver> {
  const server = createServer((req, res) => {
    let body = ''
    req.setEncoding('utf8').on('data', (text) => {
      body += text
    })
    req.on('end', () => {
      const entry = { id: String(req.headers['webhook-id']), path: req.url!, headers: req.headers, body }
      made.received.push(entry)
      made.answer(res, entry)
    })
  }).listen(port, '127.0.0.1')
  await once(server, 'listening')
  const bound = (server.address() as AddressInfo).port
  const made: Receiver = {
    url: `http://127.0.0.1:${bound}/hooks/a-secret-path`,
    port: bound,
    received: [],
    answer: answer(200),
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return made
}
