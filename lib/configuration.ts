import { createHash } from 'node:crypto'
import type * as z from 'zod'
import type { AttributeMapping } from './claims.js'
import { JitError } from './errors.js'
import { contradictions, nearest, warnings } from './lint.js'
import { type Connection, directorySchema, type Organization, ownerRole, type Provider } from './policy.js'
import { presetOf } from './presets.js'
import type { Snapshot } from './store.js'
import { blanked } from './vault.js'

/** A configuration that was checked as a whole: frozen entries with their versions and all secrets in place. */
export interface Configuration {
  readonly organizations: readonly Organization[]
  readonly connections: readonly Connection[]
  readonly providers: readonly Provider[]
  readonly warnings: readonly string[]
}

/**
 * Checks a configuration and fills in its defaults.
 * @param problems found before, to be reported with the others
 * @throws JitError `config_invalid` with every problem, each naming the entry and the key
 */
export function configure(
  input: unknown,
  name: string,
  env: NodeJS.ProcessEnv = process.env,
  problems: string[] = [],
): Configuration {
  const parsed = directorySchema.safeParse(input)
  const issues = [...(parsed.error?.issues ?? []), ...dropped(input)]
  problems.push(...issues.flatMap((issue) => explain(issue, input)))
  const config = resolveSecrets(parsed.data ?? soundEntries(input), env, problems)
  problems.push(...contradictions(config, new Set(entries(input, 'organizations').map(({ id }) => id))))
  if (!parsed.success || problems.length > 0) {
    const message = `${name} has ${problems.length} problem(s):\n  ${problems.join('\n  ')}`
    throw new JitError('config_invalid', message, { problems })
  }
  const owned = new Map(config.organizations.map(({ id, domains }) => [id, domains]))
  const assignable = (roles: readonly string[]) => roles.filter((role) => role !== ownerRole)
  const email = { ...config.email, id: 'email', protocol: 'email', link: 'verified-email' } as const
  return {
    organizations: config.organizations.map((entry) =>
      versioned({ ...entry, assignable: entry.assignable ?? assignable(entry.roles) }),
    ),
    connections: config.connections.map(({ preset: name, ...entry }) => {
      const preset = presetOf(name, entry.protocol)
      // Without a preset, a mapping of one's own stands alone.
      const below =
        name === undefined && entry.attributes ? { email: preset.attributes.email } : preset.attributes
      return versioned({
        ...entry,
        vouchesFor: entry.vouchesFor ?? owned.get(entry.organization)!,
        attributes: { ...below, ...(entry.attributes as Partial<AttributeMapping> | undefined) },
        groups: {
          ...entry.groups,
          absent: entry.groups.absent ?? preset.groupsAbsent,
          truncatedAt: entry.groups.truncatedAt ?? preset.groupsTruncatedAt,
        },
      })
    }),
    providers: [email, ...config.social.map((entry) => ({ ...entry, protocol: 'social' }) as const)]
      .filter(({ enabled }) => enabled)
      .map(versioned),
    warnings: warnings(config),
  }
}

/** Keys that parsing drops without a word; what it refuses as a whole is not looked into. */
function dropped(input: unknown, path: PropertyKey[] = []): z.core.$ZodIssue[] {
  const deepest = 8
  if (typeof input !== 'object' || input === null || path.length > deepest) return []
  return Object.entries(input).flatMap(([key, value]): z.core.$ZodIssue[] =>
    key === '__proto__'
      ? [{ code: 'custom', message: `"${key}" cannot be the name of anything`, path, input: value }]
      : dropped(value, [...path, Array.isArray(input) ? Number(key) : key]),
  )
}

/** The entries that are right by themselves, so that what they contradict is told together with the rest. */
function soundEntries(input: unknown): z.output<typeof directorySchema> {
  const { organizations, connections, social, email } = directorySchema.shape
  const sound = <T>(list: string, schema: z.ZodType<T>): T[] =>
    entries(input, list).flatMap((entry) => schema.safeParse(entry).data ?? [])
  return {
    organizations: sound('organizations', organizations.element),
    connections: sound('connections', connections.unwrap().element),
    social: sound('social', social.unwrap().element),
    email: email.parse(undefined),
  }
}

/**
 * Whoever its identity provider spoke for would come along, so a connection stays with its organization.
 * @param known what the store has of each, by id
 * @throws JitError `config_invalid` naming each that moved, and the ways out
 */
export function refuseMoved(
  connections: readonly Pick<Connection, 'id' | 'organization'>[],
  known: ReadonlyMap<string, Snapshot>,
  again: 'start' | 'import',
): void {
  const problems = connections.flatMap(({ id, organization }) => {
    const before = known.get(id)?.connection?.organization ?? organization
    return before === organization
      ? []
      : `connection "${id}" of organization "${organization}" belongs to organization "${before}" in the store; give it another id, or leave it out, delete it with jit.admin.deleteConnection, and ${again} again`
  })
  if (problems.length > 0) throw new JitError('config_invalid', problems.join('; '), { problems })
}

/**
 * An entry, frozen, with a hash of its content as its version. Its secrets are left out: versions are kept in the
 * clear, and by a hash over it a weak secret could be guessed. One that changed comes with a restart.
 */
export const versioned = <T extends object>(entry: T): T & { readonly version: string } =>
  deepFreeze({ ...entry, version: versionOf(blanked(entry)) })

/** A hash of content without a secret in the clear. */
export const versionOf = (content: object): string =>
  createHash('sha256').update(JSON.stringify(content)).digest('base64url').slice(0, 22)

/** Where secrets by reference are looked up that somebody else than the operator may have written. */
export const noEnvironment: NodeJS.ProcessEnv = {}

/** Secrets by reference become their values; an unset variable is a problem that names it. */
function resolveSecrets<T>(value: T, env: NodeJS.ProcessEnv, problems: string[], where = ''): T {
  if (Array.isArray(value)) {
    return value.map((entry, index) => {
      const named = (entry as { id?: unknown } | null)?.id
      return resolveSecrets(
        entry,
        env,
        problems,
        typeof named === 'string'
          ? `${where === ': social' ? 'social provider' : 'connection'} "${named}"`
          : `${where}.${index}`,
      )
    }) as T
  }
  if (typeof value !== 'object' || value === null) return value
  const keys = Object.keys(value)
  if (keys.length === 1 && keys[0] === 'env' && /: (?:clientSecret|privateKey)$/.test(where)) {
    const name = (value as unknown as { env: string }).env
    const found = env[name]
    const why = env === noEnvironment ? ', because imports read none without storeDirectory({ env })' : ''
    if (!found) problems.push(`${where}: the environment variable ${name} is not set${why}`)
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
  if (
    (list === 'organizations' || list === 'connections' || list === 'social') &&
    typeof index === 'number'
  ) {
    const entry = entries(input, list)[index]
    const named = typeof entry?.id === 'string' ? entry.id : index
    where = [`${list === 'social' ? 'social provider' : list.slice(0, -1)} "${named}"`, rest.join('.')]
      .filter(Boolean)
      .join(': ')
    keys = keysAt(list, entry, rest)
  }
  const prefix = where ? `${where}: ` : ''
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${prefix}there is no key "${key}"${nearest(key, keys)}`)
  }
  const choice = issue as { discriminator?: string; options?: string[] }
  if (choice.discriminator && choice.options) {
    const given =
      typeof index === 'number' ? entries(input, String(list))[index]?.[choice.discriminator] : undefined
    const near = typeof given === 'string' ? nearest(given, choice.options) : ''
    return [`${prefix}use ${choice.options.join(' or ')}${near}`]
  }
  return [`${prefix}${issue.message}`]
}

function keysAt(
  list: 'organizations' | 'connections' | 'social',
  entry: Record<string, unknown> | undefined,
  path: PropertyKey[],
) {
  const element = directorySchema.shape[list] as z.ZodType
  let schema: z.ZodType | undefined = element
  for (const step of [0, ...path]) {
    schema = unwrap(schema, entry)
    if (schema === undefined) return []
    const def = schema.def as { element?: z.ZodType; shape?: Record<string, z.ZodType> }
    const known = def.shape && Object.hasOwn(def.shape, String(step)) ? def.shape[String(step)] : undefined
    schema = typeof step === 'number' ? def.element : known
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

export function entries(input: unknown, list: string): Record<string, unknown>[] {
  const found = (input as Record<string, unknown> | null)?.[list]
  return Array.isArray(found) ? found.filter((entry) => typeof entry === 'object' && entry !== null) : []
}

export function deepFreeze<T extends object>(value: T): T {
  for (const entry of Object.values(value)) if (typeof entry === 'object' && entry !== null) deepFreeze(entry)
  return Object.freeze(value)
}
