/** The namespaces a SAML answer is made of. */
export const ns = {
  protocol: 'urn:oasis:names:tc:SAML:2.0:protocol',
  assertion: 'urn:oasis:names:tc:SAML:2.0:assertion',
  metadata: 'urn:oasis:names:tc:SAML:2.0:metadata',
  signature: 'http://www.w3.org/2000/09/xmldsig#',
  encryption: 'http://www.w3.org/2001/04/xmlenc#',
  exclusive: 'http://www.w3.org/2001/10/xml-exc-c14n#',
  schema: 'http://www.w3.org/2001/XMLSchema-instance',
} as const

export interface XmlElement {
  readonly prefix: string
  /** Local name. */
  readonly name: string
  readonly namespace: string
  /** By local name where there is no prefix, else by `{namespace}name`. */
  readonly attributes: ReadonlyMap<string, string>
  /** Prefixes of the attributes that have one, by the same keys. */
  readonly attributePrefixes: ReadonlyMap<string, string>
  /** Child elements and character data, in order. */
  readonly content: readonly (XmlElement | string)[]
  readonly scope: Scope | null
}

/** One namespace declaration in scope, and those around it. */
export interface Scope {
  readonly prefix: string
  readonly uri: string
  readonly outer: Scope | null
}

export interface XmlLimits {
  readonly characters: number
  readonly elements: number
  readonly attributes: number
  readonly attributesOfOne: number
  readonly siblings: number
  readonly depth: number
  /** Whether comments and processing instructions are passed over rather than refused. */
  readonly comments: boolean
}

/** What is wrong with a text that should be XML; `tooLarge` where a limit was passed. */
export class XmlProblem extends Error {
  constructor(
    message: string,
    readonly tooLarge = false,
  ) {
    super(message)
  }
}

const qname = /(?:([A-Za-z_][\w.-]*):)?([A-Za-z_][\w.-]*)/y
const attributeValue = /[ \t\n]*=[ \t\n]*(?:"([^<"]*)"|'([^<']*)')/y
const blank = /[ \t\n]*/y
const declaration =
  /<\?xml\s+version=["']1\.0["'](?:\s+encoding=["']utf-8["'])?(?:\s+standalone=["'](?:yes|no)["'])?\s*\?>/iy
const illegal = /[^\t\n\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u
const named = new Map([
  ['amp', '&'],
  ['lt', '<'],
  ['gt', '>'],
  ['quot', '"'],
  ['apos', "'"],
])

/**
 * Reads the subset of XML 1.0 that SAML needs, in one pass and linear time: elements with ASCII names,
 * namespaces, attributes, text, CDATA only in metadata. A document type is always refused, so nothing is
 * ever expanded or fetched. What this reader cannot read, no other parser gets to see.
 * @throws XmlProblem
 */
export function readXml(text: string, limits: XmlLimits): XmlElement {
  if (text.length > limits.characters) {
    throw new XmlProblem(`${text.length} characters, more than ${limits.characters}`, true)
  }
  const xml = text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text
  if (illegal.test(xml)) throw new XmlProblem('a character that XML does not allow')
  let at = 0
  let elements = 0
  let attributeCount = 0
  const malformed = (what: string) => new XmlProblem(`${what} at character ${at}`)
  const match = (pattern: RegExp) => {
    pattern.lastIndex = at
    const found = pattern.exec(xml)
    if (found) at = pattern.lastIndex
    return found
  }
  const past = (end: string, what: string) => {
    const found = xml.indexOf(end, at)
    if (found < 0) throw malformed(`${what} without an end`)
    const inside = xml.slice(at, found)
    at = found + end.length
    return inside
  }
  /** Passes over what may stand between elements; true where something was there. */
  const aside = (): boolean => {
    if (xml.startsWith('<!DOCTYPE', at)) throw malformed('a document type is refused:')
    const comment = xml.startsWith('<!--', at)
    if (!comment && !xml.startsWith('<?', at)) return false
    if (!limits.comments) throw malformed('a comment or processing instruction is refused:')
    at += comment ? 4 : 2
    past(comment ? '-->' : '?>', 'a comment or processing instruction')
    return true
  }

  const element = (outer: Scope | null, depth: number): XmlElement => {
    if (++elements > limits.elements) throw new XmlProblem(`more than ${limits.elements} elements`, true)
    if (depth > limits.depth) throw new XmlProblem(`elements nested more than ${limits.depth} deep`, true)
    at += 1
    const tag = match(qname)
    if (!tag) throw malformed('expected an element')
    const { scope, pairs } = attributesOf(outer)
    const [, prefix = '', name] = tag
    const namespace = prefix === '' ? (resolve(scope, '') ?? '') : resolve(scope, prefix)
    if (namespace === undefined) throw malformed(`the prefix "${prefix}" is not declared`)
    const attributes = new Map<string, string>()
    const attributePrefixes = new Map<string, string>()
    for (const [attributePrefix, attribute, value] of pairs) {
      const uri = attributePrefix === '' ? '' : resolve(scope, attributePrefix)
      if (uri === undefined) throw malformed(`the prefix "${attributePrefix}" is not declared`)
      const key = uri === '' ? attribute : `{${uri}}${attribute}`
      if (attributes.has(key)) throw malformed(`the attribute "${attribute}" twice`)
      attributes.set(key, value)
      if (attributePrefix !== '') attributePrefixes.set(key, attributePrefix)
    }
    const content: (XmlElement | string)[] = []
    const made = { prefix, name: name!, namespace, attributes, attributePrefixes, content, scope }
    if (xml.startsWith('/>', at)) {
      at += 2
      return made
    }
    if (xml[at] !== '>') throw malformed('a tag without an end')
    at += 1
    let siblings = 0
    for (;;) {
      const text = pastText()
      if (text !== '') content.push(text)
      if (xml.startsWith('</', at)) break
      if (aside()) continue
      if (++siblings > limits.siblings) {
        throw new XmlProblem(`more than ${limits.siblings} elements side by side`, true)
      }
      content.push(element(scope, depth + 1))
    }
    at += 2
    const end = match(qname)
    match(blank)
    if (!end || end[0] !== tag[0] || xml[at] !== '>') throw malformed(`expected the end of "${tag[0]}"`)
    at += 1
    return made
  }

  const attributesOf = (outer: Scope | null) => {
    let scope = outer
    const pairs: [prefix: string, name: string, value: string][] = []
    for (let count = 0; ; ) {
      const before = at
      match(blank)
      if (xml[at] === '>' || xml[at] === '/') return { scope, pairs }
      if (before === at) throw malformed('expected an attribute')
      const name = match(qname)
      const value = name && match(attributeValue)
      if (!value) throw malformed('expected an attribute')
      if (++count > limits.attributesOfOne || ++attributeCount > limits.attributes) {
        throw new XmlProblem(
          `more than ${limits.attributesOfOne} attributes in one element, or ${limits.attributes} in all`,
          true,
        )
      }
      const [, prefix = '', local = ''] = name
      const plain = expand((value[1] ?? value[2])!.replace(/[\t\n]/g, ' '))
      if (prefix === 'xmlns' || (prefix === '' && local === 'xmlns')) {
        const declared = prefix === '' ? '' : local
        if (declared === 'xml' || declared === 'xmlns' || (declared !== '' && plain === '')) {
          throw malformed(`the prefix "${declared}" cannot be declared so`)
        }
        for (let same = scope; same !== outer; same = same!.outer) {
          if (same!.prefix === declared) throw malformed(`the prefix "${declared}" declared twice`)
        }
        scope = { prefix: declared, uri: plain, outer: scope }
      } else {
        pairs.push([prefix, local, plain])
      }
    }
  }

  const pastText = (): string => {
    let whole = ''
    for (;;) {
      const found = xml.indexOf('<', at)
      if (found < 0) throw malformed('the text ends inside an element')
      whole += expand(xml.slice(at, found))
      at = found
      if (!xml.startsWith('<![CDATA[', at)) return whole
      if (!limits.comments) throw malformed('a CDATA section is refused:')
      at += '<![CDATA['.length
      whole += past(']]>', 'a CDATA section')
    }
  }

  const expand = (raw: string): string =>
    raw.includes('&')
      ? raw.replace(/&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|([a-z]{2,4}));|&/g, (_, decimal, hex, name) => {
          const code = decimal ? Number(decimal) : hex ? Number.parseInt(hex, 16) : -1
          const character = name
            ? named.get(name)
            : code > 0 && code <= 0x10ffff && String.fromCodePoint(code)
          if (!character) throw malformed('an unknown entity')
          if (illegal.test(character) && character !== '\r') {
            throw malformed('a character that XML does not allow')
          }
          return character
        })
      : raw

  match(declaration)
  for (match(blank); aside(); match(blank));
  if (xml[at] !== '<') throw malformed('expected an element')
  const root = element(null, 1)
  for (match(blank); aside(); match(blank));
  if (at !== xml.length) throw malformed('something after the end of the document')
  return root
}

/** The namespace a prefix stands for, or undefined. */
export function resolve(scope: Scope | null, prefix: string): string | undefined {
  for (let entry = scope; entry !== null; entry = entry.outer) if (entry.prefix === prefix) return entry.uri
  return prefix === 'xml' ? 'http://www.w3.org/XML/1998/namespace' : undefined
}

export const elementsOf = (parent: XmlElement): XmlElement[] =>
  parent.content.filter((entry): entry is XmlElement => typeof entry !== 'string')

export const childrenOf = (parent: XmlElement, namespace: string, name: string): XmlElement[] =>
  elementsOf(parent).filter((child) => child.name === name && child.namespace === namespace)

/** The whole text of an element, or null where it holds elements: never a part of it. */
export const textOf = (element: XmlElement | undefined): string | null =>
  element === undefined || element.content.some((entry) => typeof entry !== 'string')
    ? null
    : element.content.join('')

/** An element and everything below it, in document order. */
export function* everyElement(root: XmlElement): Generator<XmlElement> {
  yield root
  for (const child of elementsOf(root)) yield* everyElement(child)
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

export const escapeXml = (text: string) => text.replace(/[&<>"]/g, (character) => entities[character]!)
