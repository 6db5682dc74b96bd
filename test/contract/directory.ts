import assert from 'node:assert/strict'
import type { Directory, DirectoryInput } from 'passport-jit'
import { onFresh, type Runner } from './runner.js'

export interface DirectoryFixture {
  readonly directory: Directory
  close(): Promise<void>
}

const oidc = (id: string, organization: string) => ({
  ...({ protocol: 'oidc', clientId: `client of ${organization}`, clientSecret: `secret of ${id}` } as const),
  ...{ id, organization, issuer: `https://idp.${organization}.example` },
})

/** Three tenants: one with two connections, one whose domain lies inside another's, one without SSO. */
export const tenants = {
  organizations: [
    {
      ...{ id: 'acme', name: 'Acme', roles: ['owner', 'admin', 'member'], seatLimit: 50 },
      domains: ['acme.example', '*.acme.example', 'acme.test'],
    },
    { id: 'globex', name: 'Globex', roles: ['member'], domains: ['globex.example', '*.lab.acme.example'] },
    {
      ...{ id: 'initech', name: 'Initech', roles: ['member'], domains: ['initech.example'] },
      domainJit: { enabled: true, roles: ['member'], existingUsers: true },
    },
  ],
  connections: [
    { ...oidc('acme-oidc', 'acme'), jit: { roles: ['member'] } },
    {
      ...{ id: 'acme-saml', organization: 'acme', protocol: 'saml', idpMetadata: '<metadata/>' },
      vouchesFor: ['acme.example'],
      sp: { signing: [{ privateKey: 'private key of acme-saml', certificate: 'certificate' }] },
    },
    oidc('globex-oidc', 'globex'),
    { ...oidc('initech-oidc', 'initech'), enabled: false },
  ],
} satisfies DirectoryInput

/** Ids of the owner and of the connections that answer for a domain. */
export async function answers(directory: Directory, name: string): Promise<(string | undefined)[]> {
  const { owner, sso } = await directory.domain(name)
  return [owner?.id, ...sso.map(({ id }) => id).sort()]
}

/**
 * What every `Directory` promises. `factory` makes one that holds what it is given, an object of the file's
 * format. Declares its tests with the given runner.
 */
export function directoryContract(
  options: Runner & { readonly factory: (input: DirectoryInput) => Promise<DirectoryFixture> },
): void {
  options.describe('directory: lookups', () => {
    const check = onFresh(options, () => options.factory(structuredClone(tenants)))

    check('an organization is found by its exact id, with its policy', async ({ directory }) => {
      const initech = await directory.organization('initech')
      assert.deepEqual(
        [initech?.name, initech?.domains, initech?.domainJit, initech?.seatLimit, initech?.status],
        [
          'Initech',
          ['initech.example'],
          { enabled: true, roles: ['member'], existingUsers: true },
          null,
          'active',
        ],
      )
      assert.equal((await directory.organization('acme'))?.seatLimit, 50)
      for (const id of ['Acme', 'acme ', 'acme-oidc', '', '%', '__proto__', 'constructor']) {
        assert.equal(await directory.organization(id), null, id)
      }
    })

    check('a connection is found by its exact id, with its policy and its secrets', async ({ directory }) => {
      const connection = await directory.connection('acme-oidc')
      assert.equal(connection?.protocol, 'oidc')
      assert.deepEqual(
        [connection.organization, connection.enabled, connection.jit.roles, connection.clientSecret],
        ['acme', true, ['member'], 'secret of acme-oidc'],
      )
      const saml = await directory.connection('acme-saml')
      assert.equal(saml?.protocol, 'saml')
      assert.equal(saml.sp.signing[0]?.privateKey, 'private key of acme-saml')
      assert.equal((await directory.connection('initech-oidc'))?.enabled, false)
      for (const id of ['ACME-OIDC', 'acme', 'acme-oidc ', '', '%', '__proto__']) {
        assert.equal(await directory.connection(id), null, id)
      }
    })

    check('a connection vouches for what it names, else for what its organization owns', async (fresh) => {
      const vouches = async (id: string) => (await fresh.directory.connection(id))?.vouchesFor
      assert.deepEqual(await vouches('acme-saml'), ['acme.example'])
      assert.deepEqual(await vouches('acme-oidc'), ['acme.example', '*.acme.example', 'acme.test'])
    })

    check('a domain is answered for by its owner, the closest pattern first', async ({ directory }) => {
      for (const [name, ...ids] of [
        ['acme.example', 'acme', 'acme-oidc', 'acme-saml'],
        ['acme.test', 'acme', 'acme-oidc'],
        ['x.acme.example', 'acme', 'acme-oidc'],
        ['deep.x.acme.example', 'acme', 'acme-oidc'],
        ['lab.acme.example', 'acme', 'acme-oidc'],
        ['x.lab.acme.example', 'globex', 'globex-oidc'],
        ['globex.example', 'globex', 'globex-oidc'],
      ]) {
        assert.deepEqual(await answers(directory, name!), ids, name)
      }
    })

    check('[L13] a domain that only looks like one is nobody’s', async ({ directory }) => {
      for (const name of [
        ...[
          'x.globex.example',
          'x.acme.test',
          'evil-acme.example',
          'acme.example.evil.test',
          'xacme.example',
        ],
        ...['acme.exampl', 'example', 'acme', '.acme.test', 'acme.test.', '*.acme.example.', '%', ''],
      ]) {
        assert.deepEqual(await directory.domain(name), { owner: null, sso: [] }, name)
      }
    })

    check('a connection that is not enabled routes nobody, and its domain stays owned', async (fresh) => {
      assert.deepEqual(await answers(fresh.directory, 'initech.example'), ['initech'])
    })

    check('what is answered is frozen and has a version', async ({ directory }) => {
      const entries = [await directory.organization('acme'), await directory.connection('acme-saml')]
      for (const entry of entries) {
        assert.match(entry!.version, /^.{16,}$/)
        for (const part of [entry, entry && 'domains' in entry ? entry.domains : entry?.jit.roles]) {
          assert.ok(Object.isFrozen(part))
        }
      }
      const { owner, sso } = await directory.domain('acme.example')
      assert.equal(owner?.version, entries[0]?.version)
      assert.equal(sso.find(({ id }) => id === 'acme-saml')?.version, entries[1]?.version)
    })
  })
}
