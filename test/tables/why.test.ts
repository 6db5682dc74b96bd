import type { AuditEvent, ConnectionFacts, OrganizationFacts, UserFacts } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { type WhyFacts, whyOf } from '../../lib/why.js'
import { known, member } from './facts.js'

let next = 0
/** The events of a history, as they happened; each a change of its own unless told otherwise. */
const event = (
  type: AuditEvent['type'],
  detail: AuditEvent['detail'] = {},
  more: Partial<AuditEvent> = {},
) => {
  next += 1
  const common = { seq: 0, user: 'u', organization: 'o', source: 'connection:c', actor: null } as const
  const change = `change ${next}`
  return {
    ...{ ...common, type, detail, change, at: next, correlationId: change, reason: 'identity_synced' },
    ...more,
  } as AuditEvent
}
const byRoot = { actor: 'root', source: null, reason: 'administered' } as const

const organization: OrganizationFacts = {
  ...{ id: 'o', version: 'v', status: 'active', seatLimit: null, seatsUsed: 1, owners: 1 },
}
const tell = (user: UserFacts, history: readonly AuditEvent[], more: Partial<WhyFacts> = {}) =>
  whyOf({ user, organization, connections: [], events: history.toReversed(), ...more })
const has = (...roles: Parameters<typeof member>) => known({ memberships: member(...roles) })
const origin = ({ at, change, reason, actor, source, detail }: AuditEvent) => ({
  since: at,
  decision: change,
  reason,
  actor,
  by: source,
  because: detail.because ?? null,
})

describe('Grants', () => {
  const granted = (role: string, source: string, because?: string, more?: Partial<AuditEvent>) =>
    event('granted', { role, source, basis: 'group', ...(because && { because }) }, more)

  test('each goes back to the event that gave it', () => {
    const joined = event('joined', { status: 'active', seat: true })
    const byDefault = granted('member', 'sso:c', 'by default')
    const byHand = granted('admin', 'manual', undefined, byRoot)
    const user = has(['member', 'sso:c', 'default'], ['admin', 'manual', 'person'])
    expect(tell(user, [joined, byDefault, byHand])).toEqual({
      user: 'u',
      organization: 'o',
      membership: { status: 'active', seat: true, origin: origin(joined) },
      grants: [
        { role: 'member', source: 'sso:c', basis: 'default', origin: origin(byDefault) },
        { role: 'admin', source: 'manual', basis: 'person', origin: origin(byHand) },
      ],
      absent: [],
    })
  })

  test('one that was taken and given again goes back to the last time', () => {
    const first = granted('admin', 'sso:c', 'by group admins')
    const taken = event('revoked', { role: 'admin', source: 'sso:c', because: 'no longer by a group' })
    const again = granted('admin', 'sso:c', 'by group leads')
    const { grants, absent } = tell(has(['admin', 'sso:c', 'group']), [first, taken, again])
    expect(grants[0]?.origin).toEqual(origin(again))
    expect(absent).toEqual([])
  })

  test('one role of two sources has two origins', () => {
    const byGroup = granted('admin', 'sso:c', 'by group admins')
    const byHand = granted('admin', 'manual', undefined, byRoot)
    const user = has(['admin', 'manual', 'person'], ['admin', 'sso:c', 'group'])
    expect(tell(user, [byGroup, byHand]).grants.map((grant) => grant.origin?.actor)).toEqual(['root', null])
  })

  test('what is older than the trail has no origin, and nobody is made up for it', () => {
    const other = granted('admin', 'sso:d', 'by group admins')
    const elsewhere = granted('admin', 'sso:c', 'by group admins', { organization: 'p' })
    const another = granted('admin', 'sso:c', 'by group admins', { user: 'v' })
    const { grants } = tell(has(['admin', 'sso:c', 'group']), [other, elsewhere, another])
    expect(grants[0]).toMatchObject({ role: 'admin', origin: null })
  })
})

describe('What is absent, and by whom', () => {
  const stone = (role: string | null) => ({ organization: 'o', role, at: 5 })
  const nobody = { held: null } as Pick<ConnectionFacts, 'held'>

  test('a role that a person took away', () => {
    const removed = event('removed', { role: 'admin' }, byRoot)
    const revoked = event('revoked', { role: 'admin', source: 'sso:c' }, byRoot)
    const user = known({ memberships: member(['member', 'sso:c', 'default']), tombstones: [stone('admin')] })
    const earlier = event('removed', { role: 'admin' }, { ...byRoot, actor: 'former' })
    expect(tell(user, [earlier, removed, revoked]).absent).toEqual([
      { finding: 'role_removed', about: 'admin', origin: origin(removed) },
    ])
  })

  test('a membership that a person took away, and not the one of another organization', () => {
    const removed = event('removed', { role: null }, byRoot)
    const left = event('left', {}, byRoot)
    const user = known({ tombstones: [stone(null), { ...stone('admin'), organization: 'p' }] })
    const { membership, absent } = tell(user, [removed, left])
    expect(membership).toBeNull()
    expect(absent).toEqual([{ finding: 'membership_removed', about: null, origin: origin(removed) }])
  })

  test('a role that sync took, once, by the last time it did', () => {
    const first = event('revoked', { role: 'admin', source: 'sso:c', because: 'no longer by a group' })
    const last = event('revoked', { role: 'admin', source: 'sso:c', because: 'it may no longer be given' })
    const kept = event('revoked', { role: 'member', source: 'domain', because: 'adopted by sso:c' })
    expect(tell(has(['member', 'sso:c', 'default']), [first, last, kept]).absent).toEqual([
      { finding: 'role_revoked', about: 'admin', origin: origin(last) },
    ])
  })

  test('a membership that went with its last role', () => {
    const revoked = event('revoked', { role: 'admin', source: 'sso:c', because: 'no longer by a group' })
    const left = event('left', {}, { change: revoked.change, seq: 1 })
    expect(tell(known(), [revoked, left]).absent).toEqual([
      { finding: 'membership_left', about: null, origin: origin(left) },
      { finding: 'role_revoked', about: 'admin', origin: origin(revoked) },
    ])
    expect(tell(has(['admin', 'sso:c', 'group']), [revoked, left]).absent).toEqual([])
  })

  test('suspensions, each by who did it', () => {
    const user = known({
      status: 'suspended',
      memberships: [{ ...member(['member', 'sso:c', 'default'])[0]!, status: 'suspended', seat: false }],
    })
    const account = event('suspended', {}, { ...byRoot, organization: null })
    const membership = event('suspended', { seat: false }, { ...byRoot, actor: 'tenant' })
    expect(
      tell(user, [account, membership], { organization: { ...organization, status: 'suspended' } }).absent,
    ).toEqual([
      { finding: 'user_suspended', about: null, origin: origin(account) },
      { finding: 'organization_suspended', about: null, origin: null },
      { finding: 'membership_suspended', about: null, origin: origin(membership) },
    ])
    expect(tell(known({ memberships: member() }), [account, membership]).absent).toEqual([])
  })

  test.each([
    ['since joining', event('joined', { status: 'active', seat: false })],
    ['since it was reactivated', event('reactivated', { seat: false }, byRoot)],
  ])('a seat, %s', (_, since) => {
    const seatless = [{ ...member(['member', 'sso:c', 'default'])[0]!, seat: false }]
    const joined = event('joined', { status: 'active', seat: true })
    expect(tell(known({ memberships: seatless }), [joined, since]).absent).toEqual([
      { finding: 'without_seat', about: null, origin: origin(since) },
    ])
    expect(tell(known({ memberships: member() }), [joined, since]).absent).toEqual([])
  })

  test('groups, while the sync of a connection is held', () => {
    const connections = [
      { ...nobody, id: 'c', held: 'it took too much' },
      { ...nobody, id: 'd' },
    ]
    const hold = (id: string, held: string) =>
      event('held', { connection: id, held }, { user: null, organization: null, reason: 'guarded' })
    const events = [
      hold('c', 'it took much before'),
      hold('d', 'it took too much'),
      hold('c', 'it took too much'),
    ]
    expect(tell(known({ memberships: member() }), events, { connections }).absent).toEqual([
      { finding: 'sync_held', about: 'c', origin: { ...origin(events[2]!), because: 'it took too much' } },
    ])
  })
})
