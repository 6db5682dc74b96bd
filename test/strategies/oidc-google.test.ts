import { expect, test } from 'vitest'
import { emailVerified } from '../../strategies/oidc-claims.js'

type Party = Parameters<typeof emailVerified>[0]

const party = (issuer: string) =>
  ({ issuer, emailVerifiedAsText: false, attributes: { email: 'email', name: 'name' } }) as unknown as Party
const claims = { email: 'Ann@corp.example', email_verified: true }

test.each<[string, unknown, string]>([
  ['the Workspace of the address', 'corp.example', 'yes'],
  ['no Workspace, an account that anybody can make', undefined, 'no'],
  ['another Workspace', 'other.example', 'no'],
  ['a Workspace above the address', 'example', 'no'],
  ['a list', ['corp.example'], 'no'],
])('Google as a connection, hd names %s', (_, hd, verified) => {
  expect(emailVerified(party('https://accounts.google.com'), claims, { ...claims, hd })).toBe(verified)
})

test('hd counts from the ID token alone, and is asked of nobody else', () => {
  const withHd = { ...claims, hd: 'corp.example' }
  expect(emailVerified(party('https://accounts.google.com'), withHd, claims)).toBe('no')
  expect(emailVerified(party('https://idp.corp.example'), claims, claims)).toBe('yes')
})
