import type { Connection, DirectoryInput, Organization, Proof, Snapshot, UserFacts } from 'passport-jit'
import {
  type AssertedIdentity,
  assertIdentity,
  type Directory,
  type IdentityInput,
  staticDirectory,
} from 'passport-jit'
import { type Plan, planSignIn, type SignIn } from '../../lib/plan.js'

/** Organization O with an OIDC connection that vouches for its domain and one it acquired; P owns another. */
export const directoryInput = {
  organizations: [
    { id: 'o', name: 'O', roles: ['owner', 'admin', 'member', 'viewer'], domains: ['o.example'] },
    { id: 'p', name: 'P', roles: ['owner', 'member'], domains: ['p.example', 'acquired.example'] },
  ],
  connections: [
    {
      id: 'c',
      organization: 'o',
      protocol: 'oidc',
      issuer: 'https://idp.example',
      clientId: 'x',
      clientSecret: 'y',
      vouchesFor: ['o.example', 'acquired.example'],
      jit: { roles: ['member'] },
      attributes: { email: 'email', name: 'name', groups: 'groups' },
      groups: { map: { admins: ['admin'], watchers: ['viewer'] } },
    },
  ],
} satisfies DirectoryInput

type ConnectionInput = Partial<(typeof directoryInput)['connections'][number]> & Record<string, unknown>

export async function entries(
  connection: ConnectionInput = {},
  organization: Record<string, unknown> = {},
  more: Partial<DirectoryInput> | Record<string, unknown> = {},
) {
  const input = structuredClone(directoryInput) as unknown as DirectoryInput
  Object.assign(input.connections![0]!, connection)
  Object.assign(input.organizations[0]!, organization)
  const directory: Directory = staticDirectory({ ...input, ...more })
  return {
    directory,
    connection: (await directory.connection('c')) as Connection,
    organization: (await directory.organization('o')) as Organization,
  }
}

export const user = (facts: Partial<UserFacts> = {}): UserFacts => ({
  id: 'u',
  version: 3,
  status: 'active',
  epoch: 0,
  verifiedEmail: 'ann@o.example',
  contactEmail: 'ann@o.example',
  attributes: { name: 'Ann' },
  identities: [],
  memberships: [],
  tombstones: [],
  ...facts,
})

/** A user that this connection's identity `s` is linked to. */
export const known = (facts: Partial<UserFacts> = {}): UserFacts =>
  user({
    identities: [{ source: 'connection:c', issuer: 'https://idp.example', subject: 's' }],
    ...facts,
  })

export const member = (...roles: [role: string, source: string, basis: string][]) =>
  [
    {
      organization: 'o',
      status: 'active',
      grants: roles.map(([role, source, basis]) => ({ role, source, basis })),
    },
  ] as unknown as UserFacts['memberships']

export interface Given {
  identity?: Partial<IdentityInput>
  connection?: ConnectionInput
  organization?: Record<string, unknown>
  byIdentity?: UserFacts
  byVerifiedEmail?: UserFacts
  byContactEmail?: UserFacts[]
  seats?: { seatLimit: number; seatsUsed: number }
  stored?: Partial<NonNullable<Snapshot['connection']>>
  storedOrganization?: Partial<Snapshot['organizations'][number]>
  proof?: Proof
}

export async function signIn(given: Given = {}): Promise<SignIn> {
  const { directory, connection, organization } = await entries(given.connection, given.organization)
  const identity: AssertedIdentity = assertIdentity({
    source: 'connection:c',
    sourceVersion: connection.version,
    issuer: 'https://idp.example',
    subject: 's',
    email: 'ann@o.example',
    profile: { name: 'Ann' },
    groups: { kind: 'listed', values: [] },
    at: 1000,
    ...given.identity,
  })
  return {
    identity,
    way: { kind: 'connection', connection, organization },
    domain: identity.email ? await directory.domain(identity.email.domain) : null,
    ownDomain: null,
    proof: given.proof ?? null,
    snapshot: {
      byIdentity: given.byIdentity ?? null,
      byVerifiedEmail: given.byVerifiedEmail ?? null,
      byContactEmail: given.byContactEmail ?? [],
      organizations: [
        {
          id: 'o',
          version: organization.version,
          status: 'active',
          seatLimit: null,
          seatsUsed: 0,
          owners: 1,
          ...given.seats,
          ...given.storedOrganization,
        },
      ],
      connection: { id: 'c', version: connection.version, enabled: true, epoch: 0, ...given.stored },
    },
    now: 2000,
    ids: { user: 'new', change: 'change', correlation: 'correlation' },
  }
}

export const decide = async (given: Given = {}): Promise<Plan> => planSignIn(await signIn(given))

export interface GivenByProvider extends Omit<Given, 'connection' | 'stored'> {
  provider?: 'email' | 'verifying' | 'authoritative'
  /** Of organization O, which owns o.example. */
  domainJit?: { enabled?: boolean; roles?: string[]; existingUsers?: boolean }
  signUp?: 'open' | 'invitation'
  /** Whether O has an enabled connection that vouches for its domain. */
  sso?: boolean
}

/** A sign-in by the e-mail method or a social provider. */
export async function providerSignIn(given: GivenByProvider = {}): Promise<SignIn> {
  const { directory, organization } = await entries(
    { enabled: given.sso ?? false },
    { domainJit: { enabled: true, roles: ['member'], ...given.domainJit }, ...given.organization },
    {
      email: { enabled: true, signUp: given.signUp ?? 'open' },
      social: ['verifying', 'authoritative'].map((id) => ({
        id,
        preset: 'oidc',
        issuer: 'https://social.example',
        clientId: 'x',
        clientSecret: 'y',
        emailVerifiedIsProof: true,
        signUp: given.signUp ?? 'open',
        link: id === 'authoritative' ? 'verified-email' : 'prove',
      })),
    },
  )
  const provider = (await directory.provider(given.provider ?? 'verifying'))!
  const base = await signIn({ ...given, identity: {} })
  const identity = assertIdentity({
    source: `provider:${provider.id}`,
    sourceVersion: provider.version,
    issuer: 'https://social.example',
    subject: 's',
    email: 'ann@o.example',
    emailVerified: 'yes',
    profile: { name: 'Ann' },
    at: 1000,
    ...given.identity,
  })
  const existing = given.byIdentity ?? given.byVerifiedEmail
  const own = existing?.verifiedEmail?.split('@')[1]
  return {
    ...base,
    identity,
    way: { kind: 'provider', provider },
    domain: identity.email ? await directory.domain(identity.email.domain) : null,
    ownDomain: own && own !== identity.email?.domain ? await directory.domain(own) : null,
    snapshot: {
      ...base.snapshot,
      organizations: [{ ...base.snapshot.organizations[0]!, version: organization.version }],
      connection: null,
    },
  }
}

export const decideByProvider = async (given: GivenByProvider = {}): Promise<Plan> =>
  planSignIn(await providerSignIn(given))

/** What a plan writes, one short word an operation. */
export function written(plan: Plan): string[] {
  return (plan.changes?.ops ?? []).map((op) => {
    switch (op.op) {
      case 'grant.add':
      case 'grant.remove':
        return `${op.op} ${op.role} ${op.source}`
      case 'user.update':
        return `${op.op} ${Object.keys(op.set).join(' ')}`
      default:
        return op.op
    }
  })
}
