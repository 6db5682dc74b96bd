import { randomUUID } from 'node:crypto'
import { type AdminPorts, type AdminResult, type Call, carryOut, type Done } from './admin-commit.js'
import { type Asked, type CommandOf, readCommand, type Verb } from './administer-command.js'
import { within } from './deadline.js'
import { asJitError } from './errors.js'
import { provisionDefaults } from './provision.js'
import type { Store } from './store.js'

export type { AdminResult } from './admin-commit.js'

/**
 * What administrators do, by the same store, guards and audit trail as sign-ins. Each is one change set, repeating it
 * changes nothing, and each keeps `by`, the acting person, as the events' actor. Whether that person may do it is the
 * app's to decide. Those that require an `organization` touch nothing outside of it and know its members alone
 * (`user_unknown`), so a tenant's own administrators may be let at them; all others are for operators.
 *
 * All reject with `JitError`: `request_invalid` (or `email_invalid`) for what is malformed, `connection_changed` where
 * the directory of this process is not the one in the store, `unavailable` where it cannot be settled in five seconds.
 */
export interface Admin {
  /**
   * With `organization` that membership, which frees its seat; sessions that came through the organization's SSO
   * do not count until it is reactivated. Without it the user: all their sessions end, and no sign-in works. @throws `user_unknown`, `last_owner`
   */
  suspend(asked: Asked<'suspend'>): Promise<AdminResult>
  /** Undoes a suspension; a membership takes a seat again. @throws `user_unknown`, `seats_full` */
  reactivate(asked: Asked<'reactivate'>): Promise<AdminResult>
  /** Ends a membership and the person's sessions; no policy lets them join again. @throws `user_unknown`, `last_owner` */
  remove(asked: Asked<'remove'>): Promise<AdminResult>
  /** Lets policies give again what was taken away: the membership, or with `role` that role. @throws `user_unknown` */
  readmit(asked: Asked<'readmit'>): Promise<AdminResult>
  /**
   * Gives a member a role by hand, the owner role too; sync does not take it back.
   * @throws `user_unknown`, `organization_unknown`, `organization_suspended`, `role_unknown`
   */
  grant(asked: Asked<'grant'>): Promise<AdminResult>
  /** Takes a role away, whatever gave it, and for good. @throws `user_unknown`, `role_unknown`, `last_owner` */
  revoke(asked: Asked<'revoke'>): Promise<AdminResult>
  /**
   * Invites an address; `expiresIn` in milliseconds, 14 days by default and 90 at most. One that waits already with
   * the same role is the answer. Sending it is the app's. Those that wait are listed by `store.invitations`.
   * @throws `organization_unknown`, `organization_suspended`, `role_unknown`
   */
  invite(asked: Asked<'invite'>): Promise<AdminResult & { readonly invitation: string }>
  /** @throws `invitation_unknown` where it is not pending there */
  withdraw(asked: Asked<'withdraw'>): Promise<AdminResult>
  /**
   * Joins by an invitation for the user's own verified address, at that person's click.
   * @throws `invitation_unknown` where it is another's, has expired, is not pending or was overtaken by a removal;
   *   `user_unknown`, `user_suspended`, `membership_suspended`, `organization_suspended`, `role_unknown`, `seats_full`
   */
  accept(asked: Asked<'accept'>): Promise<AdminResult>
  /**
   * Ends the account, and the invitations that wait for it; no way in makes it anew, save a newer invitation by any
   * organization. Whom nobody is to let in is suspended, not removed. @throws `user_unknown`, `last_owner`
   */
  removeUser(asked: Asked<'removeUser'>): Promise<AdminResult>
  /** Lets who was removed come back, by their address or one of their identities. */
  readmitUser(asked: Asked<'readmitUser'>): Promise<AdminResult>
  /** Takes an address for verified on the operator's word; sessions end. @throws `user_unknown`, `email_taken` */
  changeEmail(asked: Asked<'changeEmail'>): Promise<AdminResult>
  /** Sets attributes by name; null clears one. @throws `user_unknown` */
  update(asked: Asked<'update'>): Promise<AdminResult>
  /** Takes an identity away from a user; sessions end. @throws `user_unknown` */
  unlink(asked: Asked<'unlink'>): Promise<AdminResult>
  /** Of a directory kept in the store. @throws `connection_unknown`, `config_invalid` for any other directory */
  enableConnection(asked: Asked<'enableConnection'>): Promise<AdminResult>
  /** Its sessions end for good. @throws as `enableConnection` */
  disableConnection(asked: Asked<'disableConnection'>): Promise<AdminResult>
  /** Lets a connection's sync that was held go on. @throws `connection_unknown` */
  releaseSync(asked: Asked<'releaseSync'>): Promise<AdminResult>
  /**
   * Deletes a connection that is disabled or no longer in the directory. First, one change set for each of its users:
   * its grants are revoked, or become those of another connection of the organization, and its identities end.
   * It reads every user; stopped in the middle, the same call goes on. `decision` is that of its last change.
   * @returns `users`: how many were changed
   * @throws `connection_enabled`, `connection_unknown` for an unknown `adoptBy`, `last_owner`
   */
  deleteConnection(asked: Asked<'deleteConnection'>): Promise<AdminResult & { readonly users: number }>
}

/** @param ports `ready` resolves when tables and directory entries are in the store */
export function administration(ports: AdminPorts & { readonly ready: () => Promise<void> }): Admin {
  const begin = async <V extends Verb>(verb: V, asked: Asked<V>) => {
    const { by, correlationId = randomUUID(), command } = readCommand(verb, asked)
    await ports.ready()
    return { command, call: { by, correlationId } }
  }
  const act = async <V extends Verb>(verb: V, asked: Asked<V>): Promise<Done> => {
    const { command, call } = await begin(verb, asked)
    return carryOut(ports, command, call)
  }
  const verb =
    <V extends Verb>(name: V) =>
    async (asked: Asked<V>): Promise<AdminResult> => {
      const { changed, decision } = await act(name, asked)
      return { changed, decision }
    }
  return {
    suspend: verb('suspend'),
    reactivate: verb('reactivate'),
    remove: verb('remove'),
    readmit: verb('readmit'),
    grant: verb('grant'),
    revoke: verb('revoke'),
    invite: async (asked) => {
      const { changed, decision, invitation } = await act('invite', asked)
      return { changed, decision, invitation: invitation! }
    },
    withdraw: verb('withdraw'),
    accept: verb('accept'),
    removeUser: verb('removeUser'),
    readmitUser: verb('readmitUser'),
    changeEmail: verb('changeEmail'),
    update: verb('update'),
    unlink: verb('unlink'),
    enableConnection: verb('enableConnection'),
    disableConnection: verb('disableConnection'),
    releaseSync: verb('releaseSync'),
    deleteConnection: async (asked) => {
      const { command, call } = await begin('deleteConnection', asked)
      return deleteConnection(ports, command, call)
    },
  }
}

async function deleteConnection(
  ports: AdminPorts,
  command: CommandOf<'deleteConnection'>,
  call: Call,
): Promise<AdminResult & { readonly users: number }> {
  const { connection, grants } = command
  const disconnect = (user: string | null) =>
    carryOut(ports, { verb: 'disconnect', user, connection, grants }, call)
  // Refuses what cannot be done before anybody is looked for.
  await disconnect(null)
  let users = 0
  let decision: string | null = null
  for (;;) {
    for await (const user of usersOf(ports.store, connection)) {
      const done = await disconnect(user)
      if (!done.changed) continue
      users += 1
      decision = done.decision
    }
    const done = await carryOut(ports, command, call)
    // Once more after it is gone: a sign-in may have landed between the two.
    if (!done.changed) return { changed: decision !== null, decision, users }
    decision = done.decision
  }
}

/** Ids of the users who have an identity or a grant of a connection. */
async function* usersOf(store: Store, connection: string): AsyncGenerator<string> {
  let after: string | null = ''
  while (after !== null) {
    const page: Awaited<ReturnType<Store['users']>> = await within(
      provisionDefaults.deadline,
      store.users({ limit: 500, ...(after !== '' && { after }) }),
    ).catch((error: unknown) => {
      throw asJitError(error, 'unavailable', 'the users could not be read')
    })
    for (const { id, identities, memberships } of page.rows) {
      const signsIn = identities.some(({ source }) => source === `connection:${connection}`)
      const holds = memberships.some(({ grants }) =>
        grants.some(({ source }) => source === `sso:${connection}`),
      )
      if (signsIn || holds) yield id
    }
    after = page.next
  }
}
