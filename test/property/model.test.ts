import fc from 'fast-check'
import { expect, test } from 'vitest'
import { commands, type Model } from './commands.js'
import { settingsAtFirst } from './settings.js'
import { world } from './world.js'

const runs = Number(process.env.PROPERTY_RUNS ?? 150)
const seed = process.env.PROPERTY_SEED === undefined ? {} : { seed: Number(process.env.PROPERTY_SEED) }

test(`whatever ${runs} histories of people, policies, administrators and clocks do, every invariant holds`, async () => {
  const told = { signIns: 0, joined: 0, refused: 0, administered: 0 }
  await fc.assert(
    fc.asyncProperty(fc.commands(commands(told), { maxCommands: 40, size: 'max' }), async (history) => {
      await fc.asyncModelRun(async () => {
        const real = await world(structuredClone(settingsAtFirst))
        const model: Model = { removed: new Map(), invitations: new Map(), seats: new Map() }
        return { model, real }
      }, history)
    }),
    { numRuns: runs, endOnFailure: false, ...seed },
  )
  // A history in which nobody ever gets in proves nothing.
  expect(told.joined).toBeGreaterThan(runs / 3)
  expect(told.refused).toBeGreaterThan(runs / 3)
  expect(told.administered).toBeGreaterThan(runs / 3)
  expect(told.signIns).toBeGreaterThan(runs)
}, 280_000)
