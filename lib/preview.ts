import { createHash } from 'node:crypto'
import { asJitError } from './errors.js'
import { normalizeEmail, type Source } from './identity.js'
import { type DenyReason, type DomainFacts, type Plan, planSignIn } from './plan.js'
import { candidates, ownerRole } from './policy.js'
import type { PolicyChange } from './policy-change.js'
import { type RevocationLimit, tooMany } from './revocations.js'
import type {
  AssertedRow,
  ConnectionFacts,
  Directory,
  InvitationFacts,
  Membership,
  OrganizationFacts,
  Store,
} from './store.js'

/** What a changed policy would do to the people of an organization, compared with the policy in force. */
export interface OrganizationPreview {
  readonly organization: string
  /** Those that have people to look at. */
  readonly connections: readonly string[]
  /** How many identities were looked at; not `complete` where there are more. */
  readonly identities: number
  readonly complete: boolean
  /** Grants that these people have in the organization now, and those that come and go. */
  readonly grants: number
  readonly granted: number
  readonly revoked: number
  /** Revoked of all. */
  readonly share: number
  /** How many people. */
  readonly gaining: number
  readonly losing: number
  readonly joining: number
  readonly leaving: number
  readonly refused: number
  readonly admitted: number
  /** Whether the only owner is among those who lose something or are refused. */
  readonly lastOwner: boolean
  /** It takes more than may go without a look, so it is not taken until the digest is accepted. */
  readonly guarded: boolean
}

/** A role that comes or goes, by which rule where one says so. */
export interface RoleChange {
  readonly role: string
  readonly because: string | null
}

/** What is different for one person. */
export interface PersonPreview {
  readonly user: string
  readonly organization: string
  readonly connection: string
  readonly gains: readonly RoleChange[]
  readonly loses: readonly RoleChange[]
  readonly membership: 'joins' | 'leaves' | null
  /** Why the person no longer comes in. */
  readonly refused: DenyReason | null
  /** Whether somebody comes in who is refused now. */
  readonly admitted: boolean
}

export interface Preview {
  /** Stands for the whole result: the same digest, the same effect on the same people. */
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
 * claims would mean (`attributes`, `issuer`). E-mail-domain policies revoke nothing and are left out, and so is
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
  const coming = domainsUnder(changes, ports.domain)
  const now = ports.now()
  try {
    for (const change of changes.toSorted((a, b) => (a.connection.id < b.connection.id ? -1 : 1))) {
      const { organization, connection, present } = change
      const source: Source = `connection:${connection.id}`
      let seen = 0
      let stored: ConnectionFacts | null = null
      for await (const row of identitiesOf(store, source, organization.id)) {
        const scene = scenes.get(organization.id) ?? (await sceneOf(store, organization.id))
        scenes.set(organization.id, scene)
        if (seen === 0) {
          stored = (await store.load({ source, email: null, organizations: [] })).connection
          scene.sums.connections.push(connection.id)
        }
        if (seen === most) {
          scene.sums.complete = false
          break
        }
        seen += 1
        const name = row.asserted.email?.split('@')[1]
        const domainBy = async (domain: Directory['domain']) => (name === undefined ? null : domain(name))
        const before =
          present &&
          plan(scene.present, row, { ...present, stored, domain: await domainBy(ports.domain), now })
        const after = plan(scene.coming, row, {
          ...{ organization, connection, domain: await domainBy(coming), now },
          stored: stored && { ...stored, held: null },
        })
        const person = count(scene, row, change, before, after)
        if (!person) continue
        digest.update(`${JSON.stringify(person)}\n`)
        if (people.length < told) people.push(person)
      }
    }
  } catch (error) {
    throw asJitError(error, 'unavailable', 'the store could not be read')
  }
  const organizations = [...scenes.values()].map(({ sums }) => {
    digest.update(`${JSON.stringify(sums)}\n`)
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

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** What goes on changing while the people of an organization sign in one after the other. */
interface World {
  readonly facts: Mutable<OrganizationFacts>
  invitations: readonly InvitationFacts[]
}

interface Scene {
  readonly sums: Mutable<Omit<OrganizationPreview, 'connections' | 'share' | 'guarded'>> & {
    readonly connections: string[]
  }
  readonly owners: number
  /** People whose grants were counted. */
  readonly people: Set<string>
  readonly present: World
  readonly coming: World
}

async function sceneOf(store: PreviewPorts['store'], organization: string): Promise<Scene> {
  const { organizations } = await store.load({ email: null, organizations: [organization] })
  const counters = { status: 'active', seatLimit: null, seatsUsed: 0, owners: 0 } as const
  const facts = organizations[0] ?? { id: organization, version: '', ...counters }
  const invitations: InvitationFacts[] = []
  for (let after: string | null = ''; after !== null; ) {
    const page: Awaited<ReturnType<Store['invitations']>> = await store.invitations({
      ...{ organization, limit: 1000 },
      ...(after && { after }),
    })
    invitations.push(...page.rows)
    after = page.next
  }
  const sums = {
    ...{ organization, connections: [], identities: 0, complete: true, grants: 0, granted: 0, revoked: 0 },
    ...{ gaining: 0, losing: 0, joining: 0, leaving: 0, refused: 0, admitted: 0, lastOwner: false },
  }
  const world = () => ({ facts: { ...facts }, invitations })
  return { sums, owners: facts.owners, people: new Set(), present: world(), coming: world() }
}

async function* identitiesOf(
  store: PreviewPorts['store'],
  source: Source,
  organization: string,
): AsyncGenerator<AssertedRow> {
  for (let after: string | null = ''; after !== null; ) {
    const query = { source, organization, limit: 200, ...(after && { after }) }
    const page: Awaited<ReturnType<Store['asserted']>> = await store.asserted(query)
    yield* page.rows
    after = page.next
  }
}

/** Who answers for a domain once the changed organizations own what they will. */
function domainsUnder(changes: readonly PolicyChange[], present: Directory['domain']): Directory['domain'] {
  const changed = new Map(changes.map(({ organization }) => [organization.id, organization]))
  return async (name): Promise<DomainFacts> => {
    const { owner } = await present(name)
    const owners = [...changed.values(), ...(owner && !changed.has(owner.id) ? [owner] : [])]
    const pattern = candidates(name).find((candidate) =>
      owners.some(({ domains }) => domains.includes(candidate)),
    )
    return { owner: owners.find(({ domains }) => pattern && domains.includes(pattern)) ?? null, sso: [] }
  }
}

/** A sign-in of somebody who asserts what they asserted last; the next one is planned on what it leaves behind. */
function plan(
  world: World,
  { identity, asserted, user }: AssertedRow,
  about: Pick<PolicyChange, 'organization' | 'connection'> & {
    readonly stored: ConnectionFacts | null
    readonly domain: DomainFacts | null
    readonly now: number
  },
): Plan {
  const { organization, connection, stored, domain, now } = about
  const email = asserted.email === null ? null : normalizeEmail(asserted.email)
  const { version } = connection
  const planned = planSignIn({
    identity: { ...identity, ...asserted, email, sourceVersion: version, omitted: [], claims: {}, at: now },
    way: { kind: 'connection', connection, organization },
    snapshot: {
      byIdentity: user,
      asserted: 'the same',
      byId: null,
      byVerifiedEmail: email && user.verifiedEmail === email.address ? user : null,
      byContactEmail: [],
      organizations: [
        {
          ...world.facts,
          version: organization.version,
          status: organization.status,
          seatLimit: organization.seatLimit,
        },
      ],
      connection: stored && { ...stored, version, enabled: connection.enabled },
      invitations: email ? world.invitations.filter((invitation) => invitation.email === email.address) : [],
      removed: [],
    },
    ...{ domain, ownDomain: null, proof: null, otherWays: [], choices: new Map(), now },
    ...{ digest: 'the same', hash: () => '', ids: { user: '', change: '', correlation: '' } },
  })
  for (const guard of planned.verdict === 'allow' ? (planned.changes?.guards ?? []) : []) {
    if (guard.guard === 'seats') world.facts.seatsUsed += guard.by
    else if (guard.guard === 'owners') world.facts.owners += guard.by
    else if (guard.guard === 'invitation')
      world.invitations = world.invitations.filter(({ id }) => id !== guard.id)
  }
  return planned
}

/** Refusals that are about the person and not about any policy. */
const personal: readonly DenyReason[] = ['user_suspended', 'membership_suspended']

/** Adds one person to the sums; null where nothing is different for them. */
function count(
  { sums, owners, people }: Scene,
  { user }: AssertedRow,
  { organization, connection }: PolicyChange,
  before: Plan | null,
  after: Plan,
): PersonPreview | null {
  const member = user.memberships.find((entry) => entry.organization === organization.id) ?? null
  const membershipBy = (plan: Plan | null) => (plan?.verdict === 'allow' ? plan.after.membership : member)
  const [was, will] = [membershipBy(before), membershipBy(after)]
  const lacking = (some: Membership | null, all: Membership | null) =>
    (some?.grants ?? []).filter(({ role }) => !all?.grants.some((grant) => grant.role === role))
  const [gained, lost] = [lacking(will, was), lacking(was, will)]
  const denied = after.verdict === 'deny' && before?.verdict !== 'deny' ? after.reason : null
  const refused = denied && (before || !personal.includes(denied)) ? denied : null
  const admitted = before?.verdict === 'deny' && after.verdict !== 'deny'
  const membership = !was && will ? 'joins' : was && !will ? 'leaves' : null

  sums.identities += 1
  if (!people.has(user.id)) sums.grants += member?.grants.length ?? 0
  people.add(user.id)
  sums.granted += gained.length
  sums.revoked += lost.length
  if (gained.length > 0) sums.gaining += 1
  if (lost.length > 0) sums.losing += 1
  if (membership === 'joins') sums.joining += 1
  if (membership === 'leaves') sums.leaving += 1
  if (refused) sums.refused += 1
  if (admitted) sums.admitted += 1
  const owns =
    user.status === 'active' &&
    member?.status === 'active' &&
    member.grants.some(({ role }) => role === ownerRole)
  if (owns && owners === 1 && (lost.length > 0 || membership === 'leaves' || refused)) sums.lastOwner = true

  if (gained.length + lost.length === 0 && !membership && !refused && !admitted) return null
  const told = (op: 'grant.add' | 'grant.remove', grants: Membership['grants']): RoleChange[] =>
    [...new Set(grants.map(({ role }) => role))].map((role) => {
      const rule = after.changes?.ops.find((entry) => entry.op === op && entry.role === role)
      return { role, because: (rule && 'because' in rule && rule.because) || null }
    })
  return {
    ...{ user: user.id, organization: organization.id, connection: connection.id },
    ...{ gains: told('grant.add', gained), loses: told('grant.remove', lost) },
    ...{ membership, refused, admitted },
  }
}
