import { JitError } from './errors.js'
import { changesOf, type Policies } from './policy-change.js'
import { type PreviewPorts, preview } from './preview.js'
import { percent, type RevocationLimit } from './revocations.js'
import type { Directory } from './store.js'

export interface AcceptancePorts extends PreviewPorts {
  readonly limit: RevocationLimit
  /** What is in force, as far as it can be read. */
  readonly present: Pick<Directory, 'organization' | 'connection'>
}

/**
 * Lets policies pass that take little from people; others where their preview was looked at, which its digest shows.
 * @throws JitError `preview_required` naming each organization, what it would lose and the digest
 */
export async function requireAcceptance(
  ports: AcceptancePorts,
  policies: Policies,
  digest: string | undefined,
): Promise<void> {
  const { store, present, limit } = ports
  const changes = await changesOf(present, policies)
  if (changes.length === 0) return
  // Nobody is a member of an organization that the store has never known.
  const ids = [...new Set(changes.map(({ organization }) => organization.id))]
  const { organizations } = await store.load({ email: null, organizations: ids })
  const there = changes.filter((change) => organizations.some(({ id }) => id === change.organization.id))
  const found = await preview(ports, there, { limit, people: 0 })
  if (!found.guarded || found.digest === digest) return
  const problems = found.organizations
    .filter(({ guarded }) => guarded)
    .map(
      ({ organization, revoked, grants, share, lastOwner }) =>
        `organization "${organization}": ${revoked} of ${grants} grants (${percent(share)}) would be revoked` +
        (lastOwner ? ', and its only owner would lose something or be refused' : ''),
    )
  throw new JitError(
    'preview_required',
    `${problems.join('; ')}. Look at it with jit.preview() or "passport-jit preview"; import it with { accept: "${found.digest}" } to have it so`,
    { problems },
  )
}
