import { randomUUID } from 'node:crypto'
import {
  assertIdentity,
  type Directory,
  type DirectoryInput,
  type Store,
  staticDirectory,
} from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { Client, Pool } from 'pg'
import { planSignIn } from '../lib/plan.js'
import { type ProvisionPorts, provision, signInFacts } from '../lib/provision.js'
import { prepared } from '../test/rig/ports.js'
import { tcpProxy } from '../test/rig/tcp-proxy.js'
import { count, micro, percentile, ratio, table } from './figures.js'

// What later sign-ins cost when the IdP sends many groups: the planner alone, and round trips on the wire.
// DATABASE_URL (postgres://postgres@127.0.0.1:5432/postgres); see README.md.

const sizes = [1, 1_000, 10_000]
const rounds = 300
const wrong: string[] = []
const expected = (what: string, fact: boolean) => {
  if (!fact) wrong.push(what)
}

/** An organization with this many roles, each mapped from a group of its own. */
const directoryOf = (roles: number): DirectoryInput => {
  const names = Array.from({ length: roles }, (_, n) => `role-${n}`)
  return {
    organizations: [{ id: 'o', name: 'O', roles: names, domains: ['o.example'] }],
    connections: [
      {
        id: 'c',
        organization: 'o',
        protocol: 'oidc',
        issuer: 'https://idp.example',
        clientId: 'c',
        clientAuthentication: 'none',
        attributes: { email: 'email', groups: 'groups' },
        groups: { map: Object.fromEntries(names.map((role) => [`group of ${role}`, [role]])) },
      },
    ],
  }
}

const groupsOf = (size: number, roles: number) =>
  Array.from({ length: size }, (_, n) => (n < roles ? `group of role-${n}` : `unmapped group ${n}`))

async function identity(directory: Directory, groups: readonly string[], subject = 's') {
  return assertIdentity({
    source: 'connection:c',
    sourceVersion: (await directory.connection('c'))!.version,
    issuer: 'https://idp.example',
    subject,
    email: `${subject}@o.example`,
    groups: { kind: 'listed', values: groups },
    at: Date.now(),
  })
}

/** Median milliseconds of planning one sign-in over and over, on facts read once. */
async function planning(ports: ProvisionPorts, groups: readonly string[], subject: string): Promise<number> {
  const signIn = await signInFacts(ports, await identity(ports.directory, groups, subject))
  const times: number[] = []
  // A server plans with warm code.
  for (let round = 0; round < rounds; round++) planSignIn(signIn)
  for (let round = 0; round < rounds; round++) {
    const began = performance.now()
    planSignIn(signIn)
    times.push(performance.now() - began)
  }
  return percentile(times, 0.5)
}

const url = process.env.DATABASE_URL ?? 'postgres://postgres@127.0.0.1:5432/postgres'
const schema = `jit_bench_${randomUUID().replaceAll('-', '').slice(0, 16)}`
const target = new URL(url)
const proxy = await tcpProxy({ host: target.hostname, port: Number(target.port || 5432) })
const pool = new Pool({ connectionString: proxy.through(target.href), max: 1 }).on('error', () => {})

/** Round trips of one sign-in, and the median milliseconds of its like. */
async function signIns(ports: ProvisionPorts, people: readonly (readonly [string, readonly string[]])[]) {
  const times: number[] = []
  let trips = 0
  for (const [subject, groups] of people) {
    const who = await identity(ports.directory, groups, subject)
    proxy.resetCounters()
    const began = performance.now()
    await provision(ports, who)
    times.push(performance.now() - began)
    trips = proxy.roundTrips
  }
  return { trips, time: percentile(times, 0.5) }
}

try {
  const store: Store = postgresStore({ pool, schema })
  const mapped = 1_000
  const directory = staticDirectory(directoryOf(mapped))
  const ports = await prepared(store, directory)
  const rows: string[][] = []
  const base = { first: 0, again: 0 }
  for (const size of sizes) {
    const groups = groupsOf(size, mapped)
    const first = await planning(ports, groups, `planned-${size}`)
    const people = Array.from({ length: 3 }, (_, n) => [`p${size}-${n}`, groups] as const)
    // The first one prepares the statements.
    await signIns(ports, [[`warm-${size}`, groups]])
    const created = await signIns(ports, people)
    const again = await planning(ports, groups, `p${size}-0`)
    const returning = await signIns(ports, [...people, ...people, ...people])
    base.first ||= created.time
    base.again ||= returning.time
    rows.push(
      [
        `${size}`,
        'first',
        micro(first),
        count(created.trips),
        micro(created.time),
        ratio(created.time, base.first),
      ],
      [
        `${size}`,
        'unchanged',
        micro(again),
        count(returning.trips),
        micro(returning.time),
        ratio(returning.time, base.again),
      ],
    )
    expected(
      `${size} groups, first: ${created.trips} round trips, not a read and a commit`,
      created.trips === 2,
    )
    expected(`${size} groups, unchanged: ${returning.trips} round trips, not one read`, returning.trips === 1)
    if (size <= mapped) {
      expected(`${size} groups, first: the planner takes ${first} ms, not under 1`, first < 1)
      expected(`${size} groups, unchanged: the planner takes ${again} ms, not under 1`, again < 1)
    }
  }
  console.log(`\nGroups of an answer, ${mapped} roles mapped; the baseline is an answer with one group\n`)
  console.log(table(['groups', 'sign-in', 'planner p50', 'round trips', 'whole p50', 'ratio'], rows))
} finally {
  await pool.end()
  await proxy.close()
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query(`drop schema if exists ${schema} cascade`)
  await client.end()
}
for (const sentence of wrong) console.error(`✗ ${sentence}`)
if (wrong.length === 0)
  console.log(
    '\n✓ planned in under a millisecond, one commit where something changed, one read where nothing did',
  )
process.exitCode = wrong.length > 0 ? 1 : 0
