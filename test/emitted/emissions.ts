import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { Line } from '../rig/emitted.js'
import type { Emission } from './rules.js'

export interface Emitted {
  readonly by: string
  readonly emissions: readonly Emission[]
  readonly secrets: ReadonlySet<string>
}

/** What the tests of one file emitted, and the processes they started: file by file, so that memory holds one. */
export function* emittedBy(wanted: (by: string) => boolean): Iterable<Emitted> {
  const folder = process.env.JIT_EMITTED
  if (folder === undefined)
    throw new Error('nobody kept what was emitted: see globalSetup of vitest.config.ts')
  const files = new Map<string, string[]>()
  for (const name of readdirSync(folder)) {
    const by = firstLine(join(folder, name))?.by
    if (by !== undefined && wanted(by)) files.set(by, [...(files.get(by) ?? []), join(folder, name)])
  }
  for (const [by, names] of files) {
    const emissions: Emission[] = []
    const secrets = new Set<string>()
    for (const line of names.flatMap(linesOf)) {
      if ('secret' in line) secrets.add(line.secret)
      else if ('channel' in line) emissions.push({ by, ...line })
    }
    yield { by, emissions, secrets }
  }
}

/** Null where the process was killed before it wrote any. */
function firstLine(file: string): { readonly by: string } | null {
  const bytes = Buffer.alloc(1000)
  const opened = openSync(file, 'r')
  const length = readSync(opened, bytes)
  closeSync(opened)
  const [line, rest] = bytes.toString('utf8', 0, length).split('\n', 2)
  return rest === undefined ? null : JSON.parse(line!)
}

/** All but what a process was writing when it was killed. */
const linesOf = (file: string) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line)
