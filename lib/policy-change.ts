import { isDeepStrictEqual } from 'node:util'
import { configure } from './configuration.js'
import type { Connection, DirectoryInput, Organization } from './policy.js'
import type { Directory, Store } from './store.js'

/** The policy of a connection that is to come, beside the one in force. */
export interface PolicyChange {
  readonly organization: Organization
  readonly connection: Connection
  /** Null where it is not known; what people have now stands for it then. */
  readonly present: { readonly organization: Organization; readonly connection: Connection } | null
}

/** An object of the file's format, or what a directory read. */
export type PolicyInput = DirectoryInput | Pick<Directory, 'entries'>

export type Policies = Pick<NonNullable<Directory['entries']>, 'organizations' | 'connections'>

/**
 * The entries of an input; its secrets are of no interest and not looked up.
 * @throws JitError `config_invalid` with every problem
 */
export function policiesOf(input: PolicyInput): Policies {
  return readEntries(input) ?? configure(structuredClone(input), 'preview', withoutSecrets)
}

/** What a directory read; null for an object of the file's format, which anybody may have typed. */
export function readEntries(input: PolicyInput): Directory['entries'] | null {
  const { entries } = (input ?? {}) as Pick<Directory, 'entries'>
  const lists: unknown[] = [entries?.organizations, entries?.connections]
  const objects = (list: unknown) =>
    Array.isArray(list) && list.every((entry) => typeof entry === 'object' && entry !== null)
  return lists.every(objects) ? entries : null
}

/** An environment in which every secret is there, for who needs none. */
export const withoutSecrets: NodeJS.ProcessEnv = new Proxy({}, { get: () => 'not looked up' })

/** Keys of an entry that no rule asks for: how an IdP's answer is got and verified, and what things are called. */
const besides = new Set([
  ...['version', 'name', 'idpMetadata', 'signed', 'clockSkewSeconds', 'idpInitiated', 'sp', 'tenants'],
  ...[
    'clientId',
    'clientSecret',
    'clientAuthentication',
    'scopes',
    'allowInsecureRequests',
    'emailVerifiedAsText',
  ],
])

/** Whether two entries are the same to the rules. */
export function samePolicy(one: object, other: object): boolean {
  const rules = (entry: object): unknown =>
    JSON.parse(JSON.stringify(Object.fromEntries(Object.entries(entry).filter(([key]) => !besides.has(key)))))
  return isDeepStrictEqual(rules(one), rules(other))
}

/** The connections that come under another policy than the one in force, that of their organization included. */
export async function changesOf(
  present: Pick<Directory, 'organization' | 'connection'>,
  { organizations, connections }: Policies,
): Promise<readonly PolicyChange[]> {
  const changes: PolicyChange[] = []
  const owners = new Map(organizations.map((entry) => [entry.id, entry]))
  for (const connection of connections) {
    const organization = owners.get(connection.organization)!
    const before = await present.connection(connection.id)
    const owner = before && (await present.organization(before.organization))
    if (owner && samePolicy(before, connection) && samePolicy(owner, organization)) continue
    changes.push({ organization, connection, present: owner && { organization: owner, connection: before } })
  }
  return changes
}

/** The connections whose sync is held, under the policy as it is. */
export async function heldSyncs(
  store: Pick<Store, 'load'>,
  { organizations, connections }: Policies,
): Promise<readonly PolicyChange[]> {
  const held: PolicyChange[] = []
  for (const connection of connections) {
    const source = `connection:${connection.id}` as const
    const { connection: stored } = await store.load({ source, email: null, organizations: [] })
    if (!stored || stored.held === null) continue
    const organization = organizations.find(({ id }) => id === connection.organization)!
    held.push({ organization, connection, present: { organization, connection } })
  }
  return held
}
