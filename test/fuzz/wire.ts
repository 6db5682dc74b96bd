import { connect } from 'node:net'

/** One answer of the server, as its bytes said it. */
export interface Answer {
  readonly status: number
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
  /** Milliseconds. */
  readonly took: number
}

/** A promise of the product is five seconds; the rest is for a machine that does much else. */
const bound = 15_000

/** How an answer is to be read, and whether bytes are missing that were announced. */
export interface Expected {
  readonly head?: boolean
  readonly cut?: boolean
  /** Node may close without a word. */
  readonly closed?: boolean
}

/**
 * Sends bytes as they are, and reads until the server closes.
 * @returns null where it closed without an answer and may do so; and where the request was cut off, because Node
 *   cuts the answer to that off too
 * @throws where there is no answer, or more than one
 */
export async function send(origin: string, bytes: Buffer, expected: Expected = {}): Promise<Answer | null> {
  const { hostname, port } = new URL(origin)
  const began = performance.now()
  const received = await new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect(Number(port), hostname, () => {
      if (expected.cut) socket.end(bytes)
      else socket.write(bytes)
    })
    const late = setTimeout(() => {
      socket.destroy()
      reject(new Error(`no answer within ${bound} ms`))
    }, bound)
    socket.on('data', (chunk) => chunks.push(chunk))
    // A server may close before it has read everything, having said what it had to say.
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(late)
      resolve(Buffer.concat(chunks))
    })
  })
  if (expected.cut || (expected.closed && received.length === 0)) return null
  return { ...read(received.toString('latin1'), expected.head === true), took: performance.now() - began }
}

/** The one answer that bytes hold; more or less than one is an error, which is how a split answer shows. */
function read(received: string, head: boolean): Omit<Answer, 'took'> {
  const text = received.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '')
  const end = text.indexOf('\r\n\r\n')
  const [first = '', ...lines] = text.slice(0, end).split('\r\n')
  const status = /^HTTP\/1\.1 (\d{3}) [\x20-\x7e]*$/.exec(first)?.[1]
  if (end === -1 || status === undefined) throw new Error(`no answer: ${JSON.stringify(text.slice(0, 200))}`)
  const headers = lines.map((line) => {
    const [, name, value] = /^([A-Za-z-]+): ([\x20-\x7e]*)$/.exec(line) ?? []
    if (name === undefined) throw new Error(`no header: ${JSON.stringify(line)}`)
    return [name.toLowerCase(), value!] as const
  })
  return { status: Number(status), headers, body: bodyOf(text.slice(end + 4), new Map(headers), head) }
}

function bodyOf(rest: string, headers: ReadonlyMap<string, string>, head: boolean): string {
  const length = headers.get('content-length')
  if (head || length !== undefined) {
    const expected = head ? 0 : Number(length)
    if (rest.length !== expected) throw new Error(`${rest.length} bytes of body instead of ${expected}`)
    return rest
  }
  if (headers.get('transfer-encoding') !== 'chunked') return rest
  let body = ''
  for (let at = 0; ; ) {
    const [line, size] = /^([0-9a-f]+)\r\n/.exec(rest.slice(at, at + 20)) ?? []
    if (line === undefined) throw new Error('a chunk is broken')
    const from = at + line.length
    const until = from + Number.parseInt(size!, 16)
    body += rest.slice(from, until)
    at = until + 2
    if (until === from) {
      if (at !== rest.length) throw new Error('something follows the answer')
      return body
    }
  }
}
