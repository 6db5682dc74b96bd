import { describe, it } from 'vitest'
import { createSigningKey, idpMetadata } from '../../examples/identity-providers/saml.js'
import { expectRefused } from '../rig/oidc-app.js'
import {
  algorithms,
  all,
  edit,
  inside,
  type Mutation,
  remove,
  replace,
  set,
  setText,
  signed,
} from '../rig/saml-answer.js'
import { answer, begin, post, scene } from '../rig/saml-scene.js'
import { type Signable, wrappings } from '../rig/saml-wrapping.js'

// Attacks on the signature: wrapped, stripped, foreign, weak, or over something else than what is read.

const { at, xmlFor, honest, refused } = scene()

const signables: Signable[] = ['Response', 'Assertion']

describe('S01 signature wrapping', () => {
  describe.each(signables)('of a signed %s', (element) => {
    it.each(wrappings)('S01 %s is refused', async (_kind, wrap) => {
      await refused({ sign: [element], after: [wrap(element)] }, 'assertion_refused', undefined, {
        sign: [element],
      })
    })
  })

  it.each(wrappings)('S01 %s, with Response and assertion signed, is refused', async (_kind, wrap) => {
    const sign: Signable[] = ['Assertion', 'Response']
    await refused({ sign, after: [wrap('Assertion')] }, 'assertion_refused', undefined, { sign })
  })
})

describe('S02 nothing signed', () => {
  const stripped = remove('Signature')
  it.each([
    ['never signed', { sign: [] as Signable[] }],
    ['assertion signature stripped', { after: [stripped] }],
    ['Response signature stripped', { sign: ['Response'] as Signable[], after: [stripped] }],
    [
      'an empty Signature',
      {
        after: [
          edit((document) => {
            for (const found of all(document, 'Signature')) found.textContent = ''
          }),
        ],
      },
    ],
    ['the SignatureValue empty', { after: [setText('SignatureValue', '')] }],
  ])('S02 %s is refused', async (_name, changes) => {
    await refused(changes, 'assertion_refused')
  })
})

describe.each(['assertion', 'response', 'both', 'either'] as const)(
  'S03 a connection that wants "%s" signed',
  (policy) => {
    const { at: here, refused: refusedHere, honest: honestHere } = scene({ signed: policy })
    const fine: Record<typeof policy, Signable[][]> = {
      assertion: [['Assertion'], ['Assertion', 'Response']],
      response: [['Response'], ['Assertion', 'Response']],
      both: [['Assertion', 'Response']],
      either: [['Assertion'], ['Response'], ['Assertion', 'Response']],
    }
    const possible: Signable[][] = [[], ['Assertion'], ['Response'], ['Assertion', 'Response']]
    const accepted = fine[policy]
    it.each(possible.map((sign) => [sign.join(' and ') || 'nothing', sign] as const))(
      'S03 S02 %s signed',
      async (_name, sign) => {
        if (accepted.some((list) => list.join() === sign.join())) await honestHere({ sign })
        else await refusedHere({ sign }, 'assertion_refused', /not signed: /, { sign: accepted[0]! })
      },
    )

    it('S03 a signature that is there has to hold, also where it is not asked for', async () => {
      const sign: Signable[] = ['Assertion', 'Response']
      for (const element of signables) {
        const broken = edit((document) => {
          const parent = element === 'Response' ? document.documentElement : all(document, 'Assertion')[0]!
          const own = Array.from(parent.childNodes).find(
            (node) => (node as Element).localName === 'Signature',
          ) as Element
          all(own, 'DigestValue')[0]!.textContent = Buffer.alloc(32, 7).toString('base64')
        })
        await refusedHere({ sign, after: [broken] }, 'assertion_refused', undefined, { sign: accepted[0]! })
        if (element === 'Response') continue
        // Broken before the Response was signed, so that nothing else is.
        const around: Mutation = (xml) => signed(xml, 'Response', { key: here.acme.key })
        const inner = { sign: ['Assertion'] as Signable[], after: [broken, around] }
        await refusedHere(inner, 'assertion_refused', undefined, { sign: accepted[0]! })
      }
    })
  },
)

describe('S03 identity from signed bytes only', () => {
  it.each<[string, Mutation]>([
    ['NameID', setText('NameID', 'victim-1')],
    ['an attribute', replace('alice@acme.example', 'victim@acme.example')],
    [
      'an added attribute',
      inside(
        'AttributeStatement',
        '<saml:Attribute Name="groups"><saml:AttributeValue>admins</saml:AttributeValue></saml:Attribute>',
      ),
    ],
    ['a time', set('Conditions', 'NotOnOrAfter', '2099-01-01T00:00:00Z')],
  ])('S03 %s changed after signing is refused', async (_name, change) => {
    for (const element of signables) {
      await refused({ sign: [element], after: [change] }, 'assertion_refused', undefined, { sign: [element] })
    }
  })
})

describe('S04 a key that is not the IdP of the connection', () => {
  it('S04 an unknown key, its certificate in KeyInfo, is refused', async () => {
    const key = await createSigningKey('attacker')
    for (const element of signables) {
      await refused({ sign: [element], signing: { key } }, 'assertion_refused', /none of the 1 certificate/)
    }
  })

  it("S04 an unknown key behind the IdP's own certificate in KeyInfo is refused", async () => {
    const key = await createSigningKey('attacker')
    await refused(
      { signing: { key: { ...key, certificate: at.acme.key.certificate } } },
      'assertion_refused',
      /none of the 1/,
    )
  })

  it("S04 another tenant's key is refused", async () => {
    await refused({ signing: { key: at.globex.key } }, 'assertion_refused', /none of the 1 certificate/)
  })
})

describe('S04 two certificates, while the IdP changes its key', async () => {
  const keys = await Promise.all([
    createSigningKey('old'),
    createSigningKey('new'),
    createSigningKey('later'),
  ])
  const url = 'https://idp.acme.example'
  const certificates = keys.slice(0, 2).map(({ certificate }) => certificate)
  const rotating = scene({ idpMetadata: idpMetadata(`${url}/metadata`, `${url}/sso`, certificates) })

  it('S04 each of them signs, also one the one and one the other, and a third does not', async () => {
    const [old, next, later] = keys
    await rotating.honest({ signing: { key: old! } })
    await rotating.refused({ signing: { key: later! } }, 'assertion_refused', /none of the 2/, {
      signing: { key: next! },
    })
    const outer = (xml: string) => signed(xml, 'Response', { key: next! })
    await rotating.honest({ signing: { key: old! }, after: [outer] })
  })
})

describe("S05 another tenant's answer", () => {
  it.each(['acme', 'globex'])(
    "S05 Globex's assertion at Acme's callback, audience %s, is refused",
    async (audience) => {
      const begun = await begin(at.app, 'acme')
      const xml = xmlFor(
        { ...begun, audience: begun.audience.replace('acme', audience) },
        { issuer: at.globex.entityId, signing: { key: at.globex.key } },
      )
      const response = await answer(begun, xml)
      await expectRefused(at.app, begun.client, response, { code: 'assertion_refused', status: 403 })
      await honest()
    },
  )

  it("S05 Globex's assertion for a Globex sign-in, posted to Acme's callback, is refused", async () => {
    const begun = await begin(at.app, 'globex')
    const xml = xmlFor(begun, { issuer: at.globex.entityId, signing: { key: at.globex.key } })
    const form = { SAMLResponse: Buffer.from(xml).toString('base64'), RelayState: begun.relayState }
    const response = await post(begun.client, at.app.callback('acme'), form)
    await expectRefused(at.app, begun.client, response, { code: 'attempt_unknown', status: 400 })
    await honest()
  })
})

describe('S08 a digest that means two things', () => {
  const first = (document: Document, name: string) => all(document, name)[0]!
  it.each<[string, Mutation, string]>([
    [
      'a comment in DigestValue',
      replace('<ds:DigestValue>', '<ds:DigestValue><!--forged-->'),
      'answer_malformed',
    ],
    [
      'two DigestValues',
      edit((document) => {
        const value = first(document, 'DigestValue')
        value.parentNode!.insertBefore(value.cloneNode(true), value)
      }),
      'assertion_refused',
    ],
    [
      'two References',
      edit((document) => {
        const reference = first(document, 'Reference')
        reference.parentNode!.appendChild(reference.cloneNode(true))
      }),
      'assertion_refused',
    ],
    [
      'two SignedInfos',
      edit((document) => {
        const info = first(document, 'SignedInfo')
        info.parentNode!.insertBefore(info.cloneNode(true), info)
      }),
      'assertion_refused',
    ],
    [
      'a SignedInfo inside KeyInfo',
      edit((document) => {
        first(document, 'KeyInfo').appendChild(first(document, 'SignedInfo').cloneNode(true))
      }),
      'assertion_refused',
    ],
    [
      'two Signatures',
      edit((document) => {
        const signature = first(document, 'Signature')
        signature.parentNode!.appendChild(signature.cloneNode(true))
      }),
      'assertion_refused',
    ],
    ['a Reference to the whole document', set('Reference', 'URI', ''), 'assertion_refused'],
    ['a Reference to something else', set('Reference', 'URI', '#_elsewhere'), 'assertion_refused'],
    ['an XPath in the Reference', set('Reference', 'URI', "#x' or '1'='1"), 'assertion_refused'],
  ])('S08 %s is refused', async (_name, change, code) => {
    await refused({ after: [change] }, code)
  })
})

describe('S10 which assertion is meant', () => {
  const evil =
    '<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_evil" Version="2.0"><saml:Issuer>https://idp.acme.example/metadata</saml:Issuer></saml:Assertion>'
  const twice: Mutation = (xml) => {
    const assertion = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)![0]
    return xml.replace(assertion, assertion + assertion)
  }
  it.each<[string, { before?: Mutation[]; after?: Mutation[]; sign?: Signable[] }]>([
    ['two assertions in a signed Response', { sign: ['Response'], before: [twice] }],
    ['two assertions, one unsigned', { after: [replace('<saml:Assertion', `${evil}<saml:Assertion`)] }],
    [
      'one inside the other (Advice)',
      { before: [replace('<saml:Subject>', `<saml:Advice>${evil}</saml:Advice><saml:Subject>`)] },
    ],
    [
      'one in Extensions',
      { after: [replace('<samlp:Status>', `<samlp:Extensions>${evil}</samlp:Extensions><samlp:Status>`)] },
    ],
    [
      'one in StatusDetail',
      {
        after: [
          replace('</samlp:Status>', `<samlp:StatusDetail>${evil}</samlp:StatusDetail></samlp:Status>`),
        ],
      },
    ],
    [
      'one of another namespace',
      { after: [replace('<samlp:Status>', '<x:Assertion xmlns:x="urn:x" ID="_e"/><samlp:Status>')] },
    ],
    ['a Response of another namespace around it', { after: [replace(/samlp="[^"]*"/, 'samlp="urn:x"')] }],
    [
      'an ID used twice',
      { before: [set('AuthnStatement', 'ID', '_twice'), set('AttributeStatement', 'ID', '_twice')] },
    ],
    [
      'the ID of the assertion on another element',
      {
        before: [
          edit((document) => {
            all(document, 'AttributeStatement')[0]!.setAttribute(
              'Id',
              all(document, 'Assertion')[0]!.getAttribute('ID')!,
            )
          }),
        ],
      },
    ],
    ['no assertion at all', { before: [remove('Assertion')], sign: ['Response'] }],
  ])('S10 %s is refused', async (_name, changes) => {
    const code = _name.includes('around') ? 'answer_malformed' : 'assertion_refused'
    await refused(changes, code)
  })
})

describe('S13 algorithms', () => {
  it.each([
    ['SHA-1 signature', { signatureAlgorithm: algorithms.rsaSha1 }],
    ['SHA-1 digest', { digestAlgorithm: algorithms.sha1 }],
    ['inclusive canonicalization', { canonicalizationAlgorithm: algorithms.inclusive }],
    ['canonicalization with comments', { canonicalizationAlgorithm: algorithms.exclusiveWithComments }],
    ['no exclusive transform', { transforms: [algorithms.enveloped] }],
    [
      'a transform too many',
      { transforms: [algorithms.enveloped, algorithms.exclusive, algorithms.exclusive] },
    ],
  ])('S13 %s is refused by the allow-list', async (_name, signing) => {
    await refused({ signing }, 'assertion_refused', /algorithm|canonicalization|transforms/)
  })

  it('S13 HMAC with the public certificate as its secret is refused', async () => {
    const { certificate } = at.acme.key
    const signing = { key: { privateKey: certificate, certificate }, signatureAlgorithm: algorithms.hmacSha1 }
    await refused({ signing }, 'assertion_refused', /hmac-sha1.* is not accepted/)
  })

  it.each(['http://www.w3.org/2001/04/xmldsig-more#rsa-md5', 'urn:unknown', ''])(
    'S13 the algorithm "%s" is refused',
    async (name) => {
      await refused(
        { after: [set('SignatureMethod', 'Algorithm', name)] },
        'assertion_refused',
        /is not accepted/,
      )
    },
  )

  it.each([
    ['RSA with SHA-512', { signatureAlgorithm: algorithms.rsaSha512, digestAlgorithm: algorithms.sha512 }],
    ['RSA-PSS with SHA-256', { signatureAlgorithm: algorithms.rsaPss }],
    ['a list of inclusive namespaces', { inclusive: ['saml', 'samlp', 'xs'] }],
  ])('S13 %s is taken', async (_name, signing) => {
    for (const sign of [['Assertion'], ['Response'], ['Assertion', 'Response']] as Signable[][]) {
      await honest({ signing, sign })
    }
  })
})
