import { resolve, type XmlElement } from './saml-xml.js'

/**
 * Exclusive XML canonicalization (W3C xml-exc-c14n) of an element, as if `without` were not in it. The
 * prefixes of `inclusive` are written wherever they are in scope, the others where they are used.
 */
export function canonical(apex: XmlElement, inclusive: readonly string[], without?: XmlElement): string {
  const render = (element: XmlElement, rendered: ReadonlyMap<string, string>): string => {
    const attributes = [...element.attributes].map(([key, value]) => attributeOf(element, key, value))
    const used = attributes.map((attribute) => attribute.prefix).filter(Boolean)
    const declared = new Map<string, string>()
    for (const prefix of new Set([element.prefix, ...used, ...inclusive])) {
      const uri = prefix === 'xml' ? undefined : resolve(element.scope, prefix)
      if (uri !== undefined && (rendered.get(prefix) ?? '') !== uri) declared.set(prefix, uri)
    }
    const written = [
      ...[...declared]
        .sort(([a], [b]) => order(a, b))
        .map(([prefix, uri]) => ` ${prefix ? `xmlns:${prefix}` : 'xmlns'}="${attributeText(uri)}"`),
      ...attributes
        .sort((a, b) => order(a.uri, b.uri) || order(a.name, b.name))
        .map(({ prefix, name, value }) => ` ${prefix ? `${prefix}:` : ''}${name}="${attributeText(value)}"`),
    ]
    const within = declared.size > 0 ? new Map([...rendered, ...declared]) : rendered
    const content = element.content.map((entry) =>
      typeof entry === 'string' ? plainText(entry) : entry === without ? '' : render(entry, within),
    )
    const tag = element.prefix ? `${element.prefix}:${element.name}` : element.name
    return `<${tag}${written.join('')}>${content.join('')}</${tag}>`
  }
  return render(apex, new Map())
}

function attributeOf(element: XmlElement, key: string, value: string) {
  const [, uri = '', name = key] = /^\{(.*)\}([^}]*)$/s.exec(key) ?? []
  return { uri, name, value, prefix: element.attributePrefixes.get(key) ?? '' }
}

const order = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

const escapes = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ['"', '&quot;'],
  ['\t', '&#x9;'],
  ['\n', '&#xA;'],
  ['\r', '&#xD;'],
])
const attributeText = (value: string) => value.replace(/[&<"\t\n\r]/g, (character) => escapes.get(character)!)
const plainText = (text: string) => text.replace(/[&<>\r]/g, (character) => escapes.get(character)!)
