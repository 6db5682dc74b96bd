import { setTimeout as delay } from 'node:timers/promises'
import type * as z from 'zod'
import { requireAcceptance } from './acceptance.js'
import { configure, deepFreeze } from './configuration.js'
import { directoryCache, type Found } from './directory-cache.js'
import { JitError, schemaProblems } from './errors.js'
import { entryOf, importer } from './import.js'
import type { DomainFacts } from './plan.js'
import {
  type Connection,
  candidates,
  connectionSchema,
  covers,
  type DirectoryInput,
  type Organization,
  organizationSchema,
} from './policy.js'
import type { PolicyInput } from './policy-change.js'
import { unsettled } from './provision.js'
import { type RevocationsOptions, revocationsSchema } from './revocations.js'
import type { CommitResult, Directory, EntryRow, Operation, Store } from './store.js'
import { type SecretKey, secretVault } from './vault.js'

export interface StoreDirectoryOptions {
  readonly store: Store
  /** The first encrypts, all may decrypt, so a new one in front of the old one makes a rotation. */
  readonly keys: readonly SecretKey[]
  /** App-wide ways in, which belong to no tenant. */
  readonly providers?: Pick<DirectoryInput, 'email' | 'social'>
  /**
   * Where `{ "env": "NAME" }` of imported entries is looked up; nowhere by default, because what a tenant's
   * administrator types may reach `import`, and a secret is sent to the issuer they name.
   */
  readonly env?: NodeJS.ProcessEnv
  /**
   * For development: the `allowInsecureRequests` of connections counts, so that they may ask by plain http, and this
   * machine. By default an entry that has it is not imported, and one that is in the store goes without.
   */
  readonly allowInsecureRequests?: boolean
  /**
   * How much an import may take from people without its preview being accepted: the option of `createJit`, whose
   * `window` means nothing here.
   */
  readonly revocations?: RevocationsOptions
  /** Characters of entries held in memory at most; 16 million by default, which is some 6,000 tenants in use. */
  readonly cacheSize?: number
}

export interface ImportResult {
  /** Ids of the organizations and connections that were written. */
  readonly written: readonly string[]
  /** What is allowed, but does not do what it seems to, as in {@link Directory.warnings}. */
  readonly warnings: readonly string[]
}

/** A directory kept in the store's own tables. */
export interface StoreDirectory extends Directory {
  /**
   * Writes organizations with their connections: an object of the file's format, or what `directoryFromFile` read.
   * Checked like a file, and against what the store keeps; then written as one change set, all of it or nothing.
   * What has not changed is not written, so importing twice is importing once. Organizations that the input does
   * not name stay; of one that it names it must name every connection, and `enabled: false` switches one off.
   * App-wide ways in are not kept: they are the option `providers`.
   * @param options.accept the digest of a preview: an import that takes more than `revocations` allows, or anything
   *   from the only owner of an organization, is written where it has this very effect
   * @throws JitError `config_invalid` with every problem, such as a domain that another organization owns;
   *   `preview_required` with what would be taken and the digest; `unavailable` where others write at the same time
   *   for too long, or the store fails again and again
   */
  import(source: PolicyInput, options?: { readonly accept?: string }): Promise<ImportResult>
  /**
   * Encrypts every secret anew that is not encrypted by the first key; to be run when every process has the new
   * key, after which the old one can go. Versions stay.
   * @returns how many connections were written
   * @throws JitError `config_invalid` naming connection and key where a key is missing
   */
  rotate(): Promise<number>
  /**
   * What enables or disables a connection, to be committed with the events that tell of it; null where it is so
   * already. It is written over the entry as it was read alone.
   * @throws JitError `connection_unknown`
   */
  switched(connection: string, enabled: boolean): Promise<Operation | null>
  /** Afterwards this process answers with nothing older than this call. */
  refresh(): Promise<void>
}

/** Characters of entries held in memory, and the age (ms) at which the store is asked what has changed since. */
export const storeDirectoryDefaults = { cacheSize: 16_000_000, askAfter: 800 } as const

/** Entries are kept with what `configure` filled in; one that lost that was altered by somebody else. */
const filled = <T extends object>(schema: z.ZodType<T>, ...names: (keyof T & string)[]): z.ZodType<T> =>
  schema.superRefine((entry, { addIssue }) => {
    for (const name of names)
      if (entry[name] === undefined) addIssue({ code: 'custom', path: [name], message: 'it is missing' })
  })
const keptOrganization = filled(organizationSchema, 'assignable')
const keptConnection = filled(connectionSchema, 'vouchesFor', 'attributes')

/**
 * Organizations and connections in the tables of the store, for as many tenants as it holds: what is used is
 * remembered, and while it is used the store is asked about once a second what has changed. Makes the tables
 * where they are missing.
 * @throws JitError `config_invalid` for keys or providers that cannot be used
 */
export function storeDirectory(options: StoreDirectoryOptions): StoreDirectory {
  const { store, env, cacheSize = storeDirectoryDefaults.cacheSize, allowInsecureRequests = false } = options
  const vault = secretVault(options.keys)
  const { providers } = configure(
    { organizations: [], ...options.providers },
    'providers',
    env ?? process.env,
  )
  const { data: limit, error } = revocationsSchema.safeParse(options.revocations)
  if (error) {
    const problems = error.issues.map(({ path, message }) =>
      [['revocations', ...path].join('.'), message].join(': '),
    )
    throw new JitError('config_invalid', problems.join('; '), { problems })
  }
  const cache = directoryCache(cacheSize)

  let migrating: Promise<void> | null = null
  const migrated = () => {
    migrating ??= store.migrate().catch((error) => {
      migrating = null
      throw error
    })
    return migrating
  }

  let position: number | null = null
  let askedAt = Number.NEGATIVE_INFINITY
  let asking: Promise<void> | null = null

  function ask(): Promise<void> {
    asking ??= learnChanges().finally(() => {
      asking = null
    })
    return asking
  }

  async function learnChanges(): Promise<void> {
    await migrated()
    const began = performance.now()
    const before = position
    const { position: newest, ids, domains } = await store.entries.changes(before ?? Number.MAX_SAFE_INTEGER)
    // A position that went back is another database, or an older copy of it.
    if (before !== null && newest < before) cache.forget(() => true)
    else if (ids === null) cache.forget(() => true)
    else if (ids.length > 0) cache.forget(affected(new Set(ids), domains))
    position = newest
    askedAt = began
  }

  async function remembered<T>(key: string, read: () => Promise<Found<T>>): Promise<T> {
    if (performance.now() - askedAt >= storeDirectoryDefaults.askAfter) await ask()
    return cache.get(key, read)
  }

  function parse<T extends object>(
    schema: z.ZodType<T>,
    kind: string,
    row: EntryRow,
  ): T & { version: string } {
    const parsed = schema.safeParse(vault.open(entryOf(kind, row), row.id))
    if (parsed.success) return deepFreeze({ ...parsed.data, version: row.version })
    const problems = schemaProblems(parsed.error.issues)
    throw new JitError('config_invalid', `${kind} "${row.id}" in the store: ${problems.join('; ')}`, {
      problems,
    })
  }
  const organizationOf = (row: EntryRow) => parse(keptOrganization, 'organization', row) as Organization
  const connectionOf = (row: EntryRow): Connection => {
    const entry = parse(keptConnection, 'connection', row) as Connection
    if (allowInsecureRequests || entry.protocol !== 'oidc') return entry
    return deepFreeze({ ...entry, allowInsecureRequests: false })
  }
  const found = <T>(row: EntryRow | null, value: (row: EntryRow) => T) =>
    row ? { value: value(row), size: row.entry.length } : { value: null, size: 0 }

  async function refresh(): Promise<void> {
    await asking?.catch(() => {})
    await ask()
  }

  /** Writes until it lands, each time from what is in the store then. */
  async function settle<T extends { readonly written: readonly string[]; land(): Promise<CommitResult> }>(
    write: () => Promise<T>,
  ): Promise<Omit<T, 'land'>> {
    // What landed with its answer lost is found there, and is not written again.
    const lost = new Set<string>()
    for (let attempt = 1; ; attempt++) {
      let obstacle: unknown
      try {
        await migrated()
        const writing = await write()
        const result = await writing.land().catch((error: unknown) => {
          for (const id of writing.written) lost.add(id)
          throw error
        })
        if (result.committed) return { ...writing, written: [...new Set([...lost, ...writing.written])] }
        obstacle = result.conflict
      } catch (error) {
        if (error instanceof JitError) throw error
        obstacle = error
      }
      if (attempt === 8) throw unsettled('the writing of the entries', obstacle)
      await delay(Math.random() * 20 * 2 ** attempt)
    }
  }
  const { write, reseal, switched } = importer({
    ...{ store, vault, env, allowInsecureRequests, providers },
    accepted: (known, policies, digest) => {
      // An entry that cannot be read is mended by the import; what people have stands for it.
      const read = <T>(row: EntryRow | undefined, value: (row: EntryRow) => T): T | null => {
        try {
          return row ? value(row) : null
        } catch {
          return null
        }
      }
      const find = (rows: readonly EntryRow[], id: string) => rows.find((row) => row.id === id)
      const ports = {
        ...{ store, limit, now: Date.now },
        present: {
          organization: async (id: string) => read(find(known.organizations, id), organizationOf),
          connection: async (id: string) => read(find(known.connections, id), connectionOf),
        },
        domain: async (name: string): Promise<DomainFacts> => {
          const rows = await store.entries.domain(candidates(name))
          return { owner: read(rows?.owner, organizationOf), sso: [] }
        },
      }
      return requireAcceptance(ports, policies, digest)
    },
  })

  return {
    organization: (id) =>
      remembered(`organization:${id}`, async () =>
        found(await store.entries.organization(id), organizationOf),
      ),
    connection: (id) =>
      remembered(`connection:${id}`, async () => found(await store.entries.connection(id), connectionOf)),
    provider: async (id) => providers.find((entry) => entry.id === id) ?? null,
    providers: async () => providers,
    domain: (name) =>
      remembered<DomainFacts>(`domain:${name}`, async () => {
        const rows = await store.entries.domain(candidates(name))
        if (!rows) return { value: deepFreeze({ owner: null, sso: [] }), size: 0 }
        const sso = rows.connections
          .map(connectionOf)
          .filter(({ enabled, vouchesFor }) => enabled && covers(vouchesFor, name))
        const size = [rows.owner, ...rows.connections].reduce((sum, { entry }) => sum + entry.length, 0)
        const owner = organizationOf(rows.owner)
        return { value: deepFreeze({ owner, sso }), size, guessed: !owner.domains.includes(name) }
      }),
    entries: { organizations: [], connections: [], providers },
    refresh,
    import: async (source, { accept } = {}) => {
      const { written, warnings } = await settle(() => write(source, accept))
      await refresh()
      return { written, warnings }
    },
    rotate: async () => {
      let rotated = 0
      for (let after: string | null = ''; after !== null; ) {
        const page: string = after
        const done: Omit<Awaited<ReturnType<typeof reseal>>, 'land'> = await settle(() => reseal(page))
        rotated += done.written.length
        after = done.last
      }
      await refresh()
      return rotated
    },
    switched: async (connection, enabled) => {
      await migrated()
      return switched(connection, enabled)
    },
  }
}

/** What may be different now that these organizations and connections were written. */
function affected(ids: ReadonlySet<string>, domains: readonly string[]) {
  const names = new Set(domains.map((pattern) => `domain:${pattern}`))
  const parents = domains.filter((pattern) => pattern.startsWith('*.')).map((pattern) => pattern.slice(1))
  return (key: string, value: unknown): boolean => {
    if (!key.startsWith('domain:')) return ids.has(key.slice(key.indexOf(':') + 1))
    const owner = (value as DomainFacts).owner?.id
    if (owner !== undefined && ids.has(owner)) return true
    return names.has(key) || parents.some((parent) => key.endsWith(parent))
  }
}
