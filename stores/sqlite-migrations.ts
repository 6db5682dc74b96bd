/**
 * The schema in SQLite, one step after another; step n brings a file from version n - 1 to n. Steps are only
 * ever added. Times are in milliseconds since the epoch.
 */
export const migrations: readonly string[] = [
  `
  create table jit_migrations (
    version integer primary key,
    applied_at integer not null
  ) strict;

  create table jit_organizations (
    id text primary key,
    version text not null,
    name text not null,
    status text not null check (status in ('active', 'suspended')),
    seat_limit integer,
    seats_used integer not null default 0,
    owners integer not null default 0
  ) strict, without rowid;

  create table jit_connections (
    id text primary key,
    organization_id text not null references jit_organizations (id),
    version text not null,
    enabled integer not null,
    epoch integer not null default 0
  ) strict, without rowid;

  create table jit_users (
    id text primary key,
    version integer not null,
    status text not null check (status in ('active', 'suspended')),
    epoch integer not null,
    verified_email text,
    contact_email text,
    attributes text not null,
    created_at integer not null
  ) strict, without rowid;
  create unique index jit_users_verified_email_key on jit_users (verified_email)
    where verified_email is not null;
  create index jit_users_contact_email_idx on jit_users (contact_email)
    where verified_email is null;

  create table jit_identities (
    source text not null,
    issuer text not null,
    subject text not null,
    user_id text not null references jit_users (id),
    linked_at integer not null,
    primary key (source, issuer, subject)
  ) strict, without rowid;
  create index jit_identities_user_idx on jit_identities (user_id);

  create table jit_memberships (
    user_id text not null references jit_users (id),
    organization_id text not null references jit_organizations (id),
    status text not null check (status in ('active', 'suspended')),
    joined_at integer not null,
    primary key (user_id, organization_id)
  ) strict, without rowid;

  create table jit_grants (
    user_id text not null,
    organization_id text not null,
    role text not null,
    source text not null,
    basis text not null,
    granted_at integer not null,
    primary key (user_id, organization_id, role, source),
    foreign key (user_id, organization_id) references jit_memberships on delete cascade
  ) strict, without rowid;

  -- Of an organization that need not exist any more.
  create table jit_tombstones (
    user_id text not null references jit_users (id),
    organization_id text not null,
    role text,
    removed_at integer not null
  ) strict;
  create unique index jit_tombstones_key on jit_tombstones (user_id, organization_id, coalesce(role, ''));

  create table jit_invitations (
    id text primary key,
    organization_id text not null references jit_organizations (id),
    email text not null,
    role text not null,
    invited_at integer not null,
    taken_by text
  ) strict, without rowid;

  -- All events of a change share its position, which gives the order of changes.
  create table jit_events (
    change_id text not null,
    seq integer not null,
    position integer not null,
    type text not null,
    at integer not null,
    user_id text,
    organization_id text,
    source text,
    correlation_id text not null,
    reason text not null,
    detail text not null,
    primary key (change_id, seq)
  ) strict, without rowid;
  create index jit_events_position_idx on jit_events (position);
  `,
  `
  -- Whole organizations and connections, beside the tables that every sign-in reads, so that these stay narrow.
  create table jit_entries (
    kind text not null check (kind in ('organization', 'connection')),
    id text not null,
    organization_id text not null references jit_organizations (id),
    version text not null,
    entry text not null,
    position integer not null,
    primary key (kind, id)
  ) strict;
  create index jit_entries_organization_idx on jit_entries (organization_id);
  create index jit_entries_position_idx on jit_entries (position);

  create table jit_domains (
    pattern text primary key,
    organization_id text not null references jit_organizations (id)
  ) strict, without rowid;
  create index jit_domains_organization_idx on jit_domains (organization_id);
  `,
  `
  alter table jit_memberships add column seat integer not null default 0;
  update jit_memberships set seat = 1 where status = 'active';
  update jit_organizations set seats_used = 0, owners = 0;
  update jit_organizations set seats_used = counted.seats, owners = counted.owners
    from (
      select m.organization_id, sum(m.seat) as seats,
        sum(m.status = 'active' and u.status = 'active' and exists (
          select 1 from jit_grants g
            where g.user_id = m.user_id and g.organization_id = m.organization_id and g.role = 'owner')) as owners
      from jit_memberships m join jit_users u on u.id = m.user_id group by m.organization_id
    ) counted where counted.organization_id = jit_organizations.id;

  -- What the identity asserted last, and its digest.
  alter table jit_identities add column digest text;
  alter table jit_identities add column asserted text;

  -- Why its sync is held, and when a hold of it was last let go.
  alter table jit_connections add column held text;
  alter table jit_connections add column released_at integer;
  create index jit_grants_sso_idx on jit_grants (source) where substr(source, 1, 4) = 'sso:';

  -- Those from before never lapse, which is the last moment that a date can hold.
  alter table jit_invitations add column expires_at integer not null default 8640000000000000;
  create index jit_invitations_email_idx on jit_invitations (email) where taken_by is null;
  create index jit_invitations_organization_idx on jit_invitations (organization_id, id) where taken_by is null;

  -- Removed users, by keyed hashes of their identities and addresses.
  create table jit_removed (
    hash text primary key,
    removed_at integer not null
  ) strict, without rowid;

  create table jit_hash_key (
    one integer primary key check (one = 1),
    key text not null
  ) strict;

  -- A connection that is gone leaves a row without its entry, so that others learn that it changed.
  create table jit_entries_next (
    kind text not null check (kind in ('organization', 'connection', 'removed')),
    id text not null,
    organization_id text not null references jit_organizations (id),
    version text not null,
    entry text not null,
    position integer not null,
    primary key (kind, id)
  ) strict;
  insert into jit_entries_next select kind, id, organization_id, version, entry, position from jit_entries;
  drop table jit_entries;
  alter table jit_entries_next rename to jit_entries;
  create index jit_entries_organization_idx on jit_entries (organization_id);
  create index jit_entries_position_idx on jit_entries (position);

  create table jit_seals (
    number integer primary key,
    previous text not null,
    hash text not null,
    at integer not null
  ) strict;

  -- Every change that has events, with the seal it is under and its place there.
  create table jit_changes (
    position integer primary key,
    id text not null unique,
    seal integer references jit_seals (number),
    place integer
  ) strict;
  insert into jit_changes (position, id) select min(position), change_id from jit_events group by change_id;
  create index jit_changes_unsealed_idx on jit_changes (position) where seal is null;
  create unique index jit_changes_sealed_idx on jit_changes (seal, place) where seal is not null;

  alter table jit_events add column actor text;
  create index jit_events_user_idx on jit_events (user_id, position) where user_id is not null;
  create index jit_events_organization_idx on jit_events (organization_id, position)
    where organization_id is not null;
  create index jit_events_source_idx on jit_events (source, position) where source is not null;
  create index jit_events_at_idx on jit_events (at);
  create index jit_events_synced_off_idx on jit_events (at) where type = 'revoked' and actor is null;

  -- In the order of their ids they follow the seals and the places in them.
  create table jit_deliveries (
    id integer primary key,
    endpoint text not null,
    change_id text not null references jit_changes (id),
    subject text not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'dead')),
    attempts integer not null default 0,
    due_at integer not null,
    log text not null default '[]',
    unique (endpoint, change_id)
  ) strict;
  create index jit_deliveries_pending_idx on jit_deliveries (endpoint) where state = 'pending';
  create index jit_deliveries_subject_idx on jit_deliveries (endpoint, subject) where state = 'pending';
  create index jit_deliveries_dead_idx on jit_deliveries (state) where state = 'dead';
  `,
]
