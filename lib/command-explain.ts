import { createHmac } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { orSay, type StoreChoice, storeOptions, withStore } from './command-store.js'
import { directoryFromFile } from './directory.js'
import { JitError } from './errors.js'
import { explain } from './explain.js'
import { type Hypothesis, suppose } from './hypothesis.js'
import type { Plan } from './plan.js'
import { withoutSecrets } from './policy-change.js'
import type { Directory, Store } from './store.js'
import { type Absence, type AbsenceFinding, type Origin, type Why, why } from './why.js'

/** Adds `explain` and `why`. */
export function explainCommands(program: Command): void {
  storeOptions(program.command('explain'))
    .description(
      'Say what would happen if somebody signed in under the policy of a file, and why. Writes nothing.',
    )
    .argument('<file>', 'the JSON file that directoryFromFile() would read; its secrets are not needed')
    .addOption(new Option('--connection <id>', 'the connection they would come by').conflicts('provider'))
    .option('--provider <id>', 'the social provider, or "email"')
    .requiredOption('--subject <subject>', 'the NameID of SAML, `sub` of OIDC; of "email" anything')
    .addOption(
      new Option('--claims <claims>', 'a JSON object, or @FILE with one')
        .default({}, '{}')
        .argParser(argument),
    )
    .option('--issuer <issuer>', 'of SAML the entityID; of OIDC by default the connection’s own')
    .option('--json', 'one JSON object instead of sentences')
    .addHelpText(
      'after',
      '\nExit code: 0 if they would come in; 2 if not, or not yet; 1 if it cannot be told.',
    )
    .action((file: string, { json, ...asked }: StoreChoice & Asked) =>
      orSay(async () => {
        const directory = await directoryFromFile(file, withoutSecrets)
        const hypothesis = await hypothesisOf(asked)
        const plan = await withStore(asked, async (store) => {
          const key = await store.hashKey()
          const hash = async () => (value: string) =>
            createHmac('sha256', key).update(value).digest('base64url')
          const ports = { store: asWritten(store, directory), directory, now: Date.now, hash }
          return explain(ports, await suppose(directory, hypothesis, Date.now()))
        })
        console.log(json ? JSON.stringify(plan, null, 2) : sentences(plan))
        process.exitCode = plan.verdict === 'allow' ? 0 : 2
      }),
    )

  storeOptions(program.command('why'))
    .description('Say where each grant of a person in an organization comes from, and why they have no more.')
    .argument('<user>', 'the id of the user')
    .argument('<organization>', 'the id of the organization')
    .option('--json', 'one JSON object instead of sentences')
    .addHelpText('after', '\nExit code: 0 if it could be told; 1 if not, or if there is no such user.')
    .action((user: string, organization: string, { json, ...choice }: StoreChoice & { json?: boolean }) =>
      orSay(async () => {
        const found = await withStore(choice, (store) => why(store, user, organization))
        console.log(json ? JSON.stringify(found, null, 2) : reasons(found))
      }),
    )
}

interface Asked {
  readonly connection?: string
  readonly provider?: string
  readonly subject: string
  readonly claims: Record<string, unknown> | string
  readonly issuer?: string
  readonly json?: boolean
}

/** The claims as they are, or the path of a file with them. */
function argument(text: string): Record<string, unknown> | string {
  if (text.startsWith('@')) return text.slice(1)
  const claims = objectOf(text)
  if (!claims) throw new InvalidArgumentError('It must be a JSON object, or @FILE with one.')
  return claims
}

function objectOf(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    const plain = typeof value === 'object' && value !== null && !Array.isArray(value)
    return plain ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}

async function hypothesisOf({
  connection,
  provider,
  subject,
  claims: given,
  issuer,
}: Asked): Promise<Hypothesis> {
  const claims = typeof given === 'string' ? objectOf(await readFile(given, 'utf8')) : given
  if (!claims) throw new JitError('config_invalid', `--claims: ${String(given)} does not hold a JSON object`)
  const common = { subject, claims, ...(issuer !== undefined && { issuer }) }
  if (connection !== undefined) return { ...common, connection }
  if (provider !== undefined) return { ...common, provider }
  throw new JitError('config_invalid', 'give --connection or --provider')
}

/** The store as if the entries of this directory were the ones in force. */
function asWritten(store: Store, directory: Directory): Store {
  const { organizations = [], connections = [] } = directory.entries ?? {}
  return {
    ...store,
    load: async (query) => {
      const snapshot = await store.load(query)
      const connection = connections.find(({ id }) => query.source === `connection:${id}`)
      const fresh = { seatsUsed: 0, owners: 0 }
      return {
        ...snapshot,
        organizations: organizations
          .filter(({ id }) => query.organizations.includes(id))
          .map(({ id, version, status, seatLimit }) => ({
            ...(snapshot.organizations.find((found) => found.id === id) ?? fresh),
            ...{ id, version, status, seatLimit },
          })),
        connection: connection
          ? {
              ...(snapshot.connection ?? { epoch: 0, held: null }),
              ...{ id: connection.id, organization: connection.organization },
              ...{ version: connection.version, enabled: connection.enabled },
            }
          : snapshot.connection,
      }
    },
  }
}

function sentences(plan: Plan): string {
  const width = Math.max(...plan.trace.map(({ rule, finding }) => rule.length + finding.length))
  const trace = plan.trace.map(({ rule, finding, detail = '' }) =>
    [`  ${rule} ${finding.padEnd(width - rule.length)}`, detail].join('  '),
  )
  if (plan.verdict === 'deny') return [`✗ refused: ${plan.reason}`, ...trace].join('\n')
  if (plan.verdict === 'prove') {
    const { by, address } = plan.proof
    const how =
      by === 'address' ? `the address ${address}, or the account that has it` : `the account of ${address}`
    return [`! not yet: they would have to prove ${how}`, ...trace].join('\n')
  }
  const list = (verb: string, names: readonly string[]) =>
    names.length > 0 ? [`  ${verb} ${names.join(', ')}`] : []
  return [
    `✓ they would come in: ${plan.reason} (${plan.outcome})`,
    ...list('would join', plan.joined),
    ...list('would get', plan.granted),
    ...list('would lose', plan.revoked),
    ...trace,
  ].join('\n')
}

const findings: Readonly<Record<AbsenceFinding, string>> = {
  user_suspended: 'the account is suspended, so no role counts',
  organization_suspended: 'the organization is suspended, so no role counts',
  membership_suspended: 'the membership is suspended, so no role counts',
  without_seat: 'no seat was free, so no role counts',
  membership_removed: 'a person took the membership away, and no policy brings it back',
  role_removed: 'a person took it away, and no policy brings it back',
  membership_left: 'the membership ended',
  role_revoked: 'it was revoked',
  sync_held: 'its sync is held, so its groups neither give nor take',
}

function reasons({ user, organization, membership, grants, absent }: Why): string {
  const state = membership
    ? `a member (${membership.status}${membership.seat ? '' : ', without a seat'}) ${originOf(membership.origin)}`
    : 'no member'
  return [
    `${user} in ${organization}: ${state}`,
    ...grants.map(({ role, source, origin }) => `✓ ${role} (${source}) ${originOf(origin)}`),
    ...absent.map(absence),
  ].join('\n')
}

const absence = ({ finding, about, origin }: Absence) =>
  `✗ ${about === null ? '' : `${about}: `}${findings[finding]}${origin ? `; ${originOf(origin)}` : ''}`

function originOf(origin: Origin | null): string {
  if (!origin) return 'from before the trail'
  const { since, decision, reason, actor, by, because } = origin
  const whose = actor === null ? (by ?? 'the kit') : `${actor} by hand`
  return `since ${new Date(since).toISOString()}, by ${whose}: ${because ?? reason} (decision ${decision})`
}
