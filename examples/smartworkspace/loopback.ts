import type { RequestListener } from 'node:http'
import type { DirectoryInput } from 'passport-jit'
import { createOidcIdp } from '../identity-providers/oidc.js'
import { createPeopleEditor, type EditablePerson } from '../identity-providers/people.js'
import { createSamlIdp } from '../identity-providers/saml.js'
import { createOAuth2Provider } from '../identity-providers/social.js'
import { type Listening, listen } from './listen.js'
import { globexClient, organizations, socialClient } from './organizations.js'
import { knownTo, members, socialName } from './people.js'
import { createReceiver } from './receiver.js'

/** What surrounds the app in real life, on one server. */
export interface Surroundings {
  readonly directory: DirectoryInput
  readonly url: string
  /** Where decisions may be posted to, and what they are signed with. */
  readonly webhook: { readonly url: string; readonly secret: string }
  readonly close: Listening['close']
}

/**
 * The identity providers of the embedded organizations, a social one, and a receiver of webhooks, on a server of another
 * host name than the app, so that a browser keeps their cookies apart as it would in real life.
 */
export async function startSurroundings(appUrl: string, port: number): Promise<Surroundings> {
  const server = await listen(port, '127.0.0.1')
  const url = `http://127.0.0.1:${server.port}`
  // Copies, because they may be edited while the demo runs.
  const staff = (id: keyof typeof knownTo, name: string) => ({
    ...{ id, name },
    people: knownTo[id].map((person): EditablePerson => ({ ...person })),
  })
  const atSuperfantasy = staff('superfantasy', 'SuperFantasy')
  const atInitech = staff('initech', 'Initech')
  const atGlobex = staff('globex', 'Globex')
  const editor = createPeopleEditor({ url: `${url}/people`, realms: [atSuperfantasy, atGlobex, atInitech] })
  const receiver = createReceiver()
  const superfantasy = await createSamlIdp({ url: `${url}/superfantasy`, people: atSuperfantasy.people })
  const initech = await createSamlIdp({ url: `${url}/initech`, people: atInitech.people })
  const globex = await createOidcIdp({
    issuer: `${url}/globex`,
    people: atGlobex.people,
    // Few, so that typing them is enough to have too many.
    mostGroups: 5,
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
    people: editor.handler,
    webhook: receiver.handler,
  }
  server.serve((req, res) => {
    const name = req.url?.split(/[/?]/)[1] ?? ''
    const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined
    if (handler) handler(req, res)
    else if (name === 'favicon.ico') res.writeHead(204).end()
    else res.writeHead(404, { 'content-type': 'text/plain' }).end('There is nothing here.\n')
  })
  return {
    url,
    directory: organizations({
      superfantasyMetadata: superfantasy.metadata,
      initechMetadata: initech.metadata,
      globexIssuer: globex.issuer,
      social: { authorizationEndpoint, tokenEndpoint, profileEndpoint, emailsEndpoint },
    }),
    webhook: { url: `${url}/webhook`, secret: receiver.secret },
    close: server.close,
  }
}
