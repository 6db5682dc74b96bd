import { type CodeRequest, escapeHtml as escaped } from '../lib/index.js'

/** A mail as nodemailer's `sendMail` takes it. */
export interface Mail {
  readonly from: string
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
  readonly headers: Readonly<Record<string, string>>
}

export interface MailFacts {
  readonly from: string
  readonly appName: string
  readonly request: CodeRequest
  readonly code: string
  /** Whole address of the link; null for a purpose without one. */
  readonly link: string | null
  readonly minutes: number
}

/**
 * The mail with a code. The code stands in the first line of the text and not in the subject: mail servers and
 * gateways log subjects, and a locked telephone shows them even where it hides the text. It stands alone and
 * unbroken, so that a double click selects it and programs that fill in codes find it. No images and nothing
 * loaded from elsewhere.
 */
export function mailOf({ from, appName, request, code, link, minutes }: MailFacts): Mail {
  const { address, purpose, site } = request
  const signIn = purpose === 'sign-in'
  const is = signIn
    ? `is your code to sign in to ${appName}`
    : `is your code to show ${appName} that this address is yours`
  const where = `Somebody asked for it at ${site} with the address ${address}.`
  const use = `Enter it in the browser where you asked for it. It works once, for ${minutes} minutes.`
  const or = `Or open this link, and confirm there that you want to sign in on that device:`
  const unasked = signIn
    ? 'If you did not ask for it, you need not do anything: nobody can sign in without this mail.'
    : 'If you did not ask for it, do not enter it anywhere: somebody may be trying to join another way to sign in to your account. Without this mail they cannot.'
  const warning = `Do not pass the code on. Nobody at ${appName} will ask you for it.`
  const text = [code, `${is}.`, `${where}\n${use}`, ...(link ? [`${or}\n${link}`] : []), unasked, warning]

  const p = (inner: string, style = '') => `<p style="margin:0 0 16px${style && `;${style}`}">${inner}</p>`
  const small = 'font-size:14px;color:#555'
  const html = [
    p(
      `<strong style="font:700 34px/1.2 ui-monospace,Consolas,monospace;letter-spacing:5px;user-select:all;-webkit-user-select:all">${code}</strong>`,
    ),
    p(`${escaped(is)}.`),
    p(escaped(use)),
    ...(link
      ? [p(`${escaped(or)}<br><a href="${escaped(link)}" style="word-break:break-all">${escaped(link)}</a>`)]
      : []),
    p(escaped(where), small),
    p(`${escaped(unasked)} ${escaped(warning)}`, small),
  ]
  return {
    from,
    to: address,
    subject: signIn ? `Your code to sign in to ${appName}` : `Your code to prove your address to ${appName}`,
    text: `${text.join('\n\n')}\n`,
    html: `<!doctype html><html lang="en"><meta charset="utf-8"><body style="margin:0;padding:24px;font:16px/1.5 system-ui,sans-serif"><div style="max-width:30em">${html.join('')}</div></body></html>`,
    // Keeps absence notes from answering (RFC 3834 §5).
    headers: { 'Auto-Submitted': 'auto-generated' },
  }
}
