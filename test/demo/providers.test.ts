import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DirectoryInput } from 'passport-jit'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createOAuth2Provider } from '../../examples/identity-providers/social.js'
import { Browser, form, links } from '../../examples/smartworkspace/browser.js'
import { type Demo, start } from './demo-process.js'

const folder = mkdtempSync(join(tmpdir(), 'jit-providers-'))
const file = join(folder, 'jit.config.json')
const portOf = (server: { address: () => unknown }) => (server.address() as AddressInfo).port
const ada = {
  id: 1,
  name: 'Ada',
  login: 'ada',
  emails: [{ email: 'ada@acme.example', primary: true, verified: true }],
}

describe('--config with e-mail and social providers of one’s own', () => {
  let provider: Server
  let directory: DirectoryInput
  let port: number
  beforeAll(async () => {
    // The callback URL is registered before the demo starts, so its port is chosen here.
    const free = createServer().listen(0)
    await once(free, 'listening')
    port = portOf(free)
    free.close()
    provider = createServer().listen(0, '127.0.0.1')
    await once(provider, 'listening')
    const url = `http://127.0.0.1:${portOf(provider)}`
    const redirectUris = [`http://localhost:${port}/auth/social/own/callback`]
    const clients = [{ id: 'acme', secret: 'loopback', redirectUris }]
    const social = createOAuth2Provider({ url, people: [ada], clients })
    provider.on('request', social.handler)
    const { authorizationEndpoint, tokenEndpoint, profileEndpoint, emailsEndpoint } = social
    directory = {
      organizations: [
        {
          id: 'acme',
          name: 'Acme',
          roles: ['owner', 'member'],
          domains: ['acme.example'],
          domainJit: { enabled: true, roles: ['member'] },
        },
      ],
      social: [
        {
          id: 'own',
          preset: 'oauth2',
          clientId: 'acme',
          clientSecret: { env: 'OWN_SECRET' },
          authorizationEndpoint,
          tokenEndpoint,
          profileEndpoint,
          emailsEndpoint,
          allowInsecureRequests: true,
        },
      ],
      email: { enabled: true },
    }
    writeFileSync(file, JSON.stringify(directory))
  })
  afterAll(() => {
    provider.close()
    provider.closeAllConnections()
    rmSync(folder, { recursive: true, force: true })
  })

  const environment = () => ({ PORT: String(port), OWN_SECRET: 'loopback', ADMIN_TOKEN: 'let-me-in' })
  const inbox = async (demo: Demo) =>
    (await fetch(`${demo.url}/api/inbox`, { headers: { authorization: 'Bearer let-me-in' } })).json()
  const me = async (demo: Demo, browser: Browser) =>
    JSON.parse((await browser.open(`${demo.url}/api/me`)).text)

  test('both ways in lead to one account, and the codes turn up in /api/inbox alone', async () => {
    const demo = await start(['--config', file], environment(), folder)
    try {
      const bySocial = new Browser()
      const home = await bySocial.open(demo.url)
      const picker = await bySocial.open(links(home).find((href) => href.endsWith('/auth/social/own'))!)
      await bySocial.open(links(picker).find((href) => href.includes('person=1'))!)
      const made = await me(demo, bySocial)
      expect(made).toMatchObject({
        user: { email: 'ada@acme.example', via: 'provider:own' },
        memberships: [{ organization: 'acme', grants: [{ role: 'member', source: 'domain' }] }],
        jit: { outcome: 'created' },
      })

      const byCode = new Browser()
      const page = await byCode.open(demo.url)
      const ways = await byCode.submit(page, form(page)!, { email: 'ada@acme.example' })
      const asked = await byCode.submit(ways, form(ways)!)
      const mails = (await inbox(demo)) as { to: string; text: string }[]
      expect(mails.map(({ to }) => to)).toEqual(['ada@acme.example'])
      await byCode.submit(asked, form(asked)!, { code: /^\d{6}/.exec(mails[0]!.text)![0] })
      expect(await me(demo, byCode)).toMatchObject({
        user: { id: made.user.id, via: 'provider:email' },
        jit: { outcome: 'unchanged' },
      })
      expect((await fetch(`${demo.url}/inbox`)).status).toBe(404)
      expect((await fetch(`${demo.url}/inbox/mail-1`)).status).toBe(404)
    } finally {
      expect(await demo.stop()).toMatchObject({ code: 0, stderr: '' })
    }
  })

  test('the session cookie is for https alone, however BASE_URL spells the address', async () => {
    const env = { ...environment(), BASE_URL: 'HTTPS://App.Example.com/' }
    const demo = await start(['--config', file], env, folder)
    const here = { url: `http://localhost:${port}` } as Demo
    const post = (path: string, fields: Record<string, string>, cookie = '') =>
      fetch(here.url + path, {
        method: 'POST',
        // As the proxy that ends TLS sends it.
        headers: { 'x-forwarded-proto': 'https', origin: 'https://app.example.com', cookie },
        body: new URLSearchParams(fields),
      })
    const email = 'ada@acme.example'
    try {
      const asked = await post('/auth/email', { email })
      const [cookie] = asked.headers.getSetCookie()[0]!.split(';')
      const [mail] = (await inbox(here)) as { text: string }[]
      const code = /^\d{6}/.exec(mail!.text)![0]
      const signedIn = await post('/auth/email/verify', { email, code }, cookie)
      const session = signedIn.headers.getSetCookie().find((line) => line.startsWith('workspace='))
      expect(session).toMatch(/; Secure(;|$)/)
    } finally {
      await demo.stop()
    }
  })

  test('SMTP_URL sends the mail for real, from MAIL_FROM, and nothing is kept', async () => {
    const post = await mailServer()
    const env = { SMTP_URL: `smtp://127.0.0.1:${post.port}`, MAIL_FROM: 'Acme <codes@acme.example>' }
    const demo = await start(['--config', file], { ...environment(), ...env }, folder)
    try {
      const body = new URLSearchParams({ email: 'ada@acme.example' })
      const answer = await fetch(`${demo.url}/auth/email`, { method: 'POST', body })
      expect([answer.status, await answer.json()]).toEqual([200, { sent: true }])
      expect(post.received()).toMatch(/MAIL FROM:<codes@acme\.example>/)
      expect(post.received()).toMatch(/RCPT TO:<ada@acme\.example>/)
      expect(post.received()).toMatch(/^Subject: Your code to sign in to Smartworkspace\r$/m)
      expect(await inbox(demo)).toEqual([])
    } finally {
      expect(await demo.stop()).toMatchObject({ code: 0, stderr: '' })
      post.close()
    }
  })
})

/** As much of a mail server as takes one mail after the other (RFC 5321 §4.1). */
async function mailServer() {
  let received = ''
  const server = createTcpServer((socket) => {
    let data = false
    socket.setEncoding('utf8').write('220 ready\r\n')
    socket.on('error', () => {})
    socket.on('data', (text: string) => {
      received += text
      if (data) {
        if (!received.endsWith('\r\n.\r\n')) return
        data = false
        socket.write('250 taken\r\n')
      } else if (/^DATA/.test(text)) {
        data = true
        socket.write('354 go on\r\n')
      } else if (/^QUIT/.test(text)) socket.end('221 bye\r\n')
      else socket.write('250 ok\r\n')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: portOf(server), received: () => received, close: () => server.close() }
}
