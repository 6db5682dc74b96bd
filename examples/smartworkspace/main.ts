import { parseArgs } from 'node:util'
import { JitError } from 'passport-jit'
import { StartProblem } from './listen.js'
import { play } from './play.js'
import { type Flags, start } from './start.js'
import { stories } from './stories.js'
import { table } from './table.js'

const usage = `npm run demo                        the Smartworkspace with invented organizations and people
npm run demo -- --config FILE       the same app on the organizations and connections of FILE
npm run demo -- --script            plays the stories over HTTP and prints what happened
npm run demo -- --help              this text

PORT            where the app listens (3000); the test identity providers take the next one
BASE_URL        the app's origin as browsers see it, without a path (http://localhost:PORT)
DATABASE_URL    PostgreSQL instead of SQLite
REDIS_URL       sessions, lock and one-time values in Redis instead of this process
SMTP_URL        with --config: mails codes for real, such as smtp://user:password@mail.example.com:587
MAIL_FROM       who the mail is from (Smartworkspace <no-reply@ the host of BASE_URL>)
ADMIN_TOKEN     opens /api/decisions, /api/users, /api/inbox, /api/admin, /decisions and /operator to
                who presents it
SESSION_SECRET  signs the session cookies; a random one by default, with REDIS_URL kept in .demo
`

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
      const told = await play(stories, demo).finally(demo.close)
      console.log(table(told))
      if (told.some(({ differences }) => differences.length > 0)) process.exitCode = 1
    } else {
      const stop = () => void demo.close().finally(() => process.exit())
      process.once('SIGTERM', stop)
      process.once('SIGINT', stop)
      console.log(`\n${demo.banner.map((line) => (line === '' ? '' : `  ${line}`)).join('\n')}\n`)
    }
  }
} catch (error) {
  tell(error)
}
