import type { AuditEvent, EventType } from './audit.js'
import { asJitError, JitError } from './errors.js'
import type { Source } from './identity.js'
import type { Reason } from './plan.js'
import type {
  ConnectionFacts,
  EventQuery,
  Grant,
  Membership,
  OrganizationFacts,
  Store,
  UserFacts,
} from './store.js'

/** The decision that something goes back to. */
export interface Origin {
  /** Milliseconds since the epoch. */
  readonly since: number
  /** Id of the change, by which the audit trail has the rest. */
  readonly decision: string
  readonly reason: Reason
  /** The person who did it; null for a sign-in and for the kit itself. */
  readonly actor: string | null
  /** The connection or provider whose word it was. */
  readonly by: Source | null
  /** The rule, such as `by group admins`; of a hold its reason. */
  readonly because: string | null
}

export type AbsenceFinding =
  /** The account, the organization or the membership is suspended, so no role counts. */
  | 'user_suspended'
  | 'organization_suspended'
  | 'membership_suspended'
  /** A membership without a seat: none was free. */
  | 'without_seat'
  /** A person took the membership or the role away, and no policy brings it back. */
  | 'membership_removed'
  | 'role_removed'
  /** It went in another way, by the last sync perhaps. */
  | 'membership_left'
  | 'role_revoked'
  /** The sync of one of the person's connections is held, so its groups give nothing. */
  | 'sync_held'

/** What somebody might look for and not find. */
export interface Absence {
  readonly finding: AbsenceFinding
  /** The role; of `sync_held` the connection. */
  readonly about: string | null
  /** Null where the trail has nothing of it. */
  readonly origin: Origin | null
}

/** Where everything comes from that a person has in an organization, and why they have no more. */
export interface Why {
  readonly user: string
  readonly organization: string
  readonly membership:
    | (Omit<Membership, 'organization' | 'grants'> & { readonly origin: Origin | null })
    | null
  /** Each grant with its origin; null for one older than the trail. */
  readonly grants: readonly (Grant & { readonly origin: Origin | null })[]
  readonly absent: readonly Absence[]
}

/** What {@link whyOf} joins. `events` are newest first within each type. */
export interface WhyFacts {
  readonly user: UserFacts
  readonly organization: OrganizationFacts
  /** Connections of this organization by which the person signs in. */
  readonly connections: readonly Pick<ConnectionFacts, 'id' | 'held'>[]
  readonly events: readonly AuditEvent[]
}

/** Joins what is with how it came about. Pure. */
export function whyOf({ user, organization, connections, events }: WhyFacts): Why {
  const here = events.filter((event) => event.user === user.id && event.organization === organization.id)
  const last = (type: EventType, detail: AuditEvent['detail'] = {}, among: readonly AuditEvent[] = here) =>
    originOf(among.find((event) => event.type === type && tells(event, detail)))
  const membership = user.memberships.find((entry) => entry.organization === organization.id) ?? null
  const stones = user.tombstones.filter((stone) => stone.organization === organization.id)
  const grants = membership?.grants ?? []
  const gone = new Map<string, Origin>()
  for (const event of here) {
    const { role } = event.detail
    if (event.type !== 'revoked' || typeof role !== 'string' || gone.has(role)) continue
    const settled = grants.some((grant) => grant.role === role) || stones.some((stone) => stone.role === role)
    if (!settled) gone.set(role, originOf(event)!)
  }

  const absent: Absence[] = []
  const miss = (finding: AbsenceFinding, about: string | null, origin: Origin | null) => {
    absent.push({ finding, about, origin })
  }
  if (user.status === 'suspended') {
    const own = events.filter((event) => event.user === user.id && event.organization === null)
    miss('user_suspended', null, last('suspended', {}, own))
  }
  if (organization.status === 'suspended') miss('organization_suspended', null, null)
  if (membership?.status === 'suspended') miss('membership_suspended', null, last('suspended'))
  else if (membership && !membership.seat)
    miss('without_seat', null, last('reactivated', { seat: false }) ?? last('joined', { seat: false }))
  for (const { role } of stones) {
    miss(role === null ? 'membership_removed' : 'role_removed', role, last('removed', { role }))
  }
  const left = membership || stones.some(({ role }) => role === null) ? null : last('left')
  if (left) miss('membership_left', null, left)
  for (const [role, origin] of gone) miss('role_revoked', role, origin)
  for (const { id, held } of connections) {
    if (held !== null) miss('sync_held', id, last('held', { connection: id, held }, events))
  }
  return {
    user: user.id,
    organization: organization.id,
    membership: membership && {
      status: membership.status,
      seat: membership.seat,
      origin: last('joined'),
    },
    grants: grants.map((grant) => ({
      ...grant,
      origin: last('granted', { role: grant.role, source: grant.source }),
    })),
    absent,
  }
}

const tells = (event: AuditEvent, detail: AuditEvent['detail']) =>
  Object.entries(detail).every(([key, value]) => event.detail[key] === value)

/**
 * Reads what {@link whyOf} joins: a few indexed reads, and more only where the event of an old grant lies behind a
 * hundred newer ones.
 * @throws JitError `user_unknown`, `organization_unknown`, `unavailable`
 */
export async function why(store: Store, user: string, organization: string): Promise<Why> {
  try {
    const [{ byId, organizations }, record] = await Promise.all([
      store.load({ user, email: null, organizations: [organization] }),
      store.user(user),
    ])
    if (!byId || !record) throw new JitError('user_unknown', `there is no user "${user}"`)
    const facts = organizations.find(({ id }) => id === organization)
    if (!facts) throw new JitError('organization_unknown', `there is no organization "${organization}"`)
    const membership = byId.memberships.find((entry) => entry.organization === organization)

    /** Events of a type, newest first, until each of `wanted` has one. */
    const read = async (query: EventQuery & { readonly type: EventType }, wanted: AuditEvent['detail'][]) => {
      const found: AuditEvent[] = []
      for (let after: string | null = ''; after !== null; ) {
        const page: Awaited<ReturnType<Store['events']>> = await store.events({
          ...query,
          ...(after && { after }),
        })
        found.push(...page.rows.filter(({ type }) => type === query.type))
        after = wanted.every((detail) => found.some((event) => tells(event, detail))) ? null : page.next
      }
      return found
    }
    const here = { user, organization }
    const connections = record.connections.filter((entry) => entry.organization === organization)
    const held = connections.filter((entry) => entry.held !== null)
    const grants = (membership?.grants ?? []).map(({ role, source }) => ({ role, source }))
    const stones = byId.tombstones.map(({ role }) => ({ role }))
    const lists = await Promise.all([
      read({ ...here, type: 'granted' }, grants),
      read({ ...here, type: 'joined' }, []),
      read({ ...here, type: 'revoked' }, []),
      ...(stones.length > 0 ? [read({ ...here, type: 'removed' }, stones)] : []),
      ...(membership ? [] : [read({ ...here, type: 'left' }, [])]),
      ...(membership?.status === 'suspended' ? [read({ ...here, type: 'suspended' }, [])] : []),
      ...(membership?.seat === false ? [read({ ...here, type: 'reactivated' }, [])] : []),
      ...held.map(({ id }) => read({ source: `connection:${id}`, type: 'held' }, [])),
      ...(byId.status === 'suspended' ? [read({ user, type: 'suspended' }, [])] : []),
    ])
    return whyOf({
      user: byId,
      organization: facts,
      connections,
      events: lists.flat(),
    })
  } catch (error) {
    throw asJitError(error, 'unavailable', 'the store could not be read')
  }
}

function originOf(event: AuditEvent | undefined): Origin | null {
  if (!event) return null
  const { at, change, reason, actor, source, detail } = event
  const told = detail.because ?? detail.held
  const because = typeof told === 'string' ? told : null
  return { since: at, decision: change, reason, actor, by: source, because }
}
