import {
  assertIdentity,
  createJit,
  type Directory,
  type DirectoryInput,
  type JitOptions,
  type LogEntry,
  type Source,
  type Store,
  type Strategy,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { type Provisioned, provision } from '../../lib/provision.js'
import { provisionPorts } from '../rig/ports.js'

export const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]

type Parts = Readonly<Record<string, unknown>>

/** O with connection C, whose groups mean roles; P owns a domain of its own. */
export const policy = (connection: Parts = {}, organization: Parts = {}): DirectoryInput =>
  ({
    organizations: [
      {
        ...{ id: 'o', name: 'O', roles: ['owner', 'admin', 'member', 'viewer'], domains: ['o.example'] },
        ...organization,
      },
      { id: 'p', name: 'P', roles: ['owner', 'member'], domains: ['p.example'] },
    ],
    connections: [
      {
        ...{ id: 'c', organization: 'o', protocol: 'oidc', issuer: 'https://idp.example', clientId: 'x' },
        ...{ clientSecret: 'y', jit: { roles: ['member'] } },
        attributes: { email: 'email', name: 'name', groups: 'groups' },
        groups: { absent: 'unknown', map: { admins: ['admin'], watchers: ['viewer'] } },
        ...connection,
      },
    ],
    email: { enabled: true },
  }) as DirectoryInput

const never = () => Promise.reject(new Error('not part of this'))

/** An app over a store and a directory, with what it logged. */
export function app(store: Store, directory: Directory, options: Partial<JitOptions> = {}) {
  const strategies = [
    { protocol: 'oidc', attemptKey: () => undefined, begin: never, complete: never },
    { protocol: 'email', send: never, redeem: never },
  ] as unknown as Strategy[]
  const log: LogEntry[] = []
  const jit = createJit({
    ...{ baseUrl: 'http://localhost', lock: memoryLock(), once: memoryOnce(), strategies },
    ...{ store, directory, log: (entry: LogEntry) => log.push(entry), ...options },
  })
  return { jit, log }
}

export const staticApp = (store: Store, input: DirectoryInput, options?: Partial<JitOptions>) => {
  const directory = staticDirectory(input)
  return { directory, ...app(store, directory, options) }
}

export interface Asserting {
  readonly groups?: readonly string[] | 'absent'
  readonly email?: string
  readonly via?: Source
  /** In milliseconds since the epoch; the system clock by default. */
  readonly at?: number
}

/** Signs somebody in, by connection C and an address of O unless told otherwise. */
export async function signIn(
  store: Store,
  directory: Directory,
  name: string,
  { groups = [], email = `${name}@o.example`, via = 'connection:c', at }: Asserting = {},
): Promise<Provisioned> {
  const [kind, id] = via.split(':') as ['connection' | 'provider', string]
  const entry = kind === 'connection' ? await directory.connection(id) : await directory.provider(id)
  const identity = assertIdentity({
    source: via,
    sourceVersion: entry!.version,
    issuer: 'https://idp.example',
    subject: name,
    email,
    emailVerified: kind === 'provider' ? 'yes' : 'unstated',
    profile: { name },
    groups: groups === 'absent' ? { kind: 'absent' } : { kind: 'listed', values: groups },
    at: at ?? Date.now(),
  })
  const ports = { ...provisionPorts(store, directory), ...(at !== undefined && { now: () => at }) }
  const done = await provision(ports, identity)
  if (done.verdict !== 'allow') throw new Error(`${name} is to prove something`)
  return done
}

/** Roles of each user in O by the name they assert, each with its source; null for no member. */
export async function rolesIn(store: Store): Promise<Record<string, string[] | null>> {
  const { rows } = await store.users({ limit: 1000 })
  return Object.fromEntries(
    rows.map(({ attributes, memberships }) => {
      const member = memberships.find(({ organization }) => organization === 'o')
      return [attributes.name, member?.grants.map(({ role, source }) => `${role} ${source}`).sort() ?? null]
    }),
  )
}

/** Everything that a write could have touched. */
export async function everything(store: Store) {
  const { rows: users } = await store.users({ limit: 1000 })
  return {
    users,
    events: await store.events({ limit: 1000 }),
    asserted: await store.asserted({ source: 'connection:c', organization: 'o', limit: 1000 }),
    invitations: await store.invitations({ organization: 'o' }),
    facts: await store.load({ source: 'connection:c', email: null, organizations: ['o', 'p'] }),
    entries: await store.entries.changes(0),
  }
}
