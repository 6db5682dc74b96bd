/**
 * The reads of users and organizations in the schema `s`, each one statement that answers with one JSON value.
 * Every condition is an index read, and a parameter that is null matches nothing.
 */

const userFields = `'id', u.id, 'version', u.version, 'status', u.status, 'epoch', u.epoch,
  'verifiedEmail', u.verified_email, 'contactEmail', u.contact_email, 'attributes', u.attributes`

const connectionFields = `'id', c.id, 'version', c.version, 'enabled', c.enabled, 'epoch', c.epoch,
  'held', c.held`

const membershipFields = (
  s: string,
) => `'organization', m.organization_id, 'status', m.status, 'seat', m.seat,
  'grants', (select coalesce(json_agg(
      json_build_object('role', g.role, 'source', g.source, 'basis', g.basis) order by g.role, g.source), '[]')
    from ${s}.jit_grants g where g.user_id = m.user_id and g.organization_id = m.organization_id)`

const identityKey = `json_build_object('source', i.source, 'issuer', i.issuer, 'subject', i.subject)`

const identities = (s: string) => `(select coalesce(json_agg(${identityKey}
    order by i.source, i.issuer, i.subject), '[]')
  from ${s}.jit_identities i where i.user_id = u.id)`

const memberships = (s: string, condition = 'true') => `(select coalesce(json_agg(
    json_build_object(${membershipFields(s)}) order by m.organization_id), '[]')
  from ${s}.jit_memberships m where m.user_id = u.id and ${condition})`

/** A user `u` with memberships and tombstones of the organizations of a parameter. */
const facts = (s: string, organizations: string) => `json_build_object(${userFields},
  'identities', ${identities(s)},
  'memberships', ${memberships(s, `m.organization_id = any(${organizations}::text[])`)},
  'tombstones', (select coalesce(json_agg(
      json_build_object('organization', t.organization_id, 'role', t.role, 'at', t.removed_at)
      order by t.organization_id, t.role nulls first), '[]')
    from ${s}.jit_tombstones t where t.user_id = u.id and t.organization_id = any(${organizations}::text[])))`

const invitation = `json_build_object('id', v.id, 'organization', v.organization_id, 'email', v.email,
  'role', v.role, 'at', v.invited_at, 'expiresAt', v.expires_at)`

/** Of an identity ($1, $2, $3), an address, organizations, a connection, a user, an invitation and hashes. */
export function loadSql(s: string): string {
  const user = (condition: string) => `(select ${facts(s, '$5')} from ${s}.jit_users u where ${condition})`
  return `select json_build_object(
    'byIdentity', (select ${facts(s, '$5')} from ${s}.jit_identities k join ${s}.jit_users u on u.id = k.user_id
      where k.source = $1 and k.issuer = $2 and k.subject = $3),
    'asserted', (select digest from ${s}.jit_identities where source = $1 and issuer = $2 and subject = $3),
    'byId', ${user('u.id = $7')},
    'byVerifiedEmail', ${user('u.verified_email = $4')},
    'byContactEmail', (select coalesce(json_agg(${facts(s, '$5')} order by u.id), '[]') from ${s}.jit_users u
      where u.verified_email is null and u.contact_email = $4),
    'organizations', (select coalesce(json_agg(json_build_object('id', o.id, 'version', o.version,
        'status', o.status, 'seatLimit', o.seat_limit, 'seatsUsed', o.seats_used, 'owners', o.owners)
        order by o.id), '[]')
      from ${s}.jit_organizations o where o.id = any($5::text[])),
    'connection', (select json_build_object(${connectionFields}) from ${s}.jit_connections c where c.id = $6),
    'invitations', (select coalesce(json_agg(${invitation} order by v.invited_at, v.id), '[]')
      from ${s}.jit_invitations v where v.taken_by is null and (v.email = $4 or v.id = $8)),
    'removed', (select coalesce(json_agg(json_build_object('hash', r.hash, 'at', r.removed_at) order by r.hash),
        '[]')
      from ${s}.jit_removed r where r.hash = any($9::text[]))
  )::text as json`
}

export function userSql(s: string): string {
  return `select json_build_object(
    'user', json_build_object(${userFields}),
    'memberships', (select coalesce(json_agg(json_build_object(${membershipFields(s)},
        'organizationStatus', o.status) order by m.organization_id), '[]')
      from ${s}.jit_memberships m join ${s}.jit_organizations o on o.id = m.organization_id
      where m.user_id = u.id),
    'connections', (select coalesce(json_agg(json_build_object(${connectionFields},
        'organization', c.organization_id) order by c.id), '[]')
      from ${s}.jit_connections c where c.id in (
        select substr(i.source, 12) from ${s}.jit_identities i
        where i.user_id = u.id and i.source like 'connection:%'))
  )::text as json from ${s}.jit_users u where u.id = $1`
}

export function usersSql(s: string): string {
  return `select coalesce(json_agg(json_build_object(${userFields}, 'identities', ${identities(s)},
      'memberships', ${memberships(s)}) order by u.id), '[]')::text as json
    from (select * from ${s}.jit_users where id > $1 order by id limit $2::integer) u`
}

export function invitationsSql(s: string): string {
  return `select coalesce(json_agg(${invitation} order by v.id), '[]')::text as json
    from (select * from ${s}.jit_invitations where organization_id = $1 and taken_by is null and id > $2
      order by id limit $3::integer) v`
}

/** Of a source, with the facts of the organizations $2, after the issuer and subject in the JSON list $3. */
export function assertedSql(s: string): string {
  return `select coalesce(json_agg(json_build_object('identity', ${identityKey}, 'asserted', i.asserted,
      'user', ${facts(s, '$2')}) order by i.issuer, i.subject), '[]')::text as json
    from (select * from ${s}.jit_identities
      where source = $1 and asserted is not null and (issuer, subject) > ($3::jsonb->>0, $3::jsonb->>1)
      order by issuer, subject limit $4::integer) i
    join ${s}.jit_users u on u.id = i.user_id`
}
