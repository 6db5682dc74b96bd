import { describe, expect, it } from 'vitest'
import { scene } from '../rig/saml-scene.js'

const { honest } = scene()

describe('honest', () => {
  it('signs in, assertion signed', async () => {
    const { user } = await honest()
    expect(user.email).toBe('alice@acme.example')
    expect(user.memberships.map(({ organization, roles }) => [organization, roles])).toEqual([
      ['acme', ['member']],
    ])
  })
  it('signs in, response signed', async () => void (await honest({ sign: ['Response'] })))
  it('signs in, both', async () => void (await honest({ sign: ['Assertion', 'Response'] })))
})
