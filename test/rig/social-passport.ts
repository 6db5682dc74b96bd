import { createHash, randomBytes } from 'node:crypto'

type Done = (error: unknown, user?: unknown, info?: unknown) => void
type Verify = (accessToken: string, refreshToken: undefined, profile: unknown, done: Done) => void

interface Request {
  query: Record<string, string>
  session: Record<string, unknown>
  headers: Record<string, string>
}

export interface StrategyOptions {
  callbackURL: string
  fetch: typeof fetch
  pkce?: boolean
}

/** What Passport grafts onto the copy that serves one request. */
interface Actions {
  success(user: unknown, info?: unknown): void
  redirect(url: string): void
  fail(challenge: unknown, status?: number): void
  error(error: unknown): void
}

class AuthorizationError extends Error {
  override readonly name = 'AuthorizationError'
  constructor(
    message: string,
    readonly code: string,
  ) {
    super(message)
  }
}

class InternalOAuthError extends Error {
  override readonly name = 'InternalOAuthError'
  constructor(
    message: string,
    readonly oauthError: { statusCode: number; data: string },
  ) {
    super(message)
  }
}

/**
 * A strategy for Passport as the OAuth 2 family writes them, at `social.example`: methods that Passport grafts, a
 * store for its state and verifier that is told apart by the number of its arguments, and no knowledge of this kit.
 */
export class TwitterishStrategy {
  readonly name: string = 'twitterish'
  readonly _callbackURL: string
  _stateStore = {
    store: (_req: Request, _done: Done): void => {
      throw new Error('the store of the strategy itself is not for this kit')
    },
    verify: (_req: Request, _state: string, _done: Done): void => {
      throw new Error('the store of the strategy itself is not for this kit')
    },
  }

  constructor(
    readonly options: StrategyOptions,
    readonly verify: Verify,
  ) {
    this._callbackURL = options.callbackURL
  }

  authenticate(this: TwitterishStrategy & Actions, req: Request, options: { state?: string } = {}): void {
    const { query } = req
    if (query.error === 'access_denied') return this.fail({ message: query.error_description })
    if (query.error) return this.error(new AuthorizationError(query.error_description ?? '', query.error))
    if (query.code)
      return this.verifyState(req, query.state!, (verifier) => this.exchange(query.code!, verifier))
    const verifier = this.options.pkce ? randomBytes(32).toString('base64url') : null
    this.keepState(req, verifier, options, (state) => this.redirect(this.authorizeUrl(state, verifier)))
  }

  protected keepState(
    this: TwitterishStrategy & Actions,
    req: Request,
    verifier: string | null,
    options: { state?: string },
    then: (state: string | undefined) => void,
  ): void {
    if (options.state) return then(options.state)
    const stored = (error: unknown, state: unknown) => (error ? this.error(error) : then(state as string))
    const store = this._stateStore.store as (...args: unknown[]) => void
    if (store.length === 5) store(req, verifier, undefined, {}, stored)
    else store(req, stored)
  }

  protected verifyState(
    this: TwitterishStrategy & Actions,
    req: Request,
    state: string,
    then: (verifier: string | null) => Promise<void>,
  ): void {
    const loaded = (error: unknown, valid: unknown) => {
      if (error) return this.error(error)
      if (!valid) return this.fail({ message: 'Unable to verify authorization request state.' }, 403)
      then(typeof valid === 'string' ? valid : null).catch((failure) => this.error(failure))
    }
    const verify = this._stateStore.verify as (...args: unknown[]) => void
    if (verify.length === 4) verify(req, state, {}, loaded)
    else verify(req, state, loaded)
  }

  protected authorizeUrl(state: string | undefined, verifier: string | null): string {
    const url = new URL('https://social.example/authorize')
    url.searchParams.set('response_type', 'code')
    url.searchParams.set('client_id', 'client-twitterish')
    url.searchParams.set('redirect_uri', this._callbackURL)
    if (state) url.searchParams.set('state', state)
    const challenge = createHash('sha256')
      .update(verifier ?? '')
      .digest('base64url')
    url.searchParams.set('code_challenge', challenge)
    return url.href
  }

  protected async exchange(this: TwitterishStrategy & Actions, code: string, verifier: string | null) {
    const body = new URLSearchParams({
      client_id: 'client-twitterish',
      client_secret: 'secret of twitterish',
      code,
      redirect_uri: this._callbackURL,
      code_verifier: verifier ?? '',
    })
    const answered = await this.options.fetch('https://social.example/token', { method: 'POST', body })
    const text = await answered.text()
    if (!answered.ok)
      throw new InternalOAuthError('Failed to obtain access token', {
        statusCode: answered.status,
        data: text,
      })
    const { access_token: token } = JSON.parse(text) as { access_token: string }
    const headers = { authorization: `Bearer ${token}` }
    const profile = await this.options.fetch('https://social.example/user', { headers })
    this.verify(token, undefined, await profile.json(), (error, user, info) => {
      if (error) this.error(error)
      else if (!user) this.fail(info)
      else this.success(user, info)
    })
  }
}

/** One outside that family: it takes the `state` it is handed, and keeps its verifier in the session. */
export class SessionStrategy extends TwitterishStrategy {
  override readonly name = 'sessionish'

  constructor(options: StrategyOptions, verify: Verify) {
    super(options, verify)
    Reflect.deleteProperty(this, '_stateStore')
  }

  protected override keepState(
    req: Request,
    verifier: string | null,
    options: { state?: string },
    then: (state: string | undefined) => void,
  ): void {
    req.session.verifier = verifier
    then(options.state)
  }

  protected override verifyState(
    this: TwitterishStrategy & Actions,
    req: Request,
    _state: string,
    then: (verifier: string | null) => Promise<void>,
  ): void {
    then((req.session.verifier as string | null) ?? null).catch((failure) => this.error(failure))
    delete req.session.verifier
  }
}
