import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type SqliteStore, sqliteStore } from 'passport-jit/stores/sqlite'
import type { StoreFixture } from 'passport-jit/testing'

/** A file of its own, which several connections may open. */
export async function sqliteFixture(): Promise<StoreFixture> {
  const directory = mkdtempSync(join(tmpdir(), 'jit-sqlite-'))
  const opened: SqliteStore[] = []
  const open = () => {
    const store = sqliteStore({ file: join(directory, 'jit.db') })
    opened.push(store)
    return store
  }
  const close = async () => {
    for (const store of opened) store.close()
    rmSync(directory, { recursive: true })
  }
  return { store: open(), another: async () => open(), close }
}
