import { expect, test } from "vitest";
import { MessageBatch } from "./definition.js";

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
