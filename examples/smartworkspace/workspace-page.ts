import type { Decision, InvitationFacts, JitResult, JitUser, Why } from 'passport-jit'
import { traceList } from './decision-list.js'
import { type Html, html } from './html.js'
import { face, layout, minute } from './layout.js'
import type { Names } from './tenants.js'
import { whyAbsent, whyGrants } from './why-list.js'
import { outcomeWords, reasonSentences } from './words.js'

export function workspacePage(options: {
  user: JitUser
  jit: JitResult
  names: Names
  inbox: boolean
  /** The page that lists the decisions, where the person may open it. */
  decisions: string | null
  /** Where each grant comes from, by organization. */
  whys: ReadonlyMap<string, Why>
  /** This person's latest decision. */
  latest: Decision | undefined
  /** What waits for the person's click. */
  invitations: readonly InvitationFacts[]
  /** Organizations that the person administers. */
  administers: ReadonlySet<string>
}): Html {
  const { user, jit, names, inbox, decisions, whys, latest, invitations, administers } = options
  const name = user.attributes.name ?? user.email ?? 'you'
  const memberships = user.memberships.map(({ organization: id, active, grants }) => {
    const organization = names.organization(id)
    const why = whys.get(id)
    return html`<section class="card"><div class="head">${face(organization)}<h2>${organization}</h2>
<span class="tag ${active && 'active'}">${active ? 'active' : 'not in this session'}</span></div>
${grants.length > 0 ? why && whyGrants(why, { names, decisions }) : html`<p class="soft">No roles yet.</p>`}
${why && whyAbsent(why, { names, decisions })}
${administers.has(id) && html`<p><a class="button quiet" href="/admin/${encodeURIComponent(id)}">Administer ${organization}</a></p>`}</section>`
  })
  const waiting = invitations.map(
    ({ id, organization, role, at, expiresAt }) =>
      html`<li><b>${role}</b> <span class="soft">in ${names.organization(organization)}</span>
<p class="soft small">invited ${minute(at)}, until ${minute(expiresAt)}</p>
<form method="post" action="/invitations/${encodeURIComponent(id)}/accept"><button class="button">Accept</button></form></li>`,
  )
  const fact = (label: string, values: readonly string[]) =>
    values.length > 0 && html`<dt>${label}</dt><dd>${values.join(', ')}</dd>`
  return layout(
    'Workspace',
    html`<h1>Hello, ${name}</h1>
<p class="lead">${user.email ?? 'No proved e-mail address'} · signed in by ${names.way(user.via)}</p>
<div class="columns"><div>${waiting.length > 0 && html`<section class="card"><h2>You are invited</h2><ul class="roles">${waiting}</ul></section>`}
${memberships.length > 0 ? memberships : html`<section class="card"><h2>No memberships</h2><p class="soft">You have an account and belong to no organization.</p></section>`}</div>
<div><section class="card"><div class="head"><h2>What this sign-in did</h2><span class="tag ${jit.outcome}">${outcomeWords[jit.outcome]}</span></div>
<p>${reasonSentences[jit.reason]}</p>
<dl>${fact('joined', jit.joined.map(names.organization))}${fact('roles given', jit.granted)}${fact('roles taken', jit.revoked)}
<dt>reason</dt><dd><code>${jit.reason}</code></dd></dl></section>
${latest && html`<section class="card"><h2>Why: the latest decision on your account</h2><p class="soft small">${minute(latest.at)} · ${reasonSentences[latest.reason]}${latest.actor !== null && ` It was ${names.person(latest.actor)}.`}</p>${traceList(latest)}</section>`}
</div></div>`,
    { here: '/', signedIn: true, inbox },
  )
}
