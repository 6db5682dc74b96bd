import type { Ending, Person } from '../rig/fleet.js'
import type { Chance } from './plan.js'
import { Cut, codeOf, type Place, type Scene, WatchedBrowser } from './scene.js'

/** What administrators made of somebody, by the edits that were acknowledged. */
export interface Standing {
  account: 'open' | 'suspended' | 'removed'
  membership: 'open' | 'suspended' | 'removed'
  /** By hand: given or taken for good. */
  roles: Record<'admin' | 'owner', 'given' | 'taken' | null>
  attributes: Record<'title' | 'desk', string | null>
  email: string
}

const untouched = (email: string): Standing => ({
  account: 'open',
  membership: 'open',
  roles: { admin: null, owner: null },
  attributes: { title: null, desk: null },
  email,
})

/** Somebody with browsers, and what is known of them. */
export class Somebody {
  standing: Standing
  /** Of their account, where they have been seen with one. */
  user: string | null = null
  readonly browsers: { readonly browser: WatchedBrowser; signIns: number }[] = []
  /** Somebody has taken them for a visit, or for an edit. */
  visiting = false
  editing = false
  /** Changes with each edit, at its beginning and at its end. */
  revision = 0
  /** An edit was refused after an earlier try of it had been cut off: that try may land, now or later. */
  doubtful = false

  constructor(readonly person: Person) {
    this.standing = untouched(person.email)
  }

  get organization(): string {
    return this.person.protocol === 'oidc' ? 'acme' : 'globex'
  }

  /** As if they had never been here, but for what an organization decided of them. */
  forget(): void {
    const { membership, email } = this.standing
    this.standing = { ...untouched(this.person.email), account: 'removed', email }
    // What an organization suspended it keeps out.
    if (membership !== 'open') this.standing.membership = 'removed'
    this.user = null
  }

  readmit(): void {
    this.standing = { ...untouched(this.person.email), membership: this.standing.membership }
  }

  /** The code by which they are refused; null for those who may come in, where there is a seat. */
  get refusal(): string | null {
    const { account, membership } = this.standing
    if (account !== 'open') return account === 'removed' ? 'user_removed' : 'user_suspended'
    return membership === 'suspended' ? 'membership_suspended' : null
  }

  /** The roles that count once they have signed in and are a member. */
  get roles(): string[] {
    const { roles, membership } = this.standing
    if (membership === 'removed') return []
    const byGroup = this.person.groups.includes('admins') && roles.admin !== 'taken'
    return [
      ...(byGroup || roles.admin === 'given' ? ['admin'] : []),
      'member',
      ...(roles.owner === 'given' ? ['owner'] : []),
    ]
  }
}

/** A place where a process runs; any, where none does at the moment. */
export function anywhere(scene: Scene, { one }: Chance): Place {
  const there = scene.places.filter(({ app }) => app)
  return one(there.length > 0 ? there : scene.places)
}

const signedIn = ({ status, location }: Ending) => status === 303 && location === '/me'

/** One visit of somebody, in whatever way people come. Whatever should not be is seen by the scene. */
export async function visit(scene: Scene, somebody: Somebody, luck: Chance): Promise<void> {
  const { browsers, person } = somebody
  const fresh = () => {
    const made = { browser: new WatchedBrowser(scene), signIns: 0 }
    browsers.push(made)
    if (browsers.length > 4) browsers.shift()
    return made
  }
  const known = browsers.length > 0
  const how = luck.one(
    known
      ? (['look', 'again', 'again', 'twice', 'two', 'out'] as const)
      : (['once', 'twice', 'two'] as const),
  )
  if (luck.whole(1, 3) === 1) person.groups = luck.one([['admins'], [], ['staff'], ['admins', 'staff']])
  const browser = how === 'again' || how === 'look' || how === 'out' ? luck.one(browsers) : fresh()
  if (how === 'look') await look(scene, somebody, browser.browser, anywhere(scene, luck))
  else if (how === 'out') await signOut(scene, browser.browser, luck)
  else if (how === 'two')
    await Promise.all([browser, fresh()].map((each) => signIn(scene, somebody, each, luck, 1)))
  else await signIn(scene, somebody, browser, luck, how === 'twice' ? 2 : 1)
}

/** These people, who come for the first time, all at the same moment. */
export async function rush(scene: Scene, crowd: readonly Somebody[], luck: Chance): Promise<void> {
  const places = luck.shuffled(scene.places)
  const answers = await Promise.all(
    crowd.map(({ person, browsers }, index) => {
      const browser = new WatchedBrowser(scene)
      browsers.push({ browser, signIns: 1 })
      return browser.arrive(places[index % 2]!, person).catch(notBegun)
    }),
  )
  await Promise.all(
    answers.map(async (answer, index) => {
      const ending = await answer?.(places[index % 2]!).catch(cut)
      scene.count('rush', judged(scene, crowd[index]!.person, ending ?? null))
    }),
  )
}

/** A sign-in whose answer is brought so many times at once, and what must and must not come of it. */
async function signIn(
  scene: Scene,
  somebody: Somebody,
  held: Somebody['browsers'][number],
  luck: Chance,
  clicks: 1 | 2,
): Promise<void> {
  const { person } = somebody
  const { browser } = held
  held.signIns += 1
  const began = performance.now()
  const before = somebody.revision
  const answer = await browser.arrive(anywhere(scene, luck), person).catch(notBegun)
  if (!answer) return scene.count('sign-ins', 'no start')
  const { refusal, editing, revision } = somebody
  const endings = await Promise.all(
    Array.from({ length: clicks }, () => answer(anywhere(scene, luck)).catch(cut)),
  )
  const settled = !editing && !somebody.doubtful && somebody.revision === revision
  const successes = endings.filter((ending) => ending !== null && signedIn(ending))
  if (successes.length > 1) scene.see(`${person.email}: one answer signed in ${successes.length} times`)
  if (settled && refusal !== null && successes.length > 0)
    scene.see(`${person.email}: signed in, and should be refused with ${refusal}`)
  for (const ending of endings) scene.count('sign-ins', judged(scene, person, ending))
  if (clicks === 1 && settled && before === revision && scene.calm(began)) {
    const code = endings[0] && !signedIn(endings[0]) ? codeOf(endings[0]) : null
    const full = code === 'seats_full' && somebody.organization === 'globex'
    if (code !== null && code !== refusal && code !== 'unavailable' && code !== 'idp_unreachable' && !full)
      scene.see(`${person.email}: refused with ${code} where nothing was amiss`)
    scene.count(
      'sign-ins',
      code === 'unavailable' || code === 'idp_unreachable' ? 'calm, failed' : 'calm, settled',
    )
  }
  if (successes.length > 0) await look(scene, somebody, browser, anywhere(scene, luck))
}

/** How a callback ended: cut off, in a session, or with a code; anything else should not be. */
function judged(scene: Scene, { email }: Person, ending: Ending | null): string {
  if (ending === null) return 'cut'
  if (signedIn(ending)) return 'signed in'
  const code = codeOf(ending)
  if (code === null) scene.see(`${email}: the callback answered ${ending.status} to ${ending.location}`)
  return code ?? 'odd'
}

/** The refusal was judged; that there is nothing to answer to is all that is new. */
const notBegun = (error: unknown): null => {
  if (!(error instanceof Cut) && !/^the start answered/.test((error as Error).message)) throw error
  return null
}

const cut = (error: unknown): null => {
  if (error instanceof Cut) return null
  throw error
}

/** Whose session it is: theirs, or nobody's; undefined where there was no definite answer. */
export async function look(
  scene: Scene,
  somebody: Somebody,
  browser: WatchedBrowser,
  place: Place,
): Promise<string | null | undefined> {
  const { revision, editing } = somebody
  const ending = await browser.go(place, '/me').catch(cut)
  if (ending?.status === 401) return null
  if (ending?.status !== 200) return undefined
  const me = JSON.parse(ending.body) as { id: string; email: string }
  if (!me.email.startsWith(somebody.person.id))
    scene.see(`the browser of ${somebody.person.email} is signed in as ${me.email}`)
  if (!editing && revision === somebody.revision) {
    if (somebody.refusal !== null && !somebody.doubtful)
      scene.see(`${somebody.person.email}: in a session, and should have none: ${somebody.refusal}`)
    somebody.user = me.id
  }
  return me.id
}

async function signOut(scene: Scene, browser: WatchedBrowser, luck: Chance): Promise<void> {
  const ending = await browser.go(anywhere(scene, luck), '/auth/logout', new URLSearchParams()).catch(cut)
  if (ending?.status !== 303) return
  const me = await browser.go(anywhere(scene, luck), '/me').catch(cut)
  if (me?.status === 200) scene.see(`signed out, and still signed in: ${me.body}`)
  scene.count('sign-ins', 'signed out')
}
