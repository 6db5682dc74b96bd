import type { Acting, AdminFacts, Draft, Refused } from './administer.js'
import type { CommandOf } from './administer-command.js'
import { overtaken } from './administer-members.js'
import { emailHash, personHashes } from './audit.js'
import { identityLimits } from './identity.js'
import type { Operation } from './store.js'
import { suspensions } from './tombstones.js'

const nobody: Refused = { refused: 'user_unknown', why: 'there is no such user' }

/** Suspends the whole account or lets it in again. */
export function setStatus(
  { verb }: CommandOf<'suspend' | 'reactivate'>,
  { snapshot }: AdminFacts,
): Draft | Refused {
  const user = snapshot.byId
  if (!user) return nobody
  const status = verb === 'suspend' ? 'suspended' : 'active'
  if (user.status === status) return { ops: [] }
  const set = { status, ...(status === 'suspended' && { endSessions: true as const }) } as const
  return { user, after: { ...user, status }, ops: [{ op: 'user.update', id: user.id, set }] }
}

/**
 * Ends the account, and leaves hashes of its identities and address by which no policy makes it anew. What a person
 * took away or suspended of its memberships stays away even where the account is made again.
 */
export function removeUser({ snapshot, hash }: AdminFacts, { now }: Acting): Draft | Refused {
  const user = snapshot.byId
  if (!user) return nobody
  const hashes = personHashes(hash, user.identities, user.verifiedEmail)
  return {
    user,
    after: { status: user.status, memberships: [] },
    ops: [
      { op: 'user.remove', id: user.id },
      ...hashes.map((entry): Operation => ({ op: 'removed.put', hash: entry, at: now })),
      ...suspensions(user, hash, hashes, now),
      ...overtaken(snapshot, () => true),
    ],
  }
}

/** Lets a removed user's identities and address make an account again. */
export function readmitUser({ removed }: AdminFacts): Draft {
  return { ops: removed.map((hash) => ({ op: 'removed.remove', hash })) }
}

/** Takes an address for verified on the operator's word. The old one leads around no suspended membership. */
export function changeEmail(
  { email }: CommandOf<'changeEmail'>,
  { snapshot, hash }: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  const user = snapshot.byId
  if (!user) return nobody
  if (user.verifiedEmail === email) return { ops: [] }
  if (snapshot.byVerifiedEmail) {
    return { refused: 'email_taken', why: `user "${snapshot.byVerifiedEmail.id}" has that address` }
  }
  const set = { verifiedEmail: email, contactEmail: email, endSessions: true } as const
  const old = user.verifiedEmail === null ? [] : [emailHash(hash, user.verifiedEmail)]
  return { user, ops: [{ op: 'user.update', id: user.id, set }, ...suspensions(user, hash, old, now)] }
}

/** Sets the attributes that are named, and clears those that are named with null. */
export function update({ attributes }: CommandOf<'update'>, { snapshot }: AdminFacts): Draft | Refused {
  const user = snapshot.byId
  if (!user) return nobody
  const after = new Map(Object.entries(user.attributes))
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) after.delete(name)
    else after.set(name, value)
  }
  if (after.size > identityLimits.attributes) {
    return { refused: 'request_invalid', why: `a user has ${identityLimits.attributes} attributes at most` }
  }
  const same = Object.entries(attributes).every(([name, value]) => (user.attributes[name] ?? null) === value)
  const set = { attributes: Object.fromEntries(after) }
  return { user, ops: same ? [] : [{ op: 'user.update', id: user.id, set }] }
}

/** Takes a way in away, and ends the sessions. It leads around no suspended membership. */
export function unlink(
  { identity }: CommandOf<'unlink'>,
  { snapshot, hash }: AdminFacts,
  { now }: Acting,
): Draft | Refused {
  const user = snapshot.byId
  if (!user) return nobody
  const { source, issuer, subject } = identity
  const linked = user.identities.some(
    (entry) => entry.source === source && entry.issuer === issuer && entry.subject === subject,
  )
  if (!linked) return { ops: [] }
  return {
    user,
    ops: [
      { op: 'identity.unlink', user: user.id, source, issuer, subject },
      { op: 'user.update', id: user.id, set: { endSessions: true } },
      ...suspensions(user, hash, personHashes(hash, [identity], null), now),
    ],
  }
}
