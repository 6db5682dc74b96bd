import sax, { type QualifiedTag, type SAXOptions } from 'sax'

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
  /** Local name. */
  readonly name: string
  readonly namespace: string
  /** By local name where there is no prefix, else by `{namespace}name`. */
  readonly attributes: ReadonlyMap<string, string>
  /** Child elements and character data, in order. */
  readonly content: readonly (XmlElement | string)[]
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

/**
 * Text from outside for a log line: 200 characters of it, and none that ends the line or steers a terminal. It is
 * written here again because a worker thread loads nothing of the engine.
 */
export function legible(text: string): string {
  const cut = text.length > 200 ? `${text.slice(0, 200)}…` : text
  return cut.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)!.toString(16)}}`
  })
}

/** What is wrong with a text that should be XML; `tooLarge` where a limit was passed. */
export class XmlProblem extends Error {
  constructor(
    message: string,
    readonly tooLarge = false,
  ) {
    super(legible(message))
  }
}

/** As they are; that none is written as a reference is seen to by sax, from 1.6.1. */
const illegal = /[^\t\n\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u

/**
 * Reads XML strictly and within limits, by sax, which keeps pace with the text and expands nothing but the
 * five entities of XML 1.0. A document type is always refused. What this reader cannot read, no other parser
 * gets to see.
 * @throws XmlProblem
 */
export function readXml(text: string, limits: XmlLimits): XmlElement {
  const tooLarge = (what: string) => new XmlProblem(`more than ${what}`, true)
  if (text.length > limits.characters) throw tooLarge(`${limits.characters} characters`)
  const xml = text.replace(/\r\n?/g, '\n')
  if (illegal.test(xml)) throw new XmlProblem('a character that XML does not allow')
  if (/^<\?xml[^>]*\sencoding\s*=\s*["'](?!utf-8["'])/i.test(xml)) {
    throw new XmlProblem('an encoding other than UTF-8 is refused')
  }
  // Counted before parsing, because sax compares the attributes of an element with each other.
  for (const tag of xml.split('<')) {
    if ((tag.match(/=\s*["']/g)?.length ?? 0) > limits.attributesOfOne) {
      throw tooLarge(`${limits.attributesOfOne} attributes in one element`)
    }
  }

  interface Open {
    name: string
    namespace: string
    attributes: Map<string, string>
    content: (Open | string)[]
    elements: number
  }
  const document: Open = { name: '', namespace: '', attributes: new Map(), content: [], elements: 0 }
  const path: Open[] = [document]
  let elements = 0
  let attributes = 0
  let names = new Set<string>()
  const strict = sax.parser(true, { xmlns: true, position: false, strictEntities: true } as SAXOptions)
  const refuse = (what: string) => () => {
    throw new XmlProblem(`${what} is refused`)
  }
  const aside = (what: string) => (limits.comments ? () => {} : refuse(what))
  const addText = (piece: string) => {
    const { content } = path.at(-1)!
    if (path.length === 1) return
    if (typeof content.at(-1) === 'string') content.push(`${content.pop()}${piece}`)
    else content.push(piece)
  }
  strict.onerror = (error) => {
    throw new XmlProblem(error.message.split('\n')[0]!)
  }
  strict.ondoctype = refuse('a document type')
  strict.onsgmldeclaration = refuse('a declaration')
  strict.oncomment = aside('a comment')
  strict.onopencdata = aside('a CDATA section')
  strict.onprocessinginstruction = ({ name }) => {
    if (name !== 'xml' || !xml.startsWith('<?xml') || elements > 0) aside('a processing instruction')()
  }
  strict.ontext = addText
  strict.oncdata = addText
  strict.onopentagstart = () => {
    names = new Set()
  }
  strict.onattribute = ({ name }) => {
    if (names.has(name)) throw new XmlProblem(`the attribute "${name}" twice`)
    names.add(name)
    if (++attributes > limits.attributes) throw tooLarge(`${limits.attributes} attributes in all`)
  }
  strict.onopentag = (tag) => {
    const { local, uri, attributes: given } = tag as QualifiedTag
    const parent = path.at(-1)!
    if (path.length === 1 && elements > 0) throw new XmlProblem('something after the end of the document')
    if (++elements > limits.elements) throw tooLarge(`${limits.elements} elements`)
    if (path.length > limits.depth) throw tooLarge(`${limits.depth} elements inside each other`)
    if (++parent.elements > limits.siblings) throw tooLarge(`${limits.siblings} elements side by side`)
    const element: Open = { name: local, namespace: uri, attributes: new Map(), content: [], elements: 0 }
    for (const attribute of Object.values(given)) {
      if (attribute.prefix === 'xmlns' || attribute.name === 'xmlns') continue
      const key = attribute.prefix === '' ? attribute.local : `{${attribute.uri}}${attribute.local}`
      if (element.attributes.has(key)) throw new XmlProblem(`the attribute "${attribute.name}" twice`)
      element.attributes.set(key, attribute.value)
    }
    parent.content.push(element)
    path.push(element)
  }
  strict.onclosetag = () => {
    path.pop()
  }
  strict.write(xml).close()
  const [root] = document.content
  if (typeof root !== 'object') throw new XmlProblem('expected an element')
  return root
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
