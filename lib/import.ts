import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { configure, entries, noEnvironment, refuseMoved, versionOf } from './configuration.js'
import { JitError, legible } from './errors.js'
import { candidates, type DirectoryInput, type Provider } from './policy.js'
import { type Policies, readEntries } from './policy-change.js'
import type { CommitResult, Directory, EntryRow, KnownEntries, Operation, Snapshot, Store } from './store.js'
import type { Vault } from './vault.js'

interface ImportPorts {
  readonly store: Store
  readonly vault: Vault
  readonly env: NodeJS.ProcessEnv | undefined
  /** Whether connections may ask by plain http, and this machine. */
  readonly allowInsecureRequests: boolean
  /** The app-wide ways in, about which the linter knows something to say. */
  readonly providers: readonly Provider[]
  /** Throws where policies that are to come must be looked at first. */
  readonly accepted: (known: KnownEntries, policies: Policies, digest: string | undefined) => Promise<void>
}

type Kept = { readonly id: string; readonly organization: string; readonly enabled: boolean }

/** Writes to the entries of the store, each once: whoever lands it tries again, from the start. */
export function importer(ports: ImportPorts) {
  const { store, vault, env, providers, accepted } = ports

  const commit = (ops: readonly Operation[]): Promise<CommitResult> =>
    ops.length === 0
      ? Promise.resolve({ committed: true })
      : store.commit({ id: randomUUID(), expect: [], guards: [], ops, events: [] })

  /** Whether it holds the same; one that cannot be read any more does not, so an import can mend it. */
  function unchanged(row: EntryRow | undefined, entry: { readonly id: string }): boolean {
    try {
      const plain: unknown = JSON.parse(JSON.stringify(entry))
      return !!row && isDeepStrictEqual(vault.open(entryOf('entry', row), row.id), plain)
    } catch {
      return false
    }
  }

  async function write(source: DirectoryInput | Pick<Directory, 'entries'>, accept: string | undefined) {
    const { known, policies, organizations, connections, warnings } = await checked(source)
    await accepted(known, policies, accept)
    const rows = new Map(known.organizations.map((row) => [row.id, row]))
    const connectionRows = new Map(known.connections.map((row) => [row.id, row]))
    const organizationPuts = organizations
      .filter((entry) => !unchanged(rows.get(entry.id), entry))
      .map((entry) => {
        const { id, name, status, seatLimit, domains } = entry
        const version = versionOf(entry)
        const kept = { entry: JSON.stringify(entry), domains }
        return { op: 'organization.put', id, version, name, status, seatLimit, kept } satisfies Operation
      })
    const connectionPuts = connections
      .filter((entry) => !unchanged(connectionRows.get(entry.id), entry))
      .map((entry) => connectionPut(entry, vault.seal(entry, entry.id)))
    // Sign-ins lock a connection before its organization. So does this, for those that are there already.
    const ops = [
      ...connectionPuts.filter(({ id }) => connectionRows.has(id)).sort(byId),
      ...organizationPuts,
      ...connectionPuts.filter(({ id }) => !connectionRows.has(id)),
    ]
    const written = [...organizationPuts, ...connectionPuts].map(({ id }) => id)
    const land = async () => {
      const result = await commit(ops)
      if (!result.committed && result.conflict.kind === 'key' && result.conflict.key === 'connection') {
        await requireUnmoved(connectionPuts.filter(({ id }) => !connectionRows.has(id)))
      }
      return result
    }
    return { land, written, warnings }
  }

  /**
   * A row without an entry, which a static directory left, is seen by the commit alone.
   * @throws JitError `config_invalid` for those of another organization
   */
  async function requireUnmoved(puts: readonly Pick<Kept, 'id' | 'organization'>[]): Promise<void> {
    const known = new Map<string, Snapshot>()
    for (const { id } of puts) {
      known.set(id, await store.load({ source: `connection:${id}`, email: null, organizations: [] }))
    }
    refuseMoved(puts, known, 'import')
  }

  /**
   * The entries of an input, together with what the store keeps about them.
   * @throws JitError `config_invalid` with every problem
   */
  async function checked(source: DirectoryInput | Pick<Directory, 'entries'>) {
    const read = readEntries(source)
    const input = {
      ...(read
        ? {
            organizations: read.organizations.map(withoutVersion),
            connections: read.connections.map(withoutVersion),
          }
        : source),
      email: { enabled: providers.some(({ protocol }) => protocol === 'email') },
      social: providers.flatMap((provider) => (provider.protocol === 'social' ? [plain(provider)] : [])),
    }
    refuseLong(input)
    const forDevelopment = ports.allowInsecureRequests ? [] : insecure(input)
    const alone = configure(input, 'imported entries', env ?? noEnvironment, forDevelopment)
    const organizations = alone.organizations.map(withoutVersion)
    const connections = alone.connections.map(withoutVersion)
    const patterns = [
      ...organizations.flatMap(({ domains }) => domains),
      ...connections.flatMap(({ vouchesFor }) => vouchesFor),
    ]
    const known = await store.entries.known({
      organizations: organizations.map(({ id }) => id),
      connections: connections.map(({ id }) => id),
      domains: [
        ...new Set(patterns.flatMap((pattern) => [pattern, ...candidates(pattern.replace(/^\*\./, ''))])),
      ],
    })
    const others = neighbours(known, new Set(organizations.map(({ id }) => id)))
    const problems = misplaced(known, connections)
    // Once more in the company of those who own domains that this input is about.
    const { warnings } =
      others.length + problems.length === 0
        ? alone
        : configure(
            { ...input, organizations: [...others, ...organizations], connections },
            'imported entries',
            env ?? noEnvironment,
            problems,
          )
    return { known, policies: alone, organizations, connections, warnings }
  }

  /** Encrypts the secrets of a page of connections anew, where they are not encrypted by the first key. */
  async function reseal(after: string) {
    const rows = await store.entries.connections(after, 500)
    const puts = rows
      .map((row) => ({ row, entry: entryOf('connection', row) as Kept }))
      .filter(({ entry }) => vault.outdated(entry))
      .map(({ row, entry }) => {
        const sealed = vault.seal(vault.open(entry, row.id), row.id)
        return connectionPut(entry, sealed, row.version)
      })
    const written = puts.map(({ id }) => id)
    return { land: () => commit(puts), written, last: rows.at(-1)?.id ?? null }
  }

  /** What enables or disables a kept connection, over the entry as it is now; null where it is so already. */
  async function switched(id: string, enabled: boolean): Promise<Operation | null> {
    const row = await store.entries.connection(id)
    if (!row) throw new JitError('connection_unknown', `there is no connection "${id}"`)
    const entry = entryOf('connection', row) as Kept
    if (entry.enabled === enabled) return null
    // Secrets stay as they are encrypted.
    const put = connectionPut({ ...entry, enabled }, { ...entry, enabled })
    return { ...put, kept: { ...put.kept, over: row.version } }
  }

  return { write, reseal, switched }
}

const byId = (a: { readonly id: string }, b: { readonly id: string }) => (a.id < b.id ? -1 : 1)

/** @throws JitError `config_invalid`; the parser's own message would quote the entry. */
export function entryOf(kind: string, { id, entry }: EntryRow): object {
  let found: unknown
  try {
    found = JSON.parse(entry)
  } catch {
    throw new JitError('config_invalid', `${kind} "${id}" in the store is not JSON`)
  }
  if (typeof found === 'object' && found !== null) return found
  throw new JitError('config_invalid', `${kind} "${id}" in the store is no object`)
}

/**
 * The version is that of the encrypted entry, so that a secret that changed shows in it. `over` keeps the version of
 * an entry whose content stays.
 */
function connectionPut({ id, organization, enabled }: Kept, sealed: object, over?: string) {
  const version = over ?? versionOf(sealed)
  const kept = { entry: JSON.stringify(sealed), ...(over !== undefined && { over }) }
  return { op: 'connection.put', id, organization, version, enabled, kept } satisfies Operation
}

function plain({ protocol: _, ...provider }: Extract<Provider, { protocol: 'social' }>) {
  return withoutVersion(provider)
}

function withoutVersion<T extends object>(entry: T): Omit<T, 'version'> {
  const { version: _, ...rest } = entry as T & { version?: string }
  return rest
}

/** Connections whose word alone would have this machine asked. */
const insecure = (input: object): string[] =>
  entries(input, 'connections')
    .filter(({ allowInsecureRequests }) => allowInsecureRequests === true)
    .map(
      ({ id }) =>
        `connection "${id}": allowInsecureRequests: leave it out; for development, storeDirectory({ allowInsecureRequests: true }) lets it be imported`,
    )

/** Characters of an entry. A tenant may have typed it, and it is read and parsed where everybody's sign-ins are answered. */
const longest = 500_000

/** @throws JitError `config_invalid` before anything is done with entries that are too long */
function refuseLong(input: object): void {
  const problems = (['organization', 'connection'] as const).flatMap((kind) =>
    entries(input, `${kind}s`)
      .filter((entry) => lengthOf(entry) > longest)
      .map(
        ({ id }) =>
          `${kind} "${legible(String(id))}": it is longer than ${longest} characters; of SAML metadata the EntityDescriptor of the identity provider is enough`,
      ),
  )
  if (problems.length > 0) throw new JitError('config_invalid', problems.join('; '), { problems })
}

/** What is no JSON is told by whoever parses it. */
function lengthOf(entry: object): number {
  try {
    return JSON.stringify(entry).length
  } catch {
    return 0
  }
}

/** Organizations that the input does not name, as owners of domains that it does. */
function neighbours({ owners }: KnownEntries, named: ReadonlySet<string>) {
  const byOwner = new Map<string, string[]>()
  for (const { pattern, organization } of owners) {
    if (named.has(organization)) continue
    byOwner.set(organization, [...(byOwner.get(organization) ?? []), pattern])
  }
  return [...byOwner].map(([id, domains]) => ({ id, name: id, roles: ['member'], domains }))
}

/** Connections of the store that the input leaves out, or takes from another organization. */
function misplaced({ connections }: KnownEntries, given: readonly Kept[]): string[] {
  const organizations = new Map(given.map(({ id, organization }) => [id, organization]))
  return connections.flatMap((row) => {
    const { id } = row
    const { organization } = entryOf('connection', row) as Kept
    const named = organizations.get(id)
    if (named === organization) return []
    return named === undefined
      ? `organization "${organization}": its connection "${id}" is left out; name it too, with enabled: false to switch it off`
      : `connection "${id}" of organization "${named}": the id is already used by organization "${organization}"`
  })
}
