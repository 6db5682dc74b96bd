import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Browser, forms, links } from '../../examples/smartworkspace/browser.js'
import { administering, after } from '../../examples/smartworkspace/deeds.js'
import type { Session } from '../../examples/smartworkspace/look.js'
import { correspondents, employees } from '../../examples/smartworkspace/people.js'
import { stageOf } from '../../examples/smartworkspace/play.js'
import { type Demo, start } from '../../examples/smartworkspace/start.js'
import { byCode, bySso, type SignIn, type Stage } from '../../examples/smartworkspace/steps.js'

const { sarah, peter, olga } = employees
const { mira } = correspondents

let demo: Demo
let stage: Stage
let sessions: Session[]
beforeAll(async () => {
  demo = await start({ script: true }, {})
})
afterAll(() => demo.close())
beforeEach(() => {
  sessions = []
  stage = stageOf(demo, sessions)
})

async function enter(person: { readonly email: string }, signIn: SignIn): Promise<Browser> {
  const { browser, page } = await signIn(stage)
  expect([page.url.pathname, page.status]).toEqual(['/', 200])
  sessions.push({ email: person.email, browser })
  return browser
}
const bySuperFantasy = (person: { id: string; email: string }) =>
  enter(person, bySso('superfantasy-saml', person.id))

const get = async (browser: Browser, path: string) => browser.open(demo.url + path)
/** Posts a form that no page had, as one could by hand. */
const post = async (browser: Browser, path: string, fields: Record<string, string>, from = demo.url) =>
  browser.submit(
    { url: new URL(from), status: 200, text: '' },
    { method: 'post', action: demo.url + path, fields },
  )

/** Everything about people that is stored, and how much was decided. */
async function stored() {
  const { rows: users } = await demo.store.users({ limit: 1000 })
  const { rows } = await demo.audit.decisions({ limit: 1000 })
  const { rows: invitations } = await demo.store.invitations({ organization: 'superfantasy' })
  return { users, decisions: rows.map(({ change }) => change), invitations }
}
async function idOf({ email }: { readonly email: string }): Promise<string> {
  return (await stored()).users.find((user) => user.verifiedEmail === email)!.id
}
async function grantsOf(person: { readonly email: string }, organization = 'superfantasy') {
  const user = (await stored()).users.find(({ verifiedEmail }) => verifiedEmail === person.email)!
  const membership = user.memberships.find((entry) => entry.organization === organization)
  return membership?.grants.map(({ role, source }) => `${role} ${source}`).sort()
}

/** What is refused leaves all as it was. */
async function refused(act: () => Promise<{ readonly status: number }>, status: number): Promise<void> {
  const before = await stored()
  expect((await act()).status).toBe(status)
  expect(await stored()).toEqual(before)
}

describe('who may open the pages of an organization', () => {
  test('nobody who is not signed in, and no member without the role', async () => {
    const member = await bySuperFantasy(sarah)
    const owner = await bySuperFantasy(olga)
    const user = await idOf(sarah)
    for (const path of ['/admin/superfantasy', `/admin/superfantasy/people/${user}`]) {
      expect((await get(new Browser(), path)).status, path).toBe(401)
      expect((await get(member, path)).status, path).toBe(403)
      expect((await get(owner, path)).status, path).toBe(200)
    }
    await refused(() => post(new Browser(), '/admin/superfantasy/suspend', { user }), 401)
    await refused(() => post(member, '/admin/superfantasy/suspend', { user }), 403)
    expect(links(await get(owner, '/'))).toContain(`${demo.url}/admin/superfantasy`)
    expect(links(await get(member, '/'))).not.toContain(`${demo.url}/admin/superfantasy`)
  })

  test('an administrator of another one gets the same answer as for one that is not there', async () => {
    const owner = await bySuperFantasy(olga)
    const [other, none] = [await get(owner, '/admin/magictech'), await get(owner, '/admin/nowhere')]
    expect([other.status, none.status]).toEqual([403, 403])
    expect(other.text).toBe(none.text)
  })

  test('a role that does not count in the session does not count here', async () => {
    const throughSso = await bySuperFantasy(peter)
    const byMail = await enter(peter, byCode(peter.email))
    await bySuperFantasy(olga)
    // So that his membership counts in both, and the role that is by his group in one.
    await administering(olga, 'superfantasy', 'grant', { about: 'Peter Okafor', role: 'editor' })(stage)
    const statuses = async (browser: Browser) => [
      (await get(browser, '/admin/superfantasy')).status,
      (await get(browser, '/admin/magictech')).status,
    ]
    expect(await statuses(throughSso)).toEqual([200, 200])
    expect(await statuses(byMail)).toEqual([403, 200])
  })

  test('nobody any more whose role was taken or whose membership was suspended', async () => {
    await bySuperFantasy(olga)
    const his = await bySuperFantasy(peter)
    const page = () => get(his, '/admin/superfantasy')
    expect((await page()).status).toBe(200)
    await administering(olga, 'superfantasy', 'revoke', { about: 'Peter Okafor', role: 'admin' })(stage)
    expect((await page()).status).toBe(403)
    await administering(olga, 'superfantasy', 'readmit', { about: 'Peter Okafor', role: 'admin' })(stage)
    await bySuperFantasy(peter)
    expect((await page()).status).toBe(200)
    await administering(olga, 'superfantasy', 'suspend', { about: 'Peter Okafor' })(stage)
    expect((await page()).status).toBe(401)
    await administering(olga, 'superfantasy', 'reactivate', { about: 'Peter Okafor' })(stage)
  })
})

describe('what an administrator may do', () => {
  test('about the own organization alone, whatever the form says', async () => {
    const owner = await bySuperFantasy(olga)
    await enter(mira, byCode(mira.email))
    const user = await idOf(mira)
    const names = { user, organization: 'magictech' }
    await refused(() => post(owner, '/admin/superfantasy/suspend', names), 404)
    await refused(() => post(owner, '/admin/superfantasy/remove', names), 404)
    await refused(() => post(owner, '/admin/superfantasy/grant', { ...names, role: 'admin' }), 404)
    await refused(() => post(owner, '/admin/magictech/suspend', names), 403)
    expect((await get(owner, `/admin/superfantasy/people/${user}`)).status).toBe(404)

    const own = await enter(peter, byCode(peter.email))
    expect((await post(own, '/admin/magictech/suspend', { user })).status).toBe(200)
    expect((await stored()).users.find(({ id }) => id === user)!.memberships).toMatchObject([
      { organization: 'magictech', status: 'suspended' },
    ])
    await post(own, '/admin/magictech/reactivate', { user })
  })

  test('as who is signed in, whatever the form says', async () => {
    const owner = await bySuperFantasy(olga)
    await bySuperFantasy(sarah)
    const user = await idOf(sarah)
    await post(owner, '/admin/superfantasy/grant', { user, role: 'editor', by: 'somebody else' })
    const { rows } = await demo.audit.decisions({ user, limit: 1 })
    expect(rows[0]).toMatchObject({ actor: await idOf(olga), facts: [{ type: 'granted' }] })
    // The field of another verb is left out: the whole account is not in a tenant's reach.
    for (const verb of [
      'removeUser',
      'changeEmail',
      'unlink',
      'disableConnection',
      'constructor',
      '__proto__',
    ]) {
      await refused(() => post(owner, `/admin/superfantasy/${verb}`, { user, email: 'a@b.example' }), 404)
    }
  })

  test('nothing about owners, save that they own it too', async () => {
    const owner = await bySuperFantasy(olga)
    await bySuperFantasy(sarah)
    const admin = await enter(
      peter,
      after(peter.email, { groups: 'team-leads' }, bySso('superfantasy-saml', peter.id)),
    )
    const [hers, his, other] = [await idOf(olga), await idOf(peter), await idOf(sarah)]
    const path = (verb: string) => `/admin/superfantasy/${verb}`
    await refused(() => post(admin, path('grant'), { user: his, role: 'owner' }), 403)
    await refused(() => post(admin, path('invite'), { email: 'a@superfantasy.example', role: 'owner' }), 403)
    for (const verb of ['suspend', 'remove'])
      await refused(() => post(admin, path(verb), { user: hers }), 403)
    await refused(() => post(admin, path('revoke'), { user: hers, role: 'owner' }), 403)
    const offered = (await get(admin, `${path('people')}/${hers}`)).text
    expect(forms({ url: new URL(demo.url), status: 200, text: offered }).map(({ action }) => action)).toEqual(
      ['/auth/logout'],
    )

    expect((await post(admin, path('grant'), { user: other, role: 'admin' })).status).toBe(200)
    expect(await grantsOf(sarah)).toContain('admin manual')
    expect((await post(owner, path('grant'), { user: other, role: 'owner' })).status).toBe(200)
    expect(await grantsOf(sarah)).toContain('owner manual')
    for (const role of ['owner', 'admin']) await post(owner, path('revoke'), { user: other, role })

    for (const [role, status] of [
      ['owner', 403],
      ['member', 200],
    ] as const) {
      await post(owner, path('invite'), { email: `${role}@partner.example`, role })
      const { id } = (await stored()).invitations.find((waiting) => waiting.role === role)!
      const byAdmin = () => post(admin, path('withdraw'), { invitation: id })
      if (status === 403) await refused(byAdmin, status)
      else expect((await byAdmin()).status).toBe(status)
      await post(owner, path('withdraw'), { invitation: id })
    }
    expect((await stored()).invitations).toEqual([])
  })

  test.each<[string, Record<string, string>, number]>([
    ['grant', { role: 'editor' }, 404],
    ['grant', { user: 'SARAH', role: 'nothing' }, 400],
    ['grant', { user: 'SARAH', role: '' }, 400],
    ['invite', { email: 'nobody', role: 'member' }, 400],
    ['invite', { email: 'a@superfantasy.example' }, 400],
    ['withdraw', { invitation: 'none' }, 404],
  ])('%s with %j is refused with a page that leads back', async (verb, fields, status) => {
    const owner = await bySuperFantasy(olga)
    await bySuperFantasy(sarah)
    const user = fields.user === 'SARAH' ? { user: await idOf(sarah) } : {}
    const before = await stored()
    const page = await post(owner, `/admin/superfantasy/${verb}`, { user: 'nobody', ...fields, ...user })
    expect([page.status, await stored()]).toEqual([status, before])
    expect(links(page)).toContain(`${demo.url}/admin/superfantasy`)
  })
})

describe('a page of another site', () => {
  /** What a browser would send along with a form of another site, and of our own. */
  const headers: [string, Record<string, string>, boolean][] = [
    ['another origin', { origin: 'https://evil.example' }, false],
    ['no origin at all, by the browser’s own word', { 'sec-fetch-site': 'cross-site' }, false],
    ['a neighbour', { 'sec-fetch-site': 'same-site' }, false],
    ['an opaque origin', { origin: 'null' }, false],
    [
      'another name for this machine',
      { origin: 'http://evil.example:3000', 'sec-fetch-site': 'same-origin' },
      false,
    ],
    ['the own page', { 'sec-fetch-site': 'same-origin' }, true],
  ]

  test.each(headers)('%s: the form of an administrator', async (_name, sent, allowed) => {
    const owner = await bySuperFantasy(olga)
    await bySuperFantasy(sarah)
    const user = await idOf(sarah)
    const act = () =>
      fetch(`${demo.url}/admin/superfantasy/suspend`, {
        method: 'POST',
        redirect: 'manual',
        headers: { cookie: owner.cookies(new URL(demo.url)), ...sent },
        body: new URLSearchParams({ user }),
      })
    if (!allowed) return refused(act, 403)
    expect((await act()).status).toBe(303)
    await post(owner, '/admin/superfantasy/reactivate', { user })
  })

  test.each(headers)('%s: the form of the operator', async (_name, sent, allowed) => {
    const act = (verb: string) =>
      fetch(`${demo.url}/operator/connections/initech-saml/${verb}`, {
        method: 'POST',
        redirect: 'manual',
        headers: sent,
      })
    if (!allowed) return refused(() => act('disable'), 403)
    expect((await act('disable')).status).toBe(303)
    expect((await act('enable')).status).toBe(303)
  })

  test('the form that accepts an invitation', async () => {
    const owner = await bySuperFantasy(olga)
    const mine = await enter(mira, byCode(mira.email))
    await post(owner, '/admin/superfantasy/invite', { email: mira.email, role: 'designer' })
    const path = `/invitations/${(await stored()).invitations[0]!.id}/accept`
    await refused(() => post(mine, path, {}, 'https://evil.example/'), 403)
    expect((await post(mine, path, {})).status).toBe(200)
    expect(await grantsOf(mira)).toHaveLength(1)
  })
})
