import type { DirectoryInput } from 'passport-jit'
import { afterEach, describe, expect, it } from 'vitest'
import { browser } from '../rig/oidc-http.js'
import {
  type App,
  expectProofAsked,
  expectRefused,
  type Preset,
  person,
  providers,
  signedIn,
  signIn,
  startApp,
} from '../rig/social-app.js'
import { startWorld, type World } from '../rig/social-world.js'

// The social rows of DESIGN §4, over HTTP; each at a provider with ID tokens and at one without.

type OrganizationInput = DirectoryInput['organizations'][number]

let world: World
let app: App

async function start(
  domainJit: OrganizationInput['domainJit'],
  connections: NonNullable<DirectoryInput['connections']> = [],
) {
  world = await startWorld()
  app = await startApp({
    organizations: [
      { id: 'o', name: 'O', roles: ['owner', 'admin', 'member'], domains: ['o.example'], domainJit },
    ],
    connections,
    social: [providers.google, providers.github],
    fetch: world.fetch,
  })
}
afterEach(() => app.close())

const on = { enabled: true, roles: ['member'] }
const joined = [{ organization: 'o', roles: ['member'] }]

describe.each(['google', 'github'] as const)('E-mail domain, by %s', (preset: Preset) => {
  const ann = person(preset, 1, 'ann@o.example')
  const unverified = person(preset, 1, 'ann@o.example', false)

  it('does not exist · social, verified e-mail · on: created, joins O with the domain’s default roles', async () => {
    await start(on)
    const { user, jit } = await signedIn(app, world, preset, ann)
    expect(jit).toMatchObject({ outcome: 'created', reason: 'user_provisioned', joined: ['o'] })
    expect(user).toMatchObject({ email: 'ann@o.example', memberships: joined })
    expect((await app.rows()).users[0]!.memberships).toMatchObject([
      { organization: 'o', grants: [{ role: 'member', source: 'domain' }] },
    ])
  })

  it.each([
    ['unverified', unverified],
    ['no', person(preset, 1)],
  ])('does not exist · social, %s e-mail · on: created, joins nothing', async (_name, who) => {
    await start(on)
    const { user, jit } = await signedIn(app, world, preset, who)
    expect(jit).toMatchObject({ outcome: 'created', reason: 'user_created', joined: [] })
    expect(user).toMatchObject({ email: null, memberships: [] })
  })

  it('exists · social · on: normal sign-in', async () => {
    await start({ ...on, enabled: false })
    await signedIn(app, world, preset, ann)
    const { store } = app
    await app.close()
    app = await restartWith(store, on)
    const { user, jit } = await signedIn(app, world, preset, ann)
    expect(jit).toMatchObject({ outcome: 'unchanged', reason: 'identity_known', joined: [] })
    expect(user.memberships).toEqual([])
  })

  it('exists · social · on, existingUsers: joins O too', async () => {
    await start({ ...on, enabled: false })
    const before = await signedIn(app, world, preset, ann)
    const { store } = app
    await app.close()
    app = await restartWith(store, { ...on, existingUsers: true })
    const { user, jit } = await signedIn(app, world, preset, ann)
    expect(user.id).toBe(before.user.id)
    expect(jit).toMatchObject({ outcome: 'updated', reason: 'membership_created', joined: ['o'] })
    expect(user.memberships).toMatchObject(joined)
  })

  it('any · social · off: normal sign-up, then sign-in', async () => {
    await start({ ...on, enabled: false })
    const first = await signedIn(app, world, preset, ann)
    expect(first.jit).toMatchObject({ outcome: 'created', reason: 'user_created', joined: [] })
    const again = await signedIn(app, world, preset, ann)
    expect(again.user).toMatchObject({ id: first.user.id, memberships: [] })
  })

  it('the address of somebody else’s account is proved first, and joins nothing meanwhile', async () => {
    await start({ ...on, existingUsers: true })
    await signedIn(
      app,
      world,
      preset === 'google' ? 'github' : 'google',
      person(preset === 'google' ? 'github' : 'google', 9, 'ann@o.example'),
    )
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, preset, unverified, agent), before)
  })
})

/** The app again, with the users it had and another policy. */
function restartWith(store: App['store'], domainJit: OrganizationInput['domainJit']) {
  return startApp({
    organizations: [
      { id: 'o', name: 'O', roles: ['owner', 'admin', 'member'], domains: ['o.example'], domainJit },
    ],
    social: [providers.google, providers.github],
    fetch: world.fetch,
    store,
  })
}

describe.each(['google', 'github'] as const)(
  'Domain and SSO on one domain, by %s: SSO wins',
  (preset: Preset) => {
    const sso = (enabled: boolean) => [
      {
        id: 'c',
        organization: 'o',
        protocol: 'oidc' as const,
        issuer: 'https://issuer.example',
        clientId: 'client-c',
        clientSecret: 'secret of c',
        enabled,
        jit: { roles: ['member'] },
      },
    ]
    const expectSso = async (who: ReturnType<typeof person>, before?: Awaited<ReturnType<App['rows']>>) => {
      const agent = browser()
      const answered = await signIn(app, world, preset, who, agent)
      await expectRefused(app, agent, answered, { code: 'sso_required', status: 403, denied: true }, before)
      return answered.json() as { ways?: { start: string }[] }
    }

    it.each([
      ['verified', true],
      ['unverified', false],
    ])(
      'social with a %s address of such a domain is refused with the way to SSO',
      async (_name, verified) => {
        await start({ ...on, existingUsers: true }, sso(true))
        const refused = await expectSso(person(preset, 1, 'ann@o.example', verified))
        expect(refused.ways).toMatchObject([{ start: '/auth/sso/c' }])
        const other = await signedIn(app, world, preset, person(preset, 1, 'ann@gmail.com'))
        expect(other.user.memberships).toEqual([])
      },
    )

    it('an account whose own address is such a one is refused, whatever is asserted', async () => {
      await start(on)
      const { store } = app
      await signedIn(app, world, preset, person(preset, 1, 'ann@o.example'))
      await app.close()
      app = await startApp({
        organizations: [
          { id: 'o', name: 'O', roles: ['owner', 'admin', 'member'], domains: ['o.example'], domainJit: on },
        ],
        connections: sso(true),
        social: [providers.google, providers.github],
        fetch: world.fetch,
        store,
      })
      for (const who of [
        person(preset, 1, 'ann@o.example'),
        person(preset, 1, 'ann@gmail.com'),
        person(preset, 1),
      ]) {
        await expectSso(who, await app.rows())
      }
    })

    it('a connection that is not enabled routes nobody', async () => {
      await start(on, sso(false))
      expect(
        (await signedIn(app, world, preset, person(preset, 1, 'ann@o.example'))).user.memberships,
      ).toMatchObject(joined)
    })

    it('the overlap is warned of at start, naming organization, domain and connection', async () => {
      await start(on, sso(true))
      const warned = app.log.filter(({ level }) => level === 'warn').map(({ message }) => message)
      expect(warned.find((message) => /"o".*"o\.example".*"c"/.test(message))).toBeDefined()
    })
  },
)
