import { describe, expect, test } from 'vitest'
import { createSigningKey } from '../../examples/identity-providers/saml.js'
import { checkAssertion, checkResponse } from '../../strategies/saml-assertion.js'
import { decryptAssertion } from '../../strategies/saml-decrypt.js'
import {
  answerLimits,
  base64Of,
  quote,
  type Refuse,
  readAnswer,
  readDecrypted,
  readDocument,
} from '../../strategies/saml-guard.js'
import { verifyAnswer } from '../../strategies/saml-verify.js'
import { childrenOf, elementsOf, ns, readXml, textOf } from '../../strategies/saml-xml.js'
import { encryptAssertion, forge, inside, type Mutation, replace, set, setText } from '../rig/saml-answer.js'

// What leaves no doubt about which assertion is meant, asked of by itself: whatever else would refuse it as well.

const issuer = 'https://idp.example'
const to = { callbackUrl: 'https://app.example/callback', audience: 'https://app.example', requestId: '_r' }
const key = await createSigningKey('idp.example')
const changes = {
  issuer,
  person: { id: 'ann', email: 'ann@o.example', name: 'Ann', groups: [] },
  to,
  signing: { key },
}
const xml = forge({ ...changes, sign: ['Assertion', 'Response'] })
const expected = { ...to, issuer, now: Date.now(), skew: 60_000, subjectMapped: false }
const refuse: Refuse = (code, what) => {
  throw new Error(`${code}: ${what}`)
}
function read(mutation: Mutation) {
  const { response } = readAnswer(Buffer.from(mutation(xml)).toString('base64'), refuse)
  checkResponse(response, true, expected, refuse)
}

const ds = 'http://www.w3.org/2000/09/xmldsig#'
const protocol = 'urn:oasis:names:tc:SAML:2.0:protocol'
/** The Signature of the Response, which comes first. */
const signature = /<(?:\w+:)?Signature [\s\S]*?<\/(?:\w+:)?Signature>/.exec(xml)![0]

describe('S10 the shape of an answer', () => {
  test('as it was made, and with a word about its status, it is read', () => {
    expect(() => read((text) => text)).not.toThrow()
    const said = '<samlp:StatusMessage>fine</samlp:StatusMessage>'
    expect(() => read(inside('Status', said))).not.toThrow()
  })

  test.each<[string, Mutation, RegExp]>([
    ['a Signature elsewhere', inside('Status', `<x:Signature xmlns:x="${ds}"/>`), /a Signature outside/],
    [
      'a Response in the Response',
      inside('Status', `<samlp:Response xmlns:samlp="${protocol}"/>`),
      /a Response inside/,
    ],
    ['two Signatures of one element', replace(signature, signature + signature), /more than one Signature/],
    [
      'a SignedInfo too many',
      inside('KeyInfo', `<x:SignedInfo xmlns:x="${ds}"/>`),
      /more than one Signature/,
    ],
    [
      'Extensions',
      replace('<samlp:Status>', '<samlp:Extensions/><samlp:Status>'),
      /<\\?"?Extensions\\?"?>|Extensions/,
    ],
    ['another version', set('Response', 'Version', '1.1'), /Response is not of SAML version 2.0/],
    [
      'two Issuers',
      replace(
        /<saml:Issuer[\s\S]*?<\/saml:Issuer>/,
        `<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">${issuer}</saml:Issuer>$&`,
      ),
      /several Issuers/,
    ],
  ])('with %s is refused by name', (_what, mutation, expected) => {
    expect(() => read(mutation)).toThrow(expected)
  })
})

describe('S09 P06 what an assertion says', () => {
  const say = (mutation: Mutation) => {
    const response = readXml(mutation(xml), answerLimits)
    return checkAssertion(childrenOf(response, ns.assertion, 'Assertion')[0]!, expected, refuse)
  }

  test('P06 a value that is nil is none, and others of the attribute stay', () => {
    const nil = `<saml:AttributeValue xmlns:xsi="${ns.schema}" xsi:nil="true">x</saml:AttributeValue>`
    const values = `${nil}<saml:AttributeValue>y</saml:AttributeValue>`
    const { attributes } = say(
      inside('AttributeStatement', `<saml:Attribute Name="a">${values}</saml:Attribute>`),
    )
    expect(attributes.get('a')).toEqual(['y'])
  })

  test('S09 a blank NameID names nobody', () => {
    expect(say((text) => text).nameId).toBe('ann')
    expect(() => say(setText('NameID', ' \t '))).toThrow(/no NameID that can be read/)
  })

  test('S09 text with elements in it is none', () => {
    const text = (content: string) => textOf(readXml(`<a>${content}</a>`, answerLimits))
    expect([text('ann'), text('ann<b/>@evil'), text('')]).toEqual(['ann', null, ''])
  })
})

describe('S29 limits, each by itself', () => {
  const nested = (depth: number) => '<a>'.repeat(depth) + '</a>'.repeat(depth)
  test.each<[string, (count: number) => string, number]>([
    ['elements beside each other', (count) => `<a>${'<b/>'.repeat(count)}</a>`, answerLimits.siblings],
    ['elements in each other', nested, answerLimits.depth],
  ])('S29 so many %s, and no more', (_what, make, most) => {
    expect(() => readXml(make(most), answerLimits)).not.toThrow()
    expect(() => readXml(make(most + 1), answerLimits)).toThrow()
  })

  test.each<[string, string, string]>([
    ['a plain name', 'a', 'a'],
    ['characters of names that nobody sees', 'a\u061c\u200d', 'a\\u{61c}\\u{200d}'],
    ['a name without end', 'a'.repeat(200_000), 'a'.repeat(100)],
  ])('S29 with %s, what is wrong with the XML is told in one short line', (_what, name, told) => {
    const problem = (text: string) => {
      try {
        readDocument(text, refuse)
      } catch (error) {
        return (error as Error).message
      }
      return 'none'
    }
    expect(problem(`<${name}:b xmlns:${name}="urn:a"/>`)).toBe('none')
    const unbound = problem(`<${name}:b/>`)
    expect(unbound).toContain(`prefix: "${told}`)
    const twice = problem(`<b ${name}="1" ${name}="2"/>`)
    expect(twice).toContain(`the attribute "${told}`)
    for (const line of [unbound, twice]) {
      expect(line.length).toBeLessThan(300)
      expect(line).not.toMatch(/[\p{C}\p{Zl}]/u)
    }
  })

  test('S29 a value of the protocol is told in one short line', () => {
    expect([quote(undefined), quote('ann'), quote('a\u0085\u202eb')]).toEqual([
      'nothing',
      '"ann"',
      '"a\\\\u{85}\\\\u{202e}b"',
    ])
    expect(quote('x'.repeat(400_000))).toBe(`"${'x'.repeat(200)}…"`)
  })

  test('S29 little stands around the assertion', () => {
    const around = (count: number) => () =>
      read(inside('Status', `<samlp:StatusDetail>${'<b/>'.repeat(count)}</samlp:StatusDetail>`))
    expect(around(50)).not.toThrow()
    expect(around(100)).toThrow(/answer_too_large: \d+ elements around/)
  })
})

describe('S30 bytes', () => {
  test('S30 base64 has one spelling, save for white space', () => {
    expect(base64Of(' QQ==\r\n', refuse)).toBe('QQ==')
    for (const other of ['QR==', 'QQ', 'QQ==QQ==', 'Q-__'])
      expect(() => base64Of(other, refuse)).toThrow(/not base64/)
  })

  test('S30 what is not UTF-8 is not read as something else', () => {
    const bytes = Buffer.from(xml.replace('Ann', 'A\u00e9n'), 'latin1')
    expect(() => readAnswer(bytes.toString('base64'), refuse)).toThrow(/not UTF-8/)
    const utf8 = Buffer.from(xml.replace('Ann', 'A\u00e9n'))
    expect(readAnswer(utf8.toString('base64'), refuse).xml).toContain('A\u00e9n')
  })

  test.each(['\u0000', '\u0008', '\uffff', '&#0;', '&#xFFFF;', '\ud800'])(
    'S30 the character %j, which XML does not have, is refused',
    (character) => {
      for (const text of [`<a>${character}</a>`, `<a b="${character}"/>`])
        expect(() => readXml(text, answerLimits)).toThrow()
      expect(textOf(readXml('<a>\t\u00e9</a>', answerLimits))).toBe('\t\u00e9')
    },
  )

  test.each([
    ['an attribute twice by two prefixes', '<a xmlns:p="urn:x" xmlns:q="urn:x" p:b="1" q:b="2"/>'],
    ['another element behind the document', '<a/><b/>'],
    ['text behind the document', '<a/>b'],
  ])('S08 %s is refused', (_what, text) => {
    expect(() => readXml(text, answerLimits)).toThrow()
    const fine = readXml('<a xmlns:p="urn:x" xmlns:q="urn:y" p:b="1" q:b="2"/>\n', answerLimits)
    expect(fine.attributes.size).toBeGreaterThan(1)
  })

  test.each(['<!x>', '<!ELEMENT a ANY>', '<!ENTITY a "b">'])(
    'S12 the declaration %s is refused',
    (declared) => {
      expect(() => readXml(`<a>${declared}</a>`, answerLimits)).toThrow()
      expect(elementsOf(readXml('<a><b/></a>', answerLimits))).toHaveLength(1)
    },
  )
})

describe('S27 what was encrypted', async () => {
  const own = await createSigningKey('sp.example')
  const sealed = await encryptAssertion(forge(changes), own.certificate)
  const open = (text: string) => {
    const [encrypted] = childrenOf(readXml(text, answerLimits), ns.assertion, 'EncryptedAssertion')
    return decryptAssertion(text, encrypted!, [own.privateKey])
  }

  test.each(['EncryptedData', 'EncryptedKey'])('S27 with two %s it is not opened', async (name) => {
    expect((await open(sealed))?.plain).toMatch(/^<saml:Assertion/)
    const again = new RegExp(`<((?:\\w+:)?${name})[ >][\\s\\S]*</\\1>`)
    expect(await open(sealed.replace(again, (one) => one + one))).toBeNull()
  })

  test('S27 it is an assertion, and inspected like any other', () => {
    const plain = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(forge(changes))![0]
    const alone = plain.replace('<saml:Assertion', `<saml:Assertion xmlns:saml="${ns.assertion}"`)
    expect(readDecrypted(alone, refuse).name).toBe('Assertion')
    expect(() => readDecrypted('<Response/>', refuse)).toThrow(/is no assertion/)
    const nested = alone.replace('<saml:Subject>', '<saml:Advice><saml:Assertion/></saml:Advice>$&')
    expect(() => readDecrypted(nested, refuse)).toThrow(/one assertion/)
  })

  test('S27 that it cannot be opened and that it is signed by nobody are one refusal', async () => {
    const stranger = await createSigningKey('stranger.example')
    const told = async (answer: string) => {
      const verdict = await verifyAnswer({
        field: Buffer.from(answer).toString('base64'),
        expected,
        signed: 'either',
        certificates: [key.certificate],
        decryptionKeys: [own.privateKey],
      })
      return 'refused' in verdict ? `${verdict.refused}: ${verdict.what}` : verdict.statement.nameId
    }
    const unsigned = forge({ ...changes, signing: { key: stranger } })
    const refusals = await Promise.all([
      told(await encryptAssertion(unsigned, own.certificate)),
      told(await encryptAssertion(forge(changes), stranger.certificate)),
    ])
    expect(refusals[0]).toMatch(/^assertion_refused: the encrypted assertion cannot be decrypted/)
    expect(refusals[1]).toBe(refusals[0])
    expect(await told(sealed)).toBe('ann')
  })
})
