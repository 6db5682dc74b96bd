import type { Absence, AbsenceFinding, Grant, Origin, Outcome, Reason } from 'passport-jit'

/** What happened to a person, in the app's own words. The kit's reasons are a closed union, so none is missed. */
export const reasonSentences: Record<Reason, string> = {
  user_provisioned: 'A new account was made, and it joined the organization.',
  user_created: 'A new account was made. It joined nothing, because nothing gave it a membership.',
  outsider_created: 'An account of its own was made for somebody outside the organization’s domains.',
  account_claimed:
    'An account that had never proved this address was taken over by the person who did; all else about it ended.',
  identity_linked: 'An existing account with the same verified e-mail was linked to this sign-in.',
  membership_created: 'A known person joined the organization.',
  identity_synced: 'Roles or attributes followed the identity provider.',
  identity_known: 'A known person, and nothing had to change.',
  administered: 'A person did this, not a policy.',
  guarded: 'A sync that would have taken too much was held.',
  subject_migrated: 'The identity provider names this person anew, and the account went along.',
  proof_required: 'The address belongs to an account here, so the person has to prove it first.',
  connection_changed: 'The connection was changed in the middle of the sign-in.',
  connection_disabled: 'The connection is switched off.',
  organization_suspended: 'The organization is suspended.',
  email_foreign: 'The e-mail address belongs to another organization.',
  email_outside: 'The e-mail address is not in a domain this connection vouches for.',
  email_unverified: 'The identity provider says that the e-mail address is not verified.',
  user_not_provisioned: 'There is no account yet, and the connection may not make one.',
  user_suspended: 'The account is suspended.',
  user_removed: 'The account was removed by a person.',
  membership_suspended: 'The membership is suspended.',
  subject_changed: 'The account is tied to another login at the same identity provider.',
  sso_required: 'The organization of this address has a sign-in of its own, and no other way in counts.',
  sign_up_closed: 'There is no account yet, and new ones are by invitation only.',
  seats_full: 'The organization has no free seat.',
}

export const outcomeWords: Record<Outcome, string> = {
  created: 'created',
  linked: 'linked',
  updated: 'updated',
  unchanged: 'unchanged',
  denied: 'refused',
  unproved: 'to be proved',
}

/** The rule that gave a role, from its grant and the decision behind it. */
export function grantWords({ source }: Pick<Grant, 'source'>, origin: Origin | null): string {
  const rule = origin?.because ?? null
  const [kind = '', name] = source.split(/:(.*)/s)
  switch (kind) {
    case 'sso':
      return rule?.startsWith('by ')
        ? `${rule} of connection ${name}`
        : `${rule ?? 'by single sign-on'}, connection ${name}`
    case 'domain':
      return 'by the e-mail domain'
    case 'scim':
      return 'by the company’s directory'
    case 'import':
      return 'by an import'
    default:
      return rule ?? (kind === 'invitation' ? 'by invitation' : 'by hand')
  }
}

/** What somebody might look for and not find. The kit's findings are a closed union, so none is missed. */
const absences: Record<AbsenceFinding, string> = {
  user_suspended: 'The account is suspended, so nothing here counts.',
  organization_suspended: 'The organization is suspended, so nothing here counts.',
  membership_suspended: 'The membership is suspended, so nothing here counts.',
  without_seat: 'No seat was free, so nothing here counts until one is.',
  membership_removed: 'A person took the membership away, so no policy brings it back.',
  role_removed: 'A person took it away, so no policy brings it back.',
  membership_left: 'The membership has ended.',
  role_revoked: 'It is no longer given.',
  sync_held: 'The sync is held, so groups neither give nor take.',
}

export function absenceWords({ finding, about }: Absence): string {
  if (about === null) return absences[finding]
  return `${finding === 'sync_held' ? `Connection ${about}` : `No ${about}`}. ${absences[finding]}`
}
