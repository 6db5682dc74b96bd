import type { Connection, JitResult, JitUser, Organization } from 'passport-jit'
import type { Decision } from './decisions.js'
import { type Html, html } from './html.js'
import { outcomeWords, reasonSentences, sourceSentence } from './words.js'

/** Somebody to try the demo as, and what to expect. */
export interface Suggestion {
  readonly name: string
  readonly email: string
  readonly signsInAt: string
  readonly expect: string
}

export interface Way {
  readonly connection: Connection
  readonly organization: Organization
}

export function signInPage(ways: readonly Way[], baseUrl: string, suggestions: readonly Suggestion[]): Html {
  const buttons = ways.map(({ connection, organization }) => {
    // Absolute, because a sign-in has to begin on the host that it comes back to.
    return html`<a class="way" href="${baseUrl}/auth/sso/${connection.id}">${face(organization.name)}
<span><b>${organization.name}</b><small class="soft">${describeJit(connection)}</small></span><span class="tag">${connection.protocol.toUpperCase()}</span></a>`
  })
  const people = suggestions.map(
    ({ name, email, signsInAt, expect }) => html`<li>${face(name, 'round')}
<div><b>${name}</b> <span class="soft small">${email}</span><p class="small">Choose <b>${signsInAt}</b>. ${expect}</p></div></li>`,
  )
  return layout(
    'Sign in',
    html`<h1>Sign in to Smartworkspace</h1>
<p class="lead">Choose your organization. You sign in at its identity provider, and what you may do here is decided on the way in.</p>
<div class="columns${suggestions.length > 0 && ' wide-right'}"><section class="card"><h2>Your organization</h2>
<div class="ways">${buttons.length > 0 ? buttons : html`<p class="soft">No connection is switched on.</p>`}</div></section>
${suggestions.length > 0 && html`<section class="card"><h2>People to try</h2><ul class="people">${people}</ul></section>`}</div>`,
    { here: '/' },
  )
}

function describeJit({ jit, vouchesFor }: Connection): Html {
  const does =
    jit.create && jit.join
      ? 'new colleagues are let in'
      : jit.create
        ? 'makes accounts, joins nobody'
        : jit.join
          ? 'existing accounts join'
          : 'existing accounts only'
  return html`${vouchesFor.join(', ')}${vouchesFor.length > 0 && ' · '}${does}`
}

export function workspacePage(options: {
  user: JitUser
  jit: JitResult
  organizations: ReadonlyMap<string, Organization>
  /** This person's decisions, newest first. */
  decisions: readonly Decision[]
}): Html {
  const { user, jit, organizations, decisions } = options
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
<p class="lead">${user.email ?? 'No verified e-mail address'} · signed in by ${user.via.replace(/^connection:/, '')}</p>
<div class="columns"><div>${memberships.length > 0 ? memberships : html`<section class="card"><h2>No memberships</h2><p class="soft">You have an account and belong to no organization.</p></section>`}</div>
<div><section class="card"><div class="head"><h2>What this sign-in did</h2><span class="tag ${jit.outcome}">${outcomeWords[jit.outcome]}</span></div>
<p>${reasonSentences[jit.reason]}</p>
<dl>${fact('joined', jit.joined.map(nameOf))}${fact('roles given', jit.granted)}${fact('roles taken', jit.revoked)}
<dt>reason</dt><dd><code>${jit.reason}</code></dd></dl></section>
${latest && html`<section class="card"><h2>Why: the latest decision on your account</h2><p class="soft small">${time(latest.at)} · ${reasonSentences[latest.reason]}</p>${traceList(latest)}</section>`}
</div></div>`,
    { here: '/', signedIn: true },
  )
}

/** The decision that gave a role, in the words of its trace. */
function givenBy(decisions: readonly Decision[], organization: string, role: string, source: string) {
  for (const { id, at, events, trace } of decisions) {
    const event = events.find(
      (entry) =>
        entry.type === 'granted' &&
        entry.organization === organization &&
        entry.detail.role === role &&
        entry.detail.source === source,
    )
    if (!event) continue
    const said = trace
      .find((entry) => entry.rule === 'roles')
      ?.detail?.split('; ')
      .find((words) => words.startsWith(`${role} `))
    return { id, at, words: said ?? '' }
  }
  return null
}

export function decisionsPage(
  decisions: readonly Decision[],
  /** Names of users by id. */
  people: ReadonlyMap<string, string>,
  placeOf: (of: { organization: string | null; source?: string | null }) => string,
): Html {
  const items = decisions.map((decision) => {
    const { id, at, outcome, reason, user, source, correlationId, events } = decision
    const facts = events.map(
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
${decisions.length === 0 && html`<p id="empty" class="card soft empty">Nobody has signed in yet.</p>`}
<ul class="log" id="log">${items}</ul><script type="module" src="/live.js"></script>`,
    { here: '/decisions', head: html`<noscript><meta http-equiv="refresh" content="5"></noscript>` },
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

export function refusalPage(title: string, sentence: string, note: string): Html {
  return layout(
    title,
    html`<section class="card refusal"><h1>${title}</h1><p>${sentence}</p>
<p><a class="button" href="/">Back to the sign-in page</a></p><p class="soft small">${note}</p></section>`,
    {},
  )
}

function layout(
  title: string,
  body: Html,
  { here, signedIn, head }: { here?: string; signedIn?: boolean; head?: Html },
): Html {
  const link = (to: string, label: string) =>
    html`<a href="${to}"${to === here && html` aria-current="page"`}>${label}</a>`
  return html`<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title} · Smartworkspace</title><link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/style.css">${head}</head>
<body><header class="top"><a class="brand" href="/"><i></i>Smartworkspace</a><nav>${link('/decisions', 'Decisions')}</nav>
${signedIn && html`<form method="post" action="/auth/logout"><button class="button quiet">Sign out</button></form>`}</header>
<main>${body}</main><footer>The demo of passport-jit.</footer></body></html>`
}

function face(name: string, shape = ''): Html {
  const initials = [...name.matchAll(/\b\w/g)].slice(0, 2).join('').toUpperCase()
  const colour = [...name].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) % 997, 7) % 6
  return html`<span class="face f${colour} ${shape}" aria-hidden="true">${initials}</span>`
}

/** The time of day in UTC, as the audit trail keeps it. */
function time(at: number): string {
  return new Date(at).toISOString().slice(11, 19)
}
