import { createJit, type Strategy, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { postgresStore } from 'passport-jit/stores/postgres'
import { sqliteStore } from 'passport-jit/stores/sqlite'
import { webhook } from 'passport-jit/webhook'
import { Pool } from 'pg'
import { change, event } from '../contract/store-world.js'
import type { AppOptions } from '../rig/app.js'
import { type Failpoint, failpoints } from '../rig/failpoints.js'

// A process that commits changes and delivers them to a webhook, so that a test can kill it. It reads its options
// from RIG_OPTIONS and tells its steps to its parent.

export interface ProcessOptions {
  readonly store: AppOptions['store']
  /** Where the webhook posts to, and what it signs with. */
  readonly url: string
  readonly secret: string
  /** Changes to commit, each about a user, before anything else. */
  readonly commits: readonly { readonly id: string; readonly user: string }[]
  /** One round and the end; or round after round, until the parent says otherwise. */
  readonly rounds: 'one' | 'many'
  readonly failpoint: Failpoint | null
}

const options = JSON.parse(process.env.RIG_OPTIONS ?? 'null') as ProcessOptions
const points = failpoints((step) => process.send?.({ told: 'step', step }))

const pool =
  options.store.kind === 'postgres'
    ? new Pool({ connectionString: options.store.url, max: options.store.connections })
    : null
const store =
  options.store.kind === 'sqlite' ? sqliteStore({ file: options.store.file }) : postgresStore({ pool: pool! })

const never = () => Promise.reject(new Error('not part of this'))
const jit = createJit({
  baseUrl: 'http://localhost',
  store,
  lock: memoryLock(),
  once: memoryOnce(),
  directory: staticDirectory({ organizations: [{ id: 'o', name: 'O', roles: ['member'] }] }),
  strategies: [{ protocol: 'oidc', attemptKey: () => undefined, begin: never, complete: never } as Strategy],
  listeners: [
    webhook({
      id: 'crm',
      url: options.url,
      secret: options.secret,
      allowInsecureRequests: true,
      timeout: 5_000,
    }),
  ],
})
await jit.ready()

points.watch('store', store, ['commit'])
points.watch('trail', store.trail, ['unsealed', 'seal'])
points.watch('outbox', store.outbox, ['take', 'settle'])
points.arm(options.failpoint)

for (const { id, user } of options.commits) {
  const result = await store.commit(change(id, { events: [event(id, 0, { at: Date.now(), user })] }))
  if (!result.committed) throw new Error(JSON.stringify(result.conflict))
}
if (options.rounds === 'one') {
  await jit.background.runOnce()
  await pool?.end()
  process.disconnect()
} else {
  const running = jit.background.start({ interval: 10 })
  process.send?.({ told: 'running' })
  process.on('message', async () => {
    await running.stop()
    await pool?.end()
    process.disconnect()
  })
  // Without its parent it has no purpose; with it, it must live although nothing of the kit keeps it alive.
  process.on('disconnect', () => process.exit())
}
