import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name))
}

/** What a file imports: files of the repository by their path, packages by their name. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  const specifiers = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^'\s]+)'/g)].map((match) => match[1]!)
  return specifiers.map((name) =>
    name.startsWith('.') ? relative(root, resolve(root, dirname(file), name)).replace(/\.js$/, '.ts') : name,
  )
}

const all = ['lib', 'strategies', 'stores', 'examples', 'test'].flatMap(sources)
const isPackage = (name: string) => !/^(lib|strategies|stores|examples|test)\//.test(name)

describe('Import directions', () => {
  test.each(all.filter((file) => file.startsWith('lib/')))('%s imports nothing outside lib', (file) => {
    expect(importsOf(file).filter((name) => !isPackage(name) && !name.startsWith('lib/'))).toEqual([])
  })

  test.each(all.filter((file) => /^(strategies|stores)\//.test(file)))(
    '%s reaches the engine through lib/index alone, and no sibling room',
    (file) => {
      const room = `${file.split('/')[0]}/`
      const strays = importsOf(file).filter(
        (name) => !isPackage(name) && name !== 'lib/index.ts' && !name.startsWith(room),
      )
      expect(strays).toEqual([])
    },
  )

  test.each(all.filter((file) => file.startsWith('examples/') || file.startsWith('test/contract/')))(
    '%s imports the package by its name',
    (file) => {
      const room = file.startsWith('examples/') ? 'examples/' : 'test/contract/'
      expect(importsOf(file).filter((name) => !isPackage(name) && !name.startsWith(room))).toEqual([])
    },
  )

  test.each(
    ['saml-answer', 'saml-wrapping', 'oidc-provider', 'oidc-http'].map((name) => `test/rig/${name}.ts`),
  )('%s, which builds what is forged, needs no test runner', (file) => {
    const seen = new Set([file])
    for (const name of seen) for (const next of importsOf(name)) if (!isPackage(next)) seen.add(next)
    const packages = [...seen].flatMap(importsOf).filter(isPackage)
    expect(packages.filter((name) => /vitest|supertest|express/.test(name))).toEqual([])
  })

  const pure = [
    'identity',
    'claims',
    'presets',
    'policy',
    'lint',
    'plan',
    'changes',
    'conflict',
    'terms',
    'roles',
    'attributes',
    'tombstones',
    'administer',
    'administer-accounts',
    'administer-command',
    'administer-connections',
    'administer-invitations',
    'administer-members',
    'audit',
    'discovery',
    'errors',
    'store',
    'trail',
    'chain',
  ].map((name) => `lib/${name}.ts`)
  const libraries = ['zod', 'tldts', 'free-email-domains-list']
  test.each(pure)('%s is pure: no effects, no clock, no randomness', (file) => {
    expect(
      importsOf(file).filter((name) => (isPackage(name) ? !libraries.includes(name) : !pure.includes(name))),
    ).toEqual([])
    const text = readFileSync(join(root, file), 'utf8')
    expect(text).not.toMatch(
      /Date\.now|new Date\(\)|Math\.random|crypto|process\.|setTimeout|fetch\(|console\./,
    )
  })

  test('only sign-ins, administration, start-up, import, the hold of a sync and the trials of doctor commit', () => {
    const writers = all.filter(
      (file) => file.startsWith('lib/') && readFileSync(join(root, file), 'utf8').includes('.commit('),
    )
    expect(writers.sort()).toEqual(
      ['admin-commit', 'doctor', 'import', 'provision', 'revocations', 'start'].map(
        (name) => `lib/${name}.ts`,
      ),
    )
  })

  test('no file of the engine imports in a circle, types aside', () => {
    const graph = new Map(
      all
        .filter((file) => file.startsWith('lib/'))
        .map((file) => {
          const text = readFileSync(join(root, file), 'utf8')
          const values = [...text.matchAll(/^import (?!type)[^;]*?from '(\.[^']+)'/gm)]
            .filter((match) => !/^import \{(?:\s*type [^,}]+,?)+\s*\}/.test(match[0]))
            .map((match) => `lib/${match[1]!.slice(2).replace(/\.js$/, '.ts')}`)
          return [file, values] as const
        }),
    )
    const circles: string[] = []
    const visit = (file: string, path: string[]) => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(' → '))
      else for (const next of graph.get(file) ?? []) visit(next, [...path, file])
    }
    for (const file of graph.keys()) visit(file, [])
    expect(circles).toEqual([])
  })
})

describe('The package', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string>
    dependencies: Record<string, string>
    peerDependenciesMeta: Record<string, { optional: boolean }>
  }
  const ownEntry = /^passport-jit\/stores\//

  test.each(Object.entries(manifest.exports).filter(([name]) => name !== './package.json'))(
    'the entry %s has a source',
    (_, target) => {
      expect(statSync(join(root, target.replace('./dist/', '').replace(/\.js$/, '.ts'))).isFile()).toBe(true)
    },
  )

  test('every strategy and every store has its entry', () => {
    const rooms = ['strategies', 'stores'].flatMap((room) =>
      readdirSync(join(root, room))
        .filter((name) => /^[a-z]+\.ts$/.test(name))
        .map((name) => `./${room}/${name.replace('.ts', '')}`),
    )
    expect(Object.keys(manifest.exports)).toEqual(expect.arrayContaining(rooms))
  })

  test('the engine depends on schemas, lists of domains and addresses, limits and a command parser, and on nothing else', () => {
    const libraries = [
      'commander',
      'free-email-domains-list',
      'ipaddr.js',
      'rate-limiter-flexible',
      'tldts',
      'validator',
      'zod',
    ]
    expect(Object.keys(manifest.dependencies)).toEqual(libraries)
    const packages = new Set(
      all
        .filter((file) => file.startsWith('lib/'))
        .flatMap(importsOf)
        .filter((name) => isPackage(name) && !name.startsWith('node:')),
    )
    // What an entry of its own or a command needs is an optional peer.
    const peers = ['pg', 'standardwebhooks']
    for (const name of peers) expect(manifest.peerDependenciesMeta[name]).toEqual({ optional: true })
    expect([...packages].filter((name) => !peers.includes(name) && !ownEntry.test(name)).sort()).toEqual([
      'commander',
      'free-email-domains-list',
      'ipaddr.js',
      'rate-limiter-flexible',
      'tldts',
      'zod',
    ])
  })

  test('the engine knows stores by their entries alone, and only where a command names one', () => {
    const askers = all.filter(
      (file) => file.startsWith('lib/') && importsOf(file).some((name) => ownEntry.test(name)),
    )
    expect(askers).toEqual(['lib/command-store.ts'])
    const asked = readFileSync(join(root, 'lib/command-store.ts'), 'utf8')
    expect(asked).not.toMatch(/\bfrom 'passport-jit|^import[^(]*'pg'/m)
  })
})
