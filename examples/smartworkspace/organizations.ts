import type { ChangeSet, DirectoryInput, Store } from 'passport-jit'
import { employees, type Person, socialName } from './people.js'

// The embedded organizations and their ways in. All of them are invented.

/** How the app knows its client at Globex's provider. */
export const globexClient = { id: 'smartworkspace', secret: 'a-secret-for-loopback-only' } as const

/** How the app knows its client at the social provider. */
export const socialClient = { id: 'smartworkspace', secret: 'another-secret-for-loopback-only' } as const

/** What the secrets of the connections are encrypted with in the store; of a real app it is kept out of its code. */
export const storeKey = { id: 'demo', key: Buffer.alloc(32, 'a-key-for-loopback-only').toString('base64') }

/** Where the social provider answers, as an entry of the directory names it. */
type SocialEndpoints = Pick<
  Extract<NonNullable<DirectoryInput['social']>[number], { preset: 'oauth2' }>,
  'authorizationEndpoint' | 'tokenEndpoint' | 'profileEndpoint' | 'emailsEndpoint'
>

/** The directory of the demo: the same format as a configuration file. */
export function organizations(idps: {
  superfantasyMetadata: string
  initechMetadata: string
  globexIssuer: string
  social: SocialEndpoints
}): DirectoryInput {
  const attributes = { email: 'email', name: 'displayName', groups: 'groups' }
  return {
    organizations: [
      {
        id: 'superfantasy',
        name: 'SuperFantasy',
        roles: ['owner', 'admin', 'designer', 'editor', 'member'],
        domains: ['superfantasy.example'],
      },
      {
        id: 'magictech',
        name: 'MagicTech',
        roles: ['owner', 'admin', 'member'],
        domains: ['magictech.example'],
        // It has no identity provider of its own: who has a mailbox there belongs to it.
        domainJit: { enabled: true, roles: ['member'] },
      },
      {
        id: 'globex',
        name: 'Globex',
        roles: ['owner', 'auditor', 'member'],
        domains: ['globex.example'],
        // It has bought one seat. Whoever comes after may look in, and waits for another.
        seatLimit: 1,
        whenFull: 'join-without-seat',
        // Left over from before it had an identity provider. SSO wins, and the linter says so.
        domainJit: { enabled: true, roles: ['member'] },
      },
      { id: 'initech', name: 'Initech', roles: ['owner', 'member'], domains: ['initech.example'] },
      {
        id: 'kiosk',
        name: 'Kiosk',
        roles: ['owner', 'member'],
        domains: ['kiosk.example'],
        domainJit: { enabled: true, roles: ['member'] },
        seatLimit: 1,
        whenFull: 'deny',
      },
    ],
    connections: [
      {
        id: 'superfantasy-saml',
        organization: 'superfantasy',
        protocol: 'saml',
        idpMetadata: idps.superfantasyMetadata,
        // SuperFantasy bought MagicTech, so its identity provider speaks for both.
        vouchesFor: ['superfantasy.example', 'magictech.example'],
        jit: { roles: ['member'] },
        attributes,
        groups: { absent: 'empty', map: { design: ['designer'], 'team-leads': ['admin'] } },
      },
      {
        id: 'globex-oidc',
        organization: 'globex',
        protocol: 'oidc',
        issuer: idps.globexIssuer,
        clientId: globexClient.id,
        clientSecret: globexClient.secret,
        allowInsecureRequests: true,
        jit: { roles: ['member'] },
        attributes: { email: 'email', name: 'name', groups: 'groups' },
        groups: { absent: 'empty', map: { finance: ['auditor'] } },
      },
      {
        id: 'initech-saml',
        organization: 'initech',
        protocol: 'saml',
        idpMetadata: idps.initechMetadata,
        jit: { create: false, join: false },
        attributes,
      },
    ],
    social: [
      {
        id: 'pixelhub',
        name: socialName,
        preset: 'oauth2',
        clientId: socialClient.id,
        clientSecret: socialClient.secret,
        ...idps.social,
        allowInsecureRequests: true,
      },
    ],
    email: { enabled: true },
  }
}

/** The accounts that are there before anybody signs in. One change each, so a second start adds nothing. */
export async function seed(store: Store, now: number): Promise<void> {
  const changes = [
    existingMember('demo-peter', employees.peter, 'magictech', 'admin', now),
    existingMember('demo-milton', employees.milton, 'initech', 'member', now),
    existingMember('demo-olga', employees.olga, 'superfantasy', 'owner', now),
  ]
  for (const change of changes) {
    const result = await store.commit(change)
    if (!result.committed && result.conflict.kind !== 'key') {
      throw new Error(`the account ${change.id} could not be made: ${JSON.stringify(result.conflict)}`)
    }
  }
}

/** A change set as an administrator's door would make it: account, membership and role by hand. */
function existingMember(
  user: string,
  person: Person,
  organization: string,
  role: string,
  at: number,
): ChangeSet {
  const common = {
    change: `seed-${user}`,
    at,
    user,
    source: null,
    actor: 'operator',
    correlationId: `seed-${user}`,
    reason: 'administered',
  } as const
  const grant = { role, source: 'manual', basis: 'person' } as const
  return {
    id: common.change,
    expect: [],
    guards: [
      { guard: 'seats', organization, by: 1 },
      ...(role === 'owner' ? [{ guard: 'owners', organization, by: 1 } as const] : []),
    ],
    ops: [
      {
        op: 'user.create',
        id: user,
        status: 'active',
        verifiedEmail: person.email,
        contactEmail: person.email,
        attributes: { name: person.name },
        at,
      },
      { op: 'membership.create', user, organization, status: 'active', seat: true, at },
      { op: 'grant.add', user, organization, ...grant, at },
    ],
    events: [
      { ...common, seq: 0, type: 'created', organization: null, detail: { status: 'active', trace: [] } },
      { ...common, seq: 1, type: 'joined', organization, detail: { status: 'active', seat: true } },
      { ...common, seq: 2, type: 'granted', organization, detail: { ...grant, because: 'by hand' } },
    ],
  }
}
