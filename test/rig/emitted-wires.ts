import { ChildProcess } from 'node:child_process'
import { subscribe } from 'node:diagnostics_channel'
import { type IncomingMessage, ServerResponse } from 'node:http'
import { basename } from 'node:path'
import { emitted, secret } from './emitted.js'

// What this process sends and gets. Whatever travels under the name of a secret is one, so no test has to say so; what
// a server refuses is emitted, and so is what a program of ours prints.

const fields =
  'code|state|nonce|RelayState|ticket|link|waiting|code_verifier|client_secret|password|assertion|(?:access|id|refresh|logout)_token|SAMLResponse'
const inForm = new RegExp(`(?:^|[?&;"\\s])(?:${fields})=([^&\\s"'<>#]+)`, 'g')
const inJson = new RegExp(`"(?:${fields})"\\s*:\\s*"([^"\\\\]+)"`, 'g')
const inPage = new RegExp(`name="(?:${fields})" value="([^"]+)"`, 'g')

/** Shorter ones, and those of a few letters, are what a test made up to be refused. */
const isRandom = (text: string) => text.length >= 20 && new Set(text.slice(0, 64)).size >= 10

function known(text: string): void {
  for (const [, value] of [...text.matchAll(inForm), ...text.matchAll(inJson), ...text.matchAll(inPage)]) {
    let plain = value!
    try {
      plain = decodeURIComponent(value!)
    } catch {}
    // Of a token, what identifies is its signature; of an assertion, any piece of it.
    for (const part of plain.startsWith('eyJ') ? plain.split('.').slice(1) : [plain]) {
      if (isRandom(part)) secret(part.slice(0, 64))
    }
  }
}

function knownCookies(header: string, pairs: RegExp): void {
  for (const [, value] of header.matchAll(pairs)) {
    const plain = decodeURIComponent(value!.replace(/%(?![0-9a-f]{2})/gi, '%25')).replace(/^s:/, '')
    for (const part of plain.split('.')) if (isRandom(part)) secret(part)
  }
}
const sent = /(?:^|;)\s*[^=;]+=([^;]*)/g
const set = /^[^=]+=([^;]*)/g

/** Beyond, it is an attack on limits, and a token in it was seen before. */
const longest = 50_000

function bodyOf(request: IncomingMessage): void {
  const type = request.headers['content-type'] ?? ''
  if (request.method !== 'POST' || !/form|json/.test(type)) return
  let body = ''
  const { push } = request
  request.push = (chunk, encoding) => {
    if (chunk !== null && body.length <= longest) body += Buffer.from(chunk).toString('latin1')
    if (chunk === null) {
      if (request.headers['webhook-signature'] !== undefined) emitted('delivery', body)
      else if (body.length <= longest) known(body)
    }
    return push.call(request, chunk, encoding)
  }
}

subscribe('http.server.request.start', (message) => {
  const { request } = message as { request: IncomingMessage }
  known(request.url ?? '')
  knownCookies(request.headers.cookie ?? '', sent)
  bodyOf(request)
})

// The client's side, for servers that are another process.
subscribe('undici:request:headers', (message) => {
  const { response } = message as { response: { headers: Buffer[] } }
  for (let at = 0; at + 1 < response.headers.length; at += 2) {
    const name = response.headers[at]!.toString().toLowerCase()
    if (name === 'set-cookie') knownCookies(response.headers[at + 1]!.toString(), set)
    if (name === 'location') known(response.headers[at + 1]!.toString())
  }
})

const { end } = ServerResponse.prototype
ServerResponse.prototype.end = function (this: ServerResponse, ...args: unknown[]) {
  const result = end.apply(this, args as never)
  const head = (this as unknown as { _header: string | null })._header ?? ''
  const [body] = args
  const text = typeof body === 'string' ? body : Buffer.isBuffer(body) ? body.toString() : ''
  for (const [, value] of head.matchAll(/^set-cookie: (.*)$/gim)) knownCookies(value!, set)
  // A receiver of webhooks is no part of the kit, and free to say what it likes.
  const foreign = this.req.headers['webhook-signature'] !== undefined
  if (this.statusCode >= 400 && !foreign) {
    emitted(
      'refusal',
      `${this.req.method} ${this.statusCode}\n${head.replace(/^set-cookie: .*\r\n/gim, '')}${text}`,
    )
  } else {
    for (const [, value] of head.matchAll(/^location: (.*)$/gim)) known(value!)
    if (text.length <= longest) known(text)
  }
  return result
} as typeof end

/** Lines as they come, without changing when anybody else gets to read them. */
function overhear(stream: NodeJS.ReadableStream | null, program: string): void {
  if (!stream) return
  const { push } = stream as unknown as { push(chunk: unknown, encoding?: string): boolean }
  let line = ''
  Object.assign(stream, {
    push: (chunk: unknown, encoding?: string) => {
      if (chunk !== null && chunk !== undefined) line += Buffer.from(chunk as Uint8Array).toString()
      const until = chunk === null ? line.length : line.lastIndexOf('\n') + 1
      if (until > 0) emitted('output', `${program}: ${line.slice(0, until)}`)
      line = line.slice(until)
      return push.call(stream, chunk, encoding)
    },
  })
}

type Spawning = ChildProcess & { spawn(options: { file: string; args: string[] }): unknown }
const prototype = ChildProcess.prototype as Spawning
const { spawn } = prototype
prototype.spawn = function (this: Spawning, options) {
  const result = spawn.call(this, options)
  if (basename(options.file) === 'node') {
    // What it was asked with is the operator's own, and may be anything.
    const program = basename(options.args.find((arg) => arg.endsWith('.js')) ?? 'a script')
    overhear(this.stderr, `stderr of ${program}`)
    overhear(this.stdout, `stdout of ${program}`)
  }
  return result
}
