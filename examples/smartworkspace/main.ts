import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import {
  type Audit,
  createJit,
  type Directory,
  directoryFromFile,
  JitError,
  type Store,
  staticDirectory,
} from 'passport-jit'
import { emailStrategy } from 'passport-jit/strategies/email'
import { oidcStrategy } from 'passport-jit/strategies/oidc'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { socialStrategy } from 'passport-jit/strategies/social'
import { createApp } from './app.js'
import { openDatabase, openShared, sessionSecret } from './backends.js'
import { listen, StartProblem } from './listen.js'
import { startIdentityProviders } from './loopback.js'
import { openMail } from './mail.js'
import { seed } from './organizations.js'
import { suggestions } from './people.js'
import { play } from './play.js'
import { stories } from './stories.js'
import { table } from './table.js'

const usage = `npm run demo                        the Smartworkspace with invented organizations and people
npm run demo -- --config FILE       the same app on the organizations and connections of FILE
npm run demo -- --script            plays the stories over HTTP and prints what happened
npm run demo -- --help              this text

PORT            where the app listens (3000); the test identity providers take the next one
BASE_URL        the app's address as browsers see it (http://localhost:PORT)
DATABASE_URL    PostgreSQL instead of SQLite
REDIS_URL       sessions, lock and one-time values in Redis instead of this process
SMTP_URL        with --config: mails codes for real, such as smtp://user:password@mail.example.com:587
MAIL_FROM       who the mail is from (Smartworkspace <no-reply@ the host of BASE_URL>)
ADMIN_TOKEN     opens /api/decisions, /api/users, /api/inbox and /decisions to who presents it
SESSION_SECRET  signs the session cookies; a random one by default, with REDIS_URL kept in .demo
`

interface Flags {
  readonly config?: string | undefined
  readonly script: boolean
}

/** A running demo: what it serves with, and how it ends. */
interface Demo {
  readonly url: string
  readonly store: Store
  readonly audit: Audit
  readonly adminToken: string | undefined
  readonly banner: readonly string[]
  readonly close: () => Promise<void>
}

async function start({ config, script }: Flags, env: NodeJS.ProcessEnv): Promise<Demo> {
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
    let directory: Directory | null = config === undefined ? null : await directoryFromFile(config, env)
    const web = await listen(port, config === undefined ? '127.0.0.1' : undefined)
    endings.push(web.close)
    const url = baseUrlOf(env.BASE_URL, script) ?? `http://localhost:${web.port}`

    const banner = [`Smartworkspace is at ${url}`, '']
    if (directory === null) {
      const idps = await startIdentityProviders(url, port === 0 ? 0 : web.port + 1)
      endings.push(idps.close)
      directory = staticDirectory(idps.directory, env)
      banner.push('Open it and sign in as one of these (no passwords):')
      for (const { name, email, choose, expect } of suggestions)
        banner.push(`  ${name}, ${choose === null ? `by typing ${email}` : `by ${choose}`}. ${expect}`)
      banner.push('', `Test identity providers at ${idps.url}`)
      banner.push(`Decisions and warnings about the policies at ${url}/decisions`)
    } else {
      const { connections = [], providers = [] } = directory.entries ?? {}
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
        env.ADMIN_TOKEN ? `Decisions at ${url}/decisions` : 'Set ADMIN_TOKEN to see the decisions',
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

    const jit = createJit({
      baseUrl: url,
      store: database.store,
      lock: shared.lock,
      once: shared.once,
      directory,
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
    const app = createApp({
      jit,
      store: database.store,
      directory,
      baseUrl: url,
      sessions: shared.sessions,
      sessionSecret: sessionSecret(env),
      inbox,
      adminToken,
      onLoopback: config === undefined,
      suggestions: config === undefined ? suggestions : [],
    })
    web.serve(app)
    return { url, store: database.store, audit: jit.audit, adminToken, banner, close }
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

function portOf(text = '3000'): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_534) return Number(text)
  throw new StartProblem([`PORT: "${text}" is not a port; it is a number up to 65534`])
}

function baseUrlOf(text: string | undefined, script: boolean): string | null {
  if (!text || script) return null
  return text.replace(/\/$/, '')
}

function flags(args: string[]): Flags & { help: boolean } {
  try {
    const { values } = parseArgs({
      args,
      options: {
        config: { type: 'string' },
        script: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (values.config !== undefined && values.script) {
      throw new Error('--script plays the embedded stories, so it does not go with --config.')
    }
    return values
  } catch (error) {
    const sentence = (error as Error).message.replace(/\.?$/, '.')
    throw new StartProblem([`${sentence} See --help.`])
  }
}

/** A file or an address that the operating system refused; its message names it. */
const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'syscall' in error

/** Why the demo did not start, in sentences; anything that is no sentence is a bug and keeps its stack. */
function tell(error: unknown): void {
  const problems =
    error instanceof StartProblem
      ? error.problems
      : error instanceof JitError
        ? error.problems.length > 0
          ? error.problems
          : [error.message]
        : isSystemError(error)
          ? [error.message]
          : null
  if (problems === null) console.error(error)
  else console.error(['The demo did not start:', ...problems.map((problem) => `  ${problem}`)].join('\n'))
  process.exitCode = 1
}

try {
  const { help, ...chosen } = flags(process.argv.slice(2))
  if (help) {
    process.stdout.write(usage)
  } else {
    const demo = await start(chosen, process.env)
    if (chosen.script) {
      const told = await play(stories, demo)
      console.log(table(told))
      await demo.close()
      if (told.some(({ differences }) => differences.length > 0)) process.exitCode = 1
    } else {
      console.log(`\n${demo.banner.map((line) => (line === '' ? '' : `  ${line}`)).join('\n')}\n`)
      const stop = () => void demo.close().finally(() => process.exit())
      process.once('SIGTERM', stop)
      process.once('SIGINT', stop)
    }
  }
} catch (error) {
  tell(error)
}
