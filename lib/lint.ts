import { type AttributeMapping, attributeRules } from './claims.js'
import { candidates, covers, type Parsed } from './policy.js'
import { presetOf } from './presets.js'

/**
 * What the parsed entries contradict in each other; each a sentence that names the entry and the key.
 * Ids and domains are compared as they are matched at sign-in. `named` are the ids of all organizations, of
 * those too that did not parse.
 */
export function contradictions(config: Parsed, named: ReadonlySet<unknown>): string[] {
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

  twice(
    'social provider',
    config.social.map((entry) => entry.id),
  )
  for (const { id, roles, domainJit, assignable = roles } of config.organizations) {
    const where = `organization "${id}"`
    const known = new Set(roles)
    const given = new Set(assignable)
    for (const name of assignable.filter((role) => !known.has(role))) {
      problems.push(`${where}: assignable: it has no role "${name}"${nearest(name, roles)}`)
    }
    for (const name of domainJit.roles.filter((role) => !given.has(role))) {
      const why = known.has(name)
        ? `"${name}" is not one of its assignable roles`
        : `it has no role "${name}"${nearest(name, roles)}`
      problems.push(`${where}: domainJit.roles: ${why}`)
    }
  }

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
    if (!organization && named.has(connection.organization)) continue
    if (!organization) {
      const near = nearest(connection.organization, [...organizations.keys()])
      problems.push(`${where}: organization: there is no organization "${connection.organization}"${near}`)
      continue
    }
    const { roles, assignable = roles } = organization
    const there = new Set(roles)
    const given = new Set(assignable)
    const known = (key: string, name: string) => {
      if (given.has(name)) return
      const why = there.has(name)
        ? `"${name}" is not one of the assignable roles of organization "${organization.id}"`
        : `organization "${organization.id}" has no role "${name}"${nearest(name, roles)}`
      problems.push(`${where}: ${key}: ${why}`)
    }
    for (const name of connection.jit.roles) known('jit.roles', name)
    const { oneOf, mode } = connection.groups
    for (const name of new Set(oneOf)) known('groups.oneOf', name)
    if (new Set(oneOf).size < oneOf.length) problems.push(`${where}: groups.oneOf: a role is named twice`)
    if (oneOf.length > 0 && mode === 'add') {
      problems.push(
        `${where}: groups.oneOf: with mode "add" no role is ever taken back, so nobody could hold just one; use "sync"`,
      )
    }
    const preset = presetOf(connection.preset, connection.protocol)
    const claim = connection.attributes?.groups ?? (connection.preset && preset.attributes.groups)
    for (const rules of ['map', 'prefixes'] as const) {
      if (Object.keys(connection.groups[rules]).length > 0 && claim === undefined) {
        problems.push(
          `${where}: attributes.groups: groups.${rules} needs the name of the claim that lists the groups`,
        )
      }
      for (const [group, given] of Object.entries(connection.groups[rules])) {
        for (const name of given) known(`groups.${rules}.${group}`, name)
      }
    }
    if (connection.protocol === 'oidc') {
      if (connection.attributes?.subject !== undefined) {
        problems.push(
          `${where}: attributes.subject: an issuer's own "sub" names the person (OIDC Core §8); leave it out`,
        )
      }
      if (connection.clientAuthentication !== 'none' && connection.clientSecret === undefined) {
        problems.push(`${where}: clientSecret: ${connection.clientAuthentication} needs one`)
      }
      if (!connection.allowInsecureRequests && connection.issuer.startsWith('http:')) {
        problems.push(
          `${where}: issuer: plain http is refused; use https, or set allowInsecureRequests to try it out`,
        )
      }
      if (
        /^https:\/\/login\.microsoftonline\.com\/(common|organizations|consumers)\b/i.test(
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

/**
 * What is allowed, but does not do what it seems to, or more than it seems to: each a sentence that names the
 * entries. Meant for the operator's log and for the page where the policy is saved.
 */
export function warnings(config: Parsed): string[] {
  const found: string[] = []
  const owners = new Map(
    config.organizations.flatMap(({ id, domains }) => domains.map((name) => [name, id] as const)),
  )
  const vouched = ({ vouchesFor, organization }: Parsed['connections'][number]) =>
    vouchesFor ?? config.organizations.find(({ id }) => id === organization)?.domains ?? []
  const anyProvider = config.email.enabled || config.social.some(({ enabled }) => enabled)
  for (const { id, domains, domainJit, requireSso } of config.organizations) {
    const where = `organization "${id}"`
    const sso = config.connections.filter(({ organization, enabled }) => organization === id && enabled)
    if (requireSso && sso.length === 0) {
      found.push(`${where}: requireSso is on and no connection is enabled, so none of its memberships counts`)
    }
    if (!domainJit.enabled) continue
    if (domains.length === 0)
      found.push(`${where}: domainJit is on, but it owns no domain, so it can never fire`)
    if (!anyProvider)
      found.push(`${where}: domainJit is on, but neither e-mail nor a social provider is enabled`)
    for (const name of domains) {
      const routed = sso.find(
        (connection) => covers(vouched(connection), name) || vouched(connection).includes(name),
      )
      if (routed) {
        found.push(
          `${where}: domain "${name}" has both domainJit and SSO by connection "${routed.id}"; SSO wins, so domainJit does not run for it`,
        )
      }
    }
  }
  for (const connection of config.connections.filter(({ enabled }) => enabled)) {
    const { id, organization, outsiders, jit, groups } = connection
    const where = `connection "${id}"`
    const patterns = vouched(connection)
    if (patterns.length === 0 && outsiders === 'deny') {
      found.push(`${where}: it vouches for no e-mail domain, so nobody new can sign in through it`)
    }
    for (const name of patterns) {
      const owner = candidates(name.replace(/^\*\./, ''))
        .map((pattern) => owners.get(pattern))
        .find(Boolean)
      if (owner !== undefined && owner !== organization) {
        found.push(
          `${where} of organization "${organization}" vouches for "${name}", which organization "${owner}" owns: its IdP can sign in as anybody there`,
        )
      }
      if (owner === undefined) {
        found.push(
          `${where} vouches for "${name}", which no organization owns: discovery does not lead there`,
        )
      }
    }
    found.push(...oddGroups(connection), ...oddAttributes(connection))
    const mapped = Object.keys(groups.map).length + Object.keys(groups.prefixes).length > 0
    if (!jit.join && (jit.roles.length > 0 || mapped)) {
      found.push(`${where}: jit.join is off, so jit.roles and groups.map can never fire`)
    }
    const absent = groups.absent ?? presetOf(connection.preset, connection.protocol).groupsAbsent
    if (mapped && jit.join && groups.mode === 'sync' && absent === 'unknown' && groups.absent === undefined) {
      found.push(
        `${where}: groups.absent is "unknown", so who leaves their last group keeps their roles if the IdP then sends no groups claim; set it to "empty" if yours does, else to "unknown" to say so`,
      )
    }
  }
  return found
}

function oddGroups(connection: Parsed['connections'][number]): string[] {
  const { id, groups, jit } = connection
  const where = `connection "${id}": groups`
  const rules = [...Object.entries(groups.map), ...Object.entries(groups.prefixes)]
  const unasked =
    connection.protocol === 'oidc' && connection.preset === 'okta' && !connection.scopes.includes('groups')
  const idle =
    jit.roles.length > 0
      ? 'everybody keeps jit.roles, so nobody leaves with their last group'
      : rules.length === 0
        ? 'no group gives a role and jit.roles is empty, so nobody joins'
        : null
  return [
    ...rules.flatMap(([group, roles]) =>
      roles.length === 0 ? [`${where}: "${group}" is mapped to no role`] : [],
    ),
    ...(rules.length > 0 && unasked
      ? [`${where}: Okta sends groups for the scope "groups" alone; add it to scopes`]
      : []),
    ...(groups.oneOf.length === 1
      ? [`${where}.oneOf names one role, so there is nothing to choose from`]
      : []),
    ...(jit.join && groups.withoutRole === 'leave' && idle
      ? [`${where}.withoutRole is "leave", but ${idle}`]
      : []),
  ]
}

function oddAttributes({ id, attributes = {}, jit }: Parsed['connections'][number]): string[] {
  return [...attributeRules(attributes as AttributeMapping)].flatMap(([name, { authority, absent }]) => {
    if (absent !== 'clear') return []
    const never =
      authority !== 'idp'
        ? `its authority is "${authority}"`
        : jit.profileSync === 'never'
          ? 'jit.profileSync is "never"'
          : null
    return never
      ? [`connection "${id}": attributes.${name}.absent is "clear", but ${never}, so it is never cleared`]
      : []
  })
}

/** Of more words nobody is asked which was meant: each that is wrong is compared with all of them. */
const fewWords = 50

/** ` (did you mean "x"?)` for the closest candidate within two edits, else nothing. */
export function nearest(word: string, words: readonly string[]): string {
  if (words.length > fewWords) return ''
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
  const best = words
    .map((candidate) => ({ candidate, edits: distance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits)[0]
  return best && best.edits <= Math.max(2, Math.floor(word.length / 4))
    ? ` (did you mean "${best.candidate}"?)`
    : ''
}
