import * as client from 'openid-client'
import { JitError, type Services } from '../lib/index.js'
import { inCauses, isCrowded, jsonObject, mostParts, printable, reasonOf, unusable } from './oidc-http.js'
import type { RelyingParty } from './oidc-party.js'

export const issuerDefaults = {
  /** How long a discovery document is used before it is asked for again, in milliseconds. */
  discoveryTtl: 60 * 60_000,
  /** Issuers remembered; the one longest unused gives way. */
  issuers: 500,
  /** Longest discovery document and key set in characters: both are read anew in every sign-in that begins. */
  published: 64 * 1024,
} as const

/** What RFC 8725 §3.1 leaves where a key is published: `none` and shared secrets (HS*) are not among them. */
const asymmetric =
  /^(?:RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519|ML-DSA-44|ML-DSA-65|ML-DSA-87)$/

interface Known {
  readonly version: string
  readonly at: number
  readonly document: Promise<string>
  /** The issuer's keys as last seen; openid-client decides when they are too old. */
  jwks: client.ExportedJWKSCache | undefined
}

/**
 * The issuers of a strategy: discovery documents and keys by connection or provider, kept while its
 * version lasts. Every sign-in gets a client of its own made from them, with its own clock and its own deadline.
 */
export function issuerCache() {
  const known = new Map<string, Known>()

  function remembered(party: RelyingParty, services: Services): Known {
    const found = known.get(party.id)
    known.delete(party.id)
    const age = found ? services.now() - found.at : -1
    const usable = found?.version === party.version && age >= 0 && age < issuerDefaults.discoveryTtl
    const fresh =
      found && usable
        ? found
        : {
            version: party.version,
            at: services.now(),
            document: discover(party, services),
            jwks: undefined,
          }
    known.set(party.id, fresh)
    if (known.size > issuerDefaults.issuers) known.delete(known.keys().next().value!)
    return fresh
  }

  return {
    /**
     * Runs `work` with a client for the party's issuer.
     * @throws JitError `idp_unreachable` where the issuer cannot be asked or its document is not usable
     */
    use: async <T>(
      party: RelyingParty,
      services: Services,
      work: (configuration: client.Configuration) => Promise<T>,
    ): Promise<T> => {
      const issuer = remembered(party, services)
      let document: string
      try {
        document = await issuer.document
      } catch (error) {
        // Several sign-ins may wait for one request; each gets an error of its own to be logged and counted.
        if (known.get(party.id) === issuer) known.delete(party.id)
        throw error instanceof JitError ? new JitError(error.code, error.message, { cause: error }) : error
      }
      const configuration = await configure(party, services, document)
      if (issuer.jwks) client.setJwksCache(configuration, issuer.jwks)
      try {
        return await work(configuration)
      } finally {
        issuer.jwks = client.getJwksCache(configuration) ?? issuer.jwks
      }
    },
  }
}

/** Fetches the discovery document and checks what a sign-in will need of it. */
async function discover(party: RelyingParty, services: Services): Promise<string> {
  const { where } = party
  const fail = (what: string): never => {
    throw new JitError('idp_unreachable', `${where}: ${what}`)
  }
  // Sign-ins that wait for it share one request, so the deadline of one is not its own.
  const server = await discovered(party, strictFetch(party, services)).catch((error: unknown) => {
    const own = inCauses(error, JitError)
    if (own) throw own
    const mismatch = inCauses(error, client.ClientError)
    const found = (mismatch?.cause as { body?: { issuer?: unknown } } | undefined)?.body?.issuer
    if (mismatch?.code !== 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED' || typeof found !== 'string') {
      return fail(
        `the discovery document of ${party.issuer} is not usable: ${reasonOf(error)}; check "issuer"`,
      )
    }
    const slash = found.replace(/\/$/, '') === party.issuer.replace(/\/$/, '')
    return fail(
      `issuer: the configuration says "${party.issuer}", but the discovery document found there says "${printable(found)}"` +
        (slash
          ? '; only the final slash differs: write it as the document does'
          : '; write the issuer as the document does, or correct the address'),
    )
  })
  const metadata = server.serverMetadata()
  for (const endpoint of ['authorization_endpoint', 'token_endpoint', 'jwks_uri'] as const) {
    const value = metadata[endpoint]
    if (typeof value !== 'string' || !URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol))
      fail(`the discovery document of ${party.issuer} has no usable "${endpoint}"`)
    if (new URL(value!).protocol === 'http:' && !party.allowInsecureRequests)
      fail(`"${endpoint}" of ${party.issuer} is plain http, and allowInsecureRequests is off`)
  }
  const usable = (
    name: 'id_token_signing_alg_values_supported' | 'userinfo_signing_alg_values_supported',
  ) => {
    const listed: unknown = metadata[name]
    return Array.isArray(listed) ? { [name]: listed.filter((alg) => asymmetric.test(String(alg))) } : {}
  }
  const idTokenAlgorithms = usable('id_token_signing_alg_values_supported')
  if (idTokenAlgorithms.id_token_signing_alg_values_supported?.length === 0)
    fail(`${party.issuer} offers no asymmetric signature for ID tokens; set its client to RS256 or ES256`)
  return JSON.stringify({
    ...metadata,
    ...idTokenAlgorithms,
    ...usable('userinfo_signing_alg_values_supported'),
  })
}

/** A client of its own for one sign-in, from a document already fetched. */
async function configure(
  party: RelyingParty,
  services: Services,
  document: string,
): Promise<client.Configuration> {
  const configuration = await discovered(
    party,
    async () => new Response(document, { headers: { 'content-type': 'application/json' } }),
    services,
  )
  // Known by what it answers: Microsoft's servers read the names of such issuers in more than one spelling.
  if (!party.tenants && configuration.serverMetadata().issuer.includes('{tenantid}')) {
    const what = 'tenants: its issuer is a multi-tenant one, which admits every tenant; name those you mean'
    throw new JitError('config_invalid', `${party.where}: ${what}`)
  }
  configuration[client.customFetch] = strictFetch(party, services, services.signal)
  client.enableNonRepudiationChecks(configuration)
  return configuration
}

/** The library's discovery; it also knows how Entra's multi-tenant issuers name themselves. */
function discovered(party: RelyingParty, fetch: client.CustomFetch, clock?: Pick<Services, 'now'>) {
  return client.discovery(
    new URL(party.issuer),
    party.clientId,
    {
      [client.clockSkew]: clock ? Math.round((clock.now() - Date.now()) / 1000) : 0,
      [client.clockTolerance]: party.clockSkewSeconds,
    },
    clientAuthentication(party),
    {
      [client.customFetch]: fetch,
      execute: party.allowInsecureRequests ? [client.allowInsecureRequests] : [],
    },
  )
}

function clientAuthentication({ clientAuthentication, clientSecret }: RelyingParty): client.ClientAuth {
  if (clientAuthentication === 'none') return client.None()
  const secret = clientSecret as string
  return clientAuthentication === 'client_secret_basic'
    ? client.ClientSecretBasic(secret)
    : client.ClientSecretPost(secret)
}

/** `fetch` for the library: what no sign-in can go on with is refused before it is read. */
function strictFetch(
  { where }: RelyingParty,
  services: Services,
  deadline?: AbortSignal,
): client.CustomFetch {
  return async (url, init) => {
    const signals = [init.signal, deadline].filter((signal) => signal !== undefined)
    const response = await services.fetch(url, { ...(init as RequestInit), signal: AbortSignal.any(signals) })
    const { status, headers } = response
    const body = await response.text()
    // What is asked for in nobody's name is published. All else is read once, and may list many groups.
    const published = init.method === 'GET' && !Object.hasOwn(init.headers, 'authorization')
    if (published && body.length > issuerDefaults.published)
      throw unusable(where, url, `is longer than ${issuerDefaults.published} characters`)
    const signed = /^application\/jwt\b/i.test(headers.get('content-type') ?? '')
    const crowded = () => unusable(where, url, `has more than ${mostParts} parts`)
    if (isCrowded(body)) throw crowded()
    const answer = jsonObject(body)
    if (partsOf(signed ? body : answer?.id_token).some(isCrowded)) throw crowded()
    // A refusal by the token endpoint (RFC 6749 §5.2) passes, to be explained.
    const refused =
      init.method === 'POST' && (status === 401 || (status === 400 && typeof answer?.error === 'string'))
    if (status !== 200 && !refused) throw unusable(where, url, `has HTTP status ${status}`)
    if (status === 200 && !signed && !answer) throw unusable(where, url, 'is not a JSON object')
    return new Response(body, { status, headers })
  }
}

/** Header and claims of a JWT (RFC 7515 §7.1), as they will be read; nothing is verified. */
const partsOf = (token: unknown) =>
  typeof token === 'string'
    ? token.split('.', 2).map((part) => Buffer.from(part, 'base64url').toString())
    : []
