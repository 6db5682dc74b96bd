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

const cases = ['attacks', 'faults', 'chaos'].flatMap((folder) =>
  readdirSync(new URL(folder, root))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `${folder}/${name.replace('.test.ts', '')}`),
)
const files = new Map(
  [...cases, 'http/admin', 'http/prove', 'http/session', 'provision/moved'].map((name) => [
    name,
    tested(name),
  ]),
)

test.each(Object.entries(catalogue))(
  'the case %s has tests in the files it names, or an answer',
  (id, row) => {
    if (row.tests.length === 0) expect(row.answer?.length).toBeGreaterThan(40)
    for (const name of row.tests) expect([name, files.get(name)?.has(id)]).toEqual([name, true])
    expect(sections).toHaveProperty(id[0]!)
  },
)

test('what the catalogue answers in place of a test, or beside one, SECURITY.md answers', () => {
  const rows = readFileSync(new URL('../SECURITY.md', root), 'utf8').matchAll(/^\| ([A-Z]\d\d) \|/gm)
  const answered = Object.entries(catalogue).filter(([, { answer }]) => answer !== undefined)
  expect([...rows].map(([, id]) => id)).toEqual(answered.map(([id]) => id).sort())
})

test.each([...files])('%s names cases that the catalogue knows', (_name, ids) => {
  expect([...ids].filter((id) => !(id in catalogue))).toEqual([])
})
