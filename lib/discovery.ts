import type { DomainFacts } from './plan.js'
import type { Provider } from './policy.js'

/** A way to sign in, as the sign-in page offers it. */
export interface WayIn {
  readonly kind: 'sso' | 'email' | 'social'
  /** Id of the connection or provider. */
  readonly id: string
  /** What a button says. */
  readonly name: string
  /**
   * Path that starts it: followed for SSO and social, with the address to return to in it; posted `email` and
   * `returnTo` to for a code.
   */
  readonly start: string
}

/**
 * Home realm discovery: how the person with an address in this domain signs in. Where SSO owns the domain
 * nothing else is offered, and where several connections fit the person picks. Pure, and from the directory
 * alone: it knows no users, so it cannot tell who has an account.
 */
export function discover(
  domain: DomainFacts,
  providers: readonly Provider[],
  path: string,
  returnTo?: string,
): WayIn[] {
  const query = returnTo === undefined ? '' : `?returnTo=${encodeURIComponent(returnTo)}`
  if (domain.sso.length > 0) {
    return domain.sso.map(({ id }) => ({
      kind: 'sso',
      id,
      name: domain.sso.length > 1 ? `${domain.owner!.name} (${id})` : domain.owner!.name,
      start: `${path}/sso/${id}${query}`,
    }))
  }
  return providers.map((provider) =>
    provider.protocol === 'email'
      ? { kind: 'email', id: 'email', name: 'E-mail code', start: `${path}/email` }
      : {
          kind: 'social',
          id: provider.id,
          name: provider.name ?? provider.id,
          start: `${path}/social/${provider.id}${query}`,
        },
  )
}
