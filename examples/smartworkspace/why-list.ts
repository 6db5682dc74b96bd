import type { Origin, Why } from 'passport-jit'
import { type Html, html } from './html.js'
import { minute, short } from './layout.js'
import type { Names } from './tenants.js'
import { absenceWords, grantWords } from './words.js'

export interface WhyOptions {
  readonly names: Names
  /** The page that lists the decisions; null where the reader may not open it. */
  readonly decisions: string | null
  /** What may be done about a role; shown where the role is listed first. */
  readonly doing?: (role: string) => Html
}

/** Each role with why it is held. */
export function whyGrants({ grants }: Why, options: WhyOptions): Html {
  const items = grants.map(({ role, source, origin }, index) => {
    const first = grants.findIndex((grant) => grant.role === role) === index
    return html`<li><div class="line"><div><b>${role}</b> <span class="soft">${grantWords({ source }, origin)}</span>
<p class="soft small">${since(origin, options)}</p></div>${first && options.doing?.(role)}</div></li>`
  })
  return html`<ul class="roles">${items}</ul>`
}

/** What is not there, and why; nothing where nothing is missed. */
export function whyAbsent({ absent }: Why, options: WhyOptions): Html | null {
  if (absent.length === 0) return null
  const items = absent.map(
    (absence) => html`<li>${absenceWords(absence)}
<p class="soft small">${since(absence.origin, options)}</p></li>`,
  )
  return html`<ul class="roles absent">${items}</ul>`
}

/** When it was decided, by whom, and where to read more. */
function since(origin: Origin | null, { names, decisions }: WhyOptions): Html {
  if (!origin) return html`older than the audit trail`
  const { since, decision, actor } = origin
  const id = html`<code>${short(decision)}</code>`
  return html`${actor !== null && `by ${names.person(actor)}, `}since ${minute(since)}, decision ${decisions === null ? id : html`<a href="${decisions}#${decision}">${id}</a>`}`
}
