#!/usr/bin/env node
import { Command } from 'commander'
import { auditCommands } from './command-audit.js'
import { doctorCommand } from './command-doctor.js'
import { explainCommands } from './command-explain.js'
import { previewCommand } from './command-preview.js'
import { orSay } from './command-store.js'
import { directoryFromFile } from './directory.js'
import { JitError } from './errors.js'

const program = new Command('passport-jit').description(
  'Just-in-time provisioning for Express, Connect and Passport.',
)

program
  .command('check')
  .description('Check a directory file: what is wrong with it, and what is allowed but odd.')
  .argument('<file>', 'the JSON file that directoryFromFile() would read')
  .option('--json', 'one JSON object instead of sentences')
  .addHelpText('after', '\nExit code: 0 if the file can be used, warnings or not; 1 if it cannot.')
  .action((file: string, { json }: { json?: boolean }) =>
    orSay(async () => {
      const { problems, warnings } = await check(file)
      if (json) {
        console.log(JSON.stringify({ ok: problems.length === 0, problems, warnings }, null, 2))
      } else {
        for (const problem of problems) console.log(`✗ ${problem}`)
        for (const warning of warnings) console.log(`! ${warning}`)
        if (problems.length === 0)
          console.log(`✓ ${file} can be used${warnings.length > 0 ? `; ${warnings.length} warning(s)` : ''}`)
      }
      process.exitCode = problems.length > 0 ? 1 : 0
    }),
  )

explainCommands(program)
previewCommand(program)
auditCommands(program)
doctorCommand(program)

async function check(file: string): Promise<{ problems: readonly string[]; warnings: readonly string[] }> {
  try {
    return { problems: [], warnings: (await directoryFromFile(file)).warnings ?? [] }
  } catch (error) {
    if (!(error instanceof JitError)) throw error
    return { problems: error.problems.length > 0 ? error.problems : [error.message], warnings: [] }
  }
}

await program.parseAsync()
