import { createHash } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import { SAML } from '@node-saml/passport-saml'
import * as z from 'zod'
import {
  type Attempt,
  assertIdentity,
  attemptDefaults,
  JitError,
  readClaims,
  type SamlConnection,
  type Services,
  type Strategy,
  schemaProblems,
  single,
} from '../lib/index.js'
import type { Expected, Statement } from './saml-assertion.js'
import { bounded, quote, type Refuse } from './saml-guard.js'
import {
  certificateWarnings,
  checkOwnKeys,
  type IdpMetadata,
  keyText,
  readIdpMetadata,
  spMetadata,
} from './saml-metadata.js'
import { answerQueue, type OpenLane } from './saml-queue.js'
import { openThread } from './saml-thread.js'
import { type AnswerJob, verifyAnswer } from './saml-verify.js'

/** Entra sends this link instead of the groups where there are more than 150. */
const groupsOverflow = 'http://schemas.microsoft.com/claims/groups.link'

export interface SamlOptions {
  /**
   * Worker threads that read and verify answers, each with 20 to 80 MB of its own. By default one less than there
   * are cores, from 1 to 4. With 0 answers are verified in the main thread, for platforms without threads: weaker,
   * as a costly answer then holds everything else for up to half a second, and none can be ended before it is done.
   */
  workers?: number
  /** Answers that may wait for a thread, each of up to 0.7 MB; one more is refused. 64 by default. */
  queue?: number
}

export interface SamlStrategy extends Strategy<SamlConnection> {
  /** Ends the threads; answers that wait or come later are refused. Idle threads never keep a process alive. */
  close(): Promise<void>
}

const optionsSchema = z.strictObject({
  workers: z
    .number()
    .int()
    .min(0)
    .max(64)
    .default(() => Math.max(1, Math.min(4, availableParallelism() - 1))),
  queue: z.number().int().min(1).max(10_000).default(64),
})

/**
 * SAML 2.0 Web SSO: AuthnRequest by HTTP-Redirect, answer by HTTP-POST. Signatures are verified by
 * node-saml; what it leaves open (Issuer, Destination, Recipient, Audience, confirmation, times, algorithms,
 * the shape of the document, replay) is checked here, on the bytes that were signed.
 *
 * Signature algorithms: RSA (2048 bits or more) with SHA-256 or SHA-512, exclusive canonicalization.
 * Refusals: `answer_malformed`, `answer_too_large`, `assertion_refused`, `answer_replayed`, `idp_refused`,
 * `identity_invalid`; `unavailable` where too many answers came at once, or one took too long; `check` throws
 * `config_invalid`.
 * @throws JitError `config_invalid` naming each option that cannot work
 */
export function samlStrategy(options: SamlOptions = {}): SamlStrategy {
  const { workers, queue } = checked(options)
  const answers = answerQueue(workers > 0 ? openThread : inPlace, { lanes: workers || 1, waiting: queue })
  const parsed = new WeakMap<SamlConnection, IdpMetadata | JitError>()
  const idpOf = (connection: SamlConnection): IdpMetadata => {
    const idp = parsed.get(connection) ?? readOrRefused(connection)
    parsed.set(connection, idp)
    // Each request gets an error of its own to be logged and counted.
    if (idp instanceof JitError) throw new JitError(idp.code, idp.message, { cause: idp })
    return idp
  }

  return {
    protocol: 'saml',

    check: (connection) => {
      checkOwnKeys(connection)
      return certificateWarnings(connection, idpOf(connection), Date.now())
    },

    attemptKey: ({ body }) => single(body, 'RelayState'),

    begin: async (connection, attempt, services) => {
      const requestId = `_${Buffer.from(services.random(16)).toString('hex')}`
      const idp = idpOf(connection)
      const [own] = connection.sp.signing
      const saml = new SAML({
        idpCert: certificatesOf(idp),
        issuer: services.entityId,
        callbackUrl: services.callbackUrl,
        entryPoint: idp.ssoUrl,
        generateUniqueId: () => requestId,
        // Asking for less lets every product answer with what it has.
        identifierFormat: null,
        disableRequestedAuthnContext: true,
        ...(own && { privateKey: keyText(own.privateKey), signatureAlgorithm: 'sha256' }),
      })
      return { redirect: await saml.getAuthorizeUrlAsync(attempt, undefined, {}), secrets: { requestId } }
    },

    complete: async (connection, { body }, attempt, services) => {
      const refuse: Refuse = (code, what, cause) => {
        throw new JitError(code, `connection "${connection.id}": ${what}`, { cause })
      }
      const idp = idpOf(connection)
      const job: AnswerJob = {
        field: bounded(single(body, 'SAMLResponse'), refuse),
        expected: {
          issuer: idp.entityId,
          callbackUrl: services.callbackUrl,
          audience: services.entityId,
          requestId: attempt === null ? null : requestIdOf(attempt, refuse),
          now: services.now(),
          skew: connection.clockSkewSeconds * 1000,
          subjectMapped: connection.attributes.subject !== undefined,
        },
        signed: connection.signed,
        certificates: certificatesOf(idp),
        decryptionKeys: connection.sp.decryption.map((pair) => keyText(pair.privateKey)),
      }
      const verdict = await answers.verify(job, attempt === null, services.signal)
      if ('refused' in verdict) return refuse(verdict.refused, verdict.what, verdict.cause)
      await claim(connection, job.expected, verdict.statement, services, refuse)
      return identityOf(connection, idp, verdict.statement, job.expected.now)
    },

    metadata: spMetadata,

    close: () => answers.close(),
  }
}

/** A refusal is remembered as well: a tenant's metadata that cannot be used takes as long to read as any. */
function readOrRefused(connection: SamlConnection): IdpMetadata | JitError {
  try {
    return readIdpMetadata(connection)
  } catch (error) {
    if (error instanceof JitError) return error
    throw error
  }
}

function checked(options: SamlOptions) {
  const parsed = optionsSchema.safeParse(options)
  if (parsed.success) return parsed.data
  const problems = schemaProblems(parsed.error.issues)
  throw new JitError('config_invalid', `samlStrategy: ${problems.join('; ')}`, { problems })
}

/**
 * Verifies in this thread. One answer in each turn of the event loop leaves sockets and timers their share when
 * many come at once; in a row they would look to us like a Redis that hangs.
 */
const inPlace: OpenLane = ({ ready }) => {
  setImmediate(ready)
  return { verify: (job) => turnOfTheLoop().then(() => verifyAnswer(job)), close: async () => {} }
}

const certificatesOf = (idp: IdpMetadata) => idp.certificates.map((certificate) => certificate.toString())

function requestIdOf(attempt: Attempt, refuse: Refuse): string {
  return attempt.secrets.requestId ?? refuse('attempt_unknown', 'the sign-in began without an AuthnRequest')
}

/**
 * How much longer than an assertion is good its claim lasts, so that our own servers' clocks may differ: in milliseconds,
 * from the right time or from each other's. One that nobody asked for is kept from coming again by its claim alone; any
 * other also by its attempt, which is good once whatever the time.
 */
const claimMargin = { asked: 60_000, unasked: 2 * 24 * 3_600_000 } as const

/**
 * Lets one answer with this assertion through (core §2.5.1.5), for as long as it would be good. That may be for ages, by
 * the IdP's word, but not without the attempt that it answers.
 */
async function claim(
  connection: SamlConnection,
  { issuer, now, skew, requestId }: Expected,
  { id, until }: Statement,
  services: Services,
  refuse: Refuse,
): Promise<void> {
  const name = createHash('sha256')
    .update(JSON.stringify([connection.id, issuer, id]))
    .digest('base64url')
  const margin = claimMargin[requestId === null ? 'unasked' : 'asked']
  const longest = requestId === null ? Number.POSITIVE_INFINITY : attemptDefaults.attempt
  const first = await services.once.claim(`assertion:${name}`, Math.min(until + skew - now, longest) + margin)
  if (!first) refuse('answer_replayed', `the assertion ${quote(id)} was used before`)
}

function identityOf(connection: SamlConnection, idp: IdpMetadata, statement: Statement, at: number) {
  const claims: Record<string, readonly string[]> = Object.create(null)
  for (const [name, values] of statement.attributes) claims[name] = values
  const nameId = [statement.nameId]
  // A mapping may name the NameID like an attribute.
  const named = Object.assign(Object.create(null), claims, { NameID: nameId, nameID: nameId })
  const { subject, email, groups, profile, omitted } = readClaims(named, connection.attributes)
  return assertIdentity({
    source: `connection:${connection.id}`,
    sourceVersion: connection.version,
    issuer: idp.entityId,
    subject: subject ?? statement.subject,
    email,
    emailVerified: 'unstated',
    profile,
    groups: groupsOverflow in claims ? { kind: 'overflow' } : groups,
    omitted,
    claims,
    at,
  })
}
