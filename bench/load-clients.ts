import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { DirectoryInput } from 'passport-jit'
import { createOidcIdp, type Person } from '../examples/identity-providers/oidc.js'
import {
  type AnswerTo,
  createSigningKey,
  idpMetadata,
  readRequest,
} from '../examples/identity-providers/saml.js'
import { forge, posted } from '../test/rig/saml-answer.js'
import { costly } from '../test/rig/saml-load.js'

export const ways = ['SAML', 'OIDC', 'e-mail'] as const
export type WayIn = (typeof ways)[number]

export type Outcome = 'signed in' | 'refused' | 'shed'

export interface Clients {
  readonly directory: DirectoryInput
  /** A genuine sign-in; every other one of a person who was there before. */
  signIn(way: WayIn): Promise<Outcome>
  /** A forged SAML answer as long and as costly as the limits allow, for an attempt that is alive. */
  attack(): Promise<Outcome>
  /** The app mailed this. */
  mailed(to: string, text: string): void
  close(): Promise<void>
}

const issuer = 'https://idp.acme.example/metadata'
const groups: readonly string[] = []

/** Everybody who comes to the app at `origin`, and their identity providers. */
export async function clients(origin: string): Promise<Clients> {
  const key = await createSigningKey('idp.acme.example')
  const people: Person[] = []
  const provider = createServer((req, res) => idp.handler(req, res)).listen(0, '127.0.0.1')
  await new Promise((resolve) => provider.once('listening', resolve))
  const client = { id: 'bench', secret: 'a secret of the bench' }
  const idp = await createOidcIdp({
    issuer: `http://127.0.0.1:${(provider.address() as AddressInfo).port}`,
    people,
    clients: [{ ...client, redirectUris: [`${origin}/auth/sso/globex/callback`] }],
  })

  /** A connection that an app too busy does not take in time is shed like any other. */
  const reach = (url: string | URL, init: RequestInit) =>
    fetch(url, init).catch((error: Error & { cause?: { code?: string } }) => {
      if (error.cause?.code === 'UND_ERR_CONNECT_TIMEOUT') return new Response(null, { status: 503 })
      throw error
    })

  /** Each request comes from a machine of its own: a flood need not come from one. */
  let machines = 0
  const browse = () => {
    machines += 1
    const address = `10.${(machines >> 16) & 255}.${(machines >> 8) & 255}.${machines & 255}`
    const cookies = new Map<string, string>()
    return async (url: string | URL, body?: string) => {
      const response = await reach(url, {
        method: body === undefined ? 'GET' : 'POST',
        redirect: 'manual',
        headers: {
          'x-forwarded-for': address,
          cookie: [...cookies].map((pair) => pair.join('=')).join('; '),
          ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded', origin }),
        },
        ...(body !== undefined && { body }),
      })
      for (const line of response.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
        cookies.set(name!, value!)
      }
      await response.arrayBuffer()
      return { status: response.status, location: response.headers.get('location') }
    }
  }
  const outcome = ({ status }: { status: number }, done: number): Outcome =>
    status === done ? 'signed in' : status === 503 ? 'shed' : 'refused'

  async function bySaml(make: (to: AnswerTo) => string): Promise<Outcome> {
    const go = browse()
    const begun = await go(`${origin}/auth/sso/acme`)
    if (begun.status !== 302) return outcome(begun, 302)
    const { searchParams } = new URL(begun.location!)
    const to = readRequest(searchParams.get('SAMLRequest')!)!
    const form = `SAMLResponse=${make(to)}&RelayState=${searchParams.get('RelayState')}`
    const answered = await go(to.callbackUrl, form)
    if (answered.status !== 303) return outcome(answered, 303)
    return outcome(await go(new URL(answered.location!, origin)), 303)
  }

  async function byOidc(person: Person): Promise<Outcome> {
    const go = browse()
    const begun = await go(`${origin}/auth/sso/globex`)
    if (begun.status !== 302) return outcome(begun, 302)
    const chosen = new URL(begun.location!)
    chosen.searchParams.set('person', person.id)
    const answer = await fetch(chosen, { redirect: 'manual' })
    return outcome(await go(answer.headers.get('location')!), 303)
  }

  const inbox = new Map<string, (text: string) => void>()
  async function byEmail(email: string): Promise<Outcome> {
    const go = browse()
    const mail = new Promise<string>((resolve) => inbox.set(email, resolve))
    const asked = await go(`${origin}/auth/email`, `email=${encodeURIComponent(email)}`)
    if (asked.status !== 200) return outcome(asked, 200)
    const code = /\b\d{6}\b/.exec(await mail)![0]
    const verified = await go(
      `${origin}/auth/email/verify`,
      `email=${encodeURIComponent(email)}&code=${code}`,
    )
    return outcome(verified, 200)
  }

  /** Who was here once, and comes again next. */
  const before: Record<WayIn, Person[]> = { SAML: [], OIDC: [], 'e-mail': [] }
  const domains: Record<WayIn, string> = {
    SAML: 'acme.example',
    OIDC: 'globex.example',
    'e-mail': 'initech.example',
  }
  const newcomer = (way: WayIn): Person => {
    const id = randomUUID()
    const person = { id, email: `${id}@${domains[way]}`, name: 'New Hire', groups }
    if (way === 'OIDC') people.push(person)
    return person
  }
  const enter = (way: WayIn, person: Person): Promise<Outcome> => {
    if (way === 'OIDC') return byOidc(person)
    if (way === 'e-mail') return byEmail(person.email)
    return bySaml((to) => encodeURIComponent(posted(forge({ issuer, person, to, signing: { key } }))))
  }
  const signIn = async (way: WayIn): Promise<Outcome> => {
    const known = before[way].pop()
    const person = known ?? newcomer(way)
    const result = await enter(way, person)
    if (!known) before[way].push(person)
    return result
  }

  // Signed for another sign-in: everything but the signature is as it should be. Its long end is written once, because
  // who floods has machines of their own, and what is measured here has not.
  let forgery: { begin: string; end: string } | undefined
  const write = (to: AnswerTo) => {
    const xml = forge({
      issuer,
      person: { id: 'alice-1', email: 'alice@acme.example', name: 'Alice', groups },
      to: { ...to, requestId: 'REQUEST' },
      signing: { key },
      after: [costly({ padding: 480_000 })],
    })
    const at = xml.indexOf('xxx')
    return { begin: xml.slice(0, at), end: encodeURIComponent(posted(xml.slice(at))) }
  }
  const forged = (to: AnswerTo) => {
    forgery ??= write(to)
    const head = forgery.begin.replaceAll('REQUEST', to.requestId!)
    // Base64 can be put together where three bytes end.
    return encodeURIComponent(posted(head.padEnd(Math.ceil(head.length / 3) * 3, 'x'))) + forgery.end
  }

  const policy = { jit: { roles: ['member'] } }
  const roles = ['member']
  return {
    directory: {
      organizations: [
        { id: 'acme', name: 'Acme', roles, domains: ['acme.example'] },
        { id: 'globex', name: 'Globex', roles, domains: ['globex.example'] },
        {
          id: 'initech',
          name: 'Initech',
          roles,
          domains: ['initech.example'],
          domainJit: { enabled: true, roles },
        },
      ],
      connections: [
        {
          ...policy,
          id: 'acme',
          organization: 'acme',
          protocol: 'saml',
          idpMetadata: idpMetadata(issuer, 'https://idp.acme.example/sso', [key.certificate]),
          attributes: { email: 'email' },
        },
        {
          ...policy,
          id: 'globex',
          organization: 'globex',
          protocol: 'oidc',
          issuer: idp.issuer,
          clientId: client.id,
          clientSecret: client.secret,
          allowInsecureRequests: true,
          attributes: { email: 'email' },
        },
      ],
      email: { enabled: true },
    },
    signIn,
    attack: () => bySaml(forged),
    mailed: (to, text) => inbox.get(to)?.(text),
    close: async () => {
      provider.closeAllConnections()
      await new Promise((resolve) => provider.close(resolve))
    },
  }
}
