import * as z from 'zod'
import { JitError, schemaProblems } from './errors.js'
import { identityLimits, normalizeEmail, type Source } from './identity.js'

const day = 24 * 60 * 60 * 1000

/** How long an invitation is good for, in milliseconds. */
export const invitationLife = { usual: 14 * day, longest: 90 * day } as const

const plain = (longest: number) =>
  z
    .string()
    .max(longest)
    .regex(/^[^\u0000-\u001f\u007f\p{Surrogate}]*$/u, 'no control characters and no half characters')
const text = plain(identityLimits.text).min(1)

const address = z.string().transform((value, context) => {
  const email = normalizeEmail(value)
  if (email) return email.address
  context.issues.push({ code: 'custom', message: 'not a plain ASCII address', input: value })
  return z.NEVER
})

const identity = z.strictObject({
  source: text
    .regex(/^(?:connection|provider):./, 'a source such as "connection:acme-saml"')
    .transform((value) => value as Source),
  issuer: text,
  subject: text,
})

/** Null clears one. Names that mean something to JavaScript are refused; a record would leave out the first of them. */
const attributes = z
  .custom<Readonly<Record<string, string | null>>>(
    (value) => !Object.hasOwn(Object(value), '__proto__'),
    '"__proto__" cannot name an attribute',
  )
  .pipe(
    z.record(
      text.max(64).refine((name) => !(name in {}), 'cannot name an attribute'),
      plain(identityLimits.attribute).nullable(),
    ),
  )

const asks = z.strictObject
const person = { user: text }
const member = { ...person, organization: text }
const role = { ...member, role: text }
const connection = { connection: text }

/** What an administrator may ask for. Where `organization` is named, it is about that organization alone. */
const commands = {
  suspend: asks({ ...person, organization: text.optional() }),
  reactivate: asks({ ...person, organization: text.optional() }),
  remove: asks(member),
  readmit: asks({ ...member, role: text.optional() }),
  grant: asks(role),
  revoke: asks(role),
  invite: asks({
    organization: text,
    email: address,
    role: text,
    expiresIn: z.number().int().min(1).max(invitationLife.longest).default(invitationLife.usual),
  }),
  withdraw: asks({ invitation: text, organization: text }),
  accept: asks({ invitation: text, user: text }),
  removeUser: asks(person),
  readmitUser: asks({ email: address.optional(), identity: identity.optional() }).refine(
    (named) => (named.email === undefined) !== (named.identity === undefined),
    'name either "email" or "identity"',
  ),
  changeEmail: asks({ ...person, email: address }),
  update: asks({ ...person, attributes }),
  unlink: asks({ ...person, identity }),
  enableConnection: asks(connection),
  disableConnection: asks(connection),
  releaseSync: asks(connection),
  deleteConnection: asks({
    ...connection,
    grants: z.union([z.literal('revoke'), asks({ adoptBy: text })]),
  }),
}

export type Verb = keyof typeof commands

type Of<V extends Verb> = z.output<(typeof commands)[V]>

/** What was asked, with its defaults and its address normalised. */
export type Command = { [V in Verb]: { readonly verb: V } & Readonly<Of<V>> }[Verb]
export type CommandOf<V extends Verb> = Extract<Command, { verb: V }>

/** Who asks, which every command says. */
export interface Asking {
  /** The person who does this, by whatever id the app knows them; kept in the audit trail. */
  readonly by: string
  /** Ties the request, the log and the audit events together; a random one by default. */
  readonly correlationId?: string
}
export type Asked<V extends Verb> = Asking & Readonly<z.input<(typeof commands)[V]>>

/**
 * Reads what an app hands in, which may come from a form of its own.
 * @throws JitError `email_invalid`, and for everything else that is malformed `request_invalid`
 */
export function readCommand<V extends Verb>(verb: V, asked: Asked<V>) {
  const { by, correlationId, ...rest } = Object(asked) as Asking & Record<string, unknown>
  // Left out, `organization` means the whole account: a caller that lost its value must not come to mean that.
  const lost = Object.keys(rest).filter((key) => rest[key] === undefined)
  const problems = lost.map((key) => `${key}: it is there, but has no value`)
  const asking = z.object({ by: text, correlationId: text.optional() }).safeParse({ by, correlationId })
  const parsed = commands[verb].safeParse(rest)
  const issues = [...(asking.error?.issues ?? []), ...(parsed.error?.issues ?? [])]
  problems.push(...schemaProblems(issues))
  if (problems.length === 0) {
    return { by, correlationId, command: { verb, ...parsed.data } as unknown as CommandOf<V> }
  }
  const onlyAddress = issues.length === problems.length && issues.every(({ path }) => path.join() === 'email')
  throw new JitError(
    onlyAddress ? 'email_invalid' : 'request_invalid',
    `jit.admin.${verb}: ${problems.join('; ')}`,
    { problems },
  )
}
