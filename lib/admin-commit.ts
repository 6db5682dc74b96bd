import { randomUUID } from 'node:crypto'
import { type Acting, type AdminFacts, administer, type Disconnect } from './administer.js'
import type { Command, Verb } from './administer-command.js'
import { membershipHashes, personHashes } from './audit.js'
import { within } from './deadline.js'
import { JitError } from './errors.js'
import { type ProvisionPorts, pause, provisionDefaults, unsettled } from './provision.js'
import type { Directory, IdentityKey, Operation, Snapshot, Store } from './store.js'
import type { StoreDirectory } from './store-directory.js'

export type AdminPorts = Pick<ProvisionPorts, 'store' | 'directory' | 'now' | 'hash'>

export interface AdminResult {
  /** False where it was so already; then nothing was written. */
  readonly changed: boolean
  /** Id of the audit trail's decision; null where nothing changed. */
  readonly decision: string | null
}

export type Done = AdminResult & { readonly invitation: string | null }

/** Who asks. */
export interface Call {
  readonly by: string
  readonly correlationId: string
}

/**
 * Load, plan, commit. A conflict or an unknown outcome is loaded and planned again; a commit whose answer was lost
 * and that landed is found in the audit trail.
 * @throws JitError the planner's refusal; `unavailable` where it cannot be settled in five seconds
 */
export async function carryOut(ports: AdminPorts, command: Command | Disconnect, call: Call): Promise<Done> {
  const { store, directory } = ports
  const ids = { change: randomUUID(), invitation: randomUUID() }
  const acting = { ...call, ids, now: ports.now() }
  const until = performance.now() + provisionDefaults.deadline
  const inTime = <T>(work: Promise<T>) => within(until - performance.now(), work)
  let lost: Done | null = null
  let refreshed = false
  let obstacle: unknown = 'no attempt was made'
  for (let attempt = 0; attempt <= provisionDefaults.replans; attempt++) {
    if (attempt > 0) await pause(attempt)
    if (performance.now() >= until) break
    try {
      const facts = await inTime(factsOf(ports, command))
      let done: Done | null = lost && (await inTime(landed(store, command, acting))) ? lost : null
      if (!done) {
        const plan = administer(command, facts, acting)
        if ('refused' in plan) {
          if (plan.refused === 'connection_changed' && directory.refresh && !refreshed) {
            // What the directory remembers is older than what the store just said.
            await inTime(directory.refresh())
            refreshed = true
            attempt--
            continue
          }
          const { correlationId } = call
          throw new JitError(plan.refused, `jit.admin.${command.verb}: ${plan.why}`, { correlationId })
        }
        const { invitation } = plan
        if (plan.kind === 'nothing') return { changed: false, decision: null, invitation }
        done = { changed: true, decision: ids.change, invitation }
        const sent = done
        const result = await inTime(store.commit(plan.changes)).catch((error: unknown) => {
          lost = sent
          throw error
        })
        if (!result.committed) {
          obstacle = result.conflict
          refreshed = false
          continue
        }
        lost = done
      }
      // So that this process at least is up to date.
      if (rewriting.has(command.verb)) await inTime(Promise.resolve(directory.refresh?.()))
      return done
    } catch (error) {
      if (error instanceof JitError) throw error
      obstacle = error
    }
  }
  throw unsettled(`jit.admin.${command.verb}`, obstacle, call.correlationId)
}

/** Verbs that write an entry of the directory. */
const rewriting: ReadonlySet<string> = new Set<Verb>([
  'enableConnection',
  'disableConnection',
  'deleteConnection',
])

async function landed(store: Store, command: Command | Disconnect, { now, ids }: Acting): Promise<boolean> {
  const about = 'user' in command && command.user !== null ? { user: command.user } : {}
  const { rows } = await store.events({ ...about, from: now, to: now + 1, limit: 1000 })
  return rows.some(({ change }) => change === ids.change)
}

/** What a command may name, whichever it is. */
interface Named {
  readonly user?: string | null
  readonly organization?: string | undefined
  readonly invitation?: string
  readonly email?: string | undefined
  readonly identity?: IdentityKey | undefined
  readonly connection?: string
  readonly grants?: 'revoke' | { readonly adoptBy: string }
}

async function factsOf(ports: AdminPorts, command: Command | Disconnect): Promise<AdminFacts> {
  const { store, directory } = ports
  const hash = await ports.hash()
  const { user, organization, invitation, email: address, identity, connection, grants }: Named = command
  const email = address ?? null
  const about = { ...(user != null && { user }), ...(invitation !== undefined && { invitation }) }
  // Without an organization it is about all that the user is in, and the one they are invited to.
  const whole = organization === undefined
  const overtakes = overtaking.has(command.verb)
  const record = (whole || overtakes) && user != null ? await store.user(user) : null
  const first =
    lifting.has(command.verb) && (!whole || command.verb === 'accept')
      ? await store.load({ ...about, email: null, organizations: [] })
      : null
  const place = organization ?? first?.invitations[0]?.organization
  const memberships = whole ? (record?.memberships ?? []) : []
  const organizations = memberships.map((member) => member.organization)
  const person = first?.byId
    ? personHashes(hash, first.byId.identities, first.byId.verifiedEmail)
    : personHashes(hash, identity ? [identity] : [], email)
  const told = first && user != null && place !== undefined ? await barredBy(store, user, place) : []
  const bars = place === undefined ? [] : membershipHashes(hash, place, person)
  const load = () =>
    store.load({
      ...about,
      email: overtakes ? (record?.user.verifiedEmail ?? null) : email,
      ...(connection !== undefined && { source: `connection:${connection}` as const }),
      organizations: place === undefined ? organizations : [...new Set([...organizations, place])],
      hashes: [...new Set([...person, ...bars, ...told])],
    })
  let snapshot = await load()
  if (first?.byId && place !== undefined) {
    // An identity is the same person's; an address may be somebody else's by now.
    const own = membershipHashes(hash, place, personHashes(hash, first.byId.identities, null))
    const barring = snapshot.removed.filter((entry) => own.includes(entry.hash))
    const former = await barredBefore(store, first.byId.id, barring, place)
    told.push(...former)
    if (former.length > 0) snapshot = await load()
  }
  const version = snapshot.byId?.version
  if ((record && record.user.version !== version) || (first && first.byId?.version !== version)) {
    throw new Error('the account changed between two reads')
  }
  return {
    snapshot,
    organization: place === undefined ? null : await directory.organization(place),
    connection: connection !== undefined && grants ? await directory.connection(connection) : null,
    adopter: typeof grants === 'object' ? await directory.connection(grants.adoptBy) : null,
    put:
      command.verb === 'enableConnection' || command.verb === 'disableConnection'
        ? await switched(directory, command.connection, command.verb === 'enableConnection')
        : null,
    removed: command.verb === 'readmitUser' ? await removedWith(store, snapshot) : [],
    told,
    hash,
  }
}

/** A removal overtakes the invitations that wait for the same person. */
const overtaking: ReadonlySet<string> = new Set(['remove', 'revoke', 'removeUser'] satisfies Verb[])

/** What lifts a removal must know the person by whom it may have been left under a former account. */
const lifting: ReadonlySet<string> = new Set(['readmit', 'reactivate', 'accept'] satisfies Verb[])

async function switched(
  directory: Directory,
  connection: string,
  enabled: boolean,
): Promise<Operation | null> {
  const kept = directory as Partial<StoreDirectory>
  if (kept.switched) return kept.switched(connection, enabled)
  throw new JitError(
    'config_invalid',
    `connection "${connection}" is not kept in the store; set "enabled": ${enabled} where it is configured`,
  )
}

/**
 * By what an organization kept an account out: an address may no longer be its own. One change may have put what
 * others keep it out by as well, which is theirs to lift.
 */
async function barredBy(store: Store, user: string, organization: string): Promise<string[]> {
  const { rows } = await store.events({ user, organization, type: 'removed', limit: 1000 })
  return rows.flatMap(({ organization: whose, detail: { hash } }) =>
    whose === organization && typeof hash === 'string' ? [hash] : [],
  )
}

/** By what an organization kept out the accounts, other than this one, that these were put for. */
async function barredBefore(
  store: Store,
  present: string,
  removed: Snapshot['removed'],
  organization: string,
): Promise<string[]> {
  const users = new Set<string>()
  for (const { hash, at } of removed) {
    const { rows } = await store.events({ organization, type: 'removed', from: at, to: at + 1, limit: 1000 })
    const user = rows.find(({ detail }) => detail.hash === hash)?.user
    if (user != null && user !== present) users.add(user)
  }
  const hashes: string[] = []
  for (const user of users) hashes.push(...(await barredBy(store, user, organization)))
  return hashes
}

/** The hashes of a removed user, by one of them: they were put in one change. What an organization put is its own. */
async function removedWith(store: Store, { removed }: Snapshot): Promise<string[]> {
  const hashes = new Set(removed.map(({ hash }) => hash))
  for (const { hash, at } of removed) {
    const { rows } = await store.events({ type: 'removed', from: at, to: at + 1, limit: 1000 })
    const told = rows.filter(
      ({ type, organization, detail }) =>
        type === 'removed' && organization === null && typeof detail.hash === 'string',
    )
    const change = told.find(({ detail }) => detail.hash === hash)?.change
    for (const event of told) if (event.change === change) hashes.add(event.detail.hash as string)
  }
  return [...hashes]
}
