import type { IdentityKey, Snapshot, Store } from '../lib/index.js'
import { type Ask, type Statement, statement } from './postgres-statement.js'

/**
 * The reads of users and organizations in the schema `s`, each one statement that answers with one JSON value.
 * Every condition is an index read.
 */

const userFields = `'id', u.id, 'version', u.version, 'status', u.status, 'epoch', u.epoch,
  'verifiedEmail', u.verified_email, 'contactEmail', u.contact_email, 'attributes', u.attributes`

const connectionFields = `'id', c.id, 'organization', c.organization_id, 'version', c.version,
  'enabled', c.enabled, 'epoch', c.epoch, 'held', c.held`

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
const factsSql = (s: string, organizations: string) => `json_build_object(${userFields},
  'identities', ${identities(s)},
  'memberships', ${memberships(s, `m.organization_id = any(${organizations}::text[])`)},
  'tombstones', (select coalesce(json_agg(
      json_build_object('organization', t.organization_id, 'role', t.role, 'at', t.removed_at)
      order by t.organization_id, t.role nulls first), '[]')
    from ${s}.jit_tombstones t where t.user_id = u.id and t.organization_id = any(${organizations}::text[])))`

const invitationRow = `json_build_object('id', v.id, 'organization', v.organization_id, 'email', v.email,
  'role', v.role, 'at', v.invited_at, 'expiresAt', v.expires_at)`

/** `load`, with a statement for each set of keys that a query gives: what it leaves out costs nothing. */
export function postgresLoad(ask: Ask, s: string): Store['load'] {
  const statements = new Map<string, Statement>()
  return ({ source, issuer, subject, email, organizations, user, invitation, hashes }) => {
    const identity = source && issuer && subject ? { source, issuer, subject } : {}
    const connection = source?.startsWith('connection:') ? source.slice('connection:'.length) : null
    const keys = { ...identity, connection, email, user, invitation, hashes }
    const given = Object.entries(keys).filter(([, value]) => (value ?? null) !== null)
    const kind = given.map(([key]) => key).join()
    const parameters = () => Object.fromEntries(given.map(([key], index) => [key, `$${index + 2}`]))
    const asked = statements.get(kind) ?? statement('load', loadSql(s, parameters()))
    statements.set(kind, asked)
    return ask<Snapshot>(asked, [organizations, ...given.map(([, value]) => value)])
  }
}

type Parameters = Partial<
  Record<keyof IdentityKey | 'connection' | 'email' | 'user' | 'invitation' | 'hashes', string>
>

/** Of organizations ($1) and of the keys that have a parameter. */
function loadSql(s: string, given: Parameters): string {
  const { source, issuer, subject, connection, email, user, invitation, hashes } = given
  const facts = factsSql(s, '$1')
  const one = (condition: string) => `(select ${facts} from ${s}.jit_users u where ${condition})`
  const list = (rows: string) => `(select coalesce(json_agg(${rows}), '[]')`
  const none = `'[]'::json`
  const identity = source && `i.source = ${source} and i.issuer = ${issuer} and i.subject = ${subject}`
  const invited = [...(email ? [`v.email = ${email}`] : []), ...(invitation ? [`v.id = ${invitation}`] : [])]
  return `select json_build_object(
    'byIdentity', ${
      identity
        ? `(select ${facts} from ${s}.jit_users u
            where u.id = (select i.user_id from ${s}.jit_identities i where ${identity}))`
        : 'null'
    },
    'asserted', ${identity ? `(select i.digest from ${s}.jit_identities i where ${identity})` : 'null'},
    'byId', ${user ? one(`u.id = ${user}`) : 'null'},
    'byVerifiedEmail', ${email ? one(`u.verified_email = ${email}`) : 'null'},
    'byContactEmail', ${
      email
        ? `${list(`${facts} order by u.id`)} from ${s}.jit_users u
            where u.verified_email is null and u.contact_email = ${email})`
        : none
    },
    'organizations', ${list(`json_build_object('id', o.id, 'version', o.version, 'status', o.status,
        'seatLimit', o.seat_limit, 'seatsUsed', o.seats_used, 'owners', o.owners) order by o.id`)}
      from ${s}.jit_organizations o where o.id = any(${hidden('$1')})),
    'connection', ${
      connection
        ? `(select json_build_object(${connectionFields}) from ${s}.jit_connections c where c.id = ${connection})`
        : 'null'
    },
    'invitations', ${
      invited.length > 0
        ? `${list(`${invitationRow} order by v.invited_at, v.id`)} from ${s}.jit_invitations v
            where v.taken_by is null and (${invited.join(' or ')}))`
        : none
    },
    'removed', ${
      hashes
        ? `${list(`json_build_object('hash', r.hash, 'at', r.removed_at) order by r.hash`)}
            from ${s}.jit_removed r where r.hash = any(${hidden(hashes)}))`
        : none
    }
  )::text as json`
}

/**
 * A list whose length the server cannot see. A plan for the known length would look cheaper to it than one for any,
 * and be made anew each time, which takes longer than the reads.
 */
const hidden = (parameter: string) => `(select ${parameter}::text[])::text[]`

export function userSql(s: string): string {
  return `select json_build_object(
    'user', json_build_object(${userFields}),
    'memberships', (select coalesce(json_agg(json_build_object(${membershipFields(s)},
        'organizationStatus', o.status) order by m.organization_id), '[]')
      from ${s}.jit_memberships m join ${s}.jit_organizations o on o.id = m.organization_id
      where m.user_id = u.id),
    'connections', (select coalesce(json_agg(json_build_object(${connectionFields}) order by c.id), '[]')
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
  return `select coalesce(json_agg(${invitationRow} order by v.id), '[]')::text as json
    from (select * from ${s}.jit_invitations where organization_id = $1 and taken_by is null and id > $2
      order by id limit $3::integer) v`
}

/** Of a source, with the facts of the organizations $2, after the issuer and subject in the JSON list $3. */
export function assertedSql(s: string): string {
  return `select coalesce(json_agg(json_build_object('identity', ${identityKey}, 'asserted', i.asserted,
      'user', ${factsSql(s, '$2')}) order by i.issuer, i.subject), '[]')::text as json
    from (select * from ${s}.jit_identities
      where source = $1 and asserted is not null and (issuer, subject) > ($3::jsonb->>0, $3::jsonb->>1)
      order by issuer, subject limit $4::integer) i
    join ${s}.jit_users u on u.id = i.user_id`
}
