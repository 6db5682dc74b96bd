import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import session from 'express-session'
import passport from 'passport'
import { createJit, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { samlStrategy } from 'passport-jit/strategies/saml'
import {
  type AnswerTo,
  createSigningKey,
  idpMetadata,
  readRequest,
  type SigningKey,
} from '../examples/identity-providers/saml.js'
import { forge, posted } from '../test/rig/saml-answer.js'
import { costly } from '../test/rig/saml-load.js'
import { heap, percentile, ratio, table } from './figures.js'

// SAML sign-ins while forged answers come in at the limit of their size: with worker threads and in place.
// RATE (50) sign-ins and FLOOD (20) forgeries per second, for SECONDS (10) each; see README.md.

const rate = Number(process.env.RATE ?? 50)
const flood = Number(process.env.FLOOD ?? 20)
const seconds = Number(process.env.SECONDS ?? 10)
const issuer = 'https://idp.acme.example/metadata'

/** What the server measured since it was asked last: lateness of its timers in milliseconds, memory in MB. */
interface Measured {
  readonly late: readonly number[]
  readonly rss: number
}

/** The app, in a process of its own: asked for its figures by any message. */
async function serve(metadata: string, workers: number | undefined) {
  const app = express()
  const server = createServer(app).listen(0, '127.0.0.1')
  // Sockets that the clients keep must not be closed under them.
  server.keepAliveTimeout = 120_000
  await once(server, 'listening')
  const jit = createJit({
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    store: memoryStore(),
    lock: memoryLock(),
    once: memoryOnce(),
    directory: staticDirectory({
      organizations: [{ id: 'acme', name: 'Acme', roles: ['member'], domains: ['acme.example'] }],
      connections: [
        {
          id: 'acme',
          organization: 'acme',
          protocol: 'saml',
          idpMetadata: metadata,
          attributes: { email: 'email' },
          jit: { roles: ['member'] },
        },
      ],
    }),
    strategies: [samlStrategy(workers === undefined ? {} : { workers })],
    log: () => {},
  })
  const instance = new passport.Passport()
  app.use(session({ secret: 'bench', resave: false, saveUninitialized: false }))
  app.use(instance.session() as express.RequestHandler)
  jit.passport(instance as never)
  app.use(jit.routes(), jit.errorPage())
  await jit.ready()
  const step = 5
  let late: number[] = []
  let last = performance.now()
  setInterval(() => {
    const now = performance.now()
    late.push(Math.max(0, now - last - step))
    last = now
  }, step)
  process.on('message', () => {
    process.send!({ late, rss: heap().rss } satisfies Measured)
    late = []
  })
  process.on('disconnect', () => process.exit())
  process.send!((server.address() as AddressInfo).port)
}

type Outcome = 'signed in' | 'refused' | 'shed'

/** A browser's way through one sign-in, with the answer that `make` gives. */
async function signIn(origin: string, make: (to: AnswerTo) => string): Promise<Outcome> {
  const begun = await fetch(`${origin}/auth/sso/acme`, { redirect: 'manual' })
  if (begun.status !== 302) return begun.status === 503 ? 'shed' : 'refused'
  const cookie = begun.headers
    .getSetCookie()
    .map((line) => line.split(';')[0])
    .join('; ')
  const { searchParams } = new URL(begun.headers.get('location')!)
  const to = readRequest(searchParams.get('SAMLRequest')!)!
  const body = `SAMLResponse=${encodeURIComponent(make(to))}&RelayState=${searchParams.get('RelayState')}`
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const answer = await fetch(to.callbackUrl, { method: 'POST', headers, body, redirect: 'manual' })
  await answer.text()
  if (answer.status !== 303) return answer.status === 503 ? 'shed' : 'refused'
  const ended = await fetch(new URL(answer.headers.get('location')!, origin), {
    headers: { cookie },
    redirect: 'manual',
  })
  await ended.text()
  return ended.status === 303 ? 'signed in' : 'refused'
}

/** Starts work at a steady rate, whatever became of the work before. */
async function steadily<T>(
  perSecond: number,
  work: () => Promise<T>,
): Promise<{ result: T; took: number }[]> {
  const all: Promise<{ result: T; took: number }>[] = []
  const began = performance.now()
  for (let count = 0; count < perSecond * seconds; count++) {
    await sleep(Math.max(0, began + (count * 1000) / perSecond - performance.now()))
    const start = performance.now()
    all.push(work().then((result) => ({ result, took: performance.now() - start })))
  }
  return Promise.all(all)
}

function answers(key: SigningKey) {
  const person = { id: 'alice-1', email: 'alice@acme.example', name: 'Alice', groups: [] }
  const genuine = (to: AnswerTo) => posted(forge({ issuer, person, to, signing: { key } }))
  // Signed for another sign-in: everything but the signature is as it should be.
  const forgeries = new Map<string, string>()
  const forged = (to: AnswerTo) => {
    const pattern =
      forgeries.get(to.callbackUrl) ??
      forge({
        issuer,
        person,
        to: { ...to, requestId: 'REQUEST' },
        signing: { key },
        after: [costly({ padding: 480_000 })],
      })
    forgeries.set(to.callbackUrl, pattern)
    return posted(pattern.replaceAll('REQUEST', to.requestId!))
  }
  return { genuine, forged }
}

async function run(name: string, workers: number | undefined, key: SigningKey) {
  const metadata = idpMetadata(issuer, 'https://idp.acme.example/sso', [key.certificate])
  const child = fork(import.meta.filename, ['serve', metadata, String(workers ?? '')], {
    execArgv: ['--expose-gc'],
  })
  try {
    const [port] = (await once(child, 'message')) as [number]
    const origin = `http://127.0.0.1:${port}`
    const measured = async () => {
      child.send('measure')
      const [told] = (await once(child, 'message')) as [Measured]
      return told
    }
    const { genuine, forged } = answers(key)
    const phase = async (perSecond: number) => {
      await measured()
      const [sign, attack] = await Promise.all([
        steadily(rate, () => signIn(origin, genuine)),
        steadily(perSecond, () => signIn(origin, forged)),
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
    await phase(0)
    const calm = await phase(0)
    const attacked = await phase(flood)
    const again = await phase(flood)
    return { name, calm, attacked, again }
  } finally {
    child.disconnect()
    await once(child, 'exit')
  }
}

if (process.argv[2] === 'serve') {
  await serve(process.argv[3]!, process.argv[4] ? Number(process.argv[4]) : undefined)
} else {
  const key = await createSigningKey('idp.acme.example')
  const runs = [await run('threads', undefined, key), await run('in place', 0, key)]
  const ms = (value: number) => `${value.toFixed(1)} ms`
  console.log(`\n${rate} sign-ins per second, alone and beside ${flood} forged answers per second\n`)
  console.log(
    table(
      [
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
      ],
      runs.map(({ name, calm, attacked, again }) => [
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
      ]),
    ),
  )
  const wrong: string[] = []
  for (const { name, attacked, again } of runs) {
    if (attacked.entered + again.entered > 0) wrong.push(`${name}: a forged answer signed somebody in`)
  }
  const { calm, attacked, again } = runs[0]!
  const lost = calm.failed + attacked.failed + again.failed
  if (lost > 0) wrong.push(`threads: ${lost} genuine sign-ins were refused`)
  if (attacked.late > 3 * calm.late) wrong.push('threads: the event loop is more than three times as late')
  if (again.rss > attacked.rss * 1.2 + 20) wrong.push('threads: memory grows with the attack')
  for (const sentence of wrong) console.error(`✗ ${sentence}`)
  if (wrong.length === 0) console.log('\n✓ no sign-in lost, event loop in time, memory bounded')
  process.exitCode = wrong.length > 0 ? 1 : 0
}
