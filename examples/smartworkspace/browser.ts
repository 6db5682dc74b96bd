interface Cookie {
  readonly host: string
  readonly path: string
  readonly name: string
  readonly value: string
  readonly sameSite: string
}

/** A page the browser has come to rest on. */
export interface Page {
  readonly url: URL
  readonly status: number
  readonly text: string
}

export interface Form {
  readonly method: string
  readonly action: string
  readonly fields: Record<string, string>
}

const mostRedirects = 10

/**
 * As much of a browser as a sign-in needs: a cookie jar that knows hosts, paths and SameSite, redirects,
 * links and forms. No scripts: a form that would submit itself is submitted by the caller.
 */
export class Browser {
  #cookies: Cookie[] = []

  open(url: string | URL): Promise<Page> {
    return this.#go('GET', new URL(url), null, null)
  }

  submit(page: Page, form: Form, extra: Record<string, string> = {}): Promise<Page> {
    const target = new URL(form.action, page.url)
    const fields = new URLSearchParams({ ...form.fields, ...extra })
    if (form.method === 'post') return this.#go('POST', target, fields, page.url)
    target.search = fields.toString()
    return this.#go('GET', target, null, page.url)
  }

  async #go(method: string, target: URL, body: URLSearchParams | null, from: URL | null): Promise<Page> {
    let [verb, url, form] = [method, target, body]
    for (let hop = 0; hop <= mostRedirects; hop++) {
      const crossSite = from !== null && from.hostname !== url.hostname
      const headers: Record<string, string> = {
        accept: 'text/html',
        cookie: this.#cookiesFor(url, verb === 'POST' && crossSite),
        ...(from && { 'sec-fetch-site': crossSite ? 'cross-site' : 'same-origin' }),
        ...(from && verb === 'POST' && { origin: from.origin }),
      }
      const answer = await fetch(url, {
        method: verb,
        headers,
        redirect: 'manual',
        ...(form && { body: form }),
      })
      for (const line of answer.headers.getSetCookie()) this.#keep(line, url)
      const location = answer.headers.get('location')
      if (answer.status < 300 || answer.status > 399 || location === null) {
        return { url, status: answer.status, text: await answer.text() }
      }
      url = new URL(location, url)
      ;[verb, form] = ['GET', null]
    }
    throw new Error(`more than ${mostRedirects} redirects, the last to ${url.origin}${url.pathname}`)
  }

  /** The cookies it would send to an address of the site it is on. */
  cookies(url: URL): string {
    return this.#cookiesFor(url, false)
  }

  /** A cross-site POST carries no Lax cookies; a cookie belongs to a host whatever the port (RFC 6265 §8.5). */
  #cookiesFor(url: URL, crossSitePost: boolean): string {
    return this.#cookies
      .filter(({ host, path }) => host === url.hostname && url.pathname.startsWith(path))
      .filter(({ sameSite }) => !crossSitePost || sameSite === 'none')
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
  }

  #keep(line: string, url: URL): void {
    const [pair = '', ...attributes] = line.split(/; */)
    const at = pair.indexOf('=')
    const named = new Map(
      attributes.map((entry) => {
        const [key = '', value = ''] = entry.split('=')
        return [key.toLowerCase(), value]
      }),
    )
    const cookie = {
      host: url.hostname,
      path: named.get('path') ?? '/',
      name: pair.slice(0, at),
      value: pair.slice(at + 1),
      sameSite: (named.get('samesite') ?? 'lax').toLowerCase(),
    }
    this.#cookies = this.#cookies.filter(
      ({ host, path, name }) => host !== cookie.host || path !== cookie.path || name !== cookie.name,
    )
    if (named.get('max-age') !== '0') this.#cookies.push(cookie)
  }
}

/** The addresses of a page's links, resolved; with `words`, of those alone that say them. */
export function links(page: Page, words = ''): string[] {
  return [...page.text.matchAll(/<a\b[^>]*\bhref="([^"]*)"[^>]*>(.*?)<\/a>/gs)]
    .filter(([, , inside]) => unescapeHtml(inside!).includes(words))
    .map(([, href]) => new URL(unescapeHtml(href!), page.url).href)
}

/** The forms of a page with the fields that are filled in. */
export function forms(page: Page): Form[] {
  return [...page.text.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gs)].map(([, tag, inside]) => ({
    method: attribute(tag!, 'method').toLowerCase() || 'get',
    action: attribute(tag!, 'action'),
    fields: Object.fromEntries(
      [...inside!.matchAll(/<input\b([^>]*)>/g)].map(([, input]) => [
        attribute(input!, 'name'),
        attribute(input!, 'value'),
      ]),
    ),
  }))
}

/** The first form of a page, or null. */
export const form = (page: Page): Form | null => forms(page)[0] ?? null

const attribute = (tag: string, name: string) =>
  unescapeHtml(new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1] ?? '')

const named: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"' }
const unescapeHtml = (text: string) =>
  text.replace(/&(?:#(\d+)|(\w+));/g, (whole, code, name) =>
    code ? String.fromCharCode(Number(code)) : (named[name] ?? whole),
  )
