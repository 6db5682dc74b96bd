import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Makes the folder of the run, once for all projects; every process of the run inherits its name. */
export default function setup() {
  // A run inside of a test inherits the outer one's, and gets its own.
  const own = join(tmpdir(), `jit-emitted-${process.pid}-`)
  if (process.env.JIT_EMITTED?.startsWith(own)) return
  const folder = mkdtempSync(own)
  process.env.JIT_EMITTED = folder
  return () => {
    delete process.env.JIT_EMITTED
    rmSync(folder, { recursive: true })
  }
}
