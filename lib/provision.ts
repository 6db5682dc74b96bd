import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { asJitError, JitError } from './errors.js'
import { AssertedIdentity } from './identity.js'
import { emailStanding, type IdentityFacts, type Plan, planSignIn, type SignIn } from './plan.js'
import type { Directory, Lease, Lock, Store } from './store.js'

export interface ProvisionPorts {
  readonly store: Store
  readonly directory: Directory
  readonly lock: Lock
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** Times in milliseconds. */
export const provisionDefaults = {
  lockHeld: 5_000,
  lockWaited: 2_000,
  replans: 8,
  /** Any answer within this, refusals included. */
  deadline: 5_000,
} as const

/** A plan that was carried out, with the id of its decision. */
export type Provisioned = Extract<Plan, { verdict: 'allow' }> & { readonly decision: string | null }

/**
 * The only writer of sign-ins: load, plan, lock, commit. A conflict or an unknown outcome is reloaded and
 * planned again, so a commit whose answer was lost shows as nothing left to do.
 * @throws JitError the planner's reason where it refuses; `unavailable` where the store cannot be asked or
 *   the plan cannot be settled in time; `identity_unproven` for anything no strategy made.
 */
export async function provision(
  ports: ProvisionPorts,
  identity: AssertedIdentity,
  correlationId: string = randomUUID(),
): Promise<Provisioned> {
  if (!AssertedIdentity.is(identity)) {
    throw new JitError(
      'identity_unproven',
      'provision() takes an identity that a strategy returned, nothing hand-made',
    )
  }
  const ids = { user: randomUUID(), change: randomUUID(), correlation: correlationId }
  const until = performance.now() + provisionDefaults.deadline
  let lease: Lease | null | undefined
  let attempted: Provisioned | null = null
  let obstacle: unknown = 'no attempt was made'
  try {
    for (let attempt = 0; attempt <= provisionDefaults.replans; attempt++) {
      if (attempt > 0) await delay(Math.random() * Math.min(20 * 2 ** attempt, 400))
      const left = until - performance.now()
      if (left <= 0) break
      try {
        const signIn = await within(left, facts(ports, identity, ids))
        const plan = planSignIn(signIn)
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
        if (plan.verdict === 'allow') attempted = { ...plan, decision: ids.change }
        const result = await within(until - performance.now(), ports.store.commit(plan.changes))
        // A refusal writes under no key but that of its change: where it is taken, an answer of ours was lost.
        if (plan.verdict === 'deny' && (result.committed || result.conflict.kind === 'key')) {
          throw new JitError(plan.reason, refusal(plan), { correlationId })
        }
        if (result.committed) return attempted!
        obstacle = result.conflict
      } catch (error) {
        if (error instanceof JitError) throw error
        obstacle = error
      }
    }
  } finally {
    await lease?.release()
  }
  const detail = obstacle instanceof Error ? obstacle.message : JSON.stringify(obstacle)
  throw new JitError('unavailable', `the sign-in could not be settled in time; last obstacle: ${detail}`, {
    cause: obstacle,
    correlationId,
  })
}

/** What would happen, and why; reads once and writes nothing. */
export async function explain(ports: ProvisionPorts, identity: IdentityFacts): Promise<Plan> {
  try {
    return planSignIn(await facts(ports, identity, { user: 'new', change: 'none', correlation: 'none' }))
  } catch (error) {
    throw asJitError(error, 'unavailable', 'the store could not be read')
  }
}

async function facts(ports: ProvisionPorts, identity: IdentityFacts, ids: SignIn['ids']): Promise<SignIn> {
  const id = identity.source.startsWith('connection:') ? identity.source.slice('connection:'.length) : null
  const connection = id === null ? null : await ports.directory.connection(id)
  if (!connection) throw new JitError('connection_unknown', `there is no connection for ${identity.source}`)
  const organization = await ports.directory.organization(connection.organization)
  if (!organization) {
    throw new JitError(
      'config_invalid',
      `connection "${connection.id}" names organization "${connection.organization}", which does not exist`,
    )
  }
  const emailOwner = identity.email ? await ports.directory.domainOwner(identity.email.domain) : null
  const vouched = emailStanding(identity, connection, emailOwner) === 'vouched'
  const snapshot = await ports.store.load({
    source: identity.source,
    issuer: identity.issuer,
    subject: identity.subject,
    email: vouched ? identity.email!.address : null,
    organizations: [organization.id],
  })
  return { identity, connection, organization, emailOwner, snapshot, now: ports.now(), ids }
}

/** One key per person: the vouched address, by which several connections meet, else the identity itself. */
function lockKey({ identity, connection, emailOwner }: SignIn): string {
  const vouched = emailStanding(identity, connection, emailOwner) === 'vouched'
  const person = vouched
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

async function within<T>(left: number, work: Promise<T>): Promise<T> {
  const stop = new AbortController()
  const timeout = delay(Math.max(left, 0), undefined, { signal: stop.signal, ref: false }).then(
    () => Promise.reject(new Error('the store did not answer in time')),
    () => new Promise<never>(() => {}),
  )
  try {
    return await Promise.race([work, timeout])
  } finally {
    stop.abort()
    work.catch(() => {})
  }
}
