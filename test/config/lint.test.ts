import { staticDirectory } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { directoryInput } from '../tables/facts.js'

type Input = { organizations: Record<string, unknown>[]; connections: Record<string, unknown>[] } & Record<
  string,
  unknown
>

/** O owns o.example and p owns acquired.example, for which O's connection vouches too. */
const lint = (change: (input: Input) => void): readonly string[] => {
  const input = structuredClone(directoryInput) as unknown as Input
  input.connections[0]!.vouchesFor = ['o.example']
  change(input)
  return staticDirectory(input as never).warnings!
}

describe('The linter', () => {
  test('has nothing to say of a sound directory', () => {
    expect(lint(() => {})).toEqual([])
  })

  test.each<[string, (input: Input) => void, RegExp[]]>([
    [
      'domain JIT and SSO on one domain, naming organization, domain and connection',
      (input) => {
        input.organizations[0]!.domainJit = { enabled: true }
        input.email = { enabled: true }
      },
      [/organization "o": domain "o\.example" has both domainJit and SSO by connection "c"; SSO wins/],
    ],
    [
      'a connection that vouches for another organization’s domain, naming both',
      (input) => {
        input.connections[0]!.vouchesFor = ['acquired.example']
      },
      [/connection "c" of organization "o" vouches for "acquired\.example", which organization "p" owns/],
    ],
    [
      'a connection that vouches for a domain nobody owns',
      (input) => {
        input.connections[0]!.vouchesFor = ['nobody.example']
      },
      [/connection "c" vouches for "nobody\.example", which no organization owns/],
    ],
    [
      'a connection that vouches for nothing',
      (input) => {
        input.connections[0]!.vouchesFor = []
      },
      [/connection "c": it vouches for no e-mail domain/],
    ],
    [
      'domain JIT without a domain and without a way in',
      (input) => {
        Object.assign(input.organizations[1]!, { domains: [], domainJit: { enabled: true } })
      },
      [/organization "p": domainJit is on, but it owns no domain/, /neither e-mail nor a social provider/],
    ],
    [
      'roles that joining switched off can never give',
      (input) => {
        input.connections[0]!.jit = { join: false, roles: ['member'] }
      },
      [/connection "c": jit\.join is off, so jit\.roles and groups\.map can never fire/],
    ],
    [
      'sync where nobody said what an absent groups claim means',
      (input) => {
        input.connections[0]!.groups = { map: { admins: ['admin'] } }
      },
      [/connection "c": groups\.absent is "unknown", so who leaves their last group keeps their roles/],
    ],
    [
      'a group that gives nothing',
      (input) => {
        input.connections[0]!.groups = { absent: 'empty', map: { admins: ['admin'], staff: [] } }
      },
      [/connection "c": groups: "staff" is mapped to no role/],
    ],
    [
      'a choice of one',
      (input) => {
        input.connections[0]!.groups = { absent: 'empty', map: { admins: ['admin'] }, oneOf: ['admin'] }
      },
      [/connection "c": groups\.oneOf names one role/],
    ],
    [
      'leaving that default roles prevent',
      (input) => {
        input.connections[0]!.groups = {
          absent: 'empty',
          map: { admins: ['admin'] },
          withoutRole: 'leave',
        }
      },
      [/connection "c": groups\.withoutRole is "leave", but everybody keeps jit\.roles/],
    ],
    [
      'joining that nothing allows',
      (input) => {
        Object.assign(input.connections[0]!, { jit: {}, groups: { withoutRole: 'leave' } })
      },
      [/connection "c": groups\.withoutRole is "leave", but no group gives a role/],
    ],
    [
      'groups that Okta is not asked for',
      (input) => {
        Object.assign(input.connections[0]!, { preset: 'okta' })
      },
      [/connection "c": groups: Okta sends groups for the scope "groups" alone/],
    ],
    [
      'clearing what the IdP does not decide',
      (input) => {
        const title = { from: 'title', authority: 'first', absent: 'clear' }
        input.connections[0]!.attributes = { email: 'email', groups: 'groups', title }
      },
      [/connection "c": attributes\.title\.absent is "clear", but its authority is "first"/],
    ],
    [
      'clearing without a sync',
      (input) => {
        Object.assign(input.connections[0]!, {
          jit: { profileSync: 'never' },
          attributes: { email: 'email', groups: 'groups', title: { from: 'title', absent: 'clear' } },
        })
      },
      [/connection "c": attributes\.title\.absent is "clear", but jit\.profileSync is "never"/],
    ],
    [
      'SSO required and none enabled',
      (input) => {
        input.organizations[1]!.requireSso = true
      },
      [/organization "p": requireSso is on and no connection is enabled/],
    ],
  ])('warns of %s', (_, change, sentences) => {
    const found = lint(change)
    expect(found).toHaveLength(sentences.length)
    for (const sentence of sentences) expect(found.join('\n')).toMatch(sentence)
  })

  test.each<[string, (input: Input) => void]>([
    [
      'a prefix of another prefix',
      (input) => {
        input.connections[0]!.groups = {
          absent: 'empty',
          prefixes: { 'app-': ['viewer'], 'app-admin': ['admin'] },
        }
      },
    ],
    [
      'groups that Okta is asked for',
      (input) => {
        Object.assign(input.connections[0]!, { preset: 'okta', scopes: ['openid', 'email', 'groups'] })
      },
    ],
    [
      'leaving, where groups alone give roles',
      (input) => {
        const groups = { absent: 'empty', map: { admins: ['admin'] }, withoutRole: 'leave' }
        Object.assign(input.connections[0]!, { jit: {}, groups })
      },
    ],
    [
      'clearing what the IdP decides',
      (input) => {
        const title = { from: 'title', absent: 'clear' }
        input.connections[0]!.attributes = { email: 'email', groups: 'groups', title }
      },
    ],
  ])('has nothing to say of %s', (_, change) => {
    expect(lint(change)).toEqual([])
  })

  test('a connection that is not enabled is no overlap', () => {
    const found = lint((input) => {
      input.organizations[0]!.domainJit = { enabled: true }
      input.connections[0]!.enabled = false
      input.email = { enabled: true }
    })
    expect(found).toEqual([])
  })
})

describe('Domains that nobody can own (L21)', () => {
  const own = (domain: string) => () =>
    staticDirectory({ organizations: [{ id: 'o', name: 'O', roles: ['member'], domains: [domain] }] })

  test.each([
    'gmail.com',
    'googlemail.com',
    'outlook.com',
    'icloud.com',
    'qq.com',
    'web.de',
    'proton.me',
    '*.gmail.com',
  ])('%s is a public mail provider', (domain) => {
    expect(own(domain)).toThrow(/organization "o": domains\.0: .*public mail provider/)
  })

  test.each([
    'com',
    'co.uk',
    'github.io',
    'com.au',
    'kawasaki.jp',
    'blogspot.com',
    '*.co.uk',
    's3.amazonaws.com',
  ])('%s is a public suffix, or none at all', (domain) => {
    expect(own(domain)).toThrow(/public suffix|not a plain ASCII domain/)
  })

  test.each([
    'localhost',
    'acme.example.',
    'acme .example',
    '-acme.example',
    'acme..example',
    'аcme.example',
    'example。com',
    '1.2.3.4',
    '*',
    '*.*.acme.example',
    'a*.example',
    'user@acme.example',
  ])('%j is malformed', (domain) => {
    expect(own(domain)).toThrow(/not a plain ASCII domain/)
  })

  test.each([
    'acme.example',
    'acme.co.uk',
    'acme.github.io',
    'xn--bcher-kva.example',
    '*.acme.example',
    'example.com',
  ])('%s can be owned', (domain) => {
    expect(own(domain)).not.toThrow()
  })
})

describe('Who owns a domain', () => {
  const directory = staticDirectory({
    organizations: [
      { id: 'exact', name: 'E', roles: ['member'], domains: ['acme.example'] },
      { id: 'below', name: 'B', roles: ['member'], domains: ['*.acme.example'] },
      { id: 'deep', name: 'D', roles: ['member'], domains: ['eu.acme.example'] },
    ],
  })

  test.each([
    ['acme.example', 'exact'],
    ['eu.acme.example', 'deep'],
    ['us.acme.example', 'below'],
    ['a.b.acme.example', 'below'],
    ['evil-acme.example', null],
    ['acme.example.evil.example', null],
    ['example', null],
  ])('%s: %s', async (name, owner) => {
    expect((await directory.domain(name)).owner?.id ?? null).toBe(owner)
  })

  test('without a policy for them, subdomains belong to nobody', async () => {
    const exact = staticDirectory({
      organizations: [{ id: 'o', name: 'O', roles: ['member'], domains: ['acme.example'] }],
    })
    expect((await exact.domain('eu.acme.example')).owner).toBeNull()
  })
})
