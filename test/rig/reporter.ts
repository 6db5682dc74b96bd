import type { Reporter, TestCase, TestModule, TestSuite } from 'vitest/node'
import { idsOf, sections } from '../attacks/catalogue.js'

type Count = Record<'passed' | 'failed' | 'skipped', number>

const empty = (): Count => ({ passed: 0, failed: 0, skipped: 0 })

/** The section of a case by the id that its name or that of its nearest group begins with. */
function sectionOf(test: TestCase): string | undefined {
  for (let at: TestCase | TestSuite | TestModule = test; at.type !== 'module'; at = at.parent) {
    const [id] = idsOf(at.name)
    if (id) return sections[id[0]!]
  }
}

/**
 * The cases by section and project, and one plain closing line, for people and programs that read the log.
 * @param attacked projects whose tests are cases, those without an id too
 * @param others projects of which only the tests with an id are
 */
export function reporter(attacked: readonly string[], others: readonly string[]): Reporter {
  return {
    onTestRunEnd(modules, errors) {
      const run = new Set(modules.map(({ project }) => project.name))
      const projects = [...attacked, ...others].filter((name) => run.has(name))
      const all = { ...empty(), failed: errors.length }
      const attacks = new Map<string, Map<string, Count>>()
      for (const module of modules) {
        const project = module.project.name
        for (const test of module.children.allTests()) {
          const { state } = test.result()
          const outcome = state === 'pending' ? 'skipped' : state
          all[outcome] += 1
          const section = sectionOf(test) ?? (attacked.includes(project) ? 'other' : null)
          if (!section || !projects.includes(project)) continue
          const row = attacks.get(section) ?? new Map(projects.map((name) => [name, empty()]))
          row.get(project)![outcome] += 1
          attacks.set(section, row)
        }
        if (module.state() === 'failed' && module.errors().length > 0) all.failed += 1
      }
      if (attacks.size > 0) console.log(table(projects, attacks))
      console.log(`${all.passed} passed, ${all.failed} failed, ${all.skipped} skipped`)
    },
  }
}

function table(
  projects: readonly string[],
  attacks: ReadonlyMap<string, ReadonlyMap<string, Count>>,
): string {
  const named = [...Object.values(sections), 'other'].filter((section) => attacks.has(section))
  const rows = named.map((section) => [
    section,
    ...projects.map((project) => {
      const { passed, failed, skipped } = attacks.get(section)!.get(project)!
      return `${passed} / ${failed} / ${skipped}`
    }),
  ])
  const lines = [['cases: passed / failed / skipped', ...projects], ...rows]
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]! + 2)))
        .join(''),
    )
    .join('\n')
}
