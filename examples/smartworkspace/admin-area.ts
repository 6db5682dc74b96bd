import express, { type Request, type RequestHandler } from 'express'
import type { AdminResult, Decision, Jit, JitUser, Store, UserListing, Why } from 'passport-jit'
import { adminPage, personPage } from './admin-pages.js'
import { refuse, sameSite } from './answers.js'
import { namesOf, type Tenants } from './tenants.js'

export interface AdminArea {
  readonly jit: Jit
  readonly store: Store
  readonly tenants: () => Promise<Tenants>
  readonly baseUrl: string
  readonly inbox: boolean
}

/** What an organization's own administrators may do, with the fields of the form that asks for it. */
const verbs = {
  suspend: ['user'],
  reactivate: ['user'],
  remove: ['user'],
  readmit: ['user', 'role'],
  grant: ['user', 'role'],
  revoke: ['user', 'role'],
  invite: ['email', 'role'],
  withdraw: ['invitation'],
} as const
type Verb = keyof typeof verbs

export type Rank = 'owner' | 'admin'

/** By what somebody administers an organization: a role that counts in this session. */
export function rankOf(user: JitUser | undefined, organization: string): Rank | null {
  const roles = user?.memberships.find((entry) => entry.organization === organization)?.roles ?? []
  return roles.includes('owner') ? 'owner' : roles.includes('admin') ? 'admin' : null
}

/**
 * The pages of an organization's administrators. The organization is that of the path and no other, whoever acts is who
 * is signed in, and what cannot be done `jit.admin` refuses.
 */
export function adminArea({ jit, store, tenants, baseUrl, inbox }: AdminArea): RequestHandler {
  const area = express.Router()
  const fields = express.urlencoded({ extended: false, limit: '10kb' })
  area.use(['/admin', '/invitations'], sameSite(baseUrl))

  area.post('/invitations/:invitation/accept', async (req, res) => {
    if (!req.user) return signInFirst(req, res)
    const { invitation } = req.params
    await jit.admin.accept({ invitation, user: req.user.id, by: req.user.id })
    res.redirect(303, '/')
  })

  // Who is no administrator of it does not learn whether there is such an organization.
  area.use('/admin/:organization', (req, res, next) => {
    if (!req.user) return signInFirst(req, res)
    if (rankOf(req.user, req.params.organization)) return next()
    const message =
      'Only its owners and administrators may open this page, signed in by a way that counts there.'
    refuse(req, res, 403, { error: 'not_admin', title: 'For administrators', message })
  })

  area.get('/admin/:organization', async (req, res) => {
    const { organization: id } = req.params
    const known = await tenants()
    const names = await namesOf(store, known)
    const { organizations } = await store.load({ email: null, organizations: [id] })
    const about = typeof req.query.user === 'string' && req.query.user !== '' ? req.query.user : null
    const members = await membersOf(store, id)
    const { rows: decisions } = await jit.audit.decisions({
      ...{ organization: id, limit: 100 },
      ...(about !== null && { user: about }),
    })
    const page = adminPage({
      ...{ names, inbox, members, about },
      organization: known.organizations.get(id)!,
      rank: rankOf(req.user, id)!,
      facts: organizations[0]!,
      removed: await removedFrom(jit, id, members),
      invitations: (await store.invitations({ organization: id, limit: 1000 })).rows,
      decisions: decisions.map((decision) => within(decision, id)),
    })
    res.send(page.text)
  })

  area.get('/admin/:organization/people/:user', async (req, res, next) => {
    const { organization: id, user } = req.params
    const why = await jit.why(user, id)
    if (!why.membership && !isRemoved(why)) return next()
    const known = await tenants()
    const names = await namesOf(store, known)
    const { rows } = await jit.audit.decisions({ user, organization: id, limit: 100 })
    const page = personPage({
      ...{ names, inbox, why, user },
      organization: known.organizations.get(id)!,
      rank: rankOf(req.user, id)!,
      email: (await store.user(user))?.user.verifiedEmail ?? null,
      decisions: rows.map((decision) => within(decision, id)),
    })
    res.send(page.text)
  })

  area.post('/admin/:organization/:verb', fields, async (req, res, next) => {
    const { organization, verb } = req.params
    if (!Object.hasOwn(verbs, verb)) return next()
    const body = Object(req.body) as Record<string, unknown>
    const asked: Record<string, unknown> = {}
    for (const name of verbs[verb as Verb]) if (Object.hasOwn(body, name)) asked[name] = body[name]
    const { user, role } = asked
    if (rankOf(req.user, organization) !== 'owner' && (await aboutOwners(store, organization, asked))) {
      // Or an administrator could make an owner of themselves.
      const message = 'Only an owner may do this about owners.'
      return refuse(req, res, 403, { error: 'not_owner', title: 'For owners', message })
    }
    const act = jit.admin[verb as Verb] as (asked: object) => Promise<AdminResult>
    await act({ ...asked, organization, by: req.user!.id })
    const page = `/admin/${encodeURIComponent(organization)}`
    const gone = verb === 'remove' || (verb === 'readmit' && role === undefined)
    const person = typeof user === 'string' && !gone ? `/people/${encodeURIComponent(user)}` : ''
    res.redirect(303, page + person)
  })
  return area
}

function signInFirst(req: Request, res: express.Response): void {
  refuse(req, res, 401, { error: 'signed_out', title: 'Please sign in', message: 'Nobody is signed in.' })
}

async function aboutOwners(store: Store, organization: string, asked: Record<string, unknown>) {
  const { user, role, invitation } = asked
  if (role === 'owner') return true
  if (typeof invitation === 'string') {
    const { invitations } = await store.load({ email: null, organizations: [organization], invitation })
    return invitations.some((pending) => pending.organization === organization && pending.role === 'owner')
  }
  const record = typeof user === 'string' ? await store.user(user) : null
  const membership = record?.memberships.find((entry) => entry.organization === organization)
  return membership?.grants.some((grant) => grant.role === 'owner') ?? false
}

/** Members among the first thousand users, which is everybody in a demo. */
async function membersOf(store: Store, organization: string): Promise<UserListing[]> {
  const { rows } = await store.users({ limit: 1000 })
  return rows
    .filter(({ memberships }) => memberships.some((entry) => entry.organization === organization))
    .sort((a, b) => ((a.attributes.name ?? '') < (b.attributes.name ?? '') ? -1 : 1))
}

/** Who was removed and may not come back: those of whom the trail tells, where it is so still. */
async function removedFrom(
  jit: Jit,
  organization: string,
  members: readonly UserListing[],
): Promise<string[]> {
  const { rows } = await jit.audit.decisions({ organization, type: 'removed', limit: 100 })
  const told = new Set(rows.flatMap(({ user }) => user ?? []))
  for (const { id } of members) told.delete(id)
  const whys = await Promise.all([...told].map((user) => jit.why(user, organization).catch(() => null)))
  return whys.flatMap((why) => (why && isRemoved(why) ? why.user : []))
}

const isRemoved = ({ absent }: Why) => absent.some(({ finding }) => finding === 'membership_removed')

/** A decision without what it says of other organizations. */
const within = (decision: Decision, organization: string): Decision => ({
  ...decision,
  facts: decision.facts.filter((fact) => fact.organization === null || fact.organization === organization),
})
