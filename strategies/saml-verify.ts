import { SAML, type SamlConfig, ValidateInResponseTo } from '@node-saml/passport-saml'
import type { ErrorCode, SamlConnection } from '../lib/index.js'
import { checkAssertion, checkResponse, type Expected, type Statement } from './saml-assertion.js'
import { decryptAssertion } from './saml-decrypt.js'
import { type Answer, base64Of, type Refuse, readAnswer, readDecrypted, readDocument } from './saml-guard.js'
import { signatureProblem } from './saml-signature.js'
import { childrenOf, legible, ns, type XmlElement } from './saml-xml.js'

// Nothing here may need the engine to run: this is what each worker thread loads.

/** One answer and all that verifying it takes: plain data, so that it can be handed to another thread. */
export interface AnswerJob {
  /** `SAMLResponse` as it was posted. */
  readonly field: string
  readonly expected: Expected
  /** Which parts have to be signed. */
  readonly signed: SamlConnection['signed']
  /** PEM, the newest first. */
  readonly certificates: readonly string[]
  /** Private keys for encrypted assertions, PEM; they never leave this process. */
  readonly decryptionKeys: readonly string[]
}

/** What became of an answer, as data. */
export type Verdict =
  | { readonly statement: Statement }
  | { readonly refused: ErrorCode; readonly what: string; readonly cause?: unknown }

class Refusal extends Error {
  constructor(
    readonly code: ErrorCode,
    what: string,
    readonly because: unknown,
  ) {
    super(what)
  }
}

const refuse: Refuse = (code, what, cause) => {
  throw new Refusal(code, what, cause)
}

/** Reads, decrypts, verifies and checks one answer. Costs up to half a second of processor; never throws. */
export async function verifyAnswer(job: AnswerJob): Promise<Verdict> {
  try {
    const { expected } = job
    const base64 = base64Of(job.field, refuse)
    const answer = readAnswer(base64, refuse)
    const responseSigned = childrenOf(answer.response, ns.signature, 'Signature').length > 0
    checkResponse(answer.response, responseSigned, expected, refuse)
    // Asked of the verified bytes again; here it spares the validation and names what is wrong.
    if (answer.assertion) checkAssertion(answer.assertion, expected, refuse)
    return { statement: checkAssertion(await verified(job, base64, answer), expected, refuse) }
  } catch (error) {
    return error instanceof Refusal
      ? { refused: error.code, what: error.message, cause: portable(error.because) }
      : { refused: 'answer_malformed', what: legible(String(error)), cause: portable(error) }
  }
}

/** Errors pass between threads with message and stack; what else a library may throw passes as text. */
const portable = (cause: unknown) => (cause === undefined || cause instanceof Error ? cause : String(cause))

/** The assertion as it was signed: parsed from the bytes that node-saml verified, and from no others. */
async function verified(job: AnswerJob, base64: string, answer: Answer): Promise<XmlElement> {
  const { expected, certificates } = job
  const opened = answer.encrypted && (await decrypted(job, answer.xml, answer.encrypted))
  const assertion = answer.assertion ?? opened!.assertion
  const signed = signedParts(job, answer.response, assertion)
  const instant = new Date().toISOString()
  const saml = new SAML({
    idpCert: [...certificates],
    idpIssuer: expected.issuer,
    issuer: expected.audience,
    callbackUrl: expected.callbackUrl,
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
  } satisfies SamlConfig)
  try {
    const { profile } = await saml.validatePostResponseAsync({ SAMLResponse: base64 })
    const xml = profile?.getAssertionXml?.()
    // By the limits once more: what was opened here is what node-saml opened, on its own word alone.
    if (xml) return opened ? readDecrypted(xml, refuse) : readDocument(xml, refuse)
  } catch (cause) {
    if (cause instanceof Refusal) throw cause
    const unsigned = `it is signed by none of the ${certificates.length} certificate(s) of idpMetadata, or not what was signed`
    refuse('assertion_refused', opened ? sealed : unsigned, cause)
  }
  return refuse('assertion_refused', 'no assertion was verified')
}

/** Said of every encrypted assertion that is refused before its claims are read. */
const sealed =
  'the encrypted assertion cannot be decrypted with a key of sp.decryption, or is not signed as it must be'

async function decrypted({ decryptionKeys }: AnswerJob, xml: string, encrypted: XmlElement) {
  if (decryptionKeys.length === 0) {
    return refuse('assertion_refused', 'the assertion is encrypted, and sp.decryption has no key')
  }
  const uniform: Refuse = (_code, _what, cause) => refuse('assertion_refused', sealed, cause)
  const opened = (await decryptAssertion(xml, encrypted, decryptionKeys)) ?? uniform('assertion_refused', '')
  return { assertion: readDecrypted(opened.plain, uniform), key: opened.key }
}

/** Which of the Response and the assertion are signed, each in the one way that an IdP signs. */
function signedParts({ signed: policy }: AnswerJob, response: XmlElement, assertion: XmlElement) {
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
  }[policy]
  const missing = wanted.filter((element) => !signed.has(element)).map((element) => element.name)
  if (missing.length > 0) {
    return refuse(
      'assertion_refused',
      `not signed: ${missing.join(', ')}; this connection asks for "${policy}"`,
    )
  }
  return signed
}
