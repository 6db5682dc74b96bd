import { type DirectoryInput, staticDirectory } from 'passport-jit'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { type PassportProvider, socialStrategy } from 'passport-jit/strategies/social'
import { expect } from 'vitest'
import { type AppOptions, startApp as startOidcApp, twoOrganizations } from './oidc-app.js'

export { expectRefused } from './oidc-app.js'

import { type Browser, browser } from './oidc-http.js'
import type { Person, World } from './social-world.js'

export type SocialInput = NonNullable<DirectoryInput['social']>[number]

export interface SocialAppOptions extends Omit<AppOptions, 'connections'> {
  connections?: AppOptions['connections']
  social: SocialInput[]
  email?: DirectoryInput['email']
  passport?: Record<string, PassportProvider>
}

/** The app of the OIDC tests with social providers, and with connections where a test brings some. */
export async function startApp({ social, email, passport = {}, ...options }: SocialAppOptions) {
  const connections = options.connections ?? []
  const organizations = options.organizations ?? twoOrganizations
  const app = await startOidcApp({
    ...options,
    organizations,
    connections,
    directory:
      options.directory ?? staticDirectory({ organizations, connections, social, ...(email && { email }) }),
    strategies: options.strategies ?? [oidcStrategy(), socialStrategy({ passport })],
  })
  const callback = (provider: string) => `${app.origin}/auth/social/${provider}/callback`
  return { ...app, callback, start: (provider: string) => `${app.origin}/auth/social/${provider}` }
}

export type App = Awaited<ReturnType<typeof startApp>>

const client = (id: string) => ({ id, clientId: `client-${id}`, clientSecret: `secret of ${id}` })

/** Entries of the directory whose id is the preset's name. */
export const providers = {
  google: { ...client('google'), preset: 'google' },
  microsoft: { ...client('microsoft'), preset: 'microsoft' },
  apple: { ...client('apple'), preset: 'apple' },
  oidc: {
    ...client('oidc'),
    preset: 'oidc',
    issuer: 'https://issuer.example',
    emailVerifiedIsProof: true,
  },
  github: { ...client('github'), preset: 'github' },
  oauth2: {
    ...client('oauth2'),
    preset: 'oauth2',
    authorizationEndpoint: 'https://social.example/authorize',
    tokenEndpoint: 'https://social.example/token',
    profileEndpoint: 'https://social.example/user',
    emailsEndpoint: 'https://social.example/user/emails',
  },
} as const satisfies Record<string, SocialInput>

export type Preset = keyof typeof providers

const tenant = '11111111-aaaa-4aaa-8aaa-111111111111'

/** A person as a preset's provider tells of them; verified by what that provider calls proof, unless not. */
export function person(preset: Preset, subject: number, email?: string, verified = true): Person {
  const name = `Person ${subject}`
  const base = { sub: `sub-${subject}`, name, ...(email !== undefined && { email }) }
  switch (preset) {
    case 'google':
      // A Workspace account, so that Google answers for the address.
      return { claims: { ...base, email_verified: verified, ...(email && { hd: email.split('@')[1] }) } }
    case 'apple':
      return { claims: { ...base, email_verified: verified ? 'true' : 'false' } }
    case 'microsoft': {
      const oid = `aaaaaaaa-0000-4000-8000-${String(subject).padStart(12, '0')}`
      return { claims: { ...base, tid: tenant, oid, ...(verified && { xms_edov: true }) } }
    }
    case 'oidc':
      return { claims: { ...base, email_verified: verified } }
    default:
      return {
        profile: { id: subject, login: `person${subject}`, name, email: null },
        emails: email === undefined ? [] : [{ email, primary: true, verified }],
      }
  }
}

/** The subject that an identity of `person()` is stored under. */
export function subjectOf(preset: Preset, subject: number): string {
  if (preset === 'github' || preset === 'oauth2') return String(subject)
  return preset === 'microsoft'
    ? `${tenant}.aaaaaaaa-0000-4000-8000-${String(subject).padStart(12, '0')}`
    : `sub-${subject}`
}

/** Begins a sign-in; the address of the provider where the person is sent. */
export async function begin(app: App, provider: string, agent: Browser): Promise<URL> {
  const begun = await agent.go(app.start(provider))
  expect(begun.status, begun.text).toBe(302)
  return new URL(begun.location!)
}

/** Hands an answer to the callback in the way its provider does, and follows our own redirects on that path. */
export async function answer(app: App, provider: string, parameters: URLSearchParams, agent: Browser) {
  if (provider !== 'apple') return agent.go(`${app.callback(provider)}?${parameters}`)
  // From another site: a browser sends no Lax cookie along.
  const posted = await agent.go(app.callback(provider), {
    method: 'POST',
    body: parameters,
    headers: { cookie: '' },
  })
  return posted.status === 303 ? agent.go(posted.location!) : posted
}

/** A whole sign-in; the answer of the callback. */
export async function signIn(app: App, world: World, provider: string, who: Person, agent = browser()) {
  const authorize = await begin(app, provider, agent)
  return answer(app, provider, world.arrive(authorize.href, who), agent)
}

/** A whole sign-in that succeeds; who the app says is signed in. */
export async function signedIn(app: App, world: World, provider: string, who: Person, agent = browser()) {
  const answered = await signIn(app, world, provider, who, agent)
  expect(answered.status, answered.text).toBe(303)
  expect(new URL(answered.location!).pathname, 'signed in without a proof').toBe('/me')
  const me = await agent.go(`${app.origin}/me`)
  expect(me.status).toBe(200)
  return me.json() as {
    user: { id: string; email: string | null; memberships: { organization: string; roles: string[] }[] }
    jit: { outcome: string; reason: string; joined: string[] }
  }
}

/** A proof is asked for: nobody is signed in, and nothing has changed, not even a version. */
export async function expectProofAsked(
  app: App,
  agent: Browser,
  answered: { status: number; location: string | null; text: string },
  before: Awaited<ReturnType<App['rows']>>,
) {
  expect(answered.status, answered.text).toBe(303)
  expect(new URL(answered.location!).pathname).toBe('/auth/prove')
  expect(await app.me(agent)).toBe(401)
  expect(await app.rows()).toEqual(before)
}
