import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { compare, type OrganizationPreview, type PersonPreview, type Scene, sceneOf } from './comparison.js'
import { asJitError } from './errors.js'
import type { Source } from './identity.js'
import type { DomainFacts } from './plan.js'
import { candidates } from './policy.js'
import type { PolicyChange } from './policy-change.js'
import { type RevocationLimit, tooMany } from './revocations.js'
import type { AssertedRow, ConnectionFacts, Directory, InvitationFacts, Store } from './store.js'

export interface Preview {
  /** The same digest, the same effect on the same people. */
  readonly digest: string
  /** Whether it must be accepted first. */
  readonly guarded: boolean
  readonly organizations: readonly OrganizationPreview[]
  /** People for whom something is different, the first of them; the counts are about all. */
  readonly people: readonly PersonPreview[]
}

export interface PreviewPorts {
  readonly store: Pick<Store, 'load' | 'asserted' | 'invitations'>
  /** Who answers for an exact e-mail domain now. */
  readonly domain: Directory['domain']
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

export interface PreviewOptions {
  readonly limit: RevocationLimit
  /** How many people are told of one by one; 200 by default. */
  readonly people?: number
  /** How many identities of each connection are looked at; all by default. */
  readonly identities?: number
}

/**
 * Plans a sign-in of every identity of the changed connections, by what it asserted last, under the policy in force
 * and under the one that is to come, and compares. Reads pages and writes nothing; in memory are the counts and the
 * people told of. A sync that is held stays so on the side of the policy in force alone.
 *
 * It sees neither people who never signed in by the connection, nor what an IdP would assert today, nor what other
 * claims would mean (`attributes`, `issuer`), nor what was removed of a former account. E-mail-domain policies revoke nothing and are left out, and so is
 * `onConflict`. The last free seats go to people in the order of their identities.
 * @throws JitError `unavailable` where the store cannot be read
 */
export async function preview(
  ports: PreviewPorts,
  changes: readonly PolicyChange[],
  { limit, people: told = 200, identities: most = Number.POSITIVE_INFINITY }: PreviewOptions,
): Promise<Preview> {
  const { store } = ports
  const digest = createHash('sha256')
  const people: PersonPreview[] = []
  const scenes = new Map<string, Scene>()
  const once = new Set<string>()
  const several = new Set<string>()
  for (const { organization } of changes) (once.has(organization.id) ? several : once).add(organization.id)
  const present = remembering(ports.domain)
  const coming = remembering(domainsUnder(changes, present))
  const now = ports.now()
  try {
    for (const change of changes.toSorted((a, b) => (a.connection.id < b.connection.id ? -1 : 1))) {
      const { id } = change.connection
      const owner = change.organization.id
      const source: Source = `connection:${id}`
      let stored: ConnectionFacts | null = null
      let seen = 0
      for await (const row of identitiesOf(store, source, owner)) {
        const scene = scenes.get(owner) ?? (await readScene(store, owner, several.has(owner)))
        scenes.set(owner, scene)
        if (seen === most) {
          scene.sums.complete = false
          break
        }
        if (seen === 0) {
          stored = (await store.load({ source, email: null, organizations: [] })).connection
          scene.sums.connections.push(id)
        }
        seen += 1
        const name = row.asserted.email?.split('@')[1]
        const domain = {
          present: name === undefined ? null : await present(name),
          coming: name === undefined ? null : await coming(name),
        }
        const person = compare(scene, change, row, { stored, domain, now })
        if (!person) continue
        digest.update(`${JSON.stringify(person)}\n`)
        if (people.length < told) people.push(person)
      }
    }
  } catch (error) {
    throw asJitError(error, 'unavailable', 'the store could not be read')
  }
  const organizations = [...scenes.values()].map(({ sums }) => {
    const { revoked, grants, lastOwner } = sums
    const share = grants === 0 ? 0 : revoked / grants
    return { ...sums, share, guarded: lastOwner || tooMany(revoked, grants, limit) }
  })
  return {
    digest: digest.digest('base64url').slice(0, 22),
    guarded: organizations.some(({ guarded }) => guarded),
    organizations,
    people,
  }
}

/** Identities read at once: few, because an IdP may have asserted a megabyte of groups about each. */
const page = 20

async function* identitiesOf(
  store: PreviewPorts['store'],
  source: Source,
  organization: string,
): AsyncGenerator<AssertedRow> {
  for (let after: string | null = ''; after !== null; ) {
    const query = { source, organization, limit: page, ...(after && { after }) }
    const { rows, next }: Awaited<ReturnType<Store['asserted']>> = await store.asserted(query)
    yield* rows
    after = next
    // A store of this process answers without a pause, and sign-ins want their turn.
    await turn()
  }
}

async function readScene(store: PreviewPorts['store'], id: string, several: boolean): Promise<Scene> {
  const { organizations } = await store.load({ email: null, organizations: [id] })
  const unknown = { id, version: '', status: 'active', seatLimit: null, seatsUsed: 0, owners: 0 } as const
  const invitations: InvitationFacts[] = []
  for (let after: string | null = ''; after !== null; ) {
    const query = { organization: id, limit: 1000, ...(after && { after }) }
    const page: Awaited<ReturnType<Store['invitations']>> = await store.invitations(query)
    invitations.push(...page.rows)
    after = page.next
  }
  return sceneOf(organizations[0] ?? unknown, invitations, several)
}

/** Domains already asked about, a thousand at most. */
function remembering(domain: Directory['domain']): Directory['domain'] {
  const known = new Map<string, Promise<DomainFacts>>()
  return (name) => {
    const found = known.get(name) ?? domain(name)
    if (known.size === 1000) known.clear()
    known.set(name, found)
    return found
  }
}

/** Who answers for a domain once the changed organizations own what they will. */
function domainsUnder(changes: readonly PolicyChange[], present: Directory['domain']): Directory['domain'] {
  const changed = new Map(changes.map(({ organization }) => [organization.id, organization]))
  return async (name) => {
    const { owner } = await present(name)
    const owners = [...changed.values(), ...(owner && !changed.has(owner.id) ? [owner] : [])]
    for (const pattern of candidates(name)) {
      const closest = owners.find(({ domains }) => domains.includes(pattern))
      if (closest) return { owner: closest, sso: [] }
    }
    return { owner: null, sso: [] }
  }
}
