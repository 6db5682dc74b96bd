import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Browser, forms, links, type Page } from '../../examples/smartworkspace/browser.js'
import { chainIsIntact, receiverHasAll } from '../../examples/smartworkspace/checks.js'
import {
  accepting,
  administering,
  after,
  bySsoAnyway,
  provingBy,
  switching,
  unlinking,
} from '../../examples/smartworkspace/deeds.js'
import type { Me, Session } from '../../examples/smartworkspace/look.js'
import { correspondents, employees, members } from '../../examples/smartworkspace/people.js'
import { stageOf } from '../../examples/smartworkspace/play.js'
import { type Demo, start } from '../../examples/smartworkspace/start.js'
import {
  byCode,
  bySocial,
  bySso,
  type SignIn,
  type Stage,
  type Steps,
} from '../../examples/smartworkspace/steps.js'

const { sarah, peter, olga, gita, ivo, lars, grace, hana } = employees
const { mira, lena, omar } = correspondents
const superfantasy = 'superfantasy-saml'
const globex = 'globex-oidc'

let demo: Demo
let stage: Stage
let sessions: Session[]
/** One demo for all, in the order of the tests: what one leaves, another finds. */
beforeAll(async () => {
  demo = await start({ script: true }, {})
})
afterAll(() => demo.close())
beforeEach(() => {
  sessions = []
  stage = stageOf(demo, sessions)
})

/** Signs somebody in, and remembers the browser as theirs. */
async function enter(person: { readonly email: string }, signIn: SignIn): Promise<Browser> {
  const { browser, page } = await signIn(stage)
  expect([page.url.pathname, page.status]).toEqual(['/', 200])
  sessions.push({ email: person.email, browser })
  return browser
}
/** Does something in the page of an administrator, who has signed in. */
async function act(steps: Steps, status = 200): Promise<Page> {
  const { page } = await steps(stage)
  expect(page.status, page.text).toBe(status)
  return page
}
const refusal = async (signIn: SignIn) => {
  const { browser, page } = await signIn(stage)
  expect((await browser.open(`${demo.url}/api/me`)).status).toBe(401)
  return [page.status, /<code>(\w+)<\/code>/.exec(page.text)?.[1]]
}
const statusOf = async (browser: Browser) => (await browser.open(`${demo.url}/api/me`)).status
const statuses = (browsers: readonly Browser[]) => Promise.all(browsers.map(statusOf))
const meIn = async (browser: Browser) => JSON.parse((await browser.open(`${demo.url}/api/me`)).text) as Me

/** A user as the store has them. */
async function stored({ email }: { readonly email: string }) {
  const { rows } = await demo.store.users({ limit: 1000 })
  return rows.find((user) => (user.verifiedEmail ?? user.contactEmail) === email)
}
async function grantsOf(person: { readonly email: string }, organization: string) {
  const membership = (await stored(person))?.memberships.find((entry) => entry.organization === organization)
  return membership?.grants.map(({ role, source }) => `${role} ${source}`).sort()
}
async function tombstonesOf(person: { readonly email: string }, organization: string) {
  const user = (await stored(person))!.id
  const { byId } = await demo.store.load({ user, email: null, organizations: [organization] })
  return byId!.tombstones.map(({ role }) => role)
}
async function latest(person: { readonly email: string }) {
  const { rows } = await demo.audit.decisions({ user: (await stored(person))!.id, limit: 1 })
  return rows[0]!
}
const finding = ({ trace }: Awaited<ReturnType<typeof latest>>, rule: string) =>
  trace.find((entry) => entry.rule === rule)?.finding

const asOlga = () => enter(olga, bySso(superfantasy, olga.id))
const olgaDoes = (verb: string, fields: Record<string, string>) =>
  administering(olga, 'superfantasy', verb, fields)

test('promoted, then out of the groups: sync takes back what it gave, and nothing else', async () => {
  await enter(sarah, bySso(superfantasy, sarah.id))
  const joined = [`designer sso:${superfantasy}`, `member sso:${superfantasy}`]
  expect(await grantsOf(sarah, 'superfantasy')).toEqual(joined)

  const promotion = after(
    sarah.email,
    { groups: 'everyone, design, team-leads' },
    bySso(superfantasy, sarah.id),
  )
  expect((await meIn(await enter(sarah, promotion))).jit).toMatchObject({
    outcome: 'updated',
    reason: 'identity_synced',
    granted: ['admin'],
  })
  expect(await grantsOf(sarah, 'superfantasy')).toEqual([`admin sso:${superfantasy}`, ...joined])

  await asOlga()
  await act(olgaDoes('grant', { about: sarah.name, role: 'editor' }))
  expect((await latest(sarah)).actor).toBe((await stored(olga))!.id)

  await enter(sarah, after(sarah.email, { groups: 'everyone' }, bySso(superfantasy, sarah.id)))
  expect(await grantsOf(sarah, 'superfantasy')).toEqual(['editor manual', `member sso:${superfantasy}`])
})

test('a role that was taken away by hand stays away, until policies may give it again', async () => {
  await enter(sarah, after(sarah.email, { groups: 'everyone, design' }, bySso(superfantasy, sarah.id)))
  await asOlga()
  await act(olgaDoes('revoke', { about: sarah.name, role: 'designer' }))
  await enter(sarah, bySso(superfantasy, sarah.id))
  expect(await grantsOf(sarah, 'superfantasy')).not.toContain(`designer sso:${superfantasy}`)
  await act(olgaDoes('readmit', { about: sarah.name, role: 'designer' }))
  await enter(sarah, bySso(superfantasy, sarah.id))
  expect(await grantsOf(sarah, 'superfantasy')).toContain(`designer sso:${superfantasy}`)
})

test('the acquired colleague’s name follows his identity provider, and nothing else of him', async () => {
  await enter(peter, bySso(superfantasy, peter.id))
  const before = (await stored(peter))!
  expect(before.attributes.name).toBe('Peter Okafor')
  await enter(peter, after(peter.email, { name: 'Peter Lind' }, bySso(superfantasy, peter.id)))
  const { attributes, version: _, ...rest } = (await stored(peter))!
  expect(attributes.name).toBe('Peter Lind')
  expect(before).toMatchObject(rest)
})

test('a removed guest stays out until she is re-admitted', async () => {
  const old = await enter(gita, bySso(superfantasy, gita.id))
  await asOlga()
  await act(olgaDoes('remove', { about: gita.name }))
  expect(await statusOf(old)).toBe(401)
  expect([await grantsOf(gita, 'superfantasy'), await tombstonesOf(gita, 'superfantasy')]).toEqual([
    undefined,
    [null],
  ])
  const back = await enter(gita, bySso(superfantasy, gita.id))
  expect((await meIn(back)).memberships).toEqual([])
  expect(await grantsOf(gita, 'superfantasy')).toBeUndefined()

  await act(olgaDoes('readmit', { about: gita.name }))
  expect(await tombstonesOf(gita, 'superfantasy')).toEqual([])
  const again = await enter(gita, bySso(superfantasy, gita.id))
  expect((await meIn(again)).memberships).toMatchObject([{ organization: 'superfantasy', active: true }])
})

test('an invited colleague keeps the invited role, whatever the groups say', async () => {
  await asOlga()
  await act(olgaDoes('invite', { email: ivo.email, role: 'designer' }))
  const waiting = () => demo.store.invitations({ organization: 'superfantasy' })
  const [invitation] = (await waiting()).rows
  expect(invitation).toMatchObject({ email: ivo.email, role: 'designer' })
  await enter(ivo, bySso(superfantasy, ivo.id))
  expect((await waiting()).rows).toEqual([])
  const invited = [`designer invitation:${invitation!.id}`, `member sso:${superfantasy}`]
  expect(await grantsOf(ivo, 'superfantasy')).toEqual(invited)

  await enter(ivo, after(ivo.email, { groups: 'everyone, design' }, bySso(superfantasy, ivo.id)))
  expect(await grantsOf(ivo, 'superfantasy')).toEqual([...invited, `designer sso:${superfantasy}`].sort())
  await enter(ivo, after(ivo.email, { groups: '' }, bySso(superfantasy, ivo.id)))
  expect(await grantsOf(ivo, 'superfantasy')).toEqual(invited)
})

test('who is signed in accepts the invitation for their own address with a click, and nobody else’s', async () => {
  await asOlga()
  const mine = await enter(mira, byCode(mira.email))
  await act(olgaDoes('invite', { email: mira.email, role: 'designer' }))
  const { rows } = await demo.store.invitations({ organization: 'superfantasy' })
  const path = `/invitations/${rows[0]!.id}/accept`
  const post = (browser: Browser) =>
    browser.submit(
      { url: new URL(demo.url), status: 200, text: '' },
      { method: 'post', action: path, fields: {} },
    )

  expect((await post(new Browser())).status).toBe(401)
  const other = await enter(lars, bySso(superfantasy, lars.id))
  expect((await post(other)).status).toBe(404)
  expect(await grantsOf(mira, 'superfantasy')).toBeUndefined()

  await act(accepting(mira))
  expect(await grantsOf(mira, 'superfantasy')).toEqual([`designer invitation:${rows[0]!.id}`])
  expect((await meIn(mine)).memberships.map(({ organization, active }) => [organization, active])).toEqual(
    expect.arrayContaining([
      ['magictech', true],
      ['superfantasy', true],
    ]),
  )
})

test('a leaver is suspended: every session of his ends on its next request, and he does not come back', async () => {
  const his = [
    await enter(lars, bySso(superfantasy, lars.id)),
    await enter(lars, bySso(superfantasy, lars.id)),
  ]
  const hers = await asOlga()
  expect(await statuses([...his, hers])).toEqual([200, 200, 200])
  await act(olgaDoes('suspend', { about: lars.name }))
  expect(await statuses([...his, hers])).toEqual([401, 401, 200])
  expect((await stored(lars))!.memberships).toMatchObject([{ status: 'suspended', seat: false }])
  expect(await refusal(bySso(superfantasy, lars.id))).toEqual([403, 'membership_suspended'])

  await act(olgaDoes('reactivate', { about: lars.name }))
  expect(await statusOf(await enter(lars, bySso(superfantasy, lars.id)))).toBe(200)
})

test('the only owner can hand ownership on, and not before give it up', async () => {
  await asOlga()
  const away = olgaDoes('revoke', { about: olga.name, role: 'owner' })
  expect((await act(away, 409)).text).toContain('<code>last_owner</code>')
  expect(await grantsOf(olga, 'superfantasy')).toEqual(['owner manual'])

  await enter(ivo, bySso(superfantasy, ivo.id))
  await act(olgaDoes('grant', { about: ivo.name, role: 'owner' }))
  // Her page is gone with the role.
  await act(away, 403)
  expect(await grantsOf(olga, 'superfantasy')).toEqual([])
  await act(administering(ivo, 'superfantasy', 'readmit', { about: olga.name, role: 'owner' }))
  await act(administering(ivo, 'superfantasy', 'grant', { about: olga.name, role: 'owner' }))
})

test('more groups than the identity provider sends change nothing; few do', async () => {
  await enter(grace, bySso(globex, grace.id))
  const before = await grantsOf(grace, 'globex')
  expect(before).toEqual([`auditor sso:${globex}`, `member sso:${globex}`])
  await enter(grace, after(grace.email, { groups: 'a, b, c, d, e, f' }, bySso(globex, grace.id)))
  expect(finding(await latest(grace), 'roles')).toBe('groups_overflow')
  expect(await grantsOf(grace, 'globex')).toEqual(before)
  await enter(grace, after(grace.email, { groups: 'a, b, c, d, e' }, bySso(globex, grace.id)))
  expect(await grantsOf(grace, 'globex')).toEqual([`member sso:${globex}`])
})

describe('an identity provider that names somebody anew', () => {
  test('is refused, and the account stays with the old name, until an operator takes that away', async () => {
    await enter(gita, bySso(superfantasy, gita.id))
    const before = (await stored(gita))!
    const anew = after(gita.email, { id: 'sf-gita-2' }, bySso(superfantasy, 'sf-gita-2'))
    const { page } = await anew(stage)
    expect([page.status, page.text]).toEqual([403, expect.stringContaining('Please ask your IT team')])
    expect(await refusal(anew)).toEqual([403, 'subject_changed'])
    expect((await stored(gita))!).toEqual(before)

    const old = sessions.at(-1)!.browser
    await act(unlinking(gita.email, `connection:${superfantasy}`))
    expect(await statusOf(old)).toBe(401)
    await enter(gita, bySso(superfantasy, 'sf-gita-2'))
    const { id, identities, memberships } = (await stored(gita))!
    expect([id, identities.map(({ subject }) => subject)]).toEqual([before.id, ['sf-gita-2']])
    expect(memberships).toEqual(before.memberships)
  })

  test('is believed where the person shows that the account is theirs by an older way in', async () => {
    const { browser, page } = await bySocial('pixelhub', members.peter.id)(stage)
    const code = (mails: Awaited<ReturnType<Stage['inbox']>>) => /^\d{6}$/m.exec(mails[0]!.text)![0]
    const asked = await browser.submit(page, forms(page)[0]!)
    await browser.submit(asked, forms(asked)[0]!, { code: code(await stage.inbox()) })
    expect(await statusOf(browser)).toBe(200)

    const anew = after(peter.email, { id: 'sf-peter-2' }, bySso(superfantasy, 'sf-peter-2'))
    const account = (await stored(peter))!
    const offer = await anew(stage)
    expect(offer.page.url.pathname).toBe('/auth/prove')
    expect(links(offer.page).map((href) => new URL(href).pathname)).toContain('/auth/social/pixelhub')
    expect((await stored(peter))!).toEqual(account)

    const proved = await enter(
      peter,
      provingBy(bySso(superfantasy, 'sf-peter-2'), 'pixelhub', members.peter.id),
    )
    expect((await meIn(proved)).jit).toMatchObject({ reason: 'subject_migrated' })
    expect(await statusOf(browser)).toBe(401)
    const { id, identities } = (await stored(peter))!
    expect(id).toBe(account.id)
    expect(identities.map(({ subject }) => subject).sort()).toEqual([String(members.peter.id), 'sf-peter-2'])
  })
})

describe('a full organization', () => {
  const seats = async (id: string) => {
    const { organizations } = await demo.store.load({ email: null, organizations: [id] })
    return organizations[0]!.seatsUsed
  }

  test('that lets people wait: joined without a seat, which the next sign-in takes once one is free', async () => {
    await enter(grace, bySso(globex, grace.id))
    const waiting = await enter(hana, bySso(globex, hana.id))
    expect((await meIn(waiting)).memberships).toMatchObject([{ organization: 'globex', active: false }])
    expect([(await stored(hana))!.memberships[0]!.seat, await seats('globex')]).toEqual([false, 1])

    const user = (await stored(grace))!.id
    await stage.operator('/api/admin/suspend', { user, organization: 'globex' })
    const seated = await enter(hana, bySso(globex, hana.id))
    expect((await meIn(seated)).memberships).toMatchObject([{ organization: 'globex', active: true }])
    expect([(await stored(hana))!.memberships[0]!.seat, await seats('globex')]).toEqual([true, 1])
    expect((await stage.operator('/api/admin/reactivate', { user, organization: 'globex' })).status).toBe(403)
  })

  test('that does not: refused, and no account is made', async () => {
    await enter(lena, byCode(lena.email))
    expect(await refusal(byCode(omar.email))).toEqual([403, 'seats_full'])
    expect([await stored(omar), await seats('kiosk')]).toEqual([undefined, 1])
  })
})

test('a connection that is switched off: its sessions end for good, and those of others do not', async () => {
  const hers = await enter(hana, bySso(globex, hana.id))
  const other = await asOlga()
  await act(switching(globex, 'disable'))
  expect(await statuses([hers, other])).toEqual([401, 200])
  expect(await refusal(bySsoAnyway(globex, hana.id))).toEqual([403, 'connection_disabled'])
  const home = await new Browser().open(demo.url)
  expect(links(home).filter((href) => href.endsWith(globex))).toEqual([])

  await act(switching(globex, 'enable'))
  expect(await statuses([hers, other])).toEqual([401, 200])
  expect(await statusOf(await enter(hana, bySso(globex, hana.id)))).toBe(200)
})

test('all of it is sealed and delivered, as it was committed', async () => {
  const { outcome } = await chainIsIntact(stage, demo)
  expect(outcome).toBe('intact')
  await receiverHasAll(stage, demo)
  const received = (await (await fetch(stage.receiver)).json()) as { change: string }[]
  expect(received.length).toBeGreaterThan(30)

  // It takes nothing that is not signed.
  const forged = { type: 'decision.administered', data: { ...received[0], change: 'forged' } }
  const headers = {
    'webhook-id': 'forged',
    'webhook-timestamp': String(Math.floor(Date.now() / 1000)),
    'webhook-signature': `v1,${Buffer.alloc(32).toString('base64')}`,
  }
  const answer = await fetch(stage.receiver, { method: 'POST', headers, body: JSON.stringify(forged) })
  expect(answer.status).toBe(400)
  expect(await (await fetch(stage.receiver)).json()).toEqual(received)
})
