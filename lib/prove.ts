import type { ServerResponse } from 'node:http'
import { keepCodeToken } from './attempt.js'
import { isSecure } from './authenticate.js'
import { codePage, redeemTyped, sendCode } from './email.js'
import { JitError } from './errors.js'
import { assertIdentity } from './identity.js'
import { readIncoming } from './incoming.js'
import { countClient } from './limits.js'
import type { MiddlewarePorts, PassportRequest } from './middleware.js'
import { escapeHtml, form, json, page, wantsHtml } from './pages.js'
import { idPattern } from './policy.js'
import { putWaiting, signIn, takeWaiting } from './sign-in.js'
import { single } from './strategy.js'

/**
 * `/prove`: somebody signed in with an address that an account here already carries, by a way in that does not
 * answer for it. They prove it by a mailed code, or by signing in the way they did before; then the waiting
 * sign-in completes, for that identity, that account and this browser only. Where the account had another subject
 * of this very connection the mailbox may be somebody else's by now, so that signing in as before alone will do.
 *
 * `GET ?ticket=` offers both, with `ways` those alone; `POST ticket` mails the code; `POST email, code` completes.
 */
export async function prove(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
): Promise<void> {
  const incoming = await readIncoming(req, ports.until(req), 'form or JSON')
  const ticket = single(incoming.body ?? incoming.query, 'ticket')
  if (incoming.method === 'GET') return offer(ports, req, res, ticket, incoming.query)
  return ticket === undefined ? complete(ports, req, res, incoming.body) : mail(ports, req, res, ticket)
}

/**
 * Reads nothing that waits, so that looking at the page neither uses the ticket nor tells what waits. The address
 * of the page names ways in; whatever it names, they lead to sign-ins like any other.
 */
async function offer(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
  ticket: string | undefined,
  query: URLSearchParams,
) {
  if (!ticket) throw nothingWaits()
  await countClient(ports.limits, 'starts', req)
  const named = single(query, 'ways')?.split(',')
  const byCode = ports.email !== null && named === undefined
  // The provider they have just come by proves nothing more the second time.
  const by = single(query, 'by')
  const sources =
    named ??
    (await ports.directory.providers()).filter(({ id }) => id !== by).map(({ id }) => `provider:${id}`)
  // What is named here comes from whoever wrote the address: no more is read than an account has ways in.
  const found = await Promise.all(sources.slice(0, 20).map((source) => wayBy(ports, source)))
  const ways = found.flatMap((way) =>
    way === null
      ? []
      : { name: way.name, start: `${ports.path}/${way.start}?waiting=${encodeURIComponent(ticket)}` },
  )
  if (!wantsHtml(req)) return json(res, 200, { proof: 'required', ticket, byCode, ways })
  const links = ways.map(
    ({ name, start }) => `<li><a href="${escapeHtml(start)}">${escapeHtml(name)}</a></li>`,
  )
  const button = byCode ? form(`${ports.path}/prove`, { ticket }, '<button>Mail me a code</button>') : ''
  const before =
    links.length > 0
      ? `<p>${byCode ? 'Or sign' : 'Sign'} in the way you did before:</p><ul>${links.join('')}</ul>`
      : ''
  const none = `<p>Sign in the way you did before: <a href="${escapeHtml(ports.returnTo)}">back to the start</a>.</p>`
  const why = named
    ? 'Your account here belongs to another login. Show that it is yours, and it goes on with this one.'
    : 'Somebody here already uses that e-mail address. Show that it is you, and the two are joined.'
  page(res, 200, 'Is this account yours?', `<p>${why}</p>${button + before || none}`)
}

/** An enabled way in that ends at an IdP or a social provider: what a link says, and its path. */
async function wayBy({ directory }: MiddlewarePorts, source: string) {
  const [kind, id] = source.split(/:(.*)/s) as [string, string?]
  if (id === undefined || !idPattern.test(id)) return null
  if (kind === 'provider') {
    const provider = await directory.provider(id)
    return provider?.protocol === 'social'
      ? { name: provider.name ?? provider.id, start: `social/${id}` }
      : null
  }
  const connection = kind === 'connection' ? await directory.connection(id) : null
  if (!connection?.enabled) return null
  const organization = await directory.organization(connection.organization)
  return organization && { name: `${organization.name} (${connection.id})`, start: `sso/${connection.id}` }
}

async function mail(ports: MiddlewarePorts, req: PassportRequest, res: ServerResponse, ticket: string) {
  const waiting = await takeWaiting(ports, req, res, ticket)
  if (!waiting) throw nothingWaits()
  // It waits on under the same ticket, until it is completed: for another mail, or for signing in as before.
  await putWaiting(ports, req, res, ticket, waiting)
  const { address, by } = waiting.proof
  if (by === 'account') {
    throw new JitError('proof_required', 'a code to the address is no proof of the account it once led to')
  }
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
  if (waiting?.proof.by !== 'address' || waiting.proof.address !== proved.address) throw nothingWaits()
  const { identity, proof, returnTo } = waiting
  // Where the app issues tokens there is none; the two are joined then, and the next sign-in finds them so.
  const session = req.session !== undefined && req.logIn !== undefined
  const { location } = await signIn(ports, req, res, assertIdentity(identity), { returnTo, proof, session })
  if (wantsHtml(req)) res.writeHead(303, { location }).end()
  else json(res, 200, { location })
}

const nothingWaits = () =>
  new JitError('attempt_unknown', 'no sign-in waits for this proof in this browser (expired, or completed)')
