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
]
