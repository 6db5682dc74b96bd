import { randomUUID } from 'node:crypto'
import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import type { JitError, JitOptions, Listener, Store } from 'passport-jit'

// What the kit emits in the tests, and the secrets that the tests made, are kept in a folder of the run, one file for
// each process; `test/emitted` looks for the one in the other when all is done.

/** Where something leaves the kit: what an operator, a receiver or a stranger gets to read. */
export const channels = ['log', 'error', 'event', 'delivery', 'refusal', 'output'] as const
export type Channel = (typeof channels)[number]

/** A line of a file. */
export type Line =
  /** The first: the test file that the process runs, or that started it. */
  | { readonly by: string }
  /** `personal` are addresses, subjects and attribute values that the text must not tell. */
  | { readonly channel: Channel; readonly text: string; readonly personal?: readonly string[] }
  | { readonly secret: string }

const folder = process.env.JIT_EMITTED
let file: number | undefined

/** Written at once, because a process of the tests may be killed at any moment. */
function write(line: Line): void {
  if (folder === undefined) return
  if (file === undefined) {
    file = openSync(join(folder, `${process.pid}-${randomUUID()}.jsonl`), 'a')
    if (!('by' in line)) write({ by: process.env.JIT_EMITTED_BY ?? 'unknown' })
  }
  writeSync(file, `${JSON.stringify(line)}\n`)
}

/** Says that this process belongs to the run, though it may emit nothing. */
export function begin(by: string): void {
  process.env.JIT_EMITTED_BY = by
  write({ by })
}

/** Forgets what it saw long ago, so that a process that is watched for leaks of memory has none from here. */
function recent(limit: number) {
  const seen = new Set<string>()
  return (text: string): boolean => {
    if (seen.has(text)) return true
    if (seen.size >= limit) seen.clear()
    seen.add(text)
    return false
  }
}

const secretBefore = recent(256)
const textBefore = recent(256)

/** Has a value looked for in everything that the kit emits. */
export function secret(value: string): void {
  if (!secretBefore(value)) write({ secret: value })
}

export function emitted(channel: Channel, text: string, personal: readonly string[] = []): void {
  write({ channel, text, ...(personal.length > 0 && { personal }) })
}

/** Says the same once, as far as it is remembered. */
function emittedOnce(channel: Channel, same: string, text: () => string): void {
  if (!textBefore(`${channel} ${same}`)) emitted(channel, text())
}

/** An error as an operator's logger prints it, with all its causes; what functions it went through is left out. */
export const printed = (error: Error) =>
  inspect(error, { depth: 8, maxArrayLength: 1000, maxStringLength: 20_000 }).replace(/^ +at .*\n?/gm, '')

/** Every error that this class makes, from here on. Its fields are set later than it is made. */
export function watchErrors(kind: typeof JitError): void {
  const later = queueMicrotask
  function Watched(this: unknown, ...args: [string, object?]) {
    const error = Reflect.construct(Error, args, new.target) as JitError
    later(() => {
      const { cause } = error as { cause?: unknown }
      const below = cause instanceof Error ? cause.message : inspect(cause)
      emittedOnce('error', `${error.code} ${error.message} ${below}`, () => printed(error))
    })
    return error
  }
  Watched.prototype = Error.prototype
  Object.setPrototypeOf(kind, Object.setPrototypeOf(Watched, Error))
}

/** A store whose commits are seen: their events, and what is personal in the rows that they tell of. */
export function watchedStore<S extends Store>(store: S): S {
  const { commit, load, outbox } = store
  const { settle } = outbox
  const asked: string[] = []
  store.load = (query) => {
    asked.push(...personalOf(query))
    asked.splice(0, asked.length - 32)
    return load.call(store, query)
  }
  store.commit = (changes) => {
    if (changes.events.length > 0) {
      const personal = [...new Set([...asked, ...changes.ops.flatMap((op) => personalOf(op))])]
      emitted('event', JSON.stringify(changes.events), personal)
    }
    return commit.call(store, changes)
  }
  outbox.settle = (result) => {
    if (result.error !== null) emittedOnce('delivery', result.error, () => `delivery log: ${result.error}`)
    return settle.call(outbox, result)
  }
  return store
}

function personalOf(op: object): string[] {
  const { verifiedEmail, contactEmail, email, subject, attributes, set } = op as Record<string, unknown>
  const values = [verifiedEmail, contactEmail, email, subject, ...Object.values(attributes ?? {})]
  const texts = values.filter((value) => typeof value === 'string' && value !== '') as string[]
  return set === undefined ? texts : [...texts, ...personalOf(set as object)]
}

/** Options of an app whose log and listeners are seen, and whose configured secrets are known. */
export function watchedOptions(options: JitOptions): JitOptions {
  if (options === null || typeof options !== 'object') return options
  const { log, listeners, hashKey, directory } = options
  if (typeof hashKey === 'string') secret(hashKey)
  configured(directory?.entries)
  if (Array.isArray(listeners)) for (const listener of listeners) if (listener) overheard(listener)
  return {
    ...options,
    ...(typeof log === 'function' && {
      log: (entry) => {
        emittedOnce('log', `${entry.code} ${entry.message}`, () => JSON.stringify(entry))
        // What it gives back is the kit's to deal with: a promise that rejects, perhaps.
        return log(entry)
      },
    }),
  }
}

const heard = new WeakSet<Listener>()

function overheard(listener: Listener): void {
  const { deliver } = listener
  if (typeof deliver !== 'function' || heard.has(listener)) return
  heard.add(listener)
  Object.assign(listener, {
    deliver: (...[decision, call]: Parameters<Listener['deliver']>) => {
      emitted('delivery', JSON.stringify(decision))
      return deliver.call(listener, decision, call)
    },
  })
}

/** What a directory holds under names that say so. */
function configured(entry: unknown): void {
  for (const [name, value] of Object.entries((entry ?? {}) as object)) {
    if (typeof value !== 'string') configured(value)
    else if (/secret|privateKey|password/i.test(name) && value.length >= 12) secret(value)
  }
}
