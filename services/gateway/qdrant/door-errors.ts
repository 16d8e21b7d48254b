import { status as grpcStatus } from "@grpc/grpc-js";
import type { ErrorCode, KithError } from "../../../libs/base/index.js";
import type { ErrorWording } from "../../../libs/rpc/common/index.js";

const messageLengthMax = 2_048;

/** Words of Qdrant's by which clients and their users tell what is wrong. */
const leads: Partial<Record<ErrorCode, string>> = {
  COLLECTION_NOT_FOUND: "Not found: Collection: ",
  UNKNOWN_VECTOR: "Wrong input: Not existing vector name error: ",
  DIMENSION_MISMATCH: "Wrong input: Vector dimension error: ",
};

/** What is said of an error. */
export function messageOf({ code, message }: KithError): string {
  return `${leads[code] ?? ""}${message}`.slice(0, messageLengthMax);
}

/** Where Qdrant's clients know another status than Kith's table has. */
const statuses: Partial<Record<ErrorCode, number>> = {
  FAILED_PRECONDITION: grpcStatus.INVALID_ARGUMENT,
  CONDITION_FAILED: grpcStatus.INVALID_ARGUMENT,
  VERSION_MISMATCH: grpcStatus.INVALID_ARGUMENT,
  // Qdrant has a status of its own only for collections that exist.
  ALREADY_EXISTS: grpcStatus.INVALID_ARGUMENT,
};

/** An error as Qdrant's gRPC services tell it: clients read `retry-after`, in seconds, where they are to wait. */
export function grpcWording(error: KithError): ErrorWording {
  const { code, retryAfterMs } = error;
  const status = statuses[code];
  const seconds = retryAfterMs === undefined ? undefined : Math.max(1, Math.ceil(retryAfterMs / 1000));
  return {
    message: messageOf(error),
    ...(status !== undefined && { grpcStatus: status }),
    ...(seconds !== undefined && { metadata: { "retry-after": String(seconds) } }),
  };
}
