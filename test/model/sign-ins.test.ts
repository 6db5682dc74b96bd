import { createHmac } from 'node:crypto'
import {
  assertIdentity,
  type ChangeSet,
  type DirectoryInput,
  JitError,
  type Store,
  staticDirectory,
} from 'passport-jit'
import { memoryStore } from 'passport-jit/stores/memory'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Provisioned, provision } from '../../lib/provision.js'
import { everyEvent, everyUser, replay, told } from '../property/replay.js'
import { prepared } from '../rig/ports.js'
import { type End, explore, type Process, type Scenario } from './explore.js'

// The same ids in every run, so that equal states are seen to be equal.
const ids = vi.hoisted(() => ({ next: (): string => 'unset' }))
vi.mock('node:crypto', async (original) => ({
  ...(await original<typeof import('node:crypto')>()),
  randomUUID: () => ids.next(),
}))

beforeEach(() => {
  // Between two tries nobody waits: the order of steps is what is searched, not their pace.
  vi.spyOn(Math, 'random').mockReturnValue(0)
})
afterEach(() => {
  vi.restoreAllMocks()
})

const idp = `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example"/>`
const organizations = ['o', 'p']

const config = (seatLimit: number | null): DirectoryInput => ({
  organizations: [
    { id: 'o', name: 'O', roles: ['owner', 'member'], domains: ['o.example'], seatLimit },
    {
      id: 'p',
      name: 'P',
      roles: ['owner', 'member'],
      domains: ['p.example'],
      domainJit: { enabled: true, roles: ['member'], existingUsers: true },
    },
  ],
  connections: ['one', 'two'].map((id) => ({
    id,
    organization: 'o',
    protocol: 'saml' as const,
    idpMetadata: idp,
    jit: { roles: ['member'] },
  })),
  email: { enabled: true },
})

interface SignIn {
  readonly source: 'connection:one' | 'connection:two' | 'provider:email'
  readonly subject: string
  readonly email: string
}

type Result = Provisioned

const key = 'the same in every run'
const hash = (value: string) => createHmac('sha256', key).update(value).digest('base64url')

/** A sign-in as a process of the search; its ids follow from its number. */
async function scenario(signIns: readonly SignIn[], seatLimit: number | null, mishaps: number) {
  const directory = staticDirectory(config(seatLimit))
  const processes = await Promise.all(
    signIns.map(async ({ source, subject, email }, number): Promise<Process<Result>> => {
      const [kind, id] = source.split(':') as ['connection' | 'provider', string]
      const entry = kind === 'connection' ? await directory.connection(id) : await directory.provider(id)
      const identity = assertIdentity({
        source,
        sourceVersion: entry!.version,
        issuer: 'https://idp.example',
        subject,
        email,
        emailVerified: kind === 'connection' ? 'unstated' : 'yes',
        at: 1,
      })
      return async ({ store, lock }) => {
        let own = 0
        ids.next = () => `${number}-${own++}`
        const ports = {
          store,
          lock,
          directory,
          now: () => 1,
          hash: async () => hash,
          onConflict: null,
          warn: () => {},
        }
        return (await provision(ports, identity)) as Result
      }
    }),
  )
  const always = async (store: Store) => {
    const users = await everyUser(store)
    const broken: string[] = []
    const emails = users.flatMap(({ verifiedEmail }) => verifiedEmail ?? [])
    if (new Set(emails).size < emails.length) broken.push('two users with one verified address')
    const members = users.flatMap(({ memberships }) =>
      memberships.filter(({ organization }) => organization === 'o'),
    )
    const { organizations: counted } = await store.load({ email: null, organizations: ['o'] })
    if (members.length !== counted[0]!.seatsUsed)
      broken.push(`${counted[0]!.seatsUsed} seats for ${members.length}`)
    if (seatLimit !== null && members.length > seatLimit)
      broken.push(`${members.length} members, ${seatLimit} seats`)
    for (const { id, identities } of users) {
      const lonely = identities.length === 0 && !signIns.some(({ source }) => source === 'provider:email')
      if (lonely) broken.push(`${id} has no identity`)
    }
    const [trail, kept] = [replay(await everyEvent(store)), await told(store, organizations)]
    if (JSON.stringify(ordered(trail)) !== JSON.stringify(ordered(kept)))
      broken.push('the trail tells another state')
    return broken
  }
  const puts: ChangeSet[] = []
  const fresh = memoryStore()
  await prepared(
    {
      ...fresh,
      commit: (changes) => {
        puts.push(changes)
        return fresh.commit(changes)
      },
    },
    directory,
  )
  return {
    begin: async () => {
      const store = memoryStore()
      for (const changes of puts) await store.commit(changes)
      return { ...store, hashKey: async () => key }
    },
    processes,
    state: async (store) => JSON.stringify([await everyUser(store), await everyEvent(store)]),
    always,
    finally: async (store, ends) => {
      const users = await everyUser(store)
      const wanted = new Set(signIns.map(({ email }) => email))
      const broken = ends.flatMap((end, number) => outcome(end, number, seatLimit, wanted.size))
      for (const email of wanted) {
        const of = users.filter((user) => user.verifiedEmail === email)
        const returned = ends.flatMap((end, number) =>
          end.kind === 'returned' && signIns[number]!.email === email ? [end.value.after.user.id] : [],
        )
        if (returned.some((id) => id !== of[0]?.id)) broken.push(`${email} was told another account`)
      }
      return broken
    },
    mishaps,
  } satisfies Scenario<Result>
}

function outcome(end: End<Result>, number: number, seatLimit: number | null, people: number): string[] {
  if (end.kind !== 'threw') return []
  const full = end.error instanceof JitError && end.error.code === 'seats_full'
  return full && seatLimit !== null && people > seatLimit ? [] : [`${number} threw ${end.error}`]
}

const ordered = (value: unknown): unknown =>
  typeof value !== 'object' || value === null || Array.isArray(value)
    ? value
    : Object.fromEntries(
        Object.entries(value)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, entry]) => [key, ordered(entry)]),
      )

const ann = { subject: 'ann', email: 'ann@o.example' } as const
const bob = { subject: 'bob', email: 'bob@o.example' } as const
const cy = { subject: 'cy', email: 'cy@o.example' } as const

const [one, two] = ['connection:one', 'connection:two'] as const
const dee = { source: 'provider:email', subject: 'dee@p.example', email: 'dee@p.example' } as const
const thorough = process.env.MODEL === 'thorough'

interface Case {
  readonly name: string
  readonly signIns: readonly SignIn[]
  readonly seatLimit?: number
  readonly mishaps: number
  /** How many get in where nobody is killed. */
  readonly enter: number
}

const cases: Case[] = [
  { name: 'one sign-in', signIns: [{ source: one, ...ann }], mishaps: 3, enter: 1 },
  {
    name: 'two of one person by one connection',
    signIns: [
      { source: one, ...ann },
      { source: one, ...ann },
    ],
    mishaps: thorough ? 2 : 1,
    enter: 2,
  },
  {
    name: 'two of one person by two connections',
    signIns: [
      { source: one, ...ann },
      { source: two, ...ann },
    ],
    mishaps: thorough ? 2 : 1,
    enter: 2,
  },
  { name: 'two of one person by e-mail domain', signIns: [dee, dee], mishaps: thorough ? 2 : 1, enter: 2 },
  {
    name: 'two people for one seat',
    signIns: [
      { source: one, ...ann },
      { source: one, ...bob },
    ],
    seatLimit: 1,
    mishaps: thorough ? 2 : 1,
    enter: 1,
  },
  {
    name: 'three of one person',
    signIns: [
      { source: one, ...ann },
      { source: one, ...ann },
      { source: two, ...ann },
    ],
    mishaps: thorough ? 1 : 0,
    enter: 3,
  },
  {
    name: 'three people for two seats',
    signIns: [
      { source: one, ...ann },
      { source: one, ...bob },
      { source: two, ...cy },
    ],
    seatLimit: 2,
    mishaps: thorough ? 1 : 0,
    enter: 2,
  },
]

describe('Every order of the steps of sign-ins, with kills, expired locks and lost answers between them', () => {
  test.each(cases)(
    '$name, $mishaps mishaps',
    async ({ signIns, seatLimit, mishaps, enter }) => {
      const found = await explore(await scenario(signIns, seatLimit ?? null, mishaps))
      const peaceful = [...found.ends.keys()].filter((ends) => !ends.includes('killed'))
      // Without anybody killed, as many get in as there is room for, in whatever order; none of it goes unsearched.
      expect(peaceful.length).toBeGreaterThan(0)
      for (const ends of peaceful) expect(ends.match(/returned/g)).toHaveLength(enter)
      expect(found.ends.size > peaceful.length).toBe(mishaps > 0)
      expect(found.states).toBeGreaterThan(5 ** (signIns.length - 1))
    },
    600_000,
  )
})
