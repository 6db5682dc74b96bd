import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { type Configuration, configure, entries } from './configuration.js'
import { JitError } from './errors.js'
import { type Connection, candidates, covers, type DirectoryInput, type Organization } from './policy.js'
import type { Directory } from './store.js'

/**
 * Reads a directory of organizations and connections from a JSON file. Paths in it (`idpMetadata`, and keys
 * and certificates of `sp` that are not PEM) are relative to the file; `{ "env": "NAME" }` reads a secret from the environment.
 * @throws JitError `config_invalid` with every problem found, each naming the entry and the key.
 */
export async function directoryFromFile(
  file: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Directory> {
  let input: unknown
  try {
    input = JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const why = missing ? 'there is no such file' : error instanceof Error ? error.message : String(error)
    throw new JitError('config_invalid', `${file}: ${why}`, { cause: error, problems: [`${file}: ${why}`] })
  }
  const problems: string[] = []
  const base = dirname(resolve(file))
  const load = async (holder: Record<string, unknown>, key: string, where: string, inline: RegExp) => {
    const value = holder[key]
    if (typeof value !== 'string' || inline.test(value)) return
    const path = resolve(base, value)
    try {
      holder[key] = await readFile(path, 'utf8')
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      const missing = `there is no file ${path} (paths are relative to ${file})`
      problems.push(`${where}: ${key}: ${code === 'ENOENT' ? missing : `cannot read ${path}: ${code}`}`)
    }
  }
  for (const connection of entries(input, 'connections')) {
    const where = `connection "${typeof connection.id === 'string' ? connection.id : '?'}"`
    await load(connection, 'idpMetadata', where, /^\s*</)
    for (const use of ['signing', 'decryption']) {
      for (const [index, pair] of entries(connection.sp, use).entries()) {
        await load(pair, 'privateKey', `${where}: sp.${use}.${index}`, /-----BEGIN /)
        await load(pair, 'certificate', `${where}: sp.${use}.${index}`, /-----BEGIN /)
      }
    }
  }
  return directoryOf(configure(input, file, env, problems))
}

/**
 * A directory from an object of the same format; `idpMetadata` is the XML itself.
 * @throws JitError `config_invalid` as {@link directoryFromFile} does.
 */
export function staticDirectory(input: DirectoryInput, env: NodeJS.ProcessEnv = process.env): Directory {
  return directoryOf(configure(structuredClone(input), 'directory', env))
}

function directoryOf(configuration: Configuration): Directory {
  const byId = <T extends { readonly id: string }>(list: readonly T[]) =>
    new Map(list.map((entry) => [entry.id, entry]))
  const organizations = byId(configuration.organizations)
  const connections = byId(configuration.connections)
  const providers = byId(configuration.providers)
  const owners = new Map<string, Organization>()
  for (const organization of configuration.organizations) {
    for (const pattern of organization.domains) owners.set(pattern, organization)
  }
  const routes = new Map<string, Connection[]>()
  for (const connection of configuration.connections.filter(({ enabled }) => enabled)) {
    routes.set(connection.organization, [...(routes.get(connection.organization) ?? []), connection])
  }
  return {
    organization: async (id) => organizations.get(id) ?? null,
    connection: async (id) => connections.get(id) ?? null,
    provider: async (id) => providers.get(id) ?? null,
    providers: async () => configuration.providers,
    domain: async (name) => {
      const pattern = candidates(name).find((candidate) => owners.has(candidate))
      const owner = pattern === undefined ? null : owners.get(pattern)!
      const own = owner ? (routes.get(owner.id) ?? []) : []
      return { owner, sso: own.filter(({ vouchesFor }) => covers(vouchesFor, name)) }
    },
    warnings: configuration.warnings,
    entries: configuration,
  }
}
