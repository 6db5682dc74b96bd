import { type DirectoryInput, JitError, staticDirectory } from 'passport-jit'
import { socialStrategy } from 'passport-jit/strategies/social'
import { describe, expect, it } from 'vitest'
import { providers } from '../rig/social-app.js'

// What an operator is told at start, before anybody signs in.

type Social = NonNullable<DirectoryInput['social']>

const organizations = [{ id: 'acme', name: 'Acme', roles: ['member'] }]

/** What the schema and then the strategy make of an entry. */
async function look(entry: object): Promise<readonly string[]> {
  const directory = staticDirectory({ organizations, social: [entry] as Social })
  const provider = await directory.provider((entry as { id: string }).id)
  return socialStrategy().check!(provider as never)
}

const loopback = {
  ...providers.oauth2,
  authorizationEndpoint: 'http://127.0.0.1:1/authorize',
  tokenEndpoint: 'http://127.0.0.1:1/token',
  profileEndpoint: 'http://127.0.0.1:1/user',
  emailsEndpoint: 'http://127.0.0.1:1/user/emails',
}

describe('an entry that can never work is refused, with its id and its key', () => {
  it.each<[string, object, RegExp]>([
    ['a tenant by its name', { ...providers.microsoft, tenant: 'contoso.example' }, /tenant.*tenant id/],
    ['no client secret', { ...providers.google, clientSecret: '' }, /clientSecret/],
    ['an address that is mapped', { ...providers.google, attributes: { email: 'upn' } }, /"email"/],
    ['groups that are mapped', { ...providers.google, attributes: { groups: 'roles' } }, /"groups"/],
    ['OIDC without openid', { ...providers.google, scopes: ['email'] }, /scopes.*"openid"/],
    ['an issuer by plain http', { ...providers.oidc, issuer: 'http://issuer.example' }, /issuer.*plain http/],
    [
      'the address of a discovery document',
      { ...providers.oidc, issuer: 'https://issuer.example/.well-known/openid-configuration' },
      /issuer.*well-known/,
    ],
    ['an endpoint by plain http', loopback, /authorizationEndpoint.*plain http/],
    [
      'one endpoint by plain http',
      { ...providers.oauth2, emailsEndpoint: loopback.emailsEndpoint },
      /emailsEndpoint.*plain http/,
    ],
    ['the id of the e-mail method', { ...providers.google, id: 'email' }, /"email" is the e-mail method/],
    ['a key with a slip', { ...providers.google, linc: 'prove' }, /"linc" \(did you mean "link"\?\)/],
  ])('%s', async (_name, entry, message) => {
    const refused = await look(entry).then(
      () => null,
      (error) => error,
    )
    expect(refused).toBeInstanceOf(JitError)
    expect(refused.message).toMatch(message)
    expect(refused).toMatchObject({ code: 'config_invalid', message: expect.stringMatching(message) })
    expect(refused.message).toContain(`"${(entry as { id: string }).id}"`)
  })

  it.each(Object.values(providers))('$id as it should be is taken without a word', async (entry) => {
    expect(await look(entry)).toEqual([])
  })
})

describe('an entry that does less, or more, than it seems is warned of', () => {
  it.each<[string, object, RegExp]>([
    [
      'plain http across a network',
      { ...providers.oidc, issuer: 'http://issuer.example', allowInsecureRequests: true },
      /plain http to issuer\.example/,
    ],
    [
      'an endpoint by plain http across a network',
      { ...providers.oauth2, tokenEndpoint: 'http://social.example/token', allowInsecureRequests: true },
      /tokenEndpoint: plain http to social\.example/,
    ],
    ['OIDC without the address', { ...providers.google, scopes: ['openid'] }, /without "email"/],
    [
      'linking by a flag that is no proof',
      { ...providers.oidc, emailVerifiedIsProof: false, link: 'verified-email' },
      /emailVerifiedIsProof/,
    ],
    [
      'linking without a list of addresses',
      { ...providers.oauth2, emailsEndpoint: undefined, link: 'verified-email' },
      /emailsEndpoint/,
    ],
  ])('%s', async (_name, entry, message) => {
    const warnings = await look(entry)
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatch(message)
    expect(warnings[0]).toContain(`provider "${(entry as { id: string }).id}"`)
  })

  it('plain http to this machine is what developing needs', async () => {
    expect(await look({ ...loopback, allowInsecureRequests: true })).toEqual([])
  })
})

it('an entry that no schema saw is looked over at its first use', async () => {
  const provider = {
    ...providers.oauth2,
    protocol: 'social',
    version: '1',
    attributes: {},
    tokenEndpoint: 'ftp://x',
  }
  const services = { random: (bytes: number) => new Uint8Array(bytes), callbackUrl: 'https://app.example/cb' }
  const begun = socialStrategy().begin(provider as never, 'A'.repeat(43), services as never)
  await expect(begun).rejects.toMatchObject({ code: 'config_invalid' })
})
