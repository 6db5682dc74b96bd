import { type Html, html } from './html.js'

export interface Frame {
  /** Path of the page, which is marked in the navigation. */
  readonly here?: string
  readonly signedIn?: boolean
  /** Whether the navigation leads to the on-screen inbox. */
  readonly inbox?: boolean
  readonly head?: Html
}

/** What every page of the app has around it. */
export function layout(title: string, body: Html, { here, signedIn, inbox, head }: Frame): Html {
  const link = (to: string, label: string) =>
    html`<a href="${to}"${to === here && html` aria-current="page"`}>${label}</a>`
  return html`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title} · Smartworkspace</title><link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/style.css">${head}</head>
<body><header class="top"><a class="brand" href="/"><i></i>Smartworkspace</a><nav>${inbox && link('/inbox', 'Inbox')}${link('/decisions', 'Decisions')}${link('/operator', 'Operator')}</nav>
${signedIn && html`<form method="post" action="/auth/logout"><button class="button quiet">Sign out</button></form>`}</header>
<main>${body}</main><footer>The demo of passport-jit.</footer></body></html>`
}

/** What a list that takes in new entries by itself asks for where there are no scripts. */
export const refreshing = html`<noscript><meta http-equiv="refresh" content="5"></noscript>`

export function face(name: string, shape = ''): Html {
  const initials = [...name.matchAll(/\b\w/g)].slice(0, 2).join('').toUpperCase()
  const colour = [...name].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) % 997, 7) % 6
  return html`<span class="face f${colour} ${shape}" aria-hidden="true">${initials}</span>`
}

/** Enough of an id to tell it from others. */
export const short = (id: string): string => (id.length > 20 ? id.slice(0, 8) : id)

/** Day and minute in UTC. */
export function minute(at: number): string {
  return new Date(at).toISOString().slice(0, 16).replace('T', ' ')
}

/** The time of day in UTC, as the audit trail keeps it. */
export function time(at: number): string {
  return new Date(at).toISOString().slice(11, 19)
}

export interface Refusal {
  readonly title: string
  readonly sentence: string
  /** What to quote to the operator: the error's code and its correlation id. */
  readonly code?: string | undefined
  readonly correlationId?: string | undefined
  /** Where to go on; the sign-in page by default. */
  readonly back?: { readonly to: string; readonly label: string }
  /** Ways in to take instead. */
  readonly ways?: readonly { readonly name: string; readonly start: string }[]
}

const start = { to: '/', label: 'Back to the sign-in page' }

export function refusalPage(refusal: Refusal): Html {
  const { title, sentence, code, correlationId, back = start, ways = [] } = refusal
  const offers = ways.map(
    ({ name, start }) =>
      html`<a class="way" href="${start}">${face(name)}<span><b>Sign in with ${name}</b></span></a>`,
  )
  return layout(
    title,
    html`<section class="card refusal"><h1>${title}</h1><p>${sentence}</p>
${offers.length > 0 && html`<div class="ways">${offers}</div>`}
<p><a class="button ${offers.length > 0 && 'quiet'}" href="${back.to}">${back.label}</a></p>
${code && html`<p class="soft small"><code>${code}</code>${correlationId && ` · ${correlationId}`}</p>`}</section>`,
    {},
  )
}
