export {
  Authenticator,
  type AuthenticatorOptions,
  type AuthenticatorSources,
  type Credentials,
  type PeerCertificate,
  type TokenVerifier,
} from "./authenticator.js";
export { AuditLog } from "./audit-log.js";
export type { KeyRecord } from "./key.js";
export { KeyStore } from "./key-store.js";
export { Principal } from "./principal.js";
export { builtInRoles, type Role, type RoleRule } from "./role.js";
export { openTokens, type TokenOptions } from "./tokens.js";
export type { AccessLimits } from "./usage.js";
export { changesCollections, rowVerbs, rpcRules, type Verb } from "./verbs.js";
