import type { Channel } from '../rig/emitted.js'

/** What was emitted, and by which tests. */
export interface Emission {
  readonly by: string
  readonly channel: Channel
  readonly text: string
  readonly personal?: readonly string[]
}

export interface Finding {
  readonly by: string
  readonly channel: Channel
  readonly rule: string
  /** What stands around it; of itself no more than its beginning. */
  readonly excerpt: string
}

/** What is secret by its looks, whoever made it. */
const looks: Readonly<Record<string, RegExp>> = {
  'a private key': /-----BEGIN [A-Z ]*PRIVATE KEY-----/g,
  'a JSON web token': /eyJ[\w-]{8,}\.[\w-]{8,}/g,
  // `<saml`, `<?xml` and `<Response` begin so in base64.
  'an assertion':
    /(?:PHNhbWx|PD94bWw|PFJlc3Bvbn)[\w+/=]{20,}|<(?:\w+:)?(?:Assertion|Response|EncryptedAssertion)[\s>]/g,
  'a parameter of a protocol':
    /\b(?:SAMLResponse|RelayState|code|state|nonce|ticket|link|waiting|code_verifier|client_secret|password|(?:access|id|refresh)_token)=[\w.%+/-]{12,}/g,
  'a field of a protocol':
    /["']?(?:SAMLResponse|code_verifier|client_secret|password|(?:access|id|refresh)_token)["']?: ?["'][^"']{6,}["']/g,
  'a header that authenticates':
    /\b(?:authorization["']?: ?["']?)?(?:Bearer|Basic) (?=[\w.~+/-]*\d)[\w.~+/-]{16,}|\bcookie["']?: ?["']?[\w.%-]+=[\w.%-]{8,}/gi,
  'a password in an address': /\b[a-z][a-z+]*:\/\/[^\s/:@]*:[^\s/@]+@/gi,
  'a signing key': /\bwhsec_[\w+/=]{16,}/g,
}

/** Where an address names a person to somebody who was not told it; a local part has 64 characters (RFC 5321 4.5.3.1.1). */
const address = /[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[\w-]+\.)+[\w-]{2,}/g

/** What may stand there: an example in words, and what a person typed, said back to them. */
const harmless: Partial<Record<Channel, RegExp>> = {
  output:
    /such as (?:smtp:\/\/user:password@|\w+ <no-reply@)[\w.]+|(?:unknown command|unknown option|argument) '[^']*'/g,
  refusal: /name="email" value="[^"]*"|<pre>Cannot [A-Z]+ [^<]*<\/pre>/g,
}

/** What is wrong with a configuration is told in its own words, to whoever wrote it. */
const ownWords = /^stdout |code['"]?: ?['"]config_invalid/

/** Fields of events whose words are the policy's; a subject may happen to be one of them. */
const vocabulary = new Set(['role', 'basis', 'source', 'status', 'rule', 'finding'])

/** Enough of a random value to be no accident, so that one that is cut off is found too. */
const beginning = 16

/** Looks for what must not be in what the same tests emitted. */
export function findings(emissions: Iterable<Emission>, secrets: ReadonlySet<string>): Finding[] {
  const begins = new Set<string>()
  const others: string[] = []
  for (const secret of secrets) {
    if (/^[\w+/=.~-]{16,}$/.test(secret)) begins.add(secret.slice(0, beginning))
    else others.push(secret)
  }
  const found: Finding[] = []
  for (const { by, channel, text: whole, personal } of emissions) {
    const text = harmless[channel] ? whole.replace(harmless[channel], '') : whole
    const report = (rule: string, at: number, length: number) =>
      found.push({ by, channel, rule, excerpt: redacted(text, at, length) })
    for (const [rule, pattern] of Object.entries(looks)) {
      for (const match of text.matchAll(pattern)) report(rule, match.index, match[0].length)
    }
    for (const { 0: run, index } of text.matchAll(/[\w+/=.~-]{16,}/g)) {
      for (let at = 0; at + beginning <= run.length; at++) {
        if (begins.has(run.slice(at, at + beginning))) report('a secret of the tests', index + at, beginning)
      }
    }
    for (const secret of others) {
      const at = positionOf(text, secret)
      if (at >= 0) report('a secret of the tests', at, secret.length)
    }
    if (!ownWords.test(text)) {
      for (const match of text.matchAll(address))
        report('an address of a person', match.index, match[0].length)
    }
    if (personal) {
      for (const leaf of leavesOf(JSON.parse(text))) {
        if (personal.includes(leaf)) report('a subject or attribute value', text.indexOf(leaf), leaf.length)
      }
    }
  }
  return found
}

/** A mailed code is looked for as a number of its own. */
function positionOf(text: string, secret: string): number {
  if (!/^\d+$/.test(secret)) return text.indexOf(secret)
  return new RegExp(`(?<![\\w.-])${secret}(?![\\w.-])`).exec(text)?.index ?? -1
}

/** The texts in the details of events. */
function leavesOf(events: readonly { readonly detail: unknown }[]): string[] {
  const texts: string[] = []
  const visit = (value: unknown): void => {
    if (typeof value === 'string') texts.push(value)
    else if (typeof value === 'object' && value !== null) {
      for (const [name, one] of Object.entries(value)) if (!vocabulary.has(name)) visit(one)
    }
  }
  for (const { detail } of events) visit(detail)
  return texts
}

function redacted(text: string, at: number, length: number): string {
  const before = text.slice(Math.max(0, at - 100), at)
  const after = text.slice(at + length, at + length + 40).replace(/[\w+/=.~-]{12,}/g, '…')
  return `${before}«${text.slice(at, at + 4)}… ${length} characters»${after}`
    .replace(/\s+/g, ' ')
    .replace(uuid, '…')
}

/** Left out, so that what was emitted a hundred times is reported once. */
const uuid = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g
