/** The function that carries out a change set, made anew by every release that migrates. */
export const commitFunction = `
-- Carries out one change set, or raises and leaves nothing. JIT01 is a missed version with the user in its
-- detail, JIT02 a missed guard with its index, JIT03 a missing row with the word for it.
create or replace function jit_commit(changes jsonb) returns void language plpgsql
  set search_path from current as $$
declare
  item jsonb;
  index bigint;
  place bigint;
  moment bigint;
  met boolean;
  gone jit_entries%rowtype;
  claims boolean := changes @? '$.ops[*] ? (@.op == "user.claim")';
begin
  -- Its snapshot is older than what a guard has waited for, and the server would not notice.
  if current_setting('transaction_isolation') = 'repeatable read' then
    raise exception 'a commit cannot be carried out in repeatable read' using errcode = '0A000',
      hint = 'Set default_transaction_isolation to read committed or serializable.';
  end if;

  if changes @? '$.ops[*] ? (exists (@.kept) || @.op == "connection.remove")' then
    select p.position + 1 into moment from jit_entries_position p for update;
    -- Given up before any is taken, so that a domain can go from one organization to another.
    for item in
      select value from jsonb_array_elements(changes->'ops')
        where value->>'op' = 'organization.put' and value ? 'kept'
    loop
      delete from jit_domains
        where organization_id = item->>'id' and not item->'kept'->'domains' ? pattern;
    end loop;
  end if;

  for item in select value from jsonb_array_elements(changes->'expect') loop
    update jit_users set version = version + 1
      where id = item->>'user' and version = (item->>'version')::integer;
    if not found then
      raise exception 'user version missed' using errcode = 'JIT01', detail = item->>'user';
    end if;
  end loop;

  -- Operations that write what guards look at: their rows and those of the guards, in the order of the guards.
  -- What is there already is left alone, so that a process that starts stops nobody.
  if changes @? '$.ops[*] ? (@.op like_regex "^(connection|organization)[.]|^invitation[.]withdraw$")' then
    perform from jit_connections c
      join (select value->>'id' as id, value as op from jsonb_array_elements(changes->'ops')
            where value->>'op' like 'connection.%'
          union all select value->>'id', '{}' from jsonb_array_elements(changes->'guards')
            where value->>'guard' = 'connection') touched using (id)
      where touched.op->>'op' is distinct from 'connection.put'
        or (c.organization_id, c.version, c.enabled) is distinct from
          (touched.op->>'organization', touched.op->>'version', (touched.op->>'enabled')::boolean)
      order by c.id for update of c;
    perform from jit_invitations i
      where i.id in (select value->>'id' from jsonb_array_elements(changes->'ops')
            where value->>'op' = 'invitation.withdraw'
          union all select value->>'id' from jsonb_array_elements(changes->'guards')
            where value->>'guard' = 'invitation')
      order by i.id for update;
    perform from jit_organizations o
      join (select value->>'id' as id, value as op from jsonb_array_elements(changes->'ops')
            where value->>'op' = 'organization.put'
          union all select coalesce(value->>'organization', value->>'id'), '{}'
            from jsonb_array_elements(changes->'guards')
            where value->>'guard' in ('organization', 'owners', 'seats')) touched using (id)
      where touched.op->>'op' is null
        or (o.version, o.name, o.status, o.seat_limit) is distinct from (touched.op->>'version',
          touched.op->>'name', touched.op->>'status', (touched.op->>'seatLimit')::integer)
      order by o.id for update of o;
  end if;

  for item, index in
    select value, ordinality - 1 from jsonb_array_elements(changes->'guards') with ordinality
  loop
    -- With those whose counters a claim frees, so that these are not taken after one that comes later.
    if claims and item->>'guard' in ('organization', 'owners', 'seats') then
      perform from jit_organizations
        where id in (select organization_id from jit_memberships
              where user_id in (select value->>'id' from jsonb_array_elements(changes->'ops')
                where value->>'op' = 'user.claim')
            union all select coalesce(value->>'organization', value->>'id')
              from jsonb_array_elements(changes->'guards')
              where value->>'guard' in ('organization', 'owners', 'seats'))
        order by id for no key update;
      claims := false;
    end if;
    case item->>'guard'
      when 'unremoved' then
        continue;
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
      when 'user.claim' then
        update jit_users set verified_email = item->>'verifiedEmail', contact_email = item->>'verifiedEmail',
            epoch = epoch + 1
          where id = item->>'id';
        met := found;
        perform from jit_organizations
          where id in (select organization_id from jit_memberships where user_id = item->>'id')
          order by id for no key update;
        update jit_organizations o set seats_used = seats_used - m.seat::integer,
            owners = owners - (m.status = 'active' and u.status = 'active' and exists (
              select from jit_grants g where g.user_id = m.user_id and g.organization_id = m.organization_id
                and g.role = 'owner'))::integer
          from jit_memberships m join jit_users u on u.id = m.user_id
          where m.user_id = item->>'id' and m.organization_id = o.id;
        delete from jit_memberships where user_id = item->>'id';
        delete from jit_identities where user_id = item->>'id';
      when 'user.remove' then
        delete from jit_tombstones where user_id = item->>'id';
        delete from jit_memberships where user_id = item->>'id';
        delete from jit_identities where user_id = item->>'id';
        delete from jit_users where id = item->>'id';
        met := found;
      when 'identity.link' then
        insert into jit_identities (source, issuer, subject, user_id, linked_at)
          values (item->>'source', item->>'issuer', item->>'subject', item->>'user', (item->>'at')::bigint);
      when 'identity.unlink' then
        delete from jit_identities
          where source = item->>'source' and issuer = item->>'issuer' and subject = item->>'subject'
            and user_id = item->>'user';
        met := found;
      when 'identity.assert' then
        update jit_identities set digest = item->>'digest', asserted = item->'asserted'
          where source = item->>'source' and issuer = item->>'issuer' and subject = item->>'subject'
            and user_id = item->>'user';
        met := found;
      when 'membership.create' then
        -- A process of the release before, which may run still, names no seat.
        insert into jit_memberships (user_id, organization_id, status, seat, joined_at)
          values (item->>'user', item->>'organization', item->>'status',
            coalesce((item->>'seat')::boolean, item->>'status' = 'active'), (item->>'at')::bigint);
      when 'membership.update' then
        update jit_memberships set status = item->>'status',
            seat = coalesce((item->>'seat')::boolean, item->>'status' = 'active')
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
      when 'tombstone.remove' then
        delete from jit_tombstones
          where user_id = item->>'user' and organization_id = item->>'organization'
            and coalesce(role, '') = coalesce(item->>'role', '');
      when 'removed.put' then
        insert into jit_removed (hash, removed_at) values (item->>'hash', (item->>'at')::bigint)
          on conflict (hash) do update set removed_at = excluded.removed_at;
      when 'removed.remove' then
        delete from jit_removed
          where hash = item->>'hash' and removed_at <= coalesce((item->>'until')::bigint, removed_at);
      when 'invitation.create' then
        insert into jit_invitations (id, organization_id, email, role, invited_at, expires_at)
          values (item->>'id', item->>'organization', item->>'email', item->>'role', (item->>'at')::bigint,
            (item->>'expiresAt')::bigint);
      when 'invitation.withdraw' then
        delete from jit_invitations
          where id = item->>'id' and organization_id = item->>'organization' and taken_by is null;
        met := found;
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
            on conflict (id) do update set version = excluded.version, enabled = excluded.enabled,
              epoch = known.epoch + case when known.enabled and not excluded.enabled then 1 else 0 end
              where known.organization_id = excluded.organization_id;
          if not found then
            raise exception 'connection of another organization' using errcode = 'JIT03',
              detail = 'connection';
          end if;
        end if;
      when 'connection.hold' then
        update jit_connections set held = item->>'held',
            released_at = case when held is not null and item->>'held' is null then (item->>'at')::bigint
              else released_at end
          where id = item->>'id';
        met := found;
      when 'connection.remove' then
        delete from jit_connections where id = item->>'id';
        met := found;
        delete from jit_identities where source = 'connection:' || (item->>'id');
        delete from jit_entries where kind = 'connection' and id = item->>'id'
          returning * into gone;
        if found then
          update jit_entries_position set position = moment;
          insert into jit_entries (kind, id, organization_id, version, entry, position)
            values ('removed', item->>'id', gone.organization_id, gone.version, '', moment)
            on conflict (kind, id) do update set organization_id = excluded.organization_id,
              version = excluded.version, position = excluded.position;
        end if;
      else
        raise exception 'unknown operation %', item;
    end case;
    if item ? 'kept' then
      if item->>'op' = 'organization.put' then
        insert into jit_domains (pattern, organization_id)
          select jsonb_array_elements_text(item->'kept'->'domains'), item->>'id' on conflict do nothing;
        if (select count(*) from jit_domains where organization_id = item->>'id')
            < (select count(distinct name) from jsonb_array_elements_text(item->'kept'->'domains') name) then
          raise exception 'domain owned by another' using errcode = 'JIT03', detail = 'domain';
        end if;
      else
        select version = coalesce(item->'kept'->>'over', version)
          into met from jit_entries where kind = 'connection' and id = item->>'id';
        met := coalesce(met, not item->'kept' ? 'over');
      end if;
      perform from jit_entries
        where kind = split_part(item->>'op', '.', 1) and id = item->>'id'
          and version = item->>'version' and entry = item->'kept'->>'entry';
      if met and not found then
        update jit_entries_position set position = moment;
        insert into jit_entries (kind, id, organization_id, version, entry, position)
          values (split_part(item->>'op', '.', 1), item->>'id', coalesce(item->>'organization', item->>'id'),
            item->>'version', item->'kept'->>'entry', moment)
          on conflict (kind, id) do update set version = excluded.version, entry = excluded.entry,
            position = excluded.position;
      end if;
    end if;
    if not met then
      raise exception 'row missing' using errcode = 'JIT03', detail = split_part(item->>'op', '.', 1);
    end if;
  end loop;

  -- Only now, because writing the same address or identity has waited for a removal that was under way.
  for item, index in
    select value, ordinality - 1 from jsonb_array_elements(changes->'guards') with ordinality
      where value->>'guard' = 'unremoved'
  loop
    perform from jit_removed where hash in (select jsonb_array_elements_text(item->'hashes'));
    if found then
      raise exception 'guard missed' using errcode = 'JIT02', detail = index::text;
    end if;
    -- There the read sees nothing newer than the snapshot, but a key that it does not see cannot be written: 40001.
    if current_setting('transaction_isolation') = 'serializable' then
      insert into jit_removed (hash, removed_at)
        select hash, 0 from jsonb_array_elements_text(item->'hashes') hash order by hash
        on conflict (hash) do nothing;
      delete from jit_removed where hash in (select jsonb_array_elements_text(item->'hashes'));
    end if;
  end loop;

  if jsonb_array_length(changes->'events') > 0 then
    place := nextval('jit_events_position');
    insert into jit_changes (id, position) values (changes->>'id', place);
    insert into jit_events (change_id, seq, position, type, at, user_id, organization_id, source, actor,
        correlation_id, reason, detail)
      select changes->>'id', (event->>'seq')::integer, place, event->>'type', (event->>'at')::bigint,
          event->>'user', event->>'organization', event->>'source', event->>'actor',
          event->>'correlationId', event->>'reason', event->'detail'
        from jsonb_array_elements(changes->'events') event;
  end if;
end
$$;
`
