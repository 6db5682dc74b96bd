import assert from 'node:assert/strict'
import type { AuditEvent, ChangeSet, CommitResult, LoadQuery, Operation, Store } from 'passport-jit'

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

export const nobody: LoadQuery = {
  source: 'provider:none',
  issuer: 'none',
  subject: 'none',
  email: null,
  organizations: [],
}

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
 * Alice, owner in acme and member of globex; Bob, member of acme; Carol and Dave, who both only say that
 * carol@acme.example is theirs; an invitation that is pending and one that is taken; globex with its connection
 * kept in the store, owner of a domain.
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
    { op: 'membership.create', user: 'alice', organization: 'acme', status: 'active', at },
    { op: 'membership.create', user: 'alice', organization: 'globex', status: 'suspended', at },
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
    { op: 'membership.create', user: 'bob', organization: 'acme', status: 'active', at },
    userCreate('carol', { contactEmail: 'carol@acme.example' }),
    userCreate('dave', { contactEmail: 'carol@acme.example', status: 'suspended' }),
    {
      op: 'invitation.create',
      id: 'pending',
      organization: 'acme',
      email: 'erin@acme.example',
      role: 'member',
      at,
    },
    {
      op: 'invitation.create',
      id: 'taken',
      organization: 'acme',
      email: 'alice@acme.example',
      role: 'member',
      at,
    },
  ]
  await landed(
    store.commit(
      change('world', {
        guards: [
          { guard: 'seats', organization: 'acme', by: 2 },
          { guard: 'owners', organization: 'acme', by: 1 },
          { guard: 'seats', organization: 'globex', by: 1 },
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
  const loads = [
    ...identities.map((identity) => ({ ...nobody, ...identity, organizations })),
    ...[...new Set([...emails, ...(extra.emails ?? [])])].map((email) => ({
      ...nobody,
      email,
      organizations,
    })),
    ...['acme-saml', 'globex-oidc', 'new'].map(
      (id): LoadQuery => ({ ...nobody, source: `connection:${id}`, organizations }),
    ),
  ]
  return {
    users,
    events,
    entries: {
      organizations: await Promise.all(organizations.map((id) => store.entries.organization(id))),
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
