import type { ClientBase, Pool } from 'pg'

export interface Fault {
  /** The SQLSTATE; `57P01` ends the session, as an administrator does. */
  readonly code: string
  /** The constraint that is named as the one that was broken. */
  readonly constraint?: string
  /** Before the first row of a table is touched, or when all is written and the transaction commits. */
  readonly moment: 'write' | 'commit'
  /** Only where this table is written. */
  readonly table?: string
}

/** Has PostgreSQL itself fail in the middle of what the kit writes. */
export interface Injection {
  /** From now on, in so many transactions; in all of them by default. */
  arm(fault: Fault, times?: number): Promise<void>
  /** How often it was raised until now, when it ends. */
  disarm(): Promise<number>
}

const always = 1_000_000

/** Puts triggers on the tables of a schema. They count by a sequence, which no rollback takes back. */
export async function injection(db: Pool | ClientBase, schema = 'public'): Promise<Injection> {
  await db.query(`
    create table ${schema}.rig_fault (code text, constraint_name text, moment text, table_name text, times integer);
    create sequence ${schema}.rig_raised;
    create function ${schema}.rig_raise() returns trigger language plpgsql as $$
    declare
      fault ${schema}.rig_fault%rowtype;
    begin
      select * into fault from ${schema}.rig_fault
        where moment = tg_argv[0] and (table_name is null or table_name = tg_table_name);
      if found and nextval('${schema}.rig_raised') <= fault.times then
        if fault.code = '57P01' then
          perform pg_terminate_backend(pg_backend_pid());
          perform pg_sleep(10);
        end if;
        raise exception 'injected' using errcode = fault.code, constraint = coalesce(fault.constraint_name, '');
      end if;
      return null;
    end $$;
    do $$
    declare
      name text;
    begin
      for name in select tablename from pg_tables where schemaname = '${schema}' and tablename like 'jit\\_%' loop
        execute format('create trigger rig_write before insert or update or delete on ${schema}.%I
          for each statement execute function ${schema}.rig_raise(''write'')', name);
        execute format('create constraint trigger rig_commit after insert or update or delete on ${schema}.%I
          deferrable initially deferred for each row execute function ${schema}.rig_raise(''commit'')', name);
      end loop;
    end $$`)
  return {
    arm: async ({ code, constraint = null, moment, table = null }, times = always) => {
      await db.query(`alter sequence ${schema}.rig_raised restart`)
      await db.query(`insert into ${schema}.rig_fault values ($1, $2, $3, $4, $5)`, [
        ...[code, constraint, moment, table, times],
      ])
    },
    disarm: async () => {
      const { rows } = await db.query(
        `with gone as (delete from ${schema}.rig_fault returning times)
         select least(times, (select case when is_called then last_value else 0 end from ${schema}.rig_raised))
           as raised from gone`,
      )
      return Number(rows[0].raised)
    },
  }
}
