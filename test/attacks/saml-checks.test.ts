import { describe, expect, it } from 'vitest'
import { expectRefused } from '../rig/oidc-app.js'
import { after, inside, type Mutation, remove, replace, set, setIssuer, setText } from '../rig/saml-answer.js'
import { answer, begin, scene } from '../rig/saml-scene.js'
import type { Signable } from '../rig/saml-wrapping.js'

// Answers that the IdP really signed, and that are still not for this sign-in.

const { at, xmlFor, honest, refused } = scene()

const both: Signable[] = ['Assertion', 'Response']
const later = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString()
/** The time is taken when the answer is made. */
const setTime =
  (element: string, attribute: string, seconds: number): Mutation =>
  (xml) =>
    set(element, attribute, later(seconds))(xml)
const audience = (text: string) =>
  `<saml:AudienceRestriction>${text && `<saml:Audience>${text}</saml:Audience>`}</saml:AudienceRestriction>`

describe('S17 InResponseTo', () => {
  it.each<[string, Mutation]>([
    ['missing everywhere', replace(/ InResponseTo="[^"]*"/g, '')],
    ['missing in the Response', replace(/ InResponseTo="[^"]*"/, '')],
    ['missing in the assertion', set('SubjectConfirmationData', 'InResponseTo', null)],
    ['unknown', replace(/InResponseTo="[^"]*"/g, 'InResponseTo="_unknown"')],
    ['unknown in the Response', set('Response', 'InResponseTo', '_unknown')],
    ['unknown in the assertion', set('SubjectConfirmationData', 'InResponseTo', '_unknown')],
    ['empty', replace(/InResponseTo="[^"]*"/g, 'InResponseTo=""')],
  ])('S17 %s is refused', async (_name, change) => {
    await refused({ before: [change], sign: both }, 'assertion_refused', /InResponseTo/)
  })

  it.each(['acme', 'globex'])(
    "S17 the request of another browser's sign-in at %s is refused",
    async (connection) => {
      const other = await begin(at.app, connection)
      const mine = await begin(at.app, 'acme')
      const response = await answer(mine, xmlFor({ ...mine, requestId: other.requestId }))
      await expectRefused(at.app, mine.client, response, { code: 'assertion_refused', status: 403 })
      await honest()
    },
  )

  it('S17 the signed part decides: the Response is rewritten around an older assertion', async () => {
    const old = await begin(at.app, 'acme')
    const mine = await begin(at.app, 'acme')
    const moved = xmlFor(old, { after: [set('Response', 'InResponseTo', mine.requestId!)] })
    const response = await answer(mine, moved)
    await expectRefused(at.app, mine.client, response, {
      code: 'assertion_refused',
      status: 403,
      message: /InResponseTo|not what was signed/,
    })
    await honest()
  })
})

describe('S18 Audience', () => {
  it.each<[string, Mutation]>([
    ['wrong', setText('Audience', 'https://other.example/metadata')],
    ["another tenant's", replace(/(<saml:Audience>[^<]*)acme/, '$1globex')],
    ['prefix-similar', replace('</saml:Audience>', '/x</saml:Audience>')],
    ['in another case', (xml) => xml.replace(/(?<=<saml:Audience>)[^<]*/, (found) => found.toUpperCase())],
    ['absent', remove('AudienceRestriction')],
    [
      'without an Audience',
      replace(/<saml:AudienceRestriction>.*<\/saml:AudienceRestriction>/, audience('')),
    ],
    ['empty', setText('Audience', '')],
    [
      'right, with a second restriction that fails',
      after('AudienceRestriction', audience('https://other.example')),
    ],
    ['right, with a second restriction that is empty', after('AudienceRestriction', audience(''))],
  ])('S18 %s is refused', async (_name, change) => {
    await refused({ before: [change] }, 'assertion_refused', /Audience/)
  })

  it('S18 one of several audiences in each restriction is enough', async () => {
    await honest({
      before: [inside('AudienceRestriction', '<saml:Audience>https://other.example</saml:Audience>')],
    })
  })
})

describe('S19 Destination and Recipient', () => {
  const elsewhere: [string, (url: string) => string | null][] = [
    ['another host', () => 'https://evil.example/auth/sso/acme/callback'],
    ["another tenant's", (url) => url.replace('acme', 'globex')],
    ['prefix-similar', (url) => `${url}/x`],
    ['cut short', (url) => url.slice(0, -1)],
    ['with a query', (url) => `${url}?a=1`],
    ['with another host before an @', (url) => url.replace('http://', 'http://evil@')],
    ['empty', () => ''],
  ]
  it.each(elsewhere)('S19 Destination %s is refused, whatever is signed', async (_name, to) => {
    const change = set('Response', 'Destination', to(at.app.callback('acme')))
    await refused({ before: [change], sign: both }, 'assertion_refused', /Destination/)
    await refused({ before: [change], sign: ['Assertion'] }, 'assertion_refused', /Destination/)
  })

  it('S19 a signed Response without Destination is refused', async () => {
    const before = [set('Response', 'Destination', null)]
    await refused({ before, sign: ['Response'] }, 'assertion_refused', /Destination/)
    await honest({ before, sign: ['Assertion'] })
  })

  it.each([...elsewhere, ['absent', () => null] as const])(
    'S19 Recipient %s is refused',
    async (_name, to) => {
      const change = set('SubjectConfirmationData', 'Recipient', to(at.app.callback('acme')))
      await refused({ before: [change] }, 'assertion_refused', /Recipient/)
    },
  )
})

describe('S20 Issuer', () => {
  const wrong: [string, string][] = [
    ['unknown', 'https://evil.example/metadata'],
    ["another tenant's", 'https://idp.globex.example/metadata'],
    ['with white space', ' https://idp.acme.example/metadata'],
    ['with a slash more', 'https://idp.acme.example/metadata/'],
    ['empty', ''],
  ]
  it.each(wrong)('S20 of the assertion: %s is refused', async (_name, issuer) => {
    await refused(
      { before: [setIssuer('Assertion', issuer)] },
      'assertion_refused',
      /Issuer of the assertion/,
    )
  })

  it.each(wrong)('S20 of the Response: %s is refused', async (_name, issuer) => {
    await refused(
      { before: [setIssuer('Response', issuer)], sign: both },
      'assertion_refused',
      /Issuer of the Response/,
    )
  })

  it('S20 absent in the assertion is refused, absent in the Response is no contradiction', async () => {
    const noIssuer: Mutation = replace(/(<saml:Assertion[^>]*>)<saml:Issuer>[^<]*<\/saml:Issuer>/, '$1')
    await refused(
      { before: [noIssuer, replace('<saml:Subject>', '<saml:Subject>')], sign: ['Response'] },
      'assertion_refused',
      /Issuer/,
    )
    await honest({ after: [replace(/<saml:Issuer>[^<]*<\/saml:Issuer>/, '')] })
  })
})

describe('S22 Subject, Conditions, Status', () => {
  const confirmation = /<saml:SubjectConfirmation .*<\/saml:SubjectConfirmation>/
  const holder = set('SubjectConfirmation', 'Method', 'urn:oasis:names:tc:SAML:2.0:cm:holder-of-key')
  it.each<[string, Mutation, RegExp]>([
    ['holder-of-key', holder, /bearer/],
    ['sender-vouches', replace('cm:bearer', 'cm:sender-vouches'), /bearer/],
    ['no SubjectConfirmation', replace(confirmation, ''), /bearer/],
    ['no SubjectConfirmationData', remove('SubjectConfirmationData'), /SubjectConfirmation/i],
    ['no NotOnOrAfter in it', set('SubjectConfirmationData', 'NotOnOrAfter', null), /NotOnOrAfter/],
    ['no Subject', remove('Subject'), /Subject/],
    ['two Subjects', (xml) => xml.replace(/<saml:Subject>.*<\/saml:Subject>/, '$&$&'), /Subject/],
    ['no Conditions', remove('Conditions'), /Conditions/],
    [
      'two Conditions',
      (xml) => xml.replace(/<saml:Conditions.*<\/saml:Conditions>/, '$&$&'),
      /Conditions|not what/,
    ],
    ['no NotOnOrAfter in the Conditions', set('Conditions', 'NotOnOrAfter', null), /NotOnOrAfter/],
    ['a condition nobody here knows', inside('Conditions', '<saml:Condition/>'), /condition/],
    ['SAML 1.1', set('Assertion', 'Version', '1.1'), /version/],
  ])('S22 %s is refused', async (_name, change, message) => {
    await refused({ before: [change] }, 'assertion_refused', message)
  })

  it('S22 holder-of-key beside a bearer confirmation is no contradiction', async () => {
    await honest({
      before: [
        (xml) =>
          xml.replace(
            confirmation,
            (found) =>
              holder(`<x xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">${found}</x>`).replace(
                /<\/?x[^>]*>/g,
                '',
              ) + found,
          ),
      ],
    })
  })

  it.each([
    ['Responder', 'urn:oasis:names:tc:SAML:2.0:status:Responder', 'idp_refused'],
    ['Requester', 'urn:oasis:names:tc:SAML:2.0:status:Requester', 'idp_refused'],
    ['something like Success', 'urn:oasis:names:tc:SAML:2.0:status:Success ', 'idp_refused'],
    ['empty', '', 'assertion_refused'],
  ])('S22 Status %s with a signed assertion is refused', async (_name, value, code) => {
    for (const sign of [['Assertion'], ['Response']] as Signable[][]) {
      await refused({ before: [set('StatusCode', 'Value', value)], sign }, code)
    }
  })

  it('S22 no Status, or two, is refused', async () => {
    await refused({ before: [remove('Status')] }, 'assertion_refused', /Status/)
    await refused(
      { before: [(xml) => xml.replace(/<samlp:Status>.*<\/samlp:Status>/, '$&$&')] },
      'assertion_refused',
      /Status/,
    )
    await refused(
      {
        before: [
          set('StatusCode', 'Value', 'urn:oasis:names:tc:SAML:2.0:status:Responder'),
          after(
            'Status',
            '<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>',
          ),
        ],
      },
      'assertion_refused',
      /Status/,
    )
  })

  it("S22 an IdP's refusal without an assertion says why, for the operator only", async () => {
    const begun = await begin(at.app, 'acme')
    const xml = xmlFor(begun, {
      sign: [],
      before: [
        remove('Assertion'),
        set('StatusCode', 'Value', 'urn:oasis:names:tc:SAML:2.0:status:Responder'),
        inside('StatusCode', '<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/>'),
        after('StatusCode', ''),
      ],
    })
    const response = await answer(begun, xml)
    await expectRefused(at.app, begun.client, response, {
      code: 'idp_refused',
      status: 403,
      message: /AuthnFailed/,
    })
    expect(response.text).not.toContain('AuthnFailed')
    await honest()
  })
})

describe('Time', () => {
  it.each<[string, Mutation, RegExp]>([
    [
      'the Conditions have ended',
      setTime('Conditions', 'NotOnOrAfter', -61),
      /NotOnOrAfter of the Conditions .* has passed/,
    ],
    ['the Conditions have not begun', setTime('Conditions', 'NotBefore', 70), /has not come yet/],
    [
      'the confirmation has ended',
      setTime('SubjectConfirmationData', 'NotOnOrAfter', -61),
      /NotOnOrAfter of the SubjectConfirmation .* has passed/,
    ],
    [
      'the confirmation has not begun',
      setTime('SubjectConfirmationData', 'NotBefore', 70),
      /has not come yet/,
    ],
    [
      'the session has ended at the IdP',
      setTime('AuthnStatement', 'SessionNotOnOrAfter', -61),
      /SessionNotOnOrAfter/,
    ],
    ['a time that is none', set('Conditions', 'NotOnOrAfter', 'tomorrow'), /not a time/],
    ['a time without a zone', set('Conditions', 'NotOnOrAfter', '2099-01-01T00:00:00'), /not a time/],
  ])('S14 %s: refused', async (_name, change, message) => {
    await refused({ before: [change] }, 'assertion_refused', message)
  })

  it.each<[string, Mutation]>([
    ['ended 50 seconds ago', setTime('Conditions', 'NotOnOrAfter', -50)],
    ['begins in 50 seconds', setTime('Conditions', 'NotBefore', 50)],
    ['a session that goes on', setTime('AuthnStatement', 'SessionNotOnOrAfter', 3600)],
    ['seven digits of a second', (xml) => xml.replace(/(NotOnOrAfter="[^"]*\.\d{3})Z/g, '$17654Z')],
  ])('S14 within the allowed difference of clocks, %s: signed in', async (_name, change) => {
    await honest({ before: [change] })
  })
})

describe('Time by an injected clock', () => {
  const moved = { now: () => Date.now() + 86_400_000 }
  const tomorrow = scene({}, moved)

  it('S14 an answer of the real time is refused, one of the moved time signs in', async () => {
    const { app } = tomorrow.at
    const begun = await begin(app, 'acme')
    const response = await answer(begun, tomorrow.xmlFor(begun))
    await expectRefused(app, begun.client, response, {
      code: 'assertion_refused',
      status: 403,
      message: /has passed/,
    })
    const again = await begin(app, 'acme')
    const fresh = await answer(again, tomorrow.xmlFor({ ...again, at: moved.now() }))
    expect([fresh.status, await app.me(again.client)]).toEqual([303, 200])
  })
})
