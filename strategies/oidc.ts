import {
  assertIdentity,
  JitError,
  type OidcConnection,
  readClaims,
  type Strategy,
  single,
} from '../lib/index.js'
import { emailVerified, groupsOf } from './oidc-claims.js'
import { askIssuer, verifyAnswer } from './oidc-flow.js'
import { issuerCache } from './oidc-issuer.js'
import { checkParty } from './oidc-party.js'

/**
 * OpenID Connect by the authorization code flow, for any issuer with discovery. State, nonce and PKCE (S256)
 * are always sent and checked, and the ID token's signature is verified with the issuer's published keys.
 * Discovery documents are kept for an hour per connection version; a failed one is asked for again.
 */
export function oidcStrategy(): Strategy<OidcConnection> {
  const issuers = issuerCache()
  return {
    protocol: 'oidc',
    check: (connection, refused) => checkParty(partyOf(connection), refused),
    attemptKey: ({ method, query }) => (method === 'GET' ? single(query, 'state') : undefined),
    begin: (connection, attempt, services) => askIssuer(issuers, partyOf(connection), attempt, services),
    complete: async (connection, { method, query }, attempt, services) => {
      const party = partyOf(connection)
      if (method !== 'GET') throw new JitError('answer_malformed', `${party.where}: the answer came by POST`)
      const { idToken, claims, subject } = await verifyAnswer(issuers, party, query, attempt, services)
      const read = readClaims(claims, connection.attributes)
      return assertIdentity({
        source: `connection:${connection.id}`,
        sourceVersion: connection.version,
        issuer: idToken.iss as string,
        subject,
        email: read.email,
        emailVerified: emailVerified(party, claims, idToken),
        profile: read.profile,
        groups: groupsOf(party, claims, read.groups),
        omitted: read.omitted,
        claims,
        at: services.now(),
      })
    },
  }
}

const partyOf = (connection: OidcConnection) => ({ ...connection, where: `connection "${connection.id}"` })
