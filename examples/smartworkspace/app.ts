import { randomUUID } from 'node:crypto'
import express, { type ErrorRequestHandler, type RequestHandler } from 'express'
import session from 'express-session'
import passport from 'passport'
import { type Directory, type Jit, JitError, type Store } from 'passport-jit'
import { adminApi, requireAdmin } from './admin.js'
import { refuse, wantsPage } from './answers.js'
import { icon, liveScript, stylesheet } from './assets.js'
import { inboxPage, mailDocument, mailHeaders } from './inbox-page.js'
import { refusalPage } from './layout.js'
import type { Inbox } from './mail.js'
import { decisionsPage, workspacePage } from './pages.js'
import { type Suggestion, signInPage } from './sign-in-page.js'

export interface WorkspaceOptions {
  readonly jit: Jit
  readonly store: Store
  readonly directory: Directory
  /** Origin of the app, the same as the kit's. */
  readonly baseUrl: string
  /** Where sessions are kept; in this process by default. */
  readonly sessions?: session.Store | undefined
  readonly sessionSecret: string
  /** Where codes and links turn up that are mailed to nobody. */
  readonly inbox: Inbox
  /** Opens the operator's addresses to its bearer. */
  readonly adminToken?: string | undefined
  /** Shows decisions and inbox to anybody: for a demo on loopback with invented people. */
  readonly onLoopback: boolean
  readonly suggestions?: readonly Suggestion[]
}

/** The Smartworkspace: an Express app that leaves sign-in and accounts to the kit. */
export function createApp(options: WorkspaceOptions): express.Express {
  const { jit, store, directory, baseUrl, adminToken, onLoopback } = options
  const app = express().disable('x-powered-by')
  app.use(headers(policy(baseUrl)))
  app.get('/healthz', (_req, res) => void res.json({ status: 'ok' }))
  app.get('/style.css', (_req, res) => void res.type('css').send(stylesheet))
  app.get('/icon.svg', (_req, res) => void res.type('svg').send(icon))
  app.get('/live.js', (_req, res) => void res.type('js').send(liveScript))
  app.use(adminApi({ store, audit: jit.audit, inbox: options.inbox }, adminToken))

  // What the kit needs: a session, Passport's use of it, and its routes before any body parser.
  const secure = baseUrl.startsWith('https:')
  app.use(
    orUnavailable(
      session({
        name: 'workspace',
        secret: options.sessionSecret,
        ...(options.sessions && { store: options.sessions }),
        resave: false,
        saveUninitialized: false,
        proxy: secure,
        cookie: { httpOnly: true, sameSite: 'lax', secure, maxAge: 8 * 60 * 60_000 },
      }),
    ),
  )
  app.use(passport.session())
  jit.passport(passport)
  app.use(jit.routes())

  const entries = directory.entries ?? { organizations: [], connections: [], providers: [] }
  const organizations = new Map(entries.organizations.map((entry) => [entry.id, entry]))
  const ways = entries.connections.flatMap((connection) => {
    const organization = organizations.get(connection.organization)
    return connection.enabled && organization?.status === 'active' ? [{ connection, organization }] : []
  })

  /** Where a decision was made: its organization, or that of the connection the person came by. */
  const placeOf = ({ organization, source }: { organization: string | null; source?: string | null }) => {
    const way = ways.find(({ connection }) => `connection:${connection.id}` === source)
    const id = organization ?? way?.organization.id
    return id === undefined ? 'no organization' : (organizations.get(id)?.name ?? id)
  }

  const providers = entries.providers.filter(({ enabled }) => enabled)
  /** What a person knows a way in by. */
  const nameOf = (source: string) => {
    const id = source.slice(source.indexOf(':') + 1)
    if (source === 'provider:email') return 'e-mail'
    const provider = providers.find((entry) => source === `provider:${entry.id}`)
    return provider?.protocol === 'social' ? (provider.name ?? id) : id
  }

  app.get('/', async (req, res) => {
    if (!req.user || !req.jit) {
      const email = typeof req.query.email === 'string' ? req.query.email : ''
      const suggestions = options.suggestions ?? []
      res.send(signInPage({ ways, providers, baseUrl, suggestions, email, inbox: onLoopback }).text)
      return
    }
    const { user } = req
    const { rows: decisions } = await jit.audit.decisions({ user: user.id, limit: 1000 })
    const via = nameOf(user.via)
    res.send(workspacePage({ user, jit: req.jit, organizations, via, inbox: onLoopback, decisions }).text)
  })

  app.get('/api/me', (req, res) => {
    if (!req.user) {
      res.status(401).json({ error: 'signed_out', message: 'Nobody is signed in.' })
      return
    }
    const { id, email, attributes, via, memberships } = req.user
    res.json({
      user: { id, email, attributes, via },
      memberships: memberships.map(({ organization, active, grants }) => ({ organization, active, grants })),
      jit: req.jit,
    })
  })

  app.get('/decisions', onLoopback ? anybody : requireAdmin(adminToken), async (_req, res) => {
    const { rows: decisions } = await jit.audit.decisions({ limit: 200 })
    const { rows } = await store.users({ limit: 1000 })
    const people = new Map(
      rows.map(({ id, attributes, verifiedEmail, contactEmail }) => [
        id,
        attributes.name ?? verifiedEmail ?? contactEmail ?? id,
      ]),
    )
    const { warnings } = jit
    res.send(decisionsPage({ decisions, people, placeOf, warnings, inbox: onLoopback }).text)
  })

  if (onLoopback) app.use(inboxPages(options.inbox, baseUrl))

  app.use((req, res) => {
    const message = `There is nothing at ${req.path}.`
    refuse(req, res, 404, { error: 'not_found', title: 'Not found', message })
  })
  app.use(refusal)
  app.use(jit.errorPage())
  app.use(accident)
  return app
}

const anybody: RequestHandler = (_req, _res, next) => next()

/** The on-screen inbox: everybody's mail for everybody to read, so on loopback only. */
function inboxPages(inbox: Inbox, baseUrl: string): RequestHandler {
  const pages = express.Router()
  pages.get('/inbox', (_req, res) => {
    res.set('content-security-policy', `${policy(baseUrl)}; frame-src 'self'`)
    res.send(inboxPage(inbox.mails()).text)
  })
  pages.get('/inbox/:id', (req, res, next) => {
    const mail = inbox.mails().find(({ id }) => id === req.params.id)
    if (!mail) return next()
    res.set(mailHeaders).send(mailDocument(mail))
  })
  return pages
}

/** The Content-Security-Policy of the app's pages; the form of the sign-in page names the app's own address. */
const policy = (baseUrl: string) =>
  `default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self' ${baseUrl}; frame-ancestors 'none'; base-uri 'none'`

function headers(contentSecurityPolicy: string): RequestHandler {
  return (_req, res, next) => {
    res.set({
      'cache-control': 'no-store',
      'content-security-policy': contentSecurityPolicy,
      'referrer-policy': 'same-origin',
      'x-content-type-options': 'nosniff',
    })
    next()
  }
}

/** A session store that cannot be reached is no fault of the request: it may come again in a moment. */
function orUnavailable(sessions: RequestHandler): RequestHandler {
  return (req, res, next) =>
    sessions(req, res, (cause?: unknown) => {
      if (!cause) return next()
      const correlationId = randomUUID()
      const message = 'the session store cannot be reached'
      console.error(`error unavailable ${message}: ${cause} (${correlationId})`)
      next(new JitError('unavailable', message, { cause, correlationId }))
    })
}

/** A refusal as a page of this app; programs get the kit's own JSON from `jit.errorPage()`. */
const refusal: ErrorRequestHandler = (error, req, res, next) => {
  if (!(error instanceof JitError) || res.headersSent || !wantsPage(req)) return next(error)
  const { code, status, publicMessage, correlationId, ways } = error
  const title = status === 503 ? 'Please try again in a moment' : 'This sign-in did not work'
  res
    .set(error.headers)
    .status(status)
    .send(refusalPage({ title, sentence: publicMessage, code, correlationId, ways }).text)
}

/** Anything unforeseen: the operator sees what it was, the visitor that it was not their doing. */
const accident: ErrorRequestHandler = (error, req, res, next) => {
  console.error(error)
  if (res.headersSent) return next(error)
  const message = 'Something went wrong on our side. Please try again.'
  refuse(req, res, 500, { error: 'internal', title: 'Sorry', message })
}
