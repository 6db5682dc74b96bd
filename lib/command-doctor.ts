import { type Command, InvalidArgumentError } from 'commander'
import { orSay, type StoreChoice, storeOptions, withStore } from './command-store.js'
import { type Checkup, examineApp, examineStore } from './doctor.js'
import { JitError } from './errors.js'

/** Adds `doctor`. */
export function doctorCommand(program: Command): void {
  storeOptions(program.command('doctor'))
    .description('Look for mistakes of a deployment that undo what the kit protects.')
    .option('--url <origin>', 'the app as browsers see it, such as https://app.example.com', origin)
    .option('--path <path>', 'where its routes are', '/auth')
    .option('--connection <id>', 'an enabled connection of it, whose sign-in is begun and left')
    .option('--json', 'one JSON object instead of sentences')
    .addHelpText(
      'after',
      `
With a store, its keys and guards are tried by changes that never land. With --url and --connection, a sign-in is begun
as a browser would. What shows only inside the app (sessions in memory, flags of the session cookie, "trust proxy") the
app says in its log at the first sign-in.

Exit code: 0 if nothing is wrong; 1 if something is, or it cannot be told.`,
    )
    .action((options: StoreChoice & { url?: string; path: string; connection?: string; json?: boolean }) =>
      orSay(async () => {
        const { url, path, connection, json } = options
        if (!options.store && !url) {
          throw new JitError('config_invalid', 'nothing to look at: give --store, or --url with --connection')
        }
        if (url !== undefined && connection === undefined) {
          throw new JitError(
            'config_invalid',
            '--connection: --url needs a connection whose sign-in it may begin',
          )
        }
        const found: Checkup[] = [
          ...(options.store ? await withStore(options, examineStore) : []),
          ...(url !== undefined && connection !== undefined
            ? await examineApp({ url, path, connection, now: Date.now, fetch: globalThis.fetch })
            : []),
        ]
        const ok = found.every(({ state }) => state !== 'wrong')
        if (json) console.log(JSON.stringify({ ok, found }, null, 2))
        else for (const { what, state, finding } of found) console.log(`${marks[state]} ${what}: ${finding}`)
        process.exitCode = ok ? 0 : 1
      }),
    )
}

const marks = { sound: '✓', odd: '!', wrong: '✗' } as const

function origin(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new InvalidArgumentError('an http(s) address such as https://app.example.com')
  }
  return new URL(text).origin
}
