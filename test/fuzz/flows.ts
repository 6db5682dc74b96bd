import { expect } from 'vitest'
import { readRequest } from '../../examples/identity-providers/saml.js'
import { browser } from '../rig/inbox.js'
import { forge, posted } from '../rig/saml-answer.js'
import { person } from '../rig/social-app.js'
import type { Scene } from './scene.js'

/** The request that ends an honest sign-in, before it is sent. */
export interface Last {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** What the browser holds; from another site a POST comes without, and its ticket is fetched with them. */
  readonly cookies: readonly (readonly [name: string, value: string])[]
}

export interface Flow {
  readonly begin: (scene: Scene) => Promise<Last>
  /** Whether it ends in no other browser than it began in. */
  readonly bound: boolean
  /** Whether the other method is another way of saying the same. */
  readonly eitherMethod?: boolean
}

const bob = { claims: { sub: 'bob', email: 'bob@globex.example', name: 'Bob' } }

/** Leaves for an identity provider; the address it is sent to, and the cookies it has by then. */
async function leave({ app: { origin } }: Scene, path: string) {
  const client = browser()
  const begun = await client.go(origin + path)
  expect(begun.status, begun.text).toBe(302)
  return { location: begun.location!, cookies: [...client.cookies(origin)] }
}

const atProvider =
  (route: string, who: ReturnType<typeof person>, method: Last['method'] = 'GET') =>
  async (scene: Scene): Promise<Last> => {
    const { location, cookies } = await leave(scene, route)
    const fields = [...scene.world.arrive(location, who)]
    return { method, path: `${route}/callback`, fields, cookies }
  }

async function saml(scene: Scene): Promise<Last> {
  const { location, cookies } = await leave(scene, '/auth/sso/acme')
  const { searchParams } = new URL(location)
  const xml = forge({
    issuer: scene.acme.entityId,
    person: { id: 'alice-1', email: 'alice@acme.example', name: 'Alice', groups: ['staff'] },
    to: readRequest(searchParams.get('SAMLRequest')!)!,
    sign: ['Response'],
    signing: { key: scene.acme.key },
  })
  const fields = [
    ['SAMLResponse', posted(xml)],
    ['RelayState', searchParams.get('RelayState')!],
  ] as const
  return { method: 'POST', path: '/auth/sso/acme/callback', fields, cookies }
}

async function ticket(scene: Scene): Promise<Last> {
  const last = await saml(scene)
  const answered = await send(scene, { ...last, cookies: [] })
  const { pathname, searchParams } = new URL(answered.headers.get('location')!, scene.app.origin)
  return { method: 'GET', path: pathname, fields: [...searchParams], cookies: last.cookies }
}

/** Asks for a code, and gives back what its mail said. */
async function mailed({ app: { origin }, mailbox }: Scene, email: string) {
  const client = browser()
  const asked = await client.go(`${origin}/auth/email`, {
    method: 'POST',
    body: new URLSearchParams({ email }),
  })
  expect(asked.status, asked.text).toBe(200)
  return { ...mailbox.to(email), cookies: [...client.cookies(origin)] }
}

async function code(scene: Scene): Promise<Last> {
  const email = 'carol@free.example'
  const { code, cookies } = await mailed(scene, email)
  const fields = [
    ['email', email],
    ['code', code],
  ] as const
  return { method: 'POST', path: '/auth/email/verify', fields, cookies }
}

async function link(scene: Scene): Promise<Last> {
  const { link } = await mailed(scene, 'carol@free.example')
  return {
    method: 'POST',
    path: '/auth/email/verify',
    fields: [...new URL(link!).searchParams],
    cookies: [],
  }
}

export const flows = {
  saml: { begin: saml, bound: true },
  ticket: { begin: ticket, bound: true },
  oidc: { begin: atProvider('/auth/sso/globex', bob), bound: true },
  google: {
    begin: atProvider('/auth/social/google', person('google', 1, 'g@workspace.example')),
    bound: true,
  },
  apple: {
    begin: atProvider('/auth/social/apple', person('apple', 1, 'a@free.example'), 'POST'),
    bound: true,
    eitherMethod: true,
  },
  github: { begin: atProvider('/auth/social/github', person('github', 1, 'h@free.example')), bound: true },
  code: { begin: code, bound: true },
  link: { begin: link, bound: false },
} as const satisfies Record<string, Flow>

export type FlowName = keyof typeof flows

/** Sends the last request of a sign-in, and follows the kit's own redirect to a ticket. */
export async function finish(scene: Scene, last: Last): Promise<Response> {
  const crossSite = last.method === 'POST' && /\/callback$/.test(last.path)
  const answer = await send(scene, crossSite ? { ...last, cookies: [] } : last)
  const to = new URL(answer.headers.get('location') ?? '', scene.app.origin + last.path)
  if (answer.status !== 303 || !to.searchParams.has('ticket') || !to.pathname.endsWith('/callback'))
    return answer
  return send(scene, { ...last, method: 'GET', path: to.pathname, fields: [...to.searchParams] })
}

async function send({ app: { origin } }: Scene, { method, path, fields, cookies }: Last): Promise<Response> {
  const parameters = new URLSearchParams(fields.map(([name, value]) => [name, value]))
  const headers = { cookie: cookies.map(([name, value]) => `${name}=${value}`).join('; ') }
  const answer =
    method === 'POST'
      ? await fetch(origin + path, { method, headers, body: parameters, redirect: 'manual' })
      : await fetch(`${origin}${path}?${parameters}`, { headers, redirect: 'manual' })
  await answer.arrayBuffer()
  return answer
}
