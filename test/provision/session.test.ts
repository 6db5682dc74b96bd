import { type DirectoryInput, type Operation, type Source, type Store, staticDirectory } from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { beforeEach, expect, test } from 'vitest'
import { sessionUser } from '../../lib/session.js'
import { directoryInput } from '../tables/facts.js'

let store: Store

beforeEach(async () => {
  store = memoryStore()
  const organization = { op: 'organization.put', version: 'v', status: 'active', seatLimit: null } as const
  const result = await store.commit({
    id: 'scene',
    expect: [],
    guards: [],
    events: [],
    ops: [
      { ...organization, id: 'o', name: 'O' },
      { ...organization, id: 'p', name: 'P' },
      { op: 'connection.put', id: 'c', organization: 'o', version: 'v', enabled: true },
      {
        op: 'user.create',
        id: 'u',
        status: 'active',
        verifiedEmail: 'u@o.example',
        contactEmail: null,
        attributes: {},
        at: 1,
      },
      { op: 'identity.link', user: 'u', source: 'connection:c', issuer: 'i', subject: 's', at: 1 },
      { op: 'membership.create', user: 'u', organization: 'o', status: 'active', seat: true, at: 1 },
      {
        op: 'grant.add',
        user: 'u',
        organization: 'o',
        role: 'member',
        source: 'sso:c',
        basis: 'default',
        at: 1,
      },
      { op: 'membership.create', user: 'u', organization: 'p', status: 'active', seat: true, at: 1 },
      {
        op: 'grant.add',
        user: 'u',
        organization: 'p',
        role: 'member',
        source: 'manual',
        basis: 'person',
        at: 1,
      },
    ],
  })
  expect(result).toEqual({ committed: true })
})

const read = (via: Source, change: Partial<DirectoryInput> = {}) => {
  const directory = staticDirectory({
    ...directoryInput,
    email: { enabled: true },
    ...change,
  } as DirectoryInput)
  const jit = {
    outcome: 'unchanged',
    reason: 'identity_known',
    joined: [],
    granted: [],
    revoked: [],
    decision: null,
    correlationId: 'x',
  } as const
  return sessionUser(store, directory, { id: 'u', via, epochs: { user: 0, connection: 0 }, jit })
}
const active = async (...call: Parameters<typeof read>) =>
  (await read(...call))?.memberships.filter((entry) => entry.active).map((entry) => entry.organization)

test('grants from SSO count only in a session that came through that organization’s SSO, all others in any', async () => {
  expect(await active('connection:c')).toEqual(['o', 'p'])
  expect(await active('provider:email')).toEqual(['p'])
})

test('an organization that requires SSO counts in no other session', async () => {
  const organizations = structuredClone(directoryInput.organizations) as DirectoryInput['organizations']
  organizations[1]!.requireSso = true
  expect(await active('provider:email', { organizations })).toEqual([])
  expect(await active('connection:c', { organizations })).toEqual(['o'])
})

test.each<[string, Source, Partial<DirectoryInput>]>([
  ['a provider that was switched off', 'provider:email', { email: { enabled: false } }],
  ['a provider that never was', 'provider:other', {}],
  ['a connection that was removed', 'connection:c', { connections: [] }],
  ['a connection that never was', 'connection:other', {}],
])('a session by %s has ended', async (_, via, change) => {
  expect(await read(via, change)).toBeNull()
})

const change = async (op: Operation) => {
  const result = await store.commit({ id: 'change', expect: [], guards: [], ops: [op], events: [] })
  expect(result).toEqual({ committed: true })
}
const membership = { op: 'membership.update', user: 'u', organization: 'o' } as const

test('a suspended membership ends the sessions through its organization’s connection, and no other', async () => {
  expect(await active('connection:c')).toEqual(['o', 'p'])
  await change({ ...membership, status: 'suspended', seat: false })
  expect(await read('connection:c')).toBeNull()
  expect(await active('provider:email')).toEqual(['p'])
})

test('a suspended membership of another organization ends no session, and does not count', async () => {
  await change({ ...membership, organization: 'p', status: 'suspended', seat: false })
  expect(await active('connection:c')).toEqual(['o'])
})

test('a membership without a seat does not count, and ends no session', async () => {
  await change({ ...membership, status: 'active', seat: false })
  expect(await active('connection:c')).toEqual(['p'])
  await change({ ...membership, status: 'active', seat: true })
  expect(await active('connection:c')).toEqual(['o', 'p'])
})

const suspend = (id: string) =>
  change({ op: 'organization.put', id, name: id, version: 'w', seatLimit: null, status: 'suspended' })

test('P10: a suspended organization ends the sessions through its connection, and no other', async () => {
  const to = { op: 'grant.add', user: 'u', organization: 'o', role: 'viewer', source: 'manual' } as const
  await change({ ...to, basis: 'person', at: 1 })
  expect(await active('connection:c')).toEqual(['o', 'p'])
  expect(await active('provider:email')).toEqual(['o', 'p'])
  await suspend('o')
  expect(await read('connection:c')).toBeNull()
  expect(await active('provider:email')).toEqual(['p'])
})

test('P10: another suspended organization ends no session, and does not count', async () => {
  await suspend('p')
  expect(await active('connection:c')).toEqual(['o'])
})

test('P10: the directory too ends the sessions through a suspended organization’s connection, of members or not', async () => {
  const organizations = structuredClone(directoryInput.organizations) as DirectoryInput['organizations']
  organizations[0]!.status = 'suspended'
  expect(await read('connection:c', { organizations })).toBeNull()
  expect(await active('provider:email', { organizations })).toEqual(['p'])
  await change({ op: 'membership.remove', user: 'u', organization: 'o' })
  expect(await active('connection:c')).toEqual(['p'])
  expect(await read('connection:c', { organizations })).toBeNull()
})

test('N04: a suspended membership does not count, whoever left it its seat', async () => {
  await change({ ...membership, organization: 'p', status: 'suspended', seat: true })
  expect(await active('connection:c')).toEqual(['o'])
})

test('P10: an organization that the directory has suspended does not count, although the store knows nothing of it', async () => {
  const organizations = structuredClone(directoryInput.organizations) as DirectoryInput['organizations']
  organizations[1]!.status = 'suspended'
  expect(await active('connection:c', { organizations })).toEqual(['o'])
})

test('all of it is one read', async () => {
  const inner = store
  const calls: string[] = []
  store = new Proxy(inner, {
    get: (target, name: keyof Store) => {
      calls.push(name)
      return target[name]
    },
  })
  expect(await active('connection:c')).toEqual(['o', 'p'])
  expect(calls).toEqual(['user'])
})
