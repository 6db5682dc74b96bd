import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Something that keeps the demo from starting, told in sentences. */
export class StartProblem extends Error {
  constructor(readonly problems: readonly string[]) {
    super(problems.join('\n'))
  }
}

export interface Listening {
  readonly port: number
  /** Serves requests from here on; until then they are asked to come back. */
  readonly serve: (listener: RequestListener) => void
  /** Lets running requests end, two seconds at most. */
  readonly close: () => Promise<void>
}

/** Takes a port before anything else is set up, because what is set up needs to know its own address. */
export async function listen(port: number, host?: string): Promise<Listening> {
  let current: RequestListener = (_req, res) =>
    void res
      .writeHead(503, { 'retry-after': '1', 'content-type': 'text/plain' })
      .end('Starting, come back.\n')
  const server = createServer((req, res) => current(req, res))
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(explain(error, port)))
    server.listen({ port, ...(host !== undefined && { host }) }, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    serve: (listener) => {
      current = listener
    },
    close: () => close(server),
  }
}

function explain(error: NodeJS.ErrnoException, port: number): Error {
  if (error.code === 'EADDRINUSE') {
    return new StartProblem([`PORT: port ${port} is taken by another program; set PORT to a free one`])
  }
  if (error.code === 'EACCES') {
    return new StartProblem([`PORT: this user may not open port ${port}; set PORT to one above 1023`])
  }
  return error
}

async function close(server: Server): Promise<void> {
  const impatient = setTimeout(() => server.closeAllConnections(), 2000)
  await new Promise<void>((resolve) => {
    server.close(() => resolve())
    server.closeIdleConnections()
  })
  clearTimeout(impatient)
}
