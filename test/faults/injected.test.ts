import { Redis } from 'ioredis'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type App, baseUrl, type Person, startApp, type World, world } from '../rig/fleet.js'
import { type Fault, type Injection, injection } from '../rig/injection.js'
import { type Reader, reader, violations } from '../rig/invariants.js'
import { needs, postgres, startRedis } from '../rig/services.js'
import { type TcpProxy, tcpProxy } from '../rig/tcp-proxy.js'
import { arrival, expectUnavailable, signIn, timed } from './visits.js'

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const [database, cache] = await Promise.all([postgres(), startRedis()])

needs('A process with PostgreSQL and Redis', database && cache && { database, cache }, (services) => {
  let scene: World
  let proxy: TcpProxy
  let app: App
  let db: Reader
  /** A session of the test's own, past the proxy. */
  let owner: Client
  let redis: Redis
  let faults: Injection
  let drop: () => Promise<void>
  let url: string
  const start = (through: string) =>
    startApp({
      ...{ baseUrl, directory: scene.directory, redis: services.cache.url },
      store: { kind: 'postgres', url: through, connections: 5 },
    })
  beforeAll(async () => {
    scene = await world()
    const fresh = await services.database.freshDatabase()
    ;({ drop, url } = fresh)
    proxy = await tcpProxy({ port: Number(new URL(url).port || 5432) })
    app = await start(proxy.through(url))
    db = await reader({ kind: 'postgres', url, connections: 1 })
    owner = new Client({ connectionString: url })
    await owner.connect()
    faults = await injection(owner)
    redis = new Redis(services.cache.url)
    await signIn(app, scene.newcomer())
  })
  afterAll(async () => {
    await app.close()
    redis.disconnect()
    await owner.end()
    await db.close()
    await proxy.close()
    await drop()
    await Promise.all([scene.close(), services.cache.close()])
  })

  /** Somebody whose next sign-in has something to write. */
  const paths: Readonly<Record<string, () => Promise<Person>>> = {
    'a first sign-in': async () => scene.newcomer(),
    'a sign-in that links an account': async () => {
      const person = scene.newcomer()
      const user = (await (await signIn(app, person)).me(app))!.id
      const [identity] = await db.select(
        `select source, issuer, subject from jit_identities where user_id = '${user}'`,
      )
      await administer('unlink', { user, identity })
      return person
    },
    'a sign-in that takes a role and sets a name': async () => {
      const person = scene.newcomer()
      await signIn(app, person)
      Object.assign(person, { groups: [], name: 'Another Name' })
      return person
    },
  }
  const administer = async (verb: string, asked: object) => {
    const response = await fetch(`${app.url}/admin`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ verb, asked: { ...asked, by: 'root' } }),
    })
    expect(await response.json()).toMatchObject({ changed: true })
  }

  /** What there is of a person, without what differs from one person to the next. */
  const stateOf = async ({ email }: Person) => {
    const [state] = await db.select(
      `select version, status, epoch, attributes,
         (select json_agg(source) from jit_identities where user_id = u.id) as identities,
         (select json_agg(json_build_array(status, seat)) from jit_memberships where user_id = u.id) as memberships,
         (select json_agg(json_build_array(role, source, basis) order by role) from jit_grants where user_id = u.id)
           as grants,
         (select json_agg(json_build_array(type, actor, reason) order by position, seq) from jit_events
           where user_id = u.id) as events
       from jit_users u where verified_email = '${email}'`,
    )
    return state ?? null
  }

  /** Nothing but that those who were unlinked were linked twice, which `stateOf` shows as it is. */
  const broken = async () =>
    (await violations(db)).filter((found) => !found.startsWith('an identity not linked by exactly one event'))

  /** What a sign-in leaves that nothing happens to. */
  const undisturbed = async (path: string) => {
    const person = await paths[path]!()
    expect(await (await arrival(app, person)).answer(app)).toMatchObject({ status: 303 })
    return stateOf(person)
  }

  const expectSame = async (path: string, person: Person, answer: Promise<unknown>) => {
    expect(await answer).toMatchObject({ status: 303, location: '/me' })
    expect(await stateOf(person)).toEqual(await undisturbed(path))
    expect(await broken()).toEqual([])
  }

  const codes = ['40001', '40P01', '23505', '57P01']
  const raised: readonly (Fault & { readonly at: string })[] = [
    ...codes.flatMap((code) => [
      { at: 'first write', code, moment: 'write' } as const,
      { at: 'last write', code, moment: 'write', table: 'jit_events' } as const,
      { at: 'commit', code, moment: 'commit' } as const,
    ]),
    // Taken for somebody else's row, it has the plan made anew.
    { at: 'key', code: '23505', constraint: 'jit_identities_pkey', moment: 'write', table: 'jit_events' },
  ]

  describe.each(Object.keys(paths))('P18: %s', (path) => {
    test.each(raised)(
      'while the server raises $code twice at its $at: the same as without',
      async (fault) => {
        const person = await paths[path]!()
        const { answer, browser } = await arrival(app, person)
        await faults.arm(fault, 2)
        const ending = answer(app)
        await ending
        expect(await faults.disarm()).toBe(2)
        await expectSame(path, person, ending)
        expect(await browser.me(app)).toMatchObject({ email: person.email })
      },
    )

    test.each(raised.filter(({ at }) => at === 'commit' || at === 'key'))(
      'while the server raises $code at its $at for ever: 503 in time, and nothing written',
      async (fault) => {
        const person = await paths[path]!()
        const before = await stateOf(person)
        const { answer, browser } = await arrival(app, person)
        await faults.arm(fault)
        const ending = await timed(answer(app))
        const tries = await faults.disarm()
        expectUnavailable(ending)
        expect(tries).toBeGreaterThan(1)
        expect(tries).toBeLessThan(10)
        expect(await redis.keys('jit:lock:*')).toEqual([])
        expect(await browser.me(app)).toBeNull()
        expect(await stateOf(person)).toEqual(before)
        await signIn(app, person)
        expect(await stateOf(person)).toEqual(await undisturbed(path))
        expect(await broken()).toEqual([])
      },
    )

    test('and the connection is cut when it has committed: found, and not done twice', async () => {
      const person = await paths[path]!()
      const { answer } = await arrival(app, person)
      const swallowed = proxy.swallowReply((bytes) => bytes.includes('jit_commit_'))
      const ending = answer(app)
      await swallowed
      await expectSame(path, person, ending)
    })

    test('and every session is terminated while it waits for a row: the same as without', async () => {
      const person = await paths[path]!()
      const { answer } = await arrival(app, person)
      await owner.query(`begin; select from jit_organizations where id = 'acme' for update`)
      const ending = answer(app)
      await waitingForRow()
      await owner.query('commit')
      await owner.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid not in (pg_backend_pid(), ${await pidOf(db)})`,
      )
      await expectSame(path, person, ending)
    })
  })

  const pidOf = async ({ select }: Reader) =>
    (await select<{ pid: number }>('select pg_backend_pid() as pid'))[0]!.pid
  const waitingForRow = () =>
    expect
      .poll(
        () =>
          db.select(
            `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
          ),
        { timeout: 3_000, interval: 10 },
      )
      .toHaveLength(1)

  describe.each([
    {
      trail: 'raises an error',
      begin: () => faults.arm({ code: 'P0001', moment: 'write', table: 'jit_events' }),
    },
    {
      trail: 'is on a full disk',
      begin: () => faults.arm({ code: '53100', moment: 'write', table: 'jit_events' }),
    },
    {
      trail: 'breaks a check',
      begin: () => owner.query('alter table jit_events add constraint rig_check check (false) not valid'),
      end: () => owner.query('alter table jit_events drop constraint rig_check'),
    },
  ])('P22: The audit trail $trail', ({ begin, end = () => faults.disarm() }) => {
    const counted = () => db.select('select count(*) as changes from jit_changes')

    test.each(Object.keys(paths))('%s: 503, not a row of it, and all of it afterwards', async (path) => {
      const person = await paths[path]!()
      const before = [await stateOf(person), await counted()]
      const { answer, browser } = await arrival(app, person)
      await begin()
      const ending = await timed(answer(app))
      await end()
      expectUnavailable(ending)
      expect([await stateOf(person), await counted()]).toEqual(before)
      expect(await browser.me(app)).toBeNull()
      expect(await redis.keys('jit:lock:*')).toEqual([])
      await signIn(app, person)
      expect(await stateOf(person)).toEqual(await undisturbed(path))
      expect(await broken()).toEqual([])
    })

    test('a refusal: 503 and not a row, and a refusal on record afterwards', async () => {
      const outsider = scene.newcomer()
      Object.assign(outsider, { email: `${outsider.id}@nowhere.example` })
      const denied = () => db.select(`select from jit_events where type = 'denied'`)
      const before = await denied()
      const first = await arrival(app, outsider)
      await begin()
      const ending = await timed(first.answer(app))
      await end()
      expectUnavailable(ending)
      expect(await denied()).toHaveLength(before.length)
      const second = await (await arrival(app, outsider)).answer(app)
      expect([second.status, JSON.parse(second.body).error]).toEqual([403, 'email_outside'])
      expect(await denied()).toHaveLength(before.length + 1)
    })
  })

  test('P18: a deadlock with somebody else, who goes on: the sign-in is done by another try', async () => {
    const path = 'a sign-in that takes a role and sets a name'
    const person = await paths[path]!()
    const { answer } = await arrival(app, person)
    await owner.query(`begin; select from jit_organizations where id = 'acme' for update`)
    const ending = answer(app)
    await waitingForRow()
    // Who has waited longer looks first whether it is in a circle, and is the one to go.
    await owner.query(`select from jit_users where verified_email = '${person.email}' for update`)
    await owner.query('commit')
    await expectSame(path, person, ending)
  })

  test('P18: an app whose sessions are serializable: what cannot be serialized is tried again', async () => {
    const serializable = new URL(proxy.through(url))
    serializable.searchParams.set('options', '-c default_transaction_isolation=serializable')
    const strict = await start(serializable.href)
    let refusals = 0
    const untap = proxy.tap((direction, bytes) => {
      if (direction === 'to-client' && bytes.includes('C40001')) refusals += 1
    })
    try {
      const arrived = await Promise.all(Array.from({ length: 8 }, () => arrival(strict, scene.newcomer())))
      const endings = await Promise.all(arrived.map(({ answer }) => answer(strict)))
      expect(refusals).toBeGreaterThan(0)
      for (const ending of endings) expect(ending, ending.body).toMatchObject({ status: 303 })
      const same = await undisturbed('a first sign-in')
      for (const { person } of arrived) expect(await stateOf(person)).toEqual(same)
      expect(await broken()).toEqual([])
    } finally {
      untap()
      await strict.close()
    }
  })
})
