import { assertIdentity, type Strategy, single } from 'passport-jit'
import { type App, type AppOptions, type ConnectionInput, startApp } from '../rig/oidc-app.js'
import { type Browser, browser } from '../rig/oidc-http.js'

/**
 * A strategy that believes whatever it is told, as small as the contract allows: what is under test is the
 * flow around it.
 */
export function honest(protocol: 'oidc' | 'saml'): Strategy<never> {
  const strategy: Strategy = {
    protocol,
    attemptKey: ({ query, body }) => single(body ?? query, 'state'),
    begin: async (_connection, attempt, services) => ({
      redirect: `https://idp.example/?${new URLSearchParams({ state: attempt, to: services.callbackUrl })}`,
      secrets: { proof: 'kept' },
    }),
    complete: async (connection, { query, body }, attempt, services) => {
      const fields = body ?? query
      if (attempt && attempt.secrets.proof !== 'kept') throw new Error('the attempt lost its secret')
      if (fields.has('throw')) throw new Error(fields.get('throw')!)
      if (fields.has('hand-made')) return { source: 'connection:acme', subject: 'alice' } as never
      return assertIdentity({
        source: `connection:${connection.id}`,
        sourceVersion: connection.version,
        issuer: 'https://idp.example',
        subject: single(fields, 'subject') ?? 'alice',
        email: single(fields, 'email') ?? 'alice@acme.example',
        at: services.now(),
      })
    },
  }
  return strategy as unknown as Strategy<never>
}

export const oidc = (id: string, more: object = {}): ConnectionInput => ({
  id,
  organization: 'acme',
  protocol: 'oidc',
  issuer: 'https://idp.example',
  clientId: 'app',
  clientSecret: 'secret',
  jit: { roles: ['member'] },
  ...more,
})

export const saml = (id: string, more: object = {}): ConnectionInput => ({
  id,
  organization: 'acme',
  protocol: 'saml',
  idpMetadata: '<EntityDescriptor/>',
  jit: { roles: ['member'] },
  ...more,
})

/** An app with two OIDC connections and one SAML connection, all served by honest strategies. */
export const startHonest = (options: AppOptions = {}) =>
  startApp({
    connections: [oidc('acme'), oidc('other'), saml('acme-saml'), saml('open-saml', { idpInitiated: true })],
    strategies: [honest('oidc'), honest('saml')],
    ...options,
  })

/** Begins a sign-in and gives back the id of its attempt. */
export async function begin(app: App, client: Browser, connection = 'acme', query = ''): Promise<string> {
  const begun = await client.go(app.start(connection) + query)
  if (begun.status !== 302) throw new Error(`${begun.status} ${begun.text}`)
  return new URL(begun.location!).searchParams.get('state')!
}

/** The IdP's answer by GET. */
export const answer = (app: App, client: Browser, state: string, connection = 'acme', more = '') =>
  client.go(`${app.callback(connection)}?state=${state}${more}`)

/** The IdP's answer by a POST from its own page, without this site's Lax cookies. */
export const post = (app: App, fields: Record<string, string>, connection = 'acme-saml') =>
  browser().go(app.callback(connection), { method: 'POST', body: new URLSearchParams(fields) })

export async function signedIn(app: App, connection = 'acme') {
  const client = browser()
  const done = await answer(app, client, await begin(app, client, connection), connection)
  if (done.status !== 303) throw new Error(`${done.status} ${done.text}`)
  return client
}

export const flowCookies = (app: App, client: Browser) =>
  [...client.cookies(app.origin).keys()].filter((name) => /^(?:__Host-)?jit-/.test(name))
