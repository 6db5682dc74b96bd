import fc from 'fast-check'
import { JitError, type UserListing } from 'passport-jit'
import { expect } from 'vitest'
import { broken, brokenBySignIn, grantsByHand, held, type Ledger } from './invariants.js'
import { everyEvent, everyUser } from './replay.js'
import { type Edit, edit, edited } from './settings.js'
import { connections, organizations, type Presented, roles, type World } from './world.js'

export interface Model extends Ledger {
  /** Seats taken, by organization. */
  readonly seats: Map<string, number>
}

/** How often what happened, so that a run which proves nothing shows. */
export interface Tally {
  signIns: number
  joined: number
  refused: number
  administered: number
}

type Command = fc.AsyncCommand<Model, World>

const addresses = [
  'ann@acme.example',
  'bob@acme.example',
  'cy@globex.example',
  'dee@globex.example',
  'eve@elsewhere.example',
]
const groups = fc.oneof(
  fc.record({
    kind: fc.constant('listed' as const),
    values: fc.subarray(['staff', 'board', 'owner', 'admin']),
  }),
  fc.constant({ kind: 'absent' as const }),
  fc.constant({ kind: 'overflow' as const }),
)
const person = fc.record({ subject: fc.constantFrom('1', '2', '3'), name: fc.constantFrom('N', 'M') })

const presented: fc.Arbitrary<Presented> = fc
  .oneof(
    fc.record({
      who: person,
      source: fc.constantFrom(...connections.map((id) => `connection:${id}` as const)),
      email: fc.constantFrom(null, ...addresses),
      emailVerified: fc.constantFrom('yes' as const, 'no' as const, 'unstated' as const),
      groups,
    }),
    fc.record({
      who: person,
      source: fc.constant('provider:social' as const),
      email: fc.constantFrom(null, ...addresses),
      emailVerified: fc.constantFrom('yes' as const, 'no' as const),
      groups: fc.constant({ kind: 'absent' as const }),
    }),
    fc.record({
      who: person,
      source: fc.constant('provider:email' as const),
      email: fc.constantFrom(...addresses),
      emailVerified: fc.constant('yes' as const),
      groups: fc.constant({ kind: 'absent' as const }),
    }),
  )
  .map(({ who, ...rest }) => ({ ...who, ...rest }) as Presented)

class SignIn implements Command {
  constructor(
    readonly presented: Presented,
    readonly tally: Tally,
  ) {}
  check = () => true
  async run(model: Model, world: World) {
    const before = await grantsByHand(world)
    const known = new Set((await everyEvent(world.store)).map(({ change }) => change))
    const facts = {
      presented: this.presented,
      now: world.now(),
      invitations: [...model.invitations.values()],
    }
    const result = await world.signIn(this.presented)
    const events = (await everyEvent(world.store)).filter(({ change }) => !known.has(change))
    this.tally.signIns += 1
    if (result instanceof JitError) {
      this.tally.refused += 1
      expect(
        events.map(({ type }) => type),
        result.message,
      ).toEqual(['denied'])
    }
    expect(await brokenBySignIn(world, model, facts, events, before)).toEqual([])
    for (const { type, detail, user, organization } of events) {
      if (type === 'joined') {
        this.tally.joined += 1
        model.removed.delete(`${user}@${organization}`)
      }
      if (type === 'accepted') model.invitations.delete(detail.invitation as string)
    }
    if (!(result instanceof JitError) && result.verdict === 'allow') {
      // What is written once is not written again: the same answer costs the read alone.
      const again = await world.signIn(this.presented)
      if (again instanceof JitError || again.verdict !== 'allow') throw new Error(`not twice: ${this}`)
      expect(again.changes, 'a second time').toBeNull()
    }
    expect(await broken(world, model.seats)).toEqual([])
  }
  toString = () => `signIn(${JSON.stringify(this.presented)})`
}

/** What an administrator may ask for; users are picked from those that there are. */
type Deed =
  | { do: 'suspend' | 'reactivate'; whole: boolean }
  | { do: 'remove' | 'readmit' | 'removeUser' | 'accept' | 'withdraw' }
  | { do: 'grant' | 'revoke'; role: string }
  | { do: 'readmitUser' | 'changeEmail'; email: string }
  | { do: 'invite'; email: string; role: string }
  | { do: 'update'; name: string | null }
  | { do: 'unlink' | 'deleteConnection' }

const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.record({ do: fc.constantFrom('suspend' as const, 'reactivate' as const), whole: fc.boolean() }),
  fc.record({
    do: fc.constantFrom(
      'remove' as const,
      'readmit' as const,
      'removeUser' as const,
      'accept' as const,
      'accept' as const,
      'withdraw' as const,
      'unlink' as const,
      'deleteConnection' as const,
    ),
  }),
  fc.record({ do: fc.constantFrom('grant' as const, 'revoke' as const), role: fc.constantFrom(...roles) }),
  fc.record({
    do: fc.constantFrom('readmitUser' as const, 'changeEmail' as const),
    email: fc.constantFrom(...addresses),
  }),
  fc.record({
    do: fc.constant('invite' as const),
    email: fc.constantFrom(...addresses),
    role: fc.constantFrom(...roles),
  }),
  fc.record({ do: fc.constant('update' as const), name: fc.constantFrom(null, 'N', 'O') }),
)

/** What an administrator may be told instead; anything else is a fault of ours. */
const answers = new Set([
  'user_unknown',
  'user_suspended',
  'membership_suspended',
  'organization_suspended',
  'last_owner',
  'seats_full',
  'email_taken',
  'invitation_unknown',
  'connection_enabled',
])

class Administer implements Command {
  constructor(
    readonly deed: Deed,
    readonly pick: number,
    readonly organization: (typeof organizations)[number],
    readonly tally: Tally,
  ) {}
  check = () => true
  async run(model: Model, world: World) {
    const users = await everyUser(world.store)
    const someone = users[this.pick % Math.max(users.length, 1)]
    const known = new Set((await everyEvent(world.store)).map(({ change }) => change))
    try {
      await this.act(world, model, someone?.id ?? 'nobody', someone)
      this.tally.administered += 1
    } catch (error) {
      if (!(error instanceof JitError) || !answers.has(error.code)) throw error
    }
    for (const event of await everyEvent(world.store)) {
      if (known.has(event.change)) continue
      expect(event.actor, `${this}`).toBe('admin')
      const at = held(event.user ?? '', event.organization ?? '')
      if (event.type === 'removed' && event.detail.role === null) model.removed.set(at, event.at)
      if (event.type === 'readmitted' && event.detail.role === null) model.removed.delete(at)
      if (event.type === 'joined') model.removed.delete(at)
      if (event.type === 'accepted' || event.type === 'withdrawn')
        model.invitations.delete(event.detail.invitation as string)
      if (event.type === 'deleted') {
        for (const key of model.removed.keys())
          if (key.startsWith(`${event.user}@`)) model.removed.delete(key)
      }
    }
    expect(await broken(world, model.seats)).toEqual([])
  }
  private async act(world: World, model: Model, user: string, listed: UserListing | undefined) {
    const { admin } = world.jit()
    const { organization, deed } = this
    const by = 'admin'
    const waiting = [...model.invitations]
    const [invitation, invited] = waiting[this.pick % Math.max(waiting.length, 1)] ?? [
      'none',
      { organization },
    ]
    switch (deed.do) {
      case 'suspend':
      case 'reactivate':
        return admin[deed.do]({ by, user, ...(!deed.whole && { organization }) })
      case 'remove':
      case 'readmit':
        return admin[deed.do]({ by, user, organization })
      case 'removeUser':
        return admin.removeUser({ by, user })
      case 'grant':
      case 'revoke':
        return admin[deed.do]({ by, user, organization, role: deed.role })
      case 'readmitUser':
        return admin.readmitUser({ by, email: deed.email })
      case 'changeEmail':
        return admin.changeEmail({ by, user, email: deed.email })
      case 'invite': {
        const { email, role } = deed
        const asked = { by, organization, email, role, expiresIn: 10 * 86_400_000 }
        const { invitation: id, changed } = await admin.invite(asked)
        const at = world.now()
        if (changed) model.invitations.set(id, { organization, email, at, expiresAt: at + asked.expiresIn })
        return
      }
      case 'accept':
        return admin.accept({ by, invitation, user })
      case 'withdraw':
        return admin.withdraw({ by, invitation, organization: invited.organization })
      case 'update':
        return admin.update({ by, user, attributes: { name: deed.name } })
      case 'unlink': {
        const identity = listed?.identities[0]
        return identity && admin.unlink({ by, user, identity })
      }
      case 'deleteConnection': {
        const connection = connections[this.pick % connections.length]!
        return admin.deleteConnection({ by, connection, grants: 'revoke' })
      }
    }
  }
  toString = () => `administer(${JSON.stringify(this.deed)}, ${this.pick}, ${this.organization})`
}

class Configure implements Command {
  constructor(readonly edit: Edit) {}
  check = () => true
  async run(model: Model, world: World) {
    world.settings = edited(world.settings, this.edit)
    await world.configure(world.settings)
    expect(await broken(world, model.seats)).toEqual([])
  }
  toString = () => `configure(${JSON.stringify(this.edit)})`
}

class Wait implements Command {
  constructor(readonly days: number) {}
  check = () => true
  async run(_: Model, world: World) {
    world.advance(this.days * 86_400_000)
  }
  toString = () => `wait(${this.days} days)`
}

export const commands = (tally: Tally): fc.Arbitrary<Command>[] => {
  const signIn = presented.map((value) => new SignIn(value, tally))
  const administer = fc
    .tuple(deed, fc.nat({ max: 20 }), fc.constantFrom(...organizations))
    .map(([what, pick, organization]) => new Administer(what, pick, organization, tally))
  return [
    signIn,
    signIn,
    signIn,
    administer,
    administer,
    edit.map((value) => new Configure(value)),
    fc.constantFrom(1, 20).map((days) => new Wait(days)),
  ]
}
