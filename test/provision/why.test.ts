import { type Directory, JitError, type Store, type Why } from 'passport-jit'
import { expect, test } from 'vitest'
import { hold } from '../../lib/revocations.js'
import { onEveryStore } from '../directory/stores.js'
import { everything, policy, signIn, staticApp } from './policy-scene.js'

type Scene = ReturnType<typeof staticApp> & { readonly store: Store }

/** Grants as `role source`, each with how it came about. */
const origins = ({ grants }: Why) =>
  Object.fromEntries(
    grants.map(({ role, source, origin }) => [
      `${role} ${source}`,
      origin && [origin.reason, origin.actor ?? origin.by, origin.because],
    ]),
  )
const absent = (why: Why) =>
  why.absent.map(({ finding, about, origin }) => [finding, about, origin?.actor ?? null])
const by = 'root'

onEveryStore((factory) => {
  const check = (
    name: string,
    body: (scene: Scene) => Promise<void>,
    input: Parameters<typeof policy> = [],
  ) =>
    test(name, async () => {
      const { store, close } = await factory()
      try {
        const scene = staticApp(store, policy(...input))
        await scene.jit.ready()
        await body({ ...scene, store })
      } finally {
        await close()
      }
    })
  const person = async (store: Store, directory: Directory, ...groups: string[]) =>
    (await signIn(store, directory, 'ann', { groups })).after.user.id

  check('a join: its default role and a mapped one, with the decision and its time', async (scene) => {
    const { store, directory, jit } = scene
    const at = Date.now() - 5_000
    const { after, decision } = await signIn(store, directory, 'ann', { groups: ['admins'], at })
    const why = await jit.why(after.user.id, 'o')
    expect(origins(why)).toEqual({
      'admin sso:c': ['user_provisioned', 'connection:c', 'by group admins'],
      'member sso:c': ['user_provisioned', 'connection:c', 'by default'],
    })
    for (const { origin } of [why.membership!, ...why.grants]) {
      expect(origin).toMatchObject({ decision, since: at, actor: null })
    }
    expect(why.absent).toEqual([])
  })

  check('by hand, beside the same role by a group', async ({ store, directory, jit }) => {
    const user = await person(store, directory, 'admins')
    const { decision } = await jit.admin.grant({ user, organization: 'o', role: 'admin', by })
    const why = await jit.why(user, 'o')
    expect(origins(why)).toMatchObject({
      'admin manual': ['administered', by, 'by hand'],
      'admin sso:c': ['user_provisioned', 'connection:c', 'by group admins'],
    })
    expect(why.grants.find(({ source }) => source === 'manual')?.origin?.decision).toBe(decision)
  })

  check('by an invitation, accepted in joining', async ({ store, directory, jit }) => {
    const { invitation } = await jit.admin.invite({
      ...{ organization: 'o', email: 'ann@o.example', role: 'viewer', by },
    })
    const why = await jit.why(await person(store, directory), 'o')
    expect(origins(why)).toEqual({
      'member sso:c': ['user_provisioned', 'connection:c', 'by default'],
      [`viewer invitation:${invitation}`]: ['user_provisioned', 'connection:c', 'by invitation'],
    })
  })

  check(
    'by adoption, of what the e-mail domain had given',
    async ({ store }) => {
      const domainJit = { enabled: true, roles: ['viewer'] }
      const before = staticApp(store, policy({ enabled: false }, { domainJit }))
      await before.jit.ready()
      const { after } = await signIn(store, before.directory, 'ann', { via: 'provider:email' })
      const user = after.user.id
      expect(origins(await before.jit.why(user, 'o'))).toEqual({
        'viewer domain': ['user_provisioned', 'provider:email', 'by default'],
      })
      const now = staticApp(store, policy({}, { domainJit }))
      await now.jit.ready()
      await signIn(store, now.directory, 'ann')
      const why = await now.jit.why(user, 'o')
      expect(origins(why)).toEqual({
        'viewer sso:c': ['identity_linked', 'connection:c', 'adopted from the e-mail domain'],
      })
      expect(why.membership?.origin?.by).toBe('provider:email')
      expect(why.absent).toEqual([])
    },
    [{ enabled: false }, { domainJit: { enabled: true, roles: ['viewer'] } }],
  )

  check(
    'what sync took, and what a person took: by whom and since when',
    async ({ store, directory, jit }) => {
      const user = await person(store, directory, 'admins', 'watchers')
      await signIn(store, directory, 'ann', { groups: ['admins'] })
      expect(absent(await jit.why(user, 'o'))).toEqual([['role_revoked', 'viewer', null]])
      const { decision } = await jit.admin.revoke({ user, organization: 'o', role: 'admin', by })
      const why = await jit.why(user, 'o')
      expect(absent(why).sort()).toEqual([
        ['role_removed', 'admin', by],
        ['role_revoked', 'viewer', null],
      ])
      expect(why.absent.find(({ about }) => about === 'admin')?.origin?.decision).toBe(decision)
      expect(why.absent.find(({ about }) => about === 'viewer')?.origin).toMatchObject({
        ...{ by: 'connection:c', because: 'no longer by a group', reason: 'identity_synced' },
      })
      await jit.admin.readmit({ user, organization: 'o', role: 'admin', by })
      await signIn(store, directory, 'ann', { groups: ['admins', 'watchers'] })
      expect(absent(await jit.why(user, 'o'))).toEqual([])
    },
  )

  check('a membership that was removed, and one that is suspended', async ({ store, directory, jit }) => {
    const user = await person(store, directory)
    await jit.admin.suspend({ user, organization: 'o', by })
    expect(absent(await jit.why(user, 'o'))).toEqual([['membership_suspended', null, by]])
    await jit.admin.suspend({ user, by: 'operator' })
    expect(absent(await jit.why(user, 'o'))).toEqual([
      ['user_suspended', null, 'operator'],
      ['membership_suspended', null, by],
    ])
    await jit.admin.reactivate({ user, by })
    await jit.admin.reactivate({ user, organization: 'o', by })
    expect(absent(await jit.why(user, 'o'))).toEqual([])
    await jit.admin.remove({ user, organization: 'o', by })
    const why = await jit.why(user, 'o')
    expect(why.membership).toBeNull()
    expect(absent(why)).toContainEqual(['membership_removed', null, by])
  })

  check(
    'a seat that was not free',
    async ({ store, directory, jit }) => {
      const bob = (await signIn(store, directory, 'bob')).after.user.id
      const ann = await person(store, directory)
      expect(absent(await jit.why(bob, 'o'))).toEqual([])
      expect(absent(await jit.why(ann, 'o'))).toEqual([['without_seat', null, null]])
    },
    [{}, { seatLimit: 1, whenFull: 'join-without-seat' }],
  )

  check('a sync that is held, with its reason', async ({ store, directory, jit }) => {
    const user = await person(store, directory)
    await hold({ store, now: Date.now, warn: () => {} }, 'connection:c', 'it took too much')
    const { absent: found } = await jit.why(user, 'o')
    expect(found).toMatchObject([
      { finding: 'sync_held', about: 'c', origin: { reason: 'guarded', because: 'it took too much' } },
    ])
    expect((await jit.why(user, 'p')).absent).toEqual([])
    await jit.admin.releaseSync({ connection: 'c', by })
    expect((await jit.why(user, 'o')).absent).toEqual([])
  })

  check('an old grant is found behind many newer events', async ({ store, directory, jit }) => {
    const user = await person(store, directory)
    for (let round = 0; round < 4; round++) {
      for (const groups of [['watchers'], []]) await signIn(store, directory, 'ann', { groups })
    }
    await signIn(store, directory, 'ann', { groups: ['watchers'] })
    let reads = 0
    const pages: Store = {
      ...store,
      events: (query) => {
        reads += 1
        return store.events({ ...query, limit: 1 })
      },
    }
    const paged = staticApp(pages, policy())
    const whole = await jit.why(user, 'o')
    expect(await paged.jit.why(user, 'o')).toEqual(whole)
    expect(reads).toBeGreaterThan(6)
    expect(whole.grants.map(({ origin }) => origin?.because)).toEqual(['by default', 'by group watchers'])
  })

  check('nobody, and no organization, are told apart from nothing', async ({ store, directory, jit }) => {
    const user = await person(store, directory)
    const refusal = (work: Promise<unknown>) => work.catch((error: JitError) => error.code)
    expect(await refusal(jit.why('nobody', 'o'))).toBe('user_unknown')
    expect(await refusal(jit.why(user, 'nowhere'))).toBe('organization_unknown')
    expect(await jit.why(user, 'p')).toEqual({
      ...{ user, organization: 'p', membership: null, grants: [], absent: [] },
    })
  })

  check('explain and why write nothing', async ({ store, directory, jit }) => {
    const user = await person(store, directory, 'admins')
    const before = await everything(store)
    await jit.why(user, 'o')
    const hypotheses = [
      { connection: 'c', subject: 'ann', claims: { email: 'ann@o.example', groups: [] } },
      { connection: 'c', subject: 'new', claims: { email: 'new@o.example', groups: ['admins'] } },
      { connection: 'c', subject: 'new', claims: { email: 'new@p.example' } },
      { provider: 'email', subject: 'ann@o.example', claims: { email: 'ann@o.example' } },
    ]
    const plans = await Promise.all(hypotheses.map((hypothesis) => jit.explain(hypothesis)))
    expect(plans.map(({ reason }) => reason)).toEqual([
      ...['identity_synced', 'user_provisioned', 'email_foreign', 'sso_required'],
    ])
    expect(plans[0]!.trace.find(({ rule }) => rule === 'roles')?.detail).toMatch(
      /-admin no longer by a group/,
    )
    expect(await everything(store)).toEqual(before)
  })
})

test('a store that cannot be read: unavailable, with what it said', async () => {
  const { memoryStore } = await import('passport-jit/stores/memory')
  const store = memoryStore()
  const { jit } = staticApp({ ...store, user: () => Promise.reject(new Error('connection lost')) }, policy())
  const error = await jit.why('u', 'o').catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(JitError)
  expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining('connection lost') })
})
