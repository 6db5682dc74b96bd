import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import tls from 'node:tls'
import { generate } from 'selfsigned'
import { afterAll, afterEach, beforeAll, vi } from 'vitest'
import { type Outbound, type OutboundOptions, outbound, outboundSchema } from '../../lib/outbound.js'

type Handler = (req: IncomingMessage, res: ServerResponse) => void

const { cert, private: key } = await generate([{ name: 'commonName', value: 'a test' }], {
  algorithm: 'sha256',
  extensions: [
    {
      name: 'subjectAltName',
      altNames: [
        { type: 2, value: 'idp.example' },
        { type: 2, value: 'internal.example' },
        { type: 7, ip: '127.0.0.1' },
      ],
    },
  ],
})

/** A server that counts who connects, and answers `{}` until a test says otherwise. */
async function startPeer(host: string, secure: boolean) {
  const peer = {
    origin: '',
    port: 0,
    /** TCP connections so far; a refused address has none. */
    connections: 0,
    seen: [] as { method: string; url: string; headers: IncomingHttpHeaders; body: string }[],
    answer: ((_, res) => res.end('{}')) as Handler,
    /** Resolves when nobody is connected any more. */
    idle: () =>
      Promise.all([...open].map((socket) => new Promise((resolve) => socket.once('close', resolve)))),
    close: () =>
      new Promise<void>((resolve) => {
        for (const socket of open) socket.destroy()
        server.close(() => resolve())
      }),
  }
  const open = new Set<Socket>()
  const listener: Handler = async (req, res) => {
    let body = ''
    for await (const chunk of req) body += chunk
    peer.seen.push({ method: req.method!, url: req.url!, headers: req.headers, body })
    peer.answer(req, res)
  }
  const server = secure ? createSecureServer({ cert, key }, listener) : createServer(listener)
  server.on('connection', (socket: Socket) => {
    peer.connections += 1
    open.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => open.delete(socket))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, host, resolve)
  })
  peer.port = (server.address() as AddressInfo).port
  peer.origin = `http${secure ? 's' : ''}://${host.includes(':') ? `[${host}]` : host}:${peer.port}`
  return peer
}

export type Peer = Awaited<ReturnType<typeof startPeer>>

/**
 * `plain` and `secure` on 127.0.0.1, `inside` by https on another address of this machine; in this file their
 * certificate is one that the process trusts, for `idp.example`, `internal.example` and 127.0.0.1.
 */
export function peers() {
  const at = {} as { plain: Peer; secure: Peer; inside: Peer; insideAddress: string }
  beforeAll(async () => {
    const original = tls.createSecureContext
    vi.spyOn(tls, 'createSecureContext').mockImplementation((options) => original({ ca: cert, ...options }))
    at.plain = await startPeer('127.0.0.1', false)
    at.secure = await startPeer('127.0.0.1', true)
    at.insideAddress = '127.0.0.2'
    at.inside = await startPeer(at.insideAddress, true).catch(() => {
      // Not every system has all of 127.0.0.0/8.
      at.insideAddress = '::1'
      return startPeer(at.insideAddress, true)
    })
  })
  afterEach(() => {
    for (const peer of [at.plain, at.secure, at.inside]) {
      Object.assign(peer, {
        connections: 0,
        seen: [],
        answer: (_: unknown, res: ServerResponse) => res.end('{}'),
      })
    }
  })
  afterAll(async () => {
    vi.restoreAllMocks()
    await Promise.all([at.plain.close(), at.secure.close(), at.inside.close()])
  })
  return at
}

const entry = (allowInsecureRequests: boolean) => ({ id: 'acme', protocol: 'oidc', allowInsecureRequests })

/** The guard with these options: `ask` for an entry as it should be, `askPlainly` for one set up for developing. */
export function guard(options: OutboundOptions = {}, own?: typeof fetch) {
  const made: Outbound = outbound(outboundSchema.parse(options), own)
  return {
    ask: made.fetch(entry(false)),
    askPlainly: made.fetch(entry(true)),
    refused: (url: string) => made.refused(entry(false), url),
    refusedPlainly: (url: string) => made.refused(entry(true), url),
  }
}
