import { createHash } from 'node:crypto'
import { type Asked, type InvitationFacts, JitError, type Snapshot, type UserFacts } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { type AdminFacts, administer, type Disconnect } from '../../lib/administer.js'
import { type Command, readCommand, type Verb } from '../../lib/administer-command.js'
import { emailHash, identityHash, membershipHashes, personHashes } from '../../lib/audit.js'
import { entries, invitation, known, member, user } from './facts.js'

const { connection: sample } = await entries()
const hash = (value: string) => createHash('sha256').update(value).digest('base64url')
const day = 86_400_000

interface Given {
  user?: UserFacts | null
  /** What differs of organization O in the store. */
  stored?: Partial<Snapshot['organizations'][number]>
  /** What differs of O in the directory. */
  organization?: Record<string, unknown> | null
  /** What differs of connection C in the directory, which is disabled here, and in the store. */
  connection?: Record<string, unknown> | null
  storedConnection?: Partial<NonNullable<Snapshot['connection']>> | null
  byVerifiedEmail?: UserFacts
  invitations?: InvitationFacts[]
  removed?: Snapshot['removed']
  facts?: Partial<AdminFacts>
}

async function factsOf(given: Given): Promise<AdminFacts> {
  const off = { enabled: false, ...given.connection }
  const { organization, connection } = await entries(off, given.organization ?? {})
  const other = { version: 'v', status: 'active', seatLimit: null, seatsUsed: 1, owners: 2 } as const
  const snapshot: Snapshot = {
    byIdentity: null,
    asserted: null,
    byId: given.user === undefined ? owner() : given.user,
    byVerifiedEmail: given.byVerifiedEmail ?? null,
    byContactEmail: [],
    organizations: [
      { ...other, id: 'o', version: organization.version, ...given.stored },
      { ...other, id: 'p' },
    ],
    connection:
      given.storedConnection === null
        ? null
        : {
            ...{ id: 'c', organization: 'o', version: connection.version },
            ...{ enabled: connection.enabled, epoch: 0, held: null },
            ...given.storedConnection,
          },
    invitations: given.invitations ?? [],
    removed: given.removed ?? [],
  }
  return {
    snapshot,
    organization: given.organization === null ? null : organization,
    connection: given.connection === null ? null : connection,
    adopter: null,
    put: null,
    removed: [],
    told: [],
    hash,
    ...given.facts,
  }
}

const acting = {
  by: 'root',
  correlationId: 'correlation',
  now: 2000,
  ids: { change: 'change', invitation: 'fresh' },
}

async function ask<V extends Verb>(verb: V, asked: Omit<Asked<V>, 'by'>, given: Given = {}) {
  const { command } = readCommand(verb, { by: 'root', ...asked } as Asked<V>)
  return administer(command as Command, await factsOf(given), acting)
}

/** A member of O with a seat who owns it, or whatever is given. */
const owner = (facts: Partial<UserFacts> = {}) =>
  user({ memberships: member(['owner', 'manual', 'person'], ['member', 'sso:c', 'default']), ...facts })
const plainMember = (facts: Partial<UserFacts> = {}) =>
  user({ memberships: member(['member', 'sso:c', 'default']), ...facts })
const membership = (parts: object, of = owner()) =>
  user({ memberships: [{ ...of.memberships[0]!, ...parts }] })
const stone = (role: string | null, at = 1000, organization = 'o') => ({ organization, role, at })

/** By what an organization knows the removal of a membership. */
const barOf = (email: string, organization = 'o') =>
  membershipHashes(hash, organization, [emailHash(hash, email)])[0]!
const puts = ({ identities, verifiedEmail }: UserFacts, organization: string) =>
  membershipHashes(hash, organization, personHashes(hash, identities, verifiedEmail)).map((entry) => ({
    ...{ op: 'removed.put', hash: entry, at: 2000, user: 'u', organization },
  }))

/** What came of it, in a few words: a refusal's code, `nothing`, or its operations and guards. */
function said(result: Awaited<ReturnType<typeof ask>>): string[] {
  if ('refused' in result) return [result.refused]
  if (result.kind === 'nothing') return ['nothing']
  const { ops, guards } = result.changes
  return [
    ...ops.map((op) => {
      const words = [op.op, ...('role' in op && op.role !== null ? [op.role] : [])]
      if (op.op === 'grant.add' || op.op === 'grant.remove') words.push(op.source)
      if (op.op === 'membership.update' || op.op === 'membership.create') {
        words.push(op.status, op.seat ? 'seat' : 'no seat')
      }
      if (op.op === 'user.update') words.push(...Object.keys(op.set))
      return words.join(' ')
    }),
    ...guards.map((guard) =>
      'by' in guard ? `${guard.guard} ${guard.organization} ${guard.by}` : guard.guard,
    ),
  ]
}

const o = { user: 'u', organization: 'o' }
const suspended = { status: 'suspended', seat: false } as const
const full = { seatLimit: 3, seatsUsed: 3 }

describe('suspend, of a membership', () => {
  test.each<[string, Given, string[]]>([
    ['frees seat and ownership', {}, ['membership.update suspended no seat', 'seats o -1', 'owners o -1']],
    [
      'of somebody who owns nothing',
      { user: plainMember() },
      ['membership.update suspended no seat', 'seats o -1'],
    ],
    [
      'of somebody without a seat',
      { user: membership({ seat: false }) },
      ['membership.update suspended no seat', 'owners o -1'],
    ],
    [
      'of a suspended user, who counts as no owner',
      { user: owner({ status: 'suspended' }), stored: { owners: 1 } },
      ['membership.update suspended no seat', 'seats o -1'],
    ],
    ['of a suspended one: nothing', { user: membership(suspended) }, ['nothing']],
    ['of the last owner: refused', { stored: { owners: 1 } }, ['last_owner']],
    ['of somebody who is no member: unknown', { user: user() }, ['user_unknown']],
    ['of nobody: unknown', { user: null }, ['user_unknown']],
  ])('%s', async (_, given, expected) => {
    expect(said(await ask('suspend', o, given))).toEqual(expected)
  })
})

describe('reactivate, of a membership', () => {
  const given = (parts: object = suspended) => ({ user: membership(parts) })
  test.each<[string, Given, string[]]>([
    [
      'takes a seat and counts the owner',
      given(),
      ['membership.update active seat', 'seats o 1', 'owners o 1'],
    ],
    [
      'the last free seat',
      { ...given(), stored: { seatLimit: 3, seatsUsed: 2 } },
      ['membership.update active seat', 'seats o 1', 'owners o 1'],
    ],
    ['no free seat: refused', { ...given(), stored: full }, ['seats_full']],
    [
      'an active one that waits for a seat gets it',
      given({ seat: false }),
      ['membership.update active seat', 'seats o 1'],
    ],
    ['an active one with its seat: nothing', { ...given({}), stored: full }, ['nothing']],
    ['no member: unknown', { user: user() }, ['user_unknown']],
  ])('%s', async (_, facts, expected) => {
    expect(said(await ask('reactivate', o, facts))).toEqual(expected)
  })
})

describe('suspend and reactivate, of a user', () => {
  const inTwo = (status: 'active' | 'suspended') => {
    const [first] = owner().memberships
    return user({ status, memberships: [{ ...first!, organization: 'p' }, first!] })
  }
  test('ends the sessions; seats stay, and every organization counts an owner less', async () => {
    expect(said(await ask('suspend', { user: 'u' }, { user: inTwo('active') }))).toEqual([
      'user.update status endSessions',
      'owners o -1',
      'owners p -1',
    ])
  })
  test('the last owner anywhere is refused', async () => {
    const given = { user: inTwo('active'), stored: { owners: 1 } }
    const refused = await ask('suspend', { user: 'u' }, given)
    expect(refused).toEqual({ refused: 'last_owner', why: expect.stringContaining('"o"') })
  })
  test('a suspended membership of an owner is not counted', async () => {
    const given = { user: membership(suspended), stored: { owners: 1 } }
    expect(said(await ask('suspend', { user: 'u' }, given))).toEqual(['user.update status endSessions'])
  })
  test('reactivated, they are counted again', async () => {
    expect(said(await ask('reactivate', { user: 'u' }, { user: inTwo('suspended') }))).toEqual([
      'user.update status',
      'owners o 1',
      'owners p 1',
    ])
  })
  test.each<[Verb & ('suspend' | 'reactivate'), UserFacts | null, string]>([
    ['suspend', user({ status: 'suspended' }), 'nothing'],
    ['reactivate', user(), 'nothing'],
    ['suspend', null, 'user_unknown'],
    ['reactivate', null, 'user_unknown'],
  ])('%s what is so already, or nobody', async (verb, who, expected) => {
    expect(said(await ask(verb, { user: 'u' }, { user: who }))).toEqual([expected])
  })
})

describe('remove and readmit', () => {
  test.each<[string, Given, string[]]>([
    [
      'ends membership and sessions, and leaves a tombstone',
      {},
      [
        'membership.remove',
        'tombstone.put',
        'removed.put',
        'user.update endSessions',
        'seats o -1',
        'owners o -1',
      ],
    ],
    [
      'of a suspended member frees nothing',
      { user: membership(suspended), stored: { owners: 1 } },
      ['membership.remove', 'tombstone.put', 'removed.put', 'user.update endSessions'],
    ],
    ['of the last owner: refused', { stored: { owners: 1 } }, ['last_owner']],
    ['of who was removed: nothing', { user: user({ tombstones: [stone(null)] }) }, ['nothing']],
    [
      'of who lost a role only and is no member: unknown',
      { user: user({ tombstones: [stone('admin')] }) },
      ['user_unknown'],
    ],
    [
      'of who was removed elsewhere: unknown',
      { user: user({ tombstones: [stone(null, 1, 'p')] }) },
      ['user_unknown'],
    ],
  ])('remove %s', async (_, given, expected) => {
    expect(said(await ask('remove', o, given))).toEqual(expected)
  })

  const both = user({ tombstones: [stone(null), stone('admin')] })
  test.each<[string, object, UserFacts | null, string[]]>([
    ['lifts the membership’s tombstone alone', {}, both, ['tombstone.remove']],
    ['lifts a role’s tombstone alone', { role: 'admin' }, both, ['tombstone.remove admin']],
    ['of another role: nothing', { role: 'viewer' }, both, ['nothing']],
    ['of a member: nothing', {}, owner(), ['nothing']],
    ['of who was never there: unknown', {}, user(), ['user_unknown']],
    [
      'of who was removed elsewhere: unknown',
      {},
      user({ tombstones: [stone(null, 1, 'p')] }),
      ['user_unknown'],
    ],
    ['of nobody: unknown', {}, null, ['user_unknown']],
  ])('readmit %s', async (_, more, who, expected) => {
    expect(said(await ask('readmit', { ...o, ...more }, { user: who }))).toEqual(expected)
  })

  test('remove leaves hashes of the organization, of each identity and of the proved address', async () => {
    const who = known({ memberships: plainMember().memberships })
    const result = await ask('remove', o, { user: who })
    if ('refused' in result || result.kind !== 'changed') throw new Error('not changed')
    expect(result.changes.ops.filter(({ op }) => op === 'removed.put')).toEqual(puts(who, 'o'))
    expect(result.changes.events.filter(({ detail }) => 'hash' in detail)).toMatchObject(
      Array(2).fill({ type: 'removed', user: 'u', organization: 'o' }),
    )
    const unproved = known({ ...who, verifiedEmail: null })
    expect(
      said(await ask('remove', o, { user: unproved })).filter((op) => op === 'removed.put'),
    ).toHaveLength(1)
  })

  test.each<[string, object, UserFacts, string, string[]]>([
    ['that was left under a former account', {}, user(), 'o', ['removed.remove']],
    ['with the tombstone', {}, both, 'o', ['removed.remove', 'tombstone.remove']],
    ['of a member', {}, owner(), 'o', ['removed.remove']],
    ['not with a role’s', { role: 'admin' }, both, 'o', ['tombstone.remove admin']],
    ['of another organization: unknown', {}, user(), 'p', ['user_unknown']],
  ])('readmit lifts the removal of the membership by hash, %s', async (_, more, who, from, expected) => {
    const removed = [{ hash: barOf('ann@o.example', from), at: 1000 }]
    expect(said(await ask('readmit', { ...o, ...more }, { user: who, removed }))).toEqual(expected)
  })
})

describe('A removal overtakes the invitations that wait for the same person', () => {
  const waiting = [
    invitation({ id: 'same', role: 'admin' }),
    invitation({ id: 'other-role', role: 'member' }),
    invitation({ id: 'elsewhere', organization: 'p', role: 'admin' }),
    invitation({ id: 'somebody', email: 'bob@o.example', role: 'admin' }),
  ]
  const withdrawn = async (result: ReturnType<typeof ask>) => {
    const done = await result
    if ('refused' in done || done.kind === 'nothing') throw new Error('nothing was done')
    return done.changes.ops.flatMap((op) => (op.op === 'invitation.withdraw' ? [op.id] : []))
  }
  const given = { user: plainMember(), invitations: waiting }

  test('of a membership: those of that organization', async () => {
    expect(await withdrawn(ask('remove', o, given))).toEqual(['same', 'other-role'])
  })
  test('of a role: those for that role', async () => {
    expect(await withdrawn(ask('revoke', { ...o, role: 'admin' }, given))).toEqual(['same'])
  })
  test('of an account: all of them', async () => {
    expect(await withdrawn(ask('removeUser', { user: 'u' }, given))).toEqual([
      'same',
      'other-role',
      'elsewhere',
    ])
  })
  test('and of nobody whose address is not proved', async () => {
    const unproved = { user: plainMember({ verifiedEmail: null }), invitations: waiting }
    expect(await withdrawn(ask('remove', o, unproved))).toEqual([])
  })
})

describe('grant', () => {
  test.each<[string, string, Given, string[]]>([
    ['a role', 'admin', { user: plainMember() }, ['grant.add admin manual', 'organization']],
    ['a role that SSO gives too', 'member', {}, ['grant.add member manual', 'organization']],
    [
      'a role that was taken away',
      'admin',
      { user: plainMember({ tombstones: [stone('admin'), stone('viewer')] }) },
      ['tombstone.remove admin', 'grant.add admin manual', 'organization'],
    ],
    ['ownership', 'owner', { user: plainMember() }, ['grant.add owner manual', 'organization', 'owners o 1']],
    [
      'ownership to a suspended member, who is not counted',
      'owner',
      { user: membership(suspended, plainMember()) },
      ['grant.add owner manual', 'organization'],
    ],
    [
      'ownership to an owner by invitation, who is counted',
      'owner',
      { user: user({ memberships: member(['owner', 'invitation:i', 'person']) }) },
      ['grant.add owner manual', 'organization'],
    ],
    ['what they have by hand: nothing', 'owner', {}, ['nothing']],
    [
      'a role above what policies may give',
      'admin',
      { user: plainMember(), organization: { assignable: ['member', 'viewer'] } },
      ['grant.add admin manual', 'organization'],
    ],
    ['a role that is not there', 'boss', {}, ['role_unknown']],
    ['in an organization that is not there', 'admin', { organization: null }, ['organization_unknown']],
    [
      'in a suspended organization',
      'admin',
      { organization: { status: 'suspended' }, stored: { status: 'suspended' } },
      ['organization_suspended'],
    ],
    [
      'where the store has another version',
      'admin',
      { stored: { version: 'newer' } },
      ['connection_changed'],
    ],
    ['to somebody who is no member', 'admin', { user: user() }, ['user_unknown']],
  ])('%s', async (_, role, given, expected) => {
    // The connection of these entries gives "member", so that a narrower ceiling stays a sound policy.
    const rules = given.organization ? { connection: { groups: {} } } : {}
    expect(said(await ask('grant', { ...o, role }, { ...rules, ...given }))).toEqual(expected)
  })
})

describe('revoke', () => {
  const twice = user({
    memberships: member(
      ['admin', 'sso:c', 'group'],
      ['admin', 'manual', 'person'],
      ['member', 'sso:c', 'default'],
    ),
  })
  test.each<[string, string, Given, string[]]>([
    [
      'a role from every source',
      'admin',
      { user: twice },
      ['grant.remove admin sso:c', 'grant.remove admin manual', 'tombstone.put admin'],
    ],
    ['ownership', 'owner', {}, ['grant.remove owner manual', 'tombstone.put owner', 'owners o -1']],
    ['ownership of the last: refused', 'owner', { stored: { owners: 1 } }, ['last_owner']],
    [
      'ownership of a suspended member',
      'owner',
      { user: membership(suspended), stored: { owners: 1 } },
      ['grant.remove owner manual', 'tombstone.put owner'],
    ],
    ['a role they do not have: sync shall not give it', 'viewer', {}, ['tombstone.put viewer']],
    [
      'a role that was taken away: nothing',
      'viewer',
      { user: owner({ tombstones: [stone('viewer')] }) },
      ['nothing'],
    ],
    [
      'a role given again by an invitation: its tombstone is there',
      'admin',
      { user: { ...twice, tombstones: [stone('admin')] } },
      ['grant.remove admin sso:c', 'grant.remove admin manual'],
    ],
    [
      'a role they have and that is gone from the organization',
      'old',
      { user: user({ memberships: member(['old', 'manual', 'person']) }) },
      ['grant.remove old manual', 'tombstone.put old'],
    ],
    ['a role that is not there', 'old', {}, ['role_unknown']],
    ['from somebody who is no member', 'admin', { user: user() }, ['user_unknown']],
  ])('%s', async (_, role, given, expected) => {
    expect(said(await ask('revoke', { ...o, role }, given))).toEqual(expected)
  })
})

describe('invite and withdraw', () => {
  const invite = (asked: object = {}, given: Given = {}) =>
    ask(
      'invite',
      { organization: 'o', email: 'Ann@O.example', role: 'admin', ...asked },
      { user: null, ...given },
    )

  test('is good for 14 days, or as long as said', async () => {
    const made = {
      op: 'invitation.create',
      id: 'fresh',
      organization: 'o',
      email: 'ann@o.example',
      role: 'admin',
    }
    expect(await invite()).toMatchObject({
      kind: 'changed',
      invitation: 'fresh',
      changes: {
        ops: [{ ...made, at: 2000, expiresAt: 2000 + 14 * day }],
        guards: [{ guard: 'organization' }],
        expect: [],
      },
    })
    expect(await invite({ expiresIn: 90 * day })).toMatchObject({
      changes: { ops: [{ expiresAt: 2000 + 90 * day }] },
    })
  })

  test.each<[string, InvitationFacts, Given, string]>([
    ['one that waits already', invitation(), {}, 'i'],
    ['one for another role', invitation({ role: 'member' }), {}, 'fresh'],
    ['one of another organization', invitation({ organization: 'p' }), {}, 'fresh'],
    ['one that has expired', invitation({ expiresAt: 2000 }), {}, 'fresh'],
    ['one for another address', invitation({ email: 'bob@o.example' }), {}, 'fresh'],
    [
      'one older than the removal of the membership',
      invitation(),
      { byVerifiedEmail: user({ tombstones: [stone(null)] }) },
      'fresh',
    ],
    [
      'one older than the removal of its role',
      invitation(),
      { byVerifiedEmail: user({ tombstones: [stone('admin')] }) },
      'fresh',
    ],
    [
      'one older than the removal of another role',
      invitation(),
      { byVerifiedEmail: user({ tombstones: [stone('viewer')] }) },
      'i',
    ],
    [
      'one newer than a removal',
      invitation(),
      { byVerifiedEmail: user({ tombstones: [stone(null, 499)] }) },
      'i',
    ],
    [
      'one older than the removal of the user',
      invitation(),
      { removed: [{ hash: emailHash(hash, 'ann@o.example'), at: 1000 }] },
      'fresh',
    ],
    [
      'one older than the removal of the membership of a former account',
      invitation(),
      { removed: [{ hash: barOf('ann@o.example'), at: 1000 }] },
      'fresh',
    ],
    [
      'one older than such a removal elsewhere',
      invitation(),
      { removed: [{ hash: barOf('ann@o.example', 'p'), at: 1000 }] },
      'i',
    ],
  ])('%s', async (_, waiting, given, expected) => {
    const result = await invite({}, { ...given, invitations: [waiting] })
    expect(result).toMatchObject({ kind: expected === 'i' ? 'nothing' : 'changed', invitation: expected })
  })

  test.each<[string, object, Given, string]>([
    ['a role that is not there', { role: 'boss' }, {}, 'role_unknown'],
    ['an organization that is not there', {}, { organization: null }, 'organization_unknown'],
    ['a suspended organization', {}, { stored: { status: 'suspended' } }, 'organization_suspended'],
    ['a stale directory', {}, { stored: { version: 'newer' } }, 'connection_changed'],
  ])('into %s: refused', async (_, asked, given, code) => {
    expect(said(await invite(asked, given))).toEqual([code])
  })

  test.each<[string, InvitationFacts[], string[]]>([
    ['one that is pending', [invitation()], ['invitation.withdraw']],
    ['one that has expired and was never taken', [invitation({ expiresAt: 1 })], ['invitation.withdraw']],
    ['one of another organization', [invitation({ organization: 'p' })], ['invitation_unknown']],
    ['none', [], ['invitation_unknown']],
  ])('withdraw %s', async (_, invitations, expected) => {
    const asked = { invitation: 'i', organization: 'o' }
    expect(said(await ask('withdraw', asked, { user: null, invitations }))).toEqual(expected)
  })
})

describe('accept', () => {
  const accept = (given: Given = {}, facts: Partial<InvitationFacts> = {}) =>
    ask(
      'accept',
      { invitation: 'i', user: 'u' },
      { user: user(), invitations: [invitation(facts)], ...given },
    )
  const joins = 'membership.create active seat'
  const gets = 'grant.add admin invitation:i'

  test.each<[string, Given, Partial<InvitationFacts>, string[]]>([
    ['joins with the role', {}, {}, [joins, gets, 'organization', 'seats o 1', 'invitation']],
    [
      'as an owner',
      {},
      { role: 'owner' },
      [joins, 'grant.add owner invitation:i', 'organization', 'seats o 1', 'owners o 1', 'invitation'],
    ],
    ['keeps the membership there is', { user: plainMember() }, {}, [gets, 'organization', 'invitation']],
    [
      'an owner gets no second count',
      { user: owner() },
      { role: 'owner' },
      ['grant.add owner invitation:i', 'organization', 'invitation'],
    ],
    [
      'lifts older removals of the membership and of its role',
      { user: user({ tombstones: [stone(null, 499), stone('admin', 499), stone('viewer', 499)] }) },
      {},
      ['tombstone.remove', 'tombstone.remove admin', joins, gets, 'organization', 'seats o 1', 'invitation'],
    ],
    [
      'not newer than the removal of the membership',
      { user: user({ tombstones: [stone(null, 500)] }) },
      {},
      ['invitation_unknown'],
    ],
    [
      'lifts an older removal of the membership of a former account',
      { removed: [{ hash: barOf('ann@o.example'), at: 499 }] },
      {},
      ['removed.remove', joins, gets, 'organization', 'seats o 1', 'invitation'],
    ],
    [
      'not newer than such a removal',
      { removed: [{ hash: barOf('ann@o.example'), at: 500 }] },
      {},
      ['invitation_unknown'],
    ],
    [
      'of a member, who was let in since',
      { user: plainMember(), removed: [{ hash: barOf('ann@o.example'), at: 500 }] },
      {},
      ['removed.remove', gets, 'organization', 'invitation'],
    ],
    [
      'not newer than the removal of its role',
      { user: plainMember({ tombstones: [stone('admin', 500)] }) },
      {},
      ['invitation_unknown'],
    ],
    [
      'newer removal of another role',
      { user: plainMember({ tombstones: [stone('viewer', 900)] }) },
      {},
      [gets, 'organization', 'invitation'],
    ],
    [
      'the last seat',
      { stored: { seatLimit: 3, seatsUsed: 2 } },
      {},
      [joins, gets, 'organization', 'seats o 1', 'invitation'],
    ],
    ['no seat: denied', { stored: full }, {}, ['seats_full']],
    [
      'no seat: joins without',
      { stored: full, organization: { whenFull: 'join-without-seat' } },
      {},
      ['membership.create active no seat', gets, 'organization', 'invitation'],
    ],
    [
      'no seat is needed by a member',
      { stored: full, user: plainMember() },
      {},
      [gets, 'organization', 'invitation'],
    ],
    [
      'accepted before: nothing',
      { user: user({ memberships: member(['admin', 'invitation:i', 'person']) }), invitations: [] },
      {},
      ['nothing'],
    ],
    ['expired at this moment', {}, { expiresAt: 2000 }, ['invitation_unknown']],
    [
      'good for a moment more',
      {},
      { expiresAt: 2001 },
      [joins, gets, 'organization', 'seats o 1', 'invitation'],
    ],
    ['for another address', {}, { email: 'bob@o.example' }, ['invitation_unknown']],
    [
      'for an address that is not proved',
      { user: user({ verifiedEmail: null }) },
      {},
      ['invitation_unknown'],
    ],
    ['another invitation', {}, { id: 'other' }, ['invitation_unknown']],
    ['none', { invitations: [] }, {}, ['invitation_unknown']],
    ['nobody', { user: null }, {}, ['user_unknown']],
    ['a suspended user', { user: user({ status: 'suspended' }) }, {}, ['user_suspended']],
    ['a suspended member', { user: membership(suspended) }, {}, ['membership_suspended']],
    ['a suspended organization', { stored: { status: 'suspended' } }, {}, ['organization_suspended']],
    ['a role that has gone', {}, { role: 'old' }, ['role_unknown']],
  ])('%s', async (_, given, facts, expected) => {
    expect(said(await accept(given, facts))).toEqual(expected)
  })

  test('a stranger learns nothing of its organization', async () => {
    const given = { stored: { status: 'suspended' as const }, user: user({ verifiedEmail: 'bob@o.example' }) }
    expect(said(await accept(given))).toEqual(['invitation_unknown'])
  })
})

describe('accounts', () => {
  test('removeUser ends everything, and leaves hashes of what is proved', async () => {
    const [first] = owner().memberships
    const who = known({
      memberships: [first!, { ...first!, organization: 'p' }],
      contactEmail: 'private@x.example',
    })
    const result = await ask('removeUser', { user: 'u' }, { user: who })
    expect(said(result)).toEqual([
      'user.remove',
      'removed.put',
      'removed.put',
      'seats o -1',
      'owners o -1',
      'seats p -1',
      'owners p -1',
    ])
    expect(result).toMatchObject({
      changes: {
        expect: [{ user: 'u', version: 3 }],
        ops: [
          {},
          { hash: identityHash(hash, who.identities[0]!), at: 2000 },
          { hash: emailHash(hash, 'ann@o.example'), at: 2000 },
        ],
      },
    })
  })
  test('removeUser and changeEmail lead around no suspended membership', async () => {
    const [first] = plainMember().memberships
    const memberships = [
      { ...first!, ...suspended },
      { ...first!, organization: 'p' },
    ]
    const who = known({ memberships })
    const bars = (result: Awaited<ReturnType<typeof ask>>) =>
      'refused' in result || result.kind !== 'changed'
        ? []
        : result.changes.ops.filter((op) => op.op === 'removed.put' && op.organization !== undefined)
    expect(bars(await ask('removeUser', { user: 'u' }, { user: who }))).toEqual(puts(who, 'o'))
    const email = 'new@o.example'
    const changed = await ask('changeEmail', { user: 'u', email }, { user: who })
    expect(bars(changed)).toEqual(puts({ ...who, identities: [] }, 'o'))
    const unproved = { ...who, verifiedEmail: null }
    expect(bars(await ask('changeEmail', { user: 'u', email }, { user: unproved }))).toEqual([])
  })
  test.each<[string, Given, string[]]>([
    ['without a proved address or an identity', { user: user({ verifiedEmail: null }) }, ['user.remove']],
    ['the last owner', { stored: { owners: 1 } }, ['last_owner']],
    ['nobody', { user: null }, ['user_unknown']],
  ])('removeUser %s', async (_, given, expected) => {
    expect(said(await ask('removeUser', { user: 'u' }, given))).toEqual(expected)
  })
  test('readmitUser lifts every hash of that removal', async () => {
    const given = { user: null, facts: { removed: ['a', 'b'] } }
    expect(said(await ask('readmitUser', { email: 'ann@o.example' }, given))).toEqual([
      'removed.remove',
      'removed.remove',
    ])
    expect(said(await ask('readmitUser', { email: 'ann@o.example' }, { user: null }))).toEqual(['nothing'])
  })

  test.each<[string, string, Given, string[]]>([
    ['to a free address', 'new@o.example', {}, ['user.update verifiedEmail contactEmail endSessions']],
    ['to their own: nothing', 'ANN@o.example', { byVerifiedEmail: user() }, ['nothing']],
    ['to another’s', 'bob@o.example', { byVerifiedEmail: user({ id: 'bob' }) }, ['email_taken']],
    ['of nobody', 'new@o.example', { user: null }, ['user_unknown']],
  ])('changeEmail %s', async (_, email, given, expected) => {
    expect(said(await ask('changeEmail', { user: 'u', email }, given))).toEqual(expected)
  })

  test.each<[string, Record<string, string | null>, Record<string, string> | 'nothing']>([
    ['sets and keeps', { title: 'Head' }, { name: 'Ann', title: 'Head' }],
    ['changes', { name: 'Anna' }, { name: 'Anna' }],
    ['clears', { name: null }, {}],
    ['what is so', { name: 'Ann', title: null }, 'nothing'],
    ['nothing', {}, 'nothing'],
  ])('update %s', async (_, attributes, expected) => {
    const result = await ask('update', { user: 'u', attributes })
    if (expected === 'nothing') return expect(said(result)).toEqual(['nothing'])
    if ('refused' in result || result.kind !== 'changed') throw new Error('not changed')
    expect(result.changes.ops).toEqual([{ op: 'user.update', id: 'u', set: { attributes: expected } }])
  })
  test('update of nobody, and beyond 64 attributes', async () => {
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`a${n}`, 'x']))
    expect(said(await ask('update', { user: 'u', attributes: {} }, { user: null }))).toEqual(['user_unknown'])
    expect(said(await ask('update', { user: 'u', attributes: many(63) }))).toEqual(['user.update attributes'])
    expect(said(await ask('update', { user: 'u', attributes: many(64) }))).toEqual(['request_invalid'])
  })

  const identity = { source: 'connection:c', issuer: 'https://idp.example', subject: 's' }
  test.each<[string, object, Given, string[]]>([
    ['an identity', {}, { user: known() }, ['identity.unlink', 'user.update endSessions']],
    ['another subject: nothing', { subject: 't' }, { user: known() }, ['nothing']],
    ['another issuer: nothing', { issuer: 'https://other.example' }, { user: known() }, ['nothing']],
    ['another source: nothing', { source: 'provider:c' }, { user: known() }, ['nothing']],
    ['of nobody', {}, { user: null }, ['user_unknown']],
  ])('unlink %s', async (_, more, given, expected) => {
    const asked = { user: 'u', identity: { ...identity, ...more } }
    expect(said(await ask('unlink', asked, given))).toEqual(expected)
  })
})

describe('connections', () => {
  const put = { op: 'connection.put', id: 'c', organization: 'o', version: 'new', enabled: false } as const
  test.each<['disableConnection' | 'enableConnection', string]>([
    ['disableConnection', 'suspended'],
    ['enableConnection', 'reactivated'],
  ])('%s writes its entry, and one event that names it', async (verb, type) => {
    const result = await ask(verb, { connection: 'c' }, { user: null, facts: { put } })
    expect(said(result)).toEqual(['connection.put'])
    expect(result).toMatchObject({
      changes: {
        events: [{ type, user: null, organization: 'o', actor: 'root', detail: { connection: 'c' }, seq: 0 }],
      },
    })
    expect(said(await ask(verb, { connection: 'c' }, { user: null }))).toEqual(['nothing'])
  })

  test.each<[string, { held?: string } | null, string[]]>([
    ['that is held', { held: 'too much' }, ['connection.hold']],
    ['that is not', {}, ['nothing']],
    ['that is not there', null, ['connection_unknown']],
  ])('releaseSync of one %s', async (_, storedConnection, expected) => {
    expect(said(await ask('releaseSync', { connection: 'c' }, { user: null, storedConnection }))).toEqual(
      expected,
    )
  })

  const adopter = (organization: string, id = 'd') => ({ ...sample, id, organization })
  const adopt = { adoptBy: 'd' }
  const deleting: [string, 'revoke' | { adoptBy: string }, Given, string[]][] = [
    ['that is disabled', 'revoke', {}, ['connection.remove']],
    ['that the directory no longer has', 'revoke', { connection: null }, ['connection.remove']],
    ['that is gone: nothing', 'revoke', { connection: null, storedConnection: null }, ['nothing']],
    ['that is enabled', 'revoke', { connection: { enabled: true } }, ['connection_enabled']],
    [
      'that was changed in the store',
      'revoke',
      { storedConnection: { version: 'newer' } },
      ['connection_changed'],
    ],
    [
      'adopted by one of the organization',
      adopt,
      { facts: { adopter: adopter('o') } },
      ['connection.remove'],
    ],
    [
      'adopted by one of another organization',
      adopt,
      { facts: { adopter: adopter('p') } },
      ['request_invalid'],
    ],
    ['adopted by itself', adopt, { facts: { adopter: adopter('o', 'c') } }, ['request_invalid']],
    ['adopted by one that is not there', adopt, {}, ['connection_unknown']],
  ]
  test.each(deleting)('deleteConnection of one %s', async (_, grants, given, expected) => {
    expect(
      said(await ask('deleteConnection', { connection: 'c', grants }, { user: null, ...given })),
    ).toEqual(expected)
  })
  test.each(deleting.filter(([, , , [first]]) => !['connection.remove', 'nothing'].includes(first!)))(
    'and nobody is taken from one %s either',
    async (_, grants, given, expected) => {
      expect(said(await disconnect(known(plainMember()), grants, given))).toEqual(expected)
    },
  )

  const disconnect = async (who: UserFacts | null, grants: Disconnect['grants'], given: Given = {}) =>
    administer(
      { verb: 'disconnect', user: 'u', connection: 'c', grants },
      await factsOf({ user: who, ...given }),
      acting,
    )
  const held = member(
    ['member', 'sso:c', 'default'],
    ['admin', 'sso:c', 'group'],
    ['viewer', 'manual', 'person'],
    ['admin', 'sso:d', 'group'],
  )
  test('revoke: what it gave goes, and its identities', async () => {
    const identities = [...known().identities, { ...known().identities[0]!, source: 'provider:c' as const }]
    expect(said(await disconnect(user({ memberships: held, identities }), 'revoke'))).toEqual([
      'grant.remove member sso:c',
      'grant.remove admin sso:c',
      'identity.unlink',
      'user.update endSessions',
    ])
  })
  test('adopt: what it gave is the other’s, each once and with its basis', async () => {
    const facts = { adopter: adopter('o') }
    const result = await disconnect(user({ memberships: held }), adopt, { facts })
    expect(said(result)).toEqual([
      'grant.remove member sso:c',
      'grant.remove admin sso:c',
      'grant.add member sso:d',
    ])
    expect(result).toMatchObject({ changes: { ops: [{}, {}, { basis: 'default' }] } })
  })
  test('adopt: not by a connection of another organization, even where its own is forgotten', async () => {
    const facts = { adopter: adopter('p') }
    const given = { connection: null, facts }
    expect(said(await disconnect(user({ memberships: held }), adopt, given))).toEqual(['request_invalid'])
  })
  test('ownership that it gave is counted, and the last stays', async () => {
    const who = user({ memberships: member(['owner', 'sso:c', 'group']) })
    expect(said(await disconnect(who, 'revoke'))).toEqual(['grant.remove owner sso:c', 'owners o -1'])
    expect(said(await disconnect(who, 'revoke', { stored: { owners: 1 } }))).toEqual(['last_owner'])
    const facts = { adopter: adopter('o') }
    expect(said(await disconnect(who, adopt, { stored: { owners: 1 }, facts }))).toEqual([
      'grant.remove owner sso:c',
      'grant.add owner sso:d',
    ])
  })
  test('nobody, and who has nothing of it: nothing', async () => {
    expect(said(await disconnect(null, 'revoke'))).toEqual(['nothing'])
    expect(said(await disconnect(user(), 'revoke'))).toEqual(['nothing'])
  })
})

test('every change expects the user’s version and names the acting person in each event', async () => {
  const result = await ask('remove', o)
  if ('refused' in result || result.kind !== 'changed') throw new Error('not changed')
  const { id, expect: expected, events } = result.changes
  expect([id, expected]).toEqual(['change', [{ user: 'u', version: 3 }]])
  expect(events.map(({ type }) => type)).toEqual(['left', 'removed', 'removed', 'updated'])
  const header = {
    actor: 'root',
    source: null,
    reason: 'administered',
    correlationId: 'correlation',
    at: 2000,
  }
  for (const event of events) expect(event).toMatchObject({ ...header, change: 'change', user: 'u' })
  const again = await ask('remove', o)
  expect(again).toEqual(result)
})

describe('what is malformed is refused before anything is read', () => {
  const good = { user: 'u', organization: 'o', by: 'root' }
  const refusal = (verb: Verb, asked: unknown) => {
    try {
      readCommand(verb, asked as never)
    } catch (error) {
      if (error instanceof JitError) return [error.code, error.message]
      throw error
    }
    return ['none', '']
  }
  test.each<[Verb, unknown, string]>([
    ['suspend', { ...good, by: undefined }, 'by'],
    ['suspend', { ...good, by: '' }, 'by'],
    ['suspend', { ...good, by: 'a\nb' }, 'by'],
    ['suspend', { ...good, user: '' }, 'user'],
    ['suspend', { ...good, user: ['u'] }, 'user'],
    ['suspend', { ...good, user: 'u\u0000' }, 'user'],
    ['suspend', { ...good, organization: { id: 'o' } }, 'organization'],
    ['suspend', { ...good, organization: undefined }, 'organization: it is there, but has no value'],
    ['readmit', { ...good, role: undefined }, 'role: it is there, but has no value'],
    ['remove', { user: 'u', by: 'root' }, 'organization'],
    ['remove', { ...good, role: 'admin' }, 'role'],
    ['remove', null, 'by'],
    [
      'invite',
      { organization: 'o', email: 'a@o.example', role: 'r', by: 'b', expiresIn: 90 * day + 1 },
      'expiresIn',
    ],
    ['invite', { organization: 'o', email: 'a@o.example', role: 'r', by: 'b', expiresIn: 0 }, 'expiresIn'],
    ['readmitUser', { by: 'root' }, 'email'],
    [
      'readmitUser',
      { by: 'root', email: 'a@o.example', identity: { source: 'provider:x', issuer: 'i', subject: 's' } },
      'email',
    ],
    [
      'unlink',
      { user: 'u', by: 'b', identity: { source: 'other:x', issuer: 'i', subject: 's' } },
      'identity.source',
    ],
    ['update', { user: 'u', by: 'b', attributes: { constructor: 'x' } }, 'attributes'],
    ['update', { user: 'u', by: 'b', attributes: { name: 7 } }, 'attributes.name'],
    ['update', { user: 'u', by: 'b', attributes: { name: 'x'.repeat(2049) } }, 'attributes.name'],
    ['update', { user: 'u', by: 'b', attributes: { name: 'a\u0000' } }, 'attributes.name'],
    ['deleteConnection', { connection: 'c', by: 'b' }, 'grants'],
    ['deleteConnection', { connection: 'c', by: 'b', grants: { adoptBy: '' } }, 'grants'],
  ])('%s %j', (verb, asked, named) => {
    const [code, message] = refusal(verb, asked)
    expect(code).toBe('request_invalid')
    expect(message).toContain(named)
  })
  test('an attribute named __proto__ is refused', () => {
    const asked = JSON.parse('{ "user": "u", "by": "b", "attributes": { "__proto__": "x" } }')
    expect(refusal('update', asked)[0]).toBe('request_invalid')
  })
  test.each(['not an address', 'a@localhost', 'ā@o.example', 'a@o.example '])('the address %j', (email) => {
    expect(refusal('changeEmail', { user: 'u', by: 'b', email })[0]).toBe('email_invalid')
    expect(refusal('changeEmail', { user: 'u', by: '', email })[0]).toBe('request_invalid')
  })
  test('the nearest that is not', () => {
    expect(refusal('suspend', good)).toEqual(['none', ''])
    expect(refusal('suspend', { user: 'u', by: 'root', correlationId: undefined })).toEqual(['none', ''])
    expect(refusal('update', { user: 'u', by: 'b', attributes: { name: 'x'.repeat(2048) } })).toEqual([
      'none',
      '',
    ])
    expect(refusal('deleteConnection', { connection: 'c', by: 'b', grants: 'revoke' })).toEqual(['none', ''])
  })
})
