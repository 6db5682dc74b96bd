import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { type AuditEvent, createJit, JitError, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce, memoryStore } from 'passport-jit/stores/memory'
import { emailStrategy } from 'passport-jit/strategies/email'
import { expect, test } from 'vitest'
import { type Channel, secret } from '../rig/emitted.js'
import { listen } from '../rig/oidc-http.js'
import { emittedBy } from './emissions.js'
import { findings } from './rules.js'

// Leaks on purpose, through all that listens in every other test: what finds nothing must be able to find.

const token = () => randomBytes(32).toString('base64url')
const address = 'canary@coal-mine.example'

/** A value that was made somewhere, and is known there. */
const known = () => {
  const made = token()
  secret(made)
  return made
}

async function asked(answer: (cookie: string) => string, headers: Record<string, string>, body?: string) {
  const server = await listen('127.0.0.1', (req, res) => {
    req.resume().on('end', () => res.writeHead(403).end(answer(req.headers.cookie ?? '')))
  })
  const init = body === undefined ? { headers } : { method: 'POST', headers, body }
  await fetch(`${server.origin}/?state=${token()}`, init).then((response) => response.text())
  await server.close()
}

function app(warning: string) {
  return createJit({
    ...{ baseUrl: 'http://localhost', store: memoryStore(), lock: memoryLock(), once: memoryOnce() },
    directory: { ...staticDirectory({ organizations: [], email: { enabled: true } }), warnings: [warning] },
    strategies: [
      emailStrategy({ transport: { sendMail: async () => {} }, from: 'a@b.example', appName: 'App' }),
    ],
    log: () => {},
  })
}

const event = {
  ...{ change: 'canary', seq: 0, type: 'denied', at: 0, user: null, organization: null, source: null },
  ...{ actor: null, correlationId: 'canary', reason: 'email_foreign' },
} as Omit<AuditEvent, 'detail'>
const commit = (detail: Record<string, unknown>, subject?: string) => {
  const link = { op: 'identity.link', user: 'u', source: 'connection:c', issuer: 'i', subject } as never
  return memoryStore()
    .commit({
      id: 'canary',
      expect: [],
      guards: [],
      ops: subject ? [link] : [],
      events: [{ ...event, detail }],
    })
    .catch(() => {})
}

const leaks: readonly [Channel, string, () => unknown, rule: string][] = [
  ['log', 'a secret', () => app(`it says ${known()}`), 'a secret of the tests'],
  ['log', 'an address', () => app(`it says ${address}`), 'an address of a person'],
  ['error', 'a secret', () => new JitError('unavailable', `it says ${known()}`), 'a secret of the tests'],
  [
    'error',
    'the beginning of a secret, under two causes',
    () => {
      const cause = new Error('of it', { cause: { answer: { body: known().slice(0, 20) } } })
      return new JitError('unavailable', 'it says nothing', { cause })
    },
    'a secret of the tests',
  ],
  ['event', 'an address', () => commit({ email: address }), 'an address of a person'],
  ['event', 'a subject', () => commit({ trace: [{ who: 's-1' }] }, 's-1'), 'a subject or attribute value'],
  [
    'delivery',
    'a secret in the body of a webhook',
    () => asked(() => '', { 'webhook-signature': 'v1', 'content-type': 'application/json' }, `"${known()}"`),
    'a secret of the tests',
  ],
  [
    'refusal',
    'the cookie that was sent',
    () => asked((cookie) => cookie.split('=')[1]!, { cookie: `c=${token()}` }),
    'a secret of the tests',
  ],
  [
    'output',
    'a secret of a program',
    () =>
      promisify(execFile)(process.execPath, [
        '-e',
        `console.error("${'it says '}" + process.argv[1])`,
        known(),
      ]),
    'a secret of the tests',
  ],
]

test.each(leaks)('%s: %s is found', async (channel, _name, leak, rule) => {
  const before = own().length
  await leak()
  await expect.poll(() => own().slice(before)).toContainEqual(expect.objectContaining({ channel, rule }))
})

function own() {
  const mine = (by: string) => by.startsWith('test/emitted/canary')
  return [...emittedBy(mine)].flatMap(({ emissions, secrets }) => findings(emissions, secrets))
}

const random = 'Zm9vYmFyYmF6cXV4Y29ycGUx'
const looks = [
  ['-----BEGIN PRIVATE KEY-----', '-----BEGIN PUBLIC KEY-----'],
  [`eyJhbGciOiJSUzI1NiJ9.${random}`, 'a token of three parts'],
  [`the answer was PHNhbWxwOlJlc3BvbnNlIHhtbG5z${random}`, 'the answer is no base64'],
  ['<saml:Assertion ID="_1">', 'expected one Assertion, found 2'],
  [`/callback?code=${random}`, "code: 'connection_disabled'"],
  [`SAMLResponse=${random}`, 'the parameter "SAMLResponse" came 2 times'],
  [`{"access_token":"${random}"}`, 'has no usable "access_token"'],
  [`authorization: 'Bearer ${random}'`, 'the scheme must be Bearer'],
  ['postgres://jit:hunter2@127.0.0.1/jit', 'postgres://jit@127.0.0.1/jit'],
  [`whsec_${random}`, 'with or without whsec_ before them'],
  [`for ${address}`, '"coal-mine.example" is a public mail provider'],
] as const

test.each(looks)('known by its looks: %s; and not: %s', (leak, honest) => {
  const of = (text: string) => findings([{ by: 'x', channel: 'log', text }], new Set())
  expect(of(leak)).not.toEqual([])
  expect(of(honest)).toEqual([])
  expect(of(leak)[0]!.excerpt).not.toContain(leak.slice(-12))
})
