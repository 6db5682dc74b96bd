import * as accounts from './administer-accounts.js'
import type { Command } from './administer-command.js'
import * as connections from './administer-connections.js'
import * as invitations from './administer-invitations.js'
import * as members from './administer-members.js'
import { type AuditEvent, eventsOf, type Hash } from './audit.js'
import type { ErrorCode } from './errors.js'
import { type Connection, type Organization, ownerRole } from './policy.js'
import type {
  ChangeSet,
  Guard,
  InvitationFacts,
  Membership,
  Operation,
  OrganizationFacts,
  Snapshot,
  UserFacts,
  UserStatus,
} from './store.js'

export interface AdminFacts {
  /** With the user by id, in the organization in question, else in all of theirs. */
  readonly snapshot: Snapshot
  /** As the directory has them: the organization or the connection in question, and who adopts its grants. */
  readonly organization: Organization | null
  readonly connection: Connection | null
  readonly adopter: Connection | null
  /** What switches the connection on or off; null where it is so already. */
  readonly put: Operation | null
  /** Hashes that were put together with the one in question, when a user was removed. */
  readonly removed: readonly string[]
  /** Hashes by which the organization ever kept the user out, by an address that is no longer theirs perhaps. */
  readonly told: readonly string[]
  readonly hash: Hash
}

/** Who acts, and what is made afresh for it. */
export interface Acting {
  readonly by: string
  readonly correlationId: string
  /** Milliseconds since the epoch. */
  readonly now: number
  readonly ids: { readonly change: string; readonly invitation: string }
}

/** Why something cannot be done; `why` is for the operator. */
export interface Refused {
  readonly refused: ErrorCode
  readonly why: string
}

/** What is to be done; without operations, it is so already. */
export interface Draft {
  readonly ops: readonly Operation[]
  /** The user as they are, and what will be of them: seats and owners are counted by the difference. */
  readonly user?: UserFacts
  readonly after?: Counted
  /** Of which the roles or rules were used: it must still be this one. */
  readonly policy?: Organization
  readonly accepts?: InvitationFacts
  /** The invitation that was made, or is there already. */
  readonly invitation?: string
  /** A fact that no operation tells. */
  readonly told?: Pick<AuditEvent, 'type' | 'organization' | 'detail'>
}

export interface Counted {
  readonly status: UserStatus
  readonly memberships: readonly Membership[]
}

export type Administered = (
  | { readonly kind: 'changed'; readonly changes: ChangeSet }
  | { readonly kind: 'nothing' }
) & { readonly invitation: string | null }

/** Takes one user from a connection that is being deleted, or nobody, to learn whether it may be. */
export interface Disconnect {
  readonly verb: 'disconnect'
  readonly user: string | null
  readonly connection: string
  readonly grants: 'revoke' | { readonly adoptBy: string }
}

/** What an administrator's command comes to. Pure: the same facts give the same change set. */
export function administer(
  command: Command | Disconnect,
  facts: AdminFacts,
  acting: Acting,
): Administered | Refused {
  const draft = draftOf(command, facts, acting)
  if ('refused' in draft) return draft
  const { ops, policy, accepts, told, invitation = null } = draft
  if (ops.length === 0) return { kind: 'nothing', invitation }
  const counters = countersOf(draft, facts.snapshot.organizations)
  if ('refused' in counters) return counters
  const guards: Guard[] = [
    ...(policy ? [{ guard: 'organization', id: policy.id, version: policy.version } as const] : []),
    ...counters.guards,
    ...(accepts ? [{ guard: 'invitation', id: accepts.id, user: draft.user!.id } as const] : []),
  ]
  const { user } = draft
  const header = {
    change: acting.ids.change,
    at: acting.now,
    source: null,
    actor: acting.by,
    correlationId: acting.correlationId,
    user: user?.id ?? null,
    organization: accepts?.organization ?? null,
    reason: 'administered',
  } as const
  const events = eventsOf({ ...header, trace: [] }, { ops, guards }, facts.hash, user ? [user] : [])
  if (told) events.push({ ...header, seq: events.length, user: null, ...told })
  return {
    kind: 'changed',
    invitation,
    changes: {
      id: acting.ids.change,
      expect: user ? [{ user: user.id, version: user.version }] : [],
      guards,
      ops,
      events,
    },
  }
}

function draftOf(command: Command | Disconnect, facts: AdminFacts, acting: Acting): Draft | Refused {
  switch (command.verb) {
    case 'suspend':
    case 'reactivate':
      return command.organization === undefined
        ? accounts.setStatus(command, facts)
        : members.setStatus({ ...command, organization: command.organization }, facts)
    case 'remove':
      return members.remove(command, facts, acting)
    case 'readmit':
      return members.readmit(command, facts)
    case 'grant':
      return members.grant(command, facts, acting)
    case 'revoke':
      return members.revoke(command, facts, acting)
    case 'invite':
      return invitations.invite(command, facts, acting)
    case 'withdraw':
      return invitations.withdraw(command, facts)
    case 'accept':
      return invitations.accept(command, facts, acting)
    case 'removeUser':
      return accounts.removeUser(facts, acting)
    case 'readmitUser':
      return accounts.readmitUser(facts)
    case 'changeEmail':
      return accounts.changeEmail(command, facts, acting)
    case 'update':
      return accounts.update(command, facts)
    case 'unlink':
      return accounts.unlink(command, facts, acting)
    case 'enableConnection':
    case 'disableConnection':
      return connections.setEnabled(command, facts)
    case 'releaseSync':
      return connections.releaseSync(command, facts, acting)
    case 'deleteConnection':
      return connections.deleteConnection(command, facts)
    case 'disconnect':
      return connections.disconnect(command, facts, acting)
    default:
      return command satisfies never
  }
}

/**
 * Guards for what a change takes or frees, by organization in the order of their ids. Owners are active users with
 * an active membership and a grant of the owner role.
 */
function countersOf(
  { user, after }: Draft,
  organizations: readonly OrganizationFacts[],
): { readonly guards: readonly Guard[] } | Refused {
  if (!user || !after) return { guards: [] }
  const guards: Guard[] = []
  const ids = new Set([...user.memberships, ...after.memberships].map(({ organization }) => organization))
  for (const organization of [...ids].sort()) {
    const now = standing(user, organization)
    const then = standing(after, organization)
    const stored = organizations.find(({ id }) => id === organization)
    const seats = then.seats - now.seats
    const owners = then.owners - now.owners
    if (seats > 0 && stored?.seatLimit != null && stored.seatsUsed >= stored.seatLimit) {
      return { refused: 'seats_full', why: `all ${stored.seatLimit} seats of "${organization}" are taken` }
    }
    if (owners < 0 && stored && stored.owners <= 1) {
      return { refused: 'last_owner', why: `"${organization}" would be left without an owner` }
    }
    if (seats !== 0) guards.push({ guard: 'seats', organization, by: seats })
    if (owners !== 0) guards.push({ guard: 'owners', organization, by: owners })
  }
  return { guards }
}

function standing({ status, memberships }: Counted, organization: string) {
  const member = memberships.find((entry) => entry.organization === organization)
  const owns =
    status === 'active' &&
    member?.status === 'active' &&
    member.grants.some((grant) => grant.role === ownerRole)
  return { seats: member?.seat ? 1 : 0, owners: owns ? 1 : 0 }
}
