import type { DirectoryInput, StoreDirectory } from 'passport-jit'
import type { Pool } from 'pg'

/** Tenants as apps have them: an organization, two domains, and a connection that is SAML for every tenth. */
export function tenants(from: number, count: number): DirectoryInput {
  const ids = Array.from({ length: count }, (_, index) => from + index)
  return {
    organizations: ids.map((n) => ({
      ...{ id: `o${n}`, name: `Organization ${n}`, roles: ['owner', 'admin', 'member'], seatLimit: 50 },
      domains: [`tenant${n}.example`, `*.tenant${n}.example`],
    })),
    connections: ids.map((n) => {
      const common = { id: `c${n}`, organization: `o${n}`, jit: { roles: ['member'] } }
      return n % 10 === 0
        ? { ...common, protocol: 'saml', idpMetadata: `<md>${'certificate '.repeat(150)}</md>` }
        : {
            ...{ ...common, protocol: 'oidc', issuer: `https://idp.tenant${n}.example` },
            ...{ clientId: `client ${n}`, clientSecret: `secret ${n}` },
          }
    }),
  }
}

/** Imports tenants in portions, as an operator with many of them would. */
export async function importTenants(directory: StoreDirectory, count: number): Promise<void> {
  const portion = 500
  let from = 0
  const next = async () => {
    while (from < count) {
      const begin = from
      from += portion
      await directory.import(tenants(begin, Math.min(portion, count - begin)))
    }
  }
  // Two at once: one is checked while the other is written.
  await Promise.all([next(), next()])
}

/** The lookups of a sign-in, by number of tenant. */
export const lookups = {
  domain: (directory: StoreDirectory, n: number) => directory.domain(`tenant${n}.example`),
  subdomain: (directory: StoreDirectory, n: number) => directory.domain(`x.y.tenant${n}.example`),
  connection: (directory: StoreDirectory, n: number) => directory.connection(`c${n}`),
  organization: (directory: StoreDirectory, n: number) => directory.organization(`o${n}`),
} as const

/** Statements that a pool is asked, the last of each name with its values. */
export function watched(pool: Pool): Map<string, { text: string; values: unknown[] }> {
  const seen = new Map<string, { text: string; values: unknown[] }>()
  const query = pool.query.bind(pool) as (...args: unknown[]) => unknown
  Object.assign(pool, {
    query: (...args: unknown[]) => {
      const [asked] = args as [{ name?: string; text: string; values: unknown[] }]
      if (asked.name) seen.set(asked.name.split('_')[1]!, { text: asked.text, values: asked.values })
      return query(...args)
    },
  })
  return seen
}

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Index Name'?: string
  readonly Plans?: readonly PlanNode[]
}

/** How the server reads each table for a statement: `Index Scan jit_domains_pkey`, `Seq Scan jit_entries`. */
export async function scans(pool: Pool, { text, values }: { text: string; values: unknown[] }) {
  const { rows } = await pool.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
    `explain (format json) ${text}`,
    values,
  )
  const found: string[] = []
  const visit = (node: PlanNode) => {
    const place = node['Index Name'] ?? node['Relation Name']
    if (place) found.push(`${node['Node Type']} ${place}`)
    for (const child of node.Plans ?? []) visit(child)
  }
  visit(rows[0]!['QUERY PLAN'][0].Plan)
  return found
}
