import { createHash, timingSafeEqual } from 'node:crypto'
import express, { type Request, type RequestHandler, type Response } from 'express'
import type { Audit, Decision, Store } from 'passport-jit'
import { refuse } from './answers.js'
import { outcomeOf } from './decisions.js'
import type { Inbox } from './mail.js'

/**
 * The operator's view: the audit trail and the users, as JSON. `?limit=` (1,000 at most, the default) and
 * `?after=` page through them; a `Link: rel="next"` header leads on (RFC 8288). The on-screen inbox is short
 * and comes whole.
 */
export function adminApi(
  { store, audit, inbox }: { store: Store; audit: Audit; inbox: Inbox },
  token: string | undefined,
): RequestHandler {
  const api = express.Router()
  api.use(['/api/decisions', '/api/users', '/api/inbox'], requireAdmin(token))
  api.get('/api/decisions', async (req, res) => {
    const page = pageOf(req, res)
    if (!page) return
    const { rows, next } = await audit.decisions(page)
    leadOn(req, res, next)
    res.json(rows.map(decisionAsJson))
  })
  api.get('/api/users', async (req, res) => {
    const page = pageOf(req, res)
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
  return api
}

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

function pageOf(req: Request, res: Response): { limit: number; after?: string } | null {
  const { limit = '1000', after } = req.query
  const count = typeof limit === 'string' && /^\d{1,4}$/.test(limit) ? Number(limit) : 0
  if (count < 1 || count > 1000 || (after !== undefined && typeof after !== 'string')) {
    const message = 'limit is 1 to 1000, and after comes from a Link header.'
    refuse(req, res, 400, { error: 'bad_page', title: 'No such page', message })
    return null
  }
  return after === undefined ? { limit: count } : { limit: count, after }
}

function leadOn(req: Request, res: Response, next: string | null): void {
  if (next === null) return
  const query = new URLSearchParams({ after: next })
  if (typeof req.query.limit === 'string') query.set('limit', req.query.limit)
  res.set('link', `<${req.path}?${query}>; rel="next"`)
}
