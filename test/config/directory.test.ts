import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { directoryFromFile, JitError, staticDirectory } from 'passport-jit'
import { afterAll, describe, expect, test } from 'vitest'
import { directoryInput } from '../tables/facts.js'

const folder = mkdtempSync(join(tmpdir(), 'passport-jit-'))
afterAll(() => rmSync(folder, { recursive: true }))

type Input = { organizations: Record<string, unknown>[]; connections: Record<string, unknown>[] } & Record<
  string,
  unknown
>

function problemsOf(change: (input: Input) => void, env = {}): readonly string[] {
  const input = structuredClone(directoryInput) as unknown as Input
  change(input)
  try {
    staticDirectory(input as never, env)
  } catch (error) {
    expect(error).toBeInstanceOf(JitError)
    expect((error as JitError).code).toBe('config_invalid')
    for (const problem of (error as JitError).problems) expect((error as JitError).message).toContain(problem)
    return (error as JitError).problems
  }
  return []
}

const saml = { id: 's', organization: 'o', protocol: 'saml', idpMetadata: '<x/>' }

describe('What a directory refuses, naming the entry and the key', () => {
  test('nothing, when it is right', () => {
    expect(problemsOf(() => {})).toEqual([])
  })

  test('thousands of wrong words, each by itself and without a look at thousands of others', () => {
    // A tenant's administrator may type this; to look at each pair of them took 19 s.
    const roles = ['member', 'admin', 'viewer', ...Array.from({ length: 4_000 }, (_, n) => `role-${n}`)]
    const assignable = [...roles, ...roles.slice(3).map((name) => `x${name}`)]
    const found = problemsOf((i) => Object.assign(i.organizations[0]!, { roles, assignable }))
    expect(found).toHaveLength(4_000)
    expect(found[0]).toBe('organization "o": assignable: it has no role "xrole-0"')
  })

  test('nothing, where a store can just write it', () => {
    const most = { seatLimit: 2 ** 31 - 1, name: 'Žito \u{1f511}\u007f\n' }
    expect(problemsOf((i) => Object.assign(i.organizations[0]!, most))).toEqual([])
  })

  test.each<[string, (input: Input) => void, string]>([
    [
      'a typo in a key',
      (i) => (i.connections[0]!.vouchFor = []),
      'connection "c": there is no key "vouchFor" (did you mean "vouchesFor"?)',
    ],
    [
      'a typo deeper down',
      (i) => (i.connections[0]!.jit = { creat: true }),
      'connection "c": jit: there is no key "creat" (did you mean "create"?)',
    ],
    [
      'a typo at the top',
      (i) => (i.conections = []),
      'there is no key "conections" (did you mean "connections"?)',
    ],
    [
      'a key of another protocol',
      (i) => (i.connections[0]!.idpMetadata = 'x.xml'),
      'connection "c": there is no key "idpMetadata"',
    ],
    ['a wrong value', (i) => (i.connections[0]!.outsiders = 'allow'), 'connection "c": outsiders:'],
    [
      'an unknown protocol',
      (i) => (i.connections[0]!.protocol = 'saml2'),
      'connection "c": protocol: use saml or oidc (did you mean "saml"?)',
    ],
    [
      'more seats than a store can write',
      (i) => (i.organizations[0]!.seatLimit = 2 ** 31),
      'organization "o": seatLimit:',
    ],
    ...['a\0b', 'a\ud800b', '\udc00\ud800'].map((name): [string, (input: Input) => void, string] => [
      `a name that no store can write, ${JSON.stringify(name)}`,
      (i) => (i.organizations[0]!.name = name),
      'organization "o": name: it must not hold U+0000',
    ]),
    [
      'a role that does not exist',
      (i) => (i.connections[0]!.jit = { roles: ['membr'] }),
      'connection "c": jit.roles: organization "o" has no role "membr" (did you mean "member"?)',
    ],
    [
      'a mapped role that does not exist',
      (i) => (i.connections[0]!.groups = { map: { x: ['boss'] } }),
      'connection "c": groups.map.x: organization "o" has no role "boss"',
    ],
    [
      'the owner role by default',
      (i) => (i.connections[0]!.jit = { roles: ['owner'] }),
      'connection "c": jit.roles.0: "owner" is never given by policy',
    ],
    [
      'the owner role by group',
      (i) => (i.connections[0]!.groups = { map: { x: ['owner'] } }),
      '"owner" is never given by policy',
    ],
    [
      'groups mapped without a claim',
      (i) => (i.connections[0]!.attributes = { email: 'email' }),
      'connection "c": attributes.groups:',
    ],
    [
      'a role by the beginning of a group that does not exist',
      (i) => (i.connections[0]!.groups = { prefixes: { x: ['boss'] } }),
      'connection "c": groups.prefixes.x: organization "o" has no role "boss"',
    ],
    [
      'a beginning that every group has',
      (i) => (i.connections[0]!.groups = { prefixes: { '': ['member'] } }),
      'connection "c": groups.prefixes',
    ],
    [
      'a mapped role above the ceiling',
      (i) => {
        i.organizations[0]!.assignable = ['member', 'viewer']
      },
      'connection "c": groups.map.admins: "admin" is not one of the assignable roles of organization "o"',
    ],
    [
      'a ceiling with a role that does not exist',
      (i) => (i.organizations[0]!.assignable = ['admin', 'member', 'viewer', 'membre']),
      'organization "o": assignable: it has no role "membre" (did you mean "member"?)',
    ],
    [
      'the owner role below the ceiling',
      (i) => (i.organizations[0]!.assignable = ['owner']),
      '"owner" is never given by policy',
    ],
    [
      'one of several roles without sync',
      (i) => (i.connections[0]!.groups = { mode: 'add', map: { x: ['admin'] }, oneOf: ['admin', 'member'] }),
      'connection "c": groups.oneOf: with mode "add" no role is ever taken back',
    ],
    [
      'one of several roles, one of them twice',
      (i) => (i.connections[0]!.groups = { map: { x: ['admin'] }, oneOf: ['admin', 'admin'] }),
      'connection "c": groups.oneOf: a role is named twice',
    ],
    [
      'one of several roles that do not exist',
      (i) => (i.connections[0]!.groups = { map: { x: ['admin'] }, oneOf: ['admin', 'memebr'] }),
      'connection "c": groups.oneOf: organization "o" has no role "memebr" (did you mean "member"?)',
    ],
    ...['__proto__', 'constructor', 'toString', '1st', 'a b', ''].map(
      (name): [string, (input: Input) => void, string] => [
        `an attribute called ${JSON.stringify(name)}`,
        (i) => (i.connections[0]!.attributes = JSON.parse(`{"email":"email",${JSON.stringify(name)}:"x"}`)),
        `"${name}" cannot`,
      ],
    ),
    [
      'a group called __proto__, which would be forgotten',
      (i) => (i.connections[0]!.groups = JSON.parse('{"map":{"__proto__":["admin"]}}')),
      'connection "c": groups.map: "__proto__" cannot be the name of anything',
    ],
    [
      'more attributes than an identity may have',
      (i) => {
        const names = Array.from({ length: 65 }, (_, n) => [`a${n}`, 'x'])
        i.connections[0]!.attributes = { groups: 'groups', ...Object.fromEntries(names) }
      },
      'connection "c": attributes: at most 64 attributes',
    ],
    [
      'an attribute without an end',
      (i) => (i.connections[0]!.attributes = { email: 'email', a: { from: 'a', maxLength: 1_000_000 } }),
      'connection "c": attributes',
    ],
    [
      'a subject for an issuer that has its own',
      (i) => (i.connections[0]!.attributes = { subject: 'uid', groups: 'groups' }),
      'connection "c": attributes.subject: an issuer\'s own "sub" names the person',
    ],
    [
      'a window that is no time',
      (i) => (i.connections[0]!.subjectMigration = { until: 'next week' }),
      'connection "c": subjectMigration.until',
    ],
    [
      'an organization that does not exist',
      (i) => (i.connections[0]!.organization = 'oo'),
      'connection "c": organization: there is no organization "oo"',
    ],
    [
      'an id used twice',
      (i) => i.connections.push({ ...i.connections[0]! }),
      'connection "c": the id is used more than once',
    ],
    ['an id that does not fit a URL', (i) => (i.connections[0]!.id = 'a/b'), 'connection "a/b": id:'],
    [
      'a domain with two owners',
      (i) => (i.organizations[1]!.domains = ['o.example']),
      'organization "p": domains: "o.example" is already owned by organization "o"',
    ],
    [
      'a domain that is none',
      (i) => (i.organizations[0]!.domains = ['https://o.example']),
      '"https://o.example" is not a plain ASCII domain',
    ],
    [
      'a domain with a final dot',
      (i) => (i.connections[0]!.vouchesFor = ['o.example.']),
      '"o.example." is not a plain ASCII domain',
    ],
    [
      'plain http',
      (i) => (i.connections[0]!.issuer = 'http://idp.example'),
      'connection "c": issuer: plain http is refused',
    ],
    [
      'an issuer that is no URL',
      (i) => (i.connections[0]!.issuer = 'idp.example'),
      'connection "c": issuer: an absolute http(s) URL',
    ],
    [
      'no client secret',
      (i) => delete i.connections[0]!.clientSecret,
      'connection "c": clientSecret: client_secret_post needs one',
    ],
    [
      'an unset secret',
      (i) => (i.connections[0]!.clientSecret = { env: 'ACME_SECRET' }),
      'connection "c": clientSecret: the environment variable ACME_SECRET is not set',
    ],
    [
      'an empty tenant list',
      (i) => (i.connections[0]!.tenants = []),
      'connection "c": tenants.0: an empty list admits nobody',
    ],
    [
      'a multi-tenant issuer without tenants',
      (i) => (i.connections[0]!.issuer = 'https://login.microsoftonline.com/common/v2.0'),
      'connection "c": tenants: a multi-tenant issuer',
    ],
    [
      'scopes without openid',
      (i) => (i.connections[0]!.scopes = ['email']),
      'connection "c": scopes: must include "openid"',
    ],
    [
      'an endless clock skew',
      (i) => i.connections.push({ ...saml, clockSkewSeconds: 86_400 }),
      'connection "s": clockSkewSeconds:',
    ],
    [
      'no signature at all',
      (i) => i.connections.push({ ...saml, signed: 'none' }),
      'connection "s": signed:',
    ],
  ])('%s', (_, change, sentence) => {
    const problems = problemsOf(change)
    expect(problems.map((problem) => problem.replace('tenants:', 'tenants.0:')).join('\n')).toContain(
      sentence.replace('tenants: a multi', 'tenants.0: a multi'),
    )
  })

  test('all problems at once', () => {
    const problems = problemsOf((input) => {
      input.connections[0]!.vouchFor = []
      input.organizations[0]!.name = ''
      input.connections.push({ ...saml, signed: 'none' }, { ...saml, id: 't', organization: 'nowhere' })
      input.connections.push({ ...saml, id: 'u', organization: 'p', jit: { roles: ['nothing'] } })
    })
    // The connection of an organization that is wrong itself is not blamed for it.
    expect(problems).toHaveLength(5)
  })

  test('only secrets are looked up in the environment: a group may be called env', async () => {
    const input = structuredClone(directoryInput) as unknown as Input
    input.connections[0]!.groups = { map: { env: ['admin'] } }
    const connection = await staticDirectory(input as never, {}).connection('c')
    expect(connection!.groups.map).toEqual({ env: ['admin'] })
  })

  test('secrets come from the environment and never into the message', async () => {
    const input = structuredClone(directoryInput) as unknown as Input
    input.connections[0]!.clientSecret = { env: 'ACME_SECRET' }
    const directory = staticDirectory(input as never, { ACME_SECRET: 'hush' })
    expect(await directory.connection('c')).toMatchObject({ clientSecret: 'hush' })
    input.connections[0]!.vouchFor = []
    expect(() => staticDirectory(input as never, { ACME_SECRET: 'hush' })).toThrow(/^(?!.*hush)/s)
  })
})

describe('Versions and defaults', () => {
  test('a version is a hash of the entry: the same content the same, any change another', async () => {
    const one = await staticDirectory(directoryInput).connection('c')
    const same = await staticDirectory(structuredClone(directoryInput)).connection('c')
    const input = structuredClone(directoryInput) as unknown as Input
    input.connections[0]!.jit = { roles: [] }
    const other = await staticDirectory(input as never).connection('c')
    expect(same!.version).toBe(one!.version)
    expect(other!.version).not.toBe(one!.version)
  })

  test('no secret is in the hash, which whoever reads the database could guess it by', () => {
    const versions = (secret: string, certificate = 'c') => {
      const pair = { privateKey: secret, certificate }
      const sp = { signing: [pair], decryption: [pair] }
      const social = [{ id: 'hub', preset: 'github', clientId: 'x', clientSecret: secret }]
      const connections = [
        { ...directoryInput.connections![0]!, clientSecret: secret },
        { ...saml, sp },
      ]
      const { entries } = staticDirectory({ ...directoryInput, connections, social } as never)
      return [...entries!.connections, ...entries!.providers].map(({ version }) => version)
    }
    expect(versions('hunter2')).toEqual(versions('correct horse'))
    const [oidc, own] = versions('hunter2')
    const [same, other] = versions('hunter2', 'another')
    expect(same).toBe(oidc)
    expect(other).not.toBe(own)
  })

  test('a connection vouches for what its organization owns, unless it says otherwise', async () => {
    const input = structuredClone(directoryInput) as unknown as Input
    delete input.connections[0]!.vouchesFor
    expect((await staticDirectory(input as never).connection('c'))!.vouchesFor).toEqual(['o.example'])
    input.connections[0]!.vouchesFor = []
    const closed = staticDirectory(input as never)
    expect((await closed.connection('c'))!.vouchesFor).toEqual([])
    expect(closed.warnings).toEqual([
      expect.stringContaining('connection "c": it vouches for no e-mail domain'),
    ])
  })

  test('entries are frozen, and the input is left as it was', async () => {
    const input = structuredClone(directoryInput)
    const connection = await staticDirectory(input).connection('c')
    expect(() => Object.assign(connection!.jit, { create: false })).toThrow(TypeError)
    expect(input).toEqual(directoryInput)
  })
})

describe('directoryFromFile', () => {
  const write = (name: string, content: unknown) => {
    const file = join(folder, name)
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
    return file
  }

  test('reads metadata from a path relative to the file', async () => {
    write('idp.xml', '<EntityDescriptor/>')
    const file = write('good.json', {
      organizations: directoryInput.organizations,
      connections: [{ ...saml, idpMetadata: 'idp.xml' }],
    })
    expect(await (await directoryFromFile(file)).connection('s')).toMatchObject({
      idpMetadata: '<EntityDescriptor/>',
    })
  })

  test('reads keys and certificates of its own from paths, or takes them as they are', async () => {
    write('sp.key', '-----BEGIN PRIVATE KEY-----\nkey')
    const sp = {
      signing: [{ privateKey: 'sp.key', certificate: '-----BEGIN CERTIFICATE-----\ncertificate' }],
    }
    const connections = [{ ...saml, idpMetadata: '<x/>', sp }]
    const file = write('keys.json', { organizations: directoryInput.organizations, connections })
    expect(await (await directoryFromFile(file)).connection('s')).toMatchObject({
      sp: {
        signing: [{ privateKey: expect.stringContaining('key'), certificate: sp.signing[0]!.certificate }],
      },
    })
    const missing = structuredClone(connections)
    missing[0]!.sp.signing[0]!.privateKey = 'none.key'
    await expect(
      directoryFromFile(
        write('no-key.json', { organizations: directoryInput.organizations, connections: missing }),
      ),
    ).rejects.toThrow(/connection "s": sp\.signing\.0: privateKey: there is no file .*none\.key/)
  })

  test.each([
    [
      'a wrong path',
      { organizations: directoryInput.organizations, connections: [{ ...saml, idpMetadata: 'nowhere.xml' }] },
      /connection "s": idpMetadata: there is no file .*nowhere\.xml/,
    ],
    ['text that is not JSON', '{ organizations: ', /bad-1\.json.*JSON/],
    ['another shape', '[]', /expected object/],
  ])('refuses %s', async (_, content, sentence) => {
    const file = write(`bad-${typeof content === 'string' && content.length > 2 ? 1 : 2}.json`, content)
    await expect(directoryFromFile(file)).rejects.toMatchObject({
      code: 'config_invalid',
      message: expect.stringMatching(sentence),
    })
  })

  test('refuses a file that is not there', async () => {
    await expect(directoryFromFile(join(folder, 'none.json'))).rejects.toMatchObject({
      code: 'config_invalid',
      message: expect.stringContaining('none.json'),
    })
  })
})
