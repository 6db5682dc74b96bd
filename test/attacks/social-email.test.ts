import type { JWTPayload } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { browser } from '../rig/oidc-http.js'
import {
  type App,
  expectProofAsked,
  expectRefused,
  type Preset,
  person,
  providers,
  type SocialInput,
  signedIn,
  signIn,
  startApp,
} from '../rig/social-app.js'
import { type Person, startWorld, type World } from '../rig/social-world.js'

// What a provider says of an address: when it makes an account, when it leads to one, and when it must not.

let world: World
let app: App

/** A provider of its own by which accounts that exist already are made, with their address verified. */
const elsewhere: SocialInput = {
  ...providers.oidc,
  id: 'elsewhere',
  clientId: 'client-elsewhere',
  clientSecret: 'secret of elsewhere',
}
const alice = 'alice@gmail.com'

const start = async (social: SocialInput[] = Object.values(providers)) => {
  world = await startWorld()
  app = await startApp({ social: [...social, elsewhere], fetch: world.fetch })
}
beforeEach(() => start())
afterEach(() => app.close())

const restart = async (...social: SocialInput[]) => {
  await app.close()
  await start(social)
}

/** The account of Alice, made by another provider. */
const existing = () => signedIn(app, world, 'elsewhere', person('oidc', 100, alice))

/** Signs in with an address that is proof of nothing: an account of its own, and none of Alice's. */
async function expectUnverified(preset: Preset, who: Person, address = alice) {
  const { user } = await signedIn(app, world, preset, who)
  const row = (await app.rows()).users.find(({ id }) => id === user.id)!
  expect({ verifiedEmail: row.verifiedEmail, contactEmail: row.contactEmail }).toEqual({
    verifiedEmail: null,
    contactEmail: address,
  })
}

const flags: [string, unknown, Preset[]][] = [
  ['absent', undefined, []],
  ['null', null, []],
  ['false', false, []],
  ['the text "false"', 'false', []],
  ['the text "true"', 'true', ['apple']],
  ['the text "TRUE"', 'TRUE', []],
  ['1', 1, []],
  ['[]', [], []],
  ['[true]', [true], []],
  ['{}', {}, []],
  ['true', true, ['google', 'apple', 'oidc']],
]

describe.each(['google', 'apple', 'oidc'] as const)('O11 email_verified by %s', (preset) => {
  it.each(flags)('O11 %s', async (_name, flag, proof) => {
    const { claims } = person(preset, 1, alice)
    const who: Person = { claims: { ...claims, email_verified: flag } }
    if (proof.includes(preset)) {
      expect((await signedIn(app, world, preset, who)).user.email).toBe(alice)
    } else {
      await expectUnverified(preset, who)
    }
  })

  it('O11 an address without proof leads to no existing account: it is proved first', async () => {
    await existing()
    const before = await app.rows()
    const { claims } = person(preset, 1, alice)
    const agent = browser()
    const answered = await signIn(app, world, preset, { claims: { ...claims, email_verified: 'yes' } }, agent)
    await expectProofAsked(app, agent, answered, before)
  })
})

describe('O12 nOAuth: Microsoft as a provider', () => {
  const victim = (more: JWTPayload): Person => ({
    claims: { ...person('microsoft', 1, alice, false).claims, ...more },
  })

  it.each([
    ['absent', {}],
    ['false', { xms_edov: false }],
    ['the text "true"', { xms_edov: 'true' }],
    ['1', { xms_edov: 1 }],
    ['the text "1"', { xms_edov: '1' }],
    ['absent beside email_verified true', { email_verified: true }],
    ['false beside email_verified true', { xms_edov: false, email_verified: true }],
  ])('O12 xms_edov %s: the address proves nothing', async (_name, more) => {
    await expectUnverified('microsoft', victim(more))
  })

  it("O12 another tenant's administrator with a victim's address is asked to prove it, and nothing is linked", async () => {
    await existing()
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, 'microsoft', victim({}), agent), before)
  })

  it('O12 xms_edov true makes the address verified', async () => {
    expect((await signedIn(app, world, 'microsoft', victim({ xms_edov: true }))).user.email).toBe(alice)
  })

  it('O12 xms_edov in the ID token says nothing of an address that only UserInfo tells', async () => {
    world.faults.answer = (url) => {
      if (url.pathname.endsWith('/.well-known/openid-configuration'))
        return Response.json({
          issuer: 'https://login.microsoftonline.com/{tenantid}/v2.0',
          authorization_endpoint: 'https://login.microsoftonline.com/common/oauth2/v2.0/authorize',
          token_endpoint: 'https://login.microsoftonline.com/common/oauth2/v2.0/token',
          jwks_uri: 'https://login.microsoftonline.com/common/discovery/v2.0/keys',
          userinfo_endpoint: 'https://graph.microsoft.com/oidc/userinfo',
          id_token_signing_alg_values_supported: ['RS256'],
        })
      return url.hostname === 'graph.microsoft.com'
        ? Response.json({ sub: 'sub-1', email: alice, xms_edov: true, email_verified: true })
        : undefined
    }
    const { email: _, ...claims } = victim({ xms_edov: true }).claims!
    await expectUnverified('microsoft', { claims })
  })

  it('O12 the same sub at two tenants is two people', async () => {
    const own = await signedIn(app, world, 'microsoft', victim({ xms_edov: true }))
    const other = await signedIn(
      app,
      world,
      'microsoft',
      victim({ tid: '66666666-eeee-4eee-8eee-666666666666', email: 'mallory@gmail.com' }),
    )
    expect(other.user.id).not.toBe(own.user.id)
    expect((await app.rows()).users).toHaveLength(2)
  })
})

describe('O14 whose accounts Microsoft signs in', () => {
  const personal = '9188040d-6c67-4c5b-b112-36a304b66dad'
  const work = '11111111-aaaa-4aaa-8aaa-111111111111'
  const of = (tid: string): Person => ({ claims: { ...person('microsoft', 1, alice).claims, tid } })

  it.each([
    ['common', work, true],
    ['common', personal, true],
    ['organizations', work, true],
    ['organizations', personal, false],
    ['consumers', personal, true],
    ['consumers', work, false],
    [work, work, true],
    [work.toUpperCase(), work, true],
    [work, personal, false],
  ])('O14 tenant "%s", somebody of %s: %s', async (tenant, tid, admitted) => {
    await restart({ ...providers.microsoft, tenant } as SocialInput)
    const agent = browser()
    if (admitted) {
      await signedIn(app, world, 'microsoft', of(tid), agent)
    } else {
      const answered = await signIn(app, world, 'microsoft', of(tid), agent)
      await expectRefused(app, agent, answered, { code: 'assertion_refused', status: 403 })
    }
  })

  it.each([work, 'consumers'])(
    'O14 tenant "%s", a token by its issuer that names another tenant is refused',
    async (tenant) => {
      await restart({ ...providers.microsoft, tenant } as SocialInput)
      const own = tenant === work ? work : personal
      const iss = `https://login.microsoftonline.com/${own}/v2.0`
      const by = (tid: string): Person => ({ claims: { ...of(tid).claims, iss } })
      const agent = browser()
      const other = '66666666-eeee-4eee-8eee-666666666666'
      const answered = await signIn(app, world, 'microsoft', by(other), agent)
      const message = /"tenants"/
      await expectRefused(app, agent, answered, { code: 'assertion_refused', status: 403, message })
      await signedIn(app, world, 'microsoft', by(own), agent)
    },
  )
})

describe('O16 a recycled mailbox', () => {
  it.each(Object.keys(providers) as Preset[])(
    'O16 another subject of %s with the same address',
    async (preset) => {
      const first = await signedIn(app, world, preset, person(preset, 1, alice))
      const before = await app.rows()
      const agent = browser()
      const answered = await signIn(app, world, preset, person(preset, 2, alice), agent)
      await expectRefused(
        app,
        agent,
        answered,
        { code: 'subject_changed', status: 403, denied: true },
        before,
      )
      expect((await signedIn(app, world, preset, person(preset, 1, alice))).user.id).toBe(first.user.id)
    },
  )
})

describe('O17 a known subject with a new address', () => {
  beforeEach(async () => {
    await app.close()
    world = await startWorld()
    app = await startApp({
      organizations: [
        {
          id: 'acme',
          name: 'Acme',
          roles: ['member'],
          domains: ['acme.example'],
          domainJit: { enabled: true, roles: ['member'], existingUsers: true },
        },
      ],
      social: [...Object.values(providers), elsewhere],
      fetch: world.fetch,
    })
  })

  it.each(Object.keys(providers) as Preset[])(
    'O17 %s: free, taken, or of an organization',
    async (preset) => {
      await existing()
      const own = await signedIn(app, world, preset, person(preset, 1, 'ann@gmail.com'))
      const people = async () => (await app.rows()).users.map(({ version, ...user }) => user)
      const before = await people()
      for (const address of ['free@gmail.com', alice, 'ann@acme.example']) {
        const now = await signedIn(app, world, preset, person(preset, 1, address))
        expect(now.user.id).toBe(own.user.id)
        expect(now.user.email).toBe('ann@gmail.com')
        expect(now.user.memberships).toEqual([])
        // That it was asserted is kept, and nothing else.
        const { events } = await app.rows()
        const facts = events.filter(({ change }) => change === events[0]!.change)
        expect(facts.map(({ type }) => type)).toEqual(['asserted'])
      }
      expect(await people()).toEqual(before)
    },
  )

  it('O17 an account without an address of its own joins nothing by one asserted later', async () => {
    const own = await signedIn(app, world, 'github', person('github', 1))
    const later = await signedIn(app, world, 'github', person('github', 1, 'ann@acme.example'))
    expect(later.user.id).toBe(own.user.id)
    expect(later.user.memberships).toEqual([])
    const fresh = await signedIn(app, world, 'github', person('github', 2, 'bob@acme.example'))
    expect(fresh.user.memberships).toMatchObject([{ organization: 'acme' }])
  })

  it('L11 an old account is no proof of the address it carries: signing in to it joins nothing', async () => {
    const victim = 'ann@acme.example'
    const planted = await signedIn(app, world, 'github', person('github', 1, victim, false))
    const agent = browser()
    const answered = await signIn(app, world, 'oauth2', person('oauth2', 1, victim, false), agent)
    const ticket = new URL(answered.location!).searchParams.get('ticket')!
    const begun = await agent.go(`${app.start('github')}?waiting=${ticket}`)
    const back = world.arrive(begun.location!, person('github', 1, victim, false))
    const joined = await agent.go(`${app.callback('github')}?${back}`)
    expect(joined.status, joined.text).toBe(303)
    const me = (await agent.go(`${app.origin}/me`)).json()
    expect(me.user).toMatchObject({ id: planted.user.id, email: null, memberships: [] })
    expect((await app.rows()).users[0]!.identities).toHaveLength(2)
  })
})

describe('O19 which address of GitHub counts', () => {
  const at = (email: string, more: { primary?: unknown; verified?: unknown } = {}) => ({
    email,
    primary: false,
    verified: true,
    ...more,
  })
  const primary = { primary: true }
  const unverified = { verified: false }

  it.each<[string, unknown[], string | null, string | null]>([
    ['the primary one', [at('a@gmail.com'), at('b@gmail.com', primary)], 'b@gmail.com', 'b@gmail.com'],
    [
      'a verified one where the primary is not',
      [at('a@gmail.com', { ...primary, ...unverified }), at('b@gmail.com')],
      'b@gmail.com',
      'b@gmail.com',
    ],
    ['none where none is verified', [at('a@gmail.com', { ...primary, ...unverified })], null, 'a@gmail.com'],
    [
      'none where verified is text',
      [at('a@gmail.com', { ...primary, verified: 'true' })],
      null,
      'a@gmail.com',
    ],
    ['none where verified is 1', [at('a@gmail.com', { ...primary, verified: 1 })], null, 'a@gmail.com'],
    [
      'the first verified where primary is text',
      [at('a@gmail.com'), at('b@gmail.com', { primary: 'true' })],
      'a@gmail.com',
      'a@gmail.com',
    ],
    ['none of none', [], null, null],
    [
      'none of entries that are no addresses',
      [null, 1, 'a@gmail.com', { email: 1, verified: true }],
      null,
      null,
    ],
    [
      'none of the stand-ins for hidden ones',
      [at('1+ann@users.noreply.github.com'), at('a@gmail.com', { ...primary, ...unverified })],
      null,
      'a@gmail.com',
    ],
  ])('O19 %s', async (_name, emails, verifiedEmail, contactEmail) => {
    await signedIn(app, world, 'github', { ...person('github', 1), emails })
    expect((await app.rows()).users).toMatchObject([{ verifiedEmail, contactEmail }])
  })

  it('L11 the address of the public profile, which anybody edits, is never proof', async () => {
    await existing()
    const before = await app.rows()
    const agent = browser()
    const profile = { id: 1, login: 'mallory', name: 'Alice', email: alice }
    const answered = await signIn(app, world, 'github', { profile, emails: [] }, agent)
    await expectProofAsked(app, agent, answered, before)
    const mallory = { profile, emails: [at('mallory@gmail.com', primary)] }
    expect((await signedIn(app, world, 'github', mallory)).user.email).toBe('mallory@gmail.com')
  })

  it('L05 a provider without a list of addresses verifies none', async () => {
    const { emailsEndpoint: _, ...silent } = providers.oauth2
    const who = { profile: { id: 1, name: 'Alice', email: alice, verified: true, email_verified: true } }
    await restart(silent)
    await expectUnverified('oauth2', who)
    await restart({ ...silent, link: 'verified-email' })
    await existing()
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, 'oauth2', who, agent), before)
    expect((await signedIn(app, world, 'oauth2', { profile: { id: 2 } })).user.email).toBe(null)
    await restart({ ...providers.oauth2, link: 'verified-email' })
    const owner = await existing()
    const listed = person('oauth2', 1, alice)
    expect((await signedIn(app, world, 'oauth2', listed)).user.id).toBe(owner.user.id)
  })

  it('L05 an issuer whose flag is no proof verifies none', async () => {
    const who = person('oidc', 1, alice)
    await restart({ ...providers.oidc, emailVerifiedIsProof: false })
    await expectUnverified('oidc', who)
    await restart({ ...providers.oidc, emailVerifiedIsProof: false, link: 'verified-email' })
    await existing()
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, 'oidc', who, agent), before)
    await restart(providers.oidc)
    expect((await signedIn(app, world, 'oidc', who)).user.email).toBe(alice)
  })
})

describe('Linking: whose word leads to an existing account', () => {
  const google = (email: string, hd?: unknown): Person => ({
    claims: { sub: 'sub-1', email, email_verified: true, name: 'A', ...(hd !== undefined && { hd }) },
  })

  it.each([
    ['a Gmail address', 'alice@gmail.com', undefined],
    ['a Workspace address in the domain of hd', 'alice@corp.example', 'corp.example'],
    ['a Workspace address in other case', 'Alice@Corp.Example', 'CORP.example'],
  ])('Google answers for %s', async (_name, email, hd) => {
    const before = await signedIn(app, world, 'elsewhere', person('oidc', 100, email))
    const linked = await signedIn(app, world, 'google', google(email, hd))
    expect(linked.user.id).toBe(before.user.id)
    expect(linked.jit.reason).toBe('identity_linked')
  })

  it.each([
    ['an address elsewhere', 'alice@corp.example', undefined],
    ['an address outside the domain of hd', 'alice@corp.example', 'other.example'],
    ['an address below the domain of hd', 'alice@sub.corp.example', 'corp.example'],
    ['a domain that ends like Gmail', 'alice@notgmail.com', undefined],
    ['a subdomain of Gmail', 'alice@x.gmail.com', undefined],
    ['an hd that is a list', 'alice@corp.example', ['corp.example']],
    ['an empty hd', 'alice@corp.example', ''],
  ])('Google once verified %s, and does not answer for it', async (_name, email, hd) => {
    const owner = await signedIn(app, world, 'elsewhere', person('oidc', 100, email))
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, 'google', google(email, hd), agent), before)
    expect((await signedIn(app, world, 'elsewhere', person('oidc', 100, email))).user.id).toBe(owner.user.id)
  })

  it('an address that Google once verified is kept unproved for a new account, which its owner claims', async () => {
    const made = await signedIn(app, world, 'google', google('alice@corp.example'))
    expect(made.user.email).toBeNull()
  })

  it('link: prove asks for a proof where Google does answer', async () => {
    await restart({ ...providers.google, link: 'prove' })
    await existing()
    const before = await app.rows()
    const agent = browser()
    await expectProofAsked(app, agent, await signIn(app, world, 'google', google(alice), agent), before)
  })

  it.each(['apple', 'microsoft', 'oidc', 'github', 'oauth2'] as const)(
    '%s is asked for a proof, unless the operator trusts it to link',
    async (preset) => {
      await existing()
      const before = await app.rows()
      const agent = browser()
      const who = person(preset, 1, alice)
      await expectProofAsked(app, agent, await signIn(app, world, preset, who, agent), before)
      await restart({ ...providers[preset], link: 'verified-email' })
      const owner = await existing()
      expect((await signedIn(app, world, preset, who)).user.id).toBe(owner.user.id)
    },
  )
})

describe('L25 ids that meet', () => {
  it('L25 a provider and a connection of one id, one issuer and one subject are two', async () => {
    await app.close()
    world = await startWorld()
    const same = { id: 'acme', clientId: 'client-acme', clientSecret: 'secret of acme' }
    app = await startApp({
      connections: [
        {
          ...same,
          organization: 'acme',
          protocol: 'oidc',
          issuer: 'https://issuer.example',
          jit: { roles: ['member'] },
        },
      ],
      social: [{ ...providers.oidc, ...same }],
      fetch: world.fetch,
    })
    const social = await signedIn(app, world, 'acme', person('oidc', 1, 'ann@gmail.com'))
    const agent = browser()
    const begun = await agent.go(`${app.origin}/auth/sso/acme`)
    const back = world.arrive(begun.location!, person('oidc', 1, 'ann@acme.example'))
    const misled = await agent.go(`${app.callback('acme')}?${back}`)
    expect([misled.status, misled.json().error]).toEqual([400, 'attempt_unknown'])
    const again = await agent.go(`${app.origin}/auth/sso/acme`)
    const honest = world.arrive(again.location!, person('oidc', 1, 'ann@acme.example'))
    expect((await agent.go(`${app.origin}/auth/sso/acme/callback?${honest}`)).status).toBe(303)
    const sso = (await agent.go(`${app.origin}/me`)).json()
    expect(sso.user.id).not.toBe(social.user.id)
    expect(
      (await app.rows()).users.flatMap(({ identities }) => identities.map(({ source }) => source)).sort(),
    ).toEqual(['connection:acme', 'provider:acme'])
  })
})
