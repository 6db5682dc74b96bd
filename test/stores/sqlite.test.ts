import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'libsql'
import { JitError } from 'passport-jit'
import { type SqliteStore, sqliteStore } from 'passport-jit/stores/sqlite'
import { storeContract } from 'passport-jit/testing'
import { afterAll, describe, expect, test } from 'vitest'
import { change, foundation, userCreate, world } from '../contract/store-world.js'

describe('sqlite, a file', () => {
  storeContract({
    describe,
    test,
    factory: async () => {
      const directory = mkdtempSync(join(tmpdir(), 'jit-sqlite-'))
      const opened: SqliteStore[] = []
      const open = () => {
        const store = sqliteStore({ file: join(directory, 'jit.db') })
        opened.push(store)
        return store
      }
      return {
        store: open(),
        another: async () => open(),
        close: async () => {
          for (const store of opened) store.close()
          rmSync(directory, { recursive: true })
        },
      }
    },
  })
})

describe('sqlite, in memory', () => {
  storeContract({
    describe,
    test,
    factory: async () => {
      const store = sqliteStore({ file: ':memory:' })
      return { store, another: async () => store, close: async () => store.close() }
    },
  })
})

describe('sqlite', () => {
  const directory = mkdtempSync(join(tmpdir(), 'jit-sqlite-'))
  afterAll(() => rmSync(directory, { recursive: true }))
  const fresh = () => join(directory, `${randomUUID()}.db`)

  test('a file keeps what was written', async () => {
    const file = fresh()
    const first = sqliteStore({ file })
    await world(first)
    first.close()
    const second = sqliteStore({ file })
    await second.migrate()
    expect((await second.user('alice'))?.memberships).toHaveLength(2)
    second.close()
  })

  test('a file that another process is writing to is a conflict, soon, and not for ever', async () => {
    const file = fresh()
    const store = sqliteStore({ file, busyTimeout: 50 })
    await foundation(store)
    const other = new Database(file)
    other.exec('begin immediate')
    const changes = change('c', { ops: [userCreate('u')] })
    expect(await store.commit(changes)).toEqual({
      committed: false,
      conflict: { kind: 'busy', detail: expect.stringContaining('locked') },
    })
    expect(await store.user('u')).toBe(null)
    other.exec('rollback')
    expect(await store.commit(changes)).toEqual({ committed: true })
    other.close()
    store.close()
  })

  test('migrating waits for another process that is at it, without blocking this one', async () => {
    const file = fresh()
    const other = new Database(file)
    other.exec('begin immediate')
    const store = sqliteStore({ file, busyTimeout: 10 })
    let done = false
    const migrated = store.migrate().then(() => {
      done = true
    })
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(done).toBe(false)
    other.exec('rollback')
    other.close()
    await migrated
    await world(store)
    expect((await store.users()).rows).toHaveLength(4)
    store.close()
  })

  test('a schema that is newer is refused, naming both versions', async () => {
    const file = fresh()
    const store = sqliteStore({ file })
    await store.migrate()
    const raw = new Database(file)
    raw.exec('insert into jit_migrations (version, applied_at) values (99, 0)')
    const refusal = await store.migrate().catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(JitError)
    expect(refusal).toMatchObject({
      code: 'config_invalid',
      message: expect.stringMatching(/version 99.*knows \d\b/),
    })
    raw.exec('delete from jit_migrations where version = 99')
    await store.migrate()
    raw.close()
    store.close()
  })

  test('a migration that fails leaves nothing behind', async () => {
    const file = fresh()
    const raw = new Database(file)
    raw.exec('create table jit_events (x integer)')
    const store = sqliteStore({ file })
    await expect(store.migrate()).rejects.toThrow(/jit_events/)
    expect(raw.prepare('select name from sqlite_master').all()).toEqual([{ name: 'jit_events' }])
    raw.exec('drop table jit_events')
    await foundation(store)
    raw.close()
    store.close()
  })

  test('a file that cannot be opened is a coded error that names it', () => {
    const file = join(directory, 'missing', 'jit.db')
    expect(() => sqliteStore({ file })).toThrow(
      expect.objectContaining({ code: 'config_invalid', message: expect.stringContaining(file) }),
    )
    sqliteStore({ file: fresh() }).close()
  })

  test.each([
    ['a boolean', true],
    ['an object', { id: 'u' }],
    ['a list', ['u']],
    ['nothing', undefined],
    ['a number that is none', Number.NaN],
    ['a text with a NUL', 'u\0'],
  ])('%s for an id is thrown, and the process lives on', async (_, id) => {
    const store = sqliteStore({ file: ':memory:' })
    await foundation(store)
    await expect(store.user(id as string)).rejects.toThrow(TypeError)
    await expect(store.commit(change('c', { ops: [userCreate(id as string)] }))).rejects.toThrow(TypeError)
    expect((await store.users()).rows).toEqual([])
    expect(await store.commit(change('c', { ops: [userCreate('u')] }))).toEqual({ committed: true })
    store.close()
  })
})
