import type { Connection, Decision, Directory, Organization, Provider, Store } from 'passport-jit'

/** What the directory holds now of the entries that the demo began with. */
export interface Tenants {
  readonly organizations: ReadonlyMap<string, Organization>
  readonly connections: readonly Connection[]
  readonly providers: readonly Provider[]
}

/** Reads them anew each time, because connections are switched on and off. */
export async function tenantsOf(
  directory: Directory,
  began: NonNullable<Directory['entries']>,
): Promise<Tenants> {
  const read = async <T>(entries: readonly { readonly id: string }[], find: (id: string) => Promise<T>) =>
    (await Promise.all(entries.map(({ id }) => find(id)))).filter(
      (entry) => entry !== null,
    ) as NonNullable<T>[]
  const organizations = await read(began.organizations, directory.organization)
  return {
    organizations: new Map(organizations.map((entry) => [entry.id, entry])),
    connections: await read(began.connections, directory.connection),
    providers: (await directory.providers()).filter(({ enabled }) => enabled),
  }
}

/** How pages call what they speak of; what has no name is called by its id. */
export interface Names {
  readonly organization: (id: string) => string
  readonly person: (id: string) => string
  /** What a person knows a way in by. */
  readonly way: (source: string) => string
  /** Where a decision was made: its organization, or that of the connection the person came by. */
  readonly place: (decision: Pick<Decision, 'organization' | 'source'>) => string
  /** Everybody with a name, for choosing among them. */
  readonly people: ReadonlyMap<string, string>
}

/** People are the first thousand, which is everybody in a demo. */
export async function namesOf(
  store: Store,
  { organizations, connections, providers }: Tenants,
): Promise<Names> {
  const { rows } = await store.users({ limit: 1000 })
  const people = new Map(
    rows.map(({ id, attributes, verifiedEmail, contactEmail }) => [
      id,
      attributes.name ?? verifiedEmail ?? contactEmail ?? id,
    ]),
  )
  const organization = (id: string) => organizations.get(id)?.name ?? id
  return {
    organization,
    person: (id) => people.get(id) ?? id,
    way: (source) => {
      const id = source.slice(source.indexOf(':') + 1)
      if (source === 'provider:email') return 'e-mail'
      const provider = providers.find((entry) => source === `provider:${entry.id}`)
      return provider?.protocol === 'social' ? (provider.name ?? id) : id
    },
    place: ({ organization: id, source }) => {
      const connection = connections.find((entry) => source === `connection:${entry.id}`)
      const where = id ?? connection?.organization
      return where === undefined ? 'no organization' : organization(where)
    },
    people,
  }
}
