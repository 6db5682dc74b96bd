import fc from 'fast-check'
import { JitError } from 'passport-jit'
import { expect } from 'vitest'
import { broken, brokenBySignIn, grantsByHand, type Ledger } from './invariants.js'
import { everyEvent } from './replay.js'
import { type Edit, edit, edited } from './settings.js'
import { connections, type Presented, type World } from './world.js'

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
  return [
    signIn,
    signIn,
    signIn,
    edit.map((value) => new Configure(value)),
    fc.constantFrom(1, 20).map((days) => new Wait(days)),
  ]
}
