import type { Request, RequestHandler, Response } from 'express'
import { JitError } from 'passport-jit'
import { refusalPage } from './layout.js'

/** True for a browser that shows pages; a program that takes anything gets JSON. */
export function wantsPage(req: Request): boolean {
  return req.accepts(['json', 'html']) === 'html'
}

/** An answer that is not what was hoped for: a page to a person, JSON to a program. */
export function refuse(
  req: Request,
  res: Response,
  status: number,
  { error, title, message }: { error: string; title: string; message: string },
): void {
  res.status(status)
  if (wantsPage(req)) res.send(refusalPage({ title, sentence: message }).text)
  else res.json({ error, message })
}

/**
 * Refuses to do what a page of another site asks for. Browsers say so in two headers (OWASP: Fetch Metadata,
 * verifying origin); a program sends neither, and has no cookies of anybody's.
 */
export function sameSite(baseUrl: string): RequestHandler {
  return (req, _res, next) => {
    const { origin, 'sec-fetch-site': site = 'none' } = req.headers
    const own = (site === 'same-origin' || site === 'none') && (origin === undefined || origin === baseUrl)
    if (own || req.method === 'GET' || req.method === 'HEAD') return next()
    next(new JitError('cross_site', `${req.path} was asked for by ${origin ?? site}, not by ${baseUrl}`))
  }
}
