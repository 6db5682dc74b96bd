import type { Acting, AdminFacts, Disconnect, Draft, Refused } from './administer.js'
import type { CommandOf } from './administer-command.js'
import { revocation } from './administer-members.js'
import { personHashes } from './audit.js'
import type { Operation } from './store.js'
import { suspensions } from './tombstones.js'

const unknown = (id: string): Refused => ({
  refused: 'connection_unknown',
  why: `there is no connection "${id}"`,
})

/** Switches a connection on or off; the store ends its sessions when it goes off. */
export function setEnabled(
  { verb, connection }: CommandOf<'enableConnection' | 'disableConnection'>,
  { put }: AdminFacts,
): Draft {
  if (put?.op !== 'connection.put') return { ops: [] }
  const type = verb === 'enableConnection' ? 'reactivated' : 'suspended'
  return { ops: [put], told: { type, organization: put.organization, detail: { connection } } }
}

/** Lets the sync of a connection go on. */
export function releaseSync(
  { connection: id }: CommandOf<'releaseSync'>,
  { snapshot }: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  if (!snapshot.connection) return unknown(id)
  return {
    ops: snapshot.connection.held === null ? [] : [{ op: 'connection.hold', id, held: null, at: now }],
  }
}

/** Removes a connection, once nobody has anything of it: see {@link disconnect}. */
export function deleteConnection(command: CommandOf<'deleteConnection'>, facts: AdminFacts): Draft | Refused {
  const { connection: id } = command
  return (
    obstacle(command, facts) ?? { ops: facts.snapshot.connection ? [{ op: 'connection.remove', id }] : [] }
  )
}

/** Takes from a user what they have of a connection: its identities, and its grants, which another may adopt. */
export function disconnect(command: Disconnect, facts: AdminFacts, { now }: Acting): Draft | Refused {
  const refused = obstacle(command, facts)
  if (refused) return refused
  const { connection: id } = command
  const { snapshot, adopter, hash } = facts
  const user = snapshot.byId
  if (!user) return { ops: [] }
  const ops: Operation[] = []
  const memberships = user.memberships.map((member) => {
    const { organization } = member
    const own = member.grants.filter(({ source }) => source === `sso:${id}`)
    const rest = member.grants.filter((grant) => !own.includes(grant))
    const because = adopter ? `adopted by sso:${adopter.id}` : `connection ${id} was deleted`
    const adopted = own
      .map((grant) => ({ ...grant, source: `sso:${adopter?.id}` as const }))
      .filter(
        ({ role, source }) => adopter && !rest.some((held) => held.role === role && held.source === source),
      )
    for (const { role, source } of own) ops.push(revocation(user.id, organization, role, source, because))
    for (const grant of adopted) {
      ops.push({ op: 'grant.add', user: user.id, organization, ...grant, at: now, because: `from sso:${id}` })
    }
    return { ...member, grants: [...rest, ...adopted] }
  })
  if (adopter && ops.some((op) => 'organization' in op && op.organization !== adopter.organization)) {
    return notOne(id, adopter.id)
  }
  const ended = user.identities.filter(({ source }) => source === `connection:${id}`)
  for (const identity of ended) ops.push({ op: 'identity.unlink', user: user.id, ...identity })
  // A connection that is made anew under this id counts its epochs from the start, and names the same people.
  if (ended.length > 0) {
    ops.push({ op: 'user.update', id: user.id, set: { endSessions: true } })
    ops.push(...suspensions(user, hash, personHashes(hash, ended, null), now))
  }
  return { user, after: { status: user.status, memberships }, ops }
}

/** Why a connection may not be deleted, or not in this way. */
function obstacle(
  { connection: id, grants }: Pick<Disconnect, 'connection' | 'grants'>,
  { snapshot, connection, adopter }: AdminFacts,
): Refused | null {
  const stored = snapshot.connection
  if (connection && stored && connection.version !== stored.version) {
    return { refused: 'connection_changed', why: `connection "${id}" is of another version in the store` }
  }
  if (connection?.enabled) {
    return { refused: 'connection_enabled', why: `connection "${id}" is enabled; disable it first` }
  }
  if (grants === 'revoke') return null
  if (!adopter) return unknown(grants.adoptBy)
  const elsewhere = connection && connection.organization !== adopter.organization
  return adopter.id === id || elsewhere ? notOne(id, adopter.id) : null
}

const notOne = (id: string, adopter: string): Refused => ({
  refused: 'request_invalid',
  why: `connection "${adopter}" cannot adopt the grants of "${id}": it is not another one of the same organization`,
})
