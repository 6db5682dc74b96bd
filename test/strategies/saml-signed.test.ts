import fc from 'fast-check'
import { describe, it } from 'vitest'
import { inside, replace } from '../rig/saml-answer.js'
import { scene } from '../rig/saml-scene.js'
import type { Signable } from '../rig/saml-wrapping.js'

// Whatever XML an IdP signs, the signature holds: our reading of it and xml-crypto's are the same.

const { honest } = scene()

const text = fc
  .array(
    fc.constantFrom(
      'a',
      ' ',
      '\n',
      '\t',
      '&amp;',
      '&lt;',
      '&gt;',
      '>',
      '"',
      "'",
      '&quot;',
      '&#13;',
      '&#x1F600;',
      'é',
      '😀',
      '漢',
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join(''))
// Prefixes in lower case, no namespace that begins another or needs escaping, no attribute called like a listed
// prefix: with any of those xml-crypto leaves the standard.
const prefix = fc.constantFrom('', 'p', 'q', 'zz', 'za')
const uri = fc.constantFrom('urn:a:', 'urn:ab:', 'urn:b?x=1', 'http://x.example/#')
const attributeValue = text.map((value) => value.replaceAll('"', '&quot;').replaceAll(/[\n\t]/g, ' '))

/** An element that declares every prefix it uses, some it does not, and attributes in any order. */
const { element } = fc.letrec<{ element: string; content: string }>((tie) => ({
  content: fc.oneof({ depthSize: 'small' }, text, tie('element')),
  element: fc
    .record({
      prefix,
      declared: fc.uniqueArray(fc.tuple(prefix, uri), { maxLength: 4, selector: ([name]) => name }),
      attributes: fc.uniqueArray(
        fc.tuple(prefix, fc.constantFrom('a', 'b', 'B', 'c-d', 'd'), attributeValue),
        {
          maxLength: 4,
          selector: ([, name]) => name,
        },
      ),
      content: fc.array(tie('content'), { maxLength: 3 }),
    })
    .map(({ prefix: own, declared, attributes, content }) => {
      const names = new Map<string, string>(declared)
      for (const used of [own, ...attributes.map(([name]) => name)])
        if (used && !names.has(used)) names.set(used, 'urn:used')
      const name = own ? `${own}:e` : 'e'
      const written = [
        ...[...names].map(([declaredPrefix, value]) =>
          declaredPrefix ? `xmlns:${declaredPrefix}="${value}"` : `xmlns="${value}"`,
        ),
        ...attributes.map(([by, local, value]) => `${by ? `${by}:` : ''}${local}="${value}"`),
      ]
      return `<${[name, ...written].join(' ')}>${content.join('')}</${name}>`
    }),
}))

describe('Signatures of any XML', () => {
  it('hold for generated attribute values', async () => {
    await fc.assert(
      fc.asyncProperty(
        element,
        fc.constantFrom<Signable[]>(['Assertion'], ['Response'], ['Assertion', 'Response']),
        fc.constantFrom<string[]>([], ['p'], ['saml', 'p', 'xs']),
        async (xml, sign, inclusive) => {
          const value = `<saml:Attribute Name="extra"><saml:AttributeValue>${xml}</saml:AttributeValue></saml:Attribute>`
          await honest({ before: [inside('AttributeStatement', value)], sign, signing: { inclusive } })
        },
      ),
      { numRuns: 120 },
    )
  })

  it('hold for namespaces declared where products declare them', async () => {
    const xs =
      ' xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    for (const place of [
      '<samlp:Response',
      '<saml:Assertion',
      '<saml:AttributeStatement',
      '<saml:AttributeValue',
    ]) {
      const before = [
        replace(new RegExp(place, 'g'), place + xs),
        replace(/<saml:AttributeValue/g, '<saml:AttributeValue xsi:type="xs:string"'),
      ]
      for (const inclusive of [[], ['xs'], ['xs', 'xsi', 'saml']]) {
        for (const sign of [['Assertion'], ['Response'], ['Assertion', 'Response']] as Signable[][]) {
          await honest({ before, sign, signing: { inclusive } })
        }
      }
    }
  })
})
