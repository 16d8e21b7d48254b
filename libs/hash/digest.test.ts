import fc from "fast-check";
import { expect, test } from "vitest";
import { partHash, partSeed, pointHash } from "./digest.js";
import { xxh64 } from "./hash.js";

/** As in keys of the store. */
const partKind = { vector: 2, payload: 3, text: 6 } as const;

const le = (value: number | bigint, bytes: number): Buffer => {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer.subarray(0, bytes);
};

test("hashes are those of the layouts in docs/format.md", () => {
  const names = fc.stringMatching(/^[A-Za-z0-9_-]{0,128}$/);
  const u48 = fc.nat(2 ** 31 - 1).map((n) => n * 2 ** 17);
  fc.assert(
    fc.property(
      names,
      u48,
      u48,
      fc.uint8Array({ minLength: 1, maxLength: 257 }),
      fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { maxLength: 300 }),
      (name, version, expiresAtMs, bytes, hashes) => {
        const prefix = Buffer.concat([le(partKind.text, 1), le(name.length, 1), Buffer.from(name), le(version, 6)]);
        expect(partSeed(partKind.text, name, version)).toBe(xxh64(prefix));
        expect(partHash(7n, bytes)).toBe(xxh64(bytes, 7n));
        const point = [le(bytes.length, 2), bytes, le(version, 6), le(expiresAtMs, 8), ...hashes.map((h) => le(h, 8))];
        const parts = hashes.map((hash) => ({ hash }));
        expect(pointHash(bytes, version, expiresAtMs, parts)).toBe(xxh64(Buffer.concat(point)));
      },
    ),
  );
});

test("a point has the hash that it always had", () => {
  const vector = { hash: partHash(partSeed(partKind.vector, "title", 41), Buffer.from("0000803f00000040", "hex")) };
  const payload = { hash: partHash(partSeed(partKind.payload, "", 42), Buffer.from('{"a":1}')) };
  const id = Buffer.from("010000000000000001", "hex");
  expect(pointHash(id, 42, undefined, [vector, payload])).toBe(3_346_221_464_183_097_341n);
  expect(pointHash(id, 42, 1_700_000_000_000, [])).toBe(2_037_925_803_616_182_068n);
});
