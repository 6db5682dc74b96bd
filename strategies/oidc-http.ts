import { JitError, type Services } from '../lib/index.js'

/** Largest answer of an identity provider, in bytes. */
export const answerLimit = 1024 * 1024

export interface BoundedAnswer {
  readonly status: number
  readonly headers: Headers
  readonly body: string
  /** A refusal that names the address and what is wrong with its answer. */
  readonly unreachable: (what: string) => JitError
}

/**
 * A request to an identity provider with an end: no redirects (its endpoints are where its document or our
 * configuration says), the deadline of `signal`, a limit of size, and failures that name the address.
 * @throws JitError `idp_unreachable`
 */
export async function boundedRequest(
  where: string,
  fetch: Services['fetch'],
  url: string,
  init: RequestInit & { signal: AbortSignal },
): Promise<BoundedAnswer> {
  const { origin, pathname } = new URL(url)
  const unreachable = (what: string, cause?: unknown) =>
    new JitError('idp_unreachable', `${where}: ${init.method ?? 'GET'} ${origin}${pathname}: ${what}`, {
      cause,
    })
  let response: Response
  let body: string | null
  try {
    response = await fetch(url, { ...init, redirect: 'manual' })
    body = await limitedText(response)
  } catch (error) {
    if (init.signal.aborted) throw unreachable('no answer in time', error)
    throw unreachable(causeOf(error), error)
  }
  const { status, headers } = response
  if (body === null) throw unreachable(`the answer is larger than ${answerLimit} bytes`)
  if (status >= 300 && status < 400) throw unreachable(`HTTP ${status}; redirects are not followed`)
  return { status, headers, body, unreachable }
}

async function limitedText(response: Response): Promise<string | null> {
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += (chunk as Uint8Array).byteLength
    if (size > answerLimit) return null
    text += decoder.decode(chunk as Uint8Array, { stream: true })
  }
  return text + decoder.decode()
}

/** A text as a JSON object, or null. */
export function jsonObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && !Array.isArray(value)
      ? (value as Record<string, unknown> | null)
      : null
  } catch {
    return null
  }
}

/** The first error of a kind among an error and its causes. */
export function inCauses<T extends Error>(
  error: unknown,
  kind: abstract new (...args: never[]) => T,
): T | null {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (at instanceof kind) return at
  }
  return null
}

/** The words of an error and of its causes; never their data, which may hold tokens. */
export function reasonOf(error: unknown): string {
  const words: string[] = []
  for (let at: unknown = error; at instanceof Error && words.length < 4; at = at.cause) words.push(at.message)
  return words.length > 0 ? words.join(': ') : 'unknown'
}

/** Why a request failed: the system's code where there is one (ECONNREFUSED, ENOTFOUND), else the words. */
function causeOf(error: unknown): string {
  const code = (error as { cause?: { code?: unknown } } | null)?.cause?.code
  return typeof code === 'string' ? code : reasonOf(error)
}

/** Text from outside for a log line: plain printable characters, 200 of them at most. */
export const printable = (text: string) => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
