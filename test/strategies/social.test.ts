import { type Services, type SocialProvider, staticDirectory } from 'passport-jit'
import { socialStrategy } from 'passport-jit/strategies/social'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { browser } from '../rig/oidc-http.js'
import {
  type App,
  answer,
  begin,
  type Preset,
  person,
  providers,
  signedIn,
  startApp,
  subjectOf,
} from '../rig/social-app.js'
import { startWorld, type World } from '../rig/social-world.js'

let world: World
let app: App

beforeEach(async () => {
  world = await startWorld()
  app = await startApp({ social: Object.values(providers), fetch: world.fetch })
})
afterEach(() => app.close())

const presets = Object.keys(providers) as Preset[]

const issuers: Record<Preset, string> = {
  google: 'https://accounts.google.com',
  microsoft: 'https://login.microsoftonline.com/11111111-aaaa-4aaa-8aaa-111111111111/v2.0',
  apple: 'https://appleid.apple.com',
  oidc: 'https://issuer.example',
  github: 'https://github.com',
  oauth2: 'https://social.example',
}

describe.each(presets)('%s', (preset) => {
  it('signs somebody in, and knows them the next time', async () => {
    const ann = person(preset, 1, 'ann@gmail.com')
    const first = await signedIn(app, world, preset, ann)
    expect(first.user.email).toBe('ann@gmail.com')
    expect(first.jit).toMatchObject({ outcome: 'created', reason: 'user_created' })
    const { users } = await app.rows()
    expect(users).toHaveLength(1)
    expect(users[0]!).toMatchObject({
      verifiedEmail: 'ann@gmail.com',
      identities: [{ source: `provider:${preset}`, issuer: issuers[preset], subject: subjectOf(preset, 1) }],
    })
    const again = await signedIn(app, world, preset, ann)
    expect(again.user.id).toBe(first.user.id)
    expect(again.jit).toMatchObject({ outcome: 'unchanged', reason: 'identity_known' })
  })

  it('sends the person with state, PKCE and the configured callback', async () => {
    const { searchParams } = await begin(app, preset, browser())
    expect(Object.fromEntries(searchParams)).toMatchObject({
      response_type: 'code',
      client_id: `client-${preset}`,
      redirect_uri: app.callback(preset),
      state: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge_method: 'S256',
    })
    const plain = preset === 'github' || preset === 'oauth2'
    expect(searchParams.get('nonce')).toEqual(plain ? null : expect.stringMatching(/^[\w-]{43}$/))
  })
})

describe('the way back of Apple', () => {
  it('is a form from its own site, which ends with a GET of ours', async () => {
    const agent = browser()
    const authorize = await begin(app, 'apple', agent)
    expect(authorize.searchParams.get('response_mode')).toBe('form_post')
    expect(authorize.searchParams.get('scope')).toBe('openid name email')
    const form = world.arrive(authorize.href, person('apple', 1, 'ann@privaterelay.appleid.com'))
    form.set(
      'user',
      JSON.stringify({ name: { firstName: 'Ann', lastName: 'Able' }, email: 'boss@acme.example' }),
    )
    const posted = await agent.go(app.callback('apple'), {
      method: 'POST',
      body: form,
      headers: { cookie: '' },
    })
    expect(posted.status, posted.text).toBe(303)
    expect(await app.me(agent)).toBe(401)
    expect((await agent.go(posted.location!)).status).toBe(303)
    expect(await app.me(agent)).toBe(200)
    const { users } = await app.rows()
    expect(users[0]).toMatchObject({
      verifiedEmail: 'ann@privaterelay.appleid.com',
      attributes: { name: 'Person 1' },
    })
  })

  it('brings the name beside the answer, once, and nothing else from there counts', async () => {
    const agent = browser()
    const authorize = await begin(app, 'apple', agent)
    const { claims } = person('apple', 1, 'ann@gmail.com')
    const { name: _, ...nameless } = claims!
    const form = world.arrive(authorize.href, { claims: nameless })
    form.set(
      'user',
      JSON.stringify({ name: { firstName: 'Ann', lastName: 'Able' }, email: 'boss@acme.example', sub: 'x' }),
    )
    expect((await answer(app, 'apple', form, agent)).status).toBe(303)
    expect((await app.rows()).users[0]).toMatchObject({
      verifiedEmail: 'ann@gmail.com',
      attributes: { name: 'Ann Able' },
      identities: [{ subject: 'sub-1' }],
    })
  })

  it.each(['', 'null', '{', '[]', '{"name":"Ann"}', '{"name":{"firstName":{}}}'])(
    'with a user field of %j is a sign-in without a name',
    async (user) => {
      const agent = browser()
      const { claims } = person('apple', 1, 'ann@gmail.com')
      const { name: _, ...nameless } = claims!
      const form = world.arrive((await begin(app, 'apple', agent)).href, { claims: nameless })
      form.set('user', user)
      expect((await answer(app, 'apple', form, agent)).status).toBe(303)
      expect((await app.rows()).users[0]).toMatchObject({ verifiedEmail: 'ann@gmail.com', attributes: {} })
    },
  )

  it('is a plain redirect where neither name nor address is asked for', async () => {
    await app.close()
    app = await startApp({ social: [{ ...providers.apple, scopes: ['openid'] }], fetch: world.fetch })
    const agent = browser()
    const authorize = await begin(app, 'apple', agent)
    expect(authorize.searchParams.has('response_mode')).toBe(false)
    const back = world.arrive(authorize.href, person('apple', 1))
    expect((await agent.go(`${app.callback('apple')}?${back}`)).status).toBe(303)
    expect(await app.me(agent)).toBe(200)
    expect(app.log.find(({ message }) => message.includes('without "email"'))).toBeDefined()
  })
})

describe('A strategy that is asked itself, whoever found the attempt', () => {
  const asked = async (state: string, attempt: { id: string } | null) => {
    const social = [{ id: 'hub', preset: 'github', clientId: 'app', clientSecret: 'secret' }] as const
    const entry = (await staticDirectory({ organizations: [], social: [...social] }).provider('hub'))!
    const services = {
      fetch: () => Promise.reject(new Error('the code is exchanged')),
      callbackUrl: 'https://app.example/auth/social/hub/callback',
    }
    return socialStrategy().complete(
      entry as SocialProvider,
      { method: 'GET', query: new URLSearchParams({ state, code: 'code' }), body: null },
      attempt && { ...attempt, at: 0, secrets: { verifier: 'verifier' } },
      services as unknown as Services,
    )
  }

  it('O01 takes an answer with the state of its attempt, and with no other', async () => {
    await expect(asked('mine', { id: 'mine' })).rejects.toThrow('the code is exchanged')
    await expect(asked('another', { id: 'mine' })).rejects.toMatchObject({ code: 'assertion_refused' })
  })

  it('O01 takes no answer that nobody asked for', async () => {
    await expect(asked('mine', null)).rejects.toMatchObject({ code: 'answer_unsolicited' })
  })
})
