import { createVerify, X509Certificate } from 'node:crypto'
import { inflateRawSync } from 'node:zlib'
import { type Directory, JitError, type SamlConnection, type Services, staticDirectory } from 'passport-jit'
import { memoryOnce } from 'passport-jit/stores/memory'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { generate } from 'selfsigned'
import { describe, expect, it } from 'vitest'
import { createSigningKey, idpMetadata, type SigningKey } from '../../examples/identity-providers/saml.js'
import { twoOrganizations } from '../rig/oidc-app.js'
import { createIdp, type Idp, type SamlInput, samlConnection } from '../rig/saml-scene.js'

const idp = await createIdp('acme')
const day = 86_400_000

/** A connection as a directory hands it out. */
async function connectionOf(settings: Partial<SamlInput> = {}, from: Idp = idp): Promise<SamlConnection> {
  const directory: Directory = staticDirectory({
    organizations: twoOrganizations,
    connections: [samlConnection('acme', from, settings)],
  })
  return (await directory.connection('acme')) as SamlConnection
}

const services: Services = {
  fetch: () => Promise.reject(new Error('no network here')),
  now: Date.now,
  random: (bytes) => new Uint8Array(bytes).fill(7),
  once: memoryOnce(),
  signal: new AbortController().signal,
  callbackUrl: 'https://app.example/auth/sso/acme/callback',
  entityId: 'https://app.example/auth/sso/acme/metadata',
}

const check = async (settings: Partial<SamlInput>) => samlStrategy().check!(await connectionOf(settings))

/** A certificate with a life and a key of its own. */
async function certificate(name: string, from: number, until: number, key: object = { keySize: 2048 }) {
  const life = {
    notBeforeDate: new Date(Date.now() + from * day),
    notAfterDate: new Date(Date.now() + until * day),
  }
  return (await generate([{ name: 'commonName', value: name }], { algorithm: 'sha256', ...life, ...key }))
    .cert
}

const weak = await certificate('weak', 0, 90, { keySize: 1024 })
const curve = await certificate('curve', -1, 365, { keyType: 'ec' })

const metadataWith = (...certificates: string[]) => idpMetadata(idp.entityId, idp.ssoUrl, certificates)

describe('IdP metadata', () => {
  const entity = /<EntityDescriptor[\s\S]*<\/EntityDescriptor>/.exec(idp.metadata)![0]
  const md = 'xmlns="urn:oasis:names:tc:SAML:2.0:metadata"'
  const serviceProvider = `<EntityDescriptor ${md} entityID="https://sp.example"><SPSSODescriptor/></EntityDescriptor>`

  it.each([
    ['no XML', 'hello', /idpMetadata: it is not XML that can be read/],
    ['cut off', entity.slice(0, 500), /it is not XML that can be read/],
    ['a document type', `<!DOCTYPE x>${entity}`, /document type is refused/],
    [
      'HTML',
      '<html><body>Sign in</body></html>',
      /expected SAML metadata with an EntityDescriptor, got "html"/,
    ],
    ['the metadata of a service provider', serviceProvider, /it describes no identity provider/],
    [
      'two identity providers',
      `<EntitiesDescriptor ${md}>${entity}${entity}</EntitiesDescriptor>`,
      /2 identity providers/,
    ],
    ['no entityID', entity.replace(/entityID="[^"]*"/, ''), /no entityID/],
    [
      'no HTTP-Redirect',
      entity.replace('HTTP-Redirect', 'HTTP-POST'),
      /no SingleSignOnService with the HTTP-Redirect binding/,
    ],
    ['a script as endpoint', entity.replace(idp.ssoUrl, 'javascript:alert(1)'), /is no http\(s\) URL/],
    ['no certificate', metadataWith(), /no signing certificate/],
    [
      'an encryption certificate only',
      entity.replace('use="signing"', 'use="encryption"'),
      /no signing certificate/,
    ],
    ['a certificate that is none', entity.replace(/MII\w+/, 'AAAA'), /not an X.509 certificate/],
    ['S13 RSA of 1024 bits', metadataWith(weak), /has 1024 bits; 2048 is the least/],
    ['an EC key only', metadataWith(curve), /no signing certificate with an RSA key: "CN=curve"/],
  ])('%s is refused, naming connection and key', async (_name, xml, message) => {
    const refusal = await check({ idpMetadata: xml }).catch((error) => error)
    expect(refusal).toBeInstanceOf(JitError)
    expect(refusal.code).toBe('config_invalid')
    expect(refusal.message).toMatch(/^connection "acme": idpMetadata: /)
    expect(refusal.message).toMatch(message)
    expect(await check({})).toEqual([])
  })

  it('what cannot be used is read once, however often it is asked for', async () => {
    let reads = 0
    const connection = {
      ...(await connectionOf({})),
      get idpMetadata() {
        reads += 1
        return `<md ${md}>${'<x/>'.repeat(100_000)}</md>`
      },
    }
    const strategy = samlStrategy()
    for (let turn = 0; turn < 3; turn++) {
      expect(() => strategy.check!(connection)).toThrow(
        /^connection "acme": idpMetadata: expected SAML metadata/,
      )
    }
    expect(reads).toBe(1)
  })

  it.each([
    ['with a byte order mark', `\ufeff${idp.metadata}`],
    ['with comments', idp.metadata.replace('<IDPSSODescriptor', '<!-- exported --><IDPSSODescriptor')],
    [
      'inside an EntitiesDescriptor',
      `<EntitiesDescriptor ${md}>${serviceProvider}${entity}</EntitiesDescriptor>`,
    ],
    ['with a key for any use', idp.metadata.replace(' use="signing"', '')],
    [
      'with prefixes and line breaks',
      idp.metadata.replaceAll(/<(\/?)(?=[A-Z])/g, '<$1md:').replace('xmlns=', '\r\n  xmlns:md='),
    ],
  ])('%s is read', async (_name, xml) => {
    const connection = await connectionOf({ idpMetadata: xml })
    expect(samlStrategy().check!(connection)).toEqual([])
    const { redirect } = await samlStrategy().begin(connection, 'A'.repeat(43), services)
    expect(redirect.startsWith(`${idp.ssoUrl}?SAMLRequest=`)).toBe(true)
  })

  it('certificates that ended or will soon are reported, and sign-in goes on', async () => {
    const certificates = await Promise.all([
      certificate('ended', -100, -1),
      certificate('ending', -10, 29),
      certificate('fine', -1, 365),
    ])
    const warnings = await check({ idpMetadata: metadataWith(...certificates, curve) })
    expect(warnings).toEqual([
      expect.stringMatching(
        /^connection "acme": idpMetadata: the signing certificate "CN=ending" expires on \d{4}-\d\d-\d\d;/,
      ),
      expect.stringMatching(/"CN=ended" expired on \d{4}-\d\d-\d\d; ask the IdP's administrator/),
      expect.stringMatching(/"CN=curve" is not used: its key is not RSA/),
    ])
  })
})

describe('Our own keys', () => {
  const wrong: [string, (keys: SigningKey[]) => SigningKey, RegExp][] = [
    ['no PEM', ([key]) => ({ ...key!, privateKey: 'secret' }), /sp\.signing\.0: privateKey must be PEM/],
    ['a certificate that is none', ([key]) => ({ ...key!, certificate: 'none' }), /certificate must be PEM/],
    [
      "another key's certificate",
      ([key, other]) => ({ ...key!, certificate: other!.certificate }),
      /not of this privateKey/,
    ],
  ]
  it.each(wrong)('%s is refused, and the key is not in the message', async (_name, make, message) => {
    const keys = await Promise.all([createSigningKey('a'), createSigningKey('b')])
    const refusal = await check({ sp: { signing: [make(keys)] } }).catch((error) => error)
    expect([refusal.code, message.test(refusal.message)]).toEqual(['config_invalid', true])
    expect(refusal.message).not.toMatch(/PRIVATE|secret/)
    expect(await check({ sp: { signing: [keys[0]!], decryption: keys } })).toEqual([])
  })
})

describe('begin', () => {
  const requestOf = (redirect: string) =>
    inflateRawSync(Buffer.from(new URL(redirect).searchParams.get('SAMLRequest')!, 'base64')).toString()

  it('asks for as little as it can, and keeps the id of the request', async () => {
    const { redirect, secrets } = await samlStrategy().begin(await connectionOf(), 'A'.repeat(43), services)
    const xml = requestOf(redirect)
    expect(secrets).toEqual({ requestId: `_${'07'.repeat(16)}` })
    expect(xml).toContain(`ID="${secrets.requestId}"`)
    expect(xml).toContain(`AssertionConsumerServiceURL="${services.callbackUrl}"`)
    expect(xml).toContain(`>${services.entityId}</saml:Issuer>`)
    expect(xml).toContain(`Destination="${idp.ssoUrl}"`)
    expect(xml).not.toMatch(/RequestedAuthnContext|Format=|ForceAuthn/)
    const query = new URL(redirect).searchParams
    expect([query.get('RelayState'), query.has('Signature')]).toEqual(['A'.repeat(43), false])
  })

  it('keeps what the SSO address has in its query', async () => {
    const xml = idp.metadata.replace(idp.ssoUrl, `${idp.ssoUrl}?idpid=C01&amp;x=1`)
    const { redirect } = await samlStrategy().begin(
      await connectionOf({ idpMetadata: xml }),
      'A'.repeat(43),
      services,
    )
    expect(redirect.startsWith(`${idp.ssoUrl}?idpid=C01&x=1&SAMLRequest=`)).toBe(true)
  })

  it('signs with the first of its keys, by SHA-256', async () => {
    const keys = await Promise.all([createSigningKey('new'), createSigningKey('old')])
    const { redirect } = await samlStrategy().begin(
      await connectionOf({ sp: { signing: keys } }),
      'A'.repeat(43),
      services,
    )
    const [signed, signature] = new URL(redirect).search.slice(1).split('&Signature=')
    expect(signed).toContain('SigAlg=http%3A%2F%2Fwww.w3.org%2F2001%2F04%2Fxmldsig-more%23rsa-sha256')
    const by = (key: SigningKey) =>
      createVerify('sha256').update(signed!).verify(key.certificate, decodeURIComponent(signature!), 'base64')
    expect(keys.map(by)).toEqual([true, false])
  })
})

describe('Our metadata', () => {
  it('names who we are, where answers go, and all our keys', async () => {
    const [signing, current, previous] = await Promise.all([
      createSigningKey('s'),
      createSigningKey('c'),
      createSigningKey('p'),
    ])
    const connection = await connectionOf({ sp: { signing: [signing!], decryption: [current!, previous!] } })
    const xml = samlStrategy().metadata!(connection, services)
    expect(xml).toContain(`entityID="${services.entityId}"`)
    expect(xml).toContain(`Location="${services.callbackUrl}"`)
    expect(xml).toContain('AuthnRequestsSigned="true" WantAssertionsSigned="true"')
    const found = [...xml.matchAll(/use="(\w+)".*?<ds:X509Certificate>([^<]+)</g)].map(([, use, base64]) => [
      use,
      new X509Certificate(Buffer.from(base64!, 'base64')).subject,
    ])
    expect(found).toEqual([
      ['signing', 'CN=s'],
      ['encryption', 'CN=c'],
      ['encryption', 'CN=p'],
    ])
  })

  it('does not ask for signed assertions where the Response is to be signed', async () => {
    const xml = samlStrategy().metadata!(await connectionOf({ signed: 'response' }), services)
    expect(xml).toContain('AuthnRequestsSigned="false" WantAssertionsSigned="false"')
    expect(xml).not.toContain('KeyDescriptor')
  })
})

describe('Options', () => {
  it.each<[string, object, RegExp]>([
    ['a fraction of a thread', { workers: 1.5 }, /^samlStrategy: workers: /],
    ['less than none', { workers: -1 }, /^samlStrategy: workers: /],
    ['too many', { workers: 65 }, /^samlStrategy: workers: /],
    ['text', { workers: '2' }, /^samlStrategy: workers: /],
    ['no queue', { queue: 0 }, /^samlStrategy: queue: /],
    ['a queue without end', { queue: Number.POSITIVE_INFINITY }, /^samlStrategy: queue: /],
    ['two at once', { workers: -1, queue: 0 }, /workers: .*; queue: /],
    ['an unknown one', { threads: 2 }, /threads/],
  ])('%s is refused', (_name, options, message) => {
    expect(() => samlStrategy(options)).toThrow(
      expect.objectContaining({ code: 'config_invalid', message: expect.stringMatching(message) }),
    )
    expect(() => samlStrategy({ workers: 0, queue: 1 })).not.toThrow()
  })
})
