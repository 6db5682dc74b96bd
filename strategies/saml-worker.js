import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

// Stands in for the built worker where there is no build: in tests, which run the sources. It bundles them, once
// for each content, so that no stale copy is ever run. The package ships what tsc makes of saml-worker.ts.

const at = (path) => fileURLToPath(new URL(path, import.meta.url))
const hash = createHash('sha256')
for (const name of readdirSync(at('.')).filter((name) => /^saml.*\.ts$/.test(name))) {
  hash.update(readFileSync(at(name)))
}
const file = at(`../node_modules/.cache/passport-jit/saml-worker-${hash.digest('hex')}.mjs`)
if (!existsSync(file)) {
  const { rolldown } = await import('rolldown')
  const bundle = await rolldown({
    input: at('saml-worker.ts'),
    external: /^(?!\.\/|\/)/,
    resolve: { extensionAlias: { '.js': ['.ts'] } },
  })
  const draft = `${file}.${process.pid}.${performance.now()}`
  await bundle.write({ file: draft })
  renameSync(draft, file)
}
await import(file)
