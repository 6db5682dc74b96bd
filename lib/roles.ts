import type { IdentityFacts, SignIn } from './plan.js'
import { type Connection, type Organization, ownerRole } from './policy.js'
import type { Grant, GrantSource, Membership, UserFacts } from './store.js'

interface RolePlan {
  finding: string
  detail?: string
  add: Grant[]
  remove: Grant[]
  after: Grant[]
}

/**
 * Default roles on joining, and by a connection mapped roles on joining and later. Sync takes back only what
 * this connection gave for a group; unknown groups neither give nor take.
 */
export function planRoles(
  { identity, way }: SignIn,
  organization: Organization | null,
  member: Membership | null,
  joins: boolean,
  removed: Set<string | null>,
): RolePlan {
  const held = member?.grants ?? []
  const connection = way.kind === 'connection' ? way.connection : null
  const synced = connection?.jit.join === true && member !== null
  if (!organization || (!joins && !synced))
    return { finding: 'left_alone', add: [], remove: [], after: [...held] }

  const source: GrantSource = connection ? `sso:${connection.id}` : 'domain'
  const assignable = (role: string) =>
    role !== ownerRole && organization.roles.includes(role) && !removed.has(role)
  const wanted = new Map<string, { grant: Grant; because: string }>()
  if (joins) {
    for (const role of (connection?.jit ?? organization.domainJit).roles.filter(assignable)) {
      wanted.set(role, { grant: { role, source, basis: 'default' }, because: `${role} by default` })
    }
  }
  const groups = connection ? groupsOf(identity, connection) : null
  for (const group of groups ?? []) {
    if (!connection || !Object.hasOwn(connection.groups.map, group)) continue
    for (const role of connection.groups.map[group]!.filter(assignable)) {
      if (wanted.has(role)) continue
      wanted.set(role, { grant: { role, source, basis: 'group' }, because: `${role} by group ${group}` })
    }
  }
  const own = held.filter((grant) => grant.source === source)
  const add = [...wanted.values()].filter(({ grant }) => !own.some(({ role }) => role === grant.role))
  const remove =
    groups !== null && connection?.groups.mode === 'sync'
      ? own.filter((grant) => grant.basis === 'group' && !wanted.has(grant.role))
      : []
  const detail = [
    ...add.map(({ because }) => because),
    ...remove.map(({ role }) => `${role} no longer by group`),
  ].join('; ')
  const unheard = groups === null && connection?.attributes.groups
  return {
    finding: unheard ? `groups_${identity.groups.kind}` : detail ? 'changed' : 'unchanged',
    ...(detail && { detail }),
    add: add.map(({ grant }) => grant),
    remove,
    after: [...held.filter((grant) => !remove.includes(grant)), ...add.map(({ grant }) => grant)],
  }
}

/** The person's groups, or null where the IdP's answer does not tell. */
function groupsOf({ groups }: IdentityFacts, connection: Connection): readonly string[] | null {
  if (groups.kind === 'listed') return groups.values
  return groups.kind === 'absent' && connection.groups.absent === 'empty' ? [] : null
}

/** The attributes as they will be, or null where they stay. One that the IdP no longer sends stays. */
export function planAttributes({ identity, way }: SignIn, user: UserFacts | null, known: UserFacts | null) {
  if (!user || way.kind === 'provider') return null
  const { profileSync } = way.connection.jit
  if (profileSync === 'never' || (profileSync === 'first-sign-in' && known)) return null
  const changed = Object.keys(identity.profile).filter(
    (name) => user.attributes[name] !== identity.profile[name],
  )
  return changed.length > 0 ? { changed, after: { ...user.attributes, ...identity.profile } } : null
}
