import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type EventType, eventTypes } from './audit.js'
import { type Head, mostWaiting, type Verification } from './chain.js'
import { orSay, type StoreChoice, storeOptions, withStore } from './command-store.js'
import type { Source } from './identity.js'
import { audit } from './ledger.js'

/** Adds `audit verify` and `audit export`. */
export function auditCommands(program: Command): void {
  const commands = program.command('audit').description('The audit trail of a store.')

  storeOptions(commands.command('verify'))
    .description(
      'Check that no decision was altered or removed since it was sealed, and show the newest seal.',
    )
    .addOption(
      new Option(
        '--expect <number:hash>',
        'a newest seal that was noted earlier, and must still be there; without it, a chain whose end was cut off or that was written anew looks sound',
      ).argParser(head),
    )
    .option('--json', 'one JSON object instead of sentences')
    .addHelpText('after', '\nExit code: 0 if nothing is wrong; 1 if something is, or it cannot be told.')
    .action(({ expect, json, ...choice }: StoreChoice & { expect?: Head; json?: boolean }) =>
      orSay(async () => {
        const result = await withStore(choice, (store) => audit(store).verify({ ...(expect && { expect }) }))
        console.log(json ? JSON.stringify(result, null, 2) : sentences(result, expect !== undefined))
        process.exitCode = result.ok ? 0 : 1
      }),
    )

  storeOptions(commands.command('export'))
    .description('Print decisions as lines of JSON, newest first.')
    .option('--user <id>')
    .option('--organization <id>')
    .addOption(new Option('--source <source>', 'connection:ID or provider:ID').argParser(source))
    .addOption(new Option('--type <type>', 'decisions with such a fact').choices(eventTypes))
    .addOption(
      new Option('--from <time>', 'as ISO 8601, such as 2026-01-31 or 2026-01-31T12:00Z').argParser(moment),
    )
    .addOption(new Option('--to <time>', 'before this moment').argParser(moment))
    .addHelpText('after', '\nExit code: 0 if all of them were printed; 1 if not.')
    .action(({ store, schema, ...query }: StoreChoice & Query) =>
      orSay(() =>
        withStore({ ...(store !== undefined && { store }), schema }, async (opened) => {
          try {
            await pipeline(Readable.from(audit(opened).export(query)), process.stdout, { end: false })
          } catch (error) {
            // Who reads has seen enough.
            if ((error as { code?: unknown }).code !== 'EPIPE') throw error
          }
        }),
      ),
    )
}

interface Query {
  readonly user?: string
  readonly organization?: string
  readonly source?: Source
  readonly type?: EventType
  readonly from?: number
  readonly to?: number
}

function sentences({ ok, seals, changes, waiting, head, problems }: Verification, expected: boolean): string {
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`
  const found = `${count(seals, 'seal')} over ${count(changes, 'change')}`
  return [
    ...problems.map(({ message }) => `✗ ${message}`),
    ok ? `✓ ${found}, as they were sealed` : `✗ ${found}: ${count(problems.length, 'problem')}`,
    ...(waiting > 0
      ? [
          `! ${waiting === mostWaiting ? `${mostWaiting} changes or more wait` : count(waiting, 'change') + (waiting === 1 ? ' waits' : ' wait')} for a seal; does the app run jit.background?`,
        ]
      : []),
    ...(ok && head
      ? [
          `newest seal: ${head.number}:${head.hash}${expected ? '' : ' (note it elsewhere, and give it as --expect next time)'}`,
        ]
      : []),
  ].join('\n')
}

function head(text: string): Head {
  const [, number, hash] =
    /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(text) ?? refuse('a number, a colon and 64 hexadecimal digits')
  return { number: Number(number), hash: hash! }
}

function source(text: string): Source {
  return /^(connection|provider):./.test(text) ? (text as Source) : refuse('connection:ID or provider:ID')
}

function moment(text: string): number {
  const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? refuse('a date such as 2026-01-31, or with a time 2026-01-31T12:00Z') : time
}

function refuse(expected: string): never {
  throw new InvalidArgumentError(`It must be ${expected}.`)
}
