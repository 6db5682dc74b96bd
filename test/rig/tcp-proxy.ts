import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export type Direction = 'to-server' | 'to-client'

/** A TCP proxy that can be told to misbehave, and counts what passes. */
export interface TcpProxy {
  readonly host: string
  readonly port: number
  /** The given URL with the proxy in place of the server. */
  through(url: string): string
  /** Round trips since the start or `resetCounters`: client bytes that were followed by server bytes. */
  readonly roundTrips: number
  /** Runs of client bytes, answered or not. */
  readonly flights: number
  /** Connections accepted. */
  readonly connections: number
  resetCounters(): void
  /** Holds each chunk back for this many milliseconds, per direction. */
  delay(ms: { readonly toServer?: number; readonly toClient?: number }): void
  /** Nothing passes in either direction until `resume`; connections stay open. */
  stall(): void
  resume(): void
  /** Ends every open connection with RST. */
  reset(): void
  /** While refusing, new connections are reset at once. */
  refuse(refusing: boolean): void
  /**
   * The next client bytes that match are forwarded, but the answer is dropped and the connection cut. Resolves
   * when the server has answered, which is when what was asked has happened.
   */
  swallowReply(match?: (bytes: Buffer) => boolean): Promise<void>
  /** Sees every chunk as it arrives; returns how to stop. */
  tap(see: (direction: Direction, bytes: Buffer) => void): () => void
  close(): Promise<void>
}

interface Pair {
  client: Socket
  server: Socket
  /** Who spoke last. */
  last: Direction
  /** Set on a connection whose next answer is to be dropped. */
  swallowed: (() => void) | null
}

export async function tcpProxy(target: { readonly host?: string; readonly port: number }): Promise<TcpProxy> {
  const pairs = new Set<Pair>()
  const taps = new Set<(direction: Direction, bytes: Buffer) => void>()
  const delays: Record<Direction, number> = { 'to-server': 0, 'to-client': 0 }
  const count = { roundTrips: 0, flights: 0, connections: 0 }
  let refusing = false
  let swallowing: { match: (bytes: Buffer) => boolean; done: () => void } | null = null
  let gate = Promise.resolve()
  let open: () => void = () => {}

  const cut = (pair: Pair) => {
    pair.client.resetAndDestroy()
    pair.server.resetAndDestroy()
  }

  const wire = (pair: Pair, direction: Direction, from: Socket, to: Socket) => {
    let tail = Promise.resolve()
    from.on('data', (bytes) => {
      for (const see of taps) see(direction, bytes)
      if (direction === 'to-server') {
        if (pair.last === 'to-client') count.flights++
        if (swallowing?.match(bytes)) {
          pair.swallowed = swallowing.done
          swallowing = null
        }
      } else {
        if (pair.last === 'to-server') count.roundTrips++
        if (pair.swallowed) {
          pair.swallowed()
          cut(pair)
        }
      }
      pair.last = direction
      const due = performance.now() + delays[direction]
      tail = tail.then(async () => {
        const left = due - performance.now()
        if (left > 0) await sleep(left)
        await gate
        if (to.writable) to.write(bytes)
      })
    })
    from.on('end', () => {
      tail.then(() => to.end())
    })
    from.on('error', () => to.resetAndDestroy())
    from.on('close', () => {
      tail.then(() => to.destroy())
      pairs.delete(pair)
    })
  }

  const listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    if (refusing) {
      client.on('error', () => {})
      client.resetAndDestroy()
      return
    }
    count.connections++
    const server = connect({
      host: target.host ?? '127.0.0.1',
      port: target.port,
      allowHalfOpen: true,
      noDelay: true,
    })
    const pair: Pair = { client, server, last: 'to-client', swallowed: null }
    pairs.add(pair)
    wire(pair, 'to-server', client, server)
    wire(pair, 'to-client', server, client)
  })
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject)
    listener.listen(0, '127.0.0.1', resolve)
  })
  const { port } = listener.address() as AddressInfo

  const resume = () => {
    open()
    open = () => {}
  }
  return {
    host: '127.0.0.1',
    port,
    through: (url) => {
      const changed = new URL(url)
      changed.hostname = '127.0.0.1'
      changed.port = String(port)
      return changed.href
    },
    get roundTrips() {
      return count.roundTrips
    },
    get flights() {
      return count.flights
    },
    get connections() {
      return count.connections
    },
    resetCounters: () => {
      count.roundTrips = 0
      count.flights = 0
      count.connections = 0
    },
    delay: ({ toServer = 0, toClient = 0 }) => {
      delays['to-server'] = toServer
      delays['to-client'] = toClient
    },
    stall: () => {
      resume()
      gate = new Promise<void>((resolve) => {
        open = resolve
      })
    },
    resume,
    reset: () => {
      for (const pair of pairs) cut(pair)
    },
    refuse: (on) => {
      refusing = on
    },
    swallowReply: (match = () => true) =>
      new Promise<void>((done) => {
        swallowing = { match, done }
      }),
    tap: (see) => {
      taps.add(see)
      return () => taps.delete(see)
    },
    close: async () => {
      resume()
      const closed = new Promise<void>((resolve) => listener.close(() => resolve()))
      for (const pair of pairs) cut(pair)
      await closed
    },
  }
}
