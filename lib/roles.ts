import { plain } from './identity.js'
import type { IdentityFacts, SignIn } from './plan.js'
import { type Connection, type Organization, ownerRole } from './policy.js'
import type { Grant, GrantSource, InvitationFacts, Membership } from './store.js'

/** A grant with the rule that gives or takes it. */
export type Reasoned = Grant & { readonly because: string }

export interface RolePlan {
  readonly finding: string
  readonly detail?: string
  readonly add: readonly Reasoned[]
  readonly remove: readonly Reasoned[]
  readonly after: readonly Grant[]
}

export interface RoleFacts {
  readonly organization: Organization | null
  readonly member: Membership | null
  readonly joins: boolean
  readonly invitations: readonly InvitationFacts[]
  /** Roles that a person took away. */
  readonly removed: ReadonlySet<string | null>
}

/** How many grants the trace tells one by one; each has an event of its own besides. */
const told = 50

/**
 * On joining the default roles, and by a connection the mapped ones, then and later. Sync takes back only what this
 * connection gave, for a group that is gone or a role that may no longer be given; unknown groups neither give nor
 * take, and no more does a sync that is held. The first sign-in by SSO takes over what the e-mail domain had given.
 */
export function planRoles(signIn: SignIn, facts: RoleFacts): RolePlan {
  const { identity, way, snapshot } = signIn
  const { organization, member, joins, invitations, removed } = facts
  const held = member?.grants ?? []
  const connection = way.kind === 'connection' ? way.connection : null
  const synced = connection?.jit.join === true && member !== null
  if (!organization || (!joins && !synced)) {
    const detail =
      !organization || !member ? 'nothing is joined' : connection ? 'jit.join is off' : 'a member already'
    return { finding: 'left_alone', detail, add: [], remove: [], after: [...held] }
  }
  const source: GrantSource = connection ? `sso:${connection.id}` : 'domain'
  const ceiling = new Set(organization.assignable)
  ceiling.delete(ownerRole)
  const open = (role: string) => ceiling.has(role) && !removed.has(role)
  const withheld: string[] = []
  const assignable = (role: string, because: string) => {
    const why = ceiling.has(role) ? 'a person took it away' : 'it may not be given'
    if (!open(role)) withheld.push(`no ${role} ${because}: ${why}`)
    return open(role)
  }
  const hold = connection ? snapshot.connection?.held : null
  const groups = connection && hold == null ? groupsOf(identity, connection) : null
  const mapped = new Map(
    connection && groups ? mappedRoles(connection, groups).filter((rule) => assignable(...rule)) : [],
  )
  const defaults = (connection?.jit ?? organization.domainJit).roles.filter((role) =>
    assignable(role, 'by default'),
  )

  const wanted = new Map<string, Reasoned>()
  const want = (role: string, basis: Grant['basis'], because: string) => {
    if (!wanted.has(role)) wanted.set(role, { role, source, basis, because })
  }
  if (joins) for (const role of defaults) want(role, 'default', 'by default')
  for (const [role, because] of mapped) want(role, 'group', because)
  const own = new Map(held.filter((grant) => grant.source === source).map((grant) => [grant.role, grant]))
  const byDomain = connection ? held.filter((grant) => grant.source === 'domain') : []
  const adopted = new Set(byDomain.map(({ role }) => role).filter(open))
  const ranks = new Set(connection?.groups.oneOf)
  const ranked = [...ranks]
  const lost = ranked.some((role) => own.get(role)?.basis === 'group' && !mapped.has(role))
  if (groups && lost && !ranked.some((role) => mapped.has(role))) {
    // What the group's role had taken the place of comes back with its going.
    for (const role of defaults.filter((name) => ranks.has(name))) want(role, 'default', 'by default')
  }
  // What joining gave counts as long as it is held, so that the same answer settles the same role later.
  const kept = (role: string) => open(role) && own.get(role)?.basis === 'default'
  const first = ranked.find((role) => wanted.has(role) || kept(role) || adopted.has(role))
  const behind = (role: string) => first !== undefined && role !== first && ranks.has(role)
  for (const { role, because } of ranked.flatMap((name) => wanted.get(name) ?? [])) {
    if (!behind(role)) continue
    wanted.delete(role)
    withheld.push(`no ${role} ${because}: ${first} stands before it`)
  }

  const remove: Reasoned[] = []
  const syncs = connection?.groups.mode === 'sync' && synced && hold == null
  for (const grant of syncs ? own.values() : []) {
    const { role, basis } = grant
    if (wanted.has(role) || role === ownerRole) continue
    if (!ceiling.has(role)) remove.push({ ...grant, because: 'it may no longer be given' })
    else if (removed.has(role)) remove.push({ ...grant, because: 'a person took it away' })
    else if (groups && behind(role)) remove.push({ ...grant, because: `${first} stands before it` })
    else if (groups && basis === 'group') remove.push({ ...grant, because: 'no longer by a group' })
  }
  const add = [...wanted.values()].filter(({ role }) => !own.has(role))
  for (const { id, role } of invitations) {
    add.push({ role, source: `invitation:${id}`, basis: 'person', because: 'by invitation' })
  }
  for (const grant of byDomain) {
    const { role } = grant
    const takes = adopted.has(role) && !behind(role)
    remove.push({ ...grant, because: takes ? `adopted by ${source}` : 'it is not adopted' })
    if (takes && !own.has(role) && !wanted.has(role)) {
      add.push({ role, source, basis: 'default', because: 'adopted from the e-mail domain' })
    }
  }
  const changed = add.length + remove.length > 0
  const stays = [...wanted.values()].filter(({ role }) => own.has(role))
  const sentences = [
    ...add.slice(0, told).map(({ role, because }) => `+${role} ${because}`),
    ...remove.slice(0, told).map(({ role, because }) => `-${role} ${because}`),
    ...withheld.slice(0, told),
    ...stays.slice(0, told).map(({ role, because }) => `${role} stays ${because}`),
  ]
  const untold = add.length + remove.length + withheld.length + stays.length - told
  const key = (grant: Grant) => `${grant.source} ${grant.role}`
  const taken = new Set(remove.map(key))
  const unheard = connection?.attributes.groups !== undefined && groups === null
  const { kind } = identity.groups
  const state = hold != null ? 'sync_held' : kind === 'listed' ? 'groups_truncated' : `groups_${kind}`
  const more = untold > 0 ? [`and ${untold} more`] : []
  const detail = [...(hold != null ? [hold] : []), ...sentences.slice(0, told), ...more].join('; ')
  return {
    finding: unheard ? state : changed ? 'changed' : 'unchanged',
    ...(detail && { detail }),
    add,
    remove,
    after: [
      ...(taken.size > 0 ? held.filter((grant) => !taken.has(key(grant))) : held),
      ...add.map(({ because: _, ...grant }) => grant),
    ],
  }
}

/** Whether the groups are known and give nothing, so that a policy without idle members takes nobody in. */
export function givesNoRole(signIn: SignIn, plan: RolePlan): boolean {
  const { way, identity, snapshot } = signIn
  if (way.kind !== 'connection' || way.connection.groups.withoutRole === 'keep') return false
  const known = snapshot.connection?.held == null && groupsOf(identity, way.connection) !== null
  return known && plan.after.length === 0
}

/**
 * Roles by group, each once, with the rule that gives it; in the order of the rules, exact names first. Groups are
 * named by the rule, not as they were sent, and as every store can write it.
 */
function mappedRoles(connection: Connection, groups: readonly string[]): [string, string][] {
  const { map, prefixes } = connection.groups
  const named = new Set(groups)
  const roles = new Map<string, string>()
  const give = (names: readonly string[], because: string) => {
    for (const name of names) if (!roles.has(name)) roles.set(name, because)
  }
  for (const [group, names] of Object.entries(map))
    if (named.has(group)) give(names, `by group ${plain(group)}`)
  const beginnings = Object.entries(prefixes)
  // Sorted, so that each rule costs a binary search, however many groups there are.
  const sorted = beginnings.length > 0 ? [...named].sort() : []
  for (const [prefix, names] of beginnings) {
    if (firstFrom(sorted, prefix)?.startsWith(prefix)) give(names, `by group ${plain(prefix)}…`)
  }
  return [...roles]
}

/** The first of sorted texts that is not before this one. */
function firstFrom(sorted: readonly string[], text: string): string | undefined {
  let from = 0
  for (let to = sorted.length; from < to; ) {
    const middle = (from + to) >>> 1
    if (sorted[middle]! < text) from = middle + 1
    else to = middle
  }
  return sorted[from]
}

/** The person's groups, or null where the IdP's answer does not tell. */
function groupsOf({ groups }: IdentityFacts, connection: Connection): readonly string[] | null {
  const { absent, truncatedAt = Number.POSITIVE_INFINITY } = connection.groups
  if (groups.kind === 'listed') return groups.values.length < truncatedAt ? groups.values : null
  return groups.kind === 'absent' && absent === 'empty' ? [] : null
}
