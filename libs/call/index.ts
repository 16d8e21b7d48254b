export { childCall } from "./child-call.js";
export type { CallContext } from "./context.js";
