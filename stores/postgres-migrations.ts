/**
 * The tables in PostgreSQL, one step after another; step n brings a database from version n - 1 to n, with the
 * store's schema first in the search path. Steps are only ever added; each is followed by the commit function
 * as it is now. Times are in milliseconds since the epoch.
 */
export const migrations: readonly string[] = [
  `
  create table jit_migrations (
    version integer primary key,
    applied_at timestamptz not null default now()
  );

  create table jit_organizations (
    id text collate "C" primary key,
    version text not null,
    name text not null,
    status text not null check (status in ('active', 'suspended')),
    seat_limit integer,
    seats_used integer not null default 0,
    owners integer not null default 0,
    -- Makes version and status part of a key, so that changing them locks the row against the key-share lock
    -- that a guard takes, while counting seats and owners does not (PostgreSQL manual, 13.3.2).
    constraint jit_organizations_guard_key unique (id, version, status)
  ) with (fillfactor = 70);

  create table jit_connections (
    id text collate "C" primary key,
    organization_id text collate "C" not null,
    version text not null,
    enabled boolean not null,
    epoch integer not null default 0,
    constraint jit_connections_organization_fkey foreign key (organization_id) references jit_organizations
  );

  -- The index on verified_email is partial so that changing an address does not lock out references to the row.
  create table jit_users (
    id text collate "C" primary key,
    version integer not null,
    status text not null check (status in ('active', 'suspended')),
    epoch integer not null,
    verified_email text collate "C",
    contact_email text collate "C",
    attributes jsonb not null,
    created_at bigint not null
  ) with (fillfactor = 85);
  create unique index jit_users_verified_email_key on jit_users (verified_email)
    where verified_email is not null;
  create index jit_users_contact_email_idx on jit_users (contact_email)
    where verified_email is null;

  create table jit_identities (
    source text collate "C" not null,
    issuer text collate "C" not null,
    subject text collate "C" not null,
    user_id text collate "C" not null,
    linked_at bigint not null,
    primary key (source, issuer, subject),
    constraint jit_identities_user_fkey foreign key (user_id) references jit_users
  );
  create index jit_identities_user_idx on jit_identities (user_id);

  create table jit_memberships (
    user_id text collate "C" not null,
    organization_id text collate "C" not null,
    status text not null check (status in ('active', 'suspended')),
    joined_at bigint not null,
    primary key (user_id, organization_id),
    constraint jit_memberships_user_fkey foreign key (user_id) references jit_users,
    constraint jit_memberships_organization_fkey foreign key (organization_id) references jit_organizations
  );

  create table jit_grants (
    user_id text collate "C" not null,
    organization_id text collate "C" not null,
    role text collate "C" not null,
    source text collate "C" not null,
    basis text not null,
    granted_at bigint not null,
    primary key (user_id, organization_id, role, source),
    constraint jit_grants_membership_fkey foreign key (user_id, organization_id)
      references jit_memberships on delete cascade
  );

  -- Of an organization that need not exist any more.
  create table jit_tombstones (
    user_id text collate "C" not null,
    organization_id text collate "C" not null,
    role text collate "C",
    removed_at bigint not null,
    constraint jit_tombstones_user_fkey foreign key (user_id) references jit_users
  );
  create unique index jit_tombstones_key on jit_tombstones (user_id, organization_id, coalesce(role, ''));

  create table jit_invitations (
    id text collate "C" primary key,
    organization_id text collate "C" not null,
    email text not null,
    role text not null,
    invited_at bigint not null,
    taken_by text collate "C",
    constraint jit_invitations_organization_fkey foreign key (organization_id) references jit_organizations
  );

  -- All events of a change share its position, which gives the order of changes.
  create sequence jit_events_position;
  create table jit_events (
    change_id text collate "C" not null,
    seq integer not null,
    position bigint not null,
    type text not null,
    at bigint not null,
    user_id text collate "C",
    organization_id text collate "C",
    source text,
    correlation_id text not null,
    reason text not null,
    detail jsonb not null,
    primary key (change_id, seq)
  );
  create index jit_events_position_idx on jit_events (position);
  `,
  `
  -- Whole organizations and connections, beside the tables that every sign-in reads, so that these stay narrow.
  create table jit_entries (
    kind text collate "C" not null check (kind in ('organization', 'connection')),
    id text collate "C" not null,
    organization_id text collate "C" not null,
    version text not null,
    entry text not null,
    position bigint not null,
    primary key (kind, id),
    constraint jit_entries_organization_fkey foreign key (organization_id) references jit_organizations
  );
  create index jit_entries_organization_idx on jit_entries (organization_id);
  create index jit_entries_position_idx on jit_entries (position);

  -- Locked by whoever writes entries until the commit, so that positions follow the order of commits.
  create table jit_entries_position (
    one boolean primary key default true check (one),
    position bigint not null
  );
  insert into jit_entries_position (position) values (0);

  create table jit_domains (
    pattern text collate "C" primary key,
    organization_id text collate "C" not null,
    constraint jit_domains_organization_fkey foreign key (organization_id) references jit_organizations
  );
  create index jit_domains_organization_idx on jit_domains (organization_id);
  `,
  `
  alter table jit_memberships add column seat boolean not null default true;
  update jit_memberships set seat = false where status <> 'active';
  alter table jit_memberships alter column seat drop default;
  update jit_organizations o set
    seats_used = (select count(*) from jit_memberships m where m.organization_id = o.id and m.seat),
    owners = (select count(distinct m.user_id) from jit_memberships m
      join jit_users u on u.id = m.user_id and u.status = 'active'
      join jit_grants g on g.user_id = m.user_id and g.organization_id = m.organization_id and g.role = 'owner'
      where m.organization_id = o.id and m.status = 'active');

  -- What the identity asserted last, and its digest.
  alter table jit_identities add column digest text, add column asserted jsonb;

  alter table jit_connections add column held text, add column released_at bigint not null default 0;

  -- Those from before never lapse, which is the last moment that a date can hold.
  alter table jit_invitations add column expires_at bigint not null default 8640000000000000;
  alter table jit_invitations alter column expires_at drop default;
  create index jit_invitations_email_idx on jit_invitations (email) where taken_by is null;
  create index jit_invitations_organization_idx on jit_invitations (organization_id, id) where taken_by is null;

  -- Removed users, by keyed hashes of their identities and addresses.
  create table jit_removed (
    hash text collate "C" primary key,
    removed_at bigint not null
  );

  create table jit_hash_key (
    one boolean primary key default true check (one),
    key text not null
  );

  -- A connection that is gone leaves a row without its entry, so that others learn that it changed.
  alter table jit_entries drop constraint jit_entries_kind_check,
    add constraint jit_entries_kind_check check (kind in ('organization', 'connection', 'removed'));

  create table jit_seals (
    number bigint primary key check (number > 0),
    previous text not null,
    hash text not null,
    at bigint not null
  );

  -- Every change that has events, with the seal it is under and its place there.
  create table jit_changes (
    id text collate "C" primary key,
    position bigint not null,
    seal bigint,
    place integer
  );
  insert into jit_changes (id, position) select change_id, min(position) from jit_events group by change_id;
  create index jit_changes_unsealed_idx on jit_changes (position) where seal is null;
  create unique index jit_changes_sealed_idx on jit_changes (seal, place) where seal is not null;

  alter table jit_events add column actor text;
  -- In the order in which changes are listed; with the time, so that what is newer is passed over in the index.
  drop index jit_events_position_idx;
  create index jit_events_position_idx on jit_events (position, at);
  create index jit_events_user_idx on jit_events (user_id, position, at) where user_id is not null;
  create index jit_events_organization_idx on jit_events (organization_id, position, at)
    where organization_id is not null;
  create index jit_events_source_idx on jit_events (source, position, at) where source is not null;
  create index jit_events_at_idx on jit_events (at);
  create index jit_events_synced_off_idx on jit_events (at) where type = 'revoked' and actor is null;
  create index jit_grants_sso_idx on jit_grants (source) where source like 'sso:%';

  -- Carries the order of the seals, so that those which wait are found without the history.
  create table jit_deliveries (
    endpoint text collate "C" not null,
    change_id text collate "C" not null,
    subject text collate "C" not null,
    seal bigint not null,
    place integer not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'dead')),
    attempts integer not null default 0,
    due_at bigint not null,
    log jsonb not null default '[]',
    primary key (endpoint, change_id)
  ) with (fillfactor = 85);
  create index jit_deliveries_order_idx on jit_deliveries (seal, place, endpoint);
  create index jit_deliveries_dead_idx on jit_deliveries (seal, place, endpoint) where state = 'dead';
  create index jit_deliveries_pending_idx on jit_deliveries (endpoint, seal, place, due_at)
    where state = 'pending';
  create index jit_deliveries_subject_idx on jit_deliveries (endpoint, subject, seal, place)
    where state = 'pending';
  `,
  // The function that commits learned a guard, and is made anew with every migration.
  '-- unremoved',
  // And that a connection stays with its organization.
  '-- moved connections',
  // And in which isolation its guards hold.
  '-- isolation',
]
