import type { Decision, Outcome } from 'passport-jit'

/** What a decision did for the person, in one word. */
export function outcomeOf({ facts }: Pick<Decision, 'facts'>): Outcome {
  const types = new Set(facts.map(({ type }) => type))
  return types.has('denied')
    ? 'denied'
    : types.has('created')
      ? 'created'
      : types.has('linked')
        ? 'linked'
        : 'updated'
}
