export { endServerSpan, FailureLog, MethodStats } from "./call-stats.js";
export { deadlinePassed, DeadlineSweep, type Expiring, shuttingDown } from "./deadline.js";
export type { BidiDefinition, ServerStreamDefinition, UnaryDefinition } from "./definition.js";
export {
  checkRequestSize,
  type ErrorWording,
  fromFailure,
  fromServiceError,
  toFailure,
  toServiceError,
} from "./errors.js";
