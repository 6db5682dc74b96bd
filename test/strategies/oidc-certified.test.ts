import Provider, { type ClientMetadata } from 'oidc-provider'
import { afterEach, expect, it } from 'vitest'
import { type App, expectSignedIn, oidcConnection, startApp } from '../rig/oidc-app.js'
import { type Browser, browser, listen } from '../rig/oidc-http.js'

// A provider this repository did not write: `oidc-provider`, with the log-in forms it comes with.

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()))
})

async function start(
  authentication: 'client_secret_post' | 'client_secret_basic' | 'none',
  conform: boolean,
) {
  let handler: Parameters<typeof listen>[1] = () => {}
  const server = await listen('127.0.0.1', (req, res) => handler(req, res))
  const app = await startApp({
    connections: [
      oidcConnection('acme', { issuer: server.origin }, { clientAuthentication: authentication }),
    ],
  })
  const client: ClientMetadata = {
    client_id: 'client-acme',
    ...(authentication !== 'none' && { client_secret: 'secret of acme' }),
    token_endpoint_auth_method: authentication,
    redirect_uris: [app.callback('acme')],
  }
  const provider = new Provider(server.origin, {
    clients: [client],
    conformIdTokenClaims: conform,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@acme.example`, email_verified: true, name: `Person ${id}` }),
    }),
    cookies: { keys: ['test'] },
  })
  handler = provider.callback()
  closing.push(app.close, server.close)
  return app
}

/** Fills in the forms of the provider until it sends the person back to the app. */
async function logIn(app: App, client: Browser, who: string) {
  let page = await client.go(app.start('acme'))
  for (let step = 0; step < 12; step++) {
    if (page.location?.startsWith(app.origin)) return page.location
    if (page.location) {
      page = await client.go(page.location)
      continue
    }
    const action = /<form[^>]* action="([^"]+)"/.exec(page.text)?.[1]
    const prompt = /name="prompt" value="(\w+)"/.exec(page.text)?.[1]
    expect(action, page.text).toBeDefined()
    const form = new URLSearchParams({
      prompt: prompt!,
      ...(prompt === 'login' && { login: who, password: 'x' }),
    })
    page = await client.go(action!, { method: 'POST', body: form })
  }
  throw new Error(`no way back to the app: ${page.text}`)
}

it.each([
  ['client_secret_post', true],
  ['client_secret_basic', true],
  ['none', true],
  ['client_secret_post', false],
] as const)('signs in by %s, claims in UserInfo: %j', async (authentication, conform) => {
  const app = await start(authentication, conform)
  const client = browser()
  await expectSignedIn(app, client, await client.go(await logIn(app, client, 'alice')))
  const [user] = (await app.store.users()).rows
  expect(user).toMatchObject({ verifiedEmail: 'alice@acme.example', attributes: { name: 'Person alice' } })
  expect(user!.identities).toMatchObject([{ subject: 'alice' }])

  const again = browser()
  await expectSignedIn(app, again, await again.go(await logIn(app, again, 'alice')))
  expect((await app.store.users()).rows).toHaveLength(1)
})
