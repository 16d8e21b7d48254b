export { type CallAccess, type CallUsage, type Decision, fullAccess, type RowRule } from "./access.js";
export { childCall } from "./child-call.js";
export type { CallContext } from "./context.js";
