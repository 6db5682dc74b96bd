import { setTimeout as sleep } from 'node:timers/promises'
import type { Ending } from '../rig/fleet.js'
import { anywhere, look, type Somebody } from './people.js'
import type { Chance } from './plan.js'
import { Cut, codeOf, type Scene } from './scene.js'

interface Edit {
  readonly verb: string
  readonly asked: object
  /** What it makes of them. */
  readonly makes: () => void
  /** Codes by which it may be refused, and changes nothing. */
  readonly refusals?: readonly string[]
  /** The code that says of a second try that the first one landed. */
  readonly repeated?: string
  /** It ends the sessions there are. */
  readonly endsSessions?: boolean
}

/** One edit, or several at once about different things, until all are settled. */
export async function edit(scene: Scene, somebody: Somebody, luck: Chance, until: number): Promise<void> {
  somebody.editing = true
  somebody.revision += 1
  try {
    if (somebody.browsers.length === 0) return await invite(scene, somebody, luck, until)
    const edits = luck.whole(1, 3) === 1 ? [great(somebody, luck)] : small(somebody, luck)
    await Promise.all(edits.map((each) => persist(scene, somebody, each, luck, until)))
  } finally {
    somebody.editing = false
    somebody.revision += 1
  }
}

/** Somebody who has never been here: invited as an admin, and not any more every other time. */
async function invite(scene: Scene, somebody: Somebody, luck: Chance, until: number): Promise<void> {
  const { organization, person, standing } = somebody
  const asked = { organization, email: person.email, role: 'admin' }
  const set = (to: 'given' | null) => () => {
    standing.roles.admin = to
  }
  const ending = await persist(scene, somebody, { verb: 'invite', asked, makes: set('given') }, luck, until)
  if (!ending || luck.whole(1, 2) === 1) return
  const { invitation } = JSON.parse(ending.body) as { invitation: string }
  const taken = { verb: 'withdraw', asked: { invitation, organization }, repeated: 'invitation_unknown' }
  await persist(scene, somebody, { ...taken, makes: set(null) }, luck, until)
}

/** Ends a membership, so that a seat is free. */
export async function leave(scene: Scene, somebody: Somebody, luck: Chance, until: number): Promise<void> {
  somebody.editing = true
  somebody.revision += 1
  await persist(scene, somebody, removal(somebody), luck, until).finally(() => {
    somebody.editing = false
    somebody.revision += 1
  })
}

function great(somebody: Somebody, { whole }: Chance): Edit {
  const { standing, organization, user } = somebody
  if (standing.account === 'removed') {
    const makes = () => somebody.readmit()
    return { verb: 'readmitUser', asked: { email: standing.email }, makes }
  }
  if (standing.membership === 'removed') {
    const makes = () => {
      standing.membership = 'open'
    }
    // Who is no member, and has nothing left to be lifted, is nobody there.
    return { verb: 'readmit', asked: { user, organization }, makes, repeated: 'user_unknown' }
  }
  if (whole(1, 2) === 1) {
    return {
      verb: 'removeUser',
      asked: { user },
      refusals: ['last_owner'],
      repeated: 'user_unknown',
      endsSessions: true,
      makes: () => somebody.forget(),
    }
  }
  return removal(somebody)
}

function removal({ standing, organization, user }: Somebody): Edit {
  return {
    verb: 'remove',
    asked: { user, organization },
    refusals: ['last_owner', 'user_unknown'],
    endsSessions: true,
    makes: () => {
      standing.membership = 'removed'
      for (const role of ['admin', 'owner'] as const)
        if (standing.roles[role] === 'given') standing.roles[role] = null
    },
  }
}

function small(somebody: Somebody, { shuffled, whole, one }: Chance): Edit[] {
  const { standing, organization, user, person } = somebody
  if (standing.account === 'removed') return []
  const member = { user, organization }
  const attribute = (name: 'title' | 'desk') => (): Edit => {
    const value = one([null, `${name} ${whole(1, 1_000_000)}`])
    const makes = () => {
      standing.attributes[name] = value
    }
    return { verb: 'update', asked: { user, attributes: { [name]: value } }, makes }
  }
  const role = (name: 'admin' | 'owner') => (): Edit => {
    const given = standing.roles[name] === 'given'
    const makes = () => {
      standing.roles[name] = given ? 'taken' : 'given'
    }
    const refusals = ['user_unknown', ...(given ? ['last_owner'] : [])]
    return { verb: given ? 'revoke' : 'grant', asked: { ...member, role: name }, makes, refusals }
  }
  const all: (() => Edit)[] = [
    attribute('title'),
    attribute('desk'),
    role('admin'),
    role('owner'),
    () => {
      const open = standing.account === 'open'
      const makes = () => {
        standing.account = open ? 'suspended' : 'open'
      }
      return open
        ? { verb: 'suspend', asked: { user }, makes, refusals: ['last_owner'], endsSessions: true }
        : { verb: 'reactivate', asked: { user }, makes }
    },
    () => {
      const open = standing.membership === 'open'
      const makes = () => {
        standing.membership = open ? 'suspended' : 'open'
      }
      return open
        ? {
            verb: 'suspend',
            asked: member,
            makes,
            refusals: ['last_owner', 'user_unknown'],
            endsSessions: true,
          }
        : { verb: 'reactivate', asked: member, makes, refusals: ['seats_full', 'user_unknown'] }
    },
    () => {
      const email = person.email.replace('@', `.${whole(1, 1_000_000)}@`)
      const makes = () => {
        standing.email = email
      }
      return { verb: 'changeEmail', asked: { user, email }, makes, endsSessions: true }
    },
  ]
  return shuffled(standing.membership === 'removed' ? all.filter((_, index) => index !== 5) : all)
    .slice(0, whole(1, 3))
    .map((make) => make())
}

/** Asks again and again, as an operator would, until the answer is definite; then it must be so. */
async function persist(
  scene: Scene,
  somebody: Somebody,
  edit: Edit,
  luck: Chance,
  until: number,
): Promise<Ending | null> {
  const { verb, refusals = [], repeated } = edit
  // A sign-in that is under way may end with a session made after the others have ended.
  const sessions = somebody.browsers.map((held) => ({ ...held, held, idle: !somebody.visiting }))
  for (let doubt = false; performance.now() < until; doubt = true) {
    const ending = await scene
      .administer(anywhere(scene, luck), verb, edit.asked)
      .catch((error): Ending | null => {
        if (error instanceof Cut) return null
        throw error
      })
    if (ending && ending.status !== 503) {
      const code = ending.status === 200 ? null : codeOf(ending)
      if (code !== null && !(doubt && code === repeated)) {
        scene.count('edits', code)
        if (!refusals.includes(code)) scene.see(`${verb} of ${somebody.person.email} answered ${code}`)
        somebody.doubtful ||= doubt
        return null
      }
      scene.count('edits', verb)
      edit.makes()
      if (edit.endsSessions) {
        for (const { held, browser, signIns, idle } of sessions) {
          const who = await definitely(scene, somebody, browser, luck, until)
          if (who !== null && (somebody.refusal !== null || (idle && held.signIns === signIns)))
            scene.see(
              `${verb} of ${somebody.person.email} was acknowledged, and a browser is still in: ${who}`,
            )
        }
      }
      // Of two invitations that were asked for one may land late, behind the other's back.
      somebody.doubtful ||= doubt && verb === 'invite'
      return ending
    }
    scene.count('edits', 'asked again')
    await sleep(luck.whole(50, 400))
  }
  scene.see(`${verb} of ${somebody.person.email} was never settled`)
  return null
}

/** Who a browser is signed in as, by an answer that says so. */
async function definitely(
  scene: Scene,
  somebody: Somebody,
  browser: Somebody['browsers'][number]['browser'],
  luck: Chance,
  until: number,
): Promise<string | null> {
  while (performance.now() < until) {
    const who = await look(scene, somebody, browser, anywhere(scene, luck))
    if (who !== undefined) return who
    await sleep(100)
  }
  return null
}
