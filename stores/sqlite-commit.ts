import type { ChangeSet, Guard, Operation } from '../lib/index.js'
import { type Bindable, isForeignKey, isUnique, type Sql } from './sqlite-driver.js'
import { forgetConnection, giveUpDomains, keep } from './sqlite-entries.js'
import { record } from './sqlite-events.js'
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
  const hold = (last: boolean) => {
    for (const guard of changes.guards) {
      if ((guard.guard === 'unremoved') === last && !holds(sql, guard))
        throw new Miss({ kind: 'guard', guard })
    }
  }
  hold(false)
  giveUpDomains(sql, changes.ops)
  for (const op of changes.ops) {
    try {
      write(sql, op)
      if ('kept' in op && op.kept) keep(sql, op)
    } catch (error) {
      throw conflictOf(sql, error, op) ?? error
    }
  }
  hold(true)
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
    case 'unremoved': {
      const found = 'select 1 from jit_removed where hash in (select value from json_each(?))'
      return sql.all(found, JSON.stringify(guard.hashes)).length === 0
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
        `update jit_organizations set seats_used = seats_used - m.seat,
           owners = owners - (m.status = 'active' and u.status = 'active' and exists (select 1 from jit_grants
             where user_id = u.id and organization_id = m.organization_id and role = 'owner'))
         from jit_memberships m join jit_users u on u.id = m.user_id
         where m.user_id = ? and m.organization_id = jit_organizations.id`,
        op.id,
      )
      sql.run('delete from jit_memberships where user_id = ?', op.id)
      sql.run('delete from jit_identities where user_id = ?', op.id)
      return
    }
    case 'user.remove':
      for (const table of ['jit_identities', 'jit_memberships', 'jit_tombstones']) {
        sql.run(`delete from ${table} where user_id = ?`, op.id)
      }
      return one('user', sql.run('delete from jit_users where id = ?', op.id))
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
    case 'identity.assert': {
      const keep = `update jit_identities set digest = ?, asserted = ?
        where source = ? and issuer = ? and subject = ? and user_id = ?`
      const last = [op.digest, JSON.stringify(op.asserted)]
      return one('identity', sql.run(keep, ...last, op.source, op.issuer, op.subject, op.user))
    }
    case 'membership.create':
      sql.run(
        `insert into jit_memberships (user_id, organization_id, status, seat, joined_at)
         values (?, ?, ?, ?, ?)`,
        ...[op.user, op.organization, op.status, op.seat ? 1 : 0, op.at],
      )
      return
    case 'membership.update': {
      const update =
        'update jit_memberships set status = ?, seat = ? where user_id = ? and organization_id = ?'
      const changed = sql.run(update, op.status, op.seat ? 1 : 0, op.user, op.organization)
      return one('membership', changed)
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
    case 'tombstone.remove':
      sql.run(
        'delete from jit_tombstones where user_id = ? and organization_id = ? and role is ?',
        ...[op.user, op.organization, op.role],
      )
      return
    case 'removed.put':
      sql.run(
        `insert into jit_removed (hash, removed_at) values (?, ?)
         on conflict (hash) do update set removed_at = excluded.removed_at`,
        ...[op.hash, op.at],
      )
      return
    case 'removed.remove':
      sql.run(
        'delete from jit_removed where hash = ?1 and removed_at <= coalesce(?2, removed_at)',
        ...[op.hash, op.until ?? null],
      )
      return
    case 'invitation.create':
      sql.run(
        `insert into jit_invitations (id, organization_id, email, role, invited_at, expires_at)
         values (?, ?, ?, ?, ?, ?)`,
        ...[op.id, op.organization, op.email, op.role, op.at, op.expiresAt],
      )
      return
    case 'invitation.withdraw': {
      const withdraw = 'delete from jit_invitations where id = ? and organization_id = ? and taken_by is null'
      return one('invitation', sql.run(withdraw, op.id, op.organization))
    }
    case 'connection.hold': {
      const hold = `update jit_connections set held = ?1,
        released_at = case when held is not null and ?1 is null then ?2 else released_at end where id = ?3`
      return one('connection', sql.run(hold, op.held, op.at, op.id))
    }
    case 'connection.remove':
      sql.run('delete from jit_identities where source = ?', `connection:${op.id}`)
      forgetConnection(sql, op.id)
      return one('connection', sql.run('delete from jit_connections where id = ?', op.id))
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
    case 'connection.put': {
      const moved = 'select 1 from jit_connections where id = ? and organization_id <> ?'
      if (sql.all(moved, op.id, op.organization).length > 0) throw missedKey('connection')
      sql.run(
        `insert into jit_connections (id, organization_id, version, enabled) values (?, ?, ?, ?)
         on conflict (id) do update set version = excluded.version,
           enabled = excluded.enabled, epoch = epoch + (enabled > excluded.enabled)
         where (version, enabled) is not (excluded.version, excluded.enabled)`,
        ...[op.id, op.organization, op.version, op.enabled ? 1 : 0],
      )
      return
    }
    default:
      op satisfies never
      throw new Error(`unknown operation ${JSON.stringify(op)}`)
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
