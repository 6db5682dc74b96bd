import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Person } from '../../examples/identity-providers/saml.js'
import { expectRefused } from '../rig/oidc-app.js'
import { inside, type Mutation, remove, replace, set, setText } from '../rig/saml-answer.js'
import { alice, answer, begin, bob, scene } from '../rig/saml-scene.js'
import type { Signable } from '../rig/saml-wrapping.js'

// What a genuine IdP says of a person: whose name it is, and what it may not decide.

const { at, xmlFor, honest, refused } = scene()

const attribute = (name: string, ...values: string[]) =>
  `<saml:Attribute Name="${name}">${values.map((value) => `<saml:AttributeValue>${value}</saml:AttributeValue>`).join('')}</saml:Attribute>`
const withAttribute = (name: string, ...values: string[]): Mutation =>
  inside('AttributeStatement', attribute(name, ...values))
const without = (name: string): Mutation =>
  replace(new RegExp(`<saml:Attribute Name="${name}">.*?</saml:Attribute>`), '')

/** Signs somebody in at a connection with the IdP's own key; the answer. */
async function say(connection: 'acme' | 'globex', person: Person, before: Mutation[] = []) {
  const begun = await begin(at.app, connection)
  const { entityId: issuer, key } = at[connection]
  return { begun, response: await answer(begun, xmlFor(begun, { issuer, person, before, signing: { key } })) }
}

async function denied(connection: 'acme' | 'globex', person: Person, code: string, before: Mutation[] = []) {
  const rows = await at.app.rows()
  const { begun, response } = await say(connection, person, before)
  const planner = code.startsWith('email_')
  await expectRefused(at.app, begun.client, response, { code, status: 403, denied: planner }, rows)
}

describe('S09 text in pieces', () => {
  const pieces = ['<!---->', '<!-- x -->', '<![CDATA[]]>', '<![CDATA[x]]>', '<?x?>', '<?x y?>', '<x/>']
  const places: [string, string, string][] = [
    ['NameID', 'alice-1', '>alice-1<'],
    ['e-mail', 'alice@acme.example', '>alice@acme.example<'],
  ]
  const split = (found: string, at: number, piece: string) =>
    `${found.slice(0, at + 1)}${piece}${found.slice(at + 1)}`

  /** Nobody, or the whole of Alice. */
  const nobodyElse = async () => {
    for (const { verifiedEmail, identities } of (await at.app.rows()).users) {
      expect([verifiedEmail, identities.map(({ subject }) => subject)]).toEqual([alice.email, [alice.id]])
    }
  }

  /** A signer of this rig cannot put a processing instruction under a signature. */
  const ways = (piece: string, change: Mutation) => [
    { after: [change] },
    ...(piece.startsWith('<?') ? [] : [{ before: [change] }]),
  ]

  describe.each(places)('of the %s', (_name, text, found) => {
    it.each(pieces)('S09 %s before or after signing never leaves a part of it', async (piece) => {
      const change = replace(found, split(found, text.length - 2, piece))
      for (const sign of [['Assertion'], ['Response']] as Signable[][]) {
        for (const changes of ways(piece, change)) {
          const begun = await begin(at.app, 'acme')
          await answer(begun, xmlFor(begun, { ...changes, sign }))
          await nobodyElse()
        }
      }
      await honest()
      await nobodyElse()
    })
  })

  it('S09 wherever the piece stands', async () => {
    const piece = fc.constantFrom(...pieces)
    await fc.assert(
      fc.asyncProperty(
        piece,
        fc.constantFrom(...places),
        fc.nat(),
        async (chosen, [, text, found], position) => {
          const change = replace(found, split(found, position % (text.length + 1), chosen))
          for (const changes of ways(chosen, change)) {
            const begun = await begin(at.app, 'acme')
            await answer(begun, xmlFor(begun, changes))
            await nobodyElse()
          }
        },
      ),
      { numRuns: 40 },
    )
    await honest()
  })
})

describe('NameID', () => {
  it.each<[string, Mutation, string]>([
    [
      'transient',
      set('NameID', 'Format', 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient'),
      'identity_invalid',
    ],
    ['empty', setText('NameID', ''), 'identity_invalid'],
    ['white space', setText('NameID', ' \n '), 'identity_invalid'],
    ['absent', remove('NameID'), 'identity_invalid'],
    ['two', (xml) => xml.replace(/<saml:NameID.*<\/saml:NameID>/, '$&$&'), 'identity_invalid'],
    ['on two lines', setText('NameID', 'alice\n-1'), 'identity_invalid'],
    ['2,000 characters', setText('NameID', 'a'.repeat(2_000)), 'identity_invalid'],
  ])('%s is no subject', async (_name, change, code) => {
    await refused({ before: [change] }, code)
  })

  it('the refusal of a transient one says what to ask the IdP for', async () => {
    const before = [set('NameID', 'Format', 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient')]
    await refused({ before }, 'identity_invalid', /ask the identity provider for a persistent NameID/)
  })

  it('is the same person by whatever format, and another by another case', async () => {
    const first = await honest()
    const again = await honest({
      before: [set('NameID', 'Format', 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified')],
    })
    expect(again.user.id).toBe(first.user.id)
    const { begun, response } = await say('acme', { ...alice, id: 'ALICE-1' })
    expect([response.status, JSON.parse(response.text).error]).toEqual([403, 'subject_changed'])
    expect(await at.app.me(begun.client)).toBe(401)
    expect((await at.app.rows()).users).toHaveLength(1)
  })
})

describe('L06 L08 L13 whose address it is', () => {
  it("L06 Globex's IdP asserts an existing user of Acme: denied", async () => {
    const { user } = await honest()
    await denied('globex', { ...alice, id: 'mallory-1' }, 'email_foreign')
    expect((await honest()).user.id).toBe(user.id)
  })

  it("L06 nor does it get in by Acme's subject", async () => {
    await honest()
    await denied('globex', alice, 'email_foreign')
  })

  it("L08 Globex's IdP asserts a new address at Acme's domain: denied, nobody created", async () => {
    await denied('globex', { ...bob, email: 'new@acme.example' }, 'email_foreign')
    const { begun, response } = await say('globex', bob)
    expect([response.status, await at.app.me(begun.client)]).toEqual([303, 200])
  })

  it.each([
    ['alice@evil-acme.example', 'email_outside'],
    ['alice@acme.example.evil.com', 'email_outside'],
    ['alice@sub.acme.example', 'email_outside'],
    ['alice@acme.example.', 'identity_invalid'],
    ['alice@acme.example@evil.com', 'identity_invalid'],
    ['alice@evil.com,alice@acme.example', 'identity_invalid'],
    ['alice@acme.example\u0000.evil.com', 'answer_malformed'],
    ['alice@acme。example', 'identity_invalid'],
    ['alice＠acme.example', 'identity_invalid'],
    [' alice@acme.example', 'identity_invalid'],
    ['alice@acme.example\n', 'identity_invalid'],
    ['<alice@acme.example>', 'identity_invalid'],
  ])('L13 %j is not of acme.example', async (email, code) => {
    const { begun, response } = await say('acme', { ...alice, email })
    const status = code === 'answer_malformed' ? 400 : 403
    await expectRefused(at.app, begun.client, response, { code, status, denied: code === 'email_outside' })
    await honest()
  })

  it('L13 only the exact domain, whatever stands around it', async () => {
    const label = fc.stringMatching(/^[a-z0-9-]{0,6}$/)
    await fc.assert(
      fc.asyncProperty(
        label,
        fc.constantFrom('', '.', '-', 'x'),
        fc.constantFrom('', '.', '.evil.com', '-x', 'x'),
        async (left, joint, right) => {
          const domain = `${left}${joint}acme.example${right}`
          fc.pre(domain !== 'acme.example')
          const { begun } = await say('acme', { ...alice, email: `alice@${domain}` })
          expect(await at.app.me(begun.client)).toBe(401)
          expect((await at.app.rows()).users).toEqual([])
        },
      ),
      { numRuns: 40 },
    )
    await honest()
  })

  it('L13 two different addresses are refused, the same twice is one', async () => {
    await refused(
      { before: [withAttribute('email', 'victim@acme.example')] },
      'identity_invalid',
      /"email" holds 2 different values/,
    )
    await honest({ before: [withAttribute('email', 'alice@acme.example')] })
  })
})

describe('P01 P02 what an IdP cannot give', () => {
  it('P01 roles come by the exact map and nothing else', async () => {
    const groups = [
      'owner',
      'superadmin',
      'admin',
      'Admins',
      'admins ',
      ' admins',
      'ａdmins',
      'ADMINS',
      '__proto__',
      'constructor',
      'globex',
    ]
    const { user } = await honest({ person: { ...alice, groups } })
    expect(user.memberships.map(({ organization, roles }) => [organization, roles])).toEqual([
      ['acme', ['member']],
    ])
    const promoted = await honest({ person: { ...alice, groups: [...groups, 'admins'] } })
    expect(promoted.user.memberships[0]!.roles.toSorted()).toEqual(['admin', 'member'])
  })

  it('P02 attributes that nobody mapped set nothing', async () => {
    const names = [
      'isAdmin',
      'orgId',
      'organization',
      'userId',
      'id',
      'status',
      'role',
      'roles',
      'verifiedEmail',
      'email_verified',
      '__proto__',
      'constructor',
      'toString',
      'getAssertionXml',
    ]
    const { user } = await honest({ before: names.map((name) => withAttribute(name, 'owner')) })
    expect(user.attributes).toEqual({ name: 'Alice' })
    expect(user.memberships.map(({ organization, roles }) => [organization, roles])).toEqual([
      ['acme', ['member']],
    ])
    const [row] = (await at.app.rows()).users
    expect([row!.status, row!.attributes, row!.verifiedEmail]).toEqual([
      'active',
      { name: 'Alice' },
      'alice@acme.example',
    ])
    expect(({} as Record<string, unknown>).isAdmin).toBeUndefined()
  })

  it('P06 repeated attributes are one list, and a value that holds elements is no text', async () => {
    const { user } = await honest({
      person: { ...alice, groups: ['sales'] },
      before: [
        withAttribute('groups', 'admins'),
        withAttribute('groups', '<saml:NameID>staff</saml:NameID>'),
      ],
    })
    expect(user.memberships[0]!.roles.toSorted()).toEqual(['admin', 'member'])
  })

  it('O15 P06 too many groups to send leave the roles as they are', async () => {
    const admin = await honest({ person: { ...alice, groups: ['admins'] } })
    expect(admin.user.memberships[0]!.roles.toSorted()).toEqual(['admin', 'member'])
    const link = 'http://schemas.microsoft.com/claims/groups.link'
    const after = await honest({ before: [without('groups'), withAttribute(link, 'https://graph.example/')] })
    expect(after.user.memberships[0]!.roles.toSorted()).toEqual(['admin', 'member'])
    const none = await honest({ person: { ...alice, groups: [] } })
    expect(none.user.memberships[0]!.roles).toEqual(['member'])
  })
})

describe('Groups, where a missing claim means none', () => {
  const strict = scene({ groups: { absent: 'empty', map: { admins: ['admin'] } } })

  it('O15 a link in their place still says that there are more, and takes nothing', async () => {
    const admin = { ...alice, groups: ['admins'] }
    const rolesOf = async (changes: Parameters<typeof strict.honest>[0]) =>
      (await strict.honest(changes)).user.memberships[0]!.roles.toSorted()
    expect(await rolesOf({ person: admin })).toEqual(['admin', 'member'])
    const link = withAttribute('http://schemas.microsoft.com/claims/groups.link', 'https://graph.example/')
    expect(await rolesOf({ before: [without('groups'), link] })).toEqual(['admin', 'member'])
    expect(await rolesOf({ before: [without('groups')] })).toEqual(['member'])
  })
})

describe('The NameID as the address', () => {
  const named = scene({ attributes: { email: 'NameID', name: 'displayName' }, groups: { map: {} } })

  it('is taken where the mapping names it', async () => {
    const { user } = await named.honest({
      person: { ...alice, id: 'alice@acme.example' },
      before: [withAttribute('NameID', 'victim@acme.example')],
    })
    expect(user.email).toBe('alice@acme.example')
  })
})
