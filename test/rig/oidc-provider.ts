import type { IncomingMessage, ServerResponse } from 'node:http'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { createOidcIdp, type OidcIdpOptions, type Person } from '../../examples/identity-providers/oidc.js'
import { listen } from './oidc-http.js'

type Json = Record<string, unknown>

/** What a provider does wrongly; set by a test, and by default nothing. */
export interface Faults {
  /** Changes the discovery document. */
  discovery?: (document: Json) => Json
  /** Changes the published keys. */
  jwks?: (jwks: { keys: Json[] }) => Json
  /** Makes the ID token of the honest claims; `sign` of the provider makes an honest one. */
  idToken?: (claims: JWTPayload) => string | Promise<string>
  /** Changes the rest of the token response. */
  token?: (response: Json) => Json
  userinfo?: (claims: Json) => Json
  /** Sees every request first; true where it has answered, or means to let it hang. */
  intercept?: (req: IncomingMessage, res: ServerResponse) => boolean
}

/** The example's provider on a port of its own, with a key of the rig's beside its own and faults to set. */
export async function startProvider(options: Omit<OidcIdpOptions, 'issuer'> & { path?: string }) {
  const faults: Faults = {}
  const requests: string[] = []
  let handler: (req: IncomingMessage, res: ServerResponse) => void = () => {}
  const server = await listen('127.0.0.1', (req, res) => handler(req, res))
  const issuer = server.origin + (options.path ?? '')
  const idp = await createOidcIdp({ ...options, issuer })
  const { privateKey, publicKey } = await generateKeyPair('RS256', { extractable: true })
  const published = { ...(await exportJWK(publicKey)), kid: 'rig', use: 'sig' }

  handler = (req, res) => {
    const at = req.url!.split('?')[0]!.slice(new URL(issuer).pathname.replace(/\/$/, '').length)
    requests.push(at)
    if (faults.intercept?.(req, res)) return
    rewrite(res, async (body) => {
      switch (at) {
        case '/.well-known/openid-configuration':
          return faults.discovery?.(body) ?? body
        case '/jwks': {
          const jwks = { keys: [...(body.keys as Json[]), published] }
          return faults.jwks?.(jwks) ?? jwks
        }
        case '/token': {
          if (faults.idToken && typeof body.id_token === 'string') {
            const claims = JSON.parse(Buffer.from(body.id_token.split('.')[1]!, 'base64url').toString())
            body.id_token = await faults.idToken(claims)
          }
          return faults.token?.(body) ?? body
        }
        case '/userinfo':
          return faults.userinfo?.(body) ?? body
        default:
          return body
      }
    })
    idp.handler(req, res)
  }

  return {
    issuer,
    faults,
    /** Paths asked for so far. */
    requests,
    /** The rig's own key, as published. */
    keys: { privateKey, publicKey, published },
    /** An ID token signed with a key this provider publishes. */
    sign: (claims: JWTPayload, header: Json = {}) =>
      new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: 'rig', ...header }).sign(privateKey),
    honest: () => {
      requests.length = 0
      for (const fault of Object.keys(faults)) delete faults[fault as keyof Faults]
    },
    close: server.close,
  }
}

export type Provider = Awaited<ReturnType<typeof startProvider>>

/** Changes a JSON answer on its way out; pages and redirects go through as they are. */
function rewrite(res: ServerResponse, change: (body: Json) => Promise<Json>): void {
  const end = res.end.bind(res)
  const writeHead = res.writeHead.bind(res)
  let head: [number, Record<string, string>] = [200, {}]
  res.writeHead = ((status: number, headers: Record<string, string> = {}) => {
    head = [status, headers]
    return res
  }) as typeof res.writeHead
  res.end = ((body?: string) => {
    const json = head[1]['content-type'] === 'application/json'
    const changed = json
      ? change(JSON.parse(body!)).then((value) => JSON.stringify(value))
      : Promise.resolve(body)
    changed.then((text) => {
      writeHead(...head)
      end(text)
    })
    return res
  }) as typeof res.end
}

export const person = (id: string, email: string, more: Partial<Person> = {}): Person => ({
  id,
  email,
  name: `Person ${id}`,
  groups: [],
  ...more,
})
