import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { SessionSlot } from './session.js'
import type { Once } from './store.js'

/** How long a request may go on after its session has ended and still not bring it back, in milliseconds. */
const slowest = 60 * 60_000

type Done = (error?: unknown) => void
type Verb = 'save' | 'destroy' | 'regenerate' | 'reload'
type Held = { readonly user?: { readonly jit?: Partial<SessionSlot['jit']> } } | null

/** What express-session adds to a request and to a session. */
interface SessionRequest extends IncomingMessage {
  readonly session?: { readonly id?: string } & Partial<Record<Verb, (done?: Done) => unknown>>
  readonly sessionStore?: { destroy(id: string, done: Done): void }
}

/**
 * Keeps a session that has ended from coming back. express-session writes a session that a request has changed as a
 * whole when the request ends, even if another request has ended it meanwhile, which would sign the person in again.
 * So whatever ends one leaves a mark first, and whoever has written one looks for the mark and takes it away again.
 */
export function keepEnded(
  ports: { readonly once: Once; readonly warn: (message: string) => void },
  req: SessionRequest,
  slot: Pick<SessionSlot, 'jit'>,
): void {
  const { session, sessionStore } = req
  if (!session?.id || typeof sessionStore?.destroy !== 'function') return
  const { id } = session
  // Not of the sign-in: an app may go on with it in a session of another id, by `req.login(req.user)` for one.
  const mark = `ended:${createHash('sha256').update(id).digest('base64url')}`
  const put = () => ports.once.put(mark, '', slowest)
  const takeAway = async () => {
    if ((await ports.once.take(mark)) === null) return
    try {
      await put()
    } finally {
      await new Promise<void>((resolve, reject) =>
        sessionStore.destroy(id, (error) => (error ? reject(error) : resolve())),
      )
    }
  }
  /** Signing out works without it, and so does every other request. */
  const trying = (work: Promise<void>) =>
    work.catch((error) =>
      ports.warn(`a session that ended may come back until it expires: ${(error as Error).message}`),
    )
  const signedIn = () =>
    Object.values(session).some(
      (value) => (value as Held)?.user?.jit?.correlationId === slot.jit.correlationId,
    )

  for (const verb of ['save', 'destroy', 'regenerate', 'reload'] as const) {
    const inner = session[verb]?.bind(session)
    if (!inner) continue
    const value = (done: Done = () => {}) => {
      if (verb === 'reload') {
        // It puts another object in the place of this one.
        inner((error) => {
          if (!error && req.session !== session) keepEnded(ports, req, slot)
          done(error)
        })
      } else if (verb === 'save' && signedIn()) {
        inner((error) => (error ? done(error) : void trying(takeAway()).then(() => done())))
      } else {
        trying(put()).then(() => inner(done))
      }
      return session
    }
    Object.defineProperty(session, verb, { value, configurable: true, writable: true })
  }
}
