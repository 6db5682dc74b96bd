import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'

export const tenants = {
  acme: '11111111-aaaa-4aaa-8aaa-111111111111',
  evil: '66666666-eeee-4eee-8eee-666666666666',
} as const

export const objects = {
  alice: 'aaaaaaaa-0000-4000-8000-000000000001',
  mallory: 'eeeeeeee-0000-4000-8000-000000000002',
} as const

/** Of every platform of a file: making one takes longer than most tests. */
const { privateKey, publicKey } = await generateKeyPair('RS256')

/**
 * Microsoft's identity platform as far as a sign-in sees it, answering in this process: the multi-tenant
 * discovery document has the template `{tenantid}` for its issuer, and a tenant's tokens have their own.
 */
export async function entra(clientId: string) {
  const jwk = { ...(await exportJWK(publicKey)), kid: 'entra', use: 'sig' }
  const host = 'https://login.microsoftonline.com'
  const issued = new Map<string, { claims: JWTPayload; issuer: string }>()
  const seen: string[] = []

  const answer = async (url: URL, body: URLSearchParams | null): Promise<unknown> => {
    const [, authority, ...rest] = url.pathname.split('/')
    switch (rest.join('/')) {
      case 'v2.0/.well-known/openid-configuration':
        return {
          // Its servers read a path in letters of either case, and unescaped.
          issuer: `${host}/${/^(?:common|organizations)$/i.test(decodeURIComponent(authority!)) ? '{tenantid}' : authority}/v2.0`,
          authorization_endpoint: `${host}/${authority}/oauth2/v2.0/authorize`,
          token_endpoint: `${host}/${authority}/oauth2/v2.0/token`,
          jwks_uri: `${host}/${authority}/discovery/v2.0/keys`,
          id_token_signing_alg_values_supported: ['RS256'],
          response_types_supported: ['code'],
          subject_types_supported: ['pairwise'],
        }
      case 'discovery/v2.0/keys':
        return { keys: [jwk] }
      case 'oauth2/v2.0/token': {
        const { claims, issuer } = issued.get(body!.get('code')!)!
        const idToken = await new SignJWT(claims)
          .setProtectedHeader({ alg: 'RS256', kid: 'entra' })
          .setIssuer(issuer)
          .setAudience(clientId)
          .setIssuedAt()
          .setExpirationTime('5m')
          .sign(privateKey)
        return { access_token: 'opaque', token_type: 'Bearer', expires_in: 300, id_token: idToken }
      }
      default:
        throw new Error(`nothing at ${url.pathname}`)
    }
  }

  return {
    host,
    /** Addresses asked for so far. */
    seen,
    fetch: (async (input, init) => {
      const url = new URL(String(input))
      seen.push(url.href)
      if (url.origin !== host) throw new Error(`a request to ${url.origin} leaves this test`)
      const body = init?.body ? new URLSearchParams(String(init.body)) : null
      return Response.json(await answer(url, body))
    }) as typeof fetch,
    /** What the person brings back from an authorization URL, signed in at a tenant with these claims. */
    answer: (authorize: string, tenant: string, claims: JWTPayload, issuer = `${host}/${tenant}/v2.0`) => {
      const { searchParams } = new URL(authorize)
      const code = `code-${issued.size}`
      issued.set(code, { claims: { tid: tenant, nonce: searchParams.get('nonce'), ...claims }, issuer })
      return `${searchParams.get('redirect_uri')}?code=${code}&state=${searchParams.get('state')}`
    },
  }
}
