import { type Command, InvalidArgumentError, Option } from 'commander'
import type * as z from 'zod'
import { orSay, type StoreChoice, storeOptions, withStore } from './command-store.js'
import type { OrganizationPreview, PersonPreview } from './comparison.js'
import { directoryFromFile } from './directory.js'
import {
  type Connection,
  candidates,
  connectionSchema,
  type Organization,
  organizationSchema,
} from './policy.js'
import { changesOf, heldSyncs, policiesOf, withoutSecrets } from './policy-change.js'
import { type Preview, preview } from './preview.js'
import { percent, revocationsSchema } from './revocations.js'
import type { Directory, EntryRow, Store } from './store.js'

/** Adds `preview`. */
export function previewCommand(program: Command): void {
  storeOptions(program.command('preview'))
    .description(
      'Say who would gain and lose what if the policy of a file were in force, from what everybody asserted last.',
    )
    .argument('<file>', 'the JSON file that directoryFromFile() would read; its secrets are not needed')
    .addOption(
      new Option('--people <number>', 'how many people are told of one by one').default(200).argParser(count),
    )
    .option('--json', 'one JSON object instead of sentences')
    .addHelpText(
      'after',
      '\nWhere the app reads the file itself, its policy before is not known, and people are compared with what they' +
        '\nhave; a sync that is held is shown as it will be once it is let go.' +
        '\n\nExit code: 0 if it may be taken as it is; 2 if it takes so much, by the default limit, that it must be' +
        '\naccepted (or its sync is held) first; 1 if it cannot be told.',
    )
    .action((file: string, { people, json, ...choice }: StoreChoice & { people: number; json?: boolean }) =>
      orSay(async () => {
        const directory = await directoryFromFile(file, withoutSecrets)
        const found = await withStore(choice, (store) => previewIn(store, directory, people))
        console.log(json ? JSON.stringify(found, null, 2) : sentences(found, people))
        process.exitCode = found.guarded ? 2 : 0
      }),
    )
}

function count(text: string): number {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number > 100_000)
    throw new InvalidArgumentError('It must be a number, 100000 at most.')
  return number
}

async function previewIn(store: Store, directory: Directory, people: number): Promise<Preview> {
  const policies = policiesOf(directory)
  const known = await store.entries.known({
    organizations: policies.organizations.map(({ id }) => id),
    connections: policies.connections.map(({ id }) => id),
    domains: [],
  })
  const lookup =
    <T>(rows: readonly EntryRow[], schema: z.ZodType) =>
    async (id: string): Promise<T | null> =>
      parsed<T>(
        schema,
        rows.find((row) => row.id === id),
      )
  const present = {
    organization: lookup<Organization>(known.organizations, organizationSchema),
    connection: lookup<Connection>(known.connections, connectionSchema),
  }
  const changed = await changesOf(present, policies)
  const changes = changed.length > 0 ? changed : await heldSyncs(store, policies)
  const domain: Directory['domain'] = async (name) => {
    const written = await directory.domain(name)
    if (written.owner) return written
    const rows = await store.entries.domain(candidates(name))
    return { owner: rows && parsed<Organization>(organizationSchema, rows.owner), sso: [] }
  }
  return preview({ store, domain, now: Date.now }, changes, { limit: revocationsSchema.parse({}), people })
}

/** An entry as it is kept; its secrets stay encrypted, and nobody asks for them here. */
function parsed<T>(schema: z.ZodType, row: EntryRow | undefined): T | null {
  if (!row) return null
  try {
    return { ...(schema.parse(JSON.parse(row.entry)) as T), version: row.version }
  } catch {
    return null
  }
}

function sentences({ digest, guarded, organizations, people }: Preview, told: number): string {
  if (organizations.length === 0) return '✓ nobody is concerned'
  return [
    ...organizations.flatMap(summary),
    ...people.map(person),
    ...(people.length === told ? [`  these are the first; --people says how many are told of`] : []),
    guarded ? `! this must be accepted: import it with { accept: "${digest}" }` : `digest ${digest}`,
  ].join('\n')
}

function summary(entry: OrganizationPreview): string[] {
  const { organization, connections, identities, complete, grants, revoked, granted, share, lastOwner } =
    entry
  const counts = (['losing', 'gaining', 'leaving', 'joining', 'refused', 'admitted'] as const)
    .filter((key) => entry[key] > 0)
    .map((key) => `${entry[key]} ${key}`)
  return [
    `${entry.guarded ? '!' : '✓'} ${organization} (${connections.join(', ')}): ${revoked} of ${grants} grants would be ` +
      `revoked (${percent(share)}), ${granted} given; of ${identities}${complete ? '' : ' or more'} identities ` +
      (counts.length > 0 ? counts.join(', ') : 'none is concerned'),
    ...(lastOwner ? [`! ${organization}: its only owner would lose something or be refused`] : []),
  ]
}

function person({
  user,
  organization,
  connection,
  gains,
  loses,
  membership,
  refused,
  admitted,
}: PersonPreview) {
  const roles = (sign: string, changes: PersonPreview['gains']) =>
    changes.map(({ role, because }) => `${sign}${role}${because ? ` ${because}` : ''}`)
  return `  ${user} in ${organization} by ${connection}: ${[
    ...roles('-', loses),
    ...roles('+', gains),
    ...(membership ? [membership] : []),
    ...(refused ? [`refused with ${refused}`] : []),
    ...(admitted ? ['comes in again'] : []),
  ].join('; ')}`
}
