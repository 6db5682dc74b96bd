import type { Request, Response } from 'express'
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
