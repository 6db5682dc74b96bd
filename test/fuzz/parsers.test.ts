import { Readable } from 'node:stream'
import fc from 'fast-check'
import { assertIdentity, directoryFromFile, JitError, readClaims, staticDirectory } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { returnAddress, takeSealed } from '../../lib/attempt.js'
import { normalizeDomain, normalizeEmail } from '../../lib/identity.js'
import { readIncoming } from '../../lib/incoming.js'
import { candidates, covers } from '../../lib/policy.js'
import { readAnswer } from '../../strategies/saml-guard.js'
import { readIdpMetadata } from '../../strategies/saml-metadata.js'
import { anything, harmless, runs, text } from './inputs.js'

/** @param found inputs that once went wrong; they are tried first */
const check = <T>(
  arbitrary: fc.Arbitrary<T>,
  property: (value: T) => void | Promise<void>,
  found: readonly T[] = [],
) =>
  fc.assert(
    fc.asyncProperty(arbitrary, async (value) => {
      await property(value)
    }),
    { numRuns: runs, examples: found.map((value) => [value]) },
  )

describe('Addresses and domains', () => {
  test('what is taken is plain ASCII in lower case, and taken again as it is', () =>
    check(fc.oneof(text, anything, fc.emailAddress()), (value) => {
      const found = harmless(() => normalizeEmail(value))
      if (found === null || found instanceof JitError) return
      expect(found.address).toMatch(/^[\x21-\x7e]+$/)
      expect(found.address).toBe(found.address.toLowerCase())
      expect(found.address.split('@')).toHaveLength(2)
      expect(found.address.endsWith(`@${found.domain}`)).toBe(true)
      // Nothing was repaired: only letters changed their case.
      expect(found.address).toBe((value as string).toLowerCase())
      expect(normalizeEmail(found.address)).toEqual(found)
    }))

  test('a domain covers itself alone, unless a pattern says so', () =>
    check(fc.tuple(fc.oneof(fc.domain(), text), fc.oneof(fc.domain(), text)), ([a, b]) => {
      const [one, other] = [harmless(() => normalizeDomain(a)), harmless(() => normalizeDomain(b))]
      if (typeof one !== 'string' || typeof other !== 'string') return
      expect(covers([one], one)).toBe(true)
      expect(covers([one], other)).toBe(one === other)
      expect(covers([`*.${one}`], one)).toBe(false)
      expect(covers([`*.${one}`], other)).toBe(other.endsWith(`.${one}`))
      expect(candidates(other)[0]).toBe(other)
    }))
})

describe('Return addresses', () => {
  const pieces = fc
    .array(
      fc.constantFrom(
        '/',
        '\\',
        '%2f',
        '%5c',
        '%09',
        '.',
        '..',
        '@',
        ':',
        'evil.example',
        '?',
        '#',
        'a',
        'auth',
        '%61uth',
        '\t',
      ),
      {
        maxLength: 12,
      },
    )
    .map((all) => all.join(''))

  const own = { path: '/auth', returnTo: '/home' }

  test('lead to this origin, however a browser reads them, and to no path of the kit', () =>
    check(
      fc.oneof(
        text,
        pieces,
        pieces.map((rest) => `/${rest}`),
        fc.webUrl(),
        anything,
      ),
      (value) => {
        const found = harmless(() => returnAddress(value, own)) as string
        expect(found.startsWith('/')).toBe(true)
        for (const base of ['https://app.example', 'http://localhost:3000/auth/sso/x/callback']) {
          expect(new URL(found, base).origin).toBe(new URL(base).origin)
        }
        expect(new URL(found, 'https://app.example').pathname).not.toMatch(/^\/+auth(?:\/|$)/i)
        expect(returnAddress(found, own)).toBe(found)
      },
      ['/./%5c', '/../%5c'],
    ))
})

describe('Claims', () => {
  const claims = fc.dictionary(
    fc.oneof(fc.constantFrom('email', 'groups', 'name', 'a', '__proto__'), text),
    anything,
  )
  const source = fc.oneof(
    fc.constantFrom('email', 'groups', '/a/b', '/a/~0~1', '/__proto__/x', '/constructor/name', 'toString'),
    text.filter((value) => value !== ''),
  )

  test('are read by the mapping alone, within limits', () =>
    check(fc.tuple(claims, source, source, source), ([given, email, groups, name]) => {
      const read = harmless(() => readClaims(given, { email, groups, name }))
      if (read instanceof JitError) return
      expect(Object.keys(read.profile).every((key) => key === 'name')).toBe(true)
      const identity = harmless(() =>
        assertIdentity({
          source: 'connection:c',
          sourceVersion: 'v',
          issuer: 'https://idp.example',
          subject: 's',
          ...(read.email !== undefined && { email: read.email }),
          profile: read.profile,
          groups: read.groups,
          omitted: read.omitted,
          claims: given,
          at: 1,
        }),
      )
      if (identity instanceof JitError) return
      expect(Object.isFrozen(identity)).toBe(true)
      if (identity.groups.kind === 'listed')
        expect(identity.groups.values.every((value) => typeof value === 'string')).toBe(true)
    }))

  test('make an identity or none, whatever a strategy passes on', () =>
    check(fc.tuple(text, text, text), ([subject, issuer, email]) => {
      harmless(() =>
        assertIdentity({ source: 'connection:c', sourceVersion: 'v', issuer, subject, email, at: 1 }),
      )
    }))
})

describe('Configuration', () => {
  const sound = {
    organizations: [{ id: 'o', name: 'O', roles: ['member'], domains: ['o.example'] }],
    connections: [
      {
        id: 'c',
        organization: 'o',
        protocol: 'oidc',
        issuer: 'https://idp.example',
        clientId: 'c',
        clientSecret: 's',
        attributes: { email: 'email', groups: 'groups' },
        groups: { map: { staff: ['member'] } },
      },
    ],
  }

  test('is taken whole or refused with every problem', () =>
    check(
      fc.oneof(anything, fc.record({ organizations: anything, connections: anything })),
      (value) => {
        const found = harmless(() => staticDirectory(value as never))
        if (found instanceof JitError) expect(found.problems.length).toBeGreaterThan(0)
      },
      [{ organizations: [{ constructor: [JSON.parse('{"__proto__":""}')] }], connections: {} }],
    ))

  test('with one key anywhere set to anything is taken or refused by that key', () => {
    const paths: PropertyKey[][] = []
    const walk = (value: unknown, path: PropertyKey[]) => {
      if (path.length > 0) paths.push(path)
      if (typeof value === 'object' && value !== null)
        for (const [key, entry] of Object.entries(value)) walk(entry, [...path, key])
    }
    walk(sound, [])
    return check(
      fc.tuple(fc.constantFrom(...paths), anything),
      ([path, value]) => {
        const copy = structuredClone(sound) as unknown as Record<PropertyKey, never>
        let at = copy
        for (const step of path.slice(0, -1)) at = at[step]!
        at[path.at(-1)!] = value as never
        harmless(() => staticDirectory(copy as never, {}))
      },
      [[['organizations', '0', 'id'], { toString: [] }]],
    )
  })

  test('in a file that is not there or not JSON is refused', async () => {
    await expect(directoryFromFile('/nonexistent/file.json')).rejects.toBeInstanceOf(JitError)
  })
})

describe('SAML', () => {
  const refuse = (code: ConstructorParameters<typeof JitError>[0], what: string): never => {
    throw new JitError(code, what)
  }
  const tag = fc.constantFrom('Response', 'Assertion', 'a', 'md:EntityDescriptor', 'KeyDescriptor')
  const xml = fc
    .array(
      fc.oneof(
        tag.map((name) => `<${name} xmlns="urn:oasis:names:tc:SAML:2.0:protocol">`),
        tag.map((name) => `</${name}>`),
        fc.constantFrom(
          '<!--',
          '-->',
          '<![CDATA[',
          ']]>',
          '<?pi',
          '?>',
          '&amp;',
          '&b;',
          '&#0;',
          '<!DOCTYPE a>',
          '"',
        ),
        text,
      ),
      { maxLength: 20 },
    )
    .map((all) => all.join(''))

  test('an answer is read or refused', () =>
    check(
      fc.oneof(
        text,
        xml.map((value) => Buffer.from(value).toString('base64')),
      ),
      (value) => {
        harmless(() => readAnswer(value, refuse))
      },
    ))

  test('metadata is read or refused', () =>
    check(fc.oneof(text, xml), (idpMetadata) => {
      harmless(() => readIdpMetadata({ id: 'c', idpMetadata } as never))
    }))
})

describe('Requests', () => {
  test('a body is read or refused', () =>
    check(
      fc.record({
        method: fc.constantFrom('GET', 'POST', 'HEAD', 'PUT', ''),
        url: fc.oneof(text, fc.constantFrom('/?a=1', '/?%', '/?a[b]=c')),
        body: fc.oneof(text, fc.json()),
        type: fc.constantFrom('application/json', 'application/x-www-form-urlencoded', 'text/plain', ''),
        parsed: fc.option(anything, { nil: undefined }),
      }),
      async ({ method, url, body, type, parsed }) => {
        const stream = Object.assign(Readable.from([Buffer.from(body)]), {
          method,
          url,
          headers: { 'content-type': type },
          body: parsed,
        })
        try {
          const incoming = await readIncoming(stream as never, performance.now() + 5_000, 'form or JSON')
          expect([...(incoming.body ?? [])].flat().every((value) => typeof value === 'string')).toBe(true)
        } catch (error) {
          if (!(error instanceof JitError)) throw error
        }
      },
    ))

  const pieces = fc.constantFrom(
    'a',
    'é',
    '%',
    '%4',
    '%41',
    '%zz',
    '%c3',
    '%A9',
    '%ed%a0%80',
    '%ef%bb%bf',
    '+',
    '%2B',
  )
  const signs = fc.constantFrom('&', '=', '?', '#', ';', '\n', '\0', '\ufeff', '\ud800')

  test('a form is read as the URL Standard says', () =>
    check(
      fc.oneof(
        fc.array(fc.oneof(pieces, signs), { maxLength: 40 }).map((all) => all.join('')),
        text,
      ),
      async (form) => {
        const body = Buffer.from(form)
        // Byte by byte, so that characters arrive in parts.
        const request = Object.assign(Readable.from([...body].map((byte) => Buffer.of(byte))), {
          method: 'POST',
          url: '/',
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
        })
        const incoming = await readIncoming(request as never, performance.now() + 5_000)
        // Its constructor takes a leading "?" for that of an address.
        expect([...incoming.body!]).toEqual([...new URLSearchParams(`&${body}`)])
      },
    ))

  test('a token that is not one of ours finds nothing, and nobody is asked', () =>
    check(text, async (token) => {
      const asked: string[] = []
      const once = {
        put: async () => {},
        take: async (key: string) => {
          asked.push(key)
          return null
        },
        claim: async () => true,
      }
      expect(await takeSealed(once, 'attempt', token)).toBeNull()
      if (!/^[\w-]{43}$/.test(token)) expect(asked).toEqual([])
    }))
})
