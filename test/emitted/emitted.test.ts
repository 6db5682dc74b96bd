import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type Channel, channels } from '../rig/emitted.js'
import { emittedBy } from './emissions.js'
import { type Finding, findings } from './rules.js'

/** What a whole run emits at the very least; less means that somebody no longer listens. */
const floors: Readonly<Record<Channel | 'secret', number>> = {
  log: 200,
  error: 300,
  event: 2_000,
  delivery: 300,
  refusal: 200,
  output: 30,
  secret: 3_000,
}

const counts = Object.fromEntries(Object.keys(floors).map((name) => [name, 0])) as Record<string, number>
const found: Finding[] = []
const heard = new Set<string>()
for (const { by, emissions, secrets } of emittedBy((by) => !by.startsWith('test/emitted/'))) {
  heard.add(by.split(' on ')[0]!)
  counts.secret! += secrets.size
  for (const { channel } of emissions) counts[channel]! += 1
  found.push(...findings(emissions, secrets))
}

const missing = readdirSync(fileURLToPath(new URL('..', import.meta.url)), {
  recursive: true,
  encoding: 'utf8',
})
  .map((name) => `test/${name.replaceAll('\\', '/')}`)
  .filter((name) => name.endsWith('.test.ts') && !name.startsWith('test/emitted/') && !heard.has(name))

test.for(channels)('E10: %s: no secret, no assertion, and nobody named', (channel, { skip }) => {
  skip(counts[channel] === 0, 'the tests of this run emitted none')
  const told = new Map<string, string[]>()
  for (const { rule, by, excerpt } of found.filter((one) => one.channel === channel)) {
    told.set(`${rule}, by ${by}`, [...(told.get(`${rule}, by ${by}`) ?? []), excerpt])
  }
  const some = [...told].map(([what, [first, ...more]]) => `${what}: ${first} (and ${more.length} more)`)
  expect(some).toEqual([])
})

test('a whole run emitted enough on every channel, and made enough secrets, to say so', ({ skip }) => {
  skip(missing.length > 0, `${missing.length} files of tests did not run`)
  const silent = Object.entries(floors).filter(([name, least]) => counts[name]! < least)
  expect(silent, JSON.stringify(counts)).toEqual([])
})
