import type { Conflict } from '../lib/index.js'

/** Thrown on the way through a change set, so that its transaction is rolled back. */
export class Miss {
  constructor(readonly conflict: Conflict) {}
}

export const missedKey = (key: string) => new Miss({ kind: 'key', key })
