import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { percentile, ratio, table } from './figures.js'
import type { Measured, Said, Setup, Told } from './load-app.js'
import { clients, type Outcome, ways } from './load-clients.js'

// Sign-ins of every kind while forged SAML answers come in at the limit of their size: with worker threads and in
// place. RATE (50) sign-ins and FLOOD (20) forgeries per second, for SECONDS (10) each, on PostgreSQL and Redis at
// DATABASE_URL (postgres://postgres@127.0.0.1:5432/postgres) and REDIS_URL (redis://127.0.0.1:6379); see README.md.

const rate = Number(process.env.RATE ?? 50)
const flood = Number(process.env.FLOOD ?? 20)
const seconds = Number(process.env.SECONDS ?? 10)
const url = process.env.DATABASE_URL ?? 'postgres://postgres@127.0.0.1:5432/postgres'
const redis = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'

/** Does something with a database of its own. */
async function withDatabase<T>(work: (database: string, name: string) => Promise<T>): Promise<T> {
  const name = `jit_bench_${randomUUID().replaceAll('-', '').slice(0, 16)}`
  const database = new URL(url)
  database.pathname = `/${name}`
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`create database ${name}`)
    return await work(database.href, name).finally(() => client.query(`drop database ${name} with (force)`))
  } finally {
    await client.end()
  }
}

/** Starts work at a steady rate, whatever became of the work before. */
async function steadily(
  perSecond: number,
  work: (count: number) => Promise<Outcome>,
): Promise<{ result: Outcome; took: number }[]> {
  const all: Promise<{ result: Outcome; took: number }>[] = []
  const began = performance.now()
  for (let count = 0; count < perSecond * seconds; count++) {
    await sleep(Math.max(0, began + (count * 1000) / perSecond - performance.now()))
    const start = performance.now()
    all.push(work(count).then((result) => ({ result, took: performance.now() - start })))
  }
  return Promise.all(all)
}

const run = (name: string, workers: number | null) =>
  withDatabase((database, unique) => measure(name, { workers, database, redis, prefix: `${unique}:` }))

async function measure(name: string, setup: Omit<Setup, 'directory'>) {
  const child = fork(fileURLToPath(new URL('./load-app.js', import.meta.url)), {
    execArgv: ['--expose-gc'],
  })
  const told = <K extends Told['told']>(kind: K) =>
    new Promise<Extract<Told, { told: K }>>((resolve, reject) => {
      const listen = (message: Told) => {
        if (message.told !== kind) return
        child.off('message', listen).off('exit', gone)
        resolve(message as Extract<Told, { told: K }>)
      }
      const gone = () => reject(new Error('the app ended'))
      child.on('message', listen).once('exit', gone)
    })
  const { origin } = await told('address')
  const everybody = await clients(origin)
  try {
    child.on('message', (message: Told) => {
      if (message.told === 'mail') everybody.mailed(message.to, message.text)
    })
    child.send({ ...setup, directory: everybody.directory } satisfies Said)
    await told('ready')
    const measured = (): Promise<Measured> => {
      const answer = told('measured')
      child.send('measure' satisfies Said)
      return answer
    }
    const phase = async (perSecond: number) => {
      await measured()
      const [sign, attack] = await Promise.all([
        steadily(rate, (count) => everybody.signIn(ways[count % ways.length]!)),
        steadily(perSecond, () => everybody.attack()),
      ])
      const { late, rss } = await measured()
      const good = sign.filter(({ result }) => result === 'signed in')
      return {
        rate: good.length / seconds,
        failed: sign.length - good.length,
        took: percentile(
          sign.map(({ took }) => took),
          0.99,
        ),
        late: percentile(late, 0.99),
        entered: attack.filter(({ result }) => result === 'signed in').length,
        shed: attack.filter(({ result }) => result === 'shed').length,
        attacks: attack.length,
        rss,
      }
    }
    // The code is compiled and the connections are open before anything is measured.
    await phase(0)
    const calm = await phase(0)
    const attacked = await phase(flood)
    const again = await phase(flood)
    return { name, calm, attacked, again }
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.disconnect()
    await ended
    await everybody.close()
  }
}

const ms = (value: number) => `${value.toFixed(1)} ms`
const head = [
  '',
  'loop p99 alone',
  'attacked',
  'ratio',
  'sign-ins/s alone',
  'attacked',
  'ratio',
  'p99 alone',
  'attacked',
  'shed',
  'rss',
]
const rowOf = ({ name, calm, attacked, again }: Awaited<ReturnType<typeof run>>) => [
  name,
  ms(calm.late),
  ms(attacked.late),
  ratio(attacked.late, calm.late),
  calm.rate.toFixed(1),
  attacked.rate.toFixed(1),
  ratio(attacked.rate, calm.rate),
  ms(calm.took),
  ms(attacked.took),
  `${attacked.shed} of ${attacked.attacks}`,
  `${calm.rss.toFixed(0)} → ${attacked.rss.toFixed(0)} → ${again.rss.toFixed(0)} MB`,
]
console.log(
  `\n${rate} sign-ins per second (${ways.join(', ')} in turn), alone and beside ${flood} forged answers per second\n`,
)
const runs = [await run('threads', null)]
console.log(table(head, runs.map(rowOf)))
// Each forged answer takes its half second of the loop: this part lasts minutes.
runs.push(await run('in place', 0))
console.log(table(head, runs.slice(1).map(rowOf)))
const wrong: string[] = []
for (const { name, attacked, again } of runs) {
  if (attacked.entered + again.entered > 0) wrong.push(`${name}: a forged answer signed somebody in`)
  if (attacked.shed === attacked.attacks) wrong.push(`${name}: no forged answer was looked at`)
}
const { calm, attacked, again } = runs[0]!
const lost = calm.failed + attacked.failed + again.failed
if (lost > 0) wrong.push(`threads: ${lost} genuine sign-ins were refused`)
if (attacked.late > 3 * calm.late) wrong.push('threads: the event loop is more than three times as late')
if (again.rss > attacked.rss * 1.2 + 20) wrong.push('threads: memory grows with the attack')
for (const sentence of wrong) console.error(`✗ ${sentence}`)
if (wrong.length === 0) console.log('\n✓ no sign-in lost, event loop in time, memory bounded')
process.exitCode = wrong.length > 0 ? 1 : 0
