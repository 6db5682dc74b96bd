import { type Connection, type DirectoryInput, readClaims, staticDirectory } from 'passport-jit'
import { describe, expect, test } from 'vitest'

type Input = NonNullable<DirectoryInput['connections']>[number]
type Preset = NonNullable<Input['preset']>

const organizations = [{ id: 'o', name: 'O', roles: ['owner', 'member'], domains: ['acme.example'] }]
const base = {
  saml: { id: 'c', organization: 'o', protocol: 'saml', idpMetadata: '<x/>' },
  oidc: {
    ...{ id: 'c', organization: 'o', protocol: 'oidc', issuer: 'https://idp.example' },
    ...{ clientId: 'x', clientSecret: 'y' },
  },
} as const

const directory = (protocol: 'saml' | 'oidc', preset: Preset | null, more: object = {}) =>
  staticDirectory({
    organizations,
    connections: [{ ...base[protocol], ...(preset && { preset }), ...more } as Input],
  })
async function connection(...given: Parameters<typeof directory>): Promise<Connection> {
  return (await directory(...given).connection('c'))!
}

/** What a connection with no mapping of its own makes of an answer. */
async function reading(protocol: 'saml' | 'oidc', preset: Preset, claims: Record<string, unknown>) {
  const { attributes } = await connection(protocol, preset)
  const { profile, ...read } = readClaims(claims, attributes)
  return { ...read, profile: { ...profile } }
}

const soap = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims'
const microsoft = 'http://schemas.microsoft.com'

/**
 * Answers as the vendors' own documentation shows them, without what is no matter here. SAML attributes are lists, and
 * the NameID is beside them.
 */
const answers = {
  // help.okta.com, "Define attribute statements"; developer.okta.com, "Add a Groups claim for the org authorization server".
  okta: {
    saml: {
      NameID: ['ann@acme.example'],
      email: ['ann@acme.example'],
      firstName: ['Ann'],
      lastName: ['Lee'],
      displayName: ['Ann Lee'],
      groups: ['Engineering', 'Everyone'],
    },
    oidc: {
      sub: '00uixa271s6x7qt8I0h7',
      ver: 1,
      name: 'Ann Lee',
      given_name: 'Ann',
      family_name: 'Lee',
      preferred_username: 'ann@acme.example',
      email: 'ann@acme.example',
      email_verified: true,
      groups: ['Engineering', 'Everyone'],
    },
  },
  // learn.microsoft.com, "SAML token claims reference" and "ID token claims reference".
  entra: {
    saml: {
      NameID: ['ann.lee@acme.onmicrosoft.com'],
      [`${microsoft}/identity/claims/tenantid`]: ['aaaabbbb-0000-cccc-1111-dddd2222eeee'],
      [`${microsoft}/identity/claims/objectidentifier`]: ['528b2ac2-aa9c-45e1-88d4-959b53bc7dd0'],
      [`${microsoft}/identity/claims/displayname`]: ['Ann Lee'],
      [`${microsoft}/identity/claims/identityprovider`]: [
        'https://sts.windows.net/aaaabbbb-0000-cccc-1111-dddd2222eeee/',
      ],
      [`${soap}/name`]: ['ann.lee@acme.onmicrosoft.com'],
      [`${soap}/givenname`]: ['Ann'],
      [`${soap}/surname`]: ['Lee'],
      [`${soap}/emailaddress`]: ['ann@acme.example'],
      [`${microsoft}/ws/2008/06/identity/claims/groups`]: [
        '5581e43f-6096-41d4-8ffa-04e560bab39d',
        '07dd8a89-bf6d-4e81-8844-230b77145381',
      ],
    },
    oidc: {
      tid: 'aaaabbbb-0000-cccc-1111-dddd2222eeee',
      oid: '528b2ac2-aa9c-45e1-88d4-959b53bc7dd0',
      sub: 'AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ',
      name: 'Ann Lee',
      given_name: 'Ann',
      family_name: 'Lee',
      preferred_username: 'ann.lee@acme.onmicrosoft.com',
      email: 'ann@acme.example',
      groups: ['5581e43f-6096-41d4-8ffa-04e560bab39d', '07dd8a89-bf6d-4e81-8844-230b77145381'],
    },
  },
  // support.google.com/a, "Set up your own custom SAML app" and "About group membership mapping";
  // developers.google.com, "OpenID Connect".
  google: {
    saml: {
      NameID: ['ann@acme.example'],
      firstName: ['Ann'],
      lastName: ['Lee'],
      groups: ['Group-1', 'Group-2'],
    },
    oidc: {
      sub: '110169484474386276334',
      email: 'ann@acme.example',
      email_verified: true,
      hd: 'acme.example',
      name: 'Ann Lee',
      given_name: 'Ann',
      family_name: 'Lee',
      picture: 'https://lh3.googleusercontent.com/a/photo',
    },
  },
  // learn.microsoft.com, "The role of claims"; [MS-OIDCE] §2.2.3.1.
  adfs: {
    saml: {
      NameID: ['S-1-5-21-397955417-626881126-188441444-1001'],
      [`${soap}/emailaddress`]: ['ann@acme.example'],
      [`${soap}/name`]: ['Ann Lee'],
      [`${soap}/upn`]: ['alee@corp.acme.example'],
      [`${soap}/givenname`]: ['Ann'],
      [`${soap}/surname`]: ['Lee'],
      'http://schemas.xmlsoap.org/claims/Group': ['Domain Users', 'Engineering'],
    },
    oidc: {
      sub: 'GhLYVdKsxbD6kqPQ3GpJYSrXpNDT3EvSNaHLkl7XHpc=',
      upn: 'ann@acme.example',
      unique_name: 'ACME\\alee',
    },
  },
  // Keycloak, "Server Administration Guide", protocol mappers; the built-in ones of a new SAML client.
  keycloak: {
    saml: {
      NameID: ['G-0b1c7f5e-9a27-4a0e-8c3f-6b8a3a2d1f00'],
      'urn:oid:1.2.840.113549.1.9.1': ['ann@acme.example'],
      'urn:oid:2.5.4.42': ['Ann'],
      'urn:oid:2.5.4.4': ['Lee'],
      member: ['/engineering', '/engineering/leads'],
      Role: ['offline_access', 'default-roles-acme', 'uma_authorization'],
    },
    oidc: {
      sub: 'ce7ca1f2-218e-4e87-bff8-3dc0adfe206c',
      email_verified: true,
      name: 'Ann Lee',
      preferred_username: 'ann',
      given_name: 'Ann',
      family_name: 'Lee',
      email: 'ann@acme.example',
      groups: ['/engineering', '/engineering/leads'],
      realm_access: { roles: ['offline_access', 'default-roles-acme'] },
    },
  },
} satisfies Record<Preset, Record<'saml' | 'oidc', Record<string, unknown>>>

const person = { name: 'Ann Lee', givenName: 'Ann', familyName: 'Lee' }
const nameless = { givenName: 'Ann', familyName: 'Lee' }
const read: Record<
  Preset,
  Record<'saml' | 'oidc', { subject?: string; profile: object; groups: string[] | null }>
> = {
  okta: {
    saml: { profile: person, groups: ['Engineering', 'Everyone'] },
    oidc: { profile: person, groups: ['Engineering', 'Everyone'] },
  },
  entra: {
    saml: {
      subject: '528b2ac2-aa9c-45e1-88d4-959b53bc7dd0',
      profile: person,
      groups: ['5581e43f-6096-41d4-8ffa-04e560bab39d', '07dd8a89-bf6d-4e81-8844-230b77145381'],
    },
    oidc: {
      profile: person,
      groups: ['5581e43f-6096-41d4-8ffa-04e560bab39d', '07dd8a89-bf6d-4e81-8844-230b77145381'],
    },
  },
  google: {
    saml: { profile: nameless, groups: ['Group-1', 'Group-2'] },
    oidc: { profile: person, groups: null },
  },
  adfs: {
    saml: { profile: person, groups: ['Domain Users', 'Engineering'] },
    oidc: { profile: {}, groups: null },
  },
  keycloak: {
    saml: { profile: nameless, groups: ['/engineering', '/engineering/leads'] },
    oidc: { profile: person, groups: ['/engineering', '/engineering/leads'] },
  },
}

const rows = Object.entries(answers).flatMap(([preset, protocols]) =>
  (['saml', 'oidc'] as const).map((protocol) => ({
    preset: preset as Preset,
    protocol,
    claims: protocols[protocol] as Record<string, unknown>,
    expected: read[preset as Preset][protocol],
  })),
)

describe('An answer as the vendor documents it, read without a mapping of one’s own', () => {
  test.each(rows)('$preset, $protocol', async ({ preset, protocol, claims, expected }) => {
    const { subject, profile, groups } = expected
    expect(await reading(protocol, preset, claims)).toEqual({
      subject,
      email: 'ann@acme.example',
      profile,
      groups: groups === null ? { kind: 'absent' } : { kind: 'listed', values: groups },
      omitted: [],
    })
  })

  test('Entra: without the object id nobody is named by what changes', async () => {
    const { [`${microsoft}/identity/claims/objectidentifier`]: _, ...rest } = answers.entra.saml
    await expect(reading('saml', 'entra', rest)).rejects.toThrow(/attributes\.subject/)
  })

  test('Keycloak: roles do not stand in for groups of somebody who is in none', async () => {
    const { member: _, ...saml } = answers.keycloak.saml
    const { groups: __, ...oidc } = answers.keycloak.oidc
    expect((await reading('saml', 'keycloak', saml)).groups).toEqual({ kind: 'absent' })
    expect((await reading('oidc', 'keycloak', oidc)).groups).toEqual({ kind: 'absent' })
  })

  test('Keycloak before release 22 sends an empty list for nobody’s groups', async () => {
    const claims = { ...answers.keycloak.oidc, groups: [] }
    expect((await reading('oidc', 'keycloak', claims)).groups).toEqual({ kind: 'listed', values: [] })
  })
})

describe('What an absent groups claim means', () => {
  test.each<[Preset, 'saml' | 'oidc', 'unknown' | 'empty']>([
    ['okta', 'saml', 'empty'],
    ['okta', 'oidc', 'empty'],
    ['entra', 'saml', 'empty'],
    ['entra', 'oidc', 'empty'],
    ['google', 'saml', 'empty'],
    ['google', 'oidc', 'unknown'],
    ['adfs', 'saml', 'empty'],
    ['adfs', 'oidc', 'unknown'],
    ['keycloak', 'saml', 'empty'],
    ['keycloak', 'oidc', 'empty'],
  ])('%s, %s: %s, unless the connection says otherwise', async (preset, protocol, absent) => {
    expect((await connection(protocol, preset)).groups.absent).toBe(absent)
    const other = absent === 'empty' ? 'unknown' : 'empty'
    expect((await connection(protocol, preset, { groups: { absent: other } })).groups.absent).toBe(other)
  })

  test('without a preset: unknown', async () => {
    expect((await connection('oidc', null)).groups.absent).toBe('unknown')
  })
})

describe('How a preset and a mapping go together', () => {
  test('keys of one’s own stand before those of the preset, one by one', async () => {
    const attributes = { email: 'mail', department: 'department' }
    expect((await connection('oidc', 'okta', { attributes })).attributes).toEqual({
      email: 'mail',
      department: 'department',
      name: 'name',
      givenName: 'given_name',
      familyName: 'family_name',
      groups: 'groups',
    })
  })

  test('without a preset a mapping stands alone, but for the address', async () => {
    expect((await connection('oidc', null, { attributes: { title: 'title' } })).attributes).toEqual({
      email: 'email',
      title: 'title',
    })
    expect((await connection('oidc', null)).attributes).toEqual({ email: 'email', name: 'name' })
  })

  test('the preset’s groups claim is enough to map groups', async () => {
    const groups = { map: { staff: ['member'] } }
    expect((await connection('oidc', 'keycloak', { groups })).groups.map).toEqual(groups.map)
    expect(() => directory('oidc', null, { groups })).toThrow(/attributes\.groups: groups\.map needs/)
    expect(() => directory('oidc', 'google', { groups })).toThrow(/attributes\.groups: groups\.map needs/)
  })

  test('Okta names a hundred groups at most, by OIDC', async () => {
    expect((await connection('oidc', 'okta')).groups.truncatedAt).toBe(100)
    expect((await connection('oidc', 'okta', { groups: { truncatedAt: 500 } })).groups.truncatedAt).toBe(500)
    expect((await connection('saml', 'okta')).groups.truncatedAt).toBeUndefined()
  })

  test('a preset that does not exist is refused, with the one that was meant', () => {
    expect(() => directory('saml', 'octa' as never)).toThrow(/connection "c": preset/)
  })
})
