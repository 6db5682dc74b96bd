import { inspect } from 'node:util'
import fc from 'fast-check'
import { exportSPKI, type JWTPayload, SignJWT } from 'jose'
import { JitError } from 'passport-jit'
import { describe, expect, it } from 'vitest'
import { expectRefused, expectSignedIn, signIn, untilCallback } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { honestSignIn, scene } from '../rig/oidc-scene.js'

// Attacks on the ID token: what it says, and who signed it.

const at = scene({
  attributes: { email: 'email', name: 'name', groups: 'groups' },
  groups: { mode: 'sync', map: { admins: ['admin'] } },
})

type Json = Record<string, unknown>

const second = () => Math.floor(Date.now() / 1000)
const without = (claims: JWTPayload, name: string) => {
  const { [name]: _, ...rest } = claims
  return rest
}

/** Signs in with claims changed, expects the refusal, and then the same unchanged. */
async function refused(change: (claims: JWTPayload) => JWTPayload, message: RegExp) {
  at.acme.faults.idToken = (claims) => at.acme.sign(change(claims))
  const client = browser()
  const answer = await signIn(at.app, 'acme', 'alice', client)
  await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403, message })
  at.acme.faults.idToken = (claims) => at.acme.sign(claims)
  await honestSignIn(at.app, 'acme', 'alice')
}

async function accepted(change: (claims: JWTPayload) => JWTPayload) {
  at.acme.faults.idToken = (claims) => at.acme.sign(change(claims))
  return honestSignIn(at.app, 'acme', 'alice')
}

describe('O02 nonce', () => {
  it('O02 nonce missing is refused', () => refused((claims) => without(claims, 'nonce'), /nonce/))
  it('O02 nonce wrong is refused', () => refused((claims) => ({ ...claims, nonce: 'another' }), /nonce/))
  it('O02 nonce as a list is refused', () =>
    refused((claims) => ({ ...claims, nonce: [claims.nonce] }), /nonce/))

  it('O02 nonce of an earlier sign-in is refused', async () => {
    let earlier: unknown
    at.acme.faults.idToken = (claims) => {
      earlier = claims.nonce
      return at.acme.sign(claims)
    }
    await honestSignIn(at.app, 'acme', 'alice')
    const before = await at.app.rows()
    at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, nonce: earlier })
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403 }, before)
  })
})

describe('O05 signature', () => {
  const base64url = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const unsigned = (claims: JWTPayload) => `${base64url({ alg: 'none' })}.${base64url(claims)}.`
  const shared = (secret: string | Uint8Array) => (claims: JWTPayload) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256' })
      .sign(typeof secret === 'string' ? new TextEncoder().encode(secret) : secret)
  const tampered = (token: string) => {
    const [header, payload, signature] = token.split('.') as [string, string, string]
    const claims = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), email: 'ann@acme.example' }
    return `${header}.${base64url(claims)}.${signature}`
  }

  it.each<[string, (claims: JWTPayload) => string | Promise<string>]>([
    ['none', unsigned],
    ['"None" in other letters', (claims) => unsigned(claims).replace(/^[^.]+/, base64url({ alg: 'nOnE' }))],
    ['HS256 with the client secret', shared('secret of acme')],
    ['HS256 with the public key', async (claims) => shared(await exportSPKI(at.acme.keys.publicKey))(claims)],
    [
      'HS256 with the modulus',
      (claims) => shared(Buffer.from(at.acme.keys.published.n!, 'base64url'))(claims),
    ],
    ['a crit header', (claims) => at.acme.sign(claims, { crit: ['b64'], b64: true })],
    ['an unknown kid', (claims) => at.acme.sign(claims, { kid: 'unknown' })],
    ["another provider's key under a known kid", (claims) => at.globex.sign(claims)],
    ['a key of its own in the header', (claims) => at.globex.sign(claims, { jwk: at.globex.keys.published })],
    ['a key address of its own', (claims) => at.globex.sign(claims, { jku: `${at.globex.issuer}/jwks` })],
    ['claims changed after signing', async (claims) => tampered(await at.acme.sign(claims))],
    ['no signature', async (claims) => (await at.acme.sign(claims)).replace(/[^.]+$/, '')],
    ['four parts', async (claims) => `${await at.acme.sign(claims)}.x`],
    ['no token at all', () => 'not a token'],
  ])('O05 %s is refused, even where the issuer advertises it', async (_name, forge) => {
    at.acme.faults.discovery = (document) => ({
      ...document,
      id_token_signing_alg_values_supported: ['none', 'HS256', 'RS256'],
    })
    at.acme.faults.idToken = forge
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403 })
    delete at.acme.faults.idToken
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O05 an issuer with nothing but shared secrets is refused before anybody is sent there', async () => {
    at.acme.faults.discovery = (document) => ({
      ...document,
      id_token_signing_alg_values_supported: ['none', 'HS256'],
    })
    const client = browser()
    const answer = await client.go(at.app.start('acme'))
    await expectRefused(at.app, client, answer, {
      code: 'idp_unreachable',
      status: 503,
      message: /asymmetric/,
    })
    at.acme.honest()
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O05 a response without an ID token is refused', async () => {
    at.acme.faults.token = ({ id_token: _, ...response }) => response
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, {
      code: 'assertion_refused',
      status: 403,
      message: /id_token/,
    })
    at.acme.honest()
    await honestSignIn(at.app, 'acme', 'alice')
  })
})

describe('O07 audience', () => {
  const own = 'client-acme'
  it.each<[string, object]>([
    ['aud of another client', { aud: 'another-app' }],
    ['aud in other letters', { aud: 'CLIENT-ACME' }],
    ['aud empty', { aud: [] }],
    ['aud missing', { aud: undefined }],
    ['aud a list without azp', { aud: [own, 'another-app'] }],
    ['aud a list with a foreign azp', { aud: [own, 'another-app'], azp: 'another-app' }],
    ['aud single with a foreign azp', { aud: own, azp: 'another-app' }],
    ['aud a list of one with a foreign azp', { aud: [own], azp: 'another-app' }],
    ['azp null', { azp: null }],
  ])('O07 %s is refused', (_name, wrong) => refused((claims) => ({ ...claims, ...wrong }), /aud|azp/))

  it.each<[string, object]>([
    ['a list of one', { aud: [own] }],
    ['our azp beside a single aud', { azp: own }],
    ['a list with our azp', { aud: [own, 'another-app'], azp: own }],
  ])('O07 %s is accepted', async (_name, right) => {
    await accepted((claims) => ({ ...claims, ...right }))
  })
})

describe('O07 issuer and subject', () => {
  it.each<[string, () => object, RegExp]>([
    ['iss of another provider', () => ({ iss: at.globex.issuer }), /iss/],
    ['iss with a final slash', () => ({ iss: `${at.acme.issuer}/` }), /iss/],
    ['iss missing', () => ({ iss: undefined }), /iss/],
    ['sub empty', () => ({ sub: '' }), /sub/],
    ['sub of spaces', () => ({ sub: '   ' }), /sub/],
    ['sub missing', () => ({ sub: undefined }), /sub/],
    ['sub a number', () => ({ sub: 1 }), /sub/],
  ])('O07 %s is refused', (_name, wrong, message) =>
    refused((claims) => ({ ...claims, ...wrong() }), message),
  )
})

describe('O07 what a refusal tells of the token', () => {
  /** The log line of a sign-in whose claims were changed. */
  async function logged(change: (claims: JWTPayload) => JWTPayload, message: RegExp) {
    await refused(change, message)
    return at.app.log.find((line) => line.code === 'assertion_refused')!.message
  }

  it('O07 the audience and who it should be, for the operator', async () => {
    const line = await logged((claims) => ({ ...claims, aud: 'another-app' }), /aud/)
    expect(line).toContain('aud is "another-app", expected "client-acme"')
  })

  it('O07 of the nonce that it was another, and neither of the two', async () => {
    let own: unknown
    const line = await logged((claims) => {
      own = claims.nonce
      return { ...claims, nonce: 'a-nonce-of-another' }
    }, /"nonce"/)
    expect(own).toMatch(/^[\w-]{43}$/)
    expect(line).not.toContain(own)
    expect(line).not.toContain('a-nonce-of-another')
  })
})

describe('O22 what an error holds', () => {
  it.each<[string, (response: Json) => Json, RegExp]>([
    ['a response without an ID token', ({ id_token: _, ...response }) => response, /id_token/],
    ['a lifetime that is none', (response) => ({ ...response, expires_in: 'soon' }), /expires_in/],
  ])('O22 of %s no token is in it, however deep an app prints it', async (_name, change, message) => {
    let issued: Json = {}
    at.acme.faults.token = (response) => {
      issued = response
      return change(response)
    }
    const client = browser()
    const answer = await signIn(at.app, 'acme', 'alice', client)
    await expectRefused(at.app, client, answer, { code: 'assertion_refused', status: 403, message })
    expectNoneOf([issued.access_token, issued.id_token])
    at.acme.honest()
    await honestSignIn(at.app, 'acme', 'alice')
  })

  it('O22 of a token for another no claim of the person is in it', async () => {
    const email = 'somebody.else@acme.example'
    await refused((claims) => ({ ...claims, aud: 'another-app', email }), /aud/)
    expectNoneOf([email])
  })

  function expectNoneOf(secrets: unknown[]) {
    expect(at.app.errors).toEqual([expect.any(JitError)])
    const printed = inspect(at.app.errors, { depth: Number.POSITIVE_INFINITY, showHidden: true })
    for (const secret of secrets) {
      expect(secret).toMatch(/.{10}/)
      expect(printed).not.toContain(secret)
    }
  }
})

describe('O09 time', () => {
  it.each<[string, () => object, RegExp]>([
    ['expired', () => ({ exp: second() - 120 }), /exp/],
    ['exp missing', () => ({ exp: undefined }), /exp/],
    ['exp as text', () => ({ exp: String(second() + 300) }), /exp/],
    ['nbf in the future', () => ({ nbf: second() + 120 }), /nbf/],
    ['iat in the future', () => ({ iat: second() + 120 }), /iat/],
    ['iat missing', () => ({ iat: undefined }), /iat/],
    ['iat a year ago', () => ({ iat: second() - 365 * 86_400 }), /iat/],
    ['iat twelve minutes ago', () => ({ iat: second() - 720 }), /iat/],
    ['iat beyond every date', () => ({ iat: 1e300 }), /iat/],
  ])('O09 %s is refused', (_name, wrong, message) =>
    refused((claims) => ({ ...claims, ...wrong() }), message),
  )

  it.each<[string, () => object]>([
    ['exp half a minute ago', () => ({ exp: second() - 30 })],
    ['nbf in half a minute', () => ({ nbf: second() + 30 })],
    ['iat in half a minute', () => ({ iat: second() + 30 })],
    ['iat five minutes ago', () => ({ iat: second() - 300 })],
  ])('O09 %s is within clockSkewSeconds', async (_name, right) => {
    await accepted((claims) => ({ ...claims, ...right() }))
  })
})

describe('O11 email_verified', () => {
  it.each([[true], [undefined]])('O11 %j lets a vouched address count', async (flag) => {
    const { user } = await accepted((claims) => ({ ...claims, email_verified: flag }))
    expect(user.email).toBe('alice@acme.example')
  })

  it.each([[false], ['false'], ['true'], ['TRUE'], [1], [0], [null], [''], [[]], [[true]], [{}]])(
    'O11 %j vetoes it',
    async (flag) => {
      at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, email_verified: flag })
      const client = browser()
      const answer = await signIn(at.app, 'acme', 'alice', client)
      await expectRefused(at.app, client, answer, { code: 'email_unverified', status: 403, denied: true })
      const before = await at.app.rows()
      at.acme.honest()
      await honestSignIn(at.app, 'acme', 'alice')
      expect((await at.app.rows()).users).toHaveLength(before.users.length + 1)
    },
  )

  it('O11 whatever the flag is, only true and absent create an account with that address', async () => {
    const json = fc.jsonValue().filter((value) => value !== true)
    await fc.assert(
      fc.asyncProperty(json, async (flag) => {
        at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, email_verified: flag })
        const client = browser()
        const answer = await signIn(at.app, 'acme', 'alice', client)
        expect(JSON.parse(answer.text).error).toBe('email_unverified')
      }),
      { numRuns: 25 },
    )
    expect((await at.app.store.users()).rows).toEqual([])
  })
})

describe('O15 group overage', () => {
  const rolesOf = async () =>
    (await at.app.store.users()).rows[0]!.memberships[0]!.grants.map(({ role }) => role).sort()

  it.each<[string, (claims: JWTPayload) => JWTPayload]>([
    ['_claim_names', (claims) => ({ ...without(claims, 'groups'), _claim_names: { groups: 'src1' } })],
    [
      '_claim_names beside a few groups',
      (claims) => ({ ...claims, groups: ['x'], _claim_names: { groups: 'src1' } }),
    ],
    ['hasgroups', (claims) => ({ ...without(claims, 'groups'), hasgroups: true })],
  ])('O15 with %s nothing is granted and nothing revoked', async (_name, overflow) => {
    at.acme.faults.idToken = (claims) => at.acme.sign(claims)
    await honestSignIn(at.app, 'acme', 'ann')
    expect(await rolesOf()).toEqual(['admin', 'member'])

    at.acme.requests.length = 0
    at.acme.faults.idToken = (claims) => at.acme.sign(overflow(claims))
    await honestSignIn(at.app, 'acme', 'ann')
    expect(await rolesOf()).toEqual(['admin', 'member'])
    expect(at.acme.requests).not.toContain('/userinfo')

    at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, groups: [] })
    await honestSignIn(at.app, 'acme', 'ann')
    expect(await rolesOf()).toEqual(['member'])
  })

  it('O15 a first sign-in with an overage gets the default roles, flagged in the decision', async () => {
    at.acme.faults.idToken = (claims) => at.acme.sign({ ...claims, _claim_names: { groups: 'src1' } })
    await honestSignIn(at.app, 'acme', 'ann')
    expect(await rolesOf()).toEqual(['member'])
    const trace = JSON.stringify((await at.app.store.events()).rows[0]!.detail)
    expect(trace).toContain('groups_overflow')
  })

  it('O15 a token without groups asks UserInfo, whose word then counts', async () => {
    at.acme.faults.idToken = (claims) => at.acme.sign(without(claims, 'groups'))
    const client = browser()
    await expectSignedIn(
      at.app,
      client,
      await client.go((await untilCallback(at.app, 'acme', 'ann', client)).href),
    )
    expect(await rolesOf()).toEqual(['admin', 'member'])
    expect(at.acme.requests).toContain('/userinfo')
  })
})
