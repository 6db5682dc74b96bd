import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'

/** Somebody whom a test identity provider knows; what is changed here, its next answer says. */
export interface EditablePerson {
  /** The subject of the answers. */
  id: string
  name: string
  email: string
  groups: readonly string[]
}

export interface PeopleEditorOptions {
  /** Absolute URL under which `handler` is served, without a final slash. */
  url: string
  /** The very lists that the providers read from. */
  realms: readonly { readonly id: string; readonly name: string; readonly people: EditablePerson[] }[]
}

/**
 * A page on which anybody promotes, renames and moves people at test identity providers, as an administrator would
 * in the console of a real one. It asks for no password, so it belongs on loopback and nowhere else.
 */
export function createPeopleEditor({ url, realms }: PeopleEditorOptions) {
  const root = new URL(url).pathname.replace(/\/$/, '')

  async function save(req: IncomingMessage, path: string): Promise<boolean> {
    const [realm, index] = path.split('/').filter(Boolean)
    const person = realms.find(({ id }) => id === realm)?.people[Number(index)]
    if (!person) return false
    const form = new URLSearchParams(await text(req))
    const field = (name: string, was: string) => form.get(name)?.trim() || was
    person.id = field('id', person.id)
    person.name = field('name', person.name)
    person.email = field('email', person.email)
    person.groups = (form.get('groups') ?? person.groups.join())
      .split(',')
      .map((group) => group.trim())
      .filter(Boolean)
    return true
  }

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const path = new URL(req.url ?? '/', url).pathname.slice(root.length)
    if (req.method === 'GET' && (path === '' || path === '/')) return send(res, 200, page(root, realms))
    const site = req.headers['sec-fetch-site'] ?? 'none'
    const own = site === 'same-origin' || site === 'none'
    if (req.method !== 'POST' || !own || !(await save(req, path))) {
      return send(res, 404, '<!doctype html><p>There is nobody here.')
    }
    res.writeHead(303, { location: `${root}/` }).end()
  }

  return {
    /** A `node:http` request listener. */
    handler: (req: IncomingMessage, res: ServerResponse) => {
      handle(req, res).catch(() => res.destroy())
    },
  }
}

function send(res: ServerResponse, status: number, html: string): void {
  res.writeHead(status, {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'content-security-policy':
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
  })
  res.end(html)
}

const escapeHtml = (value: string) => value.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)

function page(root: string, realms: PeopleEditorOptions['realms']): string {
  const field = (label: string, name: string, value: string) =>
    `<label>${label}<input name="${name}" value="${escapeHtml(value)}" autocomplete="off"></label>`
  const sections = realms.map(({ id: realm, name, people }) => {
    const forms = people.map(
      ({ id, name, email, groups }, index) =>
        `<form method="post" action="${root}/${realm}/${index}">${field('Name', 'name', name)}${field('Groups', 'groups', groups.join(', '))}${field('E-mail', 'email', email)}${field('Subject', 'id', id)}<button>Save</button></form>`,
    )
    return `<section><h2>${escapeHtml(name)}</h2>${forms.join('\n')}</section>`
  })
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>People at the test identity providers</title><style>
body{margin:0;background:#eef1f6;color:#1c2430;font:16px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:2rem 1.25rem}header small{color:#5b6778;letter-spacing:.06em;text-transform:uppercase}
h1{margin:0;font-size:1.6rem}h2{margin:0 0 .4rem;font-size:1.1rem}p{color:#5b6778;max-width:42rem}
section{background:#fff;border-radius:16px;box-shadow:0 8px 30px #1c243018;padding:1.25rem;margin:1.2rem 0}
form{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,13rem),1fr));gap:.6rem;align-items:end;padding:.8rem 0;border-top:1px solid #e3e7ee}
@media(min-width:56rem){form{grid-template-columns:4fr 5fr 6fr 3fr auto}}
h2+form{border:0}label{font-size:.8rem;color:#5b6778;display:grid;gap:.15rem}
input{font:inherit;font-size:.95rem;color:#1c2430;min-width:0;width:100%;box-sizing:border-box;padding:.4rem .6rem;border:1px solid #d5dbe5;border-radius:9px}
button{font:inherit;padding:.4rem .9rem;border:0;border-radius:9px;background:#3457d5;color:#fff;cursor:pointer}
</style><main><header><small>Test identity providers</small><h1>People</h1></header>
<p>What an administrator would change in the console of a real one. The app learns of it at the person’s next sign-in, from the answer alone. Groups are separated by commas.</p>
${sections.join('\n')}</main></html>`
}
