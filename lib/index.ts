export type { AuditEvent, EventType } from './audit.js'
export { directoryFromFile, staticDirectory } from './directory.js'
export { type ErrorCode, errorCodes, JitError } from './errors.js'
export {
  AssertedIdentity,
  assertIdentity,
  type Groups,
  type IdentityInput,
  readClaims,
  type Source,
} from './identity.js'
export { createJit, type Hypothesis, type Jit, type JitOptions, type LogEntry } from './jit.js'
export type { AuthenticateOptions, Handler, ProvisionOptions } from './middleware.js'
export type { DenyReason, Outcome, Plan, Reason, TraceEntry } from './plan.js'
export type { Connection, DirectoryInput, OidcConnection, Organization, SamlConnection } from './policy.js'
export type { JitResult, JitUser, SessionMembership } from './session.js'
export type * from './store.js'
export { type Attempt, type Incoming, type Services, type Strategy, single } from './strategy.js'
