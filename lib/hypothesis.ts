import { readClaims } from './claims.js'
import { JitError } from './errors.js'
import { type EmailVerified, normalizeEmail } from './identity.js'
import type { IdentityFacts } from './plan.js'
import type { Directory } from './store.js'

/**
 * Who might sign in, for `explain`; `claims` are read by the entry's own mapping. What only the strategy can
 * tell is stated: `issuer` (by default an OIDC connection's own), and by a provider whether it takes the address
 * for verified (by default as a connection would read `email_verified`).
 */
export type Hypothesis = {
  readonly subject: string
  readonly claims: Readonly<Record<string, unknown>>
  readonly issuer?: string
  readonly emailVerified?: EmailVerified
} & ({ readonly connection: string } | { readonly provider: string })

/** The facts of a hypothesis; no asserted identity, so nothing can be provisioned by it. */
export async function suppose(
  directory: Directory,
  hypothesis: Hypothesis,
  now: number,
): Promise<IdentityFacts> {
  const { claims, subject } = hypothesis
  const entry =
    'connection' in hypothesis
      ? await directory.connection(hypothesis.connection)
      : await directory.provider(hypothesis.provider)
  if (!entry) {
    throw new JitError(
      'connection_unknown',
      `there is no entry for ${JSON.stringify({ ...hypothesis, claims: undefined })}`,
    )
  }
  const mapping = 'attributes' in entry ? { email: 'email', ...entry.attributes } : { email: 'email' }
  const { email, groups, profile, omitted } = readClaims(claims, mapping)
  const verified = claims.email_verified
  return {
    source: 'connection' in hypothesis ? `connection:${entry.id}` : `provider:${entry.id}`,
    sourceVersion: entry.version,
    issuer: hypothesis.issuer ?? ('issuer' in entry ? entry.issuer : ''),
    subject,
    email: email === undefined ? null : normalizeEmail(email),
    emailVerified:
      hypothesis.emailVerified ?? (verified === undefined ? 'unstated' : verified === true ? 'yes' : 'no'),
    profile,
    groups,
    omitted,
    claims,
    at: now,
  }
}
