import { describe, expect, it } from 'vitest'
import { clientOf, expectRefused, expectSignedIn, signIn, untilCallback } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'

// Attacks on the flow: what travels through the browser, and the code behind it.

const at = scene()

/** The callback with its parameters changed. */
const changed = (callback: URL, change: (query: URLSearchParams) => void) => {
  const url = new URL(callback)
  change(url.searchParams)
  return url.href
}

describe('O01 state', () => {
  it.each([
    ['missing', (query: URLSearchParams) => query.delete('state'), 'attempt_unknown', 400],
    ['empty', (query: URLSearchParams) => query.set('state', ''), 'attempt_unknown', 400],
    ['altered', (query: URLSearchParams) => query.set('state', 'A'.repeat(43)), 'attempt_unknown', 400],
    [
      'duplicated',
      (query: URLSearchParams) => query.append('state', query.get('state')!),
      'answer_malformed',
      400,
    ],
    ['followed by another', (query: URLSearchParams) => query.append('state', 'B'), 'answer_malformed', 400],
  ])('O01 state %s is refused', async (_name, change, code, status) => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, await client.go(changed(callback, change)), { code, status })
    await expectSignedIn(at.app, client, await client.go(callback.href))
  })

  it('O01 state reused is refused, and the first session is not given away', async () => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    await expectSignedIn(at.app, client, await client.go(callback.href))
    const before = await at.app.rows()
    const thief = browser()
    const again = await thief.go(callback.href)
    await expectRefused(at.app, thief, again, { code: 'attempt_unknown', status: 400 }, before)
    expect(await at.app.me(client)).toBe(200)
  })

  it('O01 S26 the answer of another browser is refused', async () => {
    const attacker = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', attacker)
    const victim = browser()
    await expectRefused(at.app, victim, await victim.go(callback.href), {
      code: 'attempt_foreign',
      status: 403,
    })
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O01 another browser with a sign-in of its own under way is refused too', async () => {
    const attacker = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', attacker)
    const victim = browser()
    const own = await untilCallback(at.app, 'acme', 'ann', victim)
    await expectRefused(at.app, victim, await victim.go(callback.href), {
      code: 'attempt_foreign',
      status: 403,
    })
    await expectSignedIn(at.app, victim, await victim.go(own.href))
  })

  it('O01 an answer by POST is refused, and the sign-in still waits for the real one', async () => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    const posted = await client.go(callback.href, {
      method: 'POST',
      body: new URLSearchParams(callback.search),
    })
    await expectRefused(at.app, client, posted, { code: 'attempt_unknown', status: 400 })
    await expectSignedIn(at.app, client, await client.go(callback.href))
  })
})

describe('O01 parameters', () => {
  it.each(['code', 'iss', 'session_state'])('O01 %s twice is refused', async (name) => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    const answer = await client.go(
      changed(callback, (query) => {
        query.append(name, query.get(name) ?? 'first')
        if (query.getAll(name).length === 1) query.append(name, 'second')
      }),
    )
    await expectRefused(at.app, client, answer, { code: 'answer_malformed', status: 400, message: /2 times/ })
    await honestSignIn(at.app, 'acme', 'alice')
  })
})

describe('O03 PKCE', () => {
  it.each([[undefined], [['plain']], [['plain', 'S256']]])(
    'O03 the challenge is S256 where the issuer advertises %j',
    async (methods) => {
      at.acme.faults.discovery = (document) => ({ ...document, code_challenge_methods_supported: methods })
      const client = browser()
      const begun = new URL((await client.go(at.app.start('acme'))).location!)
      expect(begun.searchParams.get('code_challenge_method')).toBe('S256')
      expect(begun.searchParams.get('code_challenge')).toMatch(/^[\w-]{43}$/)
      expect(begun.searchParams.get('nonce')).toMatch(/^[\w-]{43}$/)
      await expectSignedIn(at.app, client, await signIn(at.app, 'acme', 'alice', client))
    },
  )

  it('O03 a code bound to the verifier of another tab is refused', async () => {
    const client = browser()
    const first = await untilCallback(at.app, 'acme', 'alice', client)
    const second = await untilCallback(at.app, 'acme', 'ann', client)
    const crossed = changed(first, (query) => query.set('code', second.searchParams.get('code')!))
    const answer = await client.go(crossed)
    await expectRefused(at.app, client, answer, {
      code: 'idp_refused',
      status: 403,
      message: /invalid_grant/,
    })
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O03 two tabs that each keep their own both finish', async () => {
    const client = browser()
    const first = await untilCallback(at.app, 'acme', 'alice', client)
    const second = await untilCallback(at.app, 'acme', 'alice', client)
    await expectSignedIn(at.app, client, await client.go(second.href))
    await expectSignedIn(at.app, client, await client.go(first.href))
    expect((await at.app.rows()).users).toHaveLength(1)
  })
})

describe('O04 mix-up', () => {
  it.each([
    ['wrong', (query: URLSearchParams) => query.set('iss', at.globex.issuer)],
    ['with a final slash', (query: URLSearchParams) => query.set('iss', `${at.acme.issuer}/`)],
    ['absent though advertised', (query: URLSearchParams) => query.delete('iss')],
    ['empty', (query: URLSearchParams) => query.set('iss', '')],
  ])('O04 iss %s is refused', async (_name, change) => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    const answer = await client.go(changed(callback, change))
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403, message: /iss/ })
    expect(at.acme.requests.filter((path) => path === '/token')).toEqual([])
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O04 iss that is not advertised must be right where it is there', async () => {
    at.acme.faults.discovery = ({ authorization_response_iss_parameter_supported: _, ...rest }) => rest
    const client = browser()
    const wrong = await untilCallback(at.app, 'acme', 'alice', client)
    const answer = await client.go(changed(wrong, (query) => query.set('iss', at.globex.issuer)))
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403 })
    const hollow = await untilCallback(at.app, 'acme', 'alice', client)
    const empty = await client.go(changed(hollow, (query) => query.set('iss', '')))
    await expectRefused(at.app, client, empty, { code: 'assertion_refused', status: 403 })
    const silent = await untilCallback(at.app, 'acme', 'alice', client)
    await expectSignedIn(at.app, client, await client.go(changed(silent, (query) => query.delete('iss'))))
  })

  it("O04 an answer at another connection's callback is refused", async () => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    const misled = at.app.callback('globex') + callback.search
    await expectRefused(at.app, client, await client.go(misled), { code: 'attempt_unknown', status: 400 })
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it("O04 a code of one provider in another's sign-in is refused, and no secret goes astray", async () => {
    at.globex.faults.discovery = ({ authorization_response_iss_parameter_supported: _, ...rest }) => rest
    const client = browser()
    const acme = await untilCallback(at.app, 'acme', 'alice', client)
    const globex = await untilCallback(at.app, 'globex', 'bob', client)
    const tokens = at.acme.requests.filter((path) => path === '/token').length
    const mixed = changed(globex, (query) => {
      query.set('code', acme.searchParams.get('code')!)
      query.delete('iss')
    })
    await expectRefused(at.app, client, await client.go(mixed), { code: 'idp_refused', status: 403 })
    expect(at.acme.requests.filter((path) => path === '/token')).toHaveLength(tokens)
    await honestSignIn(at.app, 'globex', 'bob')
  })
})

describe('O08 tokens of others', () => {
  it('O08 an ID token minted for another client is refused', async () => {
    at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, aud: 'another-app' })
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403, message: /aud/ })
    at.acme.honest()
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O08 a code issued to another client is refused', async () => {
    const stolen = new URL(`${at.acme.issuer}/authorize`)
    const challenge = 'A'.repeat(43)
    stolen.search = new URLSearchParams({
      client_id: 'another-app',
      redirect_uri: 'https://another.example/callback',
      response_type: 'code',
      scope: 'openid',
      code_challenge: challenge,
      code_challenge_method: 'S256',
      person: 'ann',
    }).toString()
    const client = browser()
    const code = new URL((await client.go(stolen.href)).location!).searchParams.get('code')!
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    const answer = await client.go(changed(callback, (query) => query.set('code', code)))
    await expectRefused(at.app, client, answer, { code: 'idp_refused', status: 403 })
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O08 UserInfo about somebody else is refused', async () => {
    at.acme.faults.idToken = ({ email: _, ...claims }) => at.acme.sign(claims)
    at.acme.faults.userinfo = (claims) => ({ ...claims, sub: 'ann' })
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403, message: /sub/ })
    delete at.acme.faults.userinfo
    expect((await honestSignIn(at.app, 'acme', 'alice')).user.email).toBe('alice@acme.example')
  })
})

describe('O22 what the answer says to the person', () => {
  const script = '<script>alert(1)</script>'

  it.each(['text/html', 'application/json'])(
    'O22 error_description is not reflected as %s',
    async (accept) => {
      const client = browser()
      const begun = new URL((await client.go(at.app.start('acme'))).location!)
      const query = new URLSearchParams({
        error: 'access_denied',
        error_description: `${script}\r\nforged log line`,
        error_uri: 'javascript:alert(1)',
        state: begun.searchParams.get('state')!,
        iss: at.acme.issuer,
      })
      const answer = await client.go(`${at.app.callback('acme')}?${query}`, { headers: { accept } })
      expect(answer.status).toBe(403)
      expect(answer.text).not.toContain('script>alert')
      expect(answer.text).not.toContain('forged')
      expect(answer.text).toContain('idp_refused')
      const line = at.app.log.at(-1)!
      expect(line.code).toBe('idp_refused')
      expect(line.message).toContain('access_denied')
      expect(line.message).not.toMatch(/[\r\n<>]/)
      expect(await at.app.me(client)).toBe(401)
      expect(await at.app.rows()).toEqual({ users: [], events: [] })
      await honestSignIn(at.app, 'acme', 'alice')
    },
  )

  it('O22 an error that belongs to no sign-in is refused without a word of it', async () => {
    const client = browser()
    const query = new URLSearchParams({ error: script, error_description: script, state: script })
    const answer = await client.go(`${at.app.callback('acme')}?${query}`)
    expect(answer.text).not.toContain('script')
    await expectRefused(at.app, client, answer, { code: 'attempt_unknown', status: 400 })
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O22 a person who declines at the provider is told so', async () => {
    const client = browser()
    const begun = new URL((await client.go(at.app.start('acme'))).location!)
    begun.searchParams.set('decline', '1')
    const answer = await client.follow(begun.href)
    await expectRefused(at.app, client, answer, {
      code: 'idp_refused',
      status: 403,
      message: /access_denied/,
    })
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O22 the redirect URI is the configured one, whatever the request headers say', async () => {
    const client = browser()
    const headers = {
      'x-forwarded-host': 'evil.example',
      'x-forwarded-proto': 'https',
      forwarded: 'host=evil.example',
    }
    const begun = new URL((await client.go(at.app.start('acme'), { headers })).location!)
    expect(begun.searchParams.get('redirect_uri')).toBe(at.app.callback('acme'))
    expect(begun.searchParams.get('client_id')).toBe(clientOf('acme').id)
  })

  it('O22 an answer with neither a code nor an error is refused', async () => {
    const client = browser()
    const callback = await untilCallback(at.app, 'acme', 'alice', client)
    const answer = await client.go(changed(callback, (query) => query.delete('code')))
    await expectRefused(at.app, client, answer, { code: 'answer_malformed', status: 400 })
    await honestSignIn(at.app, 'acme', 'alice')
  })
})

describe('N01 sessions', () => {
  it('N01 a session id fixed before sign-in is worth nothing after it', async () => {
    const client = browser()
    const first = await untilCallback(at.app, 'acme', 'alice', client)
    await expectSignedIn(at.app, client, await client.go(first.href))
    const fixed = client.cookies(at.app.origin).get('connect.sid')!

    const victim = browser()
    victim.cookies(at.app.origin).set('connect.sid', fixed)
    const callback = await untilCallback(at.app, 'acme', 'ann', victim)
    await expectSignedIn(at.app, victim, await victim.go(callback.href))
    expect(victim.cookies(at.app.origin).get('connect.sid')).not.toBe(fixed)
    expect((await victim.go(`${at.app.origin}/me`)).json().user.email).toBe('ann@acme.example')
    expect(await at.app.me(client)).toBe(401)
  })
})
