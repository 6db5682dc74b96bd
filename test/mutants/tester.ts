import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { createVitest, type TestCase, type TestModule } from 'vitest/node'
import type { Asked, Result } from './tree.js'

// A process of its own that keeps Vitest with what it has read; it can be ended whatever a mutant does.

const root = process.cwd()
const own = ['lib', 'strategies', 'stores', 'examples', 'test'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
    join(root, folder, name),
  ),
)
let cases: { test: TestCase; file: string }[] = []
let modules: TestModule[] = []

const vitest = await createVitest(
  'test',
  { root, watch: false, bail: 1, maxWorkers: 1, isolate: false },
  {},
  {
    stdout: process.stderr,
  },
)
vitest.config.reporters = []
Object.assign(vitest, {
  reporters: [
    {
      onTestCaseResult: (test: TestCase) => cases.push({ test, file: relative(root, test.module.moduleId) }),
      onTestModuleEnd: (module: TestModule) => modules.push(module),
    },
  ],
})

process.on('message', async ({ files, changed, named, first }: Asked) => {
  cases = []
  modules = []
  for (const file of changed) vitest.invalidateFile(join(root, file))
  if (named === null) vitest.resetGlobalTestNamePattern()
  else vitest.setGlobalTestNamePattern(new RegExp(named))
  for (const project of vitest.projects) project.config.bail = first ? 1 : 0
  const errors: unknown[] = []
  // In the order in which they are named, for the first is the one most likely to fail.
  for (const [project, file] of files) {
    // What is ours is evaluated anew each time; packages, which take longest to load, stay.
    for (const path of own) vitest.watcher.invalidates.add(path)
    const spec = vitest.getProjectByName(project).createSpecification(join(root, file))
    const { unhandledErrors } = await vitest.runTestSpecifications([spec])
    errors.push(...unhandledErrors)
    if (first && cases.some(({ test }) => test.result().state === 'failed')) break
  }
  process.exitCode = 0
  process.send!(resultOf(errors))
})
process.on('disconnect', () => process.exit())
process.send!('ready')

function resultOf(errors: readonly unknown[]): Result {
  const told = cases.map(({ test, file }) => ({
    file,
    name: test.fullName.replaceAll(' > ', ' '),
    result: test.result(),
  }))
  const failed = told.filter(({ result }) => result.state === 'failed')
  const hung = ({ result }: (typeof told)[number]) =>
    /^(?:Test|Hook) timed out/.test(result.errors?.[0]?.message ?? '')
  const loading = modules.flatMap((module) => [
    ...module.errors(),
    ...[...module.children.allSuites()].flatMap((suite) => suite.errors()),
  ])
  return {
    passed: told.filter(({ result }) => result.state === 'passed').map(({ file, name }) => ({ file, name })),
    failed: failed.filter((test) => !hung(test)).map(({ name }) => name),
    timedOut: failed.filter(hung).map(({ name }) => name),
    problems: [...loading, ...errors].map((error) => String((error as Error).message).split('\n')[0]!),
    late: false,
  }
}
