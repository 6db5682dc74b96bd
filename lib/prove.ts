import type { ServerResponse } from 'node:http'
import { keepCodeToken } from './attempt.js'
import { isSecure } from './authenticate.js'
import { codePage, redeemTyped, sendCode } from './email.js'
import { JitError } from './errors.js'
import { assertIdentity } from './identity.js'
import { readIncoming } from './incoming.js'
import type { MiddlewarePorts, PassportRequest } from './middleware.js'
import { escapeHtml, form, json, page, wantsHtml } from './pages.js'
import { putWaiting, signIn, takeWaiting } from './sign-in.js'
import { single } from './strategy.js'

/**
 * `/prove`: somebody signed in with an address that an account here already carries, by a way in that does not
 * answer for it. They prove it by a mailed code, or by signing in the way they did before; then the waiting
 * sign-in completes, for that identity, that account and this browser only.
 *
 * `GET ?ticket=` offers both; `POST ticket` mails the code; `POST email, code` completes.
 */
export async function prove(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
): Promise<void> {
  const incoming = await readIncoming(req, 'form or JSON')
  const ticket = single(incoming.body ?? incoming.query, 'ticket')
  if (incoming.method === 'GET') return offer(ports, req, res, ticket, single(incoming.query, 'by'))
  return ticket === undefined ? complete(ports, req, res, incoming.body) : mail(ports, req, res, ticket)
}

/** Reads nothing, so that looking at the page neither uses the ticket nor tells what waits. */
async function offer(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
  ticket: string | undefined,
  by: string | undefined,
) {
  if (!ticket) throw nothingWaits()
  const byCode = ports.email !== null
  // The provider they have just come by proves nothing more the second time.
  const social = (await ports.directory.providers()).filter(
    ({ id, protocol }) => protocol === 'social' && id !== by,
  )
  const ways = social.map(({ id, ...provider }) => ({
    name: ('name' in provider && provider.name) || id,
    start: `${ports.path}/social/${id}?waiting=${encodeURIComponent(ticket)}`,
  }))
  if (!wantsHtml(req)) return json(res, 200, { proof: 'required', ticket, byCode, ways })
  const links = ways.map(
    ({ name, start }) => `<li><a href="${escapeHtml(start)}">${escapeHtml(name)}</a></li>`,
  )
  const button = byCode ? form(`${ports.path}/prove`, { ticket }, '<button>Mail me a code</button>') : ''
  const before = links.length > 0 ? `<p>Or sign in the way you did before:</p><ul>${links.join('')}</ul>` : ''
  page(
    res,
    200,
    'Is this account yours?',
    `<p>Somebody here already uses that e-mail address. Show that it is you, and the two are joined.</p>${button}${before}`,
  )
}

async function mail(ports: MiddlewarePorts, req: PassportRequest, res: ServerResponse, ticket: string) {
  const waiting = await takeWaiting(ports, req, res, ticket)
  if (!waiting) throw nothingWaits()
  // It waits on under the same ticket, until it is completed: for another mail, or for signing in as before.
  await putWaiting(ports, req, res, ticket, waiting)
  const { address } = waiting.proof
  await sendCode(ports, req, res, { address, purpose: 'prove', keep: ticket, linkTo: null })
  if (!wantsHtml(req)) return json(res, 200, { sent: true })
  const id = waiting.identity.source.slice('provider:'.length)
  const provider = await ports.directory.provider(id)
  const name = (provider && 'name' in provider && provider.name) || id
  const note = `<p>Enter it only if it was you who signed in with <strong>${escapeHtml(name)}</strong> just now: from then on that opens this account too.</p>`
  codePage(ports, res, `${ports.path}/prove`, address, { note })
}

async function complete(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
  body: URLSearchParams | null,
) {
  const proved = await redeemTyped(ports, req, res, body, 'prove')
  if (!proved) return
  keepCodeToken(res, null, 0, isSecure(ports.baseUrl))
  const waiting = await takeWaiting(ports, req, res, proved.keep)
  if (!waiting || waiting.proof.address !== proved.address) throw nothingWaits()
  const { identity, proof, returnTo } = waiting
  const { location } = await signIn(ports, req, res, assertIdentity(identity), { returnTo, proof })
  if (wantsHtml(req)) res.writeHead(303, { location }).end()
  else json(res, 200, { location })
}

const nothingWaits = () =>
  new JitError('attempt_unknown', 'no sign-in waits for this proof in this browser (expired, or completed)')
