import { postgresStore } from 'passport-jit/stores/postgres'
import { describe, expect, test } from 'vitest'
import { many } from '../contract/store-races.js'
import { change, foundation, landed, saml, userCreate } from '../contract/store-world.js'
import { onPostgres } from './postgres-database.js'

await onPostgres((database) => {
  const { open, closeAll, freshSchema, waiting } = database
  /** A pool of an app that sets the isolation of its sessions. */
  const isolated = (isolation: string) => {
    const url = new URL(database.url)
    url.searchParams.set('options', `-c default_transaction_isolation=${isolation.replace(' ', '\\ ')}`)
    return open(url.href)
  }
  const guard = { guard: 'unremoved', hashes: ['hash of u', 'another hash of u'] } as const
  const missed = { committed: false, conflict: { kind: 'guard', guard } }
  const made = (id: string, verifiedEmail: string | null) =>
    change(id, {
      guards: [guard],
      ops: [
        userCreate(id, { verifiedEmail }),
        { op: 'identity.link', user: id, ...saml, subject: 'u', at: 1 },
      ],
    })

  describe('P09 who is made anew while they are removed waits, and stays removed', () => {
    const removal = change('removal', {
      expect: [{ user: 'u', version: 1 }],
      ops: [
        { op: 'user.remove', id: 'u' },
        { op: 'removed.put', hash: 'hash of u', at: 2 },
      ],
    })
    // The server finds two serializable commits in each other's way by the pages of its indexes. Among many
    // people those are others, so that it finds nothing.
    const people = change('people', {
      ops: many(3_000).flatMap((n) => [
        userCreate(`p${n}`, { verifiedEmail: `p${n}@acme.example` }),
        { op: 'identity.link', user: `p${n}`, ...saml, subject: `p${n}`, at: 1 } as const,
      ]),
    })
    for (const isolation of ['read committed', 'serializable'])
      test.each([
        ['address', 'u@acme.example'],
        ['identity', null],
      ])(`${isolation}: by their %s`, async (_, email) => {
        const pool = isolated(isolation)
        const schema = freshSchema()
        const store = postgresStore({ pool, schema })
        await foundation(store)
        await landed(store.commit(people))
        await landed(store.commit(made('u', email)))
        const removed = `select hash from ${schema}.jit_removed`
        expect((await pool.query(removed)).rows).toEqual([])
        await pool.query(`analyze ${schema}.jit_users, ${schema}.jit_identities`)
        const client = await pool.connect()
        await client.query('begin')
        await client.query(`select ${schema}.jit_commit($1::jsonb)`, [JSON.stringify(removal)])
        const again = store.commit(made('again', email))
        await expect.poll(waiting, { timeout: 10_000 }).toBe(1)
        await client.query('commit')
        client.release()
        const busy = {
          committed: false,
          conflict: { kind: 'busy', detail: expect.stringMatching(/^40001 /) },
        }
        expect(await again).toEqual(isolation === 'serializable' ? busy : missed)
        expect(await store.commit(made('again', email))).toEqual(missed)
        expect([await store.user('u'), await store.user('again')]).toEqual([null, null])
        expect((await pool.query(removed)).rows).toEqual([{ hash: 'hash of u' }])
        await closeAll()
      })
  })

  describe('P09 repeatable read, in which a removal that was waited for is not seen', () => {
    test('is refused before anything is made, by the name of the setting and with the ways out', async () => {
      const schema = freshSchema()
      await expect(
        postgresStore({ pool: isolated('repeatable read'), schema }).migrate(),
      ).rejects.toMatchObject({
        code: 'config_invalid',
        message: expect.stringMatching(
          /default_transaction_isolation.*"repeatable read".*"read committed" or "serializable"/,
        ),
      })
      const there = await open().query('select from pg_namespace where nspname = $1', [schema])
      expect(there.rowCount).toBe(0)
      for (const isolation of ['read uncommitted', 'read committed', 'serializable'])
        await postgresStore({ pool: isolated(isolation), schema }).migrate()
      await closeAll()
    })

    test('is refused by each commit too, where it was set after the start', async () => {
      const schema = freshSchema()
      const pool = open()
      const store = postgresStore({ pool, schema })
      await foundation(store)
      const late = postgresStore({ pool: isolated('repeatable read'), schema })
      await expect(late.commit(made('u', null))).rejects.toMatchObject({ code: '0A000' })
      expect(await store.user('u')).toBe(null)
      await landed(store.commit(made('u', null)))
      expect((await late.user('u'))?.user.id).toBe('u')
      await closeAll()
    })
  })
})
