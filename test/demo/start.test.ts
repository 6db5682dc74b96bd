import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DirectoryInput } from 'passport-jit'
import { afterAll, describe, expect, test } from 'vitest'
import { type Run, run, start } from './demo-process.js'

const folder = mkdtempSync(join(tmpdir(), 'jit-config-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A directory whose one issuer refuses connections: port 1 of loopback is nobody's. */
const config = () => ({
  organizations: [
    { id: 'acme', name: 'Acme', roles: ['owner', 'admin', 'member'], domains: ['acme.example'] },
  ],
  connections: [
    {
      id: 'acme-oidc',
      organization: 'acme',
      protocol: 'oidc' as const,
      issuer: 'http://127.0.0.1:1/',
      clientId: 'acme',
      clientSecret: 'secret',
      allowInsecureRequests: true,
      jit: { roles: ['member'] },
    },
  ],
})

let files = 0
function write(content: unknown): string {
  const file = join(folder, `${++files}.json`)
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  return file
}

function expectSentence({ code, stdout, stderr }: Run, sentence: RegExp) {
  expect({ code, stdout }, stderr).toEqual({ code: 1, stdout: '' })
  expect(stderr).toMatch(/^The demo did not start:\n/)
  expect(stderr).toMatch(sentence)
  expect(stderr).not.toMatch(/^\s+at .*:\d+:\d+|node:internal|\.js:\d+/m)
}

describe('a configuration that is wrong ends in sentences that name the key', () => {
  const saml = (idpMetadata: string) => ({
    id: 'acme-saml',
    organization: 'acme',
    protocol: 'saml' as const,
    idpMetadata,
  })
  const broken: [string, (input: ReturnType<typeof config>) => unknown, RegExp][] = [
    [
      'a typo in a key',
      (input) => ({ ...input, connections: [{ ...input.connections[0], clientSecrt: 'x' }] }),
      /connection "acme-oidc": there is no key "clientSecrt" \(did you mean "clientSecret"\?\)/,
    ],
    [
      'a role the organization does not have',
      (input) => ({ ...input, connections: [{ ...input.connections[0], jit: { roles: ['membr'] } }] }),
      /connection "acme-oidc": jit\.roles: organization "acme" has no role "membr" \(did you mean "member"\?\)/,
    ],
    [
      'metadata at a wrong path',
      (input) => ({ ...input, connections: [saml('nowhere.xml')] }),
      /connection "acme-saml": idpMetadata: there is no file .*nowhere\.xml/,
    ],
    [
      'metadata that is none',
      (input) => ({ ...input, connections: [saml('<EntityDescriptor/>')] }),
      /connection "acme-saml": idpMetadata/,
    ],
    ['text that is not JSON', () => '{ "organizations": [', /\.json: .*JSON/],
  ]
  test.each(broken)('%s', async (_name, change, sentence) => {
    expectSentence(await run(['--config', write(change(config()))]), sentence)
  })

  test('several problems at once, each on a line', async () => {
    const input = { ...config(), conections: [], connections: [saml('nowhere.xml')] }
    const { stderr } = await run(['--config', write(input)])
    expect(stderr.trim().split('\n')).toHaveLength(3)
    expect(stderr).toMatch(/did you mean "connections"/)
    expect(stderr).toMatch(/nowhere\.xml/)
  })

  test('no such file', async () => {
    expectSentence(await run(['--config', join(folder, 'none.json')]), /none\.json/)
  })

  test.each(['SIGTERM', 'SIGINT'] as const)(
    'the untouched one starts, and %s ends it cleanly',
    async (signal) => {
      const demo = await start(['--config', write(config())])
      expect((await fetch(`${demo.url}/healthz`)).status).toBe(200)
      expect(await demo.stop(signal)).toMatchObject({ code: 0, stderr: '' })
    },
  )
})

describe('flags and environment', () => {
  test('--help tells all flags and variables', async () => {
    const { code, stdout } = await run(['--help'])
    expect(code).toBe(0)
    for (const word of [
      '--config',
      '--script',
      'PORT',
      'BASE_URL',
      'DATABASE_URL',
      'REDIS_URL',
      'SMTP_URL',
      'MAIL_FROM',
      'ADMIN_TOKEN',
    ]) {
      expect(stdout).toContain(word)
    }
  })

  test.each([
    [['--confg', 'x'], /--confg/],
    [['--config'], /--config/],
    [['extra'], /extra/],
    [['--script', '--config', 'x'], /--script plays the embedded stories/],
  ])('%j is refused with a sentence', async (args, sentence) => {
    expectSentence(await run(args), sentence)
  })

  test('a port that is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    try {
      expectSentence(await run([], { PORT: String(port) }), new RegExp(`PORT: port ${port} is taken`))
      expectSentence(
        await run(['--config', write(config())], { PORT: String(port) }),
        /PORT: port \d+ is taken/,
      )
    } finally {
      other.close()
    }
  })

  test.each([
    [{ SMTP_URL: 'mail.example.com' }, /SMTP_URL: it is not an address such as smtp:/],
    [{ MAIL_FROM: 'nobody' }, /MAIL_FROM: it is not an address such as/],
    [{ BASE_URL: 'app.example.com' }, /BASE_URL: it is not an origin such as https:/],
    [{ BASE_URL: 'localhost:3000' }, /BASE_URL: it is not an origin such as https:/],
    [{ BASE_URL: 'ftp://app.example.com' }, /BASE_URL: it is not an origin such as https:/],
    [{ BASE_URL: 'https://app.example.com/work' }, /BASE_URL: .*without a path/],
    [{ BASE_URL: 'https://ada:lovelace@app.example.com' }, /BASE_URL: it is not an origin such as https:/],
  ])('%j is refused with a sentence', async (env, sentence) => {
    expectSentence(await run(['--config', write(config())], env), sentence)
  })

  test.each([
    ['https://app.example.com', 'https://app.example.com'],
    ['https://app.example.com/', 'https://app.example.com'],
    ['HTTPS://App.Example.com:443', 'https://app.example.com'],
    ['http://LocalHost:3000', 'http://localhost:3000'],
  ])('BASE_URL %s is the origin %s', async (BASE_URL, origin) => {
    const demo = await start(['--config', write(config())], { BASE_URL })
    expect(demo.url).toBe(origin)
    expect(await demo.stop()).toMatchObject({ code: 0, stderr: '' })
  })

  test('a port that is none', async () => {
    expectSentence(await run([], { PORT: 'http' }), /PORT: "http" is not a port/)
  })
})

test('an issuer that cannot be reached: a coded 503 at the start of a sign-in, and the process stays up', async () => {
  const demo = await start(['--config', write(config() satisfies DirectoryInput)])
  try {
    const answer = await fetch(`${demo.url}/auth/sso/acme-oidc`, { redirect: 'manual' })
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
    expect(await answer.json()).toMatchObject({ error: 'idp_unreachable' })
    const page = await fetch(`${demo.url}/auth/sso/acme-oidc`, { headers: { accept: 'text/html' } })
    expect(page.status).toBe(503)
    expect(await page.text()).toMatch(/cannot be reached right now.*href="\/"/s)
    expect((await fetch(`${demo.url}/healthz`)).status).toBe(200)
  } finally {
    expect((await demo.stop()).code).toBe(0)
  }
})
