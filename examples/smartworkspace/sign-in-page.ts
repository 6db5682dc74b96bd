import type { Connection } from 'passport-jit'
import { type Html, html } from './html.js'
import { face, layout } from './layout.js'
import type { Tenants } from './tenants.js'

/** Somebody to try the demo as, and what to expect. */
export interface Suggestion {
  readonly name: string
  readonly email: string
  /** The button to choose; null where typing the address leads on. */
  readonly choose: string | null
  readonly expect: string
}

export interface SignInPage {
  readonly tenants: Tenants
  readonly baseUrl: string
  readonly suggestions: readonly Suggestion[]
  /** Where people at the test identity providers are edited; null where there are none. */
  readonly idps: string | null
  /** Fills the address in. */
  readonly email: string
  /** Whether mail goes to the on-screen inbox. */
  readonly inbox: boolean
}

export function signInPage({ tenants, baseUrl, suggestions, idps, email, inbox }: SignInPage): Html {
  const { providers } = tenants
  // Absolute, because a sign-in has to begin on the host that it comes back to.
  const begin = (path: string) => `${baseUrl}/auth/${path}`
  const organizations = tenants.connections.flatMap((connection) => {
    const organization = tenants.organizations.get(connection.organization)
    if (!connection.enabled || organization?.status !== 'active') return []
    return html`<a class="way" href="${begin(`sso/${connection.id}`)}">${face(organization.name)}
<span><b>${organization.name}</b><small class="soft">${describeJit(connection)}</small></span><span class="tag">${connection.protocol.toUpperCase()}</span></a>`
  })
  const social = providers.flatMap((provider) =>
    provider.protocol === 'social'
      ? [
          html`<a class="button quiet block" href="${begin(`social/${provider.id}`)}">Continue with ${provider.name ?? provider.id}</a>`,
        ]
      : [],
  )
  const codes = providers.some(({ protocol }) => protocol === 'email')
  const people = suggestions.map(
    (person) => html`<li>${face(person.name, 'round')}
<div><b>${person.name}</b> <span class="soft small">${person.email}</span><p class="small">${person.choose === null ? html`<a href="/?email=${encodeURIComponent(person.email)}">Type the address</a>.` : html`Choose <b>${person.choose}</b>.`} ${person.expect}</p></div></li>`,
  )
  return layout(
    'Sign in',
    html`<h1>Sign in to Smartworkspace</h1>
<p class="lead">Type your e-mail address, and you are led to the sign-in of your organization${codes && ' or mailed a code'}. What you may do here is decided on the way in.</p>
<div class="columns${suggestions.length > 0 && ' wide-right'}"><div><section class="card"><h2>Your e-mail address</h2>
<form class="address" method="post" action="${begin('discover')}"><input type="hidden" name="returnTo" value="/">
<input type="email" name="email" value="${email}" aria-label="E-mail address" placeholder="you@company.example" autocomplete="username" maxlength="254" required autofocus><button class="button">Continue</button></form>
${inbox && codes && html`<p class="soft small">Mail goes to the <a href="/inbox" target="_blank">on-screen inbox</a>, not to a real mailbox.</p>`}
${social.length > 0 && html`<p class="or">or</p>${social}`}</section>
<section class="card"><h2>Your organization</h2>
<div class="ways">${organizations.length > 0 ? organizations : html`<p class="soft">No connection is switched on.</p>`}</div></section>${idps !== null && secondDay(idps)}</div>
${suggestions.length > 0 && html`<section class="card"><h2>People to try</h2><ul class="people">${people}</ul></section>`}</div>`,
    { here: '/', inbox },
  )
}

/** What to do once somebody has signed in. */
function secondDay(idps: string): Html {
  const there = html`<a href="${idps}" target="_blank">at their identity provider</a>`
  return html`<section class="card"><h2>The second day</h2><ul class="roles small">
<li><b>As Olga</b>, open “Administer SuperFantasy”: give a role by hand, suspend somebody who is signed in elsewhere, remove and re-admit a guest, invite somebody.</li>
<li><b>Promote, rename or move</b> somebody ${there}, and let them sign in again.</li>
<li><b>As the operator</b>, switch a connection off, verify the audit chain, and see what was delivered: <a href="/operator">here</a>.</li></ul></section>`
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
