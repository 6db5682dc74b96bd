import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createSamlIdp } from '../../examples/identity-providers/saml.js'
import { Browser, form, forms } from '../../examples/smartworkspace/browser.js'
import { freePort } from '../rig/services.js'
import { type Demo, start } from './demo-process.js'

describe('--config: the same app on organizations of one’s own', () => {
  const folder = mkdtempSync(join(tmpdir(), 'jit-own-'))
  const file = join(folder, 'jit.config.json')
  let idp: Server
  beforeAll(async () => {
    idp = createServer().listen(0, '127.0.0.1')
    await once(idp, 'listening')
    const url = `http://127.0.0.1:${(idp.address() as AddressInfo).port}`
    const ada = { id: 'ada', email: 'ada@acme.example', name: 'Ada', groups: ['admins'] }
    const { metadata, handler } = await createSamlIdp({ url, people: [ada] })
    idp.on('request', handler)
    writeFileSync(join(folder, 'idp.xml'), metadata)
    const directory = {
      organizations: [
        { id: 'acme', name: 'Acme', roles: ['owner', 'admin', 'member'], domains: ['acme.example'] },
      ],
      connections: [
        {
          id: 'acme-saml',
          organization: 'acme',
          protocol: 'saml',
          idpMetadata: 'idp.xml',
          jit: { roles: ['member'] },
          attributes: { email: 'email', name: 'displayName', groups: 'groups' },
          groups: { absent: 'empty', map: { admins: ['admin'] } },
        },
      ],
    }
    writeFileSync(file, JSON.stringify(directory))
  })
  afterAll(() => {
    idp.close()
    idp.closeAllConnections()
    rmSync(folder, { recursive: true, force: true })
  })

  /** Signs Ada in with `returnTo`, and gives the page she lands on. */
  async function signIn(demo: Demo, browser: Browser) {
    const chooser = await browser.open(`${demo.url}/auth/sso/acme-saml?returnTo=/api/me`)
    const answered = await browser.submit(chooser, form(chooser)!, { person: 'ada' })
    return browser.submit(answered, form(answered)!)
  }

  test('a first sign-in makes the account, and the next start knows it', async () => {
    const first = await start(['--config', file], {}, folder)
    const page = await signIn(first, new Browser())
    expect(page.url.href).toBe(`${first.url}/api/me`)
    const made = JSON.parse(page.text)
    expect(made).toMatchObject({
      user: { email: 'ada@acme.example', attributes: { name: 'Ada' } },
      memberships: [{ organization: 'acme', active: true }],
      jit: { outcome: 'created' },
    })
    expect(await first.stop()).toMatchObject({ code: 0, stderr: '' })

    const second = await start(['--config', file], {}, folder)
    const known = JSON.parse((await signIn(second, new Browser())).text)
    expect(known).toMatchObject({ user: { id: made.user.id }, jit: { outcome: 'unchanged' } })
    await second.stop()
  })

  test('the list of decisions is the operator’s alone', async () => {
    const basic = (password: string) => ({
      authorization: `Basic ${Buffer.from(`:${password}`).toString('base64')}`,
      accept: 'text/html',
    })
    const open = await start(['--config', file], { ADMIN_TOKEN: 'let-me-in' }, folder)
    expect((await fetch(`${open.url}/decisions`)).status).toBe(401)
    expect((await fetch(`${open.url}/decisions`, { headers: basic('wrong') })).status).toBe(401)
    const off = `${open.url}/operator/connections/acme-saml/disable`
    expect((await fetch(off, { method: 'POST' })).status).toBe(401)
    // A browser sends the password along wherever a page of another site sends it.
    const foreign = { ...basic('let-me-in'), origin: 'https://evil.example' }
    expect((await fetch(off, { method: 'POST', headers: foreign })).status).toBe(403)
    // A connection of a file is switched off in the file.
    expect((await fetch(off, { method: 'POST', headers: basic('let-me-in') })).status).toBe(404)
    await signIn(open, new Browser())
    const shown = await fetch(`${open.url}/decisions`, { headers: basic('let-me-in') })
    expect([shown.status, await shown.text()]).toEqual([200, expect.stringContaining('user_provisioned')])
    const sealed = async () => {
      const page = await fetch(`${open.url}/operator?verify=1`, { headers: basic('let-me-in') })
      return (await page.text()).replace(/<[^>]+>/g, '')
    }
    await expect.poll(sealed, { timeout: 10_000 }).toContain('intact 1 seal over 1 decision.')
    await open.stop()

    const closed = await start(['--config', file], {}, folder)
    expect((await fetch(`${closed.url}/decisions`, { headers: basic('let-me-in') })).status).toBe(404)
    await closed.stop()
  })

  test('an administrator’s form is no other site’s, however BASE_URL spells the address', async () => {
    const port = await freePort()
    const env = { PORT: String(port), BASE_URL: `HTTP://LocalHost:${port}/` }
    const demo = await start(['--config', file], env, folder)
    const ada = new Browser()
    await signIn(demo, ada)
    const page = await ada.open(`http://localhost:${port}/admin/acme`)
    const invite = forms(page).find(({ action }) => action === '/admin/acme/invite')!
    const guest = { email: 'guest@partner.example', role: 'member' }
    const foreign = await ada.submit(
      { ...page, url: new URL('https://evil.example') },
      {
        ...invite,
        action: new URL(invite.action, page.url).href,
      },
    )
    expect([foreign.status, foreign.text]).toEqual([403, expect.stringContaining('cross_site')])
    const done = await ada.submit(page, invite, guest)
    expect([done.status, done.text]).toEqual([200, expect.stringContaining(guest.email)])
    expect(await demo.stop()).toMatchObject({ code: 0, stderr: '' })
  })
})
