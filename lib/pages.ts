import type { IncomingMessage, ServerResponse } from 'node:http'

/** Whether a person looks at the answer, rather than a program. */
export const wantsHtml = (req: IncomingMessage) => (req.headers.accept ?? '').includes('text/html')

/** Of the kit's own pages: a card of one column, whose buttons and lone links are as wide as a thumb wants them. */
const style = `:root{color-scheme:light dark;--ground:#f4f5f9;--card:#fff;--ink:#1c2233;--line:#d5d9e5;--act:#3b4fd1;--on:#fff}
@media(prefers-color-scheme:dark){:root{--ground:#13151d;--card:#1d202b;--ink:#e8eaf2;--line:#3a3f51;--act:#9aa7ff;--on:#13151d}}
*{box-sizing:border-box}body{margin:0;padding:10vh 1rem 2rem;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:27rem;margin:0 auto;padding:1.75rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.25;margin:0 0 1rem}p{margin:0 0 1rem}main>:last-child{margin-bottom:0}
form,ul{margin:0 0 1rem;padding:0}ul{list-style:none}li{margin:.6rem 0}a{color:var(--act)}
button,p:not(.note)>a:only-child,li>a{display:block;width:100%;padding:.65rem 1.1rem;border:1px solid var(--line);border-radius:.65rem;text-align:center;text-decoration:none;color:inherit}
button{font:inherit;font-weight:600;background:var(--act);border-color:var(--act);color:var(--on);cursor:pointer}
label{display:block;margin-bottom:1rem}form p{margin:0}
input[name=code]{display:block;width:100%;margin-top:.25rem;padding:.5rem .8rem;font:600 1.5rem/1.4 ui-monospace,Consolas,monospace;letter-spacing:.3em;background:transparent;color:inherit;border:1px solid var(--line);border-radius:.65rem}
:focus-visible{outline:2px solid var(--act);outline-offset:2px}.note{opacity:.7;font-size:.8rem}`

/** The kit's own plain page, its title as text and its body as HTML; an app that wants its own look answers these steps on paths of its own. */
export function page(res: ServerResponse, status: number, title: string, body: string, head = ''): void {
  res.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'content-security-policy':
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    // No address of ours goes anywhere. Under "no-referrer" the origin of our own forms would not, and where browsers
    // send no Sec-Fetch-Site (plain http, Safari before 16.4) they would be taken for another site's.
    'referrer-policy': 'strict-origin',
  })
  res.end(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">${head}
<title>${escapeHtml(title)}</title><style>${style}</style>
<main><h1>${escapeHtml(title)}</h1>${body}</main></html>`)
}

export function json(res: ServerResponse, status: number, value: unknown): void {
  res.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' })
  res.end(JSON.stringify(value))
}

/** A form of one button, posted to a path of our own. */
export function form(action: string, fields: Readonly<Record<string, string>>, inner: string): string {
  const hidden = Object.entries(fields).map(
    ([name, value]) => `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`,
  )
  return `<form method="post" action="${escapeHtml(action)}">${hidden.join('')}${inner}</form>`
}

/** The form that takes a mailed code; a pasted one may have spaces in it. */
export const codeForm = (action: string, fields: Readonly<Record<string, string>>) =>
  form(
    action,
    fields,
    `<p><label>Code <input name="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" maxlength="12" required autofocus></label>
<button>Continue</button></p>`,
  )

/** Text as HTML that says the same, in content and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}
