import { type FlowName, flows, type Last } from './flows.js'

/** One thing that is not as it was when somebody really signed in. */
export interface Mutation {
  readonly kind: (typeof kinds)[number]
  /** Which field or cookie, and where in it; taken modulo what there is. */
  readonly field: number
  readonly at: number
  readonly char: string
}

const ofFields = ['dropped', 'doubled', 'cut', 'flipped'] as const
const ofBrowsers = [
  "another sign-in's",
  'without cookies',
  "another browser's cookies",
  'cookies cut',
  'cookies flipped',
] as const
export const kinds = [
  ...ofFields,
  ...ofBrowsers,
  'elsewhere',
  'late',
  'by the other method',
  'again',
] as const

/** What one client may send that signs nobody in; another sign-in of the same kind is under way beside it. */
export const applies = (flow: FlowName, { kind }: Mutation): boolean => {
  const { bound, ...rest } = flows[flow]
  if ((ofBrowsers as readonly string[]).includes(kind)) return bound
  return kind !== 'by the other method' || !('eitherMethod' in rest)
}

/** The request with its mutation; of moments and repetitions nothing shows in the request itself. */
export function mutated(last: Last, other: Last, mutation: Mutation): Last {
  const { kind, field } = mutation
  const { method, fields, cookies } = last
  const [chosen, cookie] = [field % fields.length, cookies.length && field % cookies.length]
  const replaced = (value: (old: string, name: string) => string) =>
    fields.map(([name, old], index) => [name, index === chosen ? value(old, name) : old] as const)
  const baked = (value: (old: string) => string) =>
    cookies.map(([name, old], index) => [name, index === cookie ? value(old) : old] as const)
  const shorter = (old: string) => old.slice(0, -1 - (mutation.at % old.length))
  switch (kind) {
    case 'dropped':
      return { ...last, fields: fields.filter((_, index) => index !== chosen) }
    case 'doubled':
      return { ...last, fields: [...fields, fields[chosen]!] }
    case 'cut':
      return { ...last, fields: replaced(shorter) }
    case 'flipped':
      return {
        ...last,
        fields: replaced((old, name) =>
          name === 'SAMLResponse' ? inXml(old, mutation) : flip(old, mutation),
        ),
      }
    case "another sign-in's":
      return {
        ...last,
        fields: replaced((old, name) => other.fields.find(([found]) => found === name)?.[1] ?? old),
      }
    case 'without cookies':
      return { ...last, cookies: [] }
    case "another browser's cookies":
      return { ...last, cookies: other.cookies }
    case 'cookies cut':
      return { ...last, cookies: baked(shorter) }
    case 'cookies flipped':
      return { ...last, cookies: baked((old) => flip(old, mutation)) }
    case 'elsewhere':
      return {
        ...last,
        path: elsewhere.filter((path) => path !== last.path)[field % (elsewhere.length - 1)]!,
      }
    case 'by the other method':
      return { ...last, method: method === 'GET' ? 'POST' : 'GET' }
    default:
      return last
  }
}

const elsewhere = [
  ...['/auth/sso/acme/callback', '/auth/sso/globex/callback', '/auth/social/google/callback'],
  ...['/auth/social/apple/callback', '/auth/social/github/callback', '/auth/email/verify', '/auth/prove'],
]

/** One letter or digit becomes another; which case an address is in says nothing. */
function flip(text: string, { at, char }: Mutation, outside: readonly [number, number] = [0, 0]): string {
  const places = [...text.matchAll(/[a-z0-9]/gi)]
    .map(({ index }) => index)
    .filter((index) => index < outside[0] || index >= outside[1])
  const place = places[at % places.length]!
  const other = text[place]!.toLowerCase() === char ? 'z' : char
  return text.slice(0, place) + (text[place]!.toLowerCase() === other ? '0' : other) + text.slice(place + 1)
}

/** A flip of what is signed: the signature itself may be written in more ways than one, and brings a certificate. */
function inXml(base64: string, mutation: Mutation): string {
  const xml = Buffer.from(base64, 'base64').toString()
  const signature = [xml.indexOf('<ds:Signature'), xml.indexOf('</ds:Signature>')] as const
  return Buffer.from(flip(xml, mutation, signature)).toString('base64')
}
