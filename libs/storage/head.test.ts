import fc from "fast-check";
import { expect, test } from "vitest";
import { Head, headBytes, type HeadContent, type Part, partKind, writeHead } from "./head.js";
import { checkedValue } from "./values.js";

const key = Buffer.from("0101", "hex");

function encode(head: HeadContent): Buffer {
  const body = Buffer.alloc(headBytes(head));
  writeHead(body, new DataView(body.buffer, body.byteOffset, body.byteLength), 0, head);
  return body;
}

const decode = (body: Uint8Array): Head => new Head(key, checkedValue(key, body));

const u48 = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const part = fc.record({
  kind: fc.constantFrom(...Object.values(partKind)),
  field: fc.nat(255),
  version: fc.option(u48, { nil: undefined }),
  length: fc.nat(2 ** 32 - 1),
  hash: u64,
});
const heads = fc
  .record({
    version: u48,
    slot: fc.nat(2 ** 32 - 1),
    slotVersion: fc.option(u48, { nil: undefined }),
    expiresAtMs: fc.option(u48, { nil: undefined }),
    contentHash: u64,
    parts: fc.uniqueArray(part, {
      selector: ({ kind, field }) => (kind === partKind.payload ? "payload" : `${kind} ${field}`),
      maxLength: 20,
    }),
  })
  .map(({ parts, ...head }): HeadContent => {
    return {
      ...head,
      parts: parts.map(({ kind, field, version = head.version, length, hash }): Part => {
        return {
          kind,
          field: kind === partKind.payload ? 0 : field,
          version,
          length: kind === partKind.vector ? 0 : length,
          hash,
        };
      }),
    };
  });

test("any head comes back as it was written", () => {
  fc.assert(
    fc.property(heads, (content) => {
      const { version, slot, slotVersion = version, expiresAtMs, contentHash, parts } = content;
      const body = encode(content);
      // What a head of format 1 had.
      expect(body.length).not.toBe(24);
      const head = decode(body);
      expect(head).toMatchObject({ version, slot, slotVersion, expiresAtMs, contentHash });
      expect(head.parts()).toEqual(parts);
      const visited: number[][] = [];
      head.forEachPart((...each) => visited.push(each));
      expect(visited).toEqual(parts.map(({ kind, field }) => [kind, field]));
      const payload = parts.find(({ kind }) => kind === partKind.payload);
      expect(head.payloadBytes).toBe(payload?.length ?? 0);
      for (let field = 0; field < 256; field++) {
        const vector = parts.find((each) => each.kind === partKind.vector && each.field === field);
        const isThere = parts.some((each) => each.kind !== partKind.payload && each.field === field);
        expect(head.hasVector(field)).toBe(isThere);
        const sparse = parts.find((each) => each.kind === partKind.sparse && each.field === field);
        expect(head.lengthOf(partKind.sparse, field)).toBe(sparse?.length ?? 0);
        expect(head.versionOf(partKind.vector, field)).toBe(vector?.version);
      }
      for (const { kind, field, length } of parts) {
        if (kind !== partKind.multi || parts.some((each) => each.kind === partKind.vector && each.field === field))
          continue;
        expect(head.vectorBytes({ number: field, dimension: 3 })).toBe(length);
      }
      expect(head.versionOf(partKind.payload, 0)).toBe(payload?.version);
    }),
  );
});

test("the bytes are what docs/format.md says", () => {
  const payload: Part = { kind: partKind.payload, field: 0, version: 2, length: 258, hash: 3n };
  const vector: Part = { kind: partKind.vector, field: 7, version: 5, length: 0, hash: 4n };
  const plain = encode({ version: 5, slot: 6, contentHash: 1n, parts: [vector, { ...payload, version: 5 }] });
  expect(plain.toString("hex")).toBe(
    ["050000000000", "06000000", "0100000000000000", "00", "0207", "0400000000000000", "03", "02010000"]
      .concat("0300000000000000")
      .join(""),
  );
  const full = encode({
    version: 5,
    slot: 6,
    slotVersion: 4,
    expiresAtMs: 9,
    contentHash: 1n,
    parts: [vector, payload, { kind: partKind.sparse, field: 255, version: 1, length: 8, hash: 2n }],
  });
  expect(full.toString("hex")).toBe(
    ["050000000000", "06000000", "0100000000000000", "03", "040000000000", "090000000000"]
      .concat(["0207", "0400000000000000"])
      .concat(["13", "020000000000", "02010000", "0300000000000000"])
      .concat(["15ff", "010000000000", "08000000", "0200000000000000"])
      .join(""),
  );
});

test("what is no head is found out", () => {
  const body = encode({ version: 5, slot: 6, contentHash: 1n, parts: [] });
  const corrupt = expect.objectContaining({ code: "CORRUPT_DATA" }) as Error;
  expect(() => decode(body.subarray(0, 18))).toThrow(corrupt);
  // Half a part, a kind that nobody has, a flag that nobody knows.
  expect(() => decode(Buffer.concat([body, Buffer.from("0200", "hex")]))).toThrow(corrupt);
  expect(() => decode(Buffer.concat([body, Buffer.from("04000000000000000000000000000000", "hex")]))).toThrow(corrupt);
  body[18] = 4;
  expect(() => decode(body)).toThrow(corrupt);
});
