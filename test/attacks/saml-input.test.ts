import { describe, expect, it } from 'vitest'
import { createSigningKey, type SigningKey } from '../../examples/identity-providers/saml.js'
import { expectRefused } from '../rig/oidc-app.js'
import {
  algorithms,
  all,
  ciphers,
  edit,
  encryptAssertion,
  encrypted,
  inside,
  type Mutation,
  posted,
  replace,
  signed,
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
    "S29 within the limits but signed by nobody's key, %s cost one bounded validation",
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
      expect((user + system) / 1000).toBeLessThan(1_500)
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

  type Made = (begun: Begun) => string | Promise<string>
  const sealed =
    (changes: Parameters<typeof sp.xmlFor>[1] = {}, key = own, methods = {}): Made =>
    (begun) =>
      encryptAssertion(sp.xmlFor(begun, changes), key.certificate, methods)
  const around = (data: string, xml: string) =>
    xml.replace(
      /<saml:Assertion[\s\S]*<\/saml:Assertion>/,
      () => `<saml:EncryptedAssertion>${data}</saml:EncryptedAssertion>`,
    )
  /** Changes the ciphertext of the content, which comes after that of the key. */
  const flipped = edit((document) => {
    const value = all(document, 'CipherValue').at(-1)!
    value.textContent = `AAAA${value.textContent!.slice(4)}`
  })

  const send = async (make: Made) => {
    const begun = await begin(sp.at.app, 'acme')
    return { begun, response: await answer(begun, await make(begun)) }
  }

  it.each<[string, Made]>([
    ['signed inside, by AES-256-GCM', sealed()],
    ['signed inside, by AES-256-CBC', sealed({}, own, { content: ciphers.aes256cbc })],
    ['for the previous key, while keys rotate', sealed({}, old)],
    [
      'signed outside, over what is encrypted',
      async (begun) => signed(await sealed({ sign: [] })(begun), 'Response', { key: sp.at.acme.key }),
    ],
    [
      'signed inside and outside',
      async (begun) => signed(await sealed()(begun), 'Response', { key: sp.at.acme.key }),
    ],
  ])('S27 %s: signed in', async (_name, make) => {
    const { response } = await send(make)
    expect(response.status, response.text).toBe(303)
    expect((await sp.at.app.rows()).users[0]!.verifiedEmail).toBe('alice@acme.example')
  })

  it('S27 every refusal is the same to whoever sent it', async () => {
    const cbc = { content: ciphers.aes256cbc }
    const cases: Record<string, Made> = {
      'not signed': sealed({ sign: [] }),
      'signed by nobody': sealed({ signing: { key: other } }),
      'for another key': sealed({}, other),
      'Triple DES': sealed({}, own, { content: ciphers.tripleDes }),
      'RSA PKCS#1 v1.5': sealed({}, own, { key: ciphers.rsa15 }),
      'GCM ciphertext changed': async (begun) => flipped(await sealed()(begun)),
      'CBC ciphertext changed': async (begun) => flipped(await sealed({}, own, cbc)(begun)),
      'no text inside': async (begun) => around(await encrypted('\u0001', own.certificate), sp.xmlFor(begun)),
      'a document type inside': async (begun) =>
        around(await encrypted('<!DOCTYPE x><a/>', own.certificate), sp.xmlFor(begun)),
      'a flood inside': sealed({ after: [inside('AttributeStatement', '<a/>'.repeat(2_600))] }),
      'two assertions inside': sealed({
        after: [inside('AttributeStatement', '<saml:Assertion ID="_x"/>')],
      }),
      'a claim changed': sealed({ after: [replace('alice@acme.example', 'victim@acme.example')] }),
      'no EncryptedKey': async (begun) =>
        (await sealed()(begun)).replace(/<(\w+:)?EncryptedKey[\s\S]*<\/(\w+:)?EncryptedKey>/, ''),
      'nothing encrypted': (begun) => around('', sp.xmlFor(begun)),
    }
    const shown = new Set<string>()
    for (const [name, make] of Object.entries(cases)) {
      const { begun, response } = await send(make)
      expect(response.status, name).toBe(403)
      const { correlationId: _, ...body } = JSON.parse(response.text)
      expect([name, body.error, await sp.at.app.me(begun.client)]).toEqual([name, 'assertion_refused', 401])
      shown.add(JSON.stringify(body))
    }
    expect(shown.size).toBe(1)
    expect(await sp.at.app.rows()).toEqual({ users: [], events: [] })
    expect((await send(sealed())).response.status).toBe(303)
  })

  it.each<[string, (xml: string, plain: string) => string]>([
    ['plain and encrypted', (xml, plain) => xml.replace('<saml:EncryptedAssertion>', (tag) => plain + tag)],
    [
      'two encrypted',
      (xml) => xml.replace(/<saml:EncryptedAssertion>.*<\/saml:EncryptedAssertion>/s, (one) => one + one),
    ],
  ])('S27 %s are refused', async (_name, double) => {
    const { begun, response } = await send(async (to) => {
      const plain = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(sp.xmlFor(to))![0]
      return double(await sealed()(to), plain)
    })
    await expectRefused(sp.at.app, begun.client, response, { code: 'assertion_refused', status: 403 })
    await sp.honest()
  })

  it.each<[string, Mutation, (decoy: string) => Mutation]>([
    [
      'the Status of an unsigned Response',
      (xml) => xml,
      (decoy) => inside('Status', `<samlp:StatusDetail>${decoy}</samlp:StatusDetail>`),
    ],
    [
      'the signature of a signed one',
      (xml) => signed(xml, 'Response', { key: sp.at.acme.key }),
      (decoy) => inside('KeyInfo', decoy),
    ],
  ])('S27 a good assertion in %s is not judged in place of the encrypted one', async (_place, sign, put) => {
    const weak = { signatureAlgorithm: algorithms.rsaSha1, digestAlgorithm: algorithms.sha1 }
    const answered = (signing: object, decoyed: boolean) =>
      send(async (begun) => {
        const good = await sealed()(begun)
        const decoy = /<saml:EncryptedAssertion>([\s\S]*)<\/saml:EncryptedAssertion>/.exec(good)![1]!
        const xml = sign(await sealed({ signing })(begun))
        return decoyed ? put(decoy)(xml) : xml
      })
    for (const signing of [weak, {}]) {
      const { begun, response } = await answered(signing, true)
      await expectRefused(sp.at.app, begun.client, response, { code: 'assertion_refused', status: 403 })
    }
    expect((await answered(weak, false)).response.status).toBe(403)
    expect((await answered({}, false)).response.status).toBe(303)
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
