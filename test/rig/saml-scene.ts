import { samlStrategy } from 'passport-jit/strategies/saml'
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest'
import {
  type AnswerTo,
  createSigningKey,
  idpMetadata,
  type Person,
  readRequest,
  type SigningKey,
} from '../../examples/identity-providers/saml.js'
import { type App, type AppOptions, type ConnectionInput, expectRefused, startApp } from './oidc-app.js'
import { type Browser, browser } from './oidc-http.js'
import { forge, posted, type Recipe } from './saml-answer.js'
import { desk, warmed } from './saml-load.js'

// Two organizations, each with its own SAML IdP, whose answers the test writes itself.

export interface Idp {
  readonly entityId: string
  readonly ssoUrl: string
  readonly key: SigningKey
  readonly metadata: string
}

export type SamlInput = Extract<ConnectionInput, { protocol: 'saml' }>

export async function createIdp(name: string): Promise<Idp> {
  const entityId = `https://idp.${name}.example/metadata`
  const ssoUrl = `https://idp.${name}.example/sso`
  const key = await createSigningKey(`idp.${name}.example`)
  return { entityId, ssoUrl, key, metadata: idpMetadata(entityId, ssoUrl, [key.certificate]) }
}

export const alice: Person = { id: 'alice-1', email: 'alice@acme.example', name: 'Alice', groups: ['staff'] }
export const bob: Person = { id: 'bob-1', email: 'bob@globex.example', name: 'Bob', groups: ['staff'] }

export const samlConnection = (id: string, idp: Idp, more: Partial<SamlInput> = {}): SamlInput => ({
  id,
  organization: id,
  protocol: 'saml',
  idpMetadata: idp.metadata,
  jit: { roles: ['member'] },
  attributes: { email: 'email', name: 'displayName', groups: 'groups' },
  groups: { map: { admins: ['admin'], staff: ['member'] } },
  ...more,
})

/** A sign-in that waits for its answer. */
export interface Begun extends AnswerTo {
  readonly relayState: string
  readonly client: Browser
}

/** Starts a sign-in as a browser does, and reads the AuthnRequest as an IdP does. */
export async function begin(app: App, connection: string, client = browser()): Promise<Begun> {
  const response = await client.go(app.start(connection))
  expect(response.status, response.text).toBe(302)
  const { searchParams } = new URL(response.location!)
  const request = readRequest(searchParams.get('SAMLRequest')!)
  return { ...request!, relayState: searchParams.get('RelayState')!, client }
}

/** Posts a form to a callback and follows our own redirect to the ticket; the answer that ends the sign-in. */
export async function post(
  client: Browser,
  callbackUrl: string,
  form: Record<string, string> | URLSearchParams,
) {
  const answer = await client.go(callbackUrl, { method: 'POST', body: new URLSearchParams(form) })
  return answer.status === 303 && answer.location!.includes('?ticket=') ? client.go(answer.location!) : answer
}

/** Posts an answer's XML to the sign-in it is for. */
export const answer = (begun: Begun, xml: string) =>
  post(begun.client, begun.callbackUrl, { SAMLResponse: posted(xml), RelayState: begun.relayState })

export type Changes = Partial<Omit<Recipe, 'signing'>> & { signing?: Partial<Recipe['signing']> }

export function scene(
  acme: Partial<SamlInput> = {},
  options: Partial<AppOptions> = {},
  strategy = samlStrategy(),
) {
  const at = {} as { app: App; acme: Idp; globex: Idp }

  beforeAll(async () => {
    at.acme = await createIdp('acme')
    at.globex = await createIdp('globex')
    await warmed(strategy, await desk(at.acme.key))
  })
  afterAll(() => strategy.close())
  beforeEach(async () => {
    at.app = await startApp({
      strategies: [strategy],
      connections: [samlConnection('acme', at.acme, acme), samlConnection('globex', at.globex)],
      ...options,
    })
  })
  afterEach(() => at.app.close())

  /** The XML that Acme's IdP answers, with changes. */
  const xmlFor = (begun: Begun, { signing, ...changes }: Changes = {}) =>
    forge({
      issuer: at.acme.entityId,
      person: alice,
      to: begun,
      signing: { key: at.acme.key, ...signing },
      ...changes,
    })

  /** A sign-in with a changed answer. */
  const attempt = async (changes: Changes = {}, client = browser()) => {
    const begun = await begin(at.app, 'acme', client)
    return { client, begun, response: await answer(begun, xmlFor(begun, changes)) }
  }

  /** The untouched answer signs Alice in, so a refusal before it was for the fault and nothing else. */
  const honest = async (changes: Changes = {}) => {
    const { client, response } = await attempt(changes)
    expect(response.status, response.text).toBe(303)
    const me = await client.go(`${at.app.origin}/me`)
    expect(me.status).toBe(200)
    return me.json() as {
      user: {
        id: string
        email: string | null
        attributes: Record<string, string>
        memberships: { organization: string; roles: string[] }[]
      }
    }
  }

  /** Refused with this code, no session, no row; then the untouched answer signs in. */
  const refused = async (changes: Changes, code: string, message?: RegExp, honestly: Changes = {}) => {
    const before = await at.app.rows()
    const { client, response } = await attempt(changes)
    await expectRefused(
      at.app,
      client,
      response,
      { code, status: statusOf(code), ...(message && { message }) },
      before,
    )
    await honest(honestly)
  }

  return { at, attempt, xmlFor, honest, refused }
}

const statuses: Record<string, number> = {
  answer_malformed: 400,
  attempt_unknown: 400,
  answer_too_large: 413,
}
export const statusOf = (code: string) => statuses[code] ?? 403
