import { DOMAINS as publicMailDomains } from 'free-email-domains-list'
import { parse as parseHost } from 'tldts'
import * as z from 'zod'
import type { AttributeMapping } from './claims.js'
import { identityLimits, normalizeDomain } from './identity.js'
import { presetNames } from './presets.js'

/** The one role that no IdP and no policy may give: it is handed on by a person only. */
export const ownerRole = 'owner'

/** Ids travel in URLs, cookies and sources, so they are kept to characters that need no escaping. */
export const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/

const id = z.string().regex(idPattern, 'use letters, digits, "-" and "_" (64 at most)')

const role = z
  .string()
  .regex(/^[a-z0-9][a-z0-9:_-]{0,63}$/, 'a role is lower-case letters, digits, ":", "-" and "_" (64 at most)')

const assignableRole = role.refine((name) => name !== ownerRole, {
  message: `"${ownerRole}" is never given by policy; a person hands it on`,
})

/** Set aside for examples (RFC 2606 §3), whatever a list of mail providers says. */
const reserved = new Set(['example.com', 'example.net', 'example.org'])

/**
 * An e-mail domain, or with a leading `*.` every subdomain of one. Names below which strangers register (public
 * suffixes, by the Public Suffix List with its private part) and providers whose mailboxes anybody can get are
 * refused: nobody can own them, so nobody can vouch for them.
 */
const domain = z.string().transform((pattern, context) => {
  const name = normalizeDomain(pattern.replace(/^\*\./, ''))
  const refuse = (message: string) => {
    context.issues.push({ code: 'custom', message, input: pattern })
    return z.NEVER
  }
  if (name === null) {
    return refuse(`"${pattern}" is not a plain ASCII domain such as "acme.example" (use its xn-- form)`)
  }
  if (parseHost(name, { allowPrivateDomains: true }).publicSuffix === name) {
    return refuse(`"${pattern}" is a public suffix: strangers register names below it`)
  }
  if (publicMailDomains.has(name) && !reserved.has(name)) {
    return refuse(`"${pattern}" is a public mail provider: anybody can get a mailbox there`)
  }
  return pattern.startsWith('*.') ? `*.${name}` : name
})

/** Whether an exact domain is one of the patterns, or below one that starts with `*.`. */
export function covers(patterns: readonly string[], name: string): boolean {
  return candidates(name).some((candidate) => patterns.includes(candidate))
}

/** The patterns that could name a domain, the closest first: itself, then `*.` of each parent. */
export function candidates(name: string): string[] {
  const labels = name.split('.')
  return [name, ...labels.slice(1, -1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`)]
}

const httpUrl = z.url({ protocol: /^https?$/, error: 'an absolute http(s) URL' })

/** A secret as itself, or `{ "env": "NAME" }`, read when the configuration is loaded. */
export const secret = z.union([z.string().min(1), z.strictObject({ env: z.string().min(1) })], {
  error: 'a text, or { "env": "NAME" }',
})

const jitPolicy = z.strictObject({
  create: z.boolean().default(true),
  join: z.boolean().default(true),
  profileSync: z.enum(['never', 'first-sign-in', 'every-sign-in']).default('every-sign-in'),
  roles: z.array(assignableRole).default([]),
})

const groupRules = z.record(z.string().min(1).max(identityLimits.text), z.array(assignableRole)).default({})

const groupsPolicy = z.strictObject({
  mode: z.enum(['add', 'sync']).default('sync'),
  /** Roles by group name, compared exactly. */
  map: groupRules,
  /** Roles by how a group name begins. There are no other patterns. */
  prefixes: groupRules,
  /** Roles of which one person holds one: the first here that joining or a group gives. */
  oneOf: z.array(assignableRole).default([]),
  /** Whether an answer without the groups claim means no groups; by the preset, else `unknown`. */
  absent: z.enum(['unknown', 'empty']).optional(),
  /** How many groups the IdP sends at most without saying that there are more; that many are unknown. */
  truncatedAt: z.number().int().min(1).max(identityLimits.groups).optional(),
  /** What becomes of a membership when sync takes its last grant, and of joining where no role is given. */
  withoutRole: z.enum(['keep', 'leave']).default('keep'),
})

const claimSource = z.union(
  [z.string().min(1).max(512), z.array(z.string().min(1).max(512)).min(1).max(16)],
  'the name of a claim, a JSON Pointer ("/a/b") into one, or a list of these',
)

const attributeRule = z.strictObject({
  from: claimSource,
  authority: z.enum(['idp', 'app', 'first']).default('idp'),
  absent: z.enum(['keep', 'clear']).default('keep'),
  maxLength: z.number().int().min(1).max(identityLimits.attribute).default(identityLimits.attribute),
})

/** Names become keys of objects, so those that mean something to JavaScript are refused with the rest. */
const attributeName = /^[A-Za-z][A-Za-z0-9_.:-]{0,63}$/
const attributeNames = (mapping: object, context: z.RefinementCtx) => {
  const names = Object.keys(mapping)
  const profile = names.filter((name) => !['email', 'subject', 'groups'].includes(name))
  if (profile.length > identityLimits.attributes) {
    context.addIssue({ code: 'custom', message: `at most ${identityLimits.attributes} attributes` })
  }
  for (const name of names) {
    if (attributeName.test(name) && !(name in Object.prototype)) continue
    const message = `"${name}" cannot name an attribute: use letters, digits, "_", ".", ":" and "-"`
    context.addIssue({ code: 'custom', message, path: [name] })
  }
}

/** Of `email` and profile attributes those that are left out come from the preset. */
const attributeMapping = z
  .object({
    email: claimSource.optional(),
    subject: claimSource.optional(),
    groups: claimSource.optional(),
  })
  .catchall(z.union([claimSource, attributeRule]))
  .superRefine(attributeNames)
  .optional()

const connectionShape = {
  id,
  organization: id,
  enabled: z.boolean().default(true),
  /** The e-mail domains it vouches for; where the key is left out, those its organization owns. */
  vouchesFor: z.array(domain).optional(),
  outsiders: z.enum(['deny', 'separate']).default('deny'),
  adoptEmail: z.boolean().default(false),
  /**
   * Until this moment a vouched address gives its account to a new subject, and the old one ends: for an IdP that
   * changed how it names people. Afterwards a changed subject is refused again, as a reused mailbox would be.
   */
  subjectMigration: z.strictObject({ until: z.iso.datetime({ offset: true }) }).optional(),
  jit: jitPolicy.prefault({}),
  /** How the IdP names its claims; the keys given here stand before those of the preset. */
  preset: z.enum(presetNames).optional(),
  attributes: attributeMapping,
  groups: groupsPolicy.prefault({}),
}

const keyPair = z.strictObject({ privateKey: secret, certificate: z.string().min(1) })

const samlConnection = z.strictObject({
  ...connectionShape,
  protocol: z.literal('saml'),
  /** The IdP's metadata: XML, or in a configuration file the path of an XML file. */
  idpMetadata: z.string().min(1),
  signed: z.enum(['assertion', 'response', 'both', 'either']).default('either'),
  clockSkewSeconds: z.number().int().min(0).max(300).default(60),
  idpInitiated: z.boolean().default(false),
  /** Our own keys; the first signs, all may decrypt, so two at once make a rotation. */
  sp: z
    .strictObject({ signing: z.array(keyPair).default([]), decryption: z.array(keyPair).default([]) })
    .prefault({}),
})

const oidcConnection = z.strictObject({
  ...connectionShape,
  protocol: z.literal('oidc'),
  issuer: httpUrl,
  clientId: z.string().min(1),
  clientSecret: secret.optional(),
  clientAuthentication: z
    .enum(['client_secret_post', 'client_secret_basic', 'none'])
    .default('client_secret_post'),
  scopes: z
    .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/))
    .default(['openid', 'profile', 'email'])
    .refine((scopes) => scopes.includes('openid'), { message: 'must include "openid" (OIDC Core 3.1.2.1)' }),
  clockSkewSeconds: z.number().int().min(0).max(300).default(60),
  /** Plain http to the issuer; for a loopback IdP while developing. */
  allowInsecureRequests: z.boolean().default(false),
  /** Takes the text "true" for the boolean in `email_verified`; some IdPs send it so. */
  emailVerifiedAsText: z.boolean().default(false),
  /** Entra's allow-list of tenant ids; required for its multi-tenant issuers, an empty one is refused. */
  tenants: z.array(z.string().min(1)).min(1, 'an empty list admits nobody; name the tenants').optional(),
})

export const connectionSchema = z.discriminatedUnion('protocol', [samlConnection, oidcConnection])

/** What a store can write (PostgreSQL's `text` and `integer`); what it cannot would be refused at every try. */
const storable = {
  text: /^[^\u0000\p{Surrogate}]*$/u,
  integer: 2 ** 31 - 1,
} as const

export const organizationSchema = z.strictObject({
  id,
  name: z
    .string()
    .min(1)
    .max(200)
    .regex(storable.text, 'it must not hold U+0000 or half of a surrogate pair'),
  roles: z.array(role).min(1),
  /** The roles that policies may give; by default all of `roles`. The owner role is never among them. */
  assignable: z.array(assignableRole).optional(),
  seatLimit: z.number().int().min(0).max(storable.integer).nullable().default(null),
  /** What happens to somebody who would join while no seat is free. */
  whenFull: z.enum(['deny', 'join-without-seat']).default('deny'),
  status: z.enum(['active', 'suspended']).default('active'),
  requireSso: z.boolean().default(false),
  /** The e-mail domains it owns; one owner per domain. */
  domains: z.array(domain).default([]),
  domainJit: z
    .strictObject({
      enabled: z.boolean().default(false),
      roles: z.array(assignableRole).default([]),
      existingUsers: z.boolean().default(false),
    })
    .prefault({}),
})

/** What every app-wide way in has: it belongs to no organization. */
const providerShape = {
  enabled: z.boolean().default(true),
  /** Whether somebody without an account may make one, where no domain policy says so. */
  signUp: z.enum(['open', 'invitation']).default('open'),
}

const emailProvider = z.strictObject({ ...providerShape, enabled: z.boolean().default(false) })

const socialShape = {
  ...providerShape,
  /** Becomes part of a URL and of the identity's source. */
  id: id.refine((name) => name !== 'email', { message: '"email" is the e-mail method itself' }),
  /** What the button says; the id by default. */
  name: z.string().min(1).max(60).optional(),
  clientId: z.string().min(1),
  clientSecret: secret,
  scopes: z.array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/)).optional(),
  allowInsecureRequests: z.boolean().default(false),
  /** Profile attributes by claim. The address is always the provider's own claim, which its flag is about. */
  attributes: z
    .record(z.string(), z.string().min(1))
    .refine(
      (names) => !('email' in names) && !('groups' in names),
      '"email" and "groups" are not for mapping',
    )
    .superRefine(attributeNames)
    .default({ name: 'name' }),
  /**
   * An account with the same verified address, no identity of this provider yet: `prove` by a code, or
   * `verified-email` where the provider's word for that very address is authoritative.
   */
  link: z.enum(['prove', 'verified-email']).default('prove'),
}

const clientAuthentication = z
  .enum(['client_secret_post', 'client_secret_basic'])
  .default('client_secret_post')

const socialProvider = z.discriminatedUnion('preset', [
  z.strictObject({
    ...socialShape,
    preset: z.literal('google'),
    link: socialShape.link.default('verified-email'),
  }),
  z.strictObject({
    ...socialShape,
    preset: z.literal('microsoft'),
    /** Whose accounts: everybody's, work and school, personal, or one tenant's by its id. */
    tenant: z
      .string()
      .regex(
        /^(?:common|organizations|consumers|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$/,
        '"common", "organizations", "consumers" or a tenant id',
      )
      .default('common'),
  }),
  z.strictObject({ ...socialShape, preset: z.literal('apple') }),
  z.strictObject({ ...socialShape, preset: z.literal('github') }),
  z.strictObject({
    ...socialShape,
    preset: z.literal('oidc'),
    issuer: httpUrl,
    clientAuthentication,
    /** Whether its `email_verified` is proof; only its own documentation can tell. */
    emailVerifiedIsProof: z.boolean().default(false),
  }),
  z.strictObject({
    ...socialShape,
    preset: z.literal('oauth2'),
    clientAuthentication,
    authorizationEndpoint: httpUrl,
    tokenEndpoint: httpUrl,
    /** Answers who signed in; `subject` names the claim of the stable id. */
    profileEndpoint: httpUrl,
    subject: z.string().min(1).default('id'),
    /** Lists `{ email, primary, verified }` entries, as GitHub does; without it no address is verified. */
    emailsEndpoint: httpUrl.optional(),
  }),
  z.strictObject({
    ...providerShape,
    id: socialShape.id,
    name: socialShape.name,
    link: socialShape.link,
    preset: z.literal('passport'),
  }),
])

/** The file of `directoryFromFile`, and the object of `staticDirectory`. */
export const directorySchema = z.strictObject({
  organizations: z.array(organizationSchema),
  connections: z.array(connectionSchema).default([]),
  social: z.array(socialProvider).default([]),
  email: emailProvider.prefault({}),
})

/** Entries that parsed, before what they contradict in each other is asked. */
export type Parsed = z.output<typeof directorySchema>

/** What a person may write: `directorySchema` before its defaults. */
export type DirectoryInput = z.input<typeof directorySchema>

/** Entries carry the version that guards compare; for a static directory, a hash of all but their secrets. */
type Entry<T extends z.output<typeof connectionSchema>> = Readonly<
  Omit<T, 'vouchesFor' | 'attributes' | 'groups' | 'preset'>
> & {
  readonly vouchesFor: readonly string[]
  readonly attributes: AttributeMapping
  readonly groups: GroupsPolicy
  readonly version: string
}
export type GroupsPolicy = Readonly<z.output<typeof groupsPolicy>> & { readonly absent: 'unknown' | 'empty' }
export type Organization = Readonly<Omit<z.output<typeof organizationSchema>, 'assignable'>> & {
  readonly assignable: readonly string[]
  readonly version: string
}
export type SamlConnection = Entry<z.output<typeof samlConnection>>
export type OidcConnection = Entry<z.output<typeof oidcConnection>>
export type Connection = SamlConnection | OidcConnection
/** The e-mail method; its id is `email`. */
export type EmailProvider = Readonly<z.output<typeof emailProvider>> & {
  readonly id: 'email'
  readonly protocol: 'email'
  readonly link: 'verified-email'
  readonly version: string
}
export type SocialProvider = Readonly<z.output<typeof socialProvider>> & {
  readonly protocol: 'social'
  readonly version: string
}
export type Provider = EmailProvider | SocialProvider
