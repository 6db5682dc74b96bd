import { createHash, timingSafeEqual } from 'node:crypto'
import express, { type Request, type RequestHandler, type Response } from 'express'
import type { AdminResult, Decision, EventQuery, Jit, Store } from 'passport-jit'
import { refuse } from './answers.js'
import { outcomeOf, pages, queryOf } from './decisions.js'
import type { Inbox } from './mail.js'

/**
 * The operator's view as JSON: the audit trail, the users, and what administrators do. `?limit=` (1,000 at most, the
 * default) and `?after=` page through lists; a `Link: rel="next"` header leads on (RFC 8288). The on-screen inbox is
 * short and comes whole.
 */
export function operatorApi(
  { jit, store, inbox }: { readonly jit: Jit; readonly store: Store; readonly inbox: Inbox },
  token: string | undefined,
): RequestHandler {
  const api = express.Router()
  api.use(['/api/decisions', '/api/users', '/api/inbox', '/api/admin'], requireAdmin(token))
  api.get('/api/decisions', async (req, res) => {
    const query = asked(req, res)
    if (!query) return
    const { rows, next } = await jit.audit.decisions(query)
    leadOn(req, res, next)
    res.json(rows.map(decisionAsJson))
  })
  api.get('/api/decisions/verify', async (_req, res) => {
    res.json(await jit.audit.verify())
  })
  api.get('/api/users', async (req, res) => {
    const page = asked(req, res, pages)
    if (!page) return
    const { rows, next } = await store.users(page)
    leadOn(req, res, next)
    res.json(
      rows.map(({ id, verifiedEmail, contactEmail, status, attributes, identities, memberships }) => ({
        id,
        email: verifiedEmail,
        contactEmail,
        status,
        attributes,
        identities,
        memberships,
      })),
    )
  })
  api.get('/api/inbox', (_req, res) => {
    res.json(inbox.mails().map(({ to, subject, text }) => ({ to, subject, text })))
  })
  // Whoever has the token may do it all, users and connections included. The kit checks what the body says.
  api.post('/api/admin/:verb', express.json(), async (req, res, next) => {
    const verbs = jit.admin as unknown as Record<string, (asked: object) => Promise<AdminResult>>
    const { verb } = req.params
    if (!Object.hasOwn(verbs, verb)) return next()
    res.json(await verbs[verb]!({ ...req.body, by: operator }))
  })
  return api
}

/** How the audit trail knows who has the token. */
export const operator = 'operator'

const decisionAsJson = (decision: Decision) => {
  const { change, facts, ...rest } = decision
  return { id: change, outcome: outcomeOf(decision), ...rest, events: facts }
}

/** Lets the bearer of the token through; browsers may give it as the password of HTTP Basic. */
export function requireAdmin(token: string | undefined): RequestHandler {
  return (req, res, next) => {
    if (!token) {
      const message = 'Set ADMIN_TOKEN to open this address.'
      return refuse(req, res, 404, { error: 'not_found', title: 'Not open', message })
    }
    if (sameText(presented(req), token)) return next()
    res.set('www-authenticate', ['Bearer', 'Basic realm="Smartworkspace, password is the ADMIN_TOKEN"'])
    const message = 'This address needs the ADMIN_TOKEN.'
    refuse(req, res, 401, { error: 'unauthorized', title: 'For operators', message })
  }
}

function presented(req: Request): string {
  const [scheme = '', value = ''] = (req.headers.authorization ?? '').split(' ')
  if (scheme.toLowerCase() === 'bearer') return value
  if (scheme.toLowerCase() !== 'basic') return ''
  return Buffer.from(value, 'base64')
    .toString('utf8')
    .replace(/^[^:]*:/, '')
}

/** Compares without telling by its time how much was right. */
function sameText(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

function asked(req: Request, res: Response, allowed?: readonly string[]): EventQuery | null {
  const query = queryOf(req.query, allowed)
  if (typeof query !== 'string') return query
  refuse(req, res, 400, { error: 'bad_query', title: 'No such list', message: query })
  return null
}

function leadOn(req: Request, res: Response, next: string | null): void {
  if (next === null) return
  const query = new URLSearchParams(req.query as Record<string, string>)
  query.set('after', next)
  res.set('link', `<${req.path}?${query}>; rel="next"`)
}
