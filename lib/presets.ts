import type { AttributeMapping } from './claims.js'

/** What an IdP sends unless its administrator changed it. */
export interface Preset {
  readonly attributes: AttributeMapping
  /** Whether it leaves the groups claim out for somebody who has none. */
  readonly groupsAbsent: 'unknown' | 'empty'
  /** How many groups it sends at most without saying that there are more. */
  readonly groupsTruncatedAt?: number
}

export const presetNames = ['okta', 'entra', 'google', 'adfs', 'keycloak'] as const
export type PresetName = (typeof presetNames)[number]

/**
 * Attribute names by OID, as LDAP directories give them (RFC 4524 §2.16, RFC 4519 §2; inetOrgPerson, RFC 2798), and
 * the address as certificates do (RFC 2985 §5.2.1).
 */
const oid = {
  mail: 'urn:oid:0.9.2342.19200300.100.1.3',
  emailAddress: 'urn:oid:1.2.840.113549.1.9.1',
  givenName: 'urn:oid:2.5.4.42',
  surname: 'urn:oid:2.5.4.4',
  displayName: 'urn:oid:2.16.840.1.113730.3.1.241',
} as const

const soap = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims'
const microsoft = 'http://schemas.microsoft.com/ws/2008/06/identity/claims'

const oidcProfile = {
  email: 'email',
  name: 'name',
  givenName: 'given_name',
  familyName: 'family_name',
} as const

const generic: Preset = { attributes: { email: 'email', name: 'name' }, groupsAbsent: 'unknown' }

const presets: Readonly<Record<PresetName, Readonly<Record<'saml' | 'oidc', Preset>>>> = {
  // Attribute statements are set up by hand in Okta; these are the names its own guides use. A filter that matches no
  // group sends no claim. OIDC sends groups for the scope "groups" alone, and its group functions name 100 at most.
  okta: {
    saml: {
      attributes: {
        email: ['email', 'mail', oid.mail],
        name: ['displayName', 'name', oid.displayName],
        givenName: ['firstName', 'givenName', oid.givenName],
        familyName: ['lastName', 'surname', oid.surname],
        groups: 'groups',
      },
      groupsAbsent: 'empty',
    },
    oidc: {
      attributes: { ...oidcProfile, groups: 'groups' },
      groupsAbsent: 'empty',
      groupsTruncatedAt: 100,
    },
  },
  // Groups are object ids. Too many for a token are told by a claim of their own, so absent means none. By default the
  // NameID and the claim "name" are the user principal name, which changes with the person's name; the object id
  // never does, and the issuer names the tenant.
  entra: {
    saml: {
      attributes: {
        subject: 'http://schemas.microsoft.com/identity/claims/objectidentifier',
        email: `${soap}/emailaddress`,
        name: 'http://schemas.microsoft.com/identity/claims/displayname',
        givenName: `${soap}/givenname`,
        familyName: `${soap}/surname`,
        groups: `${microsoft}/groups`,
      },
      groupsAbsent: 'empty',
    },
    oidc: { attributes: { ...oidcProfile, groups: 'groups' }, groupsAbsent: 'empty' },
  },
  // A SAML app names the groups mapped to it that the person is in, under a name of one's own choice. An ID token of
  // Google never says anything about groups. The NameID is the address, which Google offers no identifier beside.
  google: {
    saml: {
      attributes: {
        email: ['email', 'NameID'],
        givenName: ['firstName', 'first_name'],
        familyName: ['lastName', 'last_name'],
        groups: 'groups',
      },
      groupsAbsent: 'empty',
    },
    oidc: { attributes: oidcProfile, groupsAbsent: 'unknown' },
  },
  // All of it by claim rules; these are the types that AD FS suggests. Without `form_post` an ID token holds no more
  // than the user principal name, in the form of an address.
  adfs: {
    saml: {
      attributes: {
        email: `${soap}/emailaddress`,
        name: `${soap}/name`,
        givenName: `${soap}/givenname`,
        familyName: `${soap}/surname`,
        groups: ['http://schemas.xmlsoap.org/claims/Group', `${microsoft}/role`],
      },
      groupsAbsent: 'empty',
    },
    oidc: {
      attributes: { ...oidcProfile, email: ['email', 'upn'], groups: ['group', 'groups'] },
      groupsAbsent: 'unknown',
    },
  },
  // Group mappers are added by hand; groups are full paths such as "/staff" unless the mapper says otherwise. Who is in
  // none gets no claim (OIDC: since release 22). Roles are no groups: `attributes.groups` may name them instead.
  keycloak: {
    saml: {
      attributes: {
        email: ['email', oid.emailAddress, oid.mail],
        name: ['name', oid.displayName],
        givenName: ['givenName', 'firstName', oid.givenName],
        familyName: ['surname', 'lastName', oid.surname],
        groups: ['groups', 'member'],
      },
      groupsAbsent: 'empty',
    },
    oidc: { attributes: { ...oidcProfile, groups: 'groups' }, groupsAbsent: 'empty' },
  },
}

/** A connection's mapping before its own keys; without a preset the plain names of the two protocols. */
export function presetOf(name: PresetName | undefined, protocol: 'saml' | 'oidc'): Preset {
  return name === undefined ? generic : presets[name][protocol]
}
