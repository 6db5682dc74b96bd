import type { IncomingMessage } from 'node:http'
import { StringDecoder } from 'node:string_decoder'
import { within } from './deadline.js'
import { JitError } from './errors.js'
import type { Incoming } from './strategy.js'

/** Largest body of a callback in bytes; signed answers with hundreds of groups stay well below. */
export const bodyLimit = 1024 * 1024

/**
 * Largest body of a form that people fill in: an address, a code and a return address, of 2,048 characters in whatever
 * script. JSON costs far more to read than an answer.
 */
const typedLimit = 32 * 1024

/** Most parameters of a query or a form; no protocol here has twenty, and what goes through them must end. */
const mostFields = 100

export const queryOf = ({ url = '' }: IncomingMessage) => new URLSearchParams(/\?(.*)$/.exec(url)?.[1] ?? '')

/**
 * Reads a callback request. Before body parsers it reads the form itself; behind one it takes `req.body`.
 * @param until when a body that still arrives is given up, on the clock of `performance.now()`
 * @throws JitError `answer_too_large`, `answer_malformed`, `body_consumed`, `method_not_allowed`
 */
export async function readIncoming(
  req: IncomingMessage & { body?: unknown },
  until: number,
  accepts: 'form' | 'form or JSON' = 'form',
): Promise<Incoming> {
  const incoming = await read(req, until, accepts)
  for (const { size } of [incoming.query, incoming.body ?? incoming.query]) {
    if (size > mostFields) throw tooMany()
  }
  return incoming
}

const tooMany = () => new JitError('answer_malformed', `there are more than ${mostFields} parameters`)

async function read(
  req: IncomingMessage & { body?: unknown },
  until: number,
  accepts: 'form' | 'form or JSON',
): Promise<Incoming> {
  const query = queryOf(req)
  if (req.method === 'GET') return { method: 'GET', query, body: null }
  // A HEAD among others: a link scanner's must not use up the sign-in of a person.
  if (req.method !== 'POST') {
    throw new JitError('method_not_allowed', `an answer comes by GET or POST, not by ${req.method}`)
  }
  if (wasParsed(req)) return { method: 'POST', query, body: fromParsed(req.body) }
  if (req.readableEnded || req.readableDidRead) {
    throw new JitError(
      'body_consumed',
      'another middleware read the body and left none; mount jit.routes() before body parsers',
    )
  }
  const limit = accepts === 'form' ? bodyLimit : typedLimit
  const type = (req.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase()
  if (type === 'application/json' && accepts === 'form or JSON') {
    return { method: 'POST', query, body: fromParsed(json(await text(req, until, limit))) }
  }
  if (type !== 'application/x-www-form-urlencoded') {
    req.resume()
    throw new JitError(
      'answer_malformed',
      `expected a form (application/x-www-form-urlencoded), got ${named(type)}`,
    )
  }
  return { method: 'POST', query, body: fromForm(await text(req, until, limit, spaced)) }
}

/**
 * A form whose signs of plus are spaces already, as the URL Standard reads it (section 5.1), in a third of the time that
 * its own reader takes over an answer of half a megabyte: all other sign-ins wait meanwhile.
 */
function fromForm(text: string): URLSearchParams {
  const fields = text.split('&', mostFields + 1)
  if (fields.length > mostFields) throw tooMany()
  const form = new URLSearchParams()
  try {
    for (const field of fields) {
      const [name = '', value = ''] = field.split(/=(.*)/s, 2)
      if (field !== '') form.append(decodeURIComponent(name), decodeURIComponent(value))
    }
    return form
  } catch {
    // A sign of percent that begins no character, which that reader has rules for. It takes a "?" at the start away.
    return new URLSearchParams(`&${text}`)
  }
}

/** A plus stands for a space: in bytes as they arrive, since a megabyte of them in a text takes 40 ms to replace. */
function spaced(chunk: Buffer): Buffer {
  if (!chunk.includes('+')) return chunk
  const bytes = Buffer.from(chunk)
  for (let at = 0; at < bytes.length; at++) if (bytes[at] === 0x2b) bytes[at] = 0x20
  return bytes
}

/** A parser of Express 4 leaves an empty object for a body of a type it does not read, and the body unread. */
function wasParsed({ body, readableDidRead }: IncomingMessage & { body?: unknown }): boolean {
  if (body === undefined || body === null) return false
  return readableDidRead || typeof body !== 'object' || Object.keys(body).length > 0
}

async function text(
  req: IncomingMessage,
  until: number,
  limit: number,
  read = (chunk: Buffer) => chunk,
): Promise<string> {
  const tooLarge = () => {
    req.resume()
    return new JitError('answer_too_large', `the body is larger than ${limit} bytes`)
  }
  if (Number(req.headers['content-length'] ?? 0) > limit) throw tooLarge()
  // As it arrives: in one piece at its end it would hold all others longer.
  const decoder = new StringDecoder('utf8')
  let body = ''
  let size = 0
  const arrived = async () => {
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      size += (chunk as Buffer).length
      if (size > limit) break
      body += decoder.write(read(chunk as Buffer))
    }
  }
  try {
    await within(until - performance.now(), arrived(), 'the rest of it did not arrive in time')
  } catch (cause) {
    throw new JitError('answer_malformed', 'the body ended early', { cause })
  }
  if (size > limit) throw tooLarge()
  return body + decoder.end()
}

/** A media type by its name (RFC 6838 section 4.2); what is none may be anything, and is not repeated. */
function named(type: string): string {
  if (type === '') return 'no content type'
  return /^[a-z0-9][\w!#$&^.+-]{0,126}\/[a-z0-9][\w!#$&^.+-]{0,126}$/.test(type)
    ? `"${type}"`
    : 'something else'
}

function json(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    // The parser's own words quote the body.
    throw new JitError('answer_malformed', 'the body is not JSON')
  }
}

/** What a body parser made of the form: fields of text or lists of text; anything nested is refused. */
function fromParsed(body: unknown): URLSearchParams {
  if (typeof body !== 'object' || body === null)
    throw new JitError(
      'answer_malformed',
      'the parsed body is not a form; mount jit.routes() before body parsers',
    )
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(body)) {
    for (const entry of Array.isArray(value) ? value : [value]) {
      // Its name is a stranger's too, and is not repeated in the log.
      if (typeof entry !== 'string') throw new JitError('answer_malformed', 'a field of the form is not text')
      form.append(name, entry)
    }
  }
  return form
}
