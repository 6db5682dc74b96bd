import { type Html, html } from './html.js'
import { layout, refreshing, time } from './layout.js'
import type { SentMail } from './mail.js'

/** What a mail may do in the page: be looked at, and open its links elsewhere. */
const sandbox = 'allow-popups allow-popups-to-escape-sandbox'

/** Response headers of a mail on its own: no scripts, nothing loaded, and an origin that is nobody's. */
export const mailHeaders = {
  'content-security-policy': `sandbox ${sandbox}; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'`,
  'content-type': 'text/html; charset=utf-8',
} as const

/** A mail's own HTML; its links open in a tab of their own, as those of a mail program do. */
export const mailDocument = ({ html: body }: SentMail): string =>
  body.replace(/<meta charset="utf-8">/, '$&<base target="_blank">')

export function inboxPage(mails: readonly SentMail[]): Html {
  const items = mails.map(
    ({
      id,
      at,
      to,
      subject,
      text,
    }) => html`<li id="${id}"><div class="mail"><div class="head"><h2>${subject}</h2><span class="soft small"><time datetime="${new Date(at).toISOString()}">${time(at)}</time></span></div>
<p class="small">to <b>${to}</b></p>
<div class="columns"><iframe src="/inbox/${id}" sandbox="${sandbox}" loading="lazy" title="The mail to ${to} as HTML"></iframe><pre aria-label="The mail as text">${text}</pre></div></div></li>`,
  )
  return layout(
    'Inbox',
    html`<h1>Inbox</h1>
<p class="lead"><span id="live" class="live">Live.</span> This page stands in for everybody’s mailbox, because the people of the demo have none. No mail leaves this machine. Each mail is shown as HTML and as text, newest first (times in UTC).</p>
${mails.length === 0 && html`<p id="empty" class="card soft empty">No mail yet. <a href="/">Type an address</a> on the sign-in page to have a code mailed.</p>`}
<ul class="log" id="log">${items}</ul><script type="module" src="/live.js"></script>`,
    { here: '/inbox', inbox: true, head: refreshing },
  )
}
