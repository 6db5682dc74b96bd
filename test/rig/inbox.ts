import { createHmac } from 'node:crypto'
import express from 'express'
import session from 'express-session'
import passport from 'passport'
import {
  assertIdentity,
  createJit,
  type Directory,
  type DirectoryInput,
  type Jit,
  JitError,
  type JitOptions,
  type LogEntry,
  type OnConflict,
  type Once,
  type SocialProvider,
  type Store,
  type Strategy,
  single,
  staticDirectory,
} from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { type EmailOptions, emailStrategy, type Mail } from 'passport-jit/strategies/email'
import { secret } from './emitted.js'
import { type Browser, browser, listen } from './oidc-http.js'
import { testStore } from './store.js'

export { type Browser, browser }

/** A transport that keeps what it is given. */
export function inbox() {
  const mails: Mail[] = []
  return {
    mails,
    transport: {
      sendMail: async (mail: Mail) => {
        const [code] = /^\d{6}$/m.exec(mail.text) ?? []
        if (code !== undefined) secret(code)
        mails.push(mail)
      },
    },
    /** The newest mail to an address: the code, and the link's address where it has one. */
    to: (address: string) => {
      const mail = mails.findLast((one) => one.to === address)
      if (!mail) throw new Error(`no mail to ${address}`)
      return {
        mail,
        code: /^(\d{6})$/m.exec(mail.text)![1]!,
        link: /^http\S+\?link=\S+$/m.exec(mail.text)?.[0] ?? null,
      }
    },
  }
}

/** A `Once` that also keeps everything it was told, and counts the codes that were looked up. */
export function recordingOnce(inner: Once) {
  const told: string[] = []
  const seen: string[] = []
  return {
    /** Every key and value, in order. */
    told,
    /** Keys under which a guess looked for a code. */
    evaluated: () => seen.filter((key) => key.startsWith('code:')),
    once: {
      put: (key, value, ttl) => {
        told.push(key, value)
        return inner.put(key, value, ttl)
      },
      take: (key) => {
        told.push(key)
        seen.push(key)
        return inner.take(key)
      },
      claim: (key, ttl) => {
        told.push(key)
        return inner.claim(key, ttl)
      },
    } satisfies Once,
  }
}

/** What the provider of {@link signedStrategy} knows of a person. */
export interface Person {
  sub: string
  email?: string
  verified?: boolean
}

const providerKey = (provider: string) => `key of ${provider}`
const sign = (provider: string, payload: string) =>
  createHmac('sha256', providerKey(provider)).update(payload).digest('base64url')

/** A social protocol in miniature: the provider signs who it is; the strategy checks that, and nothing else. */
export function signedStrategy(): Strategy<SocialProvider> {
  return {
    protocol: 'social',
    attemptKey: ({ query }) => single(query, 'state'),
    begin: async ({ id }, attempt) => ({
      redirect: `https://${id}.test/authorize?state=${attempt}`,
      secrets: {},
    }),
    complete: async ({ id, version }, { query }, _attempt, { now }) => {
      const payload = single(query, 'who') ?? ''
      if (sign(id, payload) !== single(query, 'signature')) {
        throw new JitError('assertion_refused', `${id}: not signed by the provider`)
      }
      const { sub, email, verified } = JSON.parse(payload) as Person
      return assertIdentity({
        source: `provider:${id}`,
        sourceVersion: version,
        issuer: `https://${id}.test`,
        subject: sub,
        email,
        emailVerified: verified === undefined ? 'unstated' : verified ? 'yes' : 'no',
        at: now(),
      })
    },
  }
}

export interface AppOptions {
  directory: DirectoryInput
  /** Stands for `directory`; the one in the store's own tables, for example. */
  kept?: Directory
  strategies?: Strategy[]
  email?: Partial<EmailOptions>
  limits?: NonNullable<JitOptions['limits']>
  store?: Store
  now?: () => number
  baseUrl?: string
  /** Express takes the client's address from X-Forwarded-For. */
  trustProxy?: boolean
  /** False for an app without sessions. */
  sessions?: boolean
  /** Routes of the app's own, behind those of the kit. */
  mount?: (app: express.Express, jit: Jit) => void
  onConflict?: OnConflict
}

/** An Express app with the e-mail method; its inbox, its log and what its `Once` was told. */
export async function startApp({
  directory,
  strategies = [],
  email,
  now = Date.now,
  ...options
}: AppOptions) {
  const app = express()
  const server = await listen('localhost', app)
  const mailbox = inbox()
  const log: LogEntry[] = []
  const own = options.store ? null : await testStore()
  const store = options.store ?? own!.store
  const recorded = recordingOnce(memoryOnce(now))
  const method = emailStrategy({
    transport: mailbox.transport,
    from: 'Smartworkspace <no-reply@app.example>',
    appName: 'Smartworkspace',
    ...email,
  })
  let current = options.kept ?? staticDirectory(directory)
  const switchable = {
    organization: (id) => current.organization(id),
    connection: (id) => current.connection(id),
    provider: (id) => current.provider(id),
    providers: () => current.providers(),
    domain: (name) => current.domain(name),
    entries: current.entries,
    warnings: current.warnings,
  } as Directory
  const jit = createJit({
    baseUrl: options.baseUrl ?? server.origin,
    returnTo: '/me',
    store,
    lock: memoryLock(),
    once: recorded.once,
    directory: switchable,
    strategies: [method, ...strategies],
    log: (entry) => log.push(entry),
    now,
    ...(options.limits && { limits: options.limits }),
    ...(options.onConflict && { onConflict: options.onConflict }),
  })
  const instance = new passport.Passport()
  app.set('trust proxy', options.trustProxy ?? false)
  if (options.sessions !== false) {
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
    app.use(instance.session() as express.RequestHandler)
  }
  jit.passport(instance as never)
  app.use(jit.routes())
  options.mount?.(app, jit)
  app.get('/me', (req, res) => {
    if (req.user) res.json({ user: req.user, jit: req.jit })
    else res.status(401).json({ error: 'nobody' })
  })
  app.use(jit.errorPage())
  await jit.ready()

  const post = (client: Browser, path: string, fields: Fields, headers: Record<string, string> = {}) =>
    client.go(server.origin + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(fields),
    })
  return {
    origin: server.origin,
    close: async () => {
      await server.close()
      await own?.close()
    },
    jit,
    store,
    log,
    inbox: mailbox,
    /** Another directory from the next request on, as when an administrator saves a change. */
    switchTo: (next: DirectoryInput) => {
      current = staticDirectory(next)
    },
    recorded,
    /** As a program: JSON there and back. */
    post,
    /** As a person: a form there, a page back. */
    submit: (client: Browser, path: string, fields: Record<string, string>, headers = {}) =>
      client.go(server.origin + path, {
        method: 'POST',
        headers: { accept: 'text/html', ...headers },
        body: new URLSearchParams(fields),
      }),
    ask: (client: Browser, address: string) => post(client, '/auth/email', { email: address }),
    verify: (client: Browser, address: string, code: string) =>
      post(client, '/auth/email/verify', { email: address, code }),
    /** Who is signed in, or null. */
    me: async (client: Browser) => {
      const answer = await client.go(`${server.origin}/me`)
      return answer.status === 200 ? answer.json() : null
    },
    rows: async () => ({ users: (await store.users()).rows, events: (await store.events()).rows }),
    /** Signs in at a provider of {@link signedStrategy} and stops before the callback: its URL. */
    atProvider: async (client: Browser, provider: string, person: Person, query = '') => {
      const begun = await client.go(`${server.origin}/auth/social/${provider}${query}`)
      if (begun.status !== 302) throw new Error(`${begun.status} ${begun.text}`)
      const state = new URL(begun.location!).searchParams.get('state')!
      const who = JSON.stringify(person)
      const answer = new URLSearchParams({ state, who, signature: sign(provider, who) })
      return `${server.origin}/auth/social/${provider}/callback?${answer}`
    },
  }
}

type Fields = Readonly<Record<string, unknown>>

export type App = Awaited<ReturnType<typeof startApp>>

/** Wrong codes for a right one, all different. */
export function wrongCodes(right: string, count: number): string[] {
  return Array.from({ length: count + 1 }, (_, index) => String(index * 7919 + 13).padStart(6, '0'))
    .filter((code) => code !== right)
    .slice(0, count)
}

/** Organization O owns o.example; S owns s.example and has SSO for it; the e-mail method is on. */
export const twoOwners = {
  organizations: [
    {
      id: 'o',
      name: 'O',
      roles: ['owner', 'member'],
      domains: ['o.example'],
      domainJit: { enabled: true, roles: ['member'] },
    },
    { id: 's', name: 'S', roles: ['owner', 'member'], domains: ['s.example'] },
  ],
  connections: [
    {
      id: 's-sso',
      organization: 's',
      protocol: 'oidc',
      issuer: 'https://idp.s.example',
      clientId: 'x',
      clientSecret: 'y',
      jit: { roles: ['member'] },
    },
  ],
  email: { enabled: true },
} satisfies DirectoryInput
