import { correspondents, employees, members } from './people.js'
import type { Story } from './play.js'
import { secondDay } from './second-day.js'
import { byAddress, byCode, byCodeAnyway, byLink, bySocial, bySso, proving } from './steps.js'

const { sarah, peter, wanda, otto, grace, ines, milton } = employees
const { mira, tomas } = correspondents
const guest = { name: members.gwen.name, email: members.gwen.emails[0]!.email }

const refused = { outcome: 'denied', rows: { events: 1 } } as const
const joins = {
  outcome: 'created',
  reason: 'user_provisioned',
  rows: { users: 1, memberships: 1, grants: 1, events: 3 },
  memberships: ['magictech: member by domain'],
} as const

const firstDay: readonly Story[] = [
  {
    title: 'new hire by SAML',
    person: sarah,
    way: 'superfantasy-saml',
    steps: byAddress(sarah.email, 'superfantasy-saml', sarah.id),
    outcome: 'created',
    reason: 'user_provisioned',
    rows: { users: 1, identities: 1, memberships: 1, grants: 2, events: 6 },
    memberships: ['superfantasy: designer by sso, member by sso'],
  },
  {
    title: 'the same person again',
    person: sarah,
    way: 'superfantasy-saml',
    steps: bySso('superfantasy-saml', sarah.id),
    outcome: 'unchanged',
    reason: 'identity_known',
    rows: {},
    memberships: ['superfantasy: designer by sso, member by sso'],
  },
  {
    title: 'colleague from the acquired company',
    person: peter,
    way: 'superfantasy-saml',
    steps: bySso('superfantasy-saml', peter.id),
    outcome: 'linked',
    reason: 'identity_linked',
    rows: { identities: 1, memberships: 1, grants: 2, events: 5 },
    memberships: ['magictech: admin by hand', 'superfantasy: admin by sso, member by sso'],
  },
  {
    title: 'new hire by OpenID Connect',
    person: grace,
    way: 'globex-oidc',
    steps: byAddress(grace.email, 'globex-oidc', grace.id),
    outcome: 'created',
    reason: 'user_provisioned',
    rows: { users: 1, identities: 1, memberships: 1, grants: 2, events: 6 },
    memberships: ['globex: auditor by sso, member by sso'],
  },
  {
    title: 'JIT off, no account',
    person: ines,
    way: 'initech-saml',
    steps: bySso('initech-saml', ines.id),
    ...refused,
    reason: 'user_not_provisioned',
    memberships: [],
  },
  {
    title: 'JIT off, account made by hand',
    person: milton,
    way: 'initech-saml',
    steps: bySso('initech-saml', milton.id),
    outcome: 'linked',
    reason: 'identity_linked',
    rows: { identities: 1, events: 2 },
    memberships: ['initech: member by hand'],
  },
  {
    title: 'address of another organization',
    person: wanda,
    way: 'superfantasy-saml',
    steps: bySso('superfantasy-saml', wanda.id),
    ...refused,
    reason: 'email_foreign',
    memberships: [],
  },
  {
    title: 'address in nobody’s domain',
    person: otto,
    way: 'superfantasy-saml',
    steps: bySso('superfantasy-saml', otto.id),
    ...refused,
    reason: 'email_outside',
    memberships: [],
  },
  {
    title: 'newcomer of a domain, by code',
    person: mira,
    way: 'e-mail',
    steps: byCode(mira.email),
    ...joins,
    mails: 1,
  },
  {
    title: 'newcomer of a domain, by link',
    person: tomas,
    way: 'e-mail',
    steps: byLink(tomas.email),
    ...joins,
    mails: 1,
  },
  {
    title: 'guest, address unverified',
    person: guest,
    way: 'pixelhub',
    steps: bySocial('pixelhub', members.gwen.id),
    outcome: 'created',
    reason: 'user_created',
    rows: { users: 1, identities: 1, events: 3 },
    memberships: [],
  },
  {
    title: 'the same guest again',
    person: guest,
    way: 'pixelhub',
    steps: bySocial('pixelhub', members.gwen.id),
    outcome: 'unchanged',
    reason: 'identity_known',
    rows: {},
    memberships: [],
  },
  {
    title: 'a code where SSO owns the domain',
    person: grace,
    way: 'e-mail',
    steps: byCodeAnyway(grace.email, 'globex-oidc'),
    outcome: 'denied',
    reason: 'sso_required',
    rows: {},
    memberships: [],
  },
  {
    title: 'another way in, proved by code',
    person: peter,
    way: 'pixelhub',
    steps: proving(bySocial('pixelhub', members.peter.id), peter.email),
    outcome: 'linked',
    reason: 'identity_linked',
    rows: { identities: 1, events: 2 },
    memberships: ['magictech: admin by hand', 'superfantasy, not here: admin by sso, member by sso'],
    mails: 1,
  },
  {
    title: 'existing member, by code',
    person: peter,
    way: 'e-mail',
    steps: byCode(peter.email),
    outcome: 'unchanged',
    reason: 'identity_known',
    rows: {},
    memberships: ['magictech: admin by hand', 'superfantasy, not here: admin by sso, member by sso'],
    mails: 1,
  },
]

/** Everything the script plays, in this order: a later story may build on what an earlier one left. */
export const stories: readonly Story[] = [...firstDay, ...secondDay]
