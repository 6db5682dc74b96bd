/**
 * The schema in PostgreSQL, one step after another; step n brings a database from version n - 1 to n, with the
 * store's schema first in the search path. Steps are only ever added. Times are in milliseconds since the epoch.
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

  -- Carries out one change set, or raises and leaves nothing. JIT01 is a missed version with the user in its
  -- detail, JIT02 a missed guard with its index, JIT03 a missing row with the word for it.
  create function jit_commit(changes jsonb) returns void language plpgsql
    set search_path from current as $$
  declare
    item jsonb;
    index bigint;
    place bigint;
    met boolean;
  begin
    for item in select value from jsonb_array_elements(changes->'expect') loop
      update jit_users set version = version + 1
        where id = item->>'user' and version = (item->>'version')::integer;
      if not found then
        raise exception 'user version missed' using errcode = 'JIT01', detail = item->>'user';
      end if;
    end loop;

    for item, index in
      select value, ordinality - 1 from jsonb_array_elements(changes->'guards') with ordinality
    loop
      case item->>'guard'
        when 'organization' then
          perform from jit_organizations
            where id = item->>'id' and version = item->>'version' and status = 'active' for key share;
        when 'connection' then
          perform from jit_connections
            where id = item->>'id' and version = item->>'version' and enabled for share;
        when 'seats' then
          update jit_organizations set seats_used = seats_used + (item->>'by')::integer
            where id = item->>'organization' and ((item->>'by')::integer <= 0 or seat_limit is null
              or seats_used + (item->>'by')::integer <= seat_limit);
        when 'owners' then
          update jit_organizations set owners = owners + (item->>'by')::integer
            where id = item->>'organization' and ((item->>'by')::integer >= 0
              or owners + (item->>'by')::integer >= 1);
        when 'invitation' then
          update jit_invitations set taken_by = item->>'user'
            where id = item->>'id' and taken_by is null;
        else
          raise exception 'unknown guard %', item;
      end case;
      if not found then
        raise exception 'guard missed' using errcode = 'JIT02', detail = index::text;
      end if;
    end loop;

    for item in select value from jsonb_array_elements(changes->'ops') loop
      met := true;
      case item->>'op'
        when 'user.create' then
          insert into jit_users (id, version, status, epoch, verified_email, contact_email, attributes, created_at)
            values (item->>'id', 1, item->>'status', 0, item->>'verifiedEmail', item->>'contactEmail',
              item->'attributes', (item->>'at')::bigint);
        when 'user.update' then
          update jit_users set
              status = case when item->'set' ? 'status' then item->'set'->>'status' else status end,
              verified_email =
                case when item->'set' ? 'verifiedEmail' then item->'set'->>'verifiedEmail' else verified_email end,
              contact_email =
                case when item->'set' ? 'contactEmail' then item->'set'->>'contactEmail' else contact_email end,
              attributes = coalesce(item->'set'->'attributes', attributes),
              epoch = epoch + case when item->'set' ? 'endSessions' then 1 else 0 end
            where id = item->>'id';
          met := found;
        when 'identity.link' then
          insert into jit_identities (source, issuer, subject, user_id, linked_at)
            values (item->>'source', item->>'issuer', item->>'subject', item->>'user', (item->>'at')::bigint);
        when 'identity.unlink' then
          delete from jit_identities
            where source = item->>'source' and issuer = item->>'issuer' and subject = item->>'subject'
              and user_id = item->>'user';
          met := found;
        when 'membership.create' then
          insert into jit_memberships (user_id, organization_id, status, joined_at)
            values (item->>'user', item->>'organization', item->>'status', (item->>'at')::bigint);
        when 'membership.update' then
          update jit_memberships set status = item->>'status'
            where user_id = item->>'user' and organization_id = item->>'organization';
          met := found;
        when 'membership.remove' then
          delete from jit_memberships
            where user_id = item->>'user' and organization_id = item->>'organization';
          met := found;
        when 'grant.add' then
          insert into jit_grants (user_id, organization_id, role, source, basis, granted_at)
            values (item->>'user', item->>'organization', item->>'role', item->>'source', item->>'basis',
              (item->>'at')::bigint);
        when 'grant.remove' then
          delete from jit_grants
            where user_id = item->>'user' and organization_id = item->>'organization'
              and role = item->>'role' and source = item->>'source';
          met := found;
        when 'tombstone.put' then
          insert into jit_tombstones (user_id, organization_id, role, removed_at)
            values (item->>'user', item->>'organization', item->>'role', (item->>'at')::bigint)
            on conflict (user_id, organization_id, coalesce(role, '')) do update
              set removed_at = excluded.removed_at;
        when 'invitation.create' then
          insert into jit_invitations (id, organization_id, email, role, invited_at)
            values (item->>'id', item->>'organization', item->>'email', item->>'role', (item->>'at')::bigint);
        when 'organization.put' then
          -- Looked at first, because an upsert locks the row even where it then changes nothing.
          perform from jit_organizations
            where id = item->>'id' and (version, name, status, seat_limit) is not distinct from
              (item->>'version', item->>'name', item->>'status', (item->>'seatLimit')::integer);
          if not found then
            insert into jit_organizations (id, version, name, status, seat_limit)
              values (item->>'id', item->>'version', item->>'name', item->>'status',
                (item->>'seatLimit')::integer)
              on conflict (id) do update set version = excluded.version, name = excluded.name,
                status = excluded.status, seat_limit = excluded.seat_limit;
          end if;
        when 'connection.put' then
          perform from jit_connections
            where id = item->>'id' and (organization_id, version, enabled) is not distinct from
              (item->>'organization', item->>'version', (item->>'enabled')::boolean);
          if not found then
            insert into jit_connections as known (id, organization_id, version, enabled)
              values (item->>'id', item->>'organization', item->>'version', (item->>'enabled')::boolean)
              on conflict (id) do update set organization_id = excluded.organization_id,
                version = excluded.version, enabled = excluded.enabled,
                epoch = known.epoch + case when known.enabled and not excluded.enabled then 1 else 0 end;
          end if;
        else
          raise exception 'unknown operation %', item;
      end case;
      if not met then
        raise exception 'row missing' using errcode = 'JIT03', detail = split_part(item->>'op', '.', 1);
      end if;
    end loop;

    if jsonb_array_length(changes->'events') > 0 then
      perform from jit_events where change_id = changes->>'id' limit 1;
      if found then
        raise exception 'change landed before' using errcode = 'JIT03', detail = 'change';
      end if;
      place := nextval('jit_events_position');
      insert into jit_events (change_id, seq, position, type, at, user_id, organization_id, source,
          correlation_id, reason, detail)
        select changes->>'id', (event->>'seq')::integer, place, event->>'type', (event->>'at')::bigint,
            event->>'user', event->>'organization', event->>'source', event->>'correlationId',
            event->>'reason', event->'detail'
          from jsonb_array_elements(changes->'events') event;
    end if;
  end
  $$;
  `,
]
