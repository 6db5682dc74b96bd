import { describe, expect, test } from 'vitest'
import { createSigningKey } from '../../examples/identity-providers/saml.js'
import { answerLimits } from '../../strategies/saml-guard.js'
import { signatureProblem } from '../../strategies/saml-signature.js'
import { childrenOf, ns, readXml } from '../../strategies/saml-xml.js'
import { forge, inside, type Mutation, replace } from '../rig/saml-answer.js'

// The shape of a signature, asked of by itself: the library behind refuses most of these too, each in its own way.

const key = await createSigningKey('idp.example')
const xml = forge({
  issuer: 'https://idp.example',
  person: { id: 'ann', email: 'ann@o.example', name: 'Ann', groups: [] },
  to: { callbackUrl: 'https://app.example/callback', audience: 'https://app.example', requestId: '_r' },
  signing: { key },
})

function problem(mutation: Mutation): string | null {
  const response = readXml(mutation(xml), answerLimits)
  const [assertion] = childrenOf(response, ns.assertion, 'Assertion')
  const [signature] = childrenOf(assertion!, ns.signature, 'Signature')
  return signatureProblem(signature!, assertion!)
}

const many = (count: number) => Array.from({ length: count }, (_, n) => `p${n}`).join(' ')
const inclusive = (list: string, content = '') =>
  `<ec:InclusiveNamespaces xmlns:ec="${ns.exclusive}" PrefixList="${list}">${content}</ec:InclusiveNamespaces>`
const ds = (name: string, content = '') => `<x:${name} xmlns:x="${ns.signature}">${content}</x:${name}>`

describe('S08 the shape of a signature', () => {
  test.each<[string, Mutation]>([
    ['as it was made', (text) => text],
    ['with a few namespaces', inside('CanonicalizationMethod', inclusive(many(20)))],
    ['without a KeyInfo', replace(/<(\w+:)?KeyInfo>.*<\/(\w+:)?KeyInfo>/s, '')],
  ])('%s is taken', (_what, mutation) => {
    expect(problem(mutation)).toBeNull()
  })

  test.each<[string, Mutation, RegExp]>([
    ['an Object', inside('Signature', ds('Object')), /and nothing else/],
    [
      'a SignedInfo alone',
      replace(/<(\w+:)?SignatureValue>[\s\S]*<\/(\w+:)?KeyInfo>/, ''),
      /must hold one SignedInfo/,
    ],
    ['another SignedInfo', inside('Signature', ds('SignedInfo')), /one SignedInfo/],
    ['another Reference', inside('SignedInfo', ds('Reference')), /one Reference/],
    ['no DigestMethod', replace(/<(\w+:)?DigestMethod[^>]*\/>/, ''), /Reference must hold/],
    [
      'a comment’s canonicalization',
      replace('xml-exc-c14n#"', 'xml-exc-c14n#WithComments"'),
      /not exclusive/,
    ],
    [
      'another thing in a canonicalization',
      inside('CanonicalizationMethod', ds('Any')),
      /InclusiveNamespaces only/,
    ],
    [
      'two lists of namespaces',
      inside('CanonicalizationMethod', inclusive('a') + inclusive('b')),
      /InclusiveNamespaces only/,
    ],
    [
      'elements in a list of namespaces',
      inside('CanonicalizationMethod', inclusive('a', '<b/>')),
      /must not hold/,
    ],
    ['21 namespaces', inside('CanonicalizationMethod', inclusive(many(21))), /more than 20/],
    ['an element in SignatureMethod', inside('SignatureMethod', '<a/>'), /SignatureMethod must not hold/],
    ['an element in DigestMethod', inside('DigestMethod', '<a/>'), /DigestMethod must not hold/],
    ['an element in DigestValue', inside('DigestValue', '<a/>'), /DigestValue must not hold/],
    ['an element in SignatureValue', inside('SignatureValue', '<a/>'), /SignatureValue must not hold/],
    ['SHA-1 as digest', replace('xmlenc#sha256', 'xmlenc#sha1'), /the digest algorithm/],
    [
      'an unknown algorithm',
      replace('xmldsig-more#rsa-sha256', 'xmldsig-more#rsa-none'),
      /the signature algorithm/,
    ],
    ['a third transform', replace(/<\/(\w+:)?Transforms>/, `${ds('Transform')}$&`), /the transforms/],
    ['another transform', inside('Transforms', ds('Transform')), /the transforms/],
    ['another element’s ID', replace(/URI="#[^"]*"/, 'URI="#_other"'), /does not point/],
    ['the whole document', replace(/URI="#[^"]*"/, 'URI=""'), /does not point/],
    [
      'an ID that is an expression',
      replace(/(<saml:Assertion[^>]* ID=")[^"]*"/, "$1a' or 'b\""),
      /does not point/,
    ],
  ])('with %s is refused by name', (_what, mutation, expected) => {
    expect(problem(mutation)).toMatch(expected)
  })
})
