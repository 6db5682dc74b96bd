import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { inflateRawSync } from 'node:zlib'
import { DOMParser } from '@xmldom/xmldom'
import { generate } from 'selfsigned'
import { SignedXml } from 'xml-crypto'

/**
 * A SAML identity provider for trying things out: it signs in whoever one clicks on, so it belongs on
 * loopback and nowhere else.
 */
export interface Person {
  /** Becomes the persistent NameID. */
  id: string
  email: string
  name: string
  groups: readonly string[]
}

export type Signed = 'assertion' | 'response' | 'both'

export interface SamlIdpOptions {
  /** Where `handler` is reachable, without a final slash; the pages are `<url>/sso` and `<url>/metadata`. */
  url: string
  people: readonly Person[]
  /** `<url>/metadata` by default. */
  entityId?: string
  /** What it signs; `assertion` by default, as most products do. */
  sign?: Signed
}

/** What an answer is an answer to, as read from the AuthnRequest. */
export interface AnswerTo {
  /** The assertion consumer service it is posted to. */
  callbackUrl: string
  /** EntityID of the service provider. */
  audience: string
  /** ID of the AuthnRequest; null for an answer that nobody asked for. */
  requestId: string | null
  /** Milliseconds since the epoch; now by default. */
  at?: number
}

export interface SigningKey {
  privateKey: string
  certificate: string
}

export interface SamlIdp {
  readonly entityId: string
  /** For the service provider: EntityDescriptor XML. */
  readonly metadata: string
  readonly key: SigningKey
  /** Serves `<url>/sso` and `<url>/metadata`. */
  readonly handler: (req: IncomingMessage, res: ServerResponse) => void
  /** A signed `samlp:Response` in base64, as it is posted. */
  readonly answer: (person: Person, to: AnswerTo, sign?: Signed) => string
}

export async function createSamlIdp(options: SamlIdpOptions): Promise<SamlIdp> {
  const { url, people, sign = 'assertion' } = options
  const entityId = options.entityId ?? `${url}/metadata`
  const key = await createSigningKey(new URL(url).hostname)
  const metadata = idpMetadata(entityId, `${url}/sso`, [key.certificate])
  const answer = (person: Person, to: AnswerTo, parts: Signed = sign) => {
    let xml = answerXml(entityId, person, to)
    if (parts !== 'response') xml = signElement(xml, 'Assertion', key)
    if (parts !== 'assertion') xml = signElement(xml, 'Response', key)
    return Buffer.from(xml).toString('base64')
  }

  const root = new URL(url).pathname.replace(/\/$/, '')
  const handler = (req: IncomingMessage, res: ServerResponse) => {
    const asked = new URL(req.url ?? '/', url)
    if (asked.pathname === `${root}/metadata`) {
      res.writeHead(200, { 'content-type': 'application/samlmetadata+xml' }).end(metadata)
      return
    }
    const message = asked.searchParams.get('SAMLRequest')
    const request = asked.pathname === `${root}/sso` && message !== null ? readRequest(message) : null
    if (!request) {
      send(res, 404, 'Nothing here', '<p>Start from the app you want to sign in to.</p>')
      return
    }
    const relayState = asked.searchParams.get('RelayState') ?? ''
    const person = people.find((entry) => entry.id === asked.searchParams.get('person'))
    if (person)
      send(res, 200, 'Signing you in', postForm(request.callbackUrl, answer(person, request), relayState))
    else send(res, 200, 'Who are you?', chooser(people, new URL(url).host, asked))
  }
  return { entityId, metadata, key, handler, answer }
}

/** A key and a self-signed certificate for it, good for ten years. */
export async function createSigningKey(name: string): Promise<SigningKey> {
  const now = Date.now()
  const { private: privateKey, cert } = await generate([{ name: 'commonName', value: name }], {
    keySize: 2048,
    algorithm: 'sha256',
    notBeforeDate: new Date(now - 86_400_000),
    notAfterDate: new Date(now + 3650 * 86_400_000),
  })
  return { privateKey, certificate: cert }
}

export function idpMetadata(entityId: string, ssoUrl: string, certificates: readonly string[]): string {
  const keys = certificates.map(
    (certificate) =>
      `<KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>${certificate.replace(/-----[^-]+-----|\s/g, '')}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></KeyDescriptor>`,
  )
  return `<?xml version="1.0" encoding="UTF-8"?>
<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="${escapeXml(entityId)}">
<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
${keys.join('\n')}
<NameIDFormat>urn:oasis:names:tc:SAML:2.0:nameid-format:persistent</NameIDFormat>
<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="${escapeXml(ssoUrl)}"/>
</IDPSSODescriptor>
</EntityDescriptor>
`
}

/** An unsigned `samlp:Response` with one bearer assertion, good for five minutes. */
export function answerXml(issuer: string, person: Person, to: AnswerTo): string {
  const at = to.at ?? Date.now()
  const time = (milliseconds: number) => new Date(milliseconds).toISOString()
  const id = () => `_${randomBytes(16).toString('hex')}`
  const inResponseTo = to.requestId === null ? '' : ` InResponseTo="${escapeXml(to.requestId)}"`
  const attribute = (name: string, values: readonly string[]) =>
    `<saml:Attribute Name="${name}">${values.map((value) => `<saml:AttributeValue>${escapeXml(value)}</saml:AttributeValue>`).join('')}</saml:Attribute>`
  return (
    `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="${id()}" Version="2.0" IssueInstant="${time(at)}" Destination="${escapeXml(to.callbackUrl)}"${inResponseTo}>` +
    `<saml:Issuer>${escapeXml(issuer)}</saml:Issuer>` +
    '<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>' +
    `<saml:Assertion ID="${id()}" Version="2.0" IssueInstant="${time(at)}">` +
    `<saml:Issuer>${escapeXml(issuer)}</saml:Issuer>` +
    '<saml:Subject>' +
    `<saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">${escapeXml(person.id)}</saml:NameID>` +
    '<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">' +
    `<saml:SubjectConfirmationData NotOnOrAfter="${time(at + 300_000)}" Recipient="${escapeXml(to.callbackUrl)}"${inResponseTo}/>` +
    '</saml:SubjectConfirmation>' +
    '</saml:Subject>' +
    `<saml:Conditions NotBefore="${time(at - 60_000)}" NotOnOrAfter="${time(at + 300_000)}">` +
    `<saml:AudienceRestriction><saml:Audience>${escapeXml(to.audience)}</saml:Audience></saml:AudienceRestriction>` +
    '</saml:Conditions>' +
    `<saml:AuthnStatement AuthnInstant="${time(at)}" SessionIndex="${id()}">` +
    '<saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml:AuthnContextClassRef></saml:AuthnContext>' +
    '</saml:AuthnStatement>' +
    '<saml:AttributeStatement>' +
    attribute('email', [person.email]) +
    attribute('displayName', [person.name]) +
    attribute('groups', person.groups) +
    '</saml:AttributeStatement>' +
    '</saml:Assertion>' +
    '</samlp:Response>'
  )
}

/** Signs the one element of that name: enveloped, exclusive canonicalization, RSA with SHA-256. */
export function signElement(xml: string, element: 'Assertion' | 'Response', key: SigningKey): string {
  const signer = new SignedXml({
    privateKey: key.privateKey,
    publicCert: key.certificate,
    signatureAlgorithm: 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    canonicalizationAlgorithm: 'http://www.w3.org/2001/10/xml-exc-c14n#',
  })
  const xpath = `//*[local-name(.)='${element}']`
  signer.addReference({
    xpath,
    transforms: [
      'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
      'http://www.w3.org/2001/10/xml-exc-c14n#',
    ],
    digestAlgorithm: 'http://www.w3.org/2001/04/xmlenc#sha256',
  })
  // The schema wants the signature right after the issuer.
  signer.computeSignature(xml, {
    prefix: 'ds',
    location: { reference: `${xpath}/*[local-name(.)='Issuer']`, action: 'after' },
  })
  return signer.getSignedXml()
}

/** The AuthnRequest of an HTTP-Redirect message, or null where it is none. */
export function readRequest(message: string): AnswerTo | null {
  try {
    const xml = inflateRawSync(Buffer.from(message, 'base64'), { maxOutputLength: 100_000 }).toString('utf8')
    const request = new DOMParser().parseFromString(xml, 'text/xml').documentElement
    const callbackUrl = request.getAttribute('AssertionConsumerServiceURL') ?? ''
    const audience = request.getElementsByTagNameNS('urn:oasis:names:tc:SAML:2.0:assertion', 'Issuer')[0]
    if (!/^https?:$/.test(new URL(callbackUrl).protocol) || !audience?.textContent) return null
    return {
      callbackUrl,
      audience: audience.textContent.trim(),
      requestId: request.getAttribute('ID'),
    }
  } catch {
    return null
  }
}

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escapeXml = (text: string) => text.replace(/[&<>"']/g, (character) => entities[character]!)

function chooser(people: readonly Person[], host: string, asked: URL): string {
  const hidden = ['SAMLRequest', 'RelayState']
    .map(
      (name) =>
        `<input type="hidden" name="${name}" value="${escapeXml(asked.searchParams.get(name) ?? '')}">`,
    )
    .join('')
  const buttons = people.map(
    (person) =>
      `<button name="person" value="${escapeXml(person.id)}"><i aria-hidden="true">${escapeXml([...person.name][0] ?? '?')}</i><span><b>${escapeXml(person.name)}</b><small>${escapeXml([person.email, ...person.groups].join(' · '))}</small></span></button>`,
  )
  return `<p>${escapeXml(host)} would ask for a password here. This one only asks who you are.</p>
<form method="get" action="${escapeXml(asked.pathname)}">${hidden}${buttons.join('\n')}</form>`
}

/** The HTTP-POST binding: the browser carries the answer to the service provider. */
function postForm(callbackUrl: string, answer: string, relayState: string): string {
  return `<p>Taking you back to ${escapeXml(new URL(callbackUrl).host)}.</p>
<form method="post" action="${escapeXml(callbackUrl)}">
<input type="hidden" name="SAMLResponse" value="${answer}"><input type="hidden" name="RelayState" value="${escapeXml(relayState)}">
<button><span><b>Continue</b></span></button></form>
<script>document.forms[0].submit()</script>`
}

function send(res: ServerResponse, status: number, title: string, body: string): void {
  res.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' })
  res.end(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} · SAML test IdP</title>
<style>
body{margin:0;min-height:100vh;display:grid;place-items:center;background:#eef1f6;color:#1c2430;font:16px/1.5 system-ui,sans-serif}
main{width:min(26rem,calc(100vw - 5rem));padding:2rem;border-radius:16px;background:#fff;box-shadow:0 8px 30px #1c243018}
h1{margin:0;font-size:1.4rem}header small{color:#5b6778;letter-spacing:.06em;text-transform:uppercase}
form{display:grid;gap:.6rem;margin-top:1.2rem}
button{display:flex;gap:.9rem;align-items:center;padding:.7rem .9rem;border:1px solid #d5dbe5;border-radius:12px;background:#fff;color:inherit;font:inherit;text-align:left;cursor:pointer}
button:hover,button:focus-visible{border-color:#3457d5;background:#f5f7ff}
button i{flex:none;width:2.3rem;height:2.3rem;display:grid;place-items:center;border-radius:50%;background:#3457d5;color:#fff;font-style:normal;font-weight:600}
button b{display:block}button small{color:#5b6778;overflow-wrap:anywhere}
</style>
<main><header><small>SAML test identity provider</small><h1>${title}</h1></header>
${body}
</main></html>`)
}
