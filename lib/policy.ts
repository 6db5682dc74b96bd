import * as z from 'zod'
import { normalizeDomain } from './identity.js'

/** The one role that no IdP and no policy may give: it is handed on by a person only. */
export const ownerRole = 'owner'

/** Ids travel in URLs, cookies and sources, so they are kept to characters that need no escaping. */
const id = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'use letters, digits, "-" and "_" (64 at most)')

const role = z
  .string()
  .regex(/^[a-z0-9][a-z0-9:_-]{0,63}$/, 'a role is lower-case letters, digits, ":", "-" and "_" (64 at most)')

const assignableRole = role.refine((name) => name !== ownerRole, {
  message: `"${ownerRole}" is never given by policy; a person hands it on`,
})

const domain = z
  .string()
  .refine((name) => normalizeDomain(name) !== null, {
    error: ({ input }) => `"${input}" is not a plain ASCII domain such as "acme.example" (use its xn-- form)`,
  })
  .transform((name) => normalizeDomain(name)!)

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

const groupsPolicy = z.strictObject({
  mode: z.enum(['add', 'sync']).default('sync'),
  map: z.record(z.string().min(1), z.array(assignableRole)).default({}),
  absent: z.enum(['unknown', 'empty']).default('unknown'),
})

const connectionShape = {
  id,
  organization: id,
  enabled: z.boolean().default(true),
  /** The e-mail domains it vouches for; where the key is left out, those its organization owns. */
  vouchesFor: z.array(domain).optional(),
  outsiders: z.enum(['deny', 'separate']).default('deny'),
  adoptEmail: z.boolean().default(false),
  jit: jitPolicy.prefault({}),
  attributes: z
    .object({ email: z.string().min(1), groups: z.string().min(1).optional() })
    .catchall(z.string().min(1))
    .prefault({ email: 'email', name: 'name' }),
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

export const organizationSchema = z.strictObject({
  id,
  name: z.string().min(1).max(200),
  roles: z.array(role).min(1),
  seatLimit: z.number().int().min(0).nullable().default(null),
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

/** The file of `directoryFromFile`, and the object of `staticDirectory`. */
export const directorySchema = z.strictObject({
  organizations: z.array(organizationSchema),
  connections: z.array(connectionSchema).default([]),
  /** App-wide ways in. Parsed so that one file serves every version; what this version lacks is warned of. */
  social: z.array(z.looseObject({ id })).default([]),
  email: z.looseObject({ enabled: z.boolean().default(false) }).prefault({}),
})

/** What a person may write: `directorySchema` before its defaults. */
export type DirectoryInput = z.input<typeof directorySchema>

/** Entries carry the version that guards compare; for a static directory, a hash of their content. */
type Entry<T> = Readonly<Omit<T, 'vouchesFor'>> & {
  readonly vouchesFor: readonly string[]
  readonly version: string
}
export type Organization = Readonly<z.output<typeof organizationSchema>> & { readonly version: string }
export type SamlConnection = Entry<z.output<typeof samlConnection>>
export type OidcConnection = Entry<z.output<typeof oidcConnection>>
export type Connection = SamlConnection | OidcConnection

/**
 * What the parsed entries contradict in each other; each a sentence that names the entry and the key.
 * Ids and domains are compared as they are matched at sign-in.
 */
export function contradictions(config: z.output<typeof directorySchema>): string[] {
  const problems: string[] = []
  const organizations = new Map(config.organizations.map((organization) => [organization.id, organization]))
  const twice = (kind: string, ids: string[]) => {
    for (const name of new Set(ids.filter((entry, index) => ids.indexOf(entry) !== index))) {
      problems.push(`${kind} "${name}": the id is used more than once`)
    }
  }
  twice(
    'organization',
    config.organizations.map((entry) => entry.id),
  )
  twice(
    'connection',
    config.connections.map((entry) => entry.id),
  )

  const owners = new Map<string, string>()
  for (const { id, domains } of config.organizations) {
    for (const name of domains) {
      const other = owners.get(name)
      if (other !== undefined && other !== id) {
        problems.push(`organization "${id}": domains: "${name}" is already owned by organization "${other}"`)
      }
      owners.set(name, id)
    }
  }
  for (const connection of config.connections) {
    const where = `connection "${connection.id}"`
    const organization = organizations.get(connection.organization)
    if (!organization) {
      const near = nearest(connection.organization, [...organizations.keys()])
      problems.push(`${where}: organization: there is no organization "${connection.organization}"${near}`)
      continue
    }
    const known = (key: string, name: string) => {
      if (organization.roles.includes(name)) return
      const near = nearest(name, organization.roles)
      problems.push(`${where}: ${key}: organization "${organization.id}" has no role "${name}"${near}`)
    }
    for (const name of connection.jit.roles) known('jit.roles', name)
    if (Object.keys(connection.groups.map).length > 0 && connection.attributes.groups === undefined) {
      problems.push(
        `${where}: attributes.groups: groups.map needs the name of the claim that lists the groups`,
      )
    }
    for (const [group, roles] of Object.entries(connection.groups.map)) {
      for (const name of roles) known(`groups.map.${group}`, name)
    }
    if (connection.protocol === 'oidc') {
      if (connection.clientAuthentication !== 'none' && connection.clientSecret === undefined) {
        problems.push(`${where}: clientSecret: ${connection.clientAuthentication} needs one`)
      }
      if (!connection.allowInsecureRequests && connection.issuer.startsWith('http:')) {
        problems.push(
          `${where}: issuer: plain http is refused; use https, or set allowInsecureRequests to try it out`,
        )
      }
      if (
        /^https:\/\/login\.microsoftonline\.com\/(common|organizations|consumers)\b/.test(
          connection.issuer,
        ) &&
        !connection.tenants
      ) {
        problems.push(`${where}: tenants: a multi-tenant issuer admits every tenant; name those you mean`)
      }
    }
  }
  return problems
}

/** What is allowed, but does not do what it seems to; each a sentence for the operator's log. */
export function warnings(config: z.output<typeof directorySchema>): string[] {
  const found: string[] = []
  const lacking = (where: string) =>
    found.push(`${where}: this version has SAML and OIDC only; this way in stays closed`)
  if (config.email.enabled) lacking('email')
  for (const provider of config.social) lacking(`social provider "${provider.id}"`)
  for (const organization of config.organizations) {
    if (organization.domainJit.enabled) lacking(`organization "${organization.id}": domainJit`)
  }
  const owned = new Map(config.organizations.map(({ id, domains }) => [id, domains]))
  for (const { id, organization, enabled, vouchesFor, outsiders } of config.connections) {
    if (enabled && (vouchesFor ?? owned.get(organization) ?? []).length === 0 && outsiders === 'deny') {
      found.push(`connection "${id}": it vouches for no e-mail domain, so nobody new can sign in through it`)
    }
  }
  return found
}

/** ` (did you mean "x"?)` for the closest candidate within two edits, else nothing. */
export function nearest(word: string, candidates: readonly string[]): string {
  const distance = (a: string, b: string): number => {
    let row = Array.from({ length: b.length + 1 }, (_, index) => index)
    for (let i = 1; i <= a.length; i++) {
      const next = [i]
      for (let j = 1; j <= b.length; j++) {
        next[j] = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
      }
      row = next
    }
    return row[b.length]!
  }
  const best = candidates
    .map((candidate) => ({ candidate, edits: distance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits)[0]
  return best && best.edits <= Math.max(2, Math.floor(word.length / 4))
    ? ` (did you mean "${best.candidate}"?)`
    : ''
}
