import { randomBytes } from 'node:crypto'
import {
  type Audit,
  createJit,
  type Directory,
  type DirectoryInput,
  directoryFromFile,
  type Store,
  staticDirectory,
  storeDirectory,
} from 'passport-jit'
import { emailStrategy } from 'passport-jit/strategies/email'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { socialStrategy } from 'passport-jit/strategies/social'
import { webhook } from 'passport-jit/webhook'
import { createApp } from './app.js'
import { openDatabase, openShared, sessionSecret } from './backends.js'
import { listen, StartProblem } from './listen.js'
import { type Surroundings, startSurroundings } from './loopback.js'
import { openMail } from './mail.js'
import { seed, storeKey } from './organizations.js'
import { suggestions } from './people.js'

export interface Flags {
  readonly config?: string | undefined
  readonly script: boolean
}

/** A running demo: what it serves with, and how it ends. */
export interface Demo {
  readonly url: string
  readonly store: Store
  readonly audit: Audit
  readonly adminToken: string | undefined
  /** What surrounds the embedded organizations; null where they are the operator's own. */
  readonly around: Surroundings | null
  readonly banner: readonly string[]
  readonly close: () => Promise<void>
}

export async function start({ config, script }: Flags, env: NodeJS.ProcessEnv): Promise<Demo> {
  const log = (line: string) => {
    if (!script) console.error(line)
  }
  const endings: (() => Promise<void>)[] = []
  const close = async () => {
    for (const end of endings) await end()
  }
  try {
    const port = script ? 0 : portOf(env.PORT)
    // A configuration file is read before anything is opened: most mistakes are in it.
    const file = config === undefined ? null : await directoryFromFile(config, env)
    let around: Surroundings | null = null
    const web = await listen(port, config === undefined ? '127.0.0.1' : undefined)
    endings.push(web.close)
    const url = baseUrlOf(env.BASE_URL, script) ?? `http://localhost:${web.port}`

    const banner = [`Smartworkspace is at ${url}`, '']
    if (file === null) {
      around = await startSurroundings(url, port === 0 ? 0 : web.port + 1)
      endings.push(around.close)
      banner.push('Open it and sign in as one of these (no passwords):')
      for (const { name, email, choose, expect } of suggestions)
        banner.push(`  ${name}, ${choose === null ? `by typing ${email}` : `by ${choose}`}. ${expect}`)
      banner.push('', `Test identity providers, and the people in them, at ${around.url}/people/`)
      banner.push(`Decisions at ${url}/decisions, connections, audit chain and deliveries at ${url}/operator`)
    } else {
      const { connections = [], providers = [] } = file.entries ?? {}
      banner.push(`${connections.length} connection(s) in ${config}`)
      for (const { id } of connections) {
        banner.push(`  ${id}: sign in at ${url}/auth/sso/${id}, answers go to ${url}/auth/sso/${id}/callback`)
      }
      for (const { id } of providers.filter(({ protocol }) => protocol === 'social')) {
        banner.push(
          `  ${id}: sign in at ${url}/auth/social/${id}, answers go to ${url}/auth/social/${id}/callback`,
        )
      }
      banner.push(
        '',
        env.ADMIN_TOKEN
          ? `Decisions at ${url}/decisions, audit chain at ${url}/operator`
          : 'Set ADMIN_TOKEN to see the decisions',
      )
    }

    const database = openDatabase({ url: env.DATABASE_URL, config, script }, log)
    endings.push(database.close)
    const shared = await openShared(env.REDIS_URL, log)
    endings.push(shared.close)
    // The embedded people have no mailboxes, so a real mail server is of no use to them.
    const smtpUrl = config === undefined ? undefined : env.SMTP_URL
    const where =
      config === undefined
        ? `read it at ${url}/inbox`
        : env.ADMIN_TOKEN
          ? `read it at ${url}/api/inbox, or set SMTP_URL to send it`
          : 'set SMTP_URL to send it, or ADMIN_TOKEN to read it at /api/inbox'
    const mailing = openMail({ smtpUrl, from: env.MAIL_FROM, baseUrl: url, where })
    const { transport, from, inbox } = mailing
    banner.push(`Database: ${database.label}`, `Sessions and lock: ${shared.label}`, `Mail: ${mailing.label}`)
    // The stories read the inbox as an operator does.
    const adminToken = env.ADMIN_TOKEN || (script ? randomBytes(16).toString('hex') : undefined)

    const began = file ?? staticDirectory(around!.directory, env)
    const directory = around ? await keptDirectory(database.store, around.directory) : began
    // The kit knows these of a file alone.
    const warnings = around ? (began.warnings ?? []) : []
    for (const warning of warnings) log(`warn ${warning}`)
    const jit = createJit({
      baseUrl: url,
      store: database.store,
      lock: shared.lock,
      once: shared.once,
      directory,
      listeners: around ? [webhook({ id: 'receiver', ...around.webhook, allowInsecureRequests: true })] : [],
      strategies: [
        samlStrategy(),
        oidcStrategy(),
        socialStrategy(),
        emailStrategy({ transport, from, appName: 'Smartworkspace' }),
      ],
      log: ({ level, code, message, correlationId }) =>
        log([level, code, message, correlationId && `(${correlationId})`].filter(Boolean).join(' ')),
    })
    if (config === undefined) {
      await jit.ready()
      await seed(database.store, Date.now())
    } else {
      await jit.ready().catch((error: Error) => log(`${error.message}; sign-ins answer 503 until it can`))
    }
    const background = jit.background.start(script ? { interval: 50 } : {})
    // First of all: what it has begun needs the database, and the receiver.
    endings.unshift(background.stop)
    const app = createApp({
      jit,
      store: database.store,
      directory,
      entries: began.entries!,
      switches: around !== null,
      warnings,
      baseUrl: url,
      sessions: shared.sessions,
      sessionSecret: sessionSecret(env),
      inbox,
      adminToken,
      onLoopback: config === undefined,
      suggestions: config === undefined ? suggestions : [],
      idps: around ? `${around.url}/people/` : undefined,
    })
    web.serve(app)
    return { url, store: database.store, audit: jit.audit, adminToken, around, banner, close }
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

/** The embedded organizations in the tables of the store, so that an operator can switch connections. */
async function keptDirectory(store: Store, input: DirectoryInput): Promise<Directory> {
  const { organizations, connections, social, email } = input
  const providers = { ...(social && { social }), ...(email && { email }) }
  // Its test identity providers are on this machine.
  const directory = storeDirectory({ store, keys: [storeKey], providers, allowInsecureRequests: true })
  await directory.import({ organizations, ...(connections && { connections }) })
  return directory
}

function portOf(text = '3000'): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_534) return Number(text)
  throw new StartProblem([`PORT: "${text}" is not a port; it is a number up to 65534`])
}

/** As browsers write an origin, because the `Origin` of their requests is compared with it. */
function baseUrlOf(text: string | undefined, script: boolean): string | null {
  if (!text || script) return null
  const url = URL.canParse(text) ? new URL(text) : null
  if (url && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) return url.origin
  throw new StartProblem(['BASE_URL: it is not an origin such as https://app.example.com, without a path'])
}
