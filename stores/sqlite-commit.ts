import type { ChangeSet, Guard, Operation } from '../lib/index.js'
import { type Bindable, isForeignKey, isUnique, type Sql } from './sqlite-driver.js'
import { giveUpDomains, keep } from './sqlite-entries.js'
import { Miss, missedKey } from './sqlite-miss.js'

/**
 * Carries out a change set inside a transaction of the caller's.
 * @throws Miss where a version, guard or key does not hold.
 */
export function apply(sql: Sql, changes: ChangeSet): void {
  for (const { user, version } of changes.expect) {
    const bump = 'update jit_users set version = version + 1 where id = ? and version = ?'
    if (sql.run(bump, user, version) === 0) throw new Miss({ kind: 'version', user })
  }
  for (const guard of changes.guards) if (!holds(sql, guard)) throw new Miss({ kind: 'guard', guard })
  giveUpDomains(sql, changes.ops)
  for (const op of changes.ops) {
    try {
      write(sql, op)
      if ('kept' in op && op.kept) keep(sql, op)
    } catch (error) {
      throw conflictOf(sql, error, op) ?? error
    }
  }
  if (changes.events.length > 0) record(sql, changes)
}

function holds(sql: Sql, guard: Guard): boolean {
  switch (guard.guard) {
    case 'organization': {
      const found = `select 1 from jit_organizations where id = ? and version = ? and status = 'active'`
      return sql.all(found, guard.id, guard.version).length > 0
    }
    case 'connection': {
      const found = 'select 1 from jit_connections where id = ? and version = ? and enabled'
      return sql.all(found, guard.id, guard.version).length > 0
    }
    case 'seats': {
      const take = `update jit_organizations set seats_used = seats_used + ?1
        where id = ?2 and (?1 <= 0 or seat_limit is null or seats_used + ?1 <= seat_limit)`
      return sql.run(take, guard.by, guard.organization) > 0
    }
    case 'owners': {
      const count = `update jit_organizations set owners = owners + ?1
        where id = ?2 and (?1 >= 0 or owners + ?1 >= 1)`
      return sql.run(count, guard.by, guard.organization) > 0
    }
    case 'invitation': {
      const take = 'update jit_invitations set taken_by = ? where id = ? and taken_by is null'
      return sql.run(take, guard.user, guard.id) > 0
    }
    default:
      guard satisfies never
      throw new Error(`unknown guard ${JSON.stringify(guard)}`)
  }
}

function write(sql: Sql, op: Operation): void {
  const one = (key: string, changed: number) => {
    if (changed === 0) throw missedKey(key)
  }
  switch (op.op) {
    case 'user.create':
      sql.run(
        `insert into jit_users (id, version, status, epoch, verified_email, contact_email, attributes, created_at)
         values (?, 1, ?, 0, ?, ?, ?, ?)`,
        ...[op.id, op.status, op.verifiedEmail, op.contactEmail, JSON.stringify(op.attributes), op.at],
      )
      return
    case 'user.update': {
      const { status, verifiedEmail, contactEmail, attributes, endSessions } = op.set
      const set: [string, Bindable][] = [['epoch = epoch + ?', endSessions ? 1 : 0]]
      if (status !== undefined) set.push(['status = ?', status])
      if (verifiedEmail !== undefined) set.push(['verified_email = ?', verifiedEmail])
      if (contactEmail !== undefined) set.push(['contact_email = ?', contactEmail])
      if (attributes !== undefined) set.push(['attributes = ?', JSON.stringify(attributes)])
      const columns = set.map(([column]) => column).join(', ')
      const values = set.map(([, value]) => value)
      return one('user', sql.run(`update jit_users set ${columns} where id = ?`, ...values, op.id))
    }
    case 'user.claim': {
      const claim = `update jit_users set verified_email = ?1, contact_email = ?1, epoch = epoch + 1 where id = ?2`
      one('user', sql.run(claim, op.verifiedEmail, op.id))
      sql.run(
        `update jit_organizations set seats_used = seats_used - 1,
           owners = owners - exists (select 1 from jit_grants
             where user_id = ?1 and organization_id = jit_organizations.id and role = 'owner')
         where id in (select organization_id from jit_memberships where user_id = ?1)`,
        op.id,
      )
      sql.run('delete from jit_memberships where user_id = ?', op.id)
      sql.run('delete from jit_identities where user_id = ?', op.id)
      return
    }
    case 'identity.link':
      sql.run(
        'insert into jit_identities (source, issuer, subject, user_id, linked_at) values (?, ?, ?, ?, ?)',
        ...[op.source, op.issuer, op.subject, op.user, op.at],
      )
      return
    case 'identity.unlink': {
      const unlink = `delete from jit_identities
        where source = ? and issuer = ? and subject = ? and user_id = ?`
      return one('identity', sql.run(unlink, op.source, op.issuer, op.subject, op.user))
    }
    case 'membership.create':
      sql.run(
        'insert into jit_memberships (user_id, organization_id, status, joined_at) values (?, ?, ?, ?)',
        ...[op.user, op.organization, op.status, op.at],
      )
      return
    case 'membership.update': {
      const update = 'update jit_memberships set status = ? where user_id = ? and organization_id = ?'
      return one('membership', sql.run(update, op.status, op.user, op.organization))
    }
    case 'membership.remove': {
      const remove = 'delete from jit_memberships where user_id = ? and organization_id = ?'
      return one('membership', sql.run(remove, op.user, op.organization))
    }
    case 'grant.add':
      sql.run(
        `insert into jit_grants (user_id, organization_id, role, source, basis, granted_at)
         values (?, ?, ?, ?, ?, ?)`,
        ...[op.user, op.organization, op.role, op.source, op.basis, op.at],
      )
      return
    case 'grant.remove': {
      const remove = `delete from jit_grants
        where user_id = ? and organization_id = ? and role = ? and source = ?`
      return one('grant', sql.run(remove, op.user, op.organization, op.role, op.source))
    }
    case 'tombstone.put':
      sql.run(
        `insert into jit_tombstones (user_id, organization_id, role, removed_at) values (?, ?, ?, ?)
         on conflict (user_id, organization_id, coalesce(role, '')) do update set removed_at = excluded.removed_at`,
        ...[op.user, op.organization, op.role, op.at],
      )
      return
    case 'invitation.create':
      sql.run(
        'insert into jit_invitations (id, organization_id, email, role, invited_at) values (?, ?, ?, ?, ?)',
        ...[op.id, op.organization, op.email, op.role, op.at],
      )
      return
    case 'organization.put':
      sql.run(
        `insert into jit_organizations (id, version, name, status, seat_limit) values (?, ?, ?, ?, ?)
         on conflict (id) do update set version = excluded.version, name = excluded.name,
           status = excluded.status, seat_limit = excluded.seat_limit
         where (version, name, status, seat_limit) is not
           (excluded.version, excluded.name, excluded.status, excluded.seat_limit)`,
        ...[op.id, op.version, op.name, op.status, op.seatLimit],
      )
      return
    case 'connection.put':
      sql.run(
        `insert into jit_connections (id, organization_id, version, enabled) values (?, ?, ?, ?)
         on conflict (id) do update set organization_id = excluded.organization_id,
           version = excluded.version, enabled = excluded.enabled, epoch = epoch + (enabled > excluded.enabled)
         where (organization_id, version, enabled) is not
           (excluded.organization_id, excluded.version, excluded.enabled)`,
        ...[op.id, op.organization, op.version, op.enabled ? 1 : 0],
      )
      return
    default:
      op satisfies never
      throw new Error(`unknown operation ${JSON.stringify(op)}`)
  }
}

function record(sql: Sql, { id, events }: ChangeSet): void {
  if (sql.all('select 1 from jit_events where change_id = ? limit 1', id).length > 0)
    throw missedKey('change')
  const [last] = sql.all<{ position: number | null }>('select max(position) as position from jit_events')
  const position = (last?.position ?? 0) + 1
  for (const event of events) {
    try {
      sql.run(
        `insert into jit_events (change_id, seq, position, type, at, user_id, organization_id, source,
           correlation_id, reason, detail) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[id, event.seq, position, event.type, event.at, event.user, event.organization, event.source],
        ...[event.correlationId, event.reason, JSON.stringify(event.detail)],
      )
    } catch (error) {
      throw isUnique(error) ? missedKey('change') : error
    }
  }
}

/** The conflict behind a refused constraint; SQLite names the column of a key, but not a reference. */
function conflictOf(sql: Sql, error: unknown, op: Operation): Miss | null {
  if (isUnique(error)) {
    const twice = op.op === 'user.create' && sql.all('select 1 from jit_users where id = ?', op.id).length > 0
    if (!twice && error.message.includes('verified_email')) return missedKey('verified-email')
    return missedKey(op.op.split('.')[0]!)
  }
  if (!isForeignKey(error)) return null
  switch (op.op) {
    case 'membership.create': {
      const known = sql.all('select 1 from jit_users where id = ?', op.user).length > 0
      return missedKey(known ? 'organization' : 'user')
    }
    case 'grant.add':
      return missedKey('membership')
    case 'invitation.create':
    case 'connection.put':
      return missedKey('organization')
    default:
      return missedKey('user')
  }
}
