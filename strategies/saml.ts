import { createHash } from 'node:crypto'
import { setImmediate as turnOfTheLoop } from 'node:timers/promises'
import { SAML, type SamlConfig, ValidateInResponseTo } from '@node-saml/passport-saml'
import {
  type Attempt,
  assertIdentity,
  JitError,
  readClaims,
  type SamlConnection,
  type Services,
  type Strategy,
  single,
} from '../lib/index.js'
import { checkAssertion, checkResponse, type Expected, type Statement } from './saml-assertion.js'
import { decryptAssertion } from './saml-decrypt.js'
import { type Answer, type Refuse, readAnswer, readDecrypted, readDocument } from './saml-guard.js'
import {
  certificateWarnings,
  checkOwnKeys,
  type IdpMetadata,
  keyText,
  readIdpMetadata,
  spMetadata,
} from './saml-metadata.js'
import { signatureProblem } from './saml-signature.js'
import { childrenOf, ns, type XmlElement } from './saml-xml.js'

/** Entra sends this link instead of the groups where there are more than 150. */
const groupsOverflow = 'http://schemas.microsoft.com/claims/groups.link'

/**
 * SAML 2.0 Web SSO: AuthnRequest by HTTP-Redirect, answer by HTTP-POST. Signatures are verified by
 * node-saml; what it leaves open (Issuer, Destination, Recipient, Audience, confirmation, times, algorithms,
 * the shape of the document, replay) is checked here, on the bytes that were signed.
 *
 * Signature algorithms: RSA (2048 bits or more) with SHA-256 or SHA-512, exclusive canonicalization.
 * Refusals: `answer_malformed`, `answer_too_large`, `assertion_refused`, `answer_replayed`, `idp_refused`,
 * `identity_invalid`; `check` throws `config_invalid`.
 */
export function samlStrategy(): Strategy<SamlConnection> {
  const parsed = new WeakMap<SamlConnection, IdpMetadata>()
  const idpOf = (connection: SamlConnection): IdpMetadata => {
    const idp = parsed.get(connection) ?? readIdpMetadata(connection)
    parsed.set(connection, idp)
    return idp
  }
  // Verifying XML holds the event loop for milliseconds. One answer in each of its turns leaves sockets and
  // timers their share when many come at once; in a row they would look to us like a Redis that hangs.
  let last: Promise<unknown> = Promise.resolve()
  const turn = () => {
    last = last.then(() => turnOfTheLoop())
    return last
  }

  return {
    protocol: 'saml',

    check: (connection) => {
      checkOwnKeys(connection)
      return certificateWarnings(connection, idpOf(connection), Date.now())
    },

    attemptKey: ({ body }) => single(body, 'RelayState'),

    begin: async (connection, attempt, services) => {
      const requestId = `_${Buffer.from(services.random(16)).toString('hex')}`
      const idp = idpOf(connection)
      const [own] = connection.sp.signing
      const saml = new SAML({
        ...common(idp, services),
        entryPoint: idp.ssoUrl,
        generateUniqueId: () => requestId,
        // Asking for less lets every product answer with what it has.
        identifierFormat: null,
        disableRequestedAuthnContext: true,
        ...(own && { privateKey: keyText(own.privateKey), signatureAlgorithm: 'sha256' }),
      })
      return { redirect: await saml.getAuthorizeUrlAsync(attempt, undefined, {}), secrets: { requestId } }
    },

    complete: async (connection, { body }, attempt, services) => {
      const refuse: Refuse = (code, what, cause) => {
        throw new JitError(code, `connection "${connection.id}": ${what}`, { cause })
      }
      const idp = idpOf(connection)
      const expected: Expected = {
        issuer: idp.entityId,
        callbackUrl: services.callbackUrl,
        audience: services.entityId,
        requestId: attempt === null ? null : requestIdOf(attempt, refuse),
        now: services.now(),
        skew: connection.clockSkewSeconds * 1000,
        subjectMapped: connection.attributes.subject !== undefined,
      }
      await turn()
      const answer = readAnswer(single(body, 'SAMLResponse'), refuse)
      const responseSigned = childrenOf(answer.response, ns.signature, 'Signature').length > 0
      checkResponse(answer.response, responseSigned, expected, refuse)
      // Asked of the verified bytes again; here it spares the validation and names what is wrong.
      if (answer.assertion) checkAssertion(answer.assertion, expected, refuse)
      const verified = await verify(connection, idp, answer, expected, services, refuse)
      const statement = checkAssertion(verified, expected, refuse)
      await claim(connection, idp, statement, expected, services, refuse)
      return identityOf(connection, idp, statement, expected.now)
    },

    metadata: spMetadata,
  }
}

const common = (idp: IdpMetadata, services: Services) =>
  ({
    idpCert: idp.certificates.map((certificate) => certificate.toString()),
    idpIssuer: idp.entityId,
    issuer: services.entityId,
    callbackUrl: services.callbackUrl,
  }) satisfies SamlConfig

function requestIdOf(attempt: Attempt, refuse: Refuse): string {
  return attempt.secrets.requestId ?? refuse('attempt_unknown', 'the sign-in began without an AuthnRequest')
}

/** The assertion as it was signed: parsed from the bytes that node-saml verified, and from no others. */
async function verify(
  connection: SamlConnection,
  idp: IdpMetadata,
  answer: Answer,
  expected: Expected,
  services: Services,
  refuse: Refuse,
): Promise<XmlElement> {
  const opened = answer.encrypted && (await decrypt(connection, answer, answer.encrypted, refuse))
  const assertion = answer.assertion ?? opened!.assertion
  const signed = signedParts(connection, answer.response, assertion, refuse)
  const instant = new Date().toISOString()
  const saml = new SAML({
    ...common(idp, services),
    // Whatever is signed has to be signed well, also where the policy does not ask for it.
    wantAuthnResponseSigned: signed.has(answer.response),
    wantAssertionsSigned: signed.has(assertion),
    // Audience and times are checked by checkAssertion(), against the clock of this kit.
    audience: false,
    acceptedClockSkewMs: -1,
    validateInResponseTo:
      expected.requestId === null ? ValidateInResponseTo.never : ValidateInResponseTo.always,
    cacheProvider: {
      saveAsync: async () => null,
      getAsync: async (id) => (id === expected.requestId ? instant : null),
      removeAsync: async () => null,
    },
    ...(opened && { decryptionPvk: opened.key }),
  })
  try {
    const { profile } = await saml.validatePostResponseAsync({ SAMLResponse: answer.base64 })
    const xml = profile?.getAssertionXml?.()
    if (xml) return readDocument(xml, refuse)
  } catch (cause) {
    if (cause instanceof JitError) throw cause
    const certificates = `${idp.certificates.length} certificate(s) of idpMetadata`
    const unsigned = `it is signed by none of the ${certificates}, or not what was signed`
    refuse('assertion_refused', opened ? sealed : unsigned, cause)
  }
  return refuse('assertion_refused', 'no assertion was verified')
}

/** Said of every encrypted assertion that is refused before its claims are read. */
const sealed =
  'the encrypted assertion cannot be decrypted with a key of sp.decryption, or is not signed as it must be'

async function decrypt(connection: SamlConnection, answer: Answer, encrypted: XmlElement, refuse: Refuse) {
  const keys = connection.sp.decryption.map((pair) => keyText(pair.privateKey))
  if (keys.length === 0) {
    return refuse('assertion_refused', 'the assertion is encrypted, and sp.decryption has no key')
  }
  const uniform: Refuse = (_code, _what, cause) => refuse('assertion_refused', sealed, cause)
  const opened = (await decryptAssertion(answer.xml, encrypted, keys)) ?? uniform('assertion_refused', '')
  return { assertion: readDecrypted(opened.plain, uniform), key: opened.key }
}

/** Which of the Response and the assertion are signed, each in the one way that an IdP signs. */
function signedParts(
  connection: SamlConnection,
  response: XmlElement,
  assertion: XmlElement,
  refuse: Refuse,
): Set<XmlElement> {
  const signed = new Set<XmlElement>()
  for (const element of [response, assertion]) {
    const [signature] = childrenOf(element, ns.signature, 'Signature')
    if (!signature) continue
    const problem = signatureProblem(signature, element)
    if (problem) return refuse('assertion_refused', `the signature of the ${element.name}: ${problem}`)
    signed.add(element)
  }
  const wanted = {
    assertion: [assertion],
    response: [response],
    both: [response, assertion],
    either: signed.size > 0 ? [] : [response, assertion],
  }[connection.signed]
  const missing = wanted.filter((element) => !signed.has(element)).map((element) => element.name)
  if (missing.length > 0) {
    return refuse(
      'assertion_refused',
      `not signed: ${missing.join(', ')}; this connection asks for "${connection.signed}"`,
    )
  }
  return signed
}

/** Lets one answer with this assertion through (core §2.5.1.5), for as long as it would be good. */
async function claim(
  connection: SamlConnection,
  idp: IdpMetadata,
  { id, until }: Statement,
  { now, skew }: Expected,
  services: Services,
  refuse: Refuse,
): Promise<void> {
  const name = createHash('sha256')
    .update(JSON.stringify([connection.id, idp.entityId, id]))
    .digest('base64url')
  // A minute beyond its end, so that our own servers' clocks may differ.
  const first = await services.once.claim(`assertion:${name}`, until + skew - now + 60_000)
  if (!first) refuse('answer_replayed', `the assertion ${JSON.stringify(id.slice(0, 100))} was used before`)
}

function identityOf(connection: SamlConnection, idp: IdpMetadata, statement: Statement, at: number) {
  const claims: Record<string, readonly string[]> = Object.create(null)
  for (const [name, values] of statement.attributes) claims[name] = values
  const nameId = [statement.nameId]
  // A mapping may name the NameID like an attribute.
  const named = Object.assign(Object.create(null), claims, { NameID: nameId, nameID: nameId })
  const { subject, email, groups, profile, omitted } = readClaims(named, connection.attributes)
  return assertIdentity({
    source: `connection:${connection.id}`,
    sourceVersion: connection.version,
    issuer: idp.entityId,
    subject: subject ?? statement.nameId,
    email,
    emailVerified: 'unstated',
    profile,
    groups: groupsOverflow in claims ? { kind: 'overflow' } : groups,
    omitted,
    claims,
    at,
  })
}
