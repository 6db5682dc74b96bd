import { describe, expect, it } from 'vitest'
import { inside, type Mutation, replace, set, setText } from '../rig/saml-answer.js'
import { scene } from '../rig/saml-scene.js'

const objectId = 'http://schemas.microsoft.com/identity/claims/objectidentifier'
const attribute = (name: string, ...values: string[]): Mutation => {
  const written = values.map((value) => `<saml:AttributeValue>${value}</saml:AttributeValue>`).join('')
  return inside('AttributeStatement', `<saml:Attribute Name="${name}">${written}</saml:Attribute>`)
}
const format = (name: string) => set('NameID', 'Format', `urn:oasis:names:tc:SAML:${name}`)
const emailFormat = format('1.1:nameid-format:emailAddress')
const transient = format('2.0:nameid-format:transient')

describe('attributes.subject', () => {
  const { at, honest, refused } = scene({
    attributes: { subject: objectId, email: 'email', name: 'displayName', groups: 'groups' },
  })
  const ann = attribute(objectId, '528b2ac2-aa9c-45e1-88d4-959b53bc7dd0')

  it('an e-mail address as NameID may change; the person stays the same', async () => {
    const before = [ann, emailFormat]
    const first = await honest({ before: [...before, setText('NameID', 'ann.old@acme.example')] })
    const later = await honest({ before: [...before, setText('NameID', 'ann.new@acme.example')] })
    expect(later.user.id).toBe(first.user.id)
    expect((await at.app.rows()).users[0]!.identities.map(({ subject }) => subject)).toEqual([
      '528b2ac2-aa9c-45e1-88d4-959b53bc7dd0',
    ])
  })

  it('a transient NameID names nobody, and need not', async () => {
    const first = await honest({ before: [ann, transient, setText('NameID', '_one')] })
    const later = await honest({ before: [ann, transient, setText('NameID', '_two')] })
    expect(later.user.id).toBe(first.user.id)
  })

  it.each<[string, Mutation[]]>([
    ['no such attribute', []],
    ['one without a value', [attribute(objectId)]],
    ['an empty one', [attribute(objectId, '')]],
    ['two different ones', [attribute(objectId, 'a', 'b')]],
    ['one of another case', [attribute(objectId.toUpperCase(), 'a')]],
    ['one of 2,000 characters', [attribute(objectId, 'a'.repeat(2_000))]],
  ])('%s: refused, and the NameID does not stand in', async (_, before) => {
    await refused({ before }, 'identity_invalid', /attributes\.subject|"subject"|the subject is/, {
      before: [ann],
    })
  })
})

describe('Without attributes.subject', () => {
  const { at, honest, refused } = scene()

  it('a transient NameID is refused, and the refusal names the mapping', async () => {
    await refused({ before: [transient] }, 'identity_invalid', /or map attributes\.subject/)
  })

  it('one NameID under another qualifier names somebody else; the IdP’s own name and ours say nothing new', async () => {
    const plain = [setText('NameID', 'qualified')]
    const by = (name: string, value: string) => [...plain, set('NameID', name, value)]
    const [issuer, audience] = [at.acme.entityId, `${at.app.origin}/auth/sso/acme/metadata`]
    const users: string[] = []
    for (const before of [
      plain,
      by('NameQualifier', issuer),
      by('SPNameQualifier', audience),
      by('NameQualifier', ''),
      by('NameQualifier', 'https://hospital.example'),
      by('SPNameQualifier', 'https://hospital.example'),
    ]) {
      const email = `${users.length > 3 ? users.length : 'ann'}@acme.example`
      users.push((await honest({ before: [...before, replace('alice@acme.example', email)] })).user.id)
    }
    expect(new Set(users.slice(0, 4)).size).toBe(1)
    expect(new Set(users).size).toBe(3)
  })

  it('an e-mail address as NameID is the subject', async () => {
    const before = [emailFormat, setText('NameID', 'ann@acme.example')]
    expect((await honest({ before })).user.id).toBe((await honest({ before })).user.id)
  })
})
