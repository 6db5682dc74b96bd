import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import type { Store, Verification } from 'passport-jit'
import { postgresStore } from 'passport-jit/stores/postgres'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nextSeal } from '../../lib/chain.js'
import { needs, postgres } from '../rig/services.js'
import { commit, kit } from './kit.js'

/** A database somebody has got hold of. */
interface Hold {
  readonly store: Store
  /** What runs when the kit is not asked. */
  sql(statement: string): Promise<void>
  close(): Promise<void>
}

async function inFile(): Promise<Hold> {
  const directory = mkdtempSync(join(tmpdir(), 'jit-tampering-'))
  const file = join(directory, 'jit.db')
  const store = sqliteStore({ file })
  return {
    store,
    sql: async (statement) => {
      const raw = new Database(file)
      raw.pragma('foreign_keys = off')
      expect(raw.prepare(statement).run().changes).toBeGreaterThan(0)
      raw.close()
    },
    close: async () => {
      store.close()
      rmSync(directory, { recursive: true })
    },
  }
}

type Tampering = [
  what: string,
  statements: readonly string[],
  problems: readonly (readonly [problem: string, seal: number | null, ...changes: string[]])[],
]

/** Changes `c1` to `c5` under the seals 1 to 5, each with two events; `w` waits for its seal. */
const tamperings: readonly Tampering[] = [
  [
    'an event is altered: a role',
    [`update jit_events set detail = '{"role":"owner"}' where change_id = 'c3' and seq = 1`],
    [['altered', 3, 'c3']],
  ],
  [
    'an event is altered: of whom it tells',
    [`update jit_events set user_id = 'eve' where change_id = 'c3' and seq = 0`],
    [['altered', 3, 'c3']],
  ],
  [
    'an event is altered: who did it',
    [`update jit_events set actor = null where change_id = 'c3' and seq = 0`],
    [['altered', 3, 'c3']],
  ],
  [
    'an event is altered: when',
    [`update jit_events set at = at + 1 where change_id = 'c3' and seq = 1`],
    [['altered', 3, 'c3']],
  ],
  [
    'one event of a change is taken out',
    [`delete from jit_events where change_id = 'c3' and seq = 1`],
    [['altered', 3, 'c3']],
  ],
  [
    'an event is put into a change',
    [
      `insert into jit_events (change_id, seq, position, type, at, correlation_id, reason, detail)
       select change_id, 2, position, 'granted', at, correlation_id, reason, '{}' from jit_events
       where change_id = 'c3' and seq = 0`,
    ],
    [['altered', 3, 'c3']],
  ],
  [
    'all events of a change are taken out',
    [`delete from jit_events where change_id = 'c3'`],
    [['missing', 3]],
  ],
  [
    'a change is taken out',
    [`delete from jit_events where change_id = 'c3'`, `delete from jit_changes where id = 'c3'`],
    [['missing', 3]],
  ],
  [
    'a change is taken from under its seal',
    [`update jit_changes set seal = null where id = 'c3'`],
    [['missing', 3]],
  ],
  [
    'a change is moved under another seal',
    [`update jit_changes set seal = 4, place = 7 where id = 'c3'`],
    [
      ['missing', 3],
      ['altered', 4, 'c4', 'c3'],
    ],
  ],
  [
    'a seal is taken out',
    [`delete from jit_seals where number = 3`],
    [
      ['gap', 3],
      ['unsealed', null, 'c3'],
    ],
  ],
  [
    'the first seals are taken out',
    [`delete from jit_seals where number < 3`],
    [
      ['gap', 1],
      ['unsealed', null, 'c2'],
      ['unsealed', null, 'c1'],
    ],
  ],
  [
    'the last seal is taken out',
    [`delete from jit_seals where number = 5`],
    [
      ['cut', 5],
      ['unsealed', null, 'c5'],
    ],
  ],
  [
    'a seal gets another hash',
    [`update jit_seals set hash = 'x' where number = 3`],
    [
      ['altered', 3, 'c3'],
      ['previous', 4, 'c3'],
    ],
  ],
  ['a seal gets another time', [`update jit_seals set at = at - 1 where number = 3`], [['altered', 3, 'c3']]],
  [
    'a seal gets another hash before it',
    [`update jit_seals set previous = 'x' where number = 3`],
    [['previous', 3, 'c2']],
  ],
  [
    'a decision is made up, beside the chain',
    [
      `insert into jit_events (change_id, seq, position, type, at, correlation_id, reason, detail)
       select 'x', 0, position, 'granted', at, correlation_id, reason, '{}' from jit_events
       where change_id = 'c3' and seq = 0`,
    ],
    [['unsealed', null, 'x']],
  ],
  [
    'a change is taken out of the chain, and its events left',
    [`delete from jit_changes where id = 'c3'`],
    [
      ['missing', 3],
      ['unsealed', null, 'c3'],
    ],
  ],
  [
    'a change that waits loses its events',
    [`delete from jit_events where change_id = 'w'`],
    [['missing', null]],
  ],
]

const found = ({ problems }: Verification) =>
  problems.map(({ problem, seal, changes }) => [problem, seal, ...changes])

function whoeverWrites(hold: () => Promise<Hold>): void {
  const check = (name: string, body: (held: Hold) => Promise<void>) =>
    test(name, async () => {
      const held = await hold()
      try {
        await held.store.migrate()
        for (const id of ['c1', 'c2', 'c3', 'c4', 'c5']) {
          const detail = { role: 'member', source: 'manual', basis: 'person' }
          await commit(held.store, id, { user: id, actor: 'boss' }, { type: 'granted', user: id, detail })
        }
        expect(await kit(held.store).jit.background.runOnce()).toMatchObject({ sealed: 5 })
        await commit(held.store, 'w', {})
        await body(held)
      } finally {
        await held.close()
      }
    })

  for (const [what, statements, problems] of tamperings) {
    check(`${what}: found, and named`, async ({ store, sql }) => {
      const { audit } = kit(store).jit
      const before = await audit.verify()
      expect(before).toMatchObject({ ok: true, seals: 5 })
      for (const statement of statements) await sql(statement)
      const after = await audit.verify({ expect: before.head! })
      expect(after.ok).toBe(false)
      expect(found(after)).toEqual(problems)
    })
  }

  const seal5 = `update jit_changes set seal = null, place = null where seal = 5`
  check(
    'the end is cut off, and sealed anew by the kit itself: found by a noted seal alone',
    async (held) => {
      const { audit, background } = kit(held.store).jit
      const { head } = await audit.verify()
      await held.sql(`delete from jit_events where change_id = 'c5'`)
      await held.sql(`delete from jit_changes where id = 'c5'`)
      await held.sql('delete from jit_seals where number = 5')
      expect(found(await audit.verify())).toEqual([])
      expect(found(await audit.verify({ expect: head! }))).toEqual([['cut', 5]])
      await background.runOnce()
      expect(found(await audit.verify())).toEqual([])
      expect(found(await audit.verify({ expect: head! }))).toEqual([['rewritten', 5, 'w']])
    },
  )

  check('an event is altered and its seal made to fit: found by the seal after it', async (held) => {
    const { audit } = kit(held.store).jit
    await held.sql(`update jit_events set user_id = 'eve' where change_id = 'c3' and seq = 0`)
    const [before, link] = await held.store.trail.sealed(1, 2)
    const digest = (text: string) => createHash('sha256').update(text).digest('hex')
    const { hash } = nextSeal(before!.seal, link!.changes, link!.seal.at, digest)
    await held.sql(`update jit_seals set hash = '${hash}' where number = 3`)
    expect(found(await audit.verify())).toEqual([['previous', 4, 'c3']])
  })

  check('the last event is altered and sealed anew: found by a noted seal alone', async (held) => {
    const { audit, background } = kit(held.store).jit
    const { head } = await audit.verify()
    await held.sql(`update jit_events set user_id = 'eve' where change_id = 'c5' and seq = 0`)
    await held.sql(seal5)
    await held.sql('delete from jit_seals where number = 5')
    await background.runOnce()
    expect(found(await audit.verify())).toEqual([])
    expect(found(await audit.verify({ expect: head! }))).toEqual([['rewritten', 5, 'c5']])
  })

  check('a change without its events keeps nobody else from being sealed', async ({ store, sql }) => {
    const { audit, background } = kit(store).jit
    await sql(`delete from jit_events where change_id = 'w'`)
    await commit(store, 'later', {})
    expect(await background.runOnce()).toMatchObject({ sealed: 1 })
    expect(await audit.verify()).toMatchObject({ ok: false, seals: 6, waiting: 1 })
  })
}

describe('Whoever writes a SQLite file', () => whoeverWrites(inFile))

needs('Whoever writes a PostgreSQL database', await postgres(), ({ freshDatabase }) => {
  let database: Awaited<ReturnType<typeof freshDatabase>>
  beforeAll(async () => {
    database = await freshDatabase()
  })
  afterAll(() => database.drop())
  let count = 0
  whoeverWrites(async () => {
    const schema = `s${++count}`
    const options = `-c search_path=${schema}`
    const pool = new Pool({ connectionString: database.url, max: 3, options })
    return {
      store: postgresStore({ pool, schema }),
      sql: async (statement) => {
        expect((await pool.query(statement)).rowCount).toBeGreaterThan(0)
      },
      close: () => pool.end(),
    }
  })
})
