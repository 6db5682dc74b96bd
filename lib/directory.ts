import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type * as z from 'zod'
import { JitError } from './errors.js'
import {
  type Connection,
  contradictions,
  type DirectoryInput,
  directorySchema,
  nearest,
  type Organization,
  warnings,
} from './policy.js'
import type { Directory } from './store.js'

/**
 * Reads a directory of organizations and connections from a JSON file. Paths in it (`idpMetadata`, `sp`
 * keys that are not PEM) are relative to the file; `{ "env": "NAME" }` reads a secret from the environment.
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
    throw new JitError('config_invalid', `${file}: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    })
  }
  const problems: string[] = []
  const base = dirname(resolve(file))
  for (const connection of entries(input, 'connections')) {
    const metadata = connection.idpMetadata
    if (typeof metadata === 'string' && !metadata.trimStart().startsWith('<')) {
      const path = resolve(base, metadata)
      try {
        connection.idpMetadata = await readFile(path, 'utf8')
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code
        problems.push(
          code === 'ENOENT'
            ? `connection "${connection.id}": idpMetadata: there is no file ${path} (paths are relative to ${file})`
            : `connection "${connection.id}": idpMetadata: cannot read ${path}: ${code}`,
        )
      }
    }
  }
  return build(input, env, problems, file)
}

/**
 * A directory from an object of the same format; `idpMetadata` is the XML itself.
 * @throws JitError `config_invalid` as {@link directoryFromFile} does.
 */
export function staticDirectory(input: DirectoryInput, env: NodeJS.ProcessEnv = process.env): Directory {
  return build(structuredClone(input), env, [], 'directory')
}

function build(input: unknown, env: NodeJS.ProcessEnv, problems: string[], name: string): Directory {
  const parsed = directorySchema.safeParse(input)
  if (!parsed.success) problems.push(...parsed.error.issues.flatMap((issue) => explain(issue, input)))
  const config = parsed.success ? resolveSecrets(parsed.data, env, problems) : null
  if (config) problems.push(...contradictions(config))
  if (!config || problems.length > 0) {
    throw new JitError(
      'config_invalid',
      `${name} has ${problems.length} problem(s):\n  ${problems.join('\n  ')}`,
      {
        problems,
      },
    )
  }
  const versioned = <T extends object>(entry: T): T & { readonly version: string } =>
    deepFreeze({
      ...entry,
      version: createHash('sha256').update(JSON.stringify(entry)).digest('base64url').slice(0, 22),
    })
  const organizations = new Map<string, Organization>(
    config.organizations.map((entry) => [entry.id, versioned(entry)]),
  )
  const connections = new Map<string, Connection>(
    config.connections.map((entry) => {
      const vouchesFor = entry.vouchesFor ?? organizations.get(entry.organization)!.domains
      return [entry.id, versioned({ ...entry, vouchesFor }) as Connection]
    }),
  )
  const owners = new Map<string, string>()
  for (const { id, domains } of organizations.values()) for (const domain of domains) owners.set(domain, id)
  return {
    organization: async (id) => organizations.get(id) ?? null,
    connection: async (id) => connections.get(id) ?? null,
    domainOwner: async (domain) => owners.get(domain) ?? null,
    warnings: warnings(config),
    entries: { organizations: [...organizations.values()], connections: [...connections.values()] },
  }
}

/** Secrets by reference become their values; an unset variable is a problem that names it. */
function resolveSecrets<T>(value: T, env: NodeJS.ProcessEnv, problems: string[], where = ''): T {
  if (Array.isArray(value)) {
    return value.map((entry, index) => {
      const named = (entry as { id?: string } | null)?.id
      return resolveSecrets(entry, env, problems, named ? `"${named}"` : `${where}.${index}`)
    }) as T
  }
  if (typeof value !== 'object' || value === null) return value
  const keys = Object.keys(value)
  if (keys.length === 1 && keys[0] === 'env') {
    const name = (value as unknown as { env: string }).env
    const found = env[name]
    if (!found) problems.push(`${where}: the environment variable ${name} is not set`)
    return (found ?? '') as T
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [
      key,
      resolveSecrets(entry, env, problems, `${where}: ${key}`),
    ]),
  ) as T
}

/** A schema issue as a sentence that names the entry by its id, and the key that was probably meant. */
function explain(issue: z.core.$ZodIssue, input: unknown): string[] {
  const [list, index, ...rest] = issue.path
  let where = issue.path.join('.')
  let keys = Object.keys(directorySchema.shape)
  if ((list === 'organizations' || list === 'connections') && typeof index === 'number') {
    const entry = entries(input, list)[index]
    where = [`${list.slice(0, -1)} "${entry?.id ?? index}"`, rest.join('.')].filter(Boolean).join(': ')
    keys = keysAt(list, entry, rest)
  }
  const prefix = where ? `${where}: ` : ''
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${prefix}there is no key "${key}"${nearest(key, keys)}`)
  }
  return [`${prefix}${issue.message}`]
}

function keysAt(
  list: 'organizations' | 'connections',
  entry: Record<string, unknown> | undefined,
  path: PropertyKey[],
) {
  const element = directorySchema.shape[list] as z.ZodType
  let schema: z.ZodType | undefined = element
  for (const step of [0, ...path]) {
    schema = unwrap(schema, entry)
    if (schema === undefined) return []
    const def = schema.def as { element?: z.ZodType; shape?: Record<string, z.ZodType> }
    schema = typeof step === 'number' ? def.element : def.shape?.[String(step)]
  }
  const shape = (unwrap(schema, entry)?.def as { shape?: object } | undefined)?.shape
  return Object.keys(shape ?? {})
}

/** The schema inside defaults and optionals; of the connection union, the member of the entry's protocol. */
function unwrap(
  schema: z.ZodType | undefined,
  entry: Record<string, unknown> | undefined,
): z.ZodType | undefined {
  const def = schema?.def as
    | { innerType?: z.ZodType; options?: z.ZodType[]; discriminator?: string }
    | undefined
  if (def?.innerType) return unwrap(def.innerType, entry)
  if (def?.options && def.discriminator) {
    const { discriminator } = def
    return def.options.find((option) => {
      const literal = (option.def as { shape?: Record<string, z.ZodType> }).shape?.[discriminator]
      return literal?.safeParse(entry?.[discriminator]).success
    })
  }
  return schema
}

function entries(input: unknown, list: string): Record<string, unknown>[] {
  const found = (input as Record<string, unknown> | null)?.[list]
  return Array.isArray(found) ? found.filter((entry) => typeof entry === 'object' && entry !== null) : []
}

function deepFreeze<T extends object>(value: T): T {
  for (const entry of Object.values(value)) if (typeof entry === 'object' && entry !== null) deepFreeze(entry)
  return Object.freeze(value)
}
