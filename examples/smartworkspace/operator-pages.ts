import type { Decision, Deliveries, DeliveryState, Organization, Verification } from 'passport-jit'
import { decisionList } from './decision-list.js'
import { type Html, html } from './html.js'
import { layout, minute, refreshing, short } from './layout.js'
import type { Names, Tenants } from './tenants.js'

/** What decisions are listed by; blank for all. */
export type Chosen = Readonly<Partial<Record<'user' | 'organization' | 'connection', string>>>

export function decisionsPage(options: {
  decisions: readonly Decision[]
  names: Names
  tenants: Tenants
  chosen: Chosen
  inbox: boolean
}): Html {
  const { decisions, names, tenants, chosen, inbox } = options
  const organizations = [...tenants.organizations.values()].map(({ id, name }) => [id, name] as const)
  const connections = tenants.connections.map(({ id }) => [id, id] as const)
  return layout(
    'Decisions',
    html`<h1>Decisions</h1>
<p class="lead"><span id="live" class="live">Live.</span> Every sign-in that changed something or was refused, and everything done by hand, newest first (times in UTC). Open one to see the rules that led to it.</p>
<form class="filters" method="get" action="/decisions">${select('user', 'Everybody', [...names.people], chosen.user)}${select('organization', 'Every organization', organizations, chosen.organization)}${select('connection', 'Every connection', connections, chosen.connection)}<button class="button quiet">Show</button></form>
${decisions.length === 0 && html`<p id="empty" class="card soft empty">Nothing of that kind yet.</p>`}
${decisionList(decisions, names)}<script type="module" src="/live.js"></script>`,
    { here: '/decisions', inbox, head: refreshing },
  )
}

/** A choice among names; the first stands for none of them. */
export function select(
  name: string,
  none: string,
  entries: readonly (readonly [value: string, label: string])[],
  chosen: string | undefined,
  required = false,
): Html {
  const options = entries.map(
    ([value, label]) =>
      html`<option value="${value}"${value === chosen && html` selected`}>${label}</option>`,
  )
  return html`<select name="${name}" aria-label="${none}"${required && html` required`}><option value="">${none}</option>${options}</select>`
}

export type DeliveryList = Awaited<ReturnType<Deliveries['deliveries']>>['rows']

export function operatorPage(options: {
  tenants: Tenants
  /** Whether connections can be switched: they are kept in the store, not in a file. */
  switches: boolean
  held: ReadonlyMap<string, string>
  /** The chain, where it was asked to be verified. */
  verified: Verification | null
  deliveries: DeliveryList
  state: DeliveryState | null
  /** What the kit finds odd about the policies. */
  warnings: readonly string[]
  inbox: boolean
}): Html {
  const { tenants, switches, held, verified, deliveries, state, warnings, inbox } = options
  const connections = tenants.connections.map(({ id, organization, protocol, enabled }) => {
    const verb = enabled ? 'disable' : 'enable'
    const reason = held.get(id)
    const act = (what: string, label: string) =>
      html`<form method="post" action="/operator/connections/${encodeURIComponent(id)}/${what}"><button class="button quiet small">${label}</button></form>`
    return html`<li><div class="line"><div><b>${id}</b> <span class="tag ${enabled && 'active'}">${enabled ? 'on' : 'off'}</span>
<p class="soft small">${protocol.toUpperCase()} of ${(tenants.organizations.get(organization) as Organization | undefined)?.name ?? organization}${reason !== undefined && html` · its sync is held: ${reason}`}</p></div>
${reason !== undefined && act('release', 'Let its sync go on')}${switches && act(verb, enabled ? 'Switch off' : 'Switch on')}</div></li>`
  })
  const states = [null, 'pending', 'delivered', 'dead'] as const
  const tabs = states.map(
    (each) =>
      html`<a href="/operator${each !== null && `?state=${each}`}"${each === state && html` aria-current="page"`}>${each ?? 'all'}</a>`,
  )
  const rows = deliveries.map(({ endpoint, change, state: now, attempts, dueAt, log }) => {
    const last = log.at(-1)
    return html`<tr><td><span class="tag ${now === 'delivered' ? 'active' : now === 'dead' ? 'denied' : 'updated'}">${now}</span></td><td>${endpoint}</td>
<td><a href="/decisions#${change}"><code>${short(change)}</code></a></td><td>${attempts}</td>
<td>${last ? html`<time>${minute(last.at)}</time>${last.error !== null && html` <span class="soft">${last.error}</span>`}` : html`<span class="soft">due <time>${minute(dueAt)}</time></span>`}
${now === 'dead' && html`<form method="post" action="/operator/deliveries/retry"><input type="hidden" name="listener" value="${endpoint}"><input type="hidden" name="change" value="${change}"><button class="button quiet small">Try again</button></form>`}</td></tr>`
  })
  return layout(
    'Operator',
    html`<h1>Operator</h1>
<p class="lead">What belongs to no tenant: the connections, whether the audit trail is unaltered, and what was delivered of it.</p>
${warnings.length > 0 && html`<section class="card warnings"><div class="head"><h2>Policies that may not do what they seem to</h2><span class="tag updated">${count(warnings.length, 'warning')}</span></div><ul class="roles">${warnings.map((warning) => html`<li>${warning}</li>`)}</ul></section>`}
<div class="columns"><section class="card"><h2>Connections</h2>${connections.length > 0 ? html`<ul class="roles">${connections}</ul>` : html`<p class="soft">There are none.</p>`}
${!switches && html`<p class="soft small">They come from a file, where <code>"enabled": false</code> switches one off.</p>`}</section>
<section class="card"><h2>Audit chain</h2>${verified ? verification(verified) : html`<p class="soft">Each decision is sealed with a hash over it and all before it.</p>`}
<form method="get" action="/operator"><input type="hidden" name="verify" value="1"><button class="button quiet">Verify the chain</button></form></section></div>
<section class="card"><div class="head"><h2>Deliveries</h2><nav class="tabs">${tabs}</nav></div>
${rows.length > 0 ? html`<div class="scroll"><table><thead><tr><th>state</th><th>listener</th><th>decision</th><th>tries</th><th>last try</th></tr></thead><tbody>${rows}</tbody></table></div>` : html`<p class="soft">Nothing of that kind.</p>`}</section>`,
    { here: '/operator', inbox },
  )
}

const count = (number: number, word: string) => `${number} ${word}${number === 1 ? '' : 's'}`

function verification({ ok, seals, changes, waiting, head, problems }: Verification): Html {
  const found = problems.map(
    ({ problem, message }) => html`<li><b>${problem}</b> <span class="soft">${message}</span></li>`,
  )
  return html`<p><span class="tag ${ok ? 'active' : 'denied'}">${ok ? 'intact' : 'altered'}</span> ${count(seals, 'seal')} over ${count(changes, 'decision')}${waiting > 0 && `, ${waiting} not sealed yet`}.</p>
${found.length > 0 && html`<ul class="roles">${found}</ul>`}
${head && html`<p class="soft small">Seal ${head.number} is <code>${head.hash}</code>. Whoever notes it elsewhere can tell later that nothing before it was written anew.</p>`}`
}
