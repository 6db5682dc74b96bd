import { createHash } from 'node:crypto'
import { type Limiter, limiters } from '../lib/index.js'

/**
 * The limits of the e-mail method, each with its default. The defaults count in this process; several processes
 * need limiters that share a backend, such as `RateLimiterRedis`. A window begins with the first request in it.
 */
export interface EmailLimits {
  /** Codes mailed to one address in an hour: 5. */
  readonly addressHour: Limiter
  /** Codes mailed to one address in a day: 10. */
  readonly addressDay: Limiter
  /**
   * Codes asked for by one client in an hour: 60, because an office may share one address. Behind a proxy set
   * Express's `trust proxy`, or everybody is one client.
   */
  readonly clientCodes: Limiter
  /** Codes and links that one client hands in, in an hour: 300. */
  readonly clientGuesses: Limiter
}

// How likely is it that somebody guesses a code of one address within a day, from any number of sessions and
// clients? A guess is right by 1 in 1,000,000 and a code takes five, so codes are what counts. Windows are fixed
// and begin with their first code, so 24 hours of the attacker's choosing can reach into two windows of
// `addressDay`. They miss the first code of the earlier one, unless they begin within ten minutes of it, while
// it can still be guessed at; then they end within ten minutes of the later window's start, for which
// `addressHour` allows nine. Either way 9 + 10 codes, 95 guesses: 0.0095 %.
const hour = 3_600
const defaults: Record<keyof EmailLimits, { points: number; duration: number }> = {
  addressHour: { points: 5, duration: hour },
  addressDay: { points: 10, duration: 24 * hour },
  clientCodes: { points: 60, duration: hour },
  clientGuesses: { points: 300, duration: hour },
}

export const limitNames = Object.keys(defaults) as readonly (keyof EmailLimits)[]

/** The app's own limiters, and one in memory for each that it does not give. */
export const withDefaults = (given: Partial<EmailLimits>): EmailLimits => limiters(defaults, given)

/** An address as a key of a limiter: a hash, so that the limiter's backend holds no list of people. */
export const addressKey = (address: string) =>
  createHash('sha256').update(`limit\0${address}`).digest('base64url')
