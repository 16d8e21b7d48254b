import { expect, test } from "vitest";
import { KithError } from "../../base/index.js";
import { Malformed, MessageBatch, servedDefinition } from "./definition.js";

test("a batch frames each of its messages where grpc-js would have framed one", () => {
  const messages = [Buffer.from("first"), Buffer.alloc(0), Buffer.alloc(300_000, 7), Buffer.from("last")];
  const batch = new MessageBatch(messages);
  // What grpc-js does with the result of a serializer.
  const output = Buffer.alloc(batch.byteLength + 5, 0xff);
  output.writeUInt8(0, 0);
  output.writeUInt32BE(batch.byteLength, 1);
  batch.copy(output, 5);
  const read: Buffer[] = [];
  for (let at = 0; at < output.length; ) {
    expect(output[at]).toBe(0);
    const end = at + 5 + output.readUInt32BE(at + 1);
    read.push(output.subarray(at + 5, end));
    at = end;
  }
  expect(read.map((message) => message.toString("latin1"))).toEqual(messages.map((each) => each.toString("latin1")));
});

test("a decoder's typed error is answered as it is, any other as INVALID_ARGUMENT", () => {
  const decoded = (thrown: Error): unknown => {
    const same = (bytes: Buffer): Buffer => bytes;
    const streams = { requestStream: false, responseStream: false };
    const refuse = (): never => {
      throw thrown;
    };
    const method = { path: "/s/m", ...streams, requestSerialize: same, responseSerialize: same };
    const served = servedDefinition({ m: { ...method, responseDeserialize: same, requestDeserialize: refuse } }, 100);
    return served["m"]?.requestDeserialize(Buffer.alloc(3));
  };
  const typed = new KithError("DIMENSION_MISMATCH", "too long");
  expect(decoded(typed)).toEqual(new Malformed(typed));
  expect(decoded(new RangeError("index out of range"))).toMatchObject({ error: { code: "INVALID_ARGUMENT" } });
});
