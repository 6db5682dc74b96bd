import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type DirectoryInput, JitError, type SecretKey, type Store, storeDirectory } from 'passport-jit'
import { answers, directoryContract, tenants } from './directory.js'
import { eventually, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'

const key = (id: string): SecretKey => ({ id, key: randomBytes(32).toString('base64') })
const keys = [key('first')]

/** A store whose reads and writes of entries are counted, by their name. */
function counted(store: Store) {
  const calls: string[] = []
  const entries = Object.fromEntries(
    Object.entries(store.entries).map(([name, method]) => [
      name,
      (...values: unknown[]) => {
        calls.push(name)
        return (method as (...values: unknown[]) => unknown)(...values)
      },
    ]),
  ) as unknown as Store['entries']
  const commit: Store['commit'] = (changes) => {
    calls.push(`commit of ${changes.ops.length}`)
    return store.commit(changes)
  }
  /** What was called since it was last asked, the question for changes aside. */
  const reads = () => calls.splice(0).filter((name) => name !== 'changes')
  return { store: { ...store, entries, commit } as Store, reads }
}

async function refusal(work: Promise<unknown>): Promise<JitError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof JitError, `expected a refusal, got ${String(error)}`)
  return error
}

type Connections = NonNullable<DirectoryInput['connections']>
type Parts = { readonly organizations?: object; readonly connections?: object }

/** The tenants with other parts in some entries, by id. */
const changed = (parts: Readonly<Record<string, object>>, { organizations, connections } = tenants) =>
  ({
    organizations: organizations.map((entry) => ({ ...entry, ...parts[entry.id] })),
    connections: connections.map((entry) => ({ ...entry, ...parts[entry.id] })) as Connections,
  }) satisfies Parts as DirectoryInput

/** What a directory in the store promises besides, whatever the store. Takes the factory of `storeContract`. */
export function keptDirectoryContract(
  options: Runner & { readonly factory: () => Promise<StoreFixture> },
): void {
  const { factory } = options
  directoryContract({
    ...options,
    factory: async (input) => {
      const { store, close } = await factory()
      const directory = storeDirectory({ store, keys })
      await directory.import(input)
      return { directory, close }
    },
  })

  const check = onFresh(options, async () => {
    const fixture = await factory()
    const { store, reads } = counted(fixture.store)
    const directory = storeDirectory({ store, keys })
    return {
      ...fixture,
      store,
      reads,
      directory,
      another: async () => storeDirectory({ store: await fixture.another(), keys }),
    }
  })
  const raw = async (store: Store) =>
    JSON.stringify([
      await Promise.all(tenants.organizations.map(({ id }) => store.entries.organization(id))),
      await store.entries.connections('', 1000),
      (await store.entries.changes(0)).position,
    ])

  options.describe('directory: import', () => {
    check('before anything else was asked, on a store without tables', async ({ directory }) => {
      const { written, warnings } = await directory.import(tenants)
      assert.equal(written.length, 7)
      assert.deepEqual(
        warnings.filter((warning) => !warning.includes('"initech"')),
        [
          'connection "globex-oidc" of organization "globex" vouches for "*.lab.acme.example", which organization "acme" owns: its IdP can sign in as anybody there',
        ],
      )
      assert.equal((await directory.organization('acme'))?.name, 'Acme')
    })

    check('an empty store answers, before any import', async ({ directory }) => {
      assert.equal(await directory.organization('acme'), null)
      assert.equal(await directory.connection('acme-oidc'), null)
      assert.deepEqual(await directory.domain('acme.example'), { owner: null, sso: [] })
      await directory.import(tenants)
      assert.deepEqual(await answers(directory, 'acme.test'), ['acme', 'acme-oidc'])
    })

    check('importing twice writes nothing the second time', async ({ directory, store, reads }) => {
      await directory.import(tenants)
      const before = await raw(store)
      reads()
      assert.deepEqual((await directory.import(tenants)).written, [])
      assert.deepEqual(reads(), ['known'])
      assert.equal(await raw(store), before)
    })

    check('the order of keys is no change', async ({ directory, store }) => {
      await directory.import(tenants)
      const before = await raw(store)
      const backwards = (entry: object) => Object.fromEntries(Object.entries(entry).reverse())
      const { organizations, connections } = tenants
      const input = { organizations: organizations.map(backwards), connections: connections.map(backwards) }
      assert.deepEqual((await directory.import(input as unknown as DirectoryInput)).written, [])
      assert.equal(await raw(store), before)
    })

    check('versions change with the content, of what changed alone', async ({ directory }) => {
      await directory.import(tenants)
      const versions = async () => ({
        acme: (await directory.organization('acme'))!.version,
        globex: (await directory.organization('globex'))!.version,
        saml: (await directory.connection('acme-saml'))!.version,
        oidc: (await directory.connection('acme-oidc'))!.version,
      })
      const before = await versions()
      const first = changed({ acme: { seatLimit: 51 } })
      assert.deepEqual((await directory.import(first)).written, ['acme'])
      const second = await versions()
      assert.notEqual(second.acme, before.acme)
      assert.deepEqual({ ...second, acme: before.acme }, before)
      const next = changed({ acme: { seatLimit: 51 }, 'acme-oidc': { clientSecret: 'another' } })
      assert.deepEqual((await directory.import(next)).written, ['acme-oidc'])
      const third = await versions()
      assert.notEqual(third.oidc, before.oidc)
      assert.deepEqual({ ...third, oidc: before.oidc }, second)
    })

    check('what another directory read can be imported', async ({ directory, another }) => {
      await directory.import(tenants)
      const found = (await directory.connection('acme-oidc'))!
      const organization = (await directory.organization('acme'))!
      const saml = (await directory.connection('acme-saml'))!
      const { written } = await (await another()).import({
        entries: { organizations: [organization], connections: [found, saml], providers: [] },
      })
      assert.deepEqual(written, [])
    })

    check('organizations that the input does not name stay', async ({ directory }) => {
      await directory.import(tenants)
      const initech = { id: 'umbrella', name: 'Umbrella', roles: ['member'], domains: ['umbrella.example'] }
      assert.deepEqual((await directory.import({ organizations: [initech] })).written, ['umbrella'])
      assert.deepEqual(await answers(directory, 'umbrella.example'), ['umbrella'])
      assert.deepEqual(await answers(directory, 'acme.test'), ['acme', 'acme-oidc'])
    })

    check('its warnings know the app-wide ways in, whose secrets it does not need', async ({ store }) => {
      const warned = async (providers: object) => {
        const env = { HUB_SECRET: 'x' }
        const directory = storeDirectory({ store, keys, env, providers })
        const { warnings } = await directory.import({ ...tenants, social: [], email: { enabled: true } })
        return warnings.filter((warning) => /neither e-mail nor a social provider/.test(warning)).length
      }
      const clientSecret = { env: 'HUB_SECRET' }
      assert.equal(await warned({}), 1)
      assert.equal(await warned({ email: { enabled: true } }), 0)
      assert.equal(
        await warned({ social: [{ id: 'hub', preset: 'github', clientId: 'x', clientSecret }] }),
        0,
      )
    })

    check(
      'what is imported reads no variable of the environment that it was not given',
      async ({ store }) => {
        const [name] = Object.keys(process.env)
        const clientSecret = { env: name! }
        const input = {
          organizations: [tenants.organizations[1]!],
          connections: [{ ...tenants.connections[2]!, clientSecret }] as Connections,
        }
        await assert.rejects(
          storeDirectory({ store, keys }).import(input),
          /: clientSecret: .* is not set.*storeDirectory\(\{ env \}\)/,
        )
        await storeDirectory({ store, keys, env: { [name!]: 'given' } }).import(input)
      },
    )

    const [acme, globex] = tenants.organizations
    const refusals: [name: string, input: DirectoryInput, ...problems: string[]][] = [
      [
        '[L22] a domain that another organization owns, naming both',
        {
          organizations: [
            { id: 'thief', name: 'Thief', roles: ['member'], domains: ['new.example', 'acme.test'] },
          ],
        },
        'organization "thief": domains: "acme.test" is already owned by organization "acme"',
      ],
      [
        '[L25] the id of a connection of another organization, naming both',
        {
          organizations: [{ id: 'thief', name: 'Thief', roles: ['member'] }],
          connections: [{ ...tenants.connections[2]!, organization: 'thief' }] as Connections,
        },
        'connection "globex-oidc" of organization "thief": the id is already used by organization "globex"',
      ],
      [
        'a connection left out, which would stay as it is',
        { organizations: [{ ...globex!, name: 'Renamed' }] },
        'organization "globex": its connection "globex-oidc" is left out; name it too, with enabled: false to switch it off',
      ],
      [
        'every problem of the input at once, and no half of it written',
        {
          organizations: [acme!, { id: 'new', name: 'New', roles: ['member'], domains: ['gmail.com'] }],
          connections: [{ ...tenants.connections[0]!, jit: { roles: ['cheif'] } }] as Connections,
        },
        'organization "new": domains.0: "gmail.com" is a public mail provider: anybody can get a mailbox there',
        'connection "acme-oidc": jit.roles: organization "acme" has no role "cheif"',
      ],
    ]
    const development = changed({ 'globex-oidc': { allowInsecureRequests: true } })
    refusals.push([
      'a connection that would have this machine asked, with the way out',
      development,
      'connection "globex-oidc": allowInsecureRequests: leave it out; for development, storeDirectory({ allowInsecureRequests: true }) lets it be imported',
    ])
    refusals.push([
      'what no store can write, naming the key',
      changed({
        acme: { seatLimit: 2 ** 31 },
        globex: { name: 'Glo\0bex' },
        initech: { name: 'Ini\ud800tech' },
      }),
      'organization "acme": seatLimit: Too big: expected number to be <=2147483647',
      'organization "globex": name: it must not hold U+0000 or half of a surrogate pair',
      'organization "initech": name: it must not hold U+0000 or half of a surrogate pair',
    ])
    refusals.push([
      'what would take every sign-in that reads it a long time, naming the entry',
      changed({
        'acme-saml': { idpMetadata: `<md>${'<x/>'.repeat(125_000)}</md>` },
        globex: { roles: ['member', ...Array.from({ length: 30_000 }, (_, n) => `a-role-of-its-own:${n}`)] },
      }),
      'organization "globex": it is longer than 500000 characters; of SAML metadata the EntityDescriptor of the identity provider is enough',
      'connection "acme-saml": it is longer than 500000 characters; of SAML metadata the EntityDescriptor of the identity provider is enough',
    ])
    check('what a store can just write is written', async ({ directory }) => {
      const odd = 'x\0\ud800'
      const most = changed({
        acme: { seatLimit: 2 ** 31 - 1, name: `\u{1f511}\u0001${'x'.repeat(197)}` },
        'acme-oidc': {
          clientId: odd,
          clientSecret: odd,
          attributes: { groups: odd },
          groups: { map: { [odd]: ['member'] } },
        },
        'acme-saml': { idpMetadata: odd },
      })
      await directory.import(most)
      const written = await directory.organization('acme')
      assert.deepEqual([written?.seatLimit, written?.name], [2 ** 31 - 1, most.organizations[0]!.name])
      const connection = await directory.connection('acme-oidc')
      assert.deepEqual([connection?.attributes.groups, connection?.groups.map], [odd, { [odd]: ['member'] }])
    })
    for (const [name, input, ...problems] of refusals) {
      check(`refused: ${name}`, async ({ directory, store }) => {
        await directory.import(tenants)
        const before = await raw(store)
        const error = await refusal(directory.import(input))
        assert.equal(error.code, 'config_invalid')
        assert.deepEqual(error.problems, problems)
        assert.equal(await raw(store), before)
        assert.equal(
          await directory.organization(input.organizations.at(-1)!.id === 'globex' ? 'none' : 'thief'),
          null,
        )
        assert.equal((await directory.import(changed({ globex: { name: 'Renamed' } }))).written.length, 1)
      })
    }

    check(
      'what may ask this machine counts where the operator says so, else not even once it is kept',
      async (fresh) => {
        const open = storeDirectory({ store: fresh.store, keys, allowInsecureRequests: true })
        const { directory } = fresh
        const counts = async (at: typeof directory) => {
          await at.refresh()
          const connection = await at.connection('globex-oidc')
          const { sso } = await at.domain('globex.example')
          assert.deepEqual(sso[0], connection)
          return connection?.protocol === 'oidc' && connection.allowInsecureRequests
        }
        await directory.import(changed({ 'globex-oidc': { allowInsecureRequests: false } }))
        assert.deepEqual([await counts(directory), await counts(open)], [false, false])
        assert.deepEqual((await open.import(development)).written, ['globex-oidc'])
        assert.deepEqual([await counts(directory), await counts(open)], [false, true])
      },
    )

    check('domains go from one organization to another in one import', async ({ directory }) => {
      await directory.import(tenants)
      assert.deepEqual(await answers(directory, 'acme.test'), ['acme', 'acme-oidc'])
      const exchanged = {
        acme: { domains: ['globex.example'] },
        globex: { domains: ['acme.test', 'acme.example'] },
      }
      await directory.import(changed({ ...exchanged, 'acme-saml': { vouchesFor: ['globex.example'] } }))
      assert.deepEqual(await answers(directory, 'acme.test'), ['globex', 'globex-oidc'])
      assert.deepEqual(await answers(directory, 'globex.example'), ['acme', 'acme-oidc', 'acme-saml'])
      assert.deepEqual(await answers(directory, 'x.acme.example'), [undefined])
    })

    check(
      'of two that import one domain at once, one gets it and the other is told whose it is',
      async (fresh) => {
        const second = await fresh.another()
        await fresh.directory.import({ organizations: [] })
        for (let round = 0; round < 10; round++) {
          const claim = (id: string) => ({
            organizations: [
              { id: `${id}${round}`, name: id, roles: ['member'], domains: [`d${round}.example`] },
            ],
          })
          const results = await Promise.allSettled([
            fresh.directory.import(claim('one')),
            second.import(claim('two')),
          ])
          const failed = results.filter((result) => result.status === 'rejected')
          assert.equal(failed.length, 1)
          const [winner, loser] = results[0]!.status === 'fulfilled' ? ['one', 'two'] : ['two', 'one']
          assert.match(
            (failed[0]!.reason as Error).message,
            new RegExp(
              `"${loser}${round}".*"d${round}.example" is already owned by organization "${winner}${round}"`,
            ),
          )
          assert.deepEqual(await answers(second, `d${round}.example`), [`${winner}${round}`])
        }
      },
    )

    check('switching a connection off ends its sessions and routes nobody', async ({ directory, store }) => {
      await directory.import(tenants)
      await directory.import(changed({ 'globex-oidc': { enabled: false } }))
      assert.deepEqual(await answers(directory, 'globex.example'), ['globex'])
      const query = { issuer: '', subject: '', email: null, organizations: ['globex'] }
      const { connection, organizations } = await store.load({ ...query, source: 'connection:globex-oidc' })
      assert.deepEqual([connection?.enabled, connection?.epoch], [false, 1])
      assert.equal(connection?.version, (await directory.connection('globex-oidc'))?.version)
      assert.equal(organizations[0]?.version, (await directory.organization('globex'))?.version)
    })
  })

  options.describe('directory: memory', () => {
    check('a lookup costs one read when cold and none when warm', async ({ directory, reads }) => {
      await directory.import(tenants)
      reads()
      for (const [name, look] of Object.entries({
        organization: () => directory.organization('acme'),
        connection: () => directory.connection('acme-oidc'),
        domain: () => directory.domain('x.acme.example'),
      })) {
        const first = await look()
        assert.deepEqual(reads(), [name])
        for (let n = 0; n < 100; n++) assert.equal(await look(), first)
        assert.deepEqual(reads(), [])
      }
      for (const look of [() => directory.organization('none'), () => directory.domain('none.example')]) {
        await look()
        assert.equal(reads().length, 1)
        await look()
        assert.deepEqual(reads(), [])
      }
    })

    check('100 lookups of one cold key at once cost one read', async ({ directory, reads }) => {
      await directory.import(tenants)
      reads()
      const found = await Promise.all(Array.from({ length: 100 }, () => directory.domain('acme.example')))
      assert.equal(new Set(found).size, 1)
      assert.deepEqual(reads(), ['domain'])
    })

    check('a read that fails is not remembered', async ({ directory, store }) => {
      await directory.import(tenants)
      const { organization } = store.entries
      Object.assign(store.entries, { organization: async () => Promise.reject(new Error('lost')) })
      await assert.rejects(directory.organization('acme'), /lost/)
      Object.assign(store.entries, { organization })
      assert.equal((await directory.organization('acme'))?.name, 'Acme')
    })

    check('a read that a change overtook is not remembered', async ({ directory, store, reads }) => {
      await directory.import(tenants)
      const { organization } = store.entries
      let answer = () => {}
      const held = new Promise<void>((resolve) => {
        answer = resolve
      })
      Object.assign(store.entries, {
        organization: async (id: string) => {
          const old = await organization(id)
          await held
          return old
        },
      })
      const overtaken = directory.organization('acme')
      await eventually(async () => reads().includes('organization'))
      Object.assign(store.entries, { organization })
      await directory.import(changed({ acme: { name: 'Acme II' } }))
      assert.equal((await directory.organization('acme'))?.name, 'Acme II')
      answer()
      assert.equal((await overtaken)?.name, 'Acme')
      assert.equal((await directory.organization('acme'))?.name, 'Acme II')
    })

    check('a change is seen by another process within a second, each kind of answer', async (fresh) => {
      const { directory } = fresh
      const other = await fresh.another()
      await directory.import(tenants)
      const names = ['acme.test', 'x.acme.example', 'new.example', 'globex.example', 'initech.example']
      const seen = async () => ({
        name: (await other.organization('acme'))?.name,
        enabled: (await other.connection('globex-oidc'))?.enabled,
        domains: await Promise.all(names.map((name) => answers(other, name))),
      })
      await other.refresh()
      assert.deepEqual(await seen(), {
        ...{ name: 'Acme', enabled: true },
        domains: [
          ['acme', 'acme-oidc'],
          ['acme', 'acme-oidc'],
          [undefined],
          ['globex', 'globex-oidc'],
          ['initech'],
        ],
      })
      await directory.import(
        changed({
          acme: { name: 'Acme II', domains: ['acme.example', '*.new.example', 'new.example'] },
          'globex-oidc': { enabled: false },
          'initech-oidc': { enabled: true },
        }),
      )
      const after = {
        ...{ name: 'Acme II', enabled: false },
        domains: [[undefined], [undefined], ['acme', 'acme-oidc'], ['globex'], ['initech', 'initech-oidc']],
      }
      // A second is the promise; the rest is for a machine that is busy with other tests.
      await eventually(async () => JSON.stringify(await seen()) === JSON.stringify(after), 1_500)
    })

    check('a connection that was removed is forgotten by another process too', async (fresh) => {
      const { directory, store } = fresh
      await directory.import(tenants)
      const second = await fresh.another()
      for (const one of [directory, second]) {
        assert.equal((await one.connection('acme-oidc'))?.id, 'acme-oidc')
        assert.deepEqual(await answers(one, 'acme.test'), ['acme', 'acme-oidc'])
      }
      const ops = [{ op: 'connection.remove', id: 'acme-oidc' }] as const
      await store.commit({ id: 'remove', expect: [], guards: [], ops, events: [] })
      for (const one of [directory, second]) {
        await one.refresh()
        assert.equal(await one.connection('acme-oidc'), null)
        assert.deepEqual(await answers(one, 'acme.test'), ['acme'])
        assert.deepEqual(await answers(one, 'globex.example'), ['globex', 'globex-oidc'])
      }
    })

    check('a subdomain that was nobody’s is seen to have an owner', async ({ directory, another }) => {
      await directory.import(tenants)
      const other = await another()
      assert.deepEqual(await answers(other, 'x.initech.example'), [undefined])
      await directory.import(changed({ initech: { domains: ['initech.example', '*.initech.example'] } }))
      await other.refresh()
      assert.deepEqual(await answers(other, 'x.initech.example'), ['initech'])
    })

    check('what did not change is not read again', async ({ directory, another, reads }) => {
      await directory.import(tenants)
      const looks = [
        () => directory.organization('acme'),
        () => directory.connection('acme-saml'),
        () => directory.domain('acme.example'),
        () => directory.domain('none.example'),
      ]
      for (const look of looks) await look()
      await (await another()).import(changed({ globex: { name: 'Renamed' } }))
      await directory.refresh()
      reads()
      for (const look of looks) await look()
      assert.deepEqual(reads(), [])
      assert.equal((await directory.organization('globex'))?.name, 'Renamed')
    })

    check('the store is asked for changes at most about once a second', async ({ directory, store }) => {
      await directory.import(tenants)
      let asked = 0
      const { changes } = store.entries
      Object.assign(store.entries, {
        changes: (after: number) => {
          asked += 1
          return changes(after)
        },
      })
      const began = performance.now()
      while (performance.now() - began < 1_200) {
        await Promise.all(Array.from({ length: 50 }, () => directory.organization('acme')))
        await new Promise((resolve) => setImmediate(resolve))
      }
      assert.ok(asked >= 1 && asked <= 2, `asked ${asked} times`)
    })

    check('memory is bounded: the longest unused goes, and guessed names drive nobody out', async (fresh) => {
      const cacheSize = 20_000
      const { store, reads } = fresh
      const directory = storeDirectory({ store, keys, cacheSize })
      const ids = Array.from({ length: 100 }, (_, n) => `o${n}`)
      await directory.import({ organizations: ids.map((id) => ({ id, name: id, roles: ['member'] })) })
      for (const id of ids) await directory.organization(id)
      reads()
      await directory.organization('o99')
      for (let n = 0; n < 1_000; n++) await directory.organization(`guess${n}`)
      reads()
      await directory.organization('o99')
      assert.deepEqual(reads(), [])
      await directory.organization('o0')
      assert.deepEqual(reads(), ['organization'])
    })

    check('nor do guessed names below a domain, or an entry longer than all of memory', async (fresh) => {
      const { store, reads } = fresh
      const directory = storeDirectory({ store, keys, cacheSize: 20_000 })
      await directory.import({
        organizations: [
          { id: 'small', name: 'Small', roles: ['member'], domains: ['small.example'] },
          { id: 'wide', name: 'Wide', roles: ['member'], domains: ['wide.example', '*.wide.example'] },
          { id: 'long', name: 'Long', roles: ['member', ...rolesOf(200)] },
        ],
      })
      await directory.domain('small.example')
      await directory.domain('wide.example')
      for (let n = 0; n < 200; n++) await directory.domain(`guess${n}.wide.example`)
      assert.equal((await directory.organization('long'))?.name, 'Long')
      reads()
      assert.equal((await directory.domain('small.example')).owner?.id, 'small')
      assert.equal((await directory.domain('wide.example')).owner?.id, 'wide')
      assert.equal((await directory.domain('guess199.wide.example')).owner?.id, 'wide')
      assert.deepEqual(reads(), [])
      await directory.organization('long')
      assert.deepEqual(reads(), ['organization'])
    })
  })

  options.describe('directory: secrets', () => {
    const secrets = ['secret of', 'private key of']

    check('are encrypted in the rows, each differently', async ({ directory, store }) => {
      await directory.import(tenants)
      const text = await raw(store)
      for (const secret of secrets) assert.ok(!text.includes(secret))
      for (const { id } of tenants.connections) {
        const { entry } = (await store.entries.connection(id))!
        assert.match(entry, /"(?:clientSecret|privateKey)":"sealed:first:[\w-]{40,}"/)
      }
      const same = changed({ 'acme-oidc': { clientSecret: 'same' }, 'globex-oidc': { clientSecret: 'same' } })
      await directory.import(same)
      const sealed = await Promise.all(
        ['acme-oidc', 'globex-oidc'].map(
          async (id) =>
            (JSON.parse((await store.entries.connection(id))!.entry) as { clientSecret: string })
              .clientSecret,
        ),
      )
      assert.notEqual(sealed[0], sealed[1])
    })

    check(
      'rotate: encrypted by the new key, versions and answers as before',
      async ({ directory, store }) => {
        await directory.import(tenants)
        const connection = async (from: typeof directory) => [
          await from.connection('acme-oidc'),
          await from.connection('acme-saml'),
          await from.connection('initech-oidc'),
        ]
        const before = await connection(directory)
        const second = key('second')
        const both = storeDirectory({ store, keys: [second, ...keys] })
        assert.deepEqual(await connection(both), before)
        assert.equal(await both.rotate(), 4)
        assert.ok(!(await raw(store)).includes('sealed:first:'))
        const after = storeDirectory({ store, keys: [second] })
        assert.deepEqual(await connection(after), before)
        assert.equal(await after.rotate(), 0)
        assert.deepEqual((await after.import(tenants)).written, [])
        await directory.refresh()
        const error = await refusal(directory.connection('acme-oidc'))
        assert.equal(error.code, 'config_invalid')
        assert.match(
          error.message,
          /connection "acme-oidc": clientSecret .*key "second", which was not given/,
        )
      },
    )

    check('rotate while others import loses no change', async ({ directory, store, another }) => {
      await directory.import(tenants)
      const second = key('second')
      const both = storeDirectory({ store, keys: [second, ...keys] })
      const importing = await another()
      for (let round = 0; round < 10; round++) {
        const input = changed({ 'acme-oidc': { clientId: `client ${round}` } })
        await Promise.all([both.rotate(), importing.import(input)])
        await both.refresh()
        const found = await both.connection('acme-oidc')
        assert.equal(found?.protocol === 'oidc' && found.clientId, `client ${round}`)
        assert.deepEqual((await both.import(input)).written, [])
      }
    })

    check(
      'a key that is missing is named, with the connection, and no secret',
      async ({ directory, store }) => {
        await directory.import(tenants)
        const stranger = storeDirectory({ store, keys: [key('other')] })
        for (const look of [
          () => stranger.connection('acme-saml'),
          () => stranger.domain('acme.example'),
          () => stranger.rotate(),
        ]) {
          const error = await refusal(look())
          assert.equal(error.code, 'config_invalid')
          assert.match(
            error.message,
            /connection "acme-(saml|oidc)": (privateKey|clientSecret) .*key "first", which was not given/,
          )
          for (const secret of [...secrets, 'sealed:'])
            assert.ok(!`${error.stack}${error.publicMessage}`.includes(secret))
        }
        const impostor = storeDirectory({ store, keys: [key('first')] })
        assert.match(
          (await refusal(impostor.connection('acme-oidc'))).message,
          /"acme-oidc".*does not decrypt.*"first"/,
        )
        assert.equal((await stranger.organization('acme'))?.name, 'Acme')
      },
    )

    check('whose key was lost can be imported again', async ({ directory, store }) => {
      await directory.import(tenants)
      const fresh = storeDirectory({ store, keys: [key('other')] })
      assert.deepEqual((await fresh.import(tenants)).written.length, 4)
      assert.equal((await fresh.connection('acme-oidc'))?.id, 'acme-oidc')
    })

    check('moved to another connection, cut or in the clear are refused', async ({ directory, store }) => {
      await directory.import(tenants)
      const row = (await store.entries.connection('acme-oidc'))!
      const own = JSON.parse(row.entry) as { clientSecret: string }
      const foreign = JSON.parse((await store.entries.connection('globex-oidc'))!.entry) as typeof own
      let turn = 0
      const write = async (entry: string) => {
        const put = { op: 'connection.put', id: 'acme-oidc', organization: 'acme', enabled: true } as const
        const ops = [{ ...put, version: row.version, kept: { entry } }]
        await store.commit({ id: `tamper ${turn++}`, expect: [], guards: [], ops, events: [] })
        await directory.refresh()
      }
      for (const clientSecret of [
        ...[foreign.clientSecret, own.clientSecret.slice(0, -8), own.clientSecret.slice(0, 20)],
        ...['sealed:first:', 'in the clear'],
      ]) {
        await write(JSON.stringify({ ...own, clientSecret }))
        const error = await refusal(directory.connection('acme-oidc'))
        assert.equal(error.code, 'config_invalid')
        assert.ok(!error.message.includes('in the clear'))
      }
      await write('{"clientSecret": no')
      assert.match(
        (await refusal(directory.connection('acme-oidc'))).message,
        /"acme-oidc" in the store is not JSON/,
      )
      await write(JSON.stringify({ ...own, jit: { cretae: true } }))
      assert.match(
        (await refusal(directory.connection('acme-oidc'))).message,
        /"acme-oidc" in the store: jit/,
      )
      await write(row.entry)
      assert.equal((await directory.connection('acme-oidc'))?.version, row.version)
    })
  })
}

/** Roles that make an entry long. */
const rolesOf = (count: number) => Array.from({ length: count }, (_, n) => `${n}`.padStart(60, 'r'))
