import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { KithError, systemRandom } from "../base/index.js";
import { isSealed, KeyRing, masterKeysOf, openSealed, sealOverheadBytes } from "./index.js";
import { Nonces } from "./nonces.js";

const line = (): string => randomBytes(32).toString("base64");
const ringOf = (...lines: string[]): KeyRing => new KeyRing(masterKeysOf(lines.join("\n"), "a test"), systemRandom);

function failureOf(work: () => unknown): KithError {
  try {
    work();
  } catch (error) {
    if (error instanceof KithError) return error;
    throw error;
  }
  throw new Error("it went well");
}

describe("master keys", () => {
  test("are 32 bytes as base64 or hexadecimal, one a line, and have ids that follow from them", () => {
    const bytes = randomBytes(32);
    const other = randomBytes(32);
    const keys = masterKeysOf(`\n ${bytes.toString("base64")}\n${other.toString("hex")}\n`, "a file");
    expect(keys.map(({ id }) => id)).toEqual([
      masterKeysOf(bytes.toString("hex"), "")[0]?.id,
      masterKeysOf(other.toString("base64url"), "")[0]?.id,
    ]);
    expect(keys[0]?.id).toMatch(/^[0-9a-f]{16}$/);
  });

  test("are refused, without a word of them, where they are none", () => {
    for (const text of ["", "\n", "short", randomBytes(31).toString("base64"), `${line()}\nnot a key at all`]) {
      const { code, message } = failureOf(() => masterKeysOf(text, "the file k"));
      expect(code).toBe("INVALID_CONFIG");
      expect(message).toContain("the file k");
      expect(message).not.toContain("not a key");
    }
  });
});

describe("sealed bytes", () => {
  test("open in their context alone, and are longer by a fixed number of bytes", () => {
    const ring = ringOf(line());
    const plain = Buffer.from("something that nobody is to read");
    const sealed = ring.seal("record of a", plain);
    expect(isSealed(sealed)).toBe(true);
    expect(sealed.length - plain.length).toBe(sealOverheadBytes);
    expect(sealed.includes(plain)).toBe(false);
    expect(ring.open("record of a", sealed).equals(plain)).toBe(true);
    expect(openSealed(undefined, "record of a", plain).equals(plain)).toBe(true);
    expect(failureOf(() => ring.open("record of b", sealed)).code).toBe("CORRUPT_DATA");
    expect(ring.open("empty", ring.seal("empty", new Uint8Array(0))).length).toBe(0);
  });

  test("are damaged by every flipped byte behind the id of the master key, which tells that the key is not there", () => {
    const ring = ringOf(line());
    const sealed = ring.seal("c", Buffer.from("text"));
    for (let at = 8; at < sealed.length; at++) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] as number) ^ 1;
      expect(failureOf(() => openSealed(ring, "c", changed)).code).toBe(
        at < 16 ? "FAILED_PRECONDITION" : "CORRUPT_DATA",
      );
    }
  });

  test("name the master key that is missing, and how to give it", () => {
    const ring = ringOf(line());
    const sealed = ring.seal("c", Buffer.from("text"));
    const other = failureOf(() => openSealed(ringOf(line()), "c", sealed));
    const none = failureOf(() => openSealed(undefined, "c", sealed));
    for (const { code, message, details } of [other, none]) {
      expect(code).toBe("FAILED_PRECONDITION");
      expect(message).toContain("KITH_ENCRYPTION_KEY_FILE");
      expect(details).toEqual({ masterKey: ring.masterKey });
    }
  });

  test("of another process open with the same master key, and after it was replaced by one beside it", () => {
    const [first, second] = [line(), line()];
    const ring = ringOf(first);
    const sealed = ring.seal("c", Buffer.from("text"));
    expect(ringOf(first).open("c", sealed).toString()).toBe("text");
    let changes = 0;
    const forget = ring.onChange(() => changes++);
    ring.replace(masterKeysOf(`${second}\n${first}`, ""));
    expect(ring.open("c", sealed).toString()).toBe("text");
    const later = ring.seal("c", Buffer.from("later"));
    expect(failureOf(() => ringOf(first).open("c", later)).details).toEqual({ masterKey: ring.masterKey });
    ring.replace(masterKeysOf(second, ""));
    expect(failureOf(() => ring.open("c", sealed)).code).toBe("FAILED_PRECONDITION");
    forget();
    ring.replace(masterKeysOf(first, ""));
    expect(changes).toBe(2);
  });
});

test("no nonce comes twice for a key, and other random bytes begin where the counter ends", () => {
  const nonces = new Nonces(systemRandom, 100);
  const seen = Array.from({ length: 1_000 }, () => nonces.next().toString("hex"));
  expect(new Set(seen).size).toBe(1_000);
  expect(new Set(seen.map((each) => each.slice(0, 16))).size).toBe(10);
});
