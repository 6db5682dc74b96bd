import { X509Certificate } from 'node:crypto'
import { samlStrategy } from 'passport-jit/strategies/saml'
import * as samlify from 'samlify'
import { afterEach, describe, expect, it } from 'vitest'
import { createSigningKey } from '../../examples/identity-providers/saml.js'
import { type App, startApp } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { post, type SamlInput } from '../rig/saml-scene.js'

// A SAML IdP that this repository did not write: samlify makes its own metadata, reads our metadata and our
// AuthnRequest, checks its signature, and answers in its own words.

// It wants a schema validator before it reads anything; the messages are checked by what comes of them.
samlify.setSchemaValidator({ validate: async () => 'valid' })

const idpKey = await createSigningKey('samlify')
const requestKey = await createSigningKey('our requests')
const decryptionKey = await createSigningKey('our decryption')
const inOneLine = (pem: string) => new X509Certificate(pem).raw.toString('base64')

const template: NonNullable<Parameters<typeof samlify.IdentityProvider>[0]['loginResponseTemplate']> = {
  context: samlify.SamlLib.defaultLoginResponseTemplate.context,
  attributes: [
    {
      name: 'email',
      valueTag: 'user.email',
      nameFormat: 'urn:oasis:names:tc:SAML:2.0:attrname-format:basic',
      valueXsiType: 'xs:string',
    },
    {
      name: 'displayName',
      valueTag: 'user.name',
      nameFormat: 'urn:oasis:names:tc:SAML:2.0:attrname-format:basic',
      valueXsiType: 'xs:string',
    },
  ],
}

const idpOf = (encrypts = false) =>
  samlify.IdentityProvider({
    entityID: 'https://samlify.example/metadata',
    privateKey: idpKey.privateKey,
    signingCert: inOneLine(idpKey.certificate),
    isAssertionEncrypted: encrypts,
    messageSigningOrder: 'encrypt-then-sign',
    wantAuthnRequestsSigned: true,
    nameIDFormat: ['urn:oasis:names:tc:SAML:2.0:nameid-format:persistent'],
    singleSignOnService: [
      {
        Binding: 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect',
        Location: 'https://samlify.example/sso',
      },
    ],
    singleLogoutService: [
      {
        Binding: 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect',
        Location: 'https://samlify.example/slo',
      },
    ],
    loginResponseTemplate: template,
  })

describe('samlify as the identity provider', () => {
  let app: App
  afterEach(() => app.close())

  async function signIn(
    connection: Partial<SamlInput>,
    sp: { wantMessageSigned: boolean },
    encrypts = false,
  ) {
    const idp = idpOf(encrypts)
    app = await startApp({
      strategies: [samlStrategy()],
      connections: [
        {
          id: 'acme',
          organization: 'acme',
          protocol: 'saml',
          idpMetadata: idp.getMetadata(),
          jit: { roles: ['member'] },
          attributes: { email: 'email', name: 'displayName' },
          sp: { signing: [requestKey], ...(encrypts && { decryption: [decryptionKey] }) },
          ...connection,
        },
      ],
    })
    const client = browser()
    const metadata = (await client.go(`${app.origin}/auth/sso/acme/metadata`)).text
    const ours = samlify.ServiceProvider({ metadata, ...sp })
    const { location } = await client.go(app.start('acme'))
    const url = new URL(location!)
    expect(url.origin + url.pathname).toBe('https://samlify.example/sso')
    const query = Object.fromEntries(url.searchParams)
    const octetString = ['SAMLRequest', 'RelayState', 'SigAlg']
      .map((name) => `${name}=${encodeURIComponent(query[name]!)}`)
      .join('&')
    const request = await idp.parseLoginRequest(ours, 'redirect', { query, octetString })
    const at = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString()
    const { context } = (await idp.createLoginResponse(
      ours,
      request as never,
      'post',
      { email: 'alice@acme.example' },
      {
        encryptThenSign: true,
        customTagReplacement: (context: string) => ({
          id: '_samlify',
          context: samlify.SamlLib.replaceTagsByValue(context, {
            ID: '_samlify-response',
            AssertionID: '_samlify-assertion',
            Destination: ours.entityMeta.getAssertionConsumerService('post') as string,
            SubjectRecipient: ours.entityMeta.getAssertionConsumerService('post') as string,
            Audience: ours.entityMeta.getEntityID(),
            Issuer: idp.entityMeta.getEntityID(),
            IssueInstant: at(0),
            StatusCode: 'urn:oasis:names:tc:SAML:2.0:status:Success',
            ConditionsNotBefore: at(0),
            ConditionsNotOnOrAfter: at(300),
            SubjectConfirmationDataNotOnOrAfter: at(300),
            NameIDFormat: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
            NameID: 'alice-1',
            InResponseTo: (request.extract.request as { id: string }).id,
            AuthnStatement: '',
            attrUserEmail: 'alice@acme.example',
            attrUserName: 'Alice & Bob',
          }),
        }),
      } as never,
    )) as { context: string }
    const response = await post(client, app.callback('acme'), {
      SAMLResponse: context,
      RelayState: query.RelayState!,
    })
    return { client, response, xml: Buffer.from(context, 'base64').toString() }
  }

  const signatures = (xml: string) => xml.match(/<ds:SignedInfo/g)?.length ?? 0

  it.each([
    ['assertion', { signed: 'assertion' }, { wantMessageSigned: false }, 1],
    ['message', { signed: 'response' }, { wantMessageSigned: true }, 1],
    ['both', { signed: 'both' }, { wantMessageSigned: true }, 2],
    ['either, by assertion', {}, { wantMessageSigned: false }, 1],
    ['either, by both', {}, { wantMessageSigned: true }, 2],
  ] as const)('signs: %s', async (_name, connection, sp, expected) => {
    const { client, response, xml } = await signIn(connection, sp)
    expect(signatures(xml)).toBe(expected)
    expect(response.status, response.text).toBe(303)
    const me = (await client.go(`${app.origin}/me`)).json()
    expect([me.user.email, me.user.attributes, me.user.memberships[0].roles]).toEqual([
      'alice@acme.example',
      { name: 'Alice & Bob' },
      ['member'],
    ])
    const [user] = (await app.rows()).users
    expect(user!.identities).toEqual([
      { source: 'connection:acme', issuer: 'https://samlify.example/metadata', subject: 'alice-1' },
    ])
  })

  it('encrypts the assertion and signs around it', async () => {
    const { client, response, xml } = await signIn({}, { wantMessageSigned: true }, true)
    expect(xml).toContain('EncryptedAssertion')
    expect(response.status, response.text).toBe(303)
    expect(await app.me(client)).toBe(200)
  })

  it('is refused where it signs less than the connection asks for', async () => {
    const { client, response } = await signIn({ signed: 'both' }, { wantMessageSigned: false })
    expect([response.status, JSON.parse(response.text).error]).toEqual([403, 'assertion_refused'])
    expect(await app.me(client)).toBe(401)
    expect(await app.rows()).toEqual({ users: [], events: [] })
  })
})
