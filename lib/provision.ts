import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { emailHash, type Hash, membershipHashes, personHashes } from './audit.js'
import { type Chosen, conflictName, type OnConflict, type SignInConflict } from './conflict.js'
import { requestLimit, within } from './deadline.js'
import { JitError } from './errors.js'
import { AssertedIdentity, assertedOf, type Source } from './identity.js'
import { type IdentityFacts, type Plan, type Proof, planSignIn, type SignIn, type Way } from './plan.js'
import type { Directory, Lease, Lock, Snapshot, Store } from './store.js'
import { emailStanding } from './terms.js'

export interface ProvisionPorts {
  readonly store: Store
  readonly directory: Directory
  readonly lock: Lock
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** The keyed hash of what is private; its key is read once. */
  readonly hash: () => Promise<Hash>
  /** Chooses where a policy has a switch. */
  readonly onConflict: OnConflict | null
  /** Tells the operator what went wrong without stopping the sign-in. */
  readonly warn: (message: string) => void
}

/** Times in milliseconds. */
export const provisionDefaults = {
  lockHeld: 5_000,
  lockWaited: 2_000,
  replans: 8,
  /** What `onConflict` may take for all conflicts of a sign-in. */
  hook: 1_000,
  /** Any answer within this, refusals included. */
  deadline: requestLimit,
} as const

/** A plan that was carried out, with the id of its decision. */
export type Provisioned = Extract<Plan, { verdict: 'allow' }> & { readonly decision: string | null }
/** A plan that waits until the person has proved an address. */
export type Unproved = Extract<Plan, { verdict: 'prove' }>

export interface ProvisionCall {
  readonly correlationId?: string
  /** The address that was proved in the course of this sign-in. */
  readonly proof?: Proof | null
  /** When to give up, on the clock of `performance.now()`; five seconds from now by default. */
  readonly until?: number
}

/**
 * The only writer of sign-ins: load, plan, lock, commit. A conflict or an unknown outcome is reloaded and
 * planned again, so a commit whose answer was lost shows as nothing left to do.
 * @throws JitError the planner's reason where it refuses; `unavailable` where the store cannot be asked or
 *   the plan cannot be settled in time; `identity_unproven` for anything no strategy made.
 */
export async function provision(
  ports: ProvisionPorts,
  identity: AssertedIdentity,
  call: ProvisionCall = {},
): Promise<Provisioned | Unproved> {
  if (!AssertedIdentity.is(identity)) {
    throw new JitError(
      'identity_unproven',
      'provision() takes an identity that a strategy returned, nothing hand-made',
    )
  }
  const { correlationId = randomUUID(), proof = null } = call
  const ids = { user: randomUUID(), change: randomUUID(), correlation: correlationId }
  const until = call.until ?? performance.now() + provisionDefaults.deadline
  let lease: Lease | null | undefined
  let attempted: Provisioned | null = null
  let refreshed = false
  let obstacle: unknown = 'no attempt was made'
  const choices = new Map<string, string | null>()
  const chosen: Chosen = (conflict) => choices.get(conflictKey(conflict))
  let hook: number | null = null
  try {
    for (let attempt = 0; attempt <= provisionDefaults.replans; attempt++) {
      if (attempt > 0) await pause(attempt)
      const left = until - performance.now()
      if (left <= 0) break
      try {
        const signIn = await within(left, signInFacts(ports, identity, ids, proof, chosen))
        let plan = planSignIn(signIn)
        while (ports.onConflict && plan.conflicts.some((conflict) => !choices.has(conflictKey(conflict)))) {
          hook ??= performance.now() + provisionDefaults.hook
          await choose(ports, plan, choices, Math.min(hook, until))
          plan = planSignIn(signIn)
        }
        if (plan.verdict === 'prove') return plan
        if (plan.reason === 'connection_changed' && ports.directory.refresh && !refreshed) {
          // What the directory remembers is older than what the store just said.
          await within(left, ports.directory.refresh())
          refreshed = true
          attempt--
          continue
        }
        if (plan.changes === null) {
          if (plan.verdict === 'deny') throw new JitError(plan.reason, refusal(plan))
          return landed(attempted, plan)
        }
        if (plan.verdict === 'allow' && lease === undefined) {
          const asked = performance.now()
          const wait = Math.max(0, Math.min(provisionDefaults.lockWaited, until - asked))
          lease = await ports.lock.acquire(lockKey(signIn), { ttl: provisionDefaults.lockHeld, wait })
          if (lease ? lease.waited : performance.now() - asked > wait / 2) {
            // Somebody else was at it, so what was read is old, and most likely all is done: reading that needs
            // no lock, and whoever waits behind us need not wait for it. Not an attempt that failed.
            await lease?.release()
            lease = null
            attempt--
            continue
          }
        }
        // A process that was paused over this wakes to a lock that is somebody else's, and a person who was answered.
        const time = until - performance.now()
        if (time <= 0) break
        if (plan.verdict === 'allow') attempted = { ...plan, decision: ids.change }
        const result = await within(time, ports.store.commit(plan.changes))
        // A refusal writes under no key but that of its change: where it is taken, an answer of ours was lost.
        if (plan.verdict === 'deny' && (result.committed || result.conflict.kind === 'key')) {
          throw new JitError(plan.reason, refusal(plan), { correlationId })
        }
        if (result.committed) return attempted!
        obstacle = result.conflict
        refreshed = false
      } catch (error) {
        if (error instanceof JitError) throw error
        obstacle = error
      }
    }
  } finally {
    await lease?.release()
  }
  throw unsettled('the sign-in', obstacle, correlationId)
}

/** Before a plan is made anew: longer each time, and of a random length, so that rivals do not meet again. */
export const pause = (attempt: number) => delay(Math.random() * Math.min(20 * 2 ** attempt, 400))

/** What is thrown where conflicts or unknown outcomes did not end in time. */
export function unsettled(what: string, obstacle: unknown, correlationId?: string): JitError {
  const detail = obstacle instanceof Error ? obstacle.message : JSON.stringify(obstacle)
  const message = `${what} could not be settled in time; last obstacle: ${detail}`
  return new JitError('unavailable', message, { cause: obstacle, ...(correlationId && { correlationId }) })
}

/** A choice is made for one account: if a plan made anew is about another, nobody has been asked about that. */
const conflictKey = (conflict: SignInConflict) =>
  JSON.stringify([conflictName(conflict), conflict.user, conflict.organization])

/** Asks the app about the conflicts it was not asked about yet, and remembers what it chose. */
async function choose(
  { onConflict, warn }: ProvisionPorts,
  plan: Plan,
  choices: Map<string, string | null>,
  until: number,
): Promise<void> {
  for (const { outcome, ...conflict } of plan.conflicts) {
    const key = conflictKey(conflict)
    if (choices.has(key)) continue
    choices.set(key, null)
    const complain = (what: string) =>
      warn(`onConflict ${what} about ${conflictName(conflict)}; the policy says "${outcome}"`)
    const left = until - performance.now()
    // A timer that ended the one before may have been a moment early.
    if (left < 2) {
      complain('had no time left')
      continue
    }
    try {
      const answer = Promise.resolve().then(() => onConflict!(conflict))
      const chosen: unknown = await within(left, answer, 'it took too long')
      if (chosen === undefined) continue
      if ((conflict.outcomes as readonly unknown[]).includes(chosen)) choices.set(key, chosen as string)
      else complain(`answered none of ${conflict.outcomes.join(', ')}`)
    } catch (error) {
      complain(`failed (${error instanceof Error ? error.message : typeof error})`)
    }
  }
}

/** Everything the rules ask of one sign-in, in one read of the store where the account's own address is the asserted one. */
export async function signInFacts(
  ports: Pick<ProvisionPorts, 'store' | 'directory' | 'now' | 'hash'> &
    Partial<Pick<ProvisionPorts, 'onConflict'>>,
  identity: IdentityFacts,
  ids: SignIn['ids'] = { user: 'new', change: 'none', correlation: 'none' },
  proof: Proof | null = null,
  chosen: Chosen = () => null,
): Promise<SignIn> {
  const { directory, store } = ports
  const hash = await ports.hash()
  const way = await wayOf(directory, identity)
  const domain = identity.email ? await directory.domain(identity.email.domain) : null
  const standing = emailStanding({ identity, way, domain, proof })
  const organizations = new Set<string>()
  if (way.kind === 'connection') organizations.add(way.organization.id)
  else if (domain?.owner?.domainJit.enabled) organizations.add(domain.owner.id)
  const person = personHashes(hash, [identity], identity.email?.address ?? null)
  const load = () =>
    store.load({
      source: identity.source,
      issuer: identity.issuer,
      subject: identity.subject,
      // A connection's word about domains it does not vouch for must not even tell whether an account exists.
      email: way.kind === 'provider' || standing === 'vouched' ? (identity.email?.address ?? null) : null,
      organizations: [...organizations],
      hashes: [
        ...person,
        ...[...organizations].flatMap((organization) => membershipHashes(hash, organization, person)),
      ],
    })
  let snapshot = await load()
  let ownDomain: SignIn['ownDomain'] = null
  const account = snapshot.byIdentity ?? snapshot.byVerifiedEmail
  const own = account?.verifiedEmail ?? null
  if (own !== null && own !== identity.email?.address) {
    const name = own.split('@')[1]!
    if (way.kind === 'provider' && name !== identity.email?.domain) ownDomain = await directory.domain(name)
    const owner = (ownDomain ?? domain)?.owner
    const applies = owner?.domainJit.enabled && owner.domainJit.existingUsers
    const asked = way.kind === 'connection' ? way.organization : applies ? owner : null
    // A second read, for the rare account whose own address differs from what was asserted: that one's domain may
    // have a policy, and a removal may be known by it alone. Members need neither.
    if (asked && !account?.memberships.some(({ organization }) => organization === asked.id)) {
      organizations.add(asked.id)
      person.push(emailHash(hash, own))
      snapshot = await load()
      const now = (snapshot.byIdentity ?? snapshot.byVerifiedEmail)?.verifiedEmail
      if (now !== own) throw new Error('the account changed between two reads')
    }
    const { byIdentity: known, byVerifiedEmail: taken } = snapshot
    const adopts = way.kind === 'connection' && (way.connection.adoptEmail || ports.onConflict)
    if (adopts && standing === 'vouched' && known && !taken) {
      // The address it would give up must not lead around what any organization suspended.
      const record = await store.user(known.id)
      const suspended = record?.memberships.filter(({ status }) => status === 'suspended') ?? []
      for (const { organization } of suspended) organizations.add(organization)
      if (suspended.length > 0) snapshot = await load()
      if (snapshot.byIdentity?.version !== record?.user.version)
        throw new Error('the account changed between two reads')
    }
  }
  const asserted = assertedOf(identity)
  return {
    identity,
    way,
    domain,
    ownDomain,
    proof,
    otherWays: await otherWays(directory, identity, snapshot, domain),
    snapshot,
    chosen,
    hash,
    digest: hash(JSON.stringify(asserted)),
    asserted,
    now: ports.now(),
    ids,
  }
}

/** By which other identities the account could sign in, where it has one of this source already. */
async function otherWays(
  directory: Directory,
  { source }: IdentityFacts,
  { byIdentity, byVerifiedEmail }: Snapshot,
  domain: SignIn['domain'],
): Promise<Source[]> {
  const identities = byIdentity ? [] : (byVerifiedEmail?.identities ?? [])
  const sources = new Set(identities.map((identity) => identity.source))
  if (!sources.delete(source)) return []
  const open = await Promise.all(
    [...sources].map(async (other) => {
      const [kind, id] = other.split(/:(.*)/s) as [string, string]
      // Whose address SSO owns cannot come by any provider.
      if (kind === 'provider') return !domain?.sso.length && (await directory.provider(id)) !== null
      const connection = await directory.connection(id)
      const organization = connection?.enabled && (await directory.organization(connection.organization))
      return organization ? organization.status === 'active' : false
    }),
  )
  return [...sources].filter((_, index) => open[index])
}

async function wayOf(directory: Directory, identity: IdentityFacts): Promise<Way> {
  const [kind, id] = identity.source.split(/:(.*)/s) as ['connection' | 'provider', string]
  if (kind === 'provider') {
    const provider = await directory.provider(id)
    if (!provider) throw new JitError('connection_unknown', `there is no provider "${id}"`)
    return { kind, provider }
  }
  const connection = await directory.connection(id)
  if (!connection) throw new JitError('connection_unknown', `there is no connection "${id}"`)
  const organization = await directory.organization(connection.organization)
  if (!organization) {
    throw new JitError(
      'config_invalid',
      `connection "${id}" names organization "${connection.organization}", which does not exist`,
    )
  }
  return { kind, connection, organization }
}

/** One key per person: the address, by which several ways in meet, else the identity itself. */
function lockKey(signIn: SignIn): string {
  const { identity } = signIn
  const matchable = ['vouched', 'proved'].includes(emailStanding(signIn))
  const person = matchable
    ? ['email', identity.email!.address]
    : ['identity', identity.source, identity.issuer, identity.subject]
  return `sign-in:${createHash('sha256').update(JSON.stringify(person)).digest('base64url')}`
}

/** Nothing left to do: either there never was, or our own commit had landed with its answer lost. */
function landed(attempted: Provisioned | null, plan: Extract<Plan, { verdict: 'allow' }>): Provisioned {
  return attempted?.after.user.id === plan.after.user.id && attempted.outcome === 'created'
    ? { ...attempted, after: plan.after }
    : { ...plan, decision: null }
}

function refusal(plan: Plan): string {
  return `refused with ${plan.reason}: ${plan.trace.map(({ rule, finding }) => `${rule}=${finding}`).join(' ')}`
}
