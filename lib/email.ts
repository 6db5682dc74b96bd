import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { codeToken, keepCodeToken, returnAddress } from './attempt.js'
import { isSecure } from './authenticate.js'
import { discover, type WayIn } from './discovery.js'
import { JitError } from './errors.js'
import { assertIdentity, normalizeEmail } from './identity.js'
import { readIncoming } from './incoming.js'
import { clientOf, countClient } from './limits.js'
import type { MiddlewarePorts, PassportRequest } from './middleware.js'
import { codeForm, escapeHtml, form, json, page, wantsHtml } from './pages.js'
import { signIn } from './sign-in.js'
import {
  type CodeProof,
  type CodeRequest,
  codeLifetime,
  type EmailServices,
  type EmailStrategy,
  single,
} from './strategy.js'

/** `POST /discover`: the ways in for an address, from the directory alone. */
export async function discoverWays(
  ports: MiddlewarePorts,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  await countClient(ports.limits, 'starts', req)
  const { body } = await readIncoming(req, ports.until(req), 'form or JSON')
  const email = addressOf(single(body, 'email'))
  const returnTo = returnAddress(single(body, 'returnTo'), ports)
  const ways = await waysIn(ports, email.domain, returnTo)
  if (!wantsHtml(req)) return json(res, 200, { ways })
  const href = ({ start }: WayIn) => escapeHtml(start)
  const [only] = ways
  if (only?.kind === 'sso' && ways.length === 1) {
    // A refresh and not a redirect: a page whose policy confines its forms would not let a redirect leave.
    const head = `<meta http-equiv="refresh" content="0; url=${href(only)}">`
    return page(res, 200, `Sign in with ${only.name}`, `<p><a href="${href(only)}">Continue</a></p>`, head)
  }
  const offers = ways.map((way) =>
    way.kind === 'email'
      ? form(way.start, { email: email.address, returnTo }, '<button>Mail me a code</button>')
      : `<p><a href="${href(way)}">Continue with ${escapeHtml(way.name)}</a></p>`,
  )
  page(
    res,
    200,
    'How do you want to sign in?',
    `<p class="note">You typed <strong>${escapeHtml(email.address)}</strong>. <a href="${escapeHtml(ports.returnTo)}">Not you?</a></p>${
      offers.join('') || '<p>There is no way to sign in with that address.</p>'
    }`,
  )
}

/** `POST /email`: mails a code, whoever the address belongs to; an address that SSO owns is sent there. */
export async function mailCode(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
): Promise<void> {
  await countClient(ports.limits, 'starts', req)
  const { body } = await readIncoming(req, ports.until(req), 'form or JSON')
  const email = addressOf(single(body, 'email'))
  await enabledEmail(ports)
  const returnTo = returnAddress(single(body, 'returnTo'), ports)
  const { sso } = await ports.directory.domain(email.domain)
  if (sso.length > 0) {
    const ways = await waysIn(ports, email.domain, returnTo)
    throw new JitError(
      'sso_required',
      `${email.domain} is owned by SSO: ${sso.map(({ id }) => id).join(', ')}`,
      { ways },
    )
  }
  await sendCode(ports, req, res, {
    address: email.address,
    purpose: 'sign-in',
    keep: returnTo,
    linkTo: `${ports.baseUrl}${ports.path}/email/verify`,
  })
  if (!wantsHtml(req)) return json(res, 200, { sent: true })
  codePage(ports, res, `${ports.path}/email/verify`, email.address)
}

/**
 * `GET /email/verify` shows what a link would do; `POST` redeems a code or a link and signs in. A link signs in
 * the browser whose button was pressed, whoever asked for it.
 */
export async function redeemCode(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
): Promise<void> {
  const incoming = await readIncoming(req, ports.until(req), 'form or JSON')
  if (incoming.method === 'GET') {
    // Scanners and previews follow links, so a GET neither consumes nor signs in.
    const link = single(incoming.query, 'link')
    if (link === undefined) throw new JitError('code_wrong', 'the address of the link has no "link" in it')
    const button = form(`${ports.path}/email/verify`, { link }, '<button>Sign in on this device</button>')
    const already = (req.user as { email?: string | null } | undefined)?.email
    const leaving = already ? `<p>You are signed in as <strong>${escapeHtml(already)}</strong> now.</p>` : ''
    const note =
      '<p>You will be signed in with the address that the mail came to. Use this only if you asked for it yourself.</p>'
    return page(res, 200, 'Sign in?', note + leaving + button)
  }
  const provider = await enabledEmail(ports)
  const link = single(incoming.body, 'link')
  const proof =
    link === undefined
      ? await redeemTyped(ports, req, res, incoming.body, 'sign-in')
      : await emailOf(ports).redeem({ link, ip: clientOf(req) }, 'sign-in', emailServices(ports))
  if (!proof) return
  const { address, keep } = proof
  keepCodeToken(res, null, 0, isSecure(ports.baseUrl))
  const identity = assertIdentity({
    source: 'provider:email',
    sourceVersion: provider.version,
    issuer: ports.baseUrl,
    subject: address,
    email: address,
    emailVerified: 'yes',
    at: ports.now(),
  })
  const { location } = await signIn(ports, req, res, identity, { returnTo: keep })
  if (wantsHtml(req)) res.writeHead(303, { location }).end()
  else json(res, 200, { location })
}

/** Mails a code for a purpose and keeps its token in this browser. */
export async function sendCode(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
  request: Pick<CodeRequest, 'address' | 'purpose' | 'keep' | 'linkTo'>,
): Promise<void> {
  const secure = isSecure(ports.baseUrl)
  const token = await emailOf(ports).send(
    { ...request, site: ports.baseUrl, ip: clientOf(req), previous: codeToken(req, secure) },
    emailServices(ports),
  )
  keepCodeToken(res, token, codeLifetime, secure)
}

/**
 * Redeems what a code form posts: the code, the address it is for, and this browser's token. To a person a wrong
 * code is answered by the form again, and with null.
 */
export async function redeemTyped(
  ports: MiddlewarePorts,
  req: PassportRequest,
  res: ServerResponse,
  body: URLSearchParams | null,
  purpose: CodeRequest['purpose'],
): Promise<CodeProof | null> {
  const code = (single(body, 'code') ?? '').replaceAll(' ', '')
  const { address } = addressOf(single(body, 'email'))
  try {
    const token = codeToken(req, isSecure(ports.baseUrl))
    if (token === undefined) throw new JitError('code_wrong', 'this browser asked for no code')
    const answer = { token, address, code, ip: clientOf(req) }
    return await emailOf(ports).redeem(answer, purpose, emailServices(ports))
  } catch (error) {
    if (!(error instanceof JitError) || error.code !== 'code_wrong' || !wantsHtml(req)) throw error
    const { status, publicMessage } = ports.refused(error, req)
    codePage(ports, res, req.url!.split('?')[0]!, address, { status, publicMessage })
    return null
  }
}

/** Asks for the mailed code; after a wrong one, again. */
export function codePage(
  ports: Pick<MiddlewarePorts, 'returnTo'>,
  res: ServerResponse,
  action: string,
  address: string,
  { status = 200, publicMessage = '', note = '' } = {},
): void {
  const said = publicMessage
    ? `<p>${escapeHtml(publicMessage)}</p>`
    : `<p>We have mailed a code to <strong>${escapeHtml(address)}</strong>. It is good for ten minutes.</p>`
  const title = status === 200 ? 'Check your mail' : 'That did not work'
  const back = `<p class="note">Nothing came, or it is too late? <a href="${escapeHtml(ports.returnTo)}">Start again</a> and ask for another.</p>`
  page(res, status, title, said + note + codeForm(action, { email: address }) + back)
}

export function emailOf(ports: MiddlewarePorts): EmailStrategy {
  if (ports.email) return ports.email
  throw new JitError('config_invalid', 'mailing a code needs emailStrategy() in createJit({ strategies })')
}

export const emailServices = ({ now, once }: MiddlewarePorts): EmailServices => ({
  now,
  once,
  random: (bytes) => randomBytes(bytes),
})

async function enabledEmail({ directory }: MiddlewarePorts) {
  const provider = await directory.provider('email')
  if (provider) return provider
  throw new JitError(
    'connection_unknown',
    'the e-mail method is not enabled in the directory (email.enabled)',
  )
}

async function waysIn(ports: MiddlewarePorts, domain: string, returnTo: string): Promise<WayIn[]> {
  const { directory, path } = ports
  const elsewhere = returnTo === ports.returnTo ? undefined : returnTo
  return discover(await directory.domain(domain), await directory.providers(), path, elsewhere)
}

/** A typed address; of what is around it only spaces are dropped, which keyboards put there. */
function addressOf(typed: string | undefined) {
  const email = /^[\x20-\x7e]{1,300}$/.test(typed ?? '') ? normalizeEmail(typed!.trim()) : null
  if (email) return email
  throw new JitError('email_invalid', 'the field "email" holds no plain ASCII address')
}
