import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { constants, deflateRawSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { SigningKey } from '../../examples/identity-providers/saml.js'
import { expectRefused } from '../rig/oidc-app.js'
import { browser } from '../rig/oidc-http.js'
import { posted, signed } from '../rig/saml-answer.js'
import { answer, begin, post, scene } from '../rig/saml-scene.js'

// Messages that are no answer to a sign-in: requests to sign somebody out, which IdPs cannot do here, and bodies that
// grow when they are read or unpacked.

const { at, attempt, xmlFor, honest } = scene()

const deflated = (xml: string) => deflateRawSync(xml).toString('base64')

function logout(kind: 'Request' | 'Response', key?: SigningKey): string {
  const inner =
    kind === 'Request'
      ? '<saml:NameID>alice-1</saml:NameID><samlp:SessionIndex>_session</samlp:SessionIndex>'
      : '<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>'
  const destination = at.app.callback('acme')
  const xml = `<samlp:Logout${kind} xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="_${crypto.randomUUID()}" Version="2.0" IssueInstant="${new Date().toISOString()}" Destination="${destination}"><saml:Issuer>${at.acme.entityId}</saml:Issuer>${inner}</samlp:Logout${kind}>`
  return key ? signed(xml, `Logout${kind}`, { key }) : xml
}

describe('S30 signing out by message', () => {
  const signers: [string, () => SigningKey | undefined][] = [
    ['unsigned', () => undefined],
    ['signed by another tenant', () => at.globex.key],
    ['signed by the IdP of the connection', () => at.acme.key],
  ]

  describe.each(signers)('%s', (_name, key) => {
    it.each(['Request', 'Response'] as const)(
      'S30 a Logout%s ends no session, wherever it is sent',
      async (kind) => {
        const { client, response } = await attempt()
        expect(response.status, response.text).toBe(303)
        const before = await at.app.rows()
        const xml = logout(kind, key())
        const callback = at.app.callback('acme')
        const foreign = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
        for (const name of ['SAMLRequest', 'SAMLResponse']) {
          const redirected = new URLSearchParams({ [name]: deflated(xml), RelayState: 'x', SigAlg: 'x' })
          const form = new URLSearchParams({
            [name]: posted(xml),
            RelayState: (await begin(at.app, 'acme')).relayState,
          })
          const sent = {
            'redirected to the callback': client.go(`${callback}?${redirected}`),
            'posted to the callback': client.go(callback, { method: 'POST', body: form, headers: foreign }),
            'redirected to the sign-out': client.go(`${at.app.origin}/auth/logout?${redirected}`),
            'posted to the sign-out': client.go(`${at.app.origin}/auth/logout`, {
              method: 'POST',
              body: form,
              headers: foreign,
            }),
            'posted to where signing in starts': client.go(at.app.start('acme'), {
              method: 'POST',
              body: form,
            }),
          }
          for (const [way, answered] of Object.entries(sent)) {
            const { status, text } = await answered
            expect([way, status >= 400 && status < 500], text).toEqual([way, true])
          }
        }
        expect(await at.app.me(client)).toBe(200)
        expect(await at.app.rows()).toEqual(before)
        const out = await client.go(`${at.app.origin}/auth/logout`, {
          method: 'POST',
          headers: { 'sec-fetch-site': 'same-origin' },
        })
        expect([out.status, await at.app.me(client)]).toEqual([303, 401])
      },
    )
  })
})

describe('S29 bodies that grow', () => {
  /** 200 MiB of nothing, packed into 200 kB. */
  const mebibyte = deflateRawSync(Buffer.alloc(1024 * 1024), { finishFlush: constants.Z_SYNC_FLUSH })
  const bomb = Buffer.concat([...Array(200).fill(mebibyte), Buffer.from([3, 0])]).toString('base64')

  it.each(['SAMLResponse', 'SAMLRequest'])(
    'S29 a packed %s is not unpacked, wherever it is posted',
    async (name) => {
      expect(bomb.length).toBeLessThan(300_000)
      const begun = await begin(at.app, 'acme')
      const form = { [name]: bomb, RelayState: begun.relayState }
      const before = process.resourceUsage().maxRSS
      const refused = await post(begun.client, begun.callbackUrl, form)
      await expectRefused(at.app, begun.client, refused, { code: 'answer_malformed', status: 400 })
      const out = await begun.client.go(`${at.app.origin}/auth/logout`, {
        method: 'POST',
        body: new URLSearchParams(form),
        headers: { 'sec-fetch-site': 'cross-site' },
      })
      expect(out.status).toBe(403)
      expect(process.resourceUsage().maxRSS - before).toBeLessThan(100 * 1024)
      await honest()
    },
  )

  it('S29 ten megabytes that say so are refused before they come', async () => {
    const begun = await begin(at.app, 'acme')
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': 10_000_000 }
    const sending = request(begun.callbackUrl, { method: 'POST', headers })
    const answered = once(sending, 'response')
    sending.flushHeaders()
    const [response] = (await answered) as [IncomingMessage]
    sending.on('error', () => {}).destroy()
    expect(response.statusCode).toBe(413)
    expect(at.app.log.at(-1)!.code).toBe('answer_too_large')
    // Not even the sign-in is used up.
    expect((await answer(begun, xmlFor(begun))).status).toBe(303)
  })

  it('S29 a body without an end is refused while it comes', async () => {
    const begun = await begin(at.app, 'acme')
    const piece = Buffer.alloc(64 * 1024, 'A')
    let sent = 0
    const status = await new Promise<number>((resolve, reject) => {
      const sending = request(begun.callbackUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      })
      sending.on('error', reject)
      sending.on('response', (response) => {
        resolve(response.statusCode!)
        sending.destroy()
      })
      sending.write('SAMLResponse=')
      const more = () => {
        if (sending.destroyed || sent > 100_000_000) return
        sent += piece.length
        sending.write(piece, more)
      }
      more()
    })
    expect(status).toBe(413)
    expect(sent).toBeLessThan(50_000_000)
    const stranger = browser()
    expect(await at.app.me(stranger)).toBe(401)
    expect((await answer(begun, xmlFor(begun))).status).toBe(303)
  })
})
