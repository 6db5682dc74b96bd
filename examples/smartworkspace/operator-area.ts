import express, { type RequestHandler } from 'express'
import type { DeliveryState, Jit, Store } from 'passport-jit'
import { refuse, sameSite } from './answers.js'
import { filters, queryOf } from './decisions.js'
import { operator } from './operator-api.js'
import { type Chosen, decisionsPage, operatorPage } from './operator-pages.js'
import { namesOf, type Tenants } from './tenants.js'

export interface OperatorArea {
  readonly jit: Jit
  readonly store: Store
  readonly tenants: () => Promise<Tenants>
  readonly baseUrl: string
  /** Whether connections are kept in the store, where they can be switched. */
  readonly switches: boolean
  readonly warnings: readonly string[]
  readonly inbox: boolean
  /** Lets operators through and nobody else. */
  readonly guard: RequestHandler
}

/** What belongs to no tenant: every decision, the connections, the chain, the deliveries. */
export function operatorArea(options: OperatorArea): RequestHandler {
  const { jit, store, tenants: read, inbox } = options
  const area = express.Router()
  area.use(['/decisions', '/operator'], options.guard, sameSite(options.baseUrl))

  area.get('/decisions', async (req, res) => {
    const query = queryOf(req.query, filters, 200)
    if (typeof query === 'string') {
      return refuse(req, res, 400, { error: 'bad_query', title: 'No such list', message: query })
    }
    const tenants = await read()
    const { rows: decisions } = await jit.audit.decisions(query)
    const names = await namesOf(store, tenants)
    const chosen = req.query as Chosen
    res.send(decisionsPage({ decisions, names, tenants, chosen, inbox }).text)
  })

  area.get('/operator', async (req, res) => {
    const state = stateOf(req.query.state)
    const tenants = await read()
    const { rows } = await jit.outbox.deliveries({ limit: 50, ...(state !== null && { state }) })
    const page = operatorPage({
      ...{ tenants, switches: options.switches, warnings: options.warnings, inbox, state },
      held: await holds(store, tenants),
      verified: req.query.verify === undefined ? null : await jit.audit.verify(),
      deliveries: rows,
    })
    res.send(page.text)
  })

  const verbs = { enable: 'enableConnection', disable: 'disableConnection', release: 'releaseSync' } as const
  area.post('/operator/connections/:connection/:verb', async (req, res, next) => {
    const { connection, verb } = req.params
    const switched = verb === 'enable' || verb === 'disable'
    if (!Object.hasOwn(verbs, verb) || (switched && !options.switches)) return next()
    await jit.admin[verbs[verb as keyof typeof verbs]]({ connection, by: operator })
    res.redirect(303, '/operator')
  })
  area.post('/operator/deliveries/retry', express.urlencoded({ extended: false }), async (req, res) => {
    const { listener, change } = Object(req.body) as Record<string, unknown>
    await jit.outbox.retry(String(listener), String(change))
    res.redirect(303, '/operator')
  })
  return area
}

const stateOf = (text: unknown): DeliveryState | null =>
  text === 'pending' || text === 'delivered' || text === 'dead' ? text : null

/** Why the sync of a connection is held, by connection. */
async function holds(store: Store, { connections }: Tenants): Promise<Map<string, string>> {
  const held = new Map<string, string>()
  for (const { id } of connections) {
    const { connection } = await store.load({ source: `connection:${id}`, email: null, organizations: [] })
    if (connection?.held != null) held.set(id, connection.held)
  }
  return held
}
