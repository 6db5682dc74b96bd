import type { RequestListener } from 'node:http'
import type { DirectoryInput } from 'passport-jit'
import { createOidcIdp } from '../identity-providers/oidc.js'
import { createSamlIdp } from '../identity-providers/saml.js'
import { createOAuth2Provider } from '../identity-providers/social.js'
import { type Listening, listen } from './listen.js'
import { globexClient, organizations, socialClient } from './organizations.js'
import { knownTo, members, socialName } from './people.js'

/**
 * The identity providers of the embedded organizations and a social one, on one server of another host name than the app, so
 * that a browser keeps their cookies apart as it would in real life.
 */
export async function startIdentityProviders(
  appUrl: string,
  port: number,
): Promise<{ directory: DirectoryInput; url: string; close: Listening['close'] }> {
  const server = await listen(port, '127.0.0.1')
  const url = `http://127.0.0.1:${server.port}`
  const superfantasy = await createSamlIdp({ url: `${url}/superfantasy`, people: knownTo.superfantasy })
  const initech = await createSamlIdp({ url: `${url}/initech`, people: knownTo.initech })
  const globex = await createOidcIdp({
    issuer: `${url}/globex`,
    people: knownTo.globex,
    clients: [{ ...globexClient, redirectUris: [`${appUrl}/auth/sso/globex-oidc/callback`] }],
  })
  const social = createOAuth2Provider({
    url: `${url}/pixelhub`,
    name: socialName,
    people: Object.values(members),
    clients: [{ ...socialClient, redirectUris: [`${appUrl}/auth/social/pixelhub/callback`] }],
  })
  const { authorizationEndpoint, tokenEndpoint, profileEndpoint, emailsEndpoint } = social
  const handlers: Record<string, RequestListener> = {
    superfantasy: superfantasy.handler,
    initech: initech.handler,
    globex: globex.handler,
    pixelhub: social.handler,
  }
  server.serve((req, res) => {
    const name = req.url?.split(/[/?]/)[1] ?? ''
    const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined
    if (handler) handler(req, res)
    else if (name === 'favicon.ico') res.writeHead(204).end()
    else res.writeHead(404, { 'content-type': 'text/plain' }).end('There is no identity provider here.\n')
  })
  return {
    url,
    directory: organizations({
      superfantasyMetadata: superfantasy.metadata,
      initechMetadata: initech.metadata,
      globexIssuer: globex.issuer,
      social: { authorizationEndpoint, tokenEndpoint, profileEndpoint, emailsEndpoint },
    }),
    close: server.close,
  }
}
