import { describe, expect, test } from 'vitest'
import { html } from '../../examples/smartworkspace/html.js'
import { inboxPage } from '../../examples/smartworkspace/inbox-page.js'
import { refusalPage } from '../../examples/smartworkspace/layout.js'
import { workspacePage } from '../../examples/smartworkspace/pages.js'

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

  test('a name from an identity provider cannot write into the workspace', () => {
    const page = workspacePage({
      user: {
        id: 'u',
        email: 'ann@acme.example',
        attributes: { name: hostile },
        memberships: [
          {
            organization: hostile,
            status: 'active',
            active: true,
            roles: [hostile],
            grants: [{ role: hostile, source: 'manual' }],
          },
        ],
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
      organizations: new Map(),
      via: hostile,
      inbox: true,
      decisions: [],
    }).text
    expect(page).toContain(`Hello, ${escaped}`)
    expect(page).not.toContain('<img')
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
