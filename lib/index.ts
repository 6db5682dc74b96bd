export type { Admin, AdminResult } from './admin.js'
export type { Asked } from './administer-command.js'
export { attemptDefaults, putSealed, takeSealed } from './attempt.js'
export type { AuditEvent, Decision, EventType } from './audit.js'
export type { Background, Round } from './background.js'
export type { ChainProblem, Head, Verification } from './chain.js'
export {
  type AttributeMapping,
  type AttributeRule,
  type ClaimSource,
  claimAt,
  claimSources,
  type Reading,
  readClaims,
} from './claims.js'
export type { OrganizationPreview, PersonPreview, RoleChange } from './comparison.js'
export type { ConflictOutcomes, OnConflict, SignInConflict } from './conflict.js'
export { directoryFromFile, staticDirectory } from './directory.js'
export type { WayIn } from './discovery.js'
export { type ErrorCode, errorCodes, JitError, schemaProblems } from './errors.js'
export type { Hypothesis } from './hypothesis.js'
export {
  type Asserted,
  AssertedIdentity,
  assertIdentity,
  type Groups,
  type IdentityInput,
  type Omission,
  type Source,
} from './identity.js'
export { createJit, type Jit } from './jit.js'
export type { Audit } from './ledger.js'
export { clientKey, count, type Limiter, limiters, type RequestLimits } from './limits.js'
export type { AuthenticateOptions, Handler, ProvisionOptions } from './middleware.js'
export type { JitOptions, LogEntry } from './options.js'
export { type Deliveries, DeliveryError, type Listener } from './outbox.js'
export { escapeHtml } from './pages.js'
export type { DenyReason, DomainFacts, Outcome, Plan, Proof, Reason, TraceEntry } from './plan.js'
export type {
  Connection,
  DirectoryInput,
  EmailProvider,
  OidcConnection,
  Organization,
  Provider,
  SamlConnection,
  SocialProvider,
} from './policy.js'
export type { PolicyInput } from './policy-change.js'
export type { Preview } from './preview.js'
export type { RevocationsOptions } from './revocations.js'
export type { JitResult, JitUser, SessionMembership } from './session.js'
export type * from './store.js'
export {
  type ImportResult,
  type StoreDirectory,
  type StoreDirectoryOptions,
  storeDirectory,
} from './store-directory.js'
export {
  type Attempt,
  type CodeAnswer,
  type CodeProof,
  type CodeRequest,
  codeLifetime,
  type EmailServices,
  type EmailStrategy,
  type Entry,
  type Incoming,
  type Services,
  type Strategy,
  single,
} from './strategy.js'
export type * from './trail.js'
export type { SecretKey } from './vault.js'
export type { Absence, AbsenceFinding, Origin, Why } from './why.js'
