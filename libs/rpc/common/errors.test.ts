import { Metadata, type ServiceError } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { type ErrorCode, errorTable, KithError } from "../../base/index.js";
import { pb } from "../../wire/index.js";
import { fromFailure, fromServiceError, toFailure, toServiceError } from "./errors.js";
import { decodeStatus, encodeStatus } from "./status.js";

function received(sent: ReturnType<typeof toServiceError>): ServiceError {
  return Object.assign(new Error(sent.message), sent);
}

describe("google.rpc.Status", () => {
  test("survives encoding, and has the bytes that other implementations write", () => {
    const status = {
      grpcStatus: 8,
      message: "zu viel ü",
      info: { reason: "RESOURCE_EXHAUSTED", domain: "kith", metadata: { limit: "10", "": "x" } },
      retryAfterMs: 1_250,
    };
    expect(decodeStatus(encodeStatus(status))).toEqual(status);
    // code 5, message "a": written by hand from google/rpc/status.proto.
    const bytes = encodeStatus({ grpcStatus: 5, message: "a", info: undefined, retryAfterMs: undefined });
    expect(Buffer.from(bytes).toString("hex")).toBe("0805120161");
    // One Any of a type that Kith does not know, and an unknown field 15.
    const foreign = Buffer.from("08051201611a070a03612e621200" + "7803", "hex");
    expect(decodeStatus(foreign)).toEqual({ grpcStatus: 5, message: "a", info: undefined, retryAfterMs: undefined });
  });
});

describe("errors across gRPC", () => {
  test("every code arrives as it was sent", () => {
    for (const code of Object.keys(errorTable) as ErrorCode[]) {
      const error = new KithError(code, `about ${code}`, { details: { field: "a", limit: "3" }, retryAfterMs: 70 });
      const arrived = fromServiceError(received(toServiceError(error)));
      expect(arrived).toMatchObject({ code, message: error.message, details: error.details, retryAfterMs: 70 });
      const failure = pb.Failure.decode(pb.Failure.encode(toFailure(error)).finish());
      expect(failure).toMatchObject({ grpcStatus: errorTable[code].grpcStatus, retryable: error.retryable });
      expect(fromFailure(failure)).toMatchObject({ code, message: error.message, details: error.details });
    }
  });

  test("text that headers cannot carry is cut and made well-formed", () => {
    const error = new KithError("INVALID_NAME", `\ud83d ${"é".repeat(5_000)}`, {
      details: { name: "x".repeat(9_000) },
    });
    const sent = toServiceError(error);
    expect(() => encodeURI(sent.details)).not.toThrow();
    expect(sent.details.length).toBeLessThanOrEqual(1_024);
    expect(fromServiceError(received(sent)).details["name"]).toHaveLength(256);
  });

  test("statuses of others map to the nearest code, unreadable details included", () => {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from("ffff", "hex"));
    const error: ServiceError = Object.assign(new Error("m"), { code: 14, details: "gone", metadata });
    expect(fromServiceError(error)).toMatchObject({ code: "SERVER_UNREACHABLE", message: "gone", retryable: true });
    expect(fromServiceError(Object.assign(new Error("m"), { code: 2, details: "", metadata }))).toMatchObject({
      code: "INTERNAL",
      message: "m",
    });
    const strange = { ...toFailure(new KithError("POINT_EXISTS", "m")), code: "FROM_THE_FUTURE" };
    expect(fromFailure(strange)).toMatchObject({ code: "ALREADY_EXISTS", details: { code: "FROM_THE_FUTURE" } });
  });

  test("what gRPC says of a server that is not there is told without its internals", () => {
    const details =
      "No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:7700. Resolution note: ";
    const error: ServiceError = Object.assign(new Error("m"), { code: 14, details, metadata: new Metadata() });
    expect(fromServiceError(error)).toMatchObject({
      code: "SERVER_UNREACHABLE",
      message: "no connection to the server: connect ECONNREFUSED 127.0.0.1:7700",
    });
  });
});
