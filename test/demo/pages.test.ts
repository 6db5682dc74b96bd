import type { UserListing } from 'passport-jit'
import { describe, expect, test } from 'vitest'
import { adminPage, personPage } from '../../examples/smartworkspace/admin-pages.js'
import { html } from '../../examples/smartworkspace/html.js'
import { inboxPage } from '../../examples/smartworkspace/inbox-page.js'
import { refusalPage } from '../../examples/smartworkspace/layout.js'
import { decisionsPage, operatorPage } from '../../examples/smartworkspace/operator-pages.js'
import { workspacePage } from '../../examples/smartworkspace/workspace-page.js'

const hostile = `<img src=x onerror="alert('1')">&amp;`
const escaped = '&#60;img src=x onerror=&#34;alert(&#39;1&#39;)&#34;&#62;&#38;amp;'

describe('what is put into a page is text', () => {
  test('a value, a list of values, and markup inside markup', () => {
    expect(html`<b>${hostile}</b>`.text).toBe(`<b>${escaped}</b>`)
    expect(html`${[hostile, html`<i>${hostile}</i>`]}`.text).toBe(`${escaped}<i>${escaped}</i>`)
    expect(html`${0}${''}${null}${undefined}${false}`.text).toBe('0')
  })

  test('what only looks like markup is escaped too', () => {
    const pretender = { text: '<b>', toString: () => '<b>' } as never
    expect(html`${[pretender]}`.text).not.toContain('<b>')
  })

  const origin = {
    since: 0,
    decision: hostile,
    reason: 'administered',
    actor: hostile,
    by: null,
    because: hostile,
  } as const
  const why = {
    user: hostile,
    organization: hostile,
    membership: { status: 'active', seat: true, origin },
    grants: [
      { role: hostile, source: 'manual', basis: 'person', origin },
      { role: hostile, source: `sso:${hostile}`, basis: 'group', origin },
    ],
    absent: [
      { finding: 'role_removed', about: hostile, origin },
      { finding: 'sync_held', about: hostile, origin },
    ],
  } as const
  const decision = {
    change: hostile,
    at: 0,
    source: `connection:${hostile}`,
    actor: null,
    correlationId: hostile,
    user: hostile,
    organization: hostile,
    reason: 'identity_synced',
    trace: [{ rule: 'roles', finding: hostile, detail: hostile }],
    facts: [{ type: 'granted', user: hostile, organization: hostile, detail: { [hostile]: [hostile] } }],
  } as const
  const say = () => hostile
  const people = new Map([[hostile, hostile]])
  const names = { organization: say, person: say, way: say, place: say, people }
  const grants = [{ role: hostile, source: 'manual', basis: 'person' }] as const
  const user: UserListing = {
    id: hostile,
    version: 1,
    status: 'active',
    epoch: 0,
    verifiedEmail: hostile,
    contactEmail: hostile,
    attributes: { name: hostile },
    identities: [],
    memberships: [{ organization: hostile, status: 'suspended', seat: false, grants }],
  }
  const invitation = {
    id: hostile,
    organization: hostile,
    email: hostile,
    role: hostile,
    at: 0,
    expiresAt: 1,
  }
  const organization = { id: hostile, name: hostile, roles: [hostile, 'owner'], status: 'active' } as never
  const tenants = {
    organizations: new Map([[hostile, organization]]),
    connections: [{ id: hostile, organization: hostile, protocol: 'saml', enabled: true }] as never,
    providers: [],
  }
  const common = { names, inbox: true, decisions: [decision] }

  test.each([
    [
      'the workspace',
      workspacePage({
        ...common,
        user: {
          id: 'u',
          email: hostile,
          attributes: { name: hostile },
          memberships: [{ organization: hostile, status: 'active', active: true, roles: [], grants }],
          via: 'connection:acme-saml',
          epochs: { user: 0, connection: 0 },
        },
        jit: {
          outcome: 'created',
          reason: 'user_provisioned',
          joined: [hostile],
          granted: [hostile],
          revoked: [],
          decision: 'd',
          correlationId: 'c',
        },
        decisions: hostile,
        whys: new Map([[hostile, why]]),
        latest: decision,
        invitations: [invitation],
        administers: new Set([hostile]),
      }),
    ],
    [
      'the list of members',
      adminPage({
        ...common,
        ...{ organization, rank: 'owner', members: [user], removed: [hostile], about: hostile },
        invitations: [invitation],
        facts: { id: hostile, version: 'v', status: 'active', seatLimit: 1, seatsUsed: 1, owners: 1 },
      }),
    ],
    ['a member', personPage({ ...common, organization, rank: 'owner', user: hostile, email: hostile, why })],
    ['the decisions', decisionsPage({ ...common, tenants, chosen: { user: hostile } })],
    [
      'the operator',
      operatorPage({
        ...{ tenants, switches: true, state: null, warnings: [hostile], inbox: true },
        held: new Map([[hostile, hostile]]),
        verified: {
          ...{ ok: false, seals: 1, changes: 1, waiting: 1, head: { number: 1, hash: hostile } },
          problems: [{ problem: 'altered', seal: 1, changes: [hostile], message: hostile }],
        },
        deliveries: [
          {
            ...{ endpoint: hostile, change: hostile, subject: hostile, state: 'dead', attempts: 1, dueAt: 0 },
            log: [{ at: 0, error: hostile }],
          },
        ],
      }),
    ],
  ])('a name from an identity provider, or from anywhere, cannot write into %s', (_name, page) => {
    expect(page.text).toContain(escaped)
    expect(page.text).not.toContain('<img')
    expect(page.text).not.toMatch(/="[^"]*</)
  })

  test('nor can a mail write into the inbox, or a way in into a refusal', () => {
    const mail = { id: 'mail-1', at: 0, to: hostile, subject: hostile, text: hostile, html: hostile }
    const refusal = { title: hostile, sentence: hostile, ways: [{ name: hostile, start: hostile }] }
    for (const page of [inboxPage([mail]).text, refusalPage(refusal).text]) {
      expect(page).toContain(escaped)
      expect(page).not.toContain('<img')
    }
  })
})
