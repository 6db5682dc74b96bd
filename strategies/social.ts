import { JitError, type SocialProvider, type Strategy, single } from '../lib/index.js'
import { oauth2Provider } from './social-oauth2.js'
import { oidcProvider } from './social-oidc.js'
import { type PassportProvider, passportProvider } from './social-passport.js'

export { fromPassport, type PassportMapping, type PassportProvider } from './social-passport.js'

export interface SocialOptions {
  /** Passport strategies by the id of the provider they serve, each made by `fromPassport()`. */
  readonly passport?: Readonly<Record<string, PassportProvider>>
}

/** What a family of presets does for its entries. */
export type Family<P extends SocialProvider> = Required<Pick<Strategy<P>, 'check' | 'begin' | 'complete'>>

/**
 * Social sign-in, for every entry of the directory's `social` list by its preset: `google`, `microsoft`, `apple`
 * and `oidc` by OpenID Connect, `github` and `oauth2` by OAuth 2.0 with a list of addresses, `passport` by any
 * Passport strategy that sends a `state`. Only what a preset knows to be proof makes an address verified.
 * @throws JitError `config_invalid` for a Passport strategy that `fromPassport()` did not make
 */
export function socialStrategy(options: SocialOptions = {}): Strategy<SocialProvider> {
  const oidc = oidcProvider()
  const passport = passportProvider(options.passport ?? {})
  const familyOf = (entry: SocialProvider): Family<SocialProvider> => {
    switch (entry.preset) {
      case 'google':
      case 'microsoft':
      case 'apple':
      case 'oidc':
        return oidc as Family<SocialProvider>
      case 'github':
      case 'oauth2':
        return oauth2Provider as Family<SocialProvider>
      case 'passport':
        return passport as Family<SocialProvider>
      default:
        throw new JitError(
          'config_invalid',
          `provider "${(entry as SocialProvider).id}": there is no preset "${(entry as SocialProvider).preset}"`,
        )
    }
  }
  return {
    protocol: 'social',
    check: (entry, refused) => familyOf(entry).check(entry, refused),
    // A form comes from another site: what is in its own address was not sent by the provider.
    attemptKey: ({ query, body }) => single(body ?? query, 'state'),
    begin: (entry, attempt, services) => familyOf(entry).begin(entry, attempt, services),
    complete: async (entry, incoming, attempt, services) => {
      if (attempt === null)
        throw new JitError('answer_unsolicited', `provider "${entry.id}": nobody here asked for this answer`)
      return familyOf(entry).complete(entry, incoming, attempt, services)
    },
  }
}
