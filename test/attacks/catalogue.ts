// Every known way to get in wrongly, and every known fault, by the id that the names of its tests begin with. A row that cannot apply, or not
// as a whole, says why.

/** Sections by the letter that the ids of their rows begin with. */
export const sections: Readonly<Record<string, string>> = {
  S: '1 SAML',
  O: '2 OpenID Connect and OAuth',
  L: '3 Linking and domains',
  E: '4 Codes and links by e-mail',
  P: '5 Provisioning and faults',
  N: '6 Sessions',
}

export interface Row {
  /** What is tried. */
  readonly attack: string
  /** Files below `test` with tests of it. */
  readonly tests: readonly string[]
  /** Why there is no test of it, or of a part. */
  readonly answer?: string
}

const row = (attack: string, tests: readonly string[], answer?: string): Row => ({
  attack,
  tests: tests.map((name) => (name.includes('/') ? name : `attacks/${name}`)),
  ...(answer !== undefined && { answer }),
})

export const catalogue: Readonly<Record<string, Row>> = {
  S01: row('Signature wrapping, eight kinds, Response or assertion signed', ['saml-signature']),
  S02: row('Nothing signed, or the signature stripped', ['saml-signature']),
  S03: row('Only the Response or only the assertion signed, against policy', ['saml-signature']),
  S04: row('A key that is not of the connection, its certificate in KeyInfo', ['saml-signature']),
  S05: row('An assertion of one tenant’s IdP brought to another tenant', ['saml-signature']),
  S08: row('A forged digest in a comment, two SignedInfos or References', ['saml-signature']),
  S09: row('Comments, CDATA and instructions inside NameID and e-mail', ['saml-claims']),
  S10: row('Two assertions, an ID twice, an assertion in Extensions', ['saml-signature']),
  S12: row('DOCTYPE, external entities, entity bombs', ['saml-input']),
  S13: row('SHA-1, HMAC, unknown algorithms, short keys', ['saml-signature']),
  S14: row('Replay: again, at another server, after a restart, out of time', [
    'saml-flow',
    'saml-checks',
    'faults/clock',
  ]),
  S17: row('InResponseTo missing, unknown, of another browser or tenant', ['saml-checks']),
  S18: row('Audience wrong, absent, empty, a second restriction that fails', ['saml-checks']),
  S19: row('Destination or Recipient wrong, absent, similar', ['saml-checks']),
  S20: row('Issuer wrong in the assertion or the Response', ['saml-checks']),
  S22: row('Holder-of-key, no Subject or Conditions, a Status other than Success', ['saml-checks']),
  S23: row('IdP-initiated where it is off, or where nobody new is let in', ['saml-flow', 'saml-people']),
  S24: row('A connection disabled or its certificate changed during a sign-in', ['saml-flow']),
  S25: row('RelayState and return addresses of other sites', ['saml-flow']),
  S26: row('An attacker’s own answer posted in a victim’s browser', [
    'saml-flow',
    'oidc',
    'social',
    'sessions',
  ]),
  S27: row('Encrypted assertions: weak ciphers, nothing signed inside, oracles', ['saml-input']),
  S29: row('Large bodies, packed bodies, floods of elements and of answers', [
    'saml-input',
    'saml-logout',
    'saml-load',
  ]),
  S30: row('Messages to sign out, fields that are lists or empty', ['saml-input', 'saml-logout']),

  O01: row('state missing, altered, twice, reused, of another session', ['oidc', 'social']),
  O02: row('nonce missing, wrong, reused', ['oidc-token', 'social']),
  O03: row('PKCE left out, downgraded, of another tab', ['oidc', 'social']),
  O04: row('Mix-up: iss wrong or absent, a code at another callback', ['oidc', 'social']),
  O05: row('alg none, HS256 with a known key, crit, unknown kid', ['oidc-token', 'social']),
  O07: row('Audience, authorized party, issuer and subject wrong', ['oidc-token', 'social']),
  O08: row('An ID token of another client, UserInfo about somebody else', ['oidc']),
  O09: row('Tokens expired, from the future, a year old', ['oidc-token', 'social']),
  O10: row('Keys that rotate, a thousand unknown ones, none to be had', ['oidc-keys']),
  O11: row('email_verified in every wrong form', ['oidc-token', 'social-email']),
  O12: row('nOAuth: a foreign Entra tenant with a victim’s address', ['oidc-entra', 'social-email']),
  O14: row('A valid tenant that is not on the connection’s list', ['oidc-entra', 'social-email']),
  O15: row('More groups than the IdP sends', ['oidc-token', 'oidc-entra', 'saml-claims']),
  O16: row('A new subject with the address of an old one', ['oidc-people', 'social-email']),
  O17: row('A known subject with a new address', ['oidc-people', 'social-email']),
  O19: row('GitHub: an unverified primary address, many addresses', ['social-email']),
  O21: row('Metadata that redirects, is inside, or names another issuer', ['outbound']),
  O22: row('Scripts in error answers, forged Host headers', ['oidc', 'social']),

  L01: row('An account made first with a victim’s unproved address', ['http/prove']),
  L02: row('A session of the attacker from before the account was claimed', ['http/prove']),
  L03: row('Another login of the attacker linked beforehand', ['http/prove']),
  L04: row(
    'A pending change of address, used after the account was claimed',
    ['http/prove'],
    'No change of address is ever pending: an administrator’s is complete at once. What can wait is a proof, and that is tested.',
  ),
  L05: row('A provider that verifies nothing asserts somebody’s address', ['http/prove', 'social-email']),
  L06: row('One tenant’s IdP asserts a user of another', ['oidc-tenants', 'saml-claims']),
  L08: row('One tenant’s IdP makes a new user in another’s domain', ['oidc-tenants', 'saml-claims']),
  L10: row('Linking without a session, by forged fields', ['http/prove']),
  L11: row('An address that anybody can edit decides whom to match', ['social-email']),
  L12: row('Invitations: of another address, altered, reused', ['invitations']),
  L13: row('Domains that look like the right one', ['oidc-tenants', 'saml-claims']),
  L15: row('Case variants, letters that fold alike', ['email-addresses']),
  L16: row('Domains that a URL parser would launder', ['email-addresses']),
  L17: row('Homoglyphs, U-labels and A-labels', ['email-addresses']),
  L18: row('Tags and dots', ['email-addresses']),
  L20: row('NUL, line breaks, too long, half characters, lists', ['email-addresses']),
  L21: row('Public suffixes and public mail providers as domains', ['domains']),
  L22: row(
    'Two organizations claim one domain, also at once',
    ['domains'],
    'A domain is owned on the operator’s word alone, so there is no claim that waits for its proof.',
  ),
  L23: row(
    'A domain that is lost or sold',
    ['domains'],
    'The kit makes no DNS proofs, so it does not see one vanish. Once the operator takes the domain back, what is promised is tested.',
  ),
  L25: row('Ids of connections, providers and subjects that meet', [
    'social-email',
    'oidc-people',
    'provision/moved',
  ]),

  E01: row('Guessing codes: at one, at an address, from many sessions', ['email']),
  E03: row('A code twice, at once, after a newer one', ['email']),
  E04: row('A code for another address or another purpose', ['email', 'http/prove']),
  E06: row('Scanners that follow links', ['email']),
  E07: row('A link opened in another browser', ['email']),
  E08: row('Answers and times that tell who has an account', ['email']),
  E09: row('Floods of mails, forged clients, shutting a victim out', ['email']),
  E10: row('Forged Host headers, codes in logs and stores', ['email']),

  P01: row('An IdP asserts owner, admin, roles in other spellings', ['oidc-tenants', 'saml-claims']),
  P02: row('Attributes such as isAdmin, orgId, status', ['oidc-tenants', 'saml-claims', 'social']),
  P04: row('Ten thousand groups, values of a megabyte', ['oidc-claims']),
  P05: row('Names with markup, formulas, control characters', ['oidc-people']),
  P06: row('A group removed at the IdP', ['oidc-people', 'saml-claims']),
  P08: row('A suspended person signs in', ['oidc-people', 'saml-people']),
  P09: row('A removed person signs in', ['oidc-people', 'saml-people']),
  P10: row('Organization, connection or provisioning switched off meanwhile', [
    'switched-off',
    'http/admin',
    'social',
  ]),
  P11: row('Fifty newcomers for five seats, at once on two servers', ['faults/seats']),
  P12: row('Fifty callbacks of one new person, at once on two servers', ['faults/race', 'chaos/chaos']),
  P14: row('The holder of the lock is paused until another has finished', ['faults/paused', 'chaos/chaos']),
  P15: row('A holder that wakes up frees the lock of another', ['faults/paused']),
  P16: row('Redis refused, hung, slow, restarted, emptied, failed over without a key', [
    'faults/redis',
    'faults/redis-failover',
    'chaos/chaos',
  ]),
  P17: row('The database refused, hung, killed, cut off, its connections used up', [
    'faults/database',
    'faults/sqlite',
    'chaos/chaos',
  ]),
  P18: row('Serialization failures, deadlocks, taken keys and ended connections on every path', [
    'faults/injected',
    'faults/injected-writes',
  ]),
  P20: row('Killed between any two steps', ['faults/crash', 'chaos/chaos']),
  P21: row('The last step of a sign-in taken twice', ['faults/again', 'chaos/chaos']),
  P22: row('The audit trail cannot be written', ['faults/injected', 'faults/sqlite']),
  P23: row('Clocks that are off, or are set back meanwhile', [
    'faults/clock',
    'faults/clock-back',
    'chaos/chaos',
  ]),
  P24: row('What the app hands in throws, hangs or answers late', [
    'faults/hooks',
    'faults/webhook',
    'faults/webhook-crash',
  ]),
  P26: row(
    'The administrator of one organization reaches for another’s',
    ['http/admin', 'invitations'],
    'Connections and domains are the operator’s: no command for them is meant for a tenant’s administrators.',
  ),

  N01: row('A session id fixed before the sign-in', ['oidc', 'saml-flow', 'http/session']),
  N03: row(
    'Cookie flags, and an answer that comes without cookies',
    ['sessions'],
    'The session cookie is the app’s; the kit says where its flags undo the protection.',
  ),
  N04: row('Sessions after sign-out, suspension, unlinking', ['http/session', 'http/admin']),
  N05: row('Linking and confirming by GET, from another site, with an old ticket', [
    'http/prove',
    'sessions',
  ]),
  N07: row('A slow request saves a session after it has ended', ['sessions']),
}

/** The ids of rows that a name begins with: `O01 S26 …`, `L17, L18: …`. */
export const idsOf = (name: string): string[] =>
  (/^(?:[A-Z]\d\d[\s,:]+)*[A-Z]\d\d\b/.exec(name)?.[0] ?? '').split(/[\s,:]+/).filter(Boolean)
