import type { ChangeSet, DirectoryInput, Store } from 'passport-jit'
import type { Suggestion } from './pages.js'

// The embedded organizations and the people who sign in to them. All of it is invented.

/** Somebody an identity provider of the demo can sign in. */
export interface Person {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly groups: readonly string[]
}

/** Which identity provider knows whom. */
export const people = {
  superfantasy: [
    {
      id: 'sf-sarah',
      name: 'Sarah Lindqvist',
      email: 'sarah@superfantasy.example',
      groups: ['everyone', 'design'],
    },
    {
      id: 'sf-peter',
      name: 'Peter Okafor',
      email: 'peter@magictech.example',
      groups: ['everyone', 'team-leads'],
    },
    { id: 'sf-wanda', name: 'Wanda Reyes', email: 'wanda@globex.example', groups: ['everyone'] },
    { id: 'sf-otto', name: 'Otto Freund', email: 'otto@freelance.example', groups: ['everyone'] },
  ],
  globex: [{ id: 'gx-grace', name: 'Grace Mbeki', email: 'grace@globex.example', groups: ['finance'] }],
  initech: [
    { id: 'in-ines', name: 'Ines Duarte', email: 'ines@initech.example', groups: [] },
    { id: 'in-milton', name: 'Milton Wade', email: 'milton@initech.example', groups: [] },
  ],
} satisfies Record<string, readonly Person[]>

export const suggestions: readonly Suggestion[] = [
  say(
    people.superfantasy[0]!,
    'SuperFantasy',
    'A new hire: gets an account, a membership, and a role by her group.',
  ),
  say(
    people.superfantasy[1]!,
    'SuperFantasy',
    'From MagicTech, which SuperFantasy bought: his account is linked, he joins, and his old membership stays as it is.',
  ),
  say(people.globex[0]!, 'Globex', 'A new hire by OpenID Connect.'),
  say(people.initech[0]!, 'Initech', 'No account yet, and Initech makes accounts by hand: refused.'),
  say(people.initech[1]!, 'Initech', 'Has an account that was made by hand: signs in, nothing else changes.'),
  say(people.superfantasy[2]!, 'SuperFantasy', 'Her address belongs to Globex: refused.'),
  say(people.superfantasy[3]!, 'SuperFantasy', 'His address is in nobody’s domain: refused.'),
]

function say({ name, email }: Person, signsInAt: string, expect: string): Suggestion {
  return { name, email, signsInAt, expect }
}

/** How the app knows its client at Globex's provider. */
export const globexClient = { id: 'smartworkspace', secret: 'a-secret-for-loopback-only' } as const

/** The directory of the demo: the same format as a configuration file. */
export function organizations(idps: {
  superfantasyMetadata: string
  initechMetadata: string
  globexIssuer: string
}): DirectoryInput {
  const attributes = { email: 'email', name: 'displayName', groups: 'groups' }
  return {
    organizations: [
      {
        id: 'superfantasy',
        name: 'SuperFantasy',
        roles: ['owner', 'admin', 'designer', 'member'],
        domains: ['superfantasy.example'],
      },
      {
        id: 'magictech',
        name: 'MagicTech',
        roles: ['owner', 'admin', 'member'],
        domains: ['magictech.example'],
      },
      { id: 'globex', name: 'Globex', roles: ['owner', 'auditor', 'member'], domains: ['globex.example'] },
      { id: 'initech', name: 'Initech', roles: ['owner', 'member'], domains: ['initech.example'] },
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
        groups: { map: { design: ['designer'], 'team-leads': ['admin'] } },
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
        groups: { map: { finance: ['auditor'] } },
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
  }
}

/** The accounts that are there before anybody signs in. One change each, so a second start adds nothing. */
export async function seed(store: Store, now: number): Promise<void> {
  const changes = [
    existingMember('demo-peter', people.superfantasy[1]!, 'magictech', 'admin', now),
    existingMember('demo-milton', people.initech[1]!, 'initech', 'member', now),
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
    correlationId: `seed-${user}`,
    reason: 'administered',
  } as const
  const grant = { role, source: 'manual', basis: 'person' } as const
  return {
    id: common.change,
    expect: [],
    guards: [{ guard: 'seats', organization, by: 1 }],
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
      { op: 'membership.create', user, organization, status: 'active', at },
      { op: 'grant.add', user, organization, ...grant, at },
    ],
    events: [
      { ...common, seq: 0, type: 'created', organization: null, detail: { verified: true } },
      { ...common, seq: 1, type: 'joined', organization, detail: {} },
      { ...common, seq: 2, type: 'granted', organization, detail: grant },
    ],
  }
}
