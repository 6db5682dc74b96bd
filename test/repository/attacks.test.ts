import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { catalogue, idsOf, sections } from '../attacks/catalogue.js'

const root = new URL('..', import.meta.url)

/** Ids that the names of tests in a file begin with; names stand in calls and in the rows of their tables. */
function tested(name: string): Set<string> {
  const text = readFileSync(new URL(`${name}.test.ts`, root), 'utf8')
  return new Set(
    [...text.matchAll(/(?<=[([]\s*)(['"`])([A-Z]\d\d\b.*?)\1/g)].flatMap((found) => idsOf(found[2]!)),
  )
}

const attacks = readdirSync(new URL('attacks', root))
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => `attacks/${name.replace('.test.ts', '')}`)
const files = new Map(
  [...attacks, 'http/admin', 'http/prove', 'http/session'].map((name) => [name, tested(name)]),
)

test.each(Object.entries(catalogue))(
  'the attack %s has tests in the files it names, or an answer',
  (id, row) => {
    if (row.tests.length === 0) expect(row.answer?.length).toBeGreaterThan(40)
    for (const name of row.tests) expect([name, files.get(name)?.has(id)]).toEqual([name, true])
    expect(sections).toHaveProperty(id[0]!)
  },
)

test.each([...files])('%s names attacks that the catalogue knows', (_name, ids) => {
  expect([...ids].filter((id) => !(id in catalogue))).toEqual([])
})
