import type { Decision, JitResult, JitUser, Organization } from 'passport-jit'
import { outcomeOf } from './decisions.js'
import { type Html, html } from './html.js'
import { face, layout, refreshing, time } from './layout.js'
import { outcomeWords, reasonSentences, sourceSentence } from './words.js'

export function workspacePage(options: {
  user: JitUser
  jit: JitResult
  organizations: ReadonlyMap<string, Organization>
  /** What the person knows the way in by. */
  via: string
  inbox: boolean
  /** This person's decisions, newest first. */
  decisions: readonly Decision[]
}): Html {
  const { user, jit, organizations, via, inbox, decisions } = options
  const name = user.attributes.name ?? user.email ?? 'you'
  const nameOf = (id: string) => organizations.get(id)?.name ?? id
  const memberships = user.memberships.map((membership) => {
    const organization = nameOf(membership.organization)
    const roles = membership.grants.map(({ role, source }) => {
      const given = givenBy(decisions, membership.organization, role, source)
      return html`<li><b>${role}</b> <span class="soft">${sourceSentence(source, organization)}</span>
${given && html`<p class="soft small">${given.words}${given.words && ', '}since <a href="/decisions#${given.id}">${time(given.at)}</a></p>`}</li>`
    })
    return html`<section class="card"><div class="head">${face(organization)}<h2>${organization}</h2>
<span class="tag ${membership.active && 'active'}">${membership.active ? 'active' : 'not in this session'}</span></div>
${roles.length > 0 ? html`<ul class="roles">${roles}</ul>` : html`<p class="soft">No roles yet.</p>`}</section>`
  })
  const fact = (label: string, values: readonly string[]) =>
    values.length > 0 && html`<dt>${label}</dt><dd>${values.join(', ')}</dd>`
  const latest = decisions[0]
  return layout(
    'Workspace',
    html`<h1>Hello, ${name}</h1>
<p class="lead">${user.email ?? 'No proved e-mail address'} · signed in by ${via}</p>
<div class="columns"><div>${memberships.length > 0 ? memberships : html`<section class="card"><h2>No memberships</h2><p class="soft">You have an account and belong to no organization.</p></section>`}</div>
<div><section class="card"><div class="head"><h2>What this sign-in did</h2><span class="tag ${jit.outcome}">${outcomeWords[jit.outcome]}</span></div>
<p>${reasonSentences[jit.reason]}</p>
<dl>${fact('joined', jit.joined.map(nameOf))}${fact('roles given', jit.granted)}${fact('roles taken', jit.revoked)}
<dt>reason</dt><dd><code>${jit.reason}</code></dd></dl></section>
${latest && html`<section class="card"><h2>Why: the latest decision on your account</h2><p class="soft small">${time(latest.at)} · ${reasonSentences[latest.reason]}</p>${traceList(latest)}</section>`}
</div></div>`,
    { here: '/', signedIn: true, inbox },
  )
}

/** The decision that gave a role, in the words of its trace. */
function givenBy(decisions: readonly Decision[], organization: string, role: string, source: string) {
  for (const { change: id, at, facts } of decisions) {
    const event = facts.find(
      (entry) =>
        entry.type === 'granted' &&
        entry.organization === organization &&
        entry.detail.role === role &&
        entry.detail.source === source,
    )
    if (event) return { id, at, words: typeof event.detail.because === 'string' ? event.detail.because : '' }
  }
  return null
}

export function decisionsPage(options: {
  decisions: readonly Decision[]
  /** Names of users by id. */
  people: ReadonlyMap<string, string>
  placeOf: (of: { organization: string | null; source?: string | null }) => string
  /** What the kit finds odd about the policies. */
  warnings: readonly string[]
  inbox: boolean
}): Html {
  const { decisions, people, placeOf, warnings, inbox } = options
  const items = decisions.map((decision) => {
    const { change: id, at, reason, user, source, correlationId } = decision
    const outcome = outcomeOf(decision)
    const facts = decision.facts.map(
      ({ type, organization: where, detail }) =>
        html`<dt>${type}</dt><dd>${where && html`${placeOf({ organization: where })} `}<span class="soft">${words(detail)}</span></dd>`,
    )
    return html`<li id="${id}"><details><summary><time class="soft" datetime="${new Date(at).toISOString()}">${time(at)}</time>
<span class="tag ${outcome}">${outcomeWords[outcome]}</span><span class="who"><b>${user ? (people.get(user) ?? user) : 'somebody unknown'}</b> <span class="soft">${placeOf(decision)}</span></span>
<code class="soft small">${reason}</code></summary>
<div class="inside"><p>${reasonSentences[reason]}</p>${traceList(decision)}
<dl class="trace">${facts}<dt>source</dt><dd>${source ?? 'a person'}</dd><dt>correlation</dt><dd><code>${correlationId}</code></dd></dl></div></details></li>`
  })
  return layout(
    'Decisions',
    html`<h1>Decisions</h1>
<p class="lead"><span id="live" class="live">Live.</span> Every sign-in that changed something or was refused, newest first (times in UTC). Open one to see the rules that led to it.</p>
${warnings.length > 0 && html`<section class="card warnings"><div class="head"><h2>Policies that may not do what they seem to</h2><span class="tag updated">${warnings.length === 1 ? '1 warning' : `${warnings.length} warnings`}</span></div><ul class="roles">${warnings.map((warning) => html`<li>${warning}</li>`)}</ul></section>`}
${decisions.length === 0 && html`<p id="empty" class="card soft empty">Nobody has signed in yet.</p>`}
<ul class="log" id="log">${items}</ul><script type="module" src="/live.js"></script>`,
    { here: '/decisions', inbox, head: refreshing },
  )
}

/** An event's own facts, such as `role member · source sso:acme`. */
function words(detail: Readonly<Record<string, unknown>>): string {
  return Object.entries(detail)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join(', ') : value}`)
    .join(' · ')
}

function traceList({ trace }: Decision): Html {
  if (trace.length === 0) return html`<p class="soft small">No rules were asked.</p>`
  const rules = trace.map(
    ({ rule, finding, detail }) =>
      html`<dt>${rule}</dt><dd><code>${finding.replaceAll('_', ' ')}</code>${detail && html` <span class="soft">${detail}</span>`}</dd>`,
  )
  return html`<dl class="trace">${rules}</dl>`
}
