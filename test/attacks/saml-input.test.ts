import { describe, expect, it } from 'vitest'
import { createSigningKey, type SigningKey } from '../../examples/identity-providers/saml.js'
import { expectRefused } from '../rig/oidc-app.js'
import {
  ciphers,
  encryptAssertion,
  encrypted,
  inside,
  type Mutation,
  posted,
  replace,
} from '../rig/saml-answer.js'
import { answer, type Begun, begin, post, type SamlInput, scene, statusOf } from '../rig/saml-scene.js'

// Answers that are no answer: not XML, too much of it, or XML that makes a parser do something.

const { at, xmlFor, honest, refused } = scene()

/** Posts a form instead of the answer, and then the answer. */
async function refusedForm(
  form: (begun: Begun) => string[][] | Record<string, string>,
  code: string,
  message?: RegExp,
) {
  const begun = await begin(at.app, 'acme')
  const response = await post(begun.client, begun.callbackUrl, new URLSearchParams(form(begun)))
  await expectRefused(at.app, begun.client, response, {
    code,
    status: statusOf(code),
    ...(message && { message }),
  })
  await honest()
}

const answerField = (text: string) => (begun: Begun) => ({ SAMLResponse: text, RelayState: begun.relayState })

describe('S30 forms', () => {
  it.each<[string, (begun: Begun) => string[][] | Record<string, string>]>([
    ['no SAMLResponse', (begun) => ({ RelayState: begun.relayState })],
    ['an empty SAMLResponse', answerField('')],
    [
      'two SAMLResponses',
      (begun) => [
        ['SAMLResponse', posted(xmlFor(begun))],
        ['SAMLResponse', posted(xmlFor(begun))],
        ['RelayState', begun.relayState],
      ],
    ],
    [
      'two RelayStates',
      (begun) => [
        ['SAMLResponse', posted(xmlFor(begun))],
        ['RelayState', begun.relayState],
        ['RelayState', begun.relayState],
      ],
    ],
    [
      'SAMLResponse as a list',
      (begun) => ({ 'SAMLResponse[]': posted(xmlFor(begun)), RelayState: begun.relayState }),
    ],
    [
      'SAMLResponse as an object',
      (begun) => ({ 'SAMLResponse[a]': posted(xmlFor(begun)), RelayState: begun.relayState }),
    ],
    ['not base64', answerField('<samlp:Response/>')],
    ['base64url', answerField('PHNhbWxwOlJlc3BvbnNl-_8=')],
    ['base64 cut short', answerField('PHNhbWxw=OlJlc3BvbnNl')],
    ['not UTF-8', answerField(Buffer.from([0x3c, 0xff, 0xfe]).toString('base64'))],
    ['not XML', answerField(posted('sign me in'))],
    ['two roots', (begun) => answerField(posted(xmlFor(begun) + xmlFor(begun)))(begun)],
    ['HTML', answerField(posted('<!doctype html><title>Error</title>'))],
    [
      'something else in XML',
      answerField(posted('<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata"/>')),
    ],
    [
      'a LogoutRequest',
      answerField(
        posted(
          '<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_1" Version="2.0"/>',
        ),
      ),
    ],
  ])('S30 %s is refused', async (_name, form) => {
    await refusedForm(form, 'answer_malformed')
  })

  it('S29 two megabytes are refused before they are read', async () => {
    const begun = await begin(at.app, 'acme')
    const body = new URLSearchParams({ SAMLResponse: 'A'.repeat(2_000_000), RelayState: begun.relayState })
    const response = await begun.client.go(begun.callbackUrl, { method: 'POST', body })
    await expectRefused(at.app, begun.client, response, { code: 'answer_too_large', status: 413 })
    await honest()
  })

  it('S30 JSON is refused', async () => {
    const begun = await begin(at.app, 'acme')
    const response = await begun.client.go(begun.callbackUrl, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ SAMLResponse: { length: 10 }, RelayState: begun.relayState }),
    })
    await expectRefused(at.app, begun.client, response, { code: 'answer_malformed', status: 400 })
    await honest()
  })

  it('S30 an answer by GET, as a LogoutResponse would come, signs nobody in or out', async () => {
    const begun = await begin(at.app, 'acme')
    const query = new URLSearchParams({ SAMLResponse: posted(xmlFor(begun)), RelayState: begun.relayState })
    const response = await begun.client.go(`${begun.callbackUrl}?${query}`)
    await expectRefused(at.app, begun.client, response, { code: 'attempt_unknown', status: 400 })
    const own = await answer(begun, xmlFor(begun))
    expect(own.status, own.text).toBe(303)
  })
})

describe('S12 document types and entities', () => {
  const bomb = `<!DOCTYPE r [${Array.from({ length: 10 }, (_, i) => `<!ENTITY e${i + 1} "${`&e${i};`.repeat(10)}">`).join('')}<!ENTITY e0 "boom">]>`
  it.each<[string, Mutation]>([
    ['a DOCTYPE', (xml) => `<!DOCTYPE samlp:Response>${xml}`],
    ['a DOCTYPE in lower case', (xml) => `<!doctype samlp:Response>${xml}`],
    [
      'a DOCTYPE after the XML declaration',
      (xml) => `<?xml version="1.0"?>\n<!DOCTYPE r SYSTEM "http://127.0.0.1:1/x.dtd">${xml}`,
    ],
    [
      'an external entity',
      (xml) => `<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>${xml.replace('>alice-1<', '>&x;<')}`,
    ],
    ['an entity bomb', (xml) => bomb + xml.replace('>alice-1<', '>&e10;<')],
    ['an undeclared entity', replace('>alice-1<', '>alice&nbsp;1<')],
    ['a bare ampersand', replace('>alice-1<', '>alice & 1<')],
    ['a DOCTYPE inside', inside('AttributeStatement', '<!DOCTYPE x>')],
    ['XInclude by processing instruction', inside('AttributeStatement', '<?include file="/etc/passwd"?>')],
    ['a character reference that is none', replace('>alice-1<', '>&#0;<')],
    ['UTF-16 declared', (xml) => `<?xml version="1.0" encoding="UTF-16"?>${xml}`],
    ['UTF-7 declared', (xml) => `<?xml version="1.0" encoding="UTF-7"?>${xml}`],
    ['an undeclared prefix', replace(' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"', '')],
    ['an attribute twice', replace(' Version="2.0"', ' Version="2.0" Version="2.0"')],
    ['a prefix declared twice', replace('<samlp:Response ', '<samlp:Response xmlns:saml="urn:x" ')],
    ['crossed tags', inside('AttributeStatement', '<a><b></a></b>')],
  ])('S12 %s is refused before any parser of the library', async (_name, change) => {
    await refused({ after: [change] }, 'answer_malformed', /XML/)
  })

  it('S12 an XML declaration, white space around it and line breaks of any kind are fine', async () => {
    await honest({ after: [(xml) => `<?xml version="1.0" encoding="UTF-8"?>\r\n${xml}\r\n`] })
  })
})

describe('S29 floods', () => {
  const many = (count: number, make: (index: number) => string) =>
    Array.from({ length: count }, (_, index) => make(index)).join('')
  it.each<[string, string]>([
    ['25,000 elements side by side', '<a/>'.repeat(25_000)],
    ['2,600 elements in two groups', many(2, () => `<b>${'<a/>'.repeat(1_300)}</b>`)],
    ['elements 5,000 deep', '<a>'.repeat(5_000) + '</a>'.repeat(5_000)],
    ['1,000 attributes in one element', `<a ${many(1_000, (index) => `b${index}="" `)}/>`],
    ['6,000 attributes', `<a ${many(20, (index) => `b${index}="" `)}/>`.repeat(300)],
    ['600 kB of text', 'x'.repeat(600_000)],
  ])('S29 %s are refused in no time', async (_name, flood) => {
    const begun = await begin(at.app, 'acme')
    const xml = xmlFor(begun, { after: [inside('AttributeStatement', flood)] })
    const before = process.cpuUsage()
    const response = await answer(begun, xml)
    const { user, system } = process.cpuUsage(before)
    await expectRefused(at.app, begun.client, response, { code: 'answer_too_large', status: 413 })
    // Both ends of the connection run here; without the limits the first of these costs 12 s.
    expect((user + system) / 1000).toBeLessThan(500)
    await honest()
  })

  it.each<[string, string]>([
    ['1,900 elements', '<a/>'.repeat(1_900)],
    ['2,000 elements with 4,000 attributes', many(2, () => `<b>${'<a x="" y=""/>'.repeat(1_000)}</b>`)],
    ['400 kB of entities', '&amp;'.repeat(80_000)],
  ])(
    "S29 within the limits but signed by nobody's key, %s never reach the validation",
    async (_name, flood) => {
      const begun = await begin(at.app, 'acme')
      const xml = xmlFor(begun, {
        after: [inside('AttributeStatement', flood), replace(/(SignatureValue>)..../, '$1AAAA')],
      })
      const before = process.cpuUsage()
      const response = await answer(begun, xml)
      const { user, system } = process.cpuUsage(before)
      await expectRefused(at.app, begun.client, response, {
        code: 'assertion_refused',
        status: 403,
        message: /none of the 1/,
      })
      expect((user + system) / 1000).toBeLessThan(500)
      await honest()
    },
  )

  it('S29 a thousand groups sign in, whichever way they are written', async () => {
    const value = (attributes: string) => (index: number) =>
      `<saml:AttributeValue${attributes}>group-${index}</saml:AttributeValue>`
    const typed =
      ' xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string"'
    for (const attributes of ['', typed]) {
      const groups = `<saml:Attribute Name="groups">${many(1_000, value(attributes))}</saml:Attribute>`
      const { user } = await honest({
        before: [
          replace(/<saml:Attribute Name="groups">.*?<\/saml:Attribute>/, groups),
          replace('group-999<', 'admins<'),
        ],
      })
      expect(user.memberships[0]!.roles).toContain('admin')
    }
  })
})

describe('S27 encrypted assertions', async () => {
  const own: SigningKey = await createSigningKey('sp-current')
  const old: SigningKey = await createSigningKey('sp-previous')
  const other: SigningKey = await createSigningKey('somebody-else')
  const decryption: NonNullable<SamlInput['sp']>['decryption'] = [own, old]
  const sp = scene({ sp: { decryption } })

  const sealed = async (
    changes: Parameters<typeof sp.xmlFor>[1],
    certificate = own.certificate,
    methods = {},
  ) => {
    const begun = await begin(sp.at.app, 'acme')
    return { begun, xml: await encryptAssertion(sp.xmlFor(begun, changes), certificate, methods) }
  }
  const send = async ({ begun, xml }: Awaited<ReturnType<typeof sealed>>) => ({
    begun,
    response: await answer(begun, xml),
  })

  it.each([
    ['AES-256-GCM', own, ciphers.aes256gcm],
    ['AES-256-CBC', own, ciphers.aes256cbc],
    ['the previous key, while keys rotate', old, ciphers.aes256gcm],
  ])('S27 signed inside, by %s: signed in', async (_name, key, content) => {
    const { response } = await send(await sealed({}, key.certificate, { content }))
    expect(response.status, response.text).toBe(303)
    expect((await sp.at.app.rows()).users[0]!.verifiedEmail).toBe('alice@acme.example')
  })

  it('S27 signed outside, over the encrypted assertion: signed in', async () => {
    const { signed } = await import('../rig/saml-answer.js')
    const { begun, xml } = await sealed({ sign: [] })
    const response = await answer(begun, signed(xml, 'Response', { key: sp.at.acme.key }))
    expect(response.status, response.text).toBe(303)
  })

  it('S27 every refusal is the same to whoever sent it', async () => {
    const signedInside = await sealed({})
    const plain = sp.xmlFor(signedInside.begun)
    const broken = (from: RegExp, to: string): Mutation => replace(from, to)
    const data = await encrypted('<!DOCTYPE x><a/>', own.certificate)
    const cases: [string, { begun: Begun; xml: string }][] = [
      ['not signed', await sealed({ sign: [] })],
      ['signed by nobody', await sealed({ signing: { key: other } })],
      ['for another key', await sealed({}, other.certificate)],
      ['Triple DES', await sealed({}, own.certificate, { content: ciphers.tripleDes })],
      ['RSA PKCS#1 v1.5', await sealed({}, own.certificate, { key: ciphers.rsa15 })],
      ['ciphertext changed', { ...(await sealed({})), xml: '' }],
      ['a document type inside', { begun: await begin(sp.at.app, 'acme'), xml: '' }],
      ['a flood inside', await sealed({ after: [inside('AttributeStatement', '<a/>'.repeat(2_600))] })],
      [
        'two assertions inside',
        await sealed({ after: [inside('AttributeStatement', '<saml:Assertion ID="_x"/>')] }),
      ],
      ['a claim changed', await sealed({ after: [replace('alice@acme.example', 'victim@acme.example')] })],
    ]
    const changed = cases[5]![1]
    changed.xml = broken(
      /(<e:CipherValue>|<xenc:CipherValue>)(?!.*CipherValue>.*CipherValue>)..../,
      '$1AAAA',
    )(await encryptAssertion(sp.xmlFor(changed.begun), own.certificate))
    const typed = cases[6]![1]
    typed.xml = sp
      .xmlFor(typed.begun)
      .replace(
        /<saml:Assertion[\s\S]*<\/saml:Assertion>/,
        () => `<saml:EncryptedAssertion>${data}</saml:EncryptedAssertion>`,
      )
    expect(plain).toContain('alice-1')
    const shown = new Set<string>()
    for (const [name, { begun, xml }] of cases) {
      const response = await answer(begun, xml)
      const { correlationId: _, ...body } = JSON.parse(response.text)
      expect([name, response.status, body.error]).toEqual([name, 403, 'assertion_refused'])
      expect(await sp.at.app.me(begun.client)).toBe(401)
      shown.add(JSON.stringify(body))
    }
    expect(shown.size).toBe(1)
    expect(await sp.at.app.rows()).toEqual({ users: [], events: [] })
    expect((await send(signedInside)).response.status).toBe(303)
  })

  it('S27 both plain and encrypted, or two encrypted, are refused', async () => {
    for (const double of [
      (xml: string, plain: string) =>
        xml.replace('<saml:EncryptedAssertion>', () => `${plain}<saml:EncryptedAssertion>`),
      (xml: string) =>
        xml.replace(/<saml:EncryptedAssertion>.*<\/saml:EncryptedAssertion>/s, (found) => found + found),
    ]) {
      const { begun, xml } = await sealed({})
      const plain = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(sp.xmlFor(begun))![0]
      const response = await answer(begun, double(xml, plain))
      await expectRefused(sp.at.app, begun.client, response, { code: 'assertion_refused', status: 403 })
    }
    await sp.honest()
  })

  it('S27 where the connection has no key, encrypted assertions are refused', async () => {
    const begun = await begin(at.app, 'acme')
    const response = await answer(begun, await encryptAssertion(xmlFor(begun), own.certificate))
    await expectRefused(at.app, begun.client, response, {
      code: 'assertion_refused',
      status: 403,
      message: /sp\.decryption has no key/,
    })
    await honest()
  })
})
