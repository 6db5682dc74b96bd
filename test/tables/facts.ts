import { createHash } from 'node:crypto'
import type {
  AssertedIdentity,
  Connection,
  Directory,
  DirectoryInput,
  IdentityInput,
  InvitationFacts,
  Organization,
  Proof,
  Snapshot,
  Source,
  UserFacts,
} from 'passport-jit'
import { assertIdentity, staticDirectory } from 'passport-jit'
import { emailHash, identityHash, membershipHashes } from '../../lib/audit.js'
import { conflictName, type SignInConflict } from '../../lib/conflict.js'
import { assertedOf } from '../../lib/identity.js'
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
      groups: { absent: 'unknown', map: { admins: ['admin'], watchers: ['viewer'] } },
    },
  ],
} satisfies DirectoryInput

export type ConnectionInput = Partial<
  Extract<NonNullable<DirectoryInput['connections']>[number], { protocol: 'oidc' }>
>

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
      seat: true,
      grants: roles.map(([role, source, basis]) => ({ role, source, basis })),
    },
  ] as unknown as UserFacts['memberships']

/** An invitation of Ann to O, made at 500 and good for long. */
export const invitation = (facts: Partial<InvitationFacts> = {}): InvitationFacts => ({
  id: 'i',
  organization: 'o',
  email: 'ann@o.example',
  role: 'admin',
  at: 500,
  expiresAt: 9000,
  ...facts,
})

/** Keyed in the product; a test needs no secret. */
const hash = (value: string) => createHash('sha256').update(value).digest('base64url')

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
  /** What this identity asserted last; the same as now by default, where it is known. */
  asserted?: string | null
  invitations?: InvitationFacts[]
  /**
   * Of the identity, its address or that of the known account, when a person removed the user; their membership, where
   * an organization is named.
   */
  removed?: { of: 'identity' | 'address' | 'own address'; at: number; from?: string }[]
  otherWays?: Source[]
  /** What the app chose, by conflict. */
  choices?: Record<string, string>
}

/** What does not depend on the way in. */
function common(identity: AssertedIdentity, given: Given, organization: Organization) {
  const asserted = assertedOf(identity)
  const digest = hash(JSON.stringify(asserted))
  const hashes = {
    identity: identityHash(hash, identity),
    address: emailHash(hash, identity.email?.address ?? ''),
    'own address': emailHash(hash, given.byIdentity?.verifiedEmail ?? ''),
  }
  const snapshot: Snapshot = {
    byIdentity: given.byIdentity ?? null,
    asserted: given.byIdentity && given.asserted === undefined ? digest : (given.asserted ?? null),
    byId: null,
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
    connection: null,
    invitations: given.invitations ?? [],
    removed: (given.removed ?? []).map(({ of, at, from }) => ({
      hash: from === undefined ? hashes[of] : membershipHashes(hash, from, [hashes[of]])[0]!,
      at,
    })),
  }
  return {
    identity,
    proof: given.proof ?? null,
    otherWays: given.otherWays ?? [],
    snapshot,
    chosen: (conflict: SignInConflict) => given.choices?.[conflictName(conflict)],
    hash,
    asserted,
    digest,
    now: 2000,
    ids: { user: 'new', change: 'change', correlation: 'correlation' },
  }
}

/** A sign-in by the connection of organization O. */
export async function signIn(given: Given = {}): Promise<SignIn> {
  const { directory, connection, organization } = await entries(given.connection, given.organization)
  const identity = assertIdentity({
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
  const facts = common(identity, given, organization)
  const stored = {
    id: 'c',
    organization: 'o',
    version: connection.version,
    enabled: true,
    epoch: 0,
    held: null,
    ...given.stored,
  }
  return {
    ...facts,
    way: { kind: 'connection', connection, organization },
    domain: identity.email ? await directory.domain(identity.email.domain) : null,
    ownDomain: null,
    snapshot: { ...facts.snapshot, connection: stored },
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
    ...common(identity, given, organization),
    way: { kind: 'provider', provider },
    domain: identity.email ? await directory.domain(identity.email.domain) : null,
    ownDomain: own && own !== identity.email?.domain ? await directory.domain(own) : null,
  }
}

export const decideByProvider = async (given: GivenByProvider = {}): Promise<Plan> =>
  planSignIn(await providerSignIn(given))

/** What a plan writes, one short word an operation; what is kept of every new assertion is left out. */
export function written(plan: Plan): string[] {
  const ops = (plan.changes?.ops ?? []).filter(({ op }) => op !== 'identity.assert')
  return ops.map((op) => {
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
