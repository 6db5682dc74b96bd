import assert from 'node:assert/strict'
import type { AuditEvent, Operation, Store } from 'passport-jit'
import { canonical, onFresh, type Runner } from './runner.js'
import type { StoreFixture } from './store.js'
import { sealOf } from './store-trail.js'
import { at, change, connectionPut, event, landed, world } from './store-world.js'

/** What syncs took back, for who watches over them. */
export function revocations(runner: Runner, factory: () => Promise<StoreFixture>): void {
  const check = onFresh(runner, factory)
  let turn = 0
  const write = (store: Store, parts: { ops?: Operation[]; events?: Partial<AuditEvent>[] }) => {
    const id = `write ${turn++}`
    const events = (parts.events ?? []).map((entry, seq) => event(id, seq, entry))
    return landed(store.commit(change(id, { ops: parts.ops ?? [], events })))
  }
  const revoked = (id: string, moment: number, parts: Partial<AuditEvent> = {}): Partial<AuditEvent> => ({
    ...{ type: 'revoked', at: moment, user: 'alice', organization: 'acme', source: `connection:${id}` },
    detail: { role: 'member', source: `sso:${id}` },
    ...parts,
  })
  const grant = (user: string, role: string, source: 'sso:acme-saml' | 'sso:globex-oidc' | 'manual') =>
    ({ op: 'grant.add', user, organization: 'acme', role, source, basis: 'group', at }) as const
  const counted = (name: string, body: (store: Store) => Promise<void>) =>
    check(name, async ({ store }) => {
      await world(store)
      const ops = [
        grant('alice', 'admin', 'sso:acme-saml'),
        grant('bob', 'admin', 'sso:acme-saml'),
        grant('bob', 'member', 'manual'),
      ]
      await write(store, { ops })
      await body(store)
    })
  const acme = (count: number) => ({ source: 'connection:acme-saml', revoked: count, left: 3 })

  counted('revocations counts what the sync of a connection revoked of its own grants', async (store) => {
    const { trail } = store
    assert.deepEqual(await trail.revocations(0), [])
    await write(store, { events: [revoked('acme-saml', 10), revoked('acme-saml', 10), { type: 'left' }] })
    await write(store, { events: [revoked('acme-saml', 20, { user: 'bob' })] })
    assert.deepEqual(await trail.revocations(0), [acme(3)])
    await write(store, {
      events: [
        revoked('acme-saml', 20, { actor: 'an administrator' }),
        revoked('acme-saml', 20, { type: 'granted' }),
        revoked('acme-saml', 20, { source: null }),
        revoked('acme-saml', 20, { source: 'connection:globex-oidc' }),
        revoked('acme-saml', 20, { source: 'provider:acme-saml' }),
        // As long as the prefix of the connection.
        revoked('acme-saml', 20, { source: 'provider:xxacme-saml' }),
        revoked('acme-saml', 20, { detail: { role: 'member', source: 'manual' } }),
        revoked('acme-saml', 20, { detail: { role: 'member', source: 'sso:globex-oidc' } }),
        revoked('acme-saml', 20, { detail: {} }),
      ],
    })
    assert.deepEqual(await trail.revocations(0), [acme(3)])
    await write(store, { events: [revoked('globex-oidc', 20), revoked('gone', 20)] })
    const globex = { source: 'connection:globex-oidc', revoked: 1, left: 0 }
    assert.deepEqual(canonical(await trail.revocations(0)), canonical([acme(3), globex]))
  })

  counted('revocations counts after a moment, sealed or not', async (store) => {
    const { trail } = store
    for (const moment of [10, 20, 20, 30]) await write(store, { events: [revoked('acme-saml', moment)] })
    assert.deepEqual(await trail.revocations(9), [acme(4)])
    assert.deepEqual(await trail.revocations(10), [acme(3)])
    assert.deepEqual(await trail.revocations(19), [acme(3)])
    const { changes } = await trail.unsealed(100)
    assert.ok(
      await trail.seal(
        sealOf(1),
        changes.map((events) => events[0]!.change),
        [],
      ),
    )
    assert.deepEqual(await trail.revocations(20), [acme(1)])
    assert.deepEqual(await trail.revocations(30), [])
  })

  counted('revocations counts anew from when a hold was let go', async (store) => {
    const { trail } = store
    const hold = (held: string | null, moment: number) =>
      write(store, { ops: [{ op: 'connection.hold', id: 'acme-saml', held, at: moment }] })
    for (const moment of [10, 20, 30]) {
      await write(store, { events: [revoked('acme-saml', moment), revoked('globex-oidc', moment)] })
    }
    const globex = { source: 'connection:globex-oidc', revoked: 3, left: 0 }
    const found = async (since: number) => canonical(await trail.revocations(since))
    const none = await found(0)
    assert.deepEqual(none, canonical([acme(3), globex]))
    // Nothing was held, so nothing is let go.
    await hold(null, 25)
    assert.deepEqual(await found(0), none)
    await hold('a reason', 15)
    assert.deepEqual(await found(0), none)
    await hold(null, 20)
    assert.deepEqual(await found(0), canonical([acme(1), globex]))
    assert.deepEqual(await found(29), canonical([acme(1), { ...globex, revoked: 1 }]))
    assert.deepEqual(await found(30), [])
    await hold('another reason', 30)
    assert.deepEqual(await found(0), canonical([acme(1), globex]))
    await hold(null, 35)
    assert.deepEqual(await found(0), canonical([globex]))
    await write(store, { ops: [connectionPut('acme-saml', 'acme', { version: 'v2' })] })
    assert.deepEqual(await found(0), canonical([globex]))
    await write(store, { events: [revoked('acme-saml', 36)] })
    assert.deepEqual(await found(0), canonical([acme(1), globex]))
  })

  counted('revocations leaves out a connection that was removed', async (store) => {
    await write(store, { events: [revoked('acme-saml', 10)] })
    assert.deepEqual(await store.trail.revocations(0), [acme(1)])
    await write(store, { ops: [{ op: 'connection.remove', id: 'acme-saml' }] })
    assert.deepEqual(await store.trail.revocations(0), [])
  })
}
