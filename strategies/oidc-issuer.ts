import * as client from 'openid-client'
import { JitError, type OidcConnection, type Services } from '../lib/index.js'

/** Times in milliseconds, sizes in bytes. */
export const issuerDefaults = {
  /** How long a discovery document is used before it is asked for again. */
  discoveryTtl: 60 * 60_000,
  /** How long discovery may take; sign-ins that wait for it share one request. */
  discoveryTimeout: 3_000,
  /** How long any other request to the issuer may take. */
  requestTimeout: 4_000,
  /** Largest answer of an issuer. */
  answer: 1024 * 1024,
  /** Issuers remembered; the one longest unused gives way. */
  issuers: 500,
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
 * The issuers of a strategy: discovery documents and keys by connection, kept while the connection's version
 * lasts. Every sign-in gets a client of its own made from them, with its own clock and its own deadline.
 */
export function issuerCache() {
  const known = new Map<string, Known>()

  function remembered(connection: OidcConnection, services: Services): Known {
    const found = known.get(connection.id)
    known.delete(connection.id)
    const age = found ? services.now() - found.at : -1
    const usable = found?.version === connection.version && age >= 0 && age < issuerDefaults.discoveryTtl
    const fresh =
      found && usable
        ? found
        : {
            version: connection.version,
            at: services.now(),
            document: discover(connection, services),
            jwks: undefined,
          }
    known.set(connection.id, fresh)
    if (known.size > issuerDefaults.issuers) known.delete(known.keys().next().value!)
    return fresh
  }

  return {
    /**
     * Runs `work` with a client for the connection's issuer.
     * @throws JitError `idp_unreachable` where the issuer cannot be asked or its document is not usable
     */
    use: async <T>(
      connection: OidcConnection,
      services: Services,
      work: (configuration: client.Configuration) => Promise<T>,
    ): Promise<T> => {
      const issuer = remembered(connection, services)
      let document: string
      try {
        document = await issuer.document
      } catch (error) {
        // Several sign-ins may wait for one request; each gets an error of its own to be logged and counted.
        if (known.get(connection.id) === issuer) known.delete(connection.id)
        throw error instanceof JitError ? new JitError(error.code, error.message, { cause: error }) : error
      }
      const configuration = await configure(connection, services, document)
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
async function discover(connection: OidcConnection, services: Services): Promise<string> {
  const where = `connection "${connection.id}"`
  const unusable = (what: string): never => {
    throw new JitError('idp_unreachable', `${where}: ${what}`)
  }
  const signal = AbortSignal.timeout(issuerDefaults.discoveryTimeout)
  const server = await discovered(connection, boundedFetch(connection, services.fetch, signal)).catch(
    (error: unknown) => {
      const own = inCauses(error, JitError)
      if (own) throw own
      const mismatch = inCauses(error, client.ClientError)
      const found = (mismatch?.cause as { body?: { issuer?: unknown } } | undefined)?.body?.issuer
      if (mismatch?.code !== 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED' || typeof found !== 'string') {
        return unusable(
          `the discovery document of ${connection.issuer} is not usable: ${reasonOf(error)}; check "issuer"`,
        )
      }
      const slash = found.replace(/\/$/, '') === connection.issuer.replace(/\/$/, '')
      return unusable(
        `issuer: the configuration says "${connection.issuer}", but the discovery document found there says "${printable(found)}"` +
          (slash
            ? '; only the final slash differs: write it as the document does'
            : '; write the issuer as the document does, or correct the address'),
      )
    },
  )
  const metadata = server.serverMetadata()
  for (const endpoint of ['authorization_endpoint', 'token_endpoint', 'jwks_uri'] as const) {
    const value = metadata[endpoint]
    if (typeof value !== 'string' || !URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol))
      unusable(`the discovery document of ${connection.issuer} has no usable "${endpoint}"`)
    if (new URL(value!).protocol === 'http:' && !connection.allowInsecureRequests)
      unusable(`"${endpoint}" of ${connection.issuer} is plain http, and allowInsecureRequests is off`)
  }
  const usable = (
    name: 'id_token_signing_alg_values_supported' | 'userinfo_signing_alg_values_supported',
  ) => {
    const listed: unknown = metadata[name]
    return Array.isArray(listed) ? { [name]: listed.filter((alg) => asymmetric.test(String(alg))) } : {}
  }
  const idTokenAlgorithms = usable('id_token_signing_alg_values_supported')
  if (idTokenAlgorithms.id_token_signing_alg_values_supported?.length === 0)
    unusable(
      `${connection.issuer} offers no asymmetric signature for ID tokens; set its client to RS256 or ES256`,
    )
  return JSON.stringify({
    ...metadata,
    ...idTokenAlgorithms,
    ...usable('userinfo_signing_alg_values_supported'),
  })
}

/** A client of its own for one sign-in, from a document already fetched. */
async function configure(
  connection: OidcConnection,
  services: Services,
  document: string,
): Promise<client.Configuration> {
  const configuration = await discovered(
    connection,
    async () => new Response(document, { headers: { 'content-type': 'application/json' } }),
    services,
  )
  configuration[client.customFetch] = boundedFetch(connection, services.fetch, services.signal)
  configuration.timeout = issuerDefaults.requestTimeout / 1000
  client.enableNonRepudiationChecks(configuration)
  return configuration
}

/** The library's discovery; it also knows how Entra's multi-tenant issuers name themselves. */
function discovered(connection: OidcConnection, fetch: client.CustomFetch, clock?: Pick<Services, 'now'>) {
  return client.discovery(
    new URL(connection.issuer),
    connection.clientId,
    {
      [client.clockSkew]: clock ? Math.round((clock.now() - Date.now()) / 1000) : 0,
      [client.clockTolerance]: connection.clockSkewSeconds,
    },
    clientAuthentication(connection),
    {
      [client.customFetch]: fetch,
      timeout: issuerDefaults.discoveryTimeout / 1000,
      execute: connection.allowInsecureRequests ? [client.allowInsecureRequests] : [],
    },
  )
}

function clientAuthentication({ clientAuthentication, clientSecret }: OidcConnection): client.ClientAuth {
  if (clientAuthentication === 'none') return client.None()
  const secret = clientSecret as string
  return clientAuthentication === 'client_secret_basic'
    ? client.ClientSecretBasic(secret)
    : client.ClientSecretPost(secret)
}

/**
 * `fetch` with an end: no redirects (an issuer's endpoints are where its document says), a deadline, a limit
 * of size, and failures that name the address.
 */
function boundedFetch(
  connection: OidcConnection,
  fetch: Services['fetch'],
  deadline: AbortSignal,
): client.CustomFetch {
  return async (url, init) => {
    const address = new URL(url)
    const unreachable = (what: string, cause?: unknown) =>
      new JitError(
        'idp_unreachable',
        `connection "${connection.id}": ${init.method} ${address.origin}${address.pathname}: ${what}`,
        { cause },
      )
    const signal = AbortSignal.any(init.signal ? [init.signal, deadline] : [deadline])
    let response: Response
    let body: string | null
    try {
      response = await fetch(url, { ...init, redirect: 'manual', signal } as RequestInit)
      body = await limitedText(response)
    } catch (error) {
      if (signal.aborted) throw unreachable('no answer in time', error)
      throw unreachable(causeOf(error), error)
    }
    const { status, headers } = response
    if (body === null) throw unreachable(`the answer is larger than ${issuerDefaults.answer} bytes`)
    if (status >= 300 && status < 400) throw unreachable(`HTTP ${status}; redirects are not followed`)
    const answer = parsed(body)
    // A refusal by the token endpoint (RFC 6749 §5.2) passes, to be explained.
    const refused =
      init.method === 'POST' && (status === 401 || (status === 400 && typeof answer?.error === 'string'))
    if (status !== 200 && !refused) throw unreachable(`HTTP ${status}`)
    const signed = /^application\/jwt\b/i.test(headers.get('content-type') ?? '')
    if (status === 200 && !signed && !answer) throw unreachable('the answer is not a JSON object')
    return new Response(body, { status, headers })
  }
}

async function limitedText(response: Response): Promise<string | null> {
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += (chunk as Uint8Array).byteLength
    if (size > issuerDefaults.answer) return null
    text += decoder.decode(chunk as Uint8Array, { stream: true })
  }
  return text + decoder.decode()
}

/** A text as a JSON object, or null. */
function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && !Array.isArray(value)
      ? (value as Record<string, unknown> | null)
      : null
  } catch {
    return null
  }
}

/** The first error of a kind among an error and its causes. */
export function inCauses<T extends Error>(
  error: unknown,
  kind: abstract new (...args: never[]) => T,
): T | null {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (at instanceof kind) return at
  }
  return null
}

/** The words of an error and of its causes; never their data, which may hold tokens. */
export function reasonOf(error: unknown): string {
  const words: string[] = []
  for (let at: unknown = error; at instanceof Error && words.length < 4; at = at.cause) words.push(at.message)
  return words.length > 0 ? words.join(': ') : 'unknown'
}

/** Why a request failed: the system's code where there is one (ECONNREFUSED, ENOTFOUND), else the words. */
function causeOf(error: unknown): string {
  const code = (error as { cause?: { code?: unknown } } | null)?.cause?.code
  return typeof code === 'string' ? code : reasonOf(error)
}

/** Text from outside for a log line: plain printable characters, 200 of them at most. */
export const printable = (text: string) => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
