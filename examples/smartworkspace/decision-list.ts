import type { Decision } from 'passport-jit'
import { outcomeOf } from './decisions.js'
import { type Html, html } from './html.js'
import { time } from './layout.js'
import type { Names } from './tenants.js'
import { outcomeWords, reasonSentences } from './words.js'

/** Decisions that open to show the rules that led to them and what was written. */
export function decisionList(decisions: readonly Decision[], names: Names): Html {
  const items = decisions.map((decision) => {
    const { change, at, reason, user, actor, source, correlationId } = decision
    const outcome = outcomeOf(decision)
    const byHand = reason === 'administered'
    const facts = decision.facts.map(
      ({ type, organization, detail }) =>
        html`<dt>${type}</dt><dd>${organization !== null && html`${names.organization(organization)} `}<span class="soft">${words(detail)}</span></dd>`,
    )
    const word = byHand ? 'by hand' : reason === 'guarded' ? 'held' : outcomeWords[outcome]
    const told = byHand ? deed(decision) : reason
    const place = names.place(decision) + (actor === null ? '' : ` · by ${names.person(actor)}`)
    return html`<li id="${change}"><details><summary><time class="soft" datetime="${new Date(at).toISOString()}">${time(at)}</time>
<span class="tag ${outcome}">${word}</span><span class="who"><b>${whom(decision, names)}</b> <span class="soft">${place}</span></span>
<code class="soft small">${told}</code></summary>
<div class="inside"><p>${reasonSentences[reason]}</p>${!byHand && traceList(decision)}
<dl class="trace">${facts}<dt>whose word</dt><dd>${actor !== null ? names.person(actor) : (source ?? 'the kit itself')}</dd>
${user !== null && html`<dt>user</dt><dd><code>${user}</code></dd>`}<dt>decision</dt><dd><code>${change}</code></dd>
<dt>correlation</dt><dd><code>${correlationId}</code></dd></dl></div></details></li>`
  })
  return html`<ul class="log" id="log">${items}</ul>`
}

/** What a person did, such as `granted editor`. */
function deed({ facts }: Pick<Decision, 'facts'>): string {
  const { type, detail } = facts[0]!
  return typeof detail.role === 'string' ? `${type} ${detail.role}` : type
}

/** Whom it is about; where it is about nobody, what. */
function whom({ user, reason, facts }: Decision, names: Names): string {
  if (user !== null) return names.person(user)
  const connection = facts.find(({ detail }) => typeof detail.connection === 'string')?.detail.connection
  if (typeof connection === 'string') return connection
  return reason === 'administered' ? 'an invitation' : 'somebody unknown'
}

/** An event's own facts, such as `role member · source sso:acme`; of hashes only the beginning. */
function words(detail: Readonly<Record<string, unknown>>): string {
  const word = (value: unknown): string => {
    if (Array.isArray(value)) return value.map(word).join(', ')
    if (typeof value === 'object' && value !== null) {
      return Object.entries(value)
        .map(([name, inner]) => `${name} ${word(inner)}`)
        .join(', ')
    }
    const text = String(value)
    return text.length > 40 ? `${text.slice(0, 8)}…` : text
  }
  return Object.entries(detail)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name} ${word(value)}`)
    .join(' · ')
}

/** The rules that were asked and what they found, or what a person did. */
export function traceList({ trace, facts }: Pick<Decision, 'trace' | 'facts'>): Html {
  if (trace.length === 0) return html`<p><code>${deed({ facts })}</code></p>`
  const rules = trace.map(
    ({ rule, finding, detail }) =>
      html`<dt>${rule}</dt><dd><code>${finding.replaceAll('_', ' ')}</code>${detail && html` <span class="soft">${detail}</span>`}</dd>`,
  )
  return html`<dl class="trace">${rules}</dl>`
}
