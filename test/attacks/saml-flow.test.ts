import express from 'express'
import session from 'express-session'
import passport from 'passport'
import { createJit, type Directory, type LogEntry, type Store, staticDirectory } from 'passport-jit'
import { memoryLock, memoryOnce } from 'passport-jit/stores/memory'
import { samlStrategy } from 'passport-jit/strategies/saml'
import { describe, expect, it } from 'vitest'
import { readRequest } from '../../examples/identity-providers/saml.js'
import { expectRefused, twoOrganizations } from '../rig/oidc-app.js'
import { type Browser, browser, listen } from '../rig/oidc-http.js'
import { forge, type Mutation, posted, replace } from '../rig/saml-answer.js'
import { alice, answer, begin, createIdp, post, samlConnection, scene } from '../rig/saml-scene.js'
import { testStore } from '../rig/store.js'

// Attacks on the way an answer takes: replayed, brought to another browser, or after the connection changed.

const unasked: Mutation = replace(/ InResponseTo="[^"]*"/g, '')

/** Posts an answer nobody asked for and, where that is offered, says that it was meant. */
async function bring(client: Browser, callbackUrl: string, form: Record<string, string>) {
  const page = await post(client, callbackUrl, form)
  const ticket = /name="ticket" value="([^"]+)"/.exec(page.text)?.[1]
  return ticket ? post(client, callbackUrl, { ticket }) : page
}

describe('S14 replay', () => {
  const { at, xmlFor, honest } = scene()

  it('S14 the same answer posted again is refused, in the same browser and in another', async () => {
    const begun = await begin(at.app, 'acme')
    const xml = xmlFor(begun)
    expect((await answer(begun, xml)).status).toBe(303)
    const rows = await at.app.rows()
    for (const client of [begun.client, browser()]) {
      const again = await answer({ ...begun, client }, xml)
      expect([again.status, JSON.parse(again.text).error]).toEqual([400, 'attempt_unknown'])
    }
    expect(await at.app.rows()).toEqual(rows)
    await honest()
  })

  it('S14 an answer used before, brought to a new sign-in, is refused', async () => {
    const first = await begin(at.app, 'acme')
    const xml = xmlFor(first)
    expect((await answer(first, xml)).status).toBe(303)
    const rows = await at.app.rows()
    const second = await begin(at.app, 'acme')
    const refusal = { code: 'assertion_refused', status: 403, message: /InResponseTo/ }
    await expectRefused(at.app, second.client, await answer(second, xml), refusal, rows)
    await honest()
  })

  it('S14 of several copies at once, one gets in', async () => {
    const begun = await begin(at.app, 'acme')
    const xml = xmlFor(begun)
    const copies = await Promise.all(Array.from({ length: 8 }, () => answer(begun, xml)))
    expect(copies.map(({ status }) => status).sort()).toEqual([303, ...Array(7).fill(400)])
    expect((await at.app.rows()).users).toHaveLength(1)
  })

  it('S14 an assertion ID is good once, also where another sign-in asked for it', async () => {
    const id: Mutation = replace(/(<saml:Assertion[^>]* ID=")[^"]*/, '$1_once')
    await honest({ before: [id] })
    const rows = await at.app.rows()
    const begun = await begin(at.app, 'acme')
    const again = await answer(begun, xmlFor(begun, { before: [id] }))
    await expectRefused(at.app, begun.client, again, { code: 'answer_replayed', status: 403 }, rows)
    await honest()
  })

  it('S14 the ticket is good once', async () => {
    const begun = await begin(at.app, 'acme')
    const form = { SAMLResponse: posted(xmlFor(begun)), RelayState: begun.relayState }
    const first = await begun.client.go(begun.callbackUrl, {
      method: 'POST',
      body: new URLSearchParams(form),
    })
    expect((await begun.client.go(first.location!)).status).toBe(303)
    const again = await browser().go(first.location!)
    expect([again.status, JSON.parse(again.text).error]).toEqual([400, 'attempt_unknown'])
  })
})

describe('S14 replay at another server, or after a restart', () => {
  /** A server of its own that shares the stores, as one of several behind a balancer does. */
  async function server(shared: { store: Store; once: ReturnType<typeof memoryOnce> }, directory: Directory) {
    const app = express()
    const { origin, close } = await listen('127.0.0.1', app)
    const log: LogEntry[] = []
    const options = {
      baseUrl: 'http://localhost',
      ...shared,
      lock: memoryLock(),
      directory,
      strategies: [samlStrategy()],
    }
    const jit = createJit({ ...options, log: (entry) => log.push(entry) })
    const instance = new passport.Passport()
    app.use(session({ secret: 'test', resave: false, saveUninitialized: false }))
    app.use(instance.session() as express.RequestHandler)
    jit.passport(instance as never)
    app.use(jit.routes(), jit.errorPage())
    await jit.ready()
    return { origin, close }
  }

  it('S14 an assertion used at one server is refused by the next', async () => {
    const idp = await createIdp('acme')
    const fixture = await testStore()
    const once = memoryOnce()
    const directory = staticDirectory({
      organizations: twoOrganizations,
      connections: [samlConnection('acme', idp, { idpInitiated: true })],
    })
    const callback = '/auth/sso/acme/callback'
    const xml = forge({
      issuer: idp.entityId,
      person: alice,
      to: {
        callbackUrl: `http://localhost${callback}`,
        audience: 'http://localhost/auth/sso/acme/metadata',
        requestId: null,
      },
      signing: { key: idp.key },
    })
    const results: [number, string | undefined][] = []
    for (let restart = 0; restart < 3; restart++) {
      const { origin, close } = await server({ store: await fixture.another(), once }, directory)
      const response = await bring(browser(), origin + callback, { SAMLResponse: posted(xml) })
      results.push([response.status, response.status === 303 ? undefined : JSON.parse(response.text).error])
      await close()
    }
    expect(results).toEqual([
      [303, undefined],
      [403, 'answer_replayed'],
      [403, 'answer_replayed'],
    ])
    expect((await fixture.store.users()).rows).toHaveLength(1)
    await fixture.close()
  })
})

describe('S14 an answer that its IdP calls good for ages', () => {
  const kept: number[] = []
  const once = memoryOnce()
  const claim: typeof once.claim = (key, ttl) => {
    if (key.startsWith('assertion:')) kept.push(ttl)
    return once.claim(key, ttl)
  }
  const { xmlFor, honest, at } = scene({ idpInitiated: true }, { once: { ...once, claim } })
  const ages = replace(/NotOnOrAfter="[^"]*"/g, 'NotOnOrAfter="9999-01-01T00:00:00Z"')
  const minute = 60_000

  it('S14 is remembered no longer than the attempt it answers; one that answers none, that long', async () => {
    await honest({ before: [ages] })
    expect(kept).toEqual([11 * minute])
    const begun = await begin(at.app, 'acme')
    const form = { SAMLResponse: posted(xmlFor(begun, { before: [unasked, ages] })) }
    expect((await bring(browser(), begun.callbackUrl, form)).status).toBe(303)
    expect(kept[1]).toBeGreaterThan(Date.parse('9999-01-01') - Date.now())
  })
})

describe('S23 answers nobody asked for', () => {
  const off = scene()
  const on = scene({ idpInitiated: true })

  it('S23 off: refused, with and without RelayState', async () => {
    const begun = await begin(off.at.app, 'acme')
    const xml = off.xmlFor(begun, { before: [unasked] })
    for (const [form, code] of [
      [{ SAMLResponse: posted(xml) }, 'answer_unsolicited'],
      [{ SAMLResponse: posted(xml), RelayState: '/welcome' }, 'attempt_unknown'],
    ] as const) {
      const client = browser()
      const response = await post(client, begun.callbackUrl, form)
      await expectRefused(off.at.app, client, response, {
        code,
        status: code === 'attempt_unknown' ? 400 : 403,
      })
    }
    await off.honest()
  })

  it('S23 on: the person confirms by POST in the same browser, and lands on the configured page', async () => {
    const begun = await begin(on.at.app, 'acme')
    const xml = on.xmlFor(begun, { before: [unasked] })
    const client = browser()
    const page = await post(client, begun.callbackUrl, {
      SAMLResponse: posted(xml),
      RelayState: 'https://evil.example/',
    })
    expect([page.status, await on.at.app.me(client)]).toEqual([200, 401])
    expect((await on.at.app.rows()).users).toEqual([])
    const ticket = /name="ticket" value="([^"]+)"/.exec(page.text)![1]!

    const stranger = browser()
    const stolen = await post(stranger, begun.callbackUrl, { ticket })
    await expectRefused(on.at.app, stranger, stolen, { code: 'attempt_foreign', status: 403 })

    const second = browser()
    const own = await bring(second, begun.callbackUrl, {
      SAMLResponse: posted(on.xmlFor(begun, { before: [unasked] })),
    })
    expect([own.status, own.location]).toEqual([303, `${on.at.app.origin}/me`])
    expect(await on.at.app.me(second)).toBe(200)
  })

  it("S23 on: an answer to somebody's request is not one that nobody asked for", async () => {
    const begun = await begin(on.at.app, 'acme')
    const client = browser()
    const response = await bring(client, begun.callbackUrl, { SAMLResponse: posted(on.xmlFor(begun)) })
    await expectRefused(on.at.app, client, response, {
      code: 'assertion_refused',
      status: 403,
      message: /InResponseTo/,
    })
    await on.honest()
  })
})

describe('S26 another browser', () => {
  const { at, xmlFor, honest } = scene()

  it("S26 the attacker's own answer, posted in the victim's browser, signs nobody in", async () => {
    const attacker = await begin(at.app, 'acme')
    const xml = xmlFor(attacker)
    const victim = browser()
    const response = await answer({ ...attacker, client: victim }, xml)
    await expectRefused(at.app, victim, response, { code: 'attempt_foreign', status: 403 })
    await honest()
  })

  it('S26 nor where the victim has a sign-in of their own under way, which still ends well', async () => {
    const attacker = await begin(at.app, 'acme')
    const victim = await begin(at.app, 'acme')
    const response = await answer({ ...attacker, client: victim.client }, xmlFor(attacker))
    await expectRefused(at.app, victim.client, response, { code: 'attempt_foreign', status: 403 })
    const own = await answer(victim, xmlFor(victim))
    expect([own.status, await at.app.me(victim.client)]).toEqual([303, 200])
  })
})

describe('N01 session fixation', () => {
  const { at, attempt, honest } = scene()

  it('N01 a session from before the sign-in is dead after it', async () => {
    const attacker = (await attempt()).client
    expect(await at.app.me(attacker)).toBe(200)
    const planted = attacker.cookies(at.app.origin).get('connect.sid')!

    const victim = browser()
    victim.cookies(at.app.origin).set('connect.sid', planted)
    const { response } = await attempt({}, victim)
    expect(response.status, response.text).toBe(303)
    expect(victim.cookies(at.app.origin).get('connect.sid')).not.toBe(planted)
    expect(await at.app.me(victim)).toBe(200)
    expect(await at.app.me(attacker)).toBe(401)
    await honest()
  })
})

describe('S25 return addresses', () => {
  const { at, xmlFor } = scene()
  const bad = [
    '//evil.example',
    '/\\evil.example',
    '/%09/evil.example',
    'javascript:alert(1)',
    'https://evil.example',
    `/${'a'.repeat(10_000)}`,
    '/\u0000',
    '',
  ]
  it.each(bad)('S25 %j at the start ends on the default page', async (returnTo) => {
    const client = browser()
    const url = `${at.app.start('acme')}?returnTo=${encodeURIComponent(returnTo)}`
    const started = await client.go(url)
    const query = new URL(started.location!).searchParams
    const begun = { ...readRequest(query.get('SAMLRequest')!)!, relayState: query.get('RelayState')!, client }
    const response = await answer(begun, xmlFor(begun))
    expect([response.status, response.location]).toEqual([303, `${at.app.origin}/me`])
    expect(await at.app.me(client)).toBe(200)
  })

  it.each(bad.filter(Boolean))('S25 %j as RelayState is no sign-in of ours', async (RelayState) => {
    const begun = await begin(at.app, 'acme')
    const response = await post(begun.client, begun.callbackUrl, {
      SAMLResponse: posted(xmlFor(begun)),
      RelayState,
    })
    await expectRefused(at.app, begun.client, response, { code: 'attempt_unknown', status: 400 })
    const own = await answer(begun, xmlFor(begun))
    expect([own.status, own.location]).toEqual([303, `${at.app.origin}/me`])
  })
})

describe('S24 a connection changed while the person is away', async () => {
  const idp = await createIdp('acme')
  const next = await createIdp('acme')
  const made = (connection: Parameters<typeof samlConnection>[2], suspended = false) =>
    staticDirectory({
      organizations: twoOrganizations!.map(
        (entry) => ({ ...entry, status: suspended ? 'suspended' : 'active' }) as never,
      ),
      connections: [samlConnection('acme', idp, connection)],
    })
  const before = made({})
  let current = before
  const directory: Directory = {
    ...before,
    connection: (id) => current.connection(id),
    organization: (id) => current.organization(id),
    domain: (name) => current.domain(name),
  }
  const { at, xmlFor } = scene({}, { directory })
  const write = (begun: Parameters<typeof xmlFor>[0]) => xmlFor(begun, { signing: { key: idp.key } })

  it.each([
    ['disabled', { enabled: false }, false, 'connection_disabled', 403],
    ['given another certificate', { idpMetadata: next.metadata }, false, 'connection_changed', 503],
    ['of an organization that was suspended', {}, true, 'organization_suspended', 403],
  ])(
    'S24 %s: refused at once, before and after the answer was verified',
    async (_name, change, suspended, code, status) => {
      const first = await begin(at.app, 'acme')
      const second = await begin(at.app, 'acme')
      const form = { SAMLResponse: posted(write(second)), RelayState: second.relayState }
      const ticket = await second.client.go(second.callbackUrl, {
        method: 'POST',
        body: new URLSearchParams(form),
      })
      expect(ticket.status).toBe(303)
      try {
        current = made(change, suspended)
        await expectRefused(at.app, first.client, await answer(first, write(first)), { code, status })
        await expectRefused(at.app, second.client, await second.client.go(ticket.location!), { code, status })
      } finally {
        current = before
      }
      const third = await begin(at.app, 'acme')
      const response = await answer(third, write(third))
      expect(response.status, response.text).toBe(303)
    },
  )
})
