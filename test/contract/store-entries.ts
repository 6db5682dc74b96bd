import assert from 'node:assert/strict'
import type { EntryRow, Operation, Store } from 'passport-jit'
import { onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import {
  change,
  conflict,
  connectionPut,
  foundation,
  landed,
  nobody,
  organizationPut,
} from './store-world.js'

const organization = (
  id: string,
  domains: readonly string[],
  version = 'v1',
  entry = `{"${version}":"${id}"}`,
) => organizationPut(id, { version, kept: { entry, domains } })

const connection = (id: string, owner: string, version = 'v1', entry = `{"${version}":"${id}"}`) =>
  connectionPut(id, owner, { version, kept: { entry } })

const row = (id: string, version = 'v1'): EntryRow => ({ id, version, entry: `{"${version}":"${id}"}` })

/** Tier one, continued: organizations and connections that are kept in the store as a whole. */
export function keptEntries(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  let turn = 0
  const put = (store: Store, ...ops: Operation[]) => landed(store.commit(change(`put ${turn++}`, { ops })))
  const kept = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await foundation(store)
      await put(
        store,
        organization('acme', ['acme.example', '*.acme.example', 'acme.test']),
        organization('globex', ['globex.example', 'lab.acme.example']),
        connection('acme-saml', 'acme'),
        connection('acme-oidc', 'acme'),
        connection('globex-oidc', 'globex'),
      )
      await body(store)
    })

  kept('an entry is read as it was written, by its exact id', async ({ entries }) => {
    assert.deepEqual(await entries.organization('acme'), row('acme'))
    assert.deepEqual(await entries.connection('acme-saml'), row('acme-saml'))
    for (const id of ['Acme', 'acme ', 'acm%', '', 'acme-saml']) {
      assert.equal(await entries.organization(id), null, id)
    }
    for (const id of ['acme', 'ACME-SAML', '']) assert.equal(await entries.connection(id), null, id)
  })

  kept('texts of entries come back as they were written', async (store) => {
    const entry = JSON.stringify({ text: `ž 漢 \u{1f511} '"\\ \0\n$1 ? :x`, long: 'x'.repeat(100_000) })
    await put(store, organization('acme', [], 'v2', entry), connection('acme-saml', 'acme', 'v2', entry))
    assert.equal((await store.entries.organization('acme'))?.entry, entry)
    assert.equal((await store.entries.connection('acme-saml'))?.entry, entry)
  })

  kept('connections come by id, page by page', async ({ entries }) => {
    assert.deepEqual(await entries.connections('', 2), [row('acme-oidc'), row('acme-saml')])
    assert.deepEqual(await entries.connections('acme-saml', 2), [row('globex-oidc')])
    assert.deepEqual(await entries.connections('globex-oidc', 2), [])
  })

  kept('domain answers with the owner of the first pattern that has one', async ({ entries }) => {
    const acme = { owner: row('acme'), connections: [row('acme-oidc'), row('acme-saml')] }
    const globex = { owner: row('globex'), connections: [row('globex-oidc')] }
    for (const [patterns, answer] of [
      [['acme.example'], acme],
      [['none.example', 'acme.test'], acme],
      [['lab.acme.example', '*.acme.example'], globex],
      [['x.acme.example', '*.acme.example'], acme],
      [['globex.example', 'acme.example'], globex],
      [['acme.example', 'globex.example'], acme],
      [['Acme.example', 'acme.exampl', '%', '*', ''], null],
      [[], null],
    ] as const) {
      assert.deepEqual(await entries.domain(patterns), answer, JSON.stringify(patterns))
    }
  })

  kept('an organization without connections answers for its domain too', async (store) => {
    await put(store, organization('initech', ['initech.example']))
    assert.deepEqual(await store.entries.domain(['initech.example']), {
      owner: row('initech'),
      connections: [],
    })
  })

  kept('a put replaces the domains of its organization, and of no other', async (store) => {
    await put(store, organization('acme', ['acme.test', 'new.example'], 'v2'))
    const owner = async (pattern: string) => (await store.entries.domain([pattern]))?.owner.id
    for (const [pattern, id] of [
      ['acme.example', undefined],
      ['*.acme.example', undefined],
      ['acme.test', 'acme'],
      ['new.example', 'acme'],
      ['globex.example', 'globex'],
      ['lab.acme.example', 'globex'],
    ]) {
      assert.equal(await owner(pattern!), id, pattern)
    }
  })

  kept('a domain of another organization is a conflict, until that one gives it up', async (store) => {
    const before = await store.entries.changes(0)
    const take = change('take', { ops: [organization('globex', ['acme.test'], 'v2')] })
    assert.deepEqual(conflict(await store.commit(take)), { kind: 'key', key: 'domain' })
    assert.deepEqual(await store.entries.changes(0), before)
    await put(store, organization('acme', ['acme.example'], 'v2'))
    await landed(store.commit(take))
    assert.equal((await store.entries.domain(['acme.test']))?.owner.id, 'globex')
  })

  kept('two organizations exchange domains in one change set', async (store) => {
    await put(
      store,
      organization('acme', ['globex.example'], 'v2'),
      organization('globex', ['acme.example'], 'v2'),
    )
    assert.equal((await store.entries.domain(['acme.example']))?.owner.id, 'globex')
    assert.equal((await store.entries.domain(['globex.example']))?.owner.id, 'acme')
  })

  kept('a put writes where the version or the entry differs, and only then', async (store) => {
    const position = async () => (await store.entries.changes(0)).position
    const first = await position()
    await put(
      store,
      organization('acme', ['acme.example', '*.acme.example', 'acme.test']),
      connection('acme-saml', 'acme'),
    )
    assert.equal(await position(), first)
    await put(store, connection('acme-saml', 'acme', 'v1', '{"sealed":"anew"}'))
    const second = await position()
    assert.ok(second > first)
    assert.deepEqual(await store.entries.connection('acme-saml'), {
      ...{ id: 'acme-saml', version: 'v1', entry: '{"sealed":"anew"}' },
    })
    await put(store, organization('acme', [], 'v2', (await store.entries.organization('acme'))!.entry))
    assert.ok((await position()) > second)
    assert.equal((await store.entries.organization('acme'))?.version, 'v2')
  })

  kept('a put without an entry leaves what is kept', async (store) => {
    const before = await store.entries.changes(0)
    await put(store, organizationPut('acme', { version: 'v2' }), connectionPut('acme-saml', 'acme'))
    assert.deepEqual(await store.entries.changes(0), before)
    assert.deepEqual(await store.entries.organization('acme'), row('acme'))
    assert.equal((await store.entries.domain(['acme.test']))?.owner.id, 'acme')
    const { organizations } = await store.load({ ...nobody, organizations: ['acme'] })
    assert.equal(organizations[0]?.version, 'v2')
  })

  kept('what is put without an entry is not kept', async (store) => {
    await put(store, organizationPut('static'), connectionPut('static-oidc', 'static'))
    assert.equal(await store.entries.organization('static'), null)
    assert.equal(await store.entries.connection('static-oidc'), null)
  })

  kept('an entry is put over the version it was read at alone', async (store) => {
    const over = (version: string, entry: string) =>
      change(`over ${turn++}`, {
        ops: [connectionPut('acme-saml', 'acme', { kept: { entry, over: version } })],
      })
    assert.deepEqual(conflict(await store.commit(over('v0', '{}'))), { kind: 'key', key: 'connection' })
    assert.deepEqual(await store.entries.connection('acme-saml'), row('acme-saml'))
    await landed(store.commit(over('v1', '{"sealed":"anew"}')))
    assert.equal((await store.entries.connection('acme-saml'))?.entry, '{"sealed":"anew"}')
  })

  kept(
    'known answers for the organizations, connections and domains it is asked about',
    async ({ entries }) => {
      const byId = (rows: readonly EntryRow[]) => rows.map(({ id }) => id).sort()
      const found = await entries.known({
        organizations: ['globex', 'none'],
        connections: ['acme-saml', 'none'],
        domains: ['acme.example', 'none.example', '*.acme.example'],
      })
      assert.deepEqual(found.organizations, [row('globex')])
      assert.deepEqual(byId(found.connections), ['acme-saml', 'globex-oidc'])
      assert.deepEqual(
        [...found.owners].sort((a, b) => (a.pattern < b.pattern ? -1 : 1)),
        [
          { pattern: '*.acme.example', organization: 'acme' },
          { pattern: 'acme.example', organization: 'acme' },
        ],
      )
      assert.deepEqual(await entries.known({ organizations: [], connections: [], domains: [] }), {
        ...{ organizations: [], connections: [], owners: [] },
      })
    },
  )

  kept('known leaves out an entry that is not the one guards compare', async (store) => {
    await put(store, organizationPut('globex', { version: 'v2' }))
    await put(store, connectionPut('acme-saml', 'acme', { version: 'v2' }))
    const query = { organizations: ['globex'], connections: ['acme-saml', 'acme-oidc'], domains: [] }
    const found = await store.entries.known(query)
    assert.deepEqual(found.organizations, [])
    assert.deepEqual(found.connections.map(({ id }) => id).sort(), ['acme-oidc', 'globex-oidc'])
  })

  kept('changes names what was written after a position, with its organization', async (store) => {
    const { entries } = store
    const all = await entries.changes(0)
    const sorted = (list: readonly string[] | null) => [...list!].sort()
    assert.deepEqual(sorted(all.ids), ['acme', 'acme-oidc', 'acme-saml', 'globex', 'globex-oidc'])
    assert.deepEqual(sorted(all.domains), [
      ...['*.acme.example', 'acme.example', 'acme.test', 'globex.example', 'lab.acme.example'],
    ])
    assert.deepEqual(await entries.changes(all.position), { position: all.position, ids: [], domains: [] })
    await put(store, connection('globex-oidc', 'globex', 'v2'))
    const later = await entries.changes(all.position)
    assert.deepEqual(sorted(later.ids), ['globex', 'globex-oidc'])
    assert.deepEqual(sorted(later.domains), ['globex.example', 'lab.acme.example'])
    assert.deepEqual(await entries.changes(later.position), {
      ...{ position: later.position, ids: [], domains: [] },
    })
  })

  kept('a connection that was removed is gone, and changes names it', async (store) => {
    const { position } = await store.entries.changes(0)
    const remove = change('remove', { ops: [{ op: 'connection.remove', id: 'acme-oidc' }] })
    await landed(store.commit(remove))
    const { entries } = store
    assert.equal(await entries.connection('acme-oidc'), null)
    assert.deepEqual(await entries.connections('', 10), [row('acme-saml'), row('globex-oidc')])
    assert.deepEqual((await entries.domain(['acme.test']))?.connections, [row('acme-saml')])
    const query = { organizations: ['acme'], connections: ['acme-oidc'], domains: [] }
    assert.deepEqual((await entries.known(query)).connections, [row('acme-saml')])
    const sorted = (list: readonly string[] | null) => [...list!].sort()
    const later = await entries.changes(position)
    assert.ok(later.position > position)
    assert.deepEqual(sorted(later.ids), ['acme', 'acme-oidc'])
    assert.deepEqual(sorted(later.domains), ['*.acme.example', 'acme.example', 'acme.test'])
    assert.deepEqual((await entries.changes(later.position)).ids, [])
    assert.deepEqual(conflict(await store.commit(remove)), { kind: 'key', key: 'connection' })
  })

  kept(
    'a connection that was removed can be put again, by any organization, and removed again',
    async (store) => {
      const { entries } = store
      for (const owner of ['globex', 'acme', 'acme']) {
        await put(store, { op: 'connection.remove', id: 'acme-oidc' })
        const over = connectionPut('acme-oidc', owner, { kept: { entry: '{}', over: 'v1' } })
        assert.deepEqual(conflict(await store.commit(change(`over ${turn++}`, { ops: [over] }))), {
          ...{ kind: 'key', key: 'connection' },
        })
        const { position } = await entries.changes(0)
        await put(store, connection('acme-oidc', owner))
        assert.deepEqual(await entries.connection('acme-oidc'), row('acme-oidc'))
        const later = await entries.changes(position)
        assert.ok(later.position > position)
        assert.deepEqual([...later.ids!].sort(), ['acme-oidc', owner].sort())
      }
    },
  )

  kept('removing a connection that is not kept is no change of entries', async (store) => {
    await put(store, connectionPut('static-oidc', 'acme'))
    const before = await store.entries.changes(0)
    await put(store, { op: 'connection.remove', id: 'static-oidc' })
    assert.deepEqual(await store.entries.changes(0), before)
  })

  kept('changes of more than a thousand names none', async (store) => {
    const { position } = await store.entries.changes(0)
    const ids = Array.from({ length: 1001 }, (_, index) => `o${index}`)
    await put(store, ...ids.slice(1).map((id) => organization(id, [])))
    const thousand = await store.entries.changes(position)
    assert.deepEqual([...thousand.ids!].sort(), ids.slice(1).sort())
    await put(store, organization(ids[0]!, []))
    const more = await store.entries.changes(position)
    assert.deepEqual([more.ids, more.domains], [null, []])
    assert.ok(more.position > thousand.position)
  })
}
