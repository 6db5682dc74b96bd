import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Client } from 'pg'
import type { Failpoint } from '../rig/failpoints.js'
import type { PrivateServer } from '../rig/services.js'
import type { TcpProxy } from '../rig/tcp-proxy.js'
import { chance, type Fault, storm } from './plan.js'
import type { Place, Scene } from './scene.js'

/** Lets one storm happen, each fault at its time, and waits until all of it is over. */
export async function rage(scene: Scene, faults: readonly Fault[]): Promise<void> {
  const from = performance.now()
  const until = (at: number) => sleep(Math.max(0, from + at - performance.now()))
  // Of two at one place the second waits for the first, which may take longer than it was meant to.
  const lanes = [...new Set(faults.map(({ where }) => where))].map(async (place) => {
    for (const fault of faults.filter(({ where }) => where === place)) {
      await until(fault.at)
      await scene.fault(`${fault.where} ${fault.what}`, () => carryOut(scene, fault))
    }
  })
  await Promise.all([...lanes, until(storm)])
}

async function carryOut(scene: Scene, fault: Fault): Promise<void> {
  const { servers, lines } = scene
  switch (fault.where) {
    case 'Redis':
      return ofRedis(servers.redis, fault)
    case 'PostgreSQL':
      return ofPostgres(servers.postgres, fault)
    case 'Redis line':
      return ofLine(lines.redis, fault)
    case 'PostgreSQL line':
      return ofLine(lines.postgres, fault)
    case 'first app':
      return ofApp(scene, scene.places[0], fault)
    case 'second app':
      return ofApp(scene, scene.places[1], fault)
  }
}

async function ofLine(line: TcpProxy, { what, lasts, chance: seed }: Fault): Promise<void> {
  const { whole } = chance(seed)
  if (what === 'reset') return line.reset()
  if (what === 'delay') line.delay({ toServer: whole(0, 300), toClient: whole(0, 300) })
  if (what === 'stall') line.stall()
  if (what === 'refuse') {
    line.refuse(true)
    line.reset()
  }
  // Of what was asked and done nobody hears: of a commit, of a lock, of a session.
  const match = (bytes: Buffer) => /jit_commit|lock:|once:|sess:/.test(bytes.toString('latin1'))
  if (what === 'swallow') void line.swallowReply(match)
  await sleep(lasts)
  line.delay({})
  line.resume()
  line.refuse(false)
}

async function ofRedis(redis: PrivateServer, { what, lasts }: Fault): Promise<void> {
  if (what === 'flush') {
    const client = new Redis(redis.url)
    await client.flushall()
    client.disconnect()
    return
  }
  await redis.stop(what === 'hang' ? 'SIGSTOP' : 'SIGKILL')
  await sleep(lasts)
  if (what === 'hang') redis.cont()
  else await redis.restart()
}

async function ofPostgres(postgres: PrivateServer, { what, lasts }: Fault): Promise<void> {
  if (what === 'kill') {
    await postgres.stop('SIGKILL')
    await sleep(lasts)
    // Its children may hold its memory a moment longer, and then it does not start.
    return postgres.restart().catch(() => postgres.restart())
  }
  const client = new Client({ connectionString: postgres.url })
  client.on('error', () => {})
  await client.connect()
  const select = what === 'hang' ? 'pid' : 'pg_terminate_backend(pid)'
  const { rows } = await client.query<{ pid: number }>(
    `select ${select} as pid from pg_stat_activity
     where backend_type = 'client backend' and pid <> pg_backend_pid()`,
  )
  await client.end()
  if (what === 'terminate') return
  // The server itself only takes new connections; those that are there each have a process of their own.
  await postgres.stop('SIGSTOP')
  const signal = (name: 'SIGSTOP' | 'SIGCONT') => {
    for (const { pid } of rows) {
      try {
        process.kill(pid, name)
      } catch {
        // It ended meanwhile.
      }
    }
  }
  signal('SIGSTOP')
  await sleep(lasts)
  signal('SIGCONT')
  postgres.cont()
}

const steps = [
  'once.put',
  'once.take',
  'store.load',
  'lock.acquire',
  'store.commit',
  'lease.release',
  'session.get',
  'session.set',
]

async function ofApp(scene: Scene, place: Place, { what, lasts, chance: seed }: Fault): Promise<void> {
  const { app } = place
  if (!app) return
  const { one } = chance(seed)
  const point: Failpoint = {
    step: one(steps) + one(['', '#2', '#3']),
    moment: one(['before', 'during', 'after'] as const),
    signal: what === 'pause at' ? 'SIGSTOP' : 'SIGKILL',
  }
  if (what === 'clock') {
    await app.clock(one([-600_000, -90_000, -20_000, 20_000, 90_000, 600_000]))
    await sleep(lasts)
    return app.clock(0)
  }
  await place.disturb(async () => {
    if (what === 'pause' || what === 'pause at') {
      if (what === 'pause') app.kill('SIGSTOP')
      else await app.arm(point)
      await sleep(lasts)
      const disarmed = app.arm({ step: 'nowhere', moment: 'before' }).then(() => true)
      // It may come by the failpoint once more before it hears of this.
      for (let heard = false; !heard; heard = await Promise.race([disarmed, sleep(200, false)]))
        app.kill('SIGCONT')
      return
    }
    if (what === 'kill at') {
      await app.arm(point)
      // Nobody may come by, where the process cannot do anything at the moment.
      await Promise.race([app.ended, sleep(4_000)])
    }
    app.kill('SIGKILL')
    await app.ended
    place.app = null
    await sleep(lasts)
    await scene.start(place)
  })
}
