import { attributeRules } from './claims.js'
import type { SignIn } from './plan.js'
import type { UserFacts } from './store.js'

export interface AttributePlan {
  readonly changed: readonly string[]
  readonly after: Readonly<Record<string, string>>
}

/**
 * The attributes as they will be, or null where they stay. What is asserted is written where the IdP's word stands
 * (`authority`), and what is no longer asserted is cleared where the mapping says so.
 * @param settle says whose value stands where both have one; asked for attributes under the IdP's authority alone
 */
export function planAttributes(
  { identity, way }: Pick<SignIn, 'identity' | 'way'>,
  user: UserFacts | null,
  known: boolean,
  settle: (attribute: string) => 'idp' | 'app',
): AttributePlan | null {
  if (!user || way.kind === 'provider') return null
  const { profileSync } = way.connection.jit
  if (profileSync === 'never' || (profileSync === 'first-sign-in' && known)) return null
  const after = new Map(Object.entries(user.attributes))
  const omitted = new Set(identity.omitted.map(({ attribute }) => attribute))
  for (const [name, { authority = 'idp', absent = 'keep' }] of attributeRules(way.connection.attributes)) {
    const asserted = Object.hasOwn(identity.profile, name) ? identity.profile[name] : undefined
    const own = after.get(name)
    if (asserted === own || authority === 'app') continue
    if (asserted === undefined) {
      // What could not be taken was asserted all the same.
      if (absent === 'clear' && authority === 'idp' && !omitted.has(name)) after.delete(name)
    } else if (own === undefined || (authority === 'idp' && settle(name) === 'idp')) {
      after.set(name, asserted)
    }
  }
  const names = new Set([...Object.keys(user.attributes), ...after.keys()])
  const changed = [...names].filter((name) => user.attributes[name] !== after.get(name))
  return changed.length > 0 ? { changed, after: Object.fromEntries(after) } : null
}
