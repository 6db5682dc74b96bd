import {
  type AssertedIdentity,
  assertIdentity,
  createJit,
  type DirectoryInput,
  JitError,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import type { Connection } from '../../lib/policy.js'
import { type Provisioned, type ProvisionPorts, provision, type Unproved } from '../../lib/provision.js'
import { hashOf } from './replay.js'

export const organizations = ['acme', 'globex'] as const
export const connections = ['acme-saml', 'acme-oidc', 'globex-saml'] as const
export const roles = ['owner', 'admin', 'editor', 'member'] as const
export type OrganizationId = (typeof organizations)[number]
export type ConnectionId = (typeof connections)[number]

/** The part of a configuration that the commands edit. */
export interface Settings {
  organizations: Record<OrganizationId, OrganizationSettings>
  connections: Record<ConnectionId, ConnectionSettings>
}
export interface OrganizationSettings {
  domains: string[]
  assignable: string[]
  domainJit: boolean
  existingUsers: boolean
  seatLimit: number | null
  whenFull: 'deny' | 'join-without-seat'
  status: 'active' | 'suspended'
}
export interface ConnectionSettings {
  enabled: boolean
  create: boolean
  join: boolean
  mode: 'add' | 'sync'
  absent: 'unknown' | 'empty'
  withoutRole: 'keep' | 'leave'
  outsiders: 'deny' | 'separate'
  adoptEmail: boolean
  profileSync: 'never' | 'first-sign-in' | 'every-sign-in'
  defaults: string[]
  map: Record<string, string[]>
  oneOf: boolean
}

/** What a person presents. */
export interface Presented {
  source: `connection:${ConnectionId}` | 'provider:email' | 'provider:social'
  subject: string
  email: string | null
  emailVerified: 'yes' | 'no' | 'unstated'
  groups: { kind: 'listed'; values: string[] } | { kind: 'absent' } | { kind: 'overflow' }
  name: string
}

const idp = `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example"/>`

function inputOf(settings: Settings): DirectoryInput {
  return {
    organizations: organizations.map((id) => {
      const { domainJit, existingUsers, assignable, ...entry } = settings.organizations[id]
      return {
        id,
        name: id,
        roles: [...roles],
        assignable,
        ...entry,
        domainJit: {
          enabled: domainJit,
          existingUsers,
          roles: ['member'].filter((role) => assignable.includes(role)),
        },
      }
    }),
    connections: connections.map((id) => {
      const { create, join, mode, absent, withoutRole, oneOf, defaults, map, profileSync, ...entry } =
        settings.connections[id]
      const organization = organizationOf(id)
      const allowed = (names: string[]) =>
        names.filter((role) => settings.organizations[organization].assignable.includes(role))
      return {
        id,
        organization,
        protocol: 'saml' as const,
        idpMetadata: idp,
        ...entry,
        jit: { create, join, profileSync, roles: allowed(defaults) },
        attributes: { email: 'email', name: 'name', groups: 'groups' },
        groups: {
          mode,
          absent,
          withoutRole,
          oneOf: oneOf && mode === 'sync' ? allowed(['admin', 'editor', 'member']) : [],
          map: Object.fromEntries(Object.entries(map).map(([group, names]) => [group, allowed(names)])),
        },
      }
    }),
    social: [{ id: 'social', preset: 'passport', link: 'prove' }],
    email: { enabled: true },
  }
}

export const organizationOf = (connection: ConnectionId): OrganizationId =>
  connection === 'globex-saml' ? 'globex' : 'acme'

/** The kit over a memory store, with a configuration and a clock that move. */
export async function world(settings: Settings) {
  const store = memoryStore()
  const lock = memoryLock()
  let at = Date.UTC(2030, 0, 1)
  const now = () => at
  const open = async (current: Settings) => {
    const directory = staticDirectory(inputOf(current))
    const jit = createJit({
      baseUrl: 'http://localhost',
      store,
      lock,
      once: memoryOnce(),
      directory,
      strategies: [
        { protocol: 'saml', attemptKey: () => undefined, begin: never, complete: never },
        { protocol: 'social', attemptKey: () => undefined, begin: never, complete: never },
        { protocol: 'email', send: never, redeem: never } as never,
      ],
      log: () => {},
      now,
    })
    await jit.ready()
    return { directory, jit }
  }
  let opened = await open(settings)
  const hash = await hashOf(store)
  const ports = (): ProvisionPorts => ({
    store,
    directory: opened.directory,
    lock,
    now,
    hash: async () => hash,
    onConflict: null,
    warn: () => {},
  })

  async function identity(presented: Presented): Promise<AssertedIdentity> {
    const [kind, id] = presented.source.split(':') as ['connection' | 'provider', string]
    const entry =
      kind === 'connection' ? await opened.directory.connection(id) : await opened.directory.provider(id)
    return assertIdentity({
      source: presented.source,
      sourceVersion: entry!.version,
      issuer: kind === 'connection' ? `https://${id}.example` : id,
      subject: presented.source === 'provider:email' ? presented.email! : presented.subject,
      ...(presented.email !== null && { email: presented.email }),
      emailVerified: presented.emailVerified,
      profile: { name: presented.name },
      groups: kind === 'connection' ? presented.groups : { kind: 'absent' },
      at,
    })
  }

  return {
    store,
    now,
    settings: settings as Settings,
    jit: () => opened.jit,
    connection: (id: string): Promise<Connection | null> => opened.directory.connection(id),
    domain: (name: string) => opened.directory.domain(name),
    provider: (id: string) => opened.directory.provider(id),
    advance: (milliseconds: number) => {
      at += milliseconds
    },
    configure: async (next: Settings) => {
      opened = await open(next)
    },
    /** The plan that was carried out, or the code of the refusal. */
    signIn: async (presented: Presented): Promise<Provisioned | Unproved | JitError> => {
      try {
        return await provision(ports(), await identity(presented))
      } catch (error) {
        if (error instanceof JitError) return error
        throw error
      }
    },
  }
}

export type World = Awaited<ReturnType<typeof world>>

const never = () => Promise.reject(new Error('not part of this test'))
