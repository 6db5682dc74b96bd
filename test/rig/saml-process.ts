import { JitError } from 'passport-jit'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { desk, threads } from './saml-load.js'

// A program that verifies two answers and has nothing else to do: it ends by itself, or its test fails. The
// answers are told as JSON, with how many threads it took.

const { answer, complete } = await desk()
const watched = threads()
const strategy = samlStrategy({ workers: 1 })
const told: string[] = []
for (const given of [answer(), answer((xml) => xml.replace('>alice-1<', '>bob-1<'))]) {
  const outcome = await complete(strategy, given).then(
    ({ subject }) => subject,
    (error: unknown) => (error instanceof JitError ? `${error.code}: ${error.message}` : String(error)),
  )
  told.push(outcome)
}
console.log(JSON.stringify({ told, threads: watched.started.length }))
