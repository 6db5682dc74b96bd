import type {
  Decision,
  InvitationFacts,
  Organization,
  OrganizationFacts,
  UserListing,
  Why,
} from 'passport-jit'
import type { Rank } from './admin-area.js'
import { decisionList } from './decision-list.js'
import { type Html, html } from './html.js'
import { face, layout, minute } from './layout.js'
import { select } from './operator-pages.js'
import type { Names } from './tenants.js'
import { whyAbsent, whyGrants } from './why-list.js'

interface Common {
  readonly organization: Organization
  /** By what the reader administers it. */
  readonly rank: Rank
  readonly names: Names
  readonly inbox: boolean
  /** Newest first. */
  readonly decisions: readonly Decision[]
}

/** The roles that somebody of this rank may give and take. */
const rolesFor = (rank: Rank, { roles }: Organization) =>
  roles.filter((role) => rank === 'owner' || role !== 'owner')

/** A form of one button, which posts to a verb of this organization. */
function act(
  { id }: Organization,
  verb: string,
  label: string,
  fields: Readonly<Record<string, string>>,
  inputs: Html | null = null,
): Html {
  const hidden = Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  )
  return html`<form class="act" method="post" action="/admin/${encodeURIComponent(id)}/${verb}">${hidden}${inputs}<button class="button quiet small">${label}</button></form>`
}

const roleSelect = (rank: Rank, organization: Organization): Html =>
  select(
    'role',
    'Role',
    rolesFor(rank, organization).map((role) => [role, role]),
    undefined,
    true,
  )

export function adminPage(
  options: Common & {
    readonly members: readonly UserListing[]
    /** Ids of who was removed and may not come back. */
    readonly removed: readonly string[]
    readonly invitations: readonly InvitationFacts[]
    readonly facts: OrganizationFacts
    /** Whose decisions are listed; null for everybody's. */
    readonly about: string | null
  },
): Html {
  const { organization, rank, names, inbox, members, removed, invitations, facts, decisions, about } = options
  const path = `/admin/${encodeURIComponent(organization.id)}`
  const person = (id: string) => `${path}/people/${encodeURIComponent(id)}`
  const people = members.map(({ id, verifiedEmail, contactEmail, memberships }) => {
    const { status, seat, grants } = memberships.find((entry) => entry.organization === organization.id)!
    const roles = [...new Set(grants.map(({ role }) => role))]
    const state = status === 'suspended' ? 'suspended' : seat ? null : 'no seat'
    return html`<a class="way" href="${person(id)}">${face(names.person(id), 'round')}<span><b>${names.person(id)}</b>
<small class="soft">${verifiedEmail ?? contactEmail} · ${roles.length > 0 ? roles.join(', ') : 'no roles'}</small></span>${state && html`<span class="tag ${state === 'suspended' ? 'denied' : 'updated'}">${state}</span>`}</a>`
  })
  const gone = removed.map(
    (id) =>
      html`<li><div class="line"><a href="${person(id)}">${names.person(id)}</a>${act(organization, 'readmit', 'Re-admit', { user: id })}</div></li>`,
  )
  const waiting = invitations.map(
    ({ id, email, role, expiresAt }) =>
      html`<li><div class="line"><div><b>${email}</b> <span class="soft">as ${role}</span><p class="soft small">until ${minute(expiresAt)}</p></div>${rolesFor(rank, organization).includes(role) && act(organization, 'withdraw', 'Withdraw', { invitation: id })}</div></li>`,
  )
  const seats = facts.seatLimit === null ? `${facts.seatsUsed}` : `${facts.seatsUsed} of ${facts.seatLimit}`
  const address = html`<input type="email" name="email" aria-label="E-mail address" placeholder="somebody@company.example" maxlength="254" autocomplete="off" required>`
  return layout(
    `Administer ${organization.name}`,
    html`<h1>${organization.name}</h1>
<p class="lead">You administer it as ${rank}. Members with a seat: ${seats}.</p>
<div class="columns"><section class="card"><h2>Members</h2><div class="ways">${people}</div></section>
<div><section class="card"><h2>Invite</h2><p class="soft small">The address has to be proved, by single sign-on or a code, and then gets this role besides what policies give.</p>
${act(organization, 'invite', 'Invite', {}, html`${address}${roleSelect(rank, organization)}`)}
${waiting.length > 0 && html`<ul class="roles below">${waiting}</ul>`}</section>
${gone.length > 0 && html`<section class="card"><h2>Removed</h2><p class="soft small">They stay out, whatever their identity provider says, until they are re-admitted or invited anew.</p><ul class="roles">${gone}</ul></section>`}</div></div>
<h2 class="heading">Decisions</h2>
<form class="filters" method="get" action="${path}">${select(
      'user',
      'Everybody',
      [...members.map(({ id }) => id), ...removed].map((id) => [id, names.person(id)]),
      about ?? undefined,
    )}<button class="button quiet">Show</button></form>
${decisionList(decisions, names)}`,
    { here: path, signedIn: true, inbox },
  )
}

export function personPage(
  options: Common & { readonly user: string; readonly email: string | null; readonly why: Why },
): Html {
  const { organization, rank, names, inbox, user, email, why, decisions } = options
  const name = names.person(user)
  const { membership, grants } = why
  // What only an owner may do is not offered to anybody else.
  const mine = rank === 'owner' || !grants.some(({ role }) => role === 'owner')
  const stones = why.absent.filter(({ finding }) => finding === 'role_removed')
  const shown = {
    ...{ names, decisions: '' },
    ...(mine && { doing: (role: string) => act(organization, 'revoke', 'Take away', { user, role }) }),
  }
  const suspended = membership?.status === 'suspended'
  const deeds = membership
    ? html`${act(organization, 'grant', 'Give by hand', { user }, roleSelect(rank, organization))}
${stones.map(({ about }) => act(organization, 'readmit', `Let policies give ${about} again`, { user, role: about! }))}
${suspended || !membership.seat ? act(organization, 'reactivate', suspended ? 'Reactivate' : 'Give a seat', { user }) : act(organization, 'suspend', 'Suspend', { user })}
${act(organization, 'remove', `Remove from ${organization.name}`, { user })}`
    : act(organization, 'readmit', 'Re-admit', { user })
  return layout(
    name,
    html`<h1>${name}</h1>
<p class="lead">${email ?? 'No proved e-mail address'} · <a href="/admin/${encodeURIComponent(organization.id)}">${organization.name}</a></p>
<div class="columns"><section class="card"><div class="head"><h2>Roles, and why</h2><span class="tag ${!membership || suspended ? 'denied' : membership.seat ? 'active' : 'updated'}">${membership ? (suspended ? 'suspended' : membership.seat ? 'active' : 'no seat') : 'removed'}</span></div>
${grants.length > 0 ? whyGrants(why, shown) : html`<p class="soft">No roles.</p>`}${whyAbsent(why, shown)}</section>
<section class="card"><h2>What you can do</h2>${mine ? html`<div class="deeds">${deeds}</div>` : html`<p class="soft">Only an owner may change an owner.</p>`}</section></div>
<h2 class="heading">Decisions</h2>${decisionList(decisions, names)}`,
    { signedIn: true, inbox },
  )
}
