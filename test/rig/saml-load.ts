import { randomBytes } from 'node:crypto'
import type { Worker } from 'node:worker_threads'
import {
  type Attempt,
  type Incoming,
  JitError,
  type SamlConnection,
  type Services,
  staticDirectory,
} from 'passport-jit'
import { memoryOnce } from 'passport-jit/stores/memory'
import type { SamlStrategy } from 'passport-jit/strategies/saml'
import { createSigningKey, idpMetadata, type SigningKey } from '../../examples/identity-providers/saml.js'
import { forge, inside, type Mutation, posted } from './saml-answer.js'

// SAML answers that cost much, and what is needed to hand answers to a strategy without an app around it.

const many = (count: number, make: (index: number) => string) =>
  Array.from({ length: count }, (_, n) => make(n))

/**
 * Makes a forged answer cost as much as any can, some twenty times an ordinary one: namespaces on top of each
 * other, over as many elements as fit.
 * @param elements fewer cost less
 * @param padding characters to make it longer by; 480,000 fill what may be posted
 */
export function costly({ elements = 1_900, padding = 0 } = {}): Mutation {
  const names = (depth: number) => many(20, (n) => `xmlns:p${depth}x${n}="urn:${depth}.${n}"`).join(' ')
  const nested = many(18, (depth) => `<a ${names(depth)}>`).join('')
  const dear = `${nested}${'<b/>'.repeat(elements)}${'</a>'.repeat(18)}`
  return inside('AttributeStatement', `${dear}<c>${'x'.repeat(padding)}</c>`)
}

/** An answer and the sign-in that waits for it. */
export interface Posted {
  readonly incoming: Incoming
  readonly attempt: Attempt | null
}

export interface Desk {
  /** An answer of the IdP; forged where it is changed after signing. */
  answer(change?: Mutation): Posted
  /** Hands it to the strategy as the kit does. */
  complete(strategy: SamlStrategy, posted: Posted, signal?: AbortSignal): ReturnType<SamlStrategy['complete']>
}

/** A connection whose IdP, with a key of its own or this one, answers at once. */
export async function desk(own?: SigningKey): Promise<Desk> {
  const issuer = 'https://idp.acme.example/metadata'
  const key = own ?? (await createSigningKey('idp.acme.example'))
  const directory = staticDirectory({
    organizations: [{ id: 'acme', name: 'Acme', roles: ['member'], domains: ['acme.example'] }],
    connections: [
      {
        id: 'acme',
        organization: 'acme',
        protocol: 'saml',
        idpMetadata: idpMetadata(issuer, 'https://idp.acme.example/sso', [key.certificate]),
        attributes: { email: 'email', groups: 'groups' },
      },
    ],
  })
  const connection = (await directory.connection('acme')) as SamlConnection
  const services: Omit<Services, 'signal'> = {
    fetch: () => Promise.reject(new Error('no network here')),
    now: Date.now,
    random: (bytes) => randomBytes(bytes),
    once: memoryOnce(),
    callbackUrl: 'https://app.example/auth/sso/acme/callback',
    entityId: 'https://app.example/auth/sso/acme/metadata',
  }
  return {
    answer: (change) => {
      const requestId = `_${randomBytes(16).toString('hex')}`
      const xml = forge({
        issuer,
        person: { id: 'alice-1', email: 'alice@acme.example', name: 'Alice', groups: ['staff'] },
        to: { callbackUrl: services.callbackUrl, audience: services.entityId, requestId },
        signing: { key },
        ...(change && { after: [change] }),
      })
      return {
        incoming: {
          method: 'POST',
          query: new URLSearchParams(),
          body: new URLSearchParams({ SAMLResponse: posted(xml) }),
        },
        attempt: { id: 'a'.repeat(43), at: services.now(), secrets: { requestId } },
      }
    },
    complete: (strategy, { incoming, attempt }, signal = new AbortController().signal) =>
      strategy.complete(connection, incoming, attempt, { ...services, signal }),
  }
}

/** Comes back when the strategy verifies answers, however long a thread takes to start on a busy machine. */
export async function warmed(strategy: SamlStrategy, { answer, complete }: Desk): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await complete(strategy, answer())
      return
    } catch (error) {
      if (tries === 10 || !(error instanceof JitError) || error.code !== 'unavailable') throw error
    }
  }
}

/** The threads that this process starts from now on. */
export function threads(): { readonly started: readonly Worker[]; stop(): void } {
  const started: Worker[] = []
  const note = (worker: Worker) => started.push(worker)
  process.on('worker', note)
  return { started, stop: () => process.off('worker', note) }
}

/** How long some work took, and the longest time in it that this thread's timers did not get to run; in milliseconds. */
export async function blocking(work: () => Promise<unknown>): Promise<{ took: number; blocked: number }> {
  const began = performance.now()
  let last = began
  let blocked = 0
  const tick = () => {
    const now = performance.now()
    blocked = Math.max(blocked, now - last)
    last = now
  }
  const timer = setInterval(tick, 1)
  await work()
  await new Promise((resolve) => setTimeout(resolve, 1))
  tick()
  clearInterval(timer)
  return { took: performance.now() - began, blocked }
}
