import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Edit, type Guard, sections } from './guards.js'
import { projectOf, type Result, type Tree, tree } from './tree.js'

// Takes each guard out of a copy of the source in turn: a test must fail. See "Mutants" in test/README.md.

const root = fileURLToPath(new URL('../../..', import.meta.url))
if (!existsSync(`${root}/vitest.config.ts`))
  throw new Error('to be run as built: node dist/test/mutants/run.js')

const { values: options, positionals: words } = parseArgs({
  allowPositionals: true,
  options: { list: { type: 'boolean' }, jobs: { type: 'string', default: '1' } },
})

interface Chosen extends Guard {
  readonly section: string
}

const everything = Object.entries(sections).flatMap(([section, guards]) =>
  guards.map((guard): Chosen => ({ ...guard, section })),
)
const texts = ({ section, rule, holds, in: file }: Chosen) => [section, rule, holds, file]
const chosen = everything.filter((guard) =>
  words.every((word) => texts(guard).some((text) => text.toLowerCase().includes(word.toLowerCase()))),
)
const editsOf = (guard: Guard): readonly Edit[] => [guard, ...(guard.also?.edits ?? [])]
const title = ({ section, rule, holds }: Chosen) => `${section.padEnd(14)} ${rule.padEnd(13)} ${holds}`

if (options.list) {
  for (const guard of chosen)
    console.log(
      `${title(guard)}  [${editsOf(guard)
        .map((edit) => edit.in)
        .join(', ')}]`,
    )
  console.log(`${chosen.length} guards`)
} else process.exitCode = (await run()) ? 0 : 1

async function run(): Promise<boolean> {
  const moved = chosen.filter((guard) => !editsOf(guard).every(standsOnce))
  for (const guard of moved) console.log(`the source moved on: ${title(guard)}  [${guard.in}]`)
  if (moved.length > 0 || chosen.length === 0) return false

  const jobs = Math.max(1, Number(options.jobs))
  const trees = Array.from({ length: jobs }, () => tree(root))
  const stop = () => {
    for (const each of trees) each.close()
  }
  process.once('SIGINT', () => {
    stop()
    process.exit(130)
  })
  try {
    return (await untouched(trees[0]!)) && (await mutated(trees))
  } finally {
    stop()
  }
}

function standsOnce({ in: file, find, off }: Edit): boolean {
  return find !== off && readFileSync(`${root}/${file}`, 'utf8').split(find).length === 2
}

/** Without a mutant all of these tests pass, and each pattern names one. */
async function untouched(copy: Tree): Promise<boolean> {
  const files = [...new Set(chosen.flatMap(({ by }) => by))]
  const projects = [...new Set(files.map((file) => projectOf(file)))]
  const passed: { file: string; name: string }[] = []
  let green = true
  for (const project of projects) {
    const own = files.filter((file) => projectOf(file) === project)
    const result = await copy.test(own, { patience: 1_200_000 })
    passed.push(...result.passed)
    if (result.failed.length + result.problems.length === 0 && !result.late) continue
    green = false
    console.log(`without a mutant, in the project "${project}":`)
    for (const line of [...result.failed, ...result.problems, ...(result.late ? ['it took too long'] : [])])
      console.log(`  ${line}`)
  }
  for (const guard of chosen) {
    const pattern = new RegExp(guard.named ?? '')
    const own = passed.filter(({ file }) =>
      guard.by.some((name) => file.endsWith(`/${name.split(':').at(-1)}.test.ts`)),
    )
    if (own.some(({ name }) => pattern.test(name))) continue
    green = false
    console.log(`no test that runs here is meant by: ${title(guard)}`)
  }
  if (green) console.log(`without a mutant ${passed.length} tests pass`)
  return green
}

async function mutated(trees: readonly Tree[]): Promise<boolean> {
  const waiting = [...chosen]
  const found = new Map<Chosen, Verdict>()
  const work = async (copy: Tree) => {
    for (let guard = waiting.shift(); guard; guard = waiting.shift()) {
      const began = performance.now()
      const undo = copy.apply(editsOf(guard))
      const result = await withoutIt(copy, guard).finally(undo)
      const verdict = judge(guard, result)
      found.set(guard, verdict)
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      console.log(`${verdict.word.padEnd(8)} ${title(guard)}  (${verdict.why}; ${seconds} s)`)
    }
  }
  await Promise.all(trees.map(work))
  return report(found)
}

/** First the tests that are named after its rows, then all. */
async function withoutIt(copy: Tree, { by, rule, named }: Guard): Promise<Result> {
  const patience = 120_000
  const attacks = by.filter((file) => /^attacks\/|^http\//.test(file))
  if (named === undefined && attacks.length > 0) {
    const ids = `\\b(?:${rule.split(' ').join('|')})\\b`
    const result = await copy.test(attacks, { named: ids, first: true, patience })
    if (result.failed.length > 0) return result
  }
  return copy.test(by, { named, first: true, patience })
}

interface Verdict {
  readonly word: 'killed' | 'SURVIVED' | 'broken'
  readonly why: string
}

function judge(guard: Guard, { failed, timedOut, problems, late }: Result): Verdict {
  if (failed[0]) return { word: 'killed', why: failed[0] }
  if (timedOut[0] || late) {
    const why = timedOut[0] ? `it hangs in ${timedOut[0]}` : 'it hangs'
    return guard.hangs ? { word: 'killed', why } : { word: 'broken', why }
  }
  return problems[0] ? { word: 'broken', why: problems[0] } : { word: 'SURVIVED', why: guard.by.join(', ') }
}

function report(found: ReadonlyMap<Chosen, Verdict>): boolean {
  const words = ['killed', 'SURVIVED', 'broken'] as const
  console.log(`\n${'mutants'.padEnd(16)}${words.map((word) => word.padStart(10)).join('')}`)
  const all = [...found]
  for (const section of new Set(all.map(([guard]) => guard.section))) {
    const own = all.filter(([guard]) => guard.section === section)
    const counts = words.map((word) => own.filter(([, verdict]) => verdict.word === word).length)
    console.log(`${section.padEnd(16)}${counts.map((count) => String(count).padStart(10)).join('')}`)
  }
  const left = all.filter(([, { word }]) => word !== 'killed')
  for (const [guard, { word }] of left) console.log(`${word}: ${title(guard)}  [${guard.in}]`)
  console.log(`${all.length - left.length} of ${all.length} mutants killed`)
  return left.length === 0
}
