import { randomUUID } from 'node:crypto'
import { type Directory, type StoreDirectory, staticDirectory, storeDirectory } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { Client, Pool } from 'pg'
import { importTenants, lookups, scans, tenants, watched } from '../test/directory/tenants.js'
import { tcpProxy } from '../test/rig/tcp-proxy.js'
import { count, grouped, heap, micro, milli, mulberry, percentile, ratio, table } from './figures.js'

// Tenants in PostgreSQL: what a lookup costs with many of them, against few and against a file in memory.
// TENANTS (100,000), DATABASE_URL (postgres://postgres@127.0.0.1:5432/postgres); see README.md.

const many = Number(process.env.TENANTS ?? 100_000)
const few = 10
const samples = 1_000
const keys = [{ id: 'bench', key: Buffer.alloc(32, 7).toString('base64') }]
const wrong: string[] = []
const expected = (what: string, fact: boolean) => {
  if (!fact) wrong.push(what)
}

const url = process.env.DATABASE_URL ?? 'postgres://postgres@127.0.0.1:5432/postgres'
const name = `jit_bench_${randomUUID().replaceAll('-', '').slice(0, 16)}`
const administer = async (sql: string) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query(sql).finally(() => client.end())
}

/** One world of tenants, reached through a proxy that counts. */
async function world(schema: string, size: number) {
  const target = new URL(url)
  target.pathname = `/${name}`
  const proxy = await tcpProxy({ host: target.hostname, port: Number(target.port || 5432) })
  const pool = new Pool({ connectionString: proxy.through(target.href), max: 4 }).on('error', () => {})
  const statements = watched(pool)
  const store = postgresStore({ pool, schema })
  let asked = 0
  const entries: typeof store.entries = {
    ...store.entries,
    changes: (after) => {
      asked += 1
      return store.entries.changes(after)
    },
  }
  const open = () => storeDirectory({ store: { ...store, entries }, keys })
  const began = performance.now()
  await importTenants(open(), size)
  const imported = performance.now() - began
  await pool.query('analyze')
  /** Round trips of some work, the question for changes aside. */
  const reads = async (work: () => Promise<unknown>) => {
    proxy.resetCounters()
    asked = 0
    await work()
    return proxy.roundTrips - asked
  }
  const close = async () => {
    await pool.end()
    await proxy.close()
  }
  return { size, pool, store, statements, open, reads, imported, close }
}

type World = Awaited<ReturnType<typeof world>>
type Look = (directory: StoreDirectory, n: number) => Promise<unknown>

/** Milliseconds of each lookup, and round trips per lookup. */
async function measure({ size, open, reads }: World, look: Look, next: () => number) {
  const times: number[] = []
  let trips = 0
  while (times.length < samples) {
    const directory = open()
    await directory.refresh()
    const some = new Set(Array.from({ length: Math.min(size, samples) }, () => Math.floor(next() * size)))
    trips += await reads(async () => {
      for (const n of some) {
        const began = performance.now()
        await look(directory, n)
        times.push(performance.now() - began)
      }
    })
  }
  return { times, trips: trips / times.length }
}

async function warm(directory: Directory, look: Look, reads: World['reads'] | null) {
  const kept = directory as StoreDirectory
  await look(kept, 1)
  const times: number[] = []
  const work = async () => {
    for (let turn = 0; turn < samples * 10; turn++) {
      const began = performance.now()
      await look(kept, 1)
      times.push(performance.now() - began)
    }
  }
  const trips = reads ? await reads(work) : await work().then(() => 0)
  return { times, trips: trips / times.length }
}

await administer(`create database ${name}`)
const worlds: World[] = []
try {
  const small = await world('few', few)
  worlds.push(small)
  const large = await world('many', many)
  worlds.push(large)
  const file = staticDirectory(tenants(0, few))
  console.log(
    `\n${grouped(many)} tenants imported in ${milli(large.imported)}, ${few} in ${milli(small.imported)}`,
  )

  const rows: string[][] = []
  for (const [kind, look] of Object.entries(lookups)) {
    // The first pass prepares the statements and fills the server's caches.
    await measure(small, look, mulberry(1))
    const base = await measure(small, look, mulberry(2))
    await measure(large, look, mulberry(1))
    const cold = await measure(large, look, mulberry(2))
    const memory = await warm(file, look, null)
    const hot = await warm(large.open(), look, large.reads)
    const half = percentile(cold.times, 0.5)
    rows.push(
      [
        kind,
        'cold',
        micro(percentile(base.times, 0.5)),
        micro(half),
        micro(percentile(cold.times, 0.99)),
        ratio(half, percentile(base.times, 0.5)),
        count(cold.trips),
      ],
      [
        kind,
        'warm',
        micro(percentile(memory.times, 0.5)),
        micro(percentile(hot.times, 0.5)),
        micro(percentile(hot.times, 0.99)),
        ratio(percentile(hot.times, 0.5), percentile(memory.times, 0.5)),
        count(hot.trips),
      ],
    )
    expected(`${kind}: cold costs ${cold.trips} round trips, not 1`, cold.trips === 1)
    expected(`${kind}: warm costs ${hot.trips} round trips, not 0`, hot.trips === 0)
  }
  console.log(
    `\nLookups; the baseline is ${few} tenants: cold in the database too, warm in a static directory\n`,
  )
  console.log(
    table(['lookup', '', 'baseline p50', `${grouped(many)} p50`, 'p99', 'ratio', 'round trips'], rows),
  )

  const directory = large.open()
  await directory.rotate()
  await directory.import(tenants(many - 1, 1))
  await large.store.entries.changes(2 * many - 100)
  const plans: string[][] = []
  for (const statement of ['domain', 'entry', 'entries', 'known', 'changes']) {
    const found = await scans(large.pool, large.statements.get(statement)!)
    plans.push([statement, [...new Set(found)].join(', ')])
    const sequential = found.filter((scan) => /^Seq Scan (?!jit_entries_position)/.test(scan))
    expected(`${statement}: ${sequential.join(', ')}`, sequential.length === 0)
  }
  console.log('\nHow the server finds the rows (EXPLAIN)\n')
  console.log(table(['statement', 'scans'], plans))

  const sizes: string[][] = []
  const bounded = large.open()
  const begin = heap()
  const grown: number[] = []
  let done = 0
  for (const part of [0.25, 0.5, 1]) {
    const step = Math.floor(many * part)
    const ask = async () => {
      while (done < step) await bounded.domain(`tenant${done++}.example`)
    }
    await Promise.all([ask(), ask(), ask(), ask()])
    const now = heap()
    grown.push(now.heap - begin.heap)
    sizes.push([
      grouped(step),
      `${grown.at(-1)!.toFixed(1)} MB`,
      `${begin.rss.toFixed(0)} → ${now.rss.toFixed(0)} MB`,
    ])
  }
  expected(
    `memory grows from ${grown[1]} to ${grown[2]} MB with the lookups`,
    grown[2]! < grown[1]! * 1.2 + 5,
  )
  console.log('\nMemory after lookups of different tenants\n')
  console.log(table(['lookups', 'heap grown by', 'rss'], sizes))
} finally {
  for (const { close } of worlds) await close()
  await administer(`drop database if exists ${name} with (force)`)
}
for (const sentence of wrong) console.error(`✗ ${sentence}`)
if (wrong.length === 0) console.log('\n✓ one indexed read cold, none warm, memory bounded')
process.exitCode = wrong.length > 0 ? 1 : 0
