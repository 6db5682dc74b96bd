import { accounts } from './accounts.js'
import { administration } from './administration.js'
import { configuration } from './configuration.js'
import { email } from './email.js'
import { linking } from './linking.js'
import { oidc } from './oidc.js'
import { outbound } from './outbound.js'
import { provisioning } from './provisioning.js'
import { saml } from './saml.js'
import { samlLimits } from './saml-limits.js'
import { sessions } from './sessions.js'
import { signIn } from './sign-in.js'
import { social } from './social.js'
import { stores } from './stores.js'
import { storesSql } from './stores-sql.js'
import { trail } from './trail.js'

/** A piece of the source that stands there once, and what stands in its place while the guard is off. */
export interface Edit {
  /** Path from the root. */
  readonly in: string
  readonly find: string
  readonly off: string
}

/** A check whose removal would let somebody in, link wrongly, write twice, leak, exceed a limit, hang or crash. */
export interface Guard extends Edit {
  /** Rows of the catalogue of attacks, or the rule it belongs to. */
  readonly rule: string
  /** What it holds. */
  readonly holds: string
  /** Files below `test`, without `.test.ts`; of these a test must fail. After a project's name where another is meant. */
  readonly by: readonly string[]
  /** The tests among them, by a pattern, where others take long. */
  readonly named?: string
  /** Others hold the same: all are off together, and why each stays. */
  readonly also?: { readonly why: string; readonly edits: readonly Edit[] }
  /** Without it a test does not end, which no other way shows. */
  readonly hangs?: true
}

export const sections: Readonly<Record<string, readonly Guard[]>> = {
  saml,
  'saml limits': samlLimits,
  oidc,
  social,
  'sign-in': signIn,
  email,
  accounts,
  linking,
  provisioning,
  sessions,
  administration,
  configuration,
  outbound,
  trail,
  stores,
  'stores in SQL': storesSql,
}
