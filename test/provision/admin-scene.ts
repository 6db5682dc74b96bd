import {
  type Admin,
  assertIdentity,
  createJit,
  type Directory,
  type DirectoryInput,
  type IdentityInput,
  type InvitationFacts,
  type Jit,
  type Source,
  type Store,
  type StoreDirectory,
  type Strategy,
  storeDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import type { StoreFixture } from 'passport-jit/testing'
import { expect, test } from 'vitest'
import { type Provisioned, provision } from '../../lib/provision.js'
import { provisionPorts } from '../rig/ports.js'

export const keys = [{ id: 'k', key: Buffer.alloc(32, 7).toString('base64') }]
const oidc = (id: string, organization: string) => ({
  ...{ id, organization, protocol: 'oidc', issuer: 'https://idp.example', clientId: 'x', clientSecret: 'y' },
  jit: { roles: ['member'] },
  attributes: { email: 'email', name: 'name', groups: 'groups' },
  groups: { absent: 'unknown', map: { admins: ['admin'], watchers: ['viewer'] } },
})
const input = (organization: object = {}, connection: object = {}) => {
  const roles = ['owner', 'admin', 'member', 'viewer']
  return {
    organizations: [
      { id: 'o', name: 'O', roles, domains: ['o.example'], ...organization },
      { id: 'p', name: 'P', roles, domains: ['p.example'] },
    ],
    connections: [{ ...oidc('c', 'o'), ...connection }, oidc('d', 'o'), oidc('e', 'p')],
  } as DirectoryInput
}

const never = () => Promise.reject(new Error('not part of this'))

/** An app of two organizations in a store's own tables: O with connections C and D, and P with E. */
export interface Scene {
  readonly store: Store
  readonly directory: StoreDirectory
  readonly jit: Jit
  /** Another process of the app. */
  readonly elsewhere: Admin
  /** Writes the policy anew, with this about O and C. */
  configure(organization: object, connection?: object): Promise<void>
  /** An app over a store that the test interferes with. */
  over(store: Store): Admin
  /** Signs somebody in, by connection C and an address of O unless told otherwise; their user's id. */
  signIn(name: string, more?: SignInOptions): Promise<Provisioned>
  /** A member who also has these roles by hand. */
  person(name: string, ...roles: string[]): Promise<string>
  /** Roles of a user in O, each with its source; null for no member. */
  roles(user: string): Promise<string[] | null>
  pending(organization?: string): Promise<readonly InvitationFacts[]>
}

export interface SignInOptions {
  via?: 'c' | 'd' | 'e' | 'email'
  groups?: string[]
  email?: string
}

export const by = 'root'

/** A test on the stores of a factory. */
export const scenes =
  (factory: () => Promise<StoreFixture>) =>
  (name: string, body: (scene: Scene) => Promise<void>, organization: object = {}) =>
    test(name, () => inScene(factory, body, organization))

/** The same without a test; afterwards what is counted agrees with what there is. */
export async function inScene<T>(
  factory: () => Promise<StoreFixture>,
  body: (scene: Scene) => Promise<T>,
  organization: object = {},
): Promise<T> {
  const { store, another, close } = await factory()
  try {
    const apps = [await app(store), await app(await another())] as const
    await apps[0].directory.import(input(organization))
    const result = await body(sceneOf(store, apps[0], apps[1].jit.admin))
    await counted(store)
    return result
  } finally {
    await close()
  }
}

async function app(store: Store) {
  const directory = storeDirectory({ store, keys, providers: { email: { enabled: true } } })
  const jit = jitOver(store, directory)
  await jit.ready()
  return { jit, directory }
}

function jitOver(store: Store, directory: Directory): Jit {
  const strategies = [
    { protocol: 'oidc', attemptKey: () => undefined, begin: never, complete: never },
    { protocol: 'email', send: never, redeem: never },
  ] as unknown as Strategy[]
  const options = { baseUrl: 'http://localhost', lock: memoryLock(), once: memoryOnce(), strategies }
  return createJit({ ...options, store, directory, log: () => {} })
}

function sceneOf(store: Store, { jit, directory }: Awaited<ReturnType<typeof app>>, elsewhere: Admin): Scene {
  const ports = provisionPorts(store, directory)

  async function signIn(
    name: string,
    { via = 'c', groups, email }: SignInOptions = {},
  ): Promise<Provisioned> {
    const source: Source = via === 'email' ? 'provider:email' : `connection:${via}`
    const entry = via === 'email' ? await directory.provider(via) : await directory.connection(via)
    const asserted: IdentityInput = {
      source,
      sourceVersion: entry!.version,
      issuer: 'https://idp.example',
      subject: name,
      email: email ?? `${name}@${via === 'e' ? 'p' : 'o'}.example`,
      emailVerified: 'yes',
      profile: { name },
      at: Date.now(),
      ...(groups && { groups: { kind: 'listed', values: groups } }),
    }
    const done = await provision(ports, assertIdentity(asserted))
    if (done.verdict !== 'allow') throw new Error(`${name} is to prove something`)
    return done
  }

  return {
    store,
    directory,
    jit,
    elsewhere,
    signIn,
    configure: async (organization, connection) => {
      await directory.import(input(organization, connection))
    },
    over: (other) => jitOver(other, directory).admin,
    person: async (name, ...roles) => {
      const user = (await signIn(name)).after.user.id
      for (const role of roles) await jit.admin.grant({ user, organization: 'o', role, by })
      return user
    },
    roles: async (user) => {
      const record = await store.user(user)
      const member = record?.memberships.find(({ organization }) => organization === 'o')
      return member?.grants.map(({ role, source }) => `${role} ${source}`).sort() ?? null
    },
    pending: async (organization = 'o') => (await store.invitations({ organization })).rows,
  }
}

/** Seats and owners are counted as there are; whoever is counted was counted by nobody else. */
async function counted(store: Store): Promise<void> {
  const { rows } = await store.users({ limit: 1000 })
  const { organizations } = await store.load({ email: null, organizations: ['o', 'p'] })
  for (const { id, seatsUsed, owners } of organizations) {
    const members = rows.flatMap(({ status, memberships }) =>
      memberships
        .filter(({ organization }) => organization === id)
        .map((member) => ({ ...member, user: status })),
    )
    const owning = members.filter(
      ({ user, status, grants }) =>
        user === 'active' && status === 'active' && grants.some(({ role }) => role === 'owner'),
    )
    expect([id, seatsUsed, owners]).toEqual([id, members.filter(({ seat }) => seat).length, owning.length])
  }
}

/** What the trail tells of a change: `type` and whom it is about, in order. */
export async function told(store: Store, decision: string | null): Promise<string[]> {
  const { rows } = await store.events({ limit: 1000 })
  return rows
    .filter(({ change }) => change === decision)
    .map(({ type, user, organization }) =>
      [type, ...(user ? ['user'] : []), organization ?? ''].join(' ').trim(),
    )
}

/** Everything that anybody could see, to be compared with itself. */
export async function everything(store: Store) {
  const organizations = ['o', 'p']
  return {
    users: (await store.users({ limit: 1000 })).rows,
    events: (await store.events({ limit: 1000 })).rows,
    invitations: await Promise.all(organizations.map((organization) => store.invitations({ organization }))),
    counters: (await store.load({ email: null, organizations })).organizations,
  }
}
