import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest'
import {
  type App,
  type AppOptions,
  clientOf,
  type OidcInput,
  oidcConnection,
  signIn,
  startApp,
} from './oidc-app.js'
import { browser } from './oidc-http.js'
import { type Provider, person, startProvider } from './oidc-provider.js'

/**
 * Acme with its provider and Globex with another, in an app that is new for each test. Alice is Acme's, Bob is
 * Globex's; Mallory of Globex says she has Alice's address.
 */
export function scene(acmeSettings: Partial<OidcInput> = {}, options: Partial<AppOptions> = {}) {
  const redirectUris: string[] = []
  const at = {} as { acme: Provider; globex: Provider; app: App }

  beforeAll(async () => {
    at.acme = await startProvider({
      clients: [
        { ...clientOf('acme'), redirectUris },
        { id: 'another-app', secret: 'another', redirectUris: ['https://another.example/callback'] },
      ],
      people: [
        person('alice', 'alice@acme.example', { groups: ['staff'] }),
        person('ann', 'ann@acme.example', { groups: ['staff', 'admins'] }),
      ],
    })
    at.globex = await startProvider({
      clients: [{ ...clientOf('globex'), redirectUris }],
      people: [person('bob', 'bob@globex.example'), person('mallory', 'alice@acme.example')],
    })
  })
  afterAll(() => Promise.all([at.acme.close(), at.globex.close()]))

  beforeEach(async () => {
    at.app = await startApp({
      connections: [
        oidcConnection('acme', at.acme, acmeSettings),
        oidcConnection('globex', at.globex, { organization: 'globex' }),
      ],
      ...options,
    })
    redirectUris.push(at.app.callback('acme'), at.app.callback('globex'))
  })
  afterEach(async () => {
    at.acme.honest()
    at.globex.honest()
    redirectUris.length = 0
    await at.app.close()
  })
  return at
}

/** The same sign-in with nothing wrong, so that a refusal before it was for the fault and nothing else. */
export async function honestSignIn(app: App, connection: string, who: string) {
  const client = browser()
  const answer = await signIn(app, connection, who, client)
  expect(answer.status, answer.text).toBe(303)
  const me = await client.go(`${app.origin}/me`)
  expect(me.status).toBe(200)
  return me.json() as { user: { id: string; email: string | null; memberships: { roles: string[] }[] } }
}
