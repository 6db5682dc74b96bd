import { randomUUID } from 'node:crypto'
import { refuseMoved } from './configuration.js'
import { requestLimit } from './deadline.js'
import { JitError } from './errors.js'
import { preview } from './preview.js'
import { pause } from './provision.js'
import { type HoldPorts, hold, percent, type RevocationLimit } from './revocations.js'
import type { Directory, Operation, Snapshot } from './store.js'

/** Identities of a changed connection that are looked at before it is taken. */
const lookedAt = 5_000

/** Everything again where a part of it fails: what is there already stays as it is. */
export async function prepare(
  ports: HoldPorts & { readonly directory: Directory },
  limit: RevocationLimit,
): Promise<void> {
  const until = performance.now() + requestLimit
  for (let attempt = 1; ; attempt++) {
    try {
      return await prepareOnce(ports, limit)
    } catch (error) {
      if (error instanceof JitError || attempt === 5 || performance.now() > until) throw error
      await pause(attempt)
    }
  }
}

/**
 * Tables first, then a row for each entry of a static directory, so that guards have rows to stand on. A start does
 * not fail for a policy that would take too much: the sync of its connections is held before it is written.
 */
async function prepareOnce(
  ports: HoldPorts & { readonly directory: Directory },
  limit: RevocationLimit,
): Promise<void> {
  const { store, directory } = ports
  const { organizations = [], connections = [] } = directory.entries ?? {}
  await store.migrate()
  const known = new Map<string, Snapshot>()
  for (const { id, organization } of connections) {
    const query = { source: `connection:${id}`, email: null, organizations: [organization] } as const
    known.set(id, await store.load(query))
  }
  refuseMoved(connections, known, 'start')
  await holdLosses(ports, limit, known)
  const puts: Operation[] = [
    ...organizations.map(
      ({ id, version, name, status, seatLimit }) =>
        ({ op: 'organization.put', id, version, name, status, seatLimit }) as const,
    ),
    ...connections.map(
      ({ id, version, organization, enabled }) =>
        ({ op: 'connection.put', id, version, organization, enabled }) as const,
    ),
  ]
  const batch = 500
  for (let at = 0; at < puts.length; at += batch) {
    const ops = puts.slice(at, at + batch)
    const result = await store.commit({ id: randomUUID(), expect: [], guards: [], ops, events: [] })
    if (!result.committed) {
      throw new Error(`the directory could not be written: ${JSON.stringify(result.conflict)}`)
    }
  }
}

/**
 * Looks at what the entries that changed since they were last written would take. The store knows of a static
 * directory the versions alone, so what people have stands for the policy before.
 */
async function holdLosses(
  ports: HoldPorts & { readonly directory: Directory },
  limit: RevocationLimit,
  known: ReadonlyMap<string, Snapshot>,
): Promise<void> {
  const { store, directory, now } = ports
  const { organizations = [], connections = [] } = directory.entries ?? {}
  for (const organization of organizations) {
    const changes = []
    for (const connection of connections.filter((entry) => entry.organization === organization.id)) {
      const stored = known.get(connection.id)!
      const same =
        stored.connection?.version === connection.version &&
        stored.organizations[0]?.version === organization.version
      if (stored.connection?.held === null && !same) changes.push({ organization, connection, present: null })
    }
    if (changes.length === 0) continue
    const look = { store, domain: directory.domain, now }
    const { organizations: found } = await preview(look, changes, { limit, people: 0, identities: lookedAt })
    for (const { connections: ids, guarded, revoked, grants, share, lastOwner } of found) {
      if (!guarded) continue
      const owner = lastOwner ? ' and touch the only owner' : ''
      const reason = `its changed policy would revoke ${revoked} of ${grants} grants (${percent(share)})${owner}`
      for (const id of ids) await hold(ports, `connection:${id}`, reason)
    }
  }
}
