import { expect, test } from "vitest";
import { KithError } from "../../base/index.js";
import { Malformed, MessageBatch, MessagePart, servedDefinition, wholeBytesMax } from "./definition.js";

type Message = MessageBatch | MessagePart;

/** What grpc-js does with the result of a serializer. */
function framed(message: Message): Buffer {
  const output = Buffer.alloc(message.byteLength + 5, 0xff);
  output.writeUInt8(0, 0);
  output.writeUInt32BE(message.byteLength, 1);
  message.copy(output, 5);
  return output;
}

function unframed(bytes: Buffer): string[] {
  const read: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    expect(bytes[at]).toBe(0);
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    read.push(bytes.toString("latin1", at + 5, end));
    at = end;
  }
  return read;
}

test("a batch frames each of its messages where grpc-js would have framed one", () => {
  const messages = [Buffer.from("first"), Buffer.alloc(0), Buffer.alloc(300_000, 7), Buffer.from("last")];
  expect(unframed(framed(new MessageBatch(messages)))).toEqual(messages.map((each) => each.toString("latin1")));
});

test("the parts of a message have one header together, and none of them more than its share", () => {
  for (const more of [1, 4, 5, 6, wholeBytesMax, 2 * wholeBytesMax + 3, 10 * wholeBytesMax]) {
    const message = Buffer.from(Array.from({ length: wholeBytesMax + more }, (_, i) => i % 251));
    const written: Buffer[] = [];
    for (let part: MessagePart | undefined = new MessagePart(message); part !== undefined; part = part.next) {
      written.push(framed(part));
    }
    expect(Math.max(...written.map(({ length }) => length))).toBeLessThanOrEqual(wholeBytesMax + 10);
    expect(unframed(Buffer.concat(written))).toEqual([message.toString("latin1")]);
  }
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
