import { JitError } from '../lib/index.js'

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

/** Objects, lists and members together in one answer. Ten thousand groups are one list. */
export const mostParts = 20_000

/**
 * Whether a JSON text is made of so many parts that reading, copying and freezing them would hold everybody: a megabyte
 * of brackets takes a quarter of a second.
 */
export function isCrowded(json: string): boolean {
  let parts = 0
  for (const _ of json.matchAll(/[[{]|"\s*:/g)) if (++parts > mostParts) return true
  return false
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
  return words.length > 0 ? printable(words.join(': ')) : 'unknown'
}

/** A refusal that names the address and what is wrong with its answer. */
export function unusable(where: string, url: string, what: string): JitError {
  const { origin, pathname } = new URL(url)
  return new JitError('idp_unreachable', `${where}: the answer of ${printable(origin + pathname)} ${what}`)
}

/** Text from outside for a log line: plain printable characters, 200 of them at most. */
export const printable = (text: string) => text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')

/** An error code or description of an issuer's or provider's for a log line that may be shown as HTML. */
export const plain = (text: string) => printable(text).replace(/[<>"&\\]/g, '?')
