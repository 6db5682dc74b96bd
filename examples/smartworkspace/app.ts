import { randomUUID } from 'node:crypto'
import express, { type ErrorRequestHandler, type Request, type RequestHandler } from 'express'
import session from 'express-session'
import passport from 'passport'
import { type Directory, type Jit, JitError, type JitUser, type Store } from 'passport-jit'
import { adminArea, rankOf } from './admin-area.js'
import { refuse, wantsPage } from './answers.js'
import { icon, liveScript, stylesheet } from './assets.js'
import { inboxPage, mailDocument, mailHeaders } from './inbox-page.js'
import { refusalPage } from './layout.js'
import type { Inbox } from './mail.js'
import { operatorApi, requireAdmin } from './operator-api.js'
import { operatorArea } from './operator-area.js'
import { type Suggestion, signInPage } from './sign-in-page.js'
import { namesOf, tenantsOf } from './tenants.js'
import { workspacePage } from './workspace-page.js'

export interface WorkspaceOptions {
  readonly jit: Jit
  readonly store: Store
  readonly directory: Directory
  /** What the directory began with: the organizations and connections that the pages know of. */
  readonly entries: NonNullable<Directory['entries']>
  /** Whether connections are kept in the store, where they can be switched on and off. */
  readonly switches: boolean
  /** What was found odd about the policies, besides what the kit says itself. */
  readonly warnings?: readonly string[]
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
  /** Where people at the test identity providers are edited. */
  readonly idps?: string | undefined
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
  app.use(operatorApi({ jit, store, inbox: options.inbox }, adminToken))

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

  const began = options.entries
  const tenants = () => tenantsOf(directory, began)
  const inbox = onLoopback

  app.get('/', async (req, res) => {
    const known = await tenants()
    if (!req.user || !req.jit) {
      const email = typeof req.query.email === 'string' ? req.query.email : ''
      const { suggestions = [], idps = null } = options
      res.send(signInPage({ tenants: known, baseUrl, suggestions, idps, email, inbox }).text)
      return
    }
    const { user } = req
    const whys = await Promise.all(
      user.memberships.map(
        async ({ organization }) => [organization, await jit.why(user.id, organization)] as const,
      ),
    )
    const { rows } = await jit.audit.decisions({ user: user.id, limit: 1 })
    const page = workspacePage({
      ...{ user, jit: req.jit, inbox, whys: new Map(whys), latest: rows[0] },
      names: await namesOf(store, known),
      decisions: onLoopback ? '/decisions' : null,
      invitations: await invitationsOf(store, user),
      administers: new Set(
        user.memberships.flatMap(({ organization }) => (rankOf(user, organization) ? organization : [])),
      ),
    })
    res.send(page.text)
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

  app.use(adminArea({ jit, store, tenants, baseUrl, inbox }))
  app.use(
    operatorArea({
      ...{ jit, store, tenants, baseUrl, inbox },
      switches: options.switches,
      warnings: [...jit.warnings, ...(options.warnings ?? [])],
      guard: onLoopback ? anybody : requireAdmin(adminToken),
    }),
  )

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

/** What waits for the person's click: invitations for the address they have proved. */
async function invitationsOf(store: Store, { email }: JitUser) {
  if (email === null) return []
  const { invitations } = await store.load({ email, organizations: [] })
  return invitations.filter(({ expiresAt }) => expiresAt > Date.now())
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
      const message = 'the session store cannot be reached'
      if (res.headersSent) {
        // The answer is on its way, and only what was to be kept behind it is not. Express would cut it off.
        console.error(`warn ${message} behind an answer: ${cause}`)
        return
      }
      const correlationId = randomUUID()
      console.error(`error unavailable ${message}: ${cause} (${correlationId})`)
      next(new JitError('unavailable', message, { cause, correlationId }))
    })
}

/** A refusal as a page of this app; programs get the kit's own JSON from `jit.errorPage()`. */
const refusal: ErrorRequestHandler = (error, req, res, next) => {
  if (!(error instanceof JitError) || res.headersSent || !wantsPage(req)) return next(error)
  const { code, status, publicMessage, correlationId, ways } = error
  const title = status === 503 ? 'Please try again in a moment' : titleOf(req)
  res
    .set(error.headers)
    .status(status)
    .send(refusalPage({ title, sentence: publicMessage, code, correlationId, ways, ...backTo(req) }).text)
}

const titleOf = ({ path }: Request) =>
  path.startsWith('/auth/') ? 'This sign-in did not work' : 'That was not done'

/** The page that a form was on. */
function backTo({ path }: Request): Pick<Parameters<typeof refusalPage>[0], 'back'> {
  const to = /^\/(?:admin\/[^/]+|operator|decisions)/.exec(path)?.[0]
  return to === undefined ? {} : { back: { to, label: 'Back' } }
}

/** Anything unforeseen: the operator sees what it was, the visitor that it was not their doing. */
const accident: ErrorRequestHandler = (error, req, res, next) => {
  if (error.expose && error.status < 500 && !res.headersSent) {
    const message = 'That could not be read.'
    return refuse(req, res, error.status, { error: 'bad_request', title: 'Sorry', message })
  }
  console.error(error)
  if (res.headersSent) return next(error)
  const message = 'Something went wrong on our side. Please try again.'
  refuse(req, res, 500, { error: 'internal', title: 'Sorry', message })
}
