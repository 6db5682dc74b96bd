import { Browser, form, links, type Page } from './browser.js'

/** A mail as `GET /api/inbox` tells it. */
export interface Mailed {
  readonly to: string
  readonly subject: string
  readonly text: string
}

/** What a story has to work with; everything in it goes over HTTP. */
export interface Stage {
  readonly url: string
  /** Where people at the identity providers are edited. */
  readonly people: string
  /** Where the receiver of webhooks lists what it got. */
  readonly receiver: string
  /** The mails sent so far, newest first. */
  readonly inbox: () => Promise<readonly Mailed[]>
  /** An address of the operator, with the token; `body` is posted as JSON. */
  readonly operator: (path: string, body?: object) => Promise<Page>
  /** The browser in which somebody signed in last. */
  readonly browserOf: (email: string) => Browser
}

/** Where a story ends: the browser that may be signed in (null where nobody was to sign in), and the page it shows. */
export interface End {
  readonly browser: Browser | null
  readonly page: Page
}

/** A way through the app, as a person would click; a sign-in begins on the sign-in page in a browser of its own. */
export type Steps = (stage: Stage) => Promise<End>

/** Steps that end in a browser. */
export type SignIn = (stage: Stage) => Promise<{ readonly browser: Browser; readonly page: Page }>

/** By the button of an organization, as a person its identity provider knows. */
export function bySso(connection: string, person: string): SignIn {
  return async ({ url }) => {
    const browser = new Browser()
    const start = linkTo(await browser.open(url), `/auth/sso/${connection}`)
    return { browser, page: await throughSso(browser, await browser.open(start), person, url) }
  }
}

/** By typing an address in a domain that the connection vouches for: no button is asked for. */
export function byAddress(email: string, connection: string, person: string): SignIn {
  return async ({ url }) => {
    const browser = new Browser()
    const found = await typeAddress(browser, url, email)
    const start = linkTo(found, `/auth/sso/${connection}`)
    return { browser, page: await throughSso(browser, await browser.open(start), person, url) }
  }
}

/** By typing an address and entering the mailed code. */
export function byCode(email: string): SignIn {
  return async ({ url, inbox }) => {
    const browser = new Browser()
    const asked = await askForCode(browser, url, email)
    const code = codeIn(await newest(inbox, email))
    return { browser, page: await browser.submit(asked, formOf(asked), { code }) }
  }
}

/** By typing an address and opening the mailed link in another browser, where the button signs in. */
export function byLink(email: string): SignIn {
  return async ({ url, inbox }) => {
    await askForCode(new Browser(), url, email)
    const link = /^http\S+\?link=\S+$/m.exec((await newest(inbox, email)).text)?.[0]
    if (link === undefined) throw new Error('the mail has no link')
    const browser = new Browser()
    const shown = await browser.open(link)
    const { status } = await browser.open(`${url}/api/me`)
    if (status !== 401) throw new Error('opening the link signed this browser in')
    return { browser, page: await browser.submit(shown, formOf(shown)) }
  }
}

/** By the social provider's button, as somebody who has an account there. */
export function bySocial(provider: string, person: number): SignIn {
  return async ({ url }) => {
    const browser = new Browser()
    const start = linkTo(await browser.open(url), `/auth/social/${provider}`)
    const picker = await browser.open(start)
    const choice = links(picker).find((href) => new URL(href).searchParams.get('person') === String(person))
    if (choice === undefined) throw new Error(`the provider does not know ${person}`)
    return { browser, page: await browser.open(choice) }
  }
}

/** And then by proving, with a mailed code, that the account with that address is one's own. */
export function proving(steps: SignIn, email: string): SignIn {
  return async (stage) => {
    const { browser, page } = await steps(stage)
    if (page.url.pathname !== '/auth/prove') throw new Error(`no proof was asked for: ${words(page)}`)
    const asked = await browser.submit(page, formOf(page))
    const code = codeIn(await newest(stage.inbox, email))
    return { browser, page: await browser.submit(asked, formOf(asked), { code }) }
  }
}

/** By asking for a code without the page that would have led elsewhere. The answer has to name the way to SSO. */
export function byCodeAnyway(email: string, connection: string): SignIn {
  return async ({ url }) => {
    const browser = new Browser()
    const home = await browser.open(url)
    const page = await browser.submit(home, { ...formOf(home), action: '/auth/email' }, { email })
    linkTo(page, `/auth/sso/${connection}`)
    return { browser, page }
  }
}

export async function throughSso(
  browser: Browser,
  first: Page,
  person: string,
  appUrl: string,
): Promise<Page> {
  let page = first
  const choice = links(page).find((href) => new URL(href).searchParams.get('person') === person)
  const chooser = form(page)
  if (choice !== undefined) page = await browser.open(choice)
  else if (chooser) page = await browser.submit(page, chooser, { person })
  // The identity provider's answer travels as a form that a browser submits by itself.
  const answer = form(page)
  if (answer?.method === 'post' && page.url.origin !== appUrl) page = await browser.submit(page, answer)
  if (page.url.origin !== appUrl)
    throw new Error(`the sign-in got stuck at ${page.url.origin}${page.url.pathname}`)
  return page
}

async function typeAddress(browser: Browser, url: string, email: string): Promise<Page> {
  const home = await browser.open(url)
  return browser.submit(home, formOf(home), { email })
}

async function askForCode(browser: Browser, url: string, email: string): Promise<Page> {
  const ways = await typeAddress(browser, url, email)
  return browser.submit(ways, formOf(ways))
}

async function newest(inbox: Stage['inbox'], to: string): Promise<Mailed> {
  const mail = (await inbox()).find((each) => each.to === to)
  if (!mail) throw new Error(`no mail to ${to}`)
  return mail
}

function codeIn({ text }: Mailed): string {
  const code = /^\d{6}$/m.exec(text)?.[0]
  if (code === undefined) throw new Error('the mail has no code')
  return code
}

export function linkTo(page: Page, path: string): string {
  const found = links(page).find((href) => new URL(href).pathname === path)
  if (found === undefined) throw new Error(`the page has no link to ${path}: ${words(page)}`)
  return found
}

function formOf(page: Page) {
  const found = form(page)
  if (!found) throw new Error(`the page has no form: ${words(page)}`)
  return found
}

/** What a person reads on a page. */
export const words = ({ text }: Page) =>
  text
    .replace(/^.*<main>/s, '')
    .replace(/<style>.*?<\/style>/gs, '')
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()
