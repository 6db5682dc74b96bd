import type { SocialPerson } from '../identity-providers/social.js'
import type { Suggestion } from './sign-in-page.js'

// The people of the demo, by who can sign them in. All of them are invented.

/** Somebody an organization's identity provider can sign in. */
export interface Person {
  readonly id: string
  readonly name: string
  readonly email: string
  readonly groups: readonly string[]
}

export const employees = {
  sarah: {
    id: 'sf-sarah',
    name: 'Sarah Lindqvist',
    email: 'sarah@superfantasy.example',
    groups: ['everyone', 'design'],
  },
  peter: {
    id: 'sf-peter',
    name: 'Peter Okafor',
    email: 'peter@magictech.example',
    groups: ['everyone', 'team-leads'],
  },
  wanda: { id: 'sf-wanda', name: 'Wanda Reyes', email: 'wanda@globex.example', groups: ['everyone'] },
  otto: { id: 'sf-otto', name: 'Otto Freund', email: 'otto@freelance.example', groups: ['everyone'] },
  olga: { id: 'sf-olga', name: 'Olga Brandt', email: 'olga@superfantasy.example', groups: ['everyone'] },
  gita: { id: 'sf-gita', name: 'Gita Rao', email: 'gita@superfantasy.example', groups: ['contractors'] },
  ivo: { id: 'sf-ivo', name: 'Ivo Keller', email: 'ivo@superfantasy.example', groups: ['everyone'] },
  lars: { id: 'sf-lars', name: 'Lars Holm', email: 'lars@superfantasy.example', groups: ['everyone'] },
  hana: { id: 'gx-hana', name: 'Hana Sato', email: 'hana@globex.example', groups: [] },
  grace: { id: 'gx-grace', name: 'Grace Mbeki', email: 'grace@globex.example', groups: ['finance'] },
  ines: { id: 'in-ines', name: 'Ines Duarte', email: 'ines@initech.example', groups: [] },
  milton: { id: 'in-milton', name: 'Milton Wade', email: 'milton@initech.example', groups: [] },
} as const satisfies Record<string, Person>

const { sarah, peter, wanda, otto, olga, gita, ivo, lars, grace, hana, ines, milton } = employees

/** Which organization's identity provider knows whom. */
export const knownTo = {
  superfantasy: [sarah, peter, wanda, otto, olga, gita, ivo, lars],
  globex: [grace, hana],
  initech: [ines, milton],
} satisfies Record<string, readonly Person[]>

/** People with a mailbox and nothing else. */
export const correspondents = {
  mira: { name: 'Mira Holt', email: 'mira@magictech.example' },
  tomas: { name: 'Tomas Rey', email: 'tomas@magictech.example' },
  lena: { name: 'Lena Roth', email: 'lena@kiosk.example' },
  omar: { name: 'Omar Diaz', email: 'omar@kiosk.example' },
} as const

const account = (id: number, name: string, login: string, email: string, verified: boolean) => ({
  id,
  name,
  login,
  emails: [{ email, primary: true, verified }],
})

/** People with an account at the social provider. */
export const members = {
  gwen: account(101, 'Gwen Ashby', 'gwen', 'gwen@elsewhere.example', false),
  hugo: account(102, 'Hugo Blanc', 'hugo', 'hugo@elsewhere.example', true),
  noor: account(103, 'Noor Haddad', 'noor', 'noor@magictech.example', true),
  peter: account(104, peter.name, 'peter-okafor', peter.email, true),
} satisfies Record<string, SocialPerson>

/** What the social provider of the demo is called. */
export const socialName = 'Pixelhub'

const typed = ({ name, email }: { name: string; email: string }, expect: string): Suggestion => ({
  name,
  email,
  choose: null,
  expect,
})
const chosen = (person: { name: string; email: string }, choose: string, expect: string): Suggestion => ({
  ...typed(person, expect),
  choose,
})
const social = ({ name, emails }: SocialPerson, expect: string): Suggestion =>
  chosen({ name, email: emails[0]!.email }, socialName, expect)

export const suggestions: readonly Suggestion[] = [
  typed(
    sarah,
    'It leads to SuperFantasy’s SAML. A new hire: gets an account, a membership, and a role by her group.',
  ),
  typed(grace, 'It leads to Globex’s OpenID Connect. A new hire there.'),
  typed(
    correspondents.mira,
    'MagicTech has no identity provider: a code is mailed, and she joins by her domain with its role.',
  ),
  chosen(
    peter,
    'SuperFantasy',
    'From MagicTech, which SuperFantasy bought: his account is linked, he joins, and his old membership stays as it is.',
  ),
  social(
    members.peter,
    'The same account by another way in: he proves by a mailed code that it is his, once.',
  ),
  social(members.noor, 'A verified address in MagicTech’s domain: she joins at once.'),
  social(members.gwen, 'A guest whose address nobody verified: gets an account and joins nothing.'),
  typed(ines, 'No account yet, and Initech makes accounts by hand: refused.'),
  typed(milton, 'Has an account at Initech that was made by hand: signs in, nothing else changes.'),
  typed(hana, 'Globex has bought one seat. Who comes second, Hana or Grace, joins without one and waits.'),
  typed(
    correspondents.lena,
    'Kiosk has one seat as well. Who comes second, Lena or omar@kiosk.example, is refused.',
  ),
  chosen(
    olga,
    'SuperFantasy',
    'Owns SuperFantasy: she can do by hand what is told under “The second day”, to Lars, Gita, Ivo and the others.',
  ),
  chosen(wanda, 'SuperFantasy', 'Her address belongs to Globex: refused.'),
  chosen(otto, 'SuperFantasy', 'His address is in nobody’s domain: refused.'),
]
