import type { JWTPayload } from 'jose'
import { type OidcConnection, staticDirectory } from 'passport-jit'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  type App,
  expectRefused,
  type OidcInput,
  oidcConnection,
  startApp,
  twoOrganizations,
} from '../rig/oidc-app.js'
import { entra, objects, tenants } from '../rig/oidc-entra.js'
import { browser } from '../rig/oidc-http.js'

// nOAuth: in Entra every tenant's administrator writes e-mail addresses as they like, so neither an address
// nor a `sub` says who somebody is.

let app: App
let microsoft: Awaited<ReturnType<typeof entra>>

async function start(settings: Partial<OidcInput> & { issuer: string }) {
  app = await startApp({
    connections: [oidcConnection('acme', settings, { allowInsecureRequests: false, ...settings })],
    fetch: microsoft.fetch,
  })
}

beforeEach(async () => {
  microsoft = await entra('client-acme')
})
afterEach(() => app.close())

const alice = { sub: 'pairwise-alice', oid: objects.alice, email: 'alice@acme.example', name: 'Alice' }
const mallory = { sub: 'pairwise-mallory', oid: objects.mallory, email: 'alice@acme.example', name: 'Alice' }

async function arrive(tenant: string, claims: JWTPayload, issuer?: string) {
  const client = browser()
  const begun = await client.go(app.start('acme'))
  expect(begun.status, begun.text).toBe(302)
  const answer = await client.go(microsoft.answer(begun.location!, tenant, claims, issuer))
  return { client, answer }
}

async function arrives(tenant: string, claims: JWTPayload) {
  const { client, answer } = await arrive(tenant, claims)
  expect(answer.status, answer.text).toBe(303)
  return (await client.go(`${app.origin}/me`)).json().user as { id: string; email: string | null }
}

const organizations = 'https://login.microsoftonline.com/organizations/v2.0'
const single = `https://login.microsoftonline.com/${tenants.acme}/v2.0`

describe.each([
  ['a multi-tenant issuer', { issuer: organizations, tenants: [tenants.acme] }],
  [
    'the issuer "common"',
    { issuer: organizations.replace('organizations', 'common'), tenants: [tenants.acme] },
  ],
])('O12 O14 %s with an allow-list', (_name, settings) => {
  beforeEach(() => start(settings))

  it('O14 a valid token of a tenant that is not on the list is refused', async () => {
    const { client, answer } = await arrive(tenants.evil, mallory)
    await expectRefused(app, client, answer, {
      code: 'assertion_refused',
      status: 403,
      message: /"tenants"/,
    })
    expect((await arrives(tenants.acme, alice)).email).toBe('alice@acme.example')
  })

  it("O12 another tenant with a victim's address is refused, and nothing is linked", async () => {
    const victim = await arrives(tenants.acme, alice)
    const before = await app.rows()
    const { client, answer } = await arrive(tenants.evil, {
      ...mallory,
      email_verified: true,
      xms_edov: true,
    })
    await expectRefused(app, client, answer, { code: 'assertion_refused', status: 403 }, before)
    expect((await arrives(tenants.acme, alice)).id).toBe(victim.id)
  })

  it.each<[string, JWTPayload, string | undefined]>([
    ['tid of the list in a token of another tenant', { ...alice, tid: tenants.acme }, `${tenants.evil}`],
    ['no tid', { ...alice, tid: undefined }, tenants.acme],
    ['tid that is no tenant id', { ...alice, tid: '{tenantid}' }, '{tenantid}'],
    ['no oid', { ...alice, oid: undefined }, tenants.acme],
  ])('O14 %s is refused', async (_case, claims, issuerTenant) => {
    const issuer = `${microsoft.host}/${issuerTenant}/v2.0`
    const { client, answer } = await arrive(tenants.acme, claims, issuer)
    await expectRefused(app, client, answer, { code: 'assertion_refused', status: 403 })
    await arrives(tenants.acme, alice)
  })
})

describe('O12 who somebody is in Entra', () => {
  it('O12 the key is tenant and object id; sub and address may change', async () => {
    await start({ issuer: organizations, tenants: [tenants.acme] })
    const before = await arrives(tenants.acme, alice)
    const [user] = (await app.store.users()).rows
    expect(user!.identities).toEqual([
      { source: 'connection:acme', issuer: single, subject: `${tenants.acme}.${objects.alice}` },
    ])
    const again = await arrives(tenants.acme, {
      ...alice,
      sub: 'pairwise-other',
      email: 'renamed@acme.example',
    })
    expect(again.id).toBe(before.id)
  })

  it("O12 a colleague who takes a victim's address in the same tenant does not become the victim", async () => {
    await start({ issuer: single })
    const victim = await arrives(tenants.acme, alice)
    const before = await app.rows()
    const { client, answer } = await arrive(tenants.acme, mallory)
    await expectRefused(app, client, answer, { code: 'subject_changed', status: 403, denied: true }, before)
    expect((await arrives(tenants.acme, alice)).id).toBe(victim.id)
  })

  it.each([[false], ['true'], [1], ['1'], [null], [0]])(
    'O12 xms_edov %j vetoes the address',
    async (xms_edov) => {
      await start({ issuer: single })
      const { client, answer } = await arrive(tenants.acme, { ...alice, xms_edov })
      await expectRefused(app, client, answer, { code: 'email_unverified', status: 403, denied: true })
      expect((await arrives(tenants.acme, { ...alice, xms_edov: true })).email).toBe('alice@acme.example')
    },
  )

  it.each<[string, unknown]>([
    ['missing', undefined],
    ['null', null],
    ['empty', ''],
    ['a name', 'acme.example'],
    ['in capitals', tenants.acme.toUpperCase()],
    ['a list', [tenants.acme]],
  ])('O12 a tid that is %s is nobody’s, even where the issuer is one tenant’s own', async (_name, tid) => {
    await start({ issuer: single })
    const { client, answer } = await arrive(tenants.acme, { ...alice, tid })
    await expectRefused(app, client, answer, { code: 'assertion_refused', status: 403, message: /"tid"/ })
    await arrives(tenants.acme, alice)
  })

  it('O12 without xms_edov a listed tenant and a vouched domain suffice', async () => {
    await start({ issuer: single })
    expect((await arrives(tenants.acme, alice)).email).toBe('alice@acme.example')
  })

  it('O15 the overage of Entra leaves roles alone', async () => {
    await start({
      issuer: single,
      attributes: { email: 'email', name: 'name', groups: 'groups' },
      groups: { map: { 'group-id': ['admin'] } },
    })
    const roles = async () =>
      (await app.store.users()).rows[0]!.memberships[0]!.grants.map(({ role }) => role)
    await arrives(tenants.acme, { ...alice, groups: ['group-id'] })
    expect((await roles()).toSorted()).toEqual(['admin', 'member'])
    await arrives(tenants.acme, {
      ...alice,
      _claim_names: { groups: 'src1' },
      _claim_sources: { src1: { endpoint: 'https://graph.microsoft.com/v1.0/users/x/getMemberObjects' } },
    })
    expect((await roles()).toSorted()).toEqual(['admin', 'member'])
    expect(microsoft.seen.some((url) => url.includes('graph.microsoft.com'))).toBe(false)
    await arrives(tenants.acme, { ...alice, groups: [] })
    expect(await roles()).toEqual(['member'])
  })
})

describe('O14 configuration', () => {
  const directory = (settings: Partial<OidcInput>) => () =>
    staticDirectory({
      organizations: twoOrganizations!,
      connections: [oidcConnection('acme', { issuer: organizations }, settings)],
    })

  it('O14 a multi-tenant issuer without tenants, or with an empty list, is refused at start', async () => {
    await start({ issuer: organizations, tenants: [tenants.acme] })
    expect(directory({})).toThrowError(expect.objectContaining({ code: 'config_invalid' }))
    expect(directory({ tenants: [] })).toThrowError(expect.objectContaining({ code: 'config_invalid' }))
    expect(directory({ tenants: [tenants.acme] })).not.toThrow()
  })

  it('O14 so is one of a national cloud, of which the schema knows nothing', async () => {
    const issuer = 'https://login.microsoftonline.us/organizations/v2.0'
    await expect(start({ issuer })).rejects.toMatchObject({
      code: 'config_invalid',
      message: expect.stringContaining('tenants'),
    })
    await start({ issuer, tenants: [tenants.acme] })
  })

  it('O14 an entry that no schema saw signs nobody in by a multi-tenant issuer without tenants', async () => {
    const connections = [oidcConnection('acme', { issuer: organizations }, { tenants: [tenants.acme] })]
    const directory = staticDirectory({ organizations: twoOrganizations!, connections })
    const listed = (await directory.connection('acme')) as OidcConnection
    const { tenants: _, ...open } = listed
    let entry: OidcConnection = listed
    app = await startApp({
      directory: { ...directory, connection: async () => entry },
      fetch: microsoft.fetch,
    })
    const client = browser()
    const underWay = (await client.go(app.start('acme'))).location!
    entry = open
    const expected = { code: 'config_invalid', status: 500, message: /tenants/ } as const
    await expectRefused(app, client, await client.go(app.start('acme')), expected)
    const answer = await client.go(microsoft.answer(underWay, tenants.evil, mallory))
    await expectRefused(app, client, answer, expected)
    entry = listed
    await arrives(tenants.acme, alice)
  })

  it.each(['Common', 'ORGANIZATIONS'])('O14 "%s" is refused alike, as Microsoft reads it', async (name) => {
    const issuer = `https://login.microsoftonline.com/${name}/v2.0`
    const refused = { code: 'config_invalid', message: expect.stringContaining('tenants') }
    await expect(start({ issuer })).rejects.toMatchObject(refused)
    await start({ issuer, tenants: [tenants.acme] })
    expect((await arrives(tenants.acme, alice)).email).toBe('alice@acme.example')
  })

  it('O14 a spelling that nobody thought of signs nobody in: it is multi-tenant by its answer', async () => {
    const issuer = 'https://login.microsoftonline.com/%63ommon/v2.0'
    await start({ issuer })
    const client = browser()
    const refused = { code: 'config_invalid', status: 500, message: /tenants/ } as const
    await expectRefused(app, client, await client.go(app.start('acme')), refused)
    await app.close()
    await start({ issuer, tenants: [tenants.acme] })
    expect((await arrives(tenants.acme, alice)).email).toBe('alice@acme.example')
  })

  it('O14 tenants for an issuer that has none is refused at start', async () => {
    await expect(
      startApp({
        connections: [oidcConnection('acme', { issuer: 'https://idp.example' }, { tenants: ['x'] })],
      }),
    ).rejects.toMatchObject({ code: 'config_invalid', message: expect.stringContaining('tenants') })
    await start({ issuer: single, tenants: [tenants.acme] })
  })
})
