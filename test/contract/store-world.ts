import assert from 'node:assert/strict'
import type { Asserted, AuditEvent, ChangeSet, CommitResult, LoadQuery, Operation, Store } from 'passport-jit'

/** A change set with the parts that matter. */
export function change(id: string, parts: Partial<Omit<ChangeSet, 'id'>>): ChangeSet {
  return { id, expect: [], guards: [], ops: [], events: [], ...parts }
}

export function event(id: string, seq: number, parts: Partial<AuditEvent> = {}): AuditEvent {
  return {
    change: id,
    seq,
    type: 'updated',
    at: 1_700_000_000_123,
    user: null,
    organization: null,
    source: null,
    actor: null,
    correlationId: `correlation of ${id}`,
    reason: 'administered',
    detail: {},
    ...parts,
  }
}

export async function landed(result: Promise<CommitResult>): Promise<void> {
  assert.deepEqual(await result, { committed: true })
}

export function conflict(result: CommitResult) {
  assert.ok(!result.committed, 'it was committed')
  return result.conflict
}

export const nobody: LoadQuery = { email: null, organizations: [] }

export const at = 1_700_000_000_000
export const saml = { source: 'connection:acme-saml', issuer: 'https://idp.acme.example' } as const
export const github = { source: 'provider:github', issuer: 'https://github.com' } as const

export const organizationPut = (
  id: string,
  parts: Partial<Extract<Operation, { op: 'organization.put' }>> = {},
) =>
  ({
    op: 'organization.put',
    id,
    version: 'v1',
    name: id,
    status: 'active',
    seatLimit: null,
    ...parts,
  }) as const

export const connectionPut = (
  id: string,
  organization: string,
  parts: Partial<Extract<Operation, { op: 'connection.put' }>> = {},
) => ({ op: 'connection.put', id, organization, version: 'v1', enabled: true, ...parts }) as const

export const userCreate = (id: string, parts: Partial<Extract<Operation, { op: 'user.create' }>> = {}) =>
  ({
    op: 'user.create',
    id,
    status: 'active',
    verifiedEmail: null,
    contactEmail: null,
    attributes: {},
    at,
    ...parts,
  }) as const

export const asserted: Asserted = {
  email: 'alice@acme.example',
  emailVerified: 'yes',
  profile: { name: 'Alice', title: 'Head of "Everything"' },
  groups: { kind: 'listed', values: ['admins', 'ž 漢'] },
}

export const invitationCreate = (
  id: string,
  parts: Partial<Extract<Operation, { op: 'invitation.create' }>> = {},
) =>
  ({
    op: 'invitation.create',
    id,
    organization: 'acme',
    email: 'erin@acme.example',
    role: 'member',
    at,
    expiresAt: at + 1_000,
    ...parts,
  }) as const

/** Two organizations and their connections; nobody yet. */
export async function foundation(store: Store): Promise<void> {
  await store.migrate()
  await landed(
    store.commit(
      change('foundation', {
        ops: [
          organizationPut('acme', { seatLimit: 5 }),
          organizationPut('globex'),
          connectionPut('acme-saml', 'acme'),
          connectionPut('globex-oidc', 'globex'),
        ],
      }),
    ),
  )
}

/**
 * Alice, owner in acme and suspended in globex; Bob, member of acme; Carol and Dave, who both only say that
 * carol@acme.example is theirs; two invitations that are pending and one that is taken; somebody who was removed;
 * globex with its connection kept in the store, owner of a domain.
 */
export async function world(store: Store): Promise<void> {
  await foundation(store)
  const ops: Operation[] = [
    organizationPut('globex', { kept: { entry: '{"name":"globex"}', domains: ['globex.example'] } }),
    connectionPut('globex-oidc', 'globex', { kept: { entry: '{"id":"globex-oidc"}' } }),
    userCreate('alice', {
      verifiedEmail: 'alice@acme.example',
      contactEmail: 'private@alice.example',
      attributes: { name: 'Alice', title: 'Head of "Everything"' },
    }),
    { op: 'identity.link', user: 'alice', ...saml, subject: 'alice', at },
    { op: 'identity.link', user: 'alice', ...github, subject: '4711', at },
    { op: 'identity.assert', user: 'alice', ...github, subject: '4711', digest: 'of alice', asserted },
    { op: 'membership.create', user: 'alice', organization: 'acme', status: 'active', seat: true, at },
    { op: 'membership.create', user: 'alice', organization: 'globex', status: 'suspended', seat: false, at },
    {
      op: 'grant.add',
      user: 'alice',
      organization: 'acme',
      role: 'owner',
      source: 'manual',
      basis: 'person',
      at,
    },
    {
      op: 'grant.add',
      user: 'alice',
      organization: 'acme',
      role: 'member',
      source: 'sso:acme-saml',
      basis: 'default',
      at,
    },
    {
      op: 'grant.add',
      user: 'alice',
      organization: 'globex',
      role: 'member',
      source: 'domain',
      basis: 'default',
      at,
    },
    { op: 'tombstone.put', user: 'alice', organization: 'acme', role: 'admin', at },
    { op: 'tombstone.put', user: 'alice', organization: 'initech', role: null, at },
    userCreate('bob', { verifiedEmail: 'bob@acme.example', contactEmail: 'carol@acme.example' }),
    { op: 'identity.link', user: 'bob', ...saml, subject: 'bob', at },
    { op: 'membership.create', user: 'bob', organization: 'acme', status: 'active', seat: true, at },
    userCreate('carol', { contactEmail: 'carol@acme.example' }),
    userCreate('dave', { contactEmail: 'carol@acme.example', status: 'suspended' }),
    { op: 'removed.put', hash: 'hash of zoe', at },
    invitationCreate('pending'),
    invitationCreate('unwanted', { organization: 'globex', at: at - 1 }),
    invitationCreate('taken', { email: 'alice@acme.example' }),
  ]
  await landed(
    store.commit(
      change('world', {
        guards: [
          { guard: 'seats', organization: 'acme', by: 2 },
          { guard: 'owners', organization: 'acme', by: 1 },
        ],
        ops,
        events: [event('world', 0, { type: 'created', user: 'alice', organization: 'acme' })],
      }),
    ),
  )
  await landed(
    store.commit(change('invited', { guards: [{ guard: 'invitation', id: 'taken', user: 'alice' }] })),
  )
}

/** Everything that the reads show of the world and of what a change may have brought into it. */
export async function dump(store: Store, extra: { users?: string[]; emails?: string[] } = {}) {
  const organizations = ['acme', 'globex', 'initech', 'umbrella']
  const { rows: users } = await store.users({ limit: 1000 })
  const { rows: events } = await store.events({ limit: 1000 })
  const ids = [...new Set([...users.map(({ id }) => id), ...(extra.users ?? [])])]
  const identities = users.flatMap((user) => user.identities)
  const emails = users.flatMap((user) => [user.verifiedEmail, user.contactEmail])
  const loads: LoadQuery[] = [
    ...identities.map((identity) => ({ ...nobody, ...identity, organizations })),
    ...[...new Set([...emails, ...(extra.emails ?? [])])].map((email) => ({ email, organizations })),
    ...(['acme-saml', 'globex-oidc', 'new'] as const).map((id) => ({
      ...nobody,
      source: `connection:${id}` as const,
      organizations,
    })),
    { ...nobody, hashes: ['hash of zoe', 'new hash'] },
  ]
  const everyOrganization = <T>(ask: (id: string) => Promise<T>) => Promise.all(organizations.map(ask))
  return {
    users,
    events,
    invitations: await everyOrganization((organization) => store.invitations({ organization })),
    asserted: await Promise.all(
      (['connection:acme-saml', 'provider:github'] as const).map((source) =>
        store.asserted({ source, organization: 'acme' }),
      ),
    ),
    trail: {
      unsealed: await store.trail.unsealed(1000),
      sealed: await store.trail.sealed(0, 1000),
      revocations: await store.trail.revocations(0),
    },
    deliveries: await store.outbox.deliveries({ limit: 1000 }),
    entries: {
      organizations: await everyOrganization((id) => store.entries.organization(id)),
      connections: await store.entries.connections('', 1000),
      domains: await Promise.all(
        ['acme.example', 'globex.example'].map((name) => store.entries.domain([name])),
      ),
      changes: await store.entries.changes(0),
    },
    records: await Promise.all(ids.map((id) => store.user(id))),
    snapshots: await Promise.all(loads.map((query) => store.load(query))),
  }
}
