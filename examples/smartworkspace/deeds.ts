import { Browser, type Form, forms, links, type Page } from './browser.js'
import { linkTo, type SignIn, type Steps, throughSso, words } from './steps.js'

// What is done about people between their sign-ins: by administrators, by the operator, at their identity provider.

/** What an administrator of an identity provider changes about somebody; `id` is the subject. */
type Change = Readonly<Partial<Record<'id' | 'name' | 'email' | 'groups', string>>>

/** First changes somebody at their identity provider, where they have this address. */
export function after(email: string, change: Change, signIn: SignIn): SignIn {
  return async (stage) => {
    const browser = new Browser()
    const page = await browser.open(stage.people)
    const found = forms(page).find(({ fields }) => fields.email === email)
    if (!found) throw new Error(`no identity provider knows ${email}`)
    const { status } = await browser.submit(page, found, change)
    if (status !== 200) throw new Error(`the identity provider answered ${status}`)
    return signIn(stage)
  }
}

/** One after the other; what comes of it is what came of the last. */
export function both(first: Steps, second: SignIn): SignIn
export function both(first: Steps, second: Steps): Steps
export function both(first: Steps, second: Steps): Steps {
  return async (stage) => {
    const { page } = await first(stage)
    if (page.status !== 200) throw new Error(`the first of two answered ${page.status}: ${words(page)}`)
    return second(stage)
  }
}

/** In the pages of an organization's administrators: opens `about`, where that is somebody, and uses a form. */
export function administering(
  admin: { readonly email: string },
  organization: string,
  verb: string,
  { about, ...fields }: Readonly<Record<string, string>>,
): Steps {
  return async ({ url, browserOf }) => {
    const browser = browserOf(admin.email)
    let page = await browser.open(linkTo(await browser.open(url), `/admin/${organization}`))
    if (about !== undefined) page = await browser.open(linkSaying(page, about))
    return { browser: null, page: await use(browser, page, verb, fields) }
  }
}

/** On the start page of who is signed in already: accepts the one invitation that waits there. */
export function accepting({ email }: { readonly email: string }): Steps {
  return async ({ url, browserOf }) => {
    const browser = browserOf(email)
    return { browser: null, page: await use(browser, await browser.open(url), 'accept', {}) }
  }
}

/** On the page of the operator. */
export function switching(connection: string, verb: 'enable' | 'disable'): Steps {
  return async ({ url }) => {
    const browser = new Browser()
    const page = await browser.open(`${url}/operator`)
    return { browser: null, page: await use(browser, page, `${connection}/${verb}`, {}) }
  }
}

/** Takes somebody's login at an identity provider away from their account, as the operator. */
export function unlinking(email: string, source: string): Steps {
  return async ({ operator }) => {
    const users = JSON.parse((await operator('/api/users')).text) as Listed[]
    const user = users.find((entry) => entry.email === email)
    const identity = user?.identities.find((entry) => entry.source === source)
    return { browser: null, page: await operator('/api/admin/unlink', { user: user?.id, identity }) }
  }
}

interface Listed {
  readonly id: string
  readonly email: string | null
  readonly identities: readonly { readonly source: string }[]
}

/** By the address of a connection's sign-in, whether the sign-in page offers it or not. */
export function bySsoAnyway(connection: string, person: string): SignIn {
  return async ({ url }) => {
    const browser = new Browser()
    const page = await browser.open(`${url}/auth/sso/${connection}`)
    return { browser, page: page.status === 200 ? await throughSso(browser, page, person, url) : page }
  }
}

/** And then, asked to show that the account is theirs, by the way in that they had before. */
export function provingBy(signIn: SignIn, way: string, person: number): SignIn {
  return async (stage) => {
    const { browser, page } = await signIn(stage)
    if (page.url.pathname !== '/auth/prove') throw new Error(`no proof was asked for: ${words(page)}`)
    const picker = await browser.open(linkTo(page, `/auth/social/${way}`))
    const choice = links(picker).find((href) => new URL(href).searchParams.get('person') === String(person))
    if (choice === undefined) throw new Error(`the provider does not know ${person}`)
    return { browser, page: await browser.open(choice) }
  }
}

function linkSaying(page: Page, label: string): string {
  const found = links(page, label)[0]
  if (found === undefined) throw new Error(`the page has no link that says ${label}: ${words(page)}`)
  return found
}

/** Submits the form that posts to a verb, of several the one with these fields. */
function use(
  browser: Browser,
  page: Page,
  verb: string,
  fields: Readonly<Record<string, string>>,
): Promise<Page> {
  const fits = (form: Form) =>
    form.action.endsWith(`/${verb}`) &&
    Object.entries(fields).every(([name, value]) => !form.fields[name] || form.fields[name] === value)
  const found = forms(page).find(fits)
  if (!found) throw new Error(`the page has no form to ${verb}: ${words(page)}`)
  return browser.submit(page, found, fields)
}
