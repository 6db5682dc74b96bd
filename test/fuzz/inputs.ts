import fc from 'fast-check'
import { JitError } from 'passport-jit'

/** How often each property is tried; a longer run by hand takes `FUZZ_RUNS`. */
export const runs = Number(process.env.FUZZ_RUNS ?? 1_000)
/** How long one property may take on a machine that does much else, in milliseconds. */
export const patience = 60_000 + runs * 50

/** Texts that parsers trip over, beside any text at all. */
export const awkward = fc.constantFrom(
  '',
  ' ',
  '\u0000',
  '__proto__',
  'constructor',
  'toString',
  '\ud800',
  '\u200b',
  '\u202e',
  'ａ@ｂ.ｅｘａｍｐｌｅ',
  'a@b@c.example',
  'a@b.example.',
  'K@acme.example',
  '//evil.example',
  '/\\evil.example',
  '/%09/evil.example',
  '/..//evil.example',
  '/a/../..//evil.example',
  'javascript:alert(1)',
  '[[[[[[[[',
  '{"__proto__":{"polluted":true}}',
  '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
  '-1e400',
  'x'.repeat(5_000),
)
export const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }), awkward)

/** Any value that JSON, a body parser or a claims object could hold. */
export const anything = fc.anything({
  key: fc.oneof(text, fc.constantFrom('__proto__', 'constructor', 'prototype')),
  values: [text, fc.integer(), fc.double(), fc.boolean(), fc.constant(null)],
  maxDepth: 4,
  withNullPrototype: true,
})

const prototypes = () =>
  JSON.stringify(
    [Object, Array, String, Function].map(({ prototype }) => Object.getOwnPropertyNames(prototype).sort()),
  )
const before = prototypes()

/**
 * Runs one input: it may be refused with a `JitError`, and nothing else may be thrown, no prototype may change, and
 * it may not take more than half a second of the processor's time, however busy the machine is.
 */
export function harmless<T>(work: () => T): T | JitError {
  const began = process.cpuUsage()
  let found: T | JitError
  try {
    found = work()
  } catch (error) {
    if (!(error instanceof JitError)) throw error
    found = error
  }
  if (prototypes() !== before) throw new Error('a prototype was changed')
  const { user, system } = process.cpuUsage(began)
  const took = (user + system) / 1_000
  if (took > 500) throw new Error(`it took ${Math.round(took)} ms`)
  return found
}
