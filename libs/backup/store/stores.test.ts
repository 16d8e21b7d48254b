/** The same for both stores: a folder, and a server that speaks the protocol of S3. */
import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import S3rver from "s3rver";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { randomBytes } from "node:crypto";
import { systemRandom } from "../../base/index.js";
import { KeyRing, masterKeysOf } from "../../encryption/index.js";
import { BackupLocations } from "../index.js";
import type { FileStore } from "./port.js";

let folder: string;
let server: S3rver;
let port: number;
let locations: BackupLocations;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-stores-"));
  server = new S3rver({
    ...{ port: 0, address: "127.0.0.1", silent: true, directory: join(folder, "s3") },
    configureBuckets: [{ name: "kith", configs: [] }],
  });
  ({ port } = await server.run());
  locations = new BackupLocations(
    {
      folder: join(folder, "files"),
      s3: {
        ...{ bucket: "kith", prefix: "all", region: "us-east-1", pathStyle: true },
        ...{ endpoint: `http://127.0.0.1:${port}`, accessKeyId: "S3RVER", secretAccessKey: "S3RVER" },
      },
    },
    systemRandom,
  );
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

async function keysOf(store: FileStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key, sizeBytes } of store.list(prefix)) keys.push(`${key} ${sizeBytes}`);
  return keys.sort();
}

describe.each(["file:here", "s3:here"])("the store %s", (location) => {
  test("keeps files, lists and removes them", async () => {
    const store = await locations.open(location);
    await store.put("a/b/1.bin", Buffer.from("one"));
    await store.put("a/b/2.bin", Buffer.from("three"));
    await store.put("a/c.json", Buffer.alloc(0));
    await store.put("b/d.json", Buffer.alloc(300_000, 7));
    expect(await keysOf(store, "a/")).toEqual(["a/b/1.bin 3", "a/b/2.bin 5", "a/c.json 0"]);
    expect(await keysOf(store, "nothing/")).toEqual([]);
    expect((await store.get("a/b/2.bin")).toString()).toBe("three");
    expect((await store.get("b/d.json")).equals(Buffer.alloc(300_000, 7))).toBe(true);
    await store.put("a/b/1.bin", Buffer.from("one"));
    await store.remove("a/b/2.bin");
    await store.remove("a/b/2.bin");
    await expect(store.get("a/b/2.bin")).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await keysOf(store, "a/b/")).toEqual(["a/b/1.bin 3"]);
    // Another location of the same place has nothing of it.
    expect(await keysOf(await locations.open(location.replace("here", "there")), "a/")).toEqual([]);
  });
});

test("a file that was not written to its end is not there", async () => {
  const store = await locations.open("file:cut");
  await store.put("x/whole.bin", Buffer.from("x"));
  await writeFile(join(folder, "files", "cut", "x", "cut.bin-0102.partial"), "half");
  expect(await keysOf(store, "x/")).toEqual(["x/whole.bin 1"]);
});

test.each([
  "file:../out",
  "file:a/../../out",
  "file:/etc",
  "file:a//b",
  "file:.hidden",
  "file:a/..",
  "s3:../x",
  "s3:a\u0000b",
  "file:a\\..\\b",
  "ftp:x",
  "plain",
  `file:${"x".repeat(300)}`,
])("a location that leads elsewhere is refused: %j", (location) => {
  expect(() => locations.normal(location)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
});

test("where nothing is configured, it says what to set", () => {
  const none = new BackupLocations({}, systemRandom);
  for (const location of ["", "file:x", "s3:x"]) {
    expect(() => none.normal(location)).toThrow(/KITH_BACKUP_FOLDER/);
  }
});

test("a bucket that is not there, and a server that is not, are told as such", async () => {
  const s3 = {
    bucket: "none",
    prefix: "",
    region: "us-east-1",
    pathStyle: true,
    accessKeyId: "S3RVER",
    secretAccessKey: "S3RVER",
  };
  const wrong = new BackupLocations({ s3: { ...s3, endpoint: `http://127.0.0.1:${port}` } }, systemRandom);
  await expect((await wrong.open("s3:x")).put("a", Buffer.from("a"))).rejects.toMatchObject({
    code: expect.stringMatching(/^(FAILED_PRECONDITION|NOT_FOUND)$/) as string,
  });
  const away = new BackupLocations({ s3: { ...s3, endpoint: "http://127.0.0.1:1" } }, systemRandom);
  await expect((await away.open("s3:x")).get("a")).rejects.toMatchObject({ code: "SERVER_UNREACHABLE" });
});

test("files are encrypted where there is a key: each opens in its place alone, and those of before are read", async () => {
  const settings = { folder: join(folder, "sealed") };
  const ringOf = (...lines: string[]): KeyRing => new KeyRing(masterKeysOf(lines.join("\n"), ""), systemRandom);
  const [first, second] = [randomBytes(32).toString("base64"), randomBytes(32).toString("base64")];
  const open = (keys?: KeyRing): Promise<FileStore> => new BackupLocations(settings, systemRandom, keys).open("");
  const plain = await open();
  await plain.put("a/old.bin", Buffer.from("from before"));
  const store = await open(ringOf(first));
  await store.put("a/1.bin", Buffer.from("one"));
  await store.put("a/2.bin", Buffer.from("two"));
  expect((await store.get("a/1.bin")).toString()).toBe("one");
  expect((await store.get("a/old.bin")).toString()).toBe("from before");
  expect((await readFile(join(folder, "sealed", "a", "1.bin"))).includes("one")).toBe(false);
  await copyFile(join(folder, "sealed", "a", "2.bin"), join(folder, "sealed", "a", "1.bin"));
  await expect(store.get("a/1.bin")).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  // Another cluster reads it with the key of this one beside its own.
  expect((await (await open(ringOf(second, first))).get("a/2.bin")).toString()).toBe("two");
  for (const keys of [undefined, ringOf(second)]) {
    await expect((await open(keys)).get("a/2.bin")).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  }
});

test("a file that Kith cannot have written is not read into memory", async () => {
  const store = await locations.open("file:large");
  await store.put("a.bin", Buffer.from("x"));
  await truncate(join(folder, "files", "large", "a.bin"), 2 ** 40);
  await expect(store.get("a.bin")).rejects.toMatchObject({ code: "CORRUPT_DATA" });
});

/** An object store that says and sends what it likes. */
async function withServer(handler: Parameters<typeof createServer>[1], use: (store: FileStore) => Promise<void>) {
  const odd: Server = createServer(handler);
  await new Promise<void>((done) => odd.listen(0, "127.0.0.1", done));
  const endpoint = `http://127.0.0.1:${(odd.address() as AddressInfo).port}`;
  const s3 = { bucket: "b", prefix: "", region: "us-east-1", pathStyle: true, accessKeyId: "a", secretAccessKey: "s" };
  try {
    await use(await new BackupLocations({ s3: { ...s3, endpoint } }, systemRandom).open("s3:x"));
  } finally {
    odd.closeAllConnections();
    odd.close();
  }
}

test("an object that says a length that Kith cannot have written is left", async () => {
  const chunk = Buffer.alloc(64 * 1024);
  let sentBytes = 0;
  await withServer(
    (_, response) => {
      response.setHeader("content-length", String(2 ** 40));
      const more = (): void => {
        while (!response.closed) {
          sentBytes += chunk.length;
          if (!response.write(chunk)) return void response.once("drain", more);
        }
      };
      more();
    },
    async (store) => {
      await expect(store.get("a")).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    },
  );
  expect(sentBytes).toBeLessThan(64 * 1024 * 1024);
});

test.each([301, 302, 303, 307, 308])("an object store that leads elsewhere by %i is not followed", async (status) => {
  let asked = 0;
  const elsewhere = createServer((_, response) => {
    asked++;
    response.end("secret");
  });
  await new Promise<void>((done) => elsewhere.listen(0, "127.0.0.1", done));
  const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/b/a`;
  await withServer(
    (_, response) => response.writeHead(status, { location, "x-amz-bucket-region": "elsewhere" }).end(),
    async (store) => {
      await expect(store.get("a")).rejects.toMatchObject({ code: "SERVER_UNREACHABLE" });
      await expect(store.put("a", Buffer.from("x"))).rejects.toMatchObject({ code: "SERVER_UNREACHABLE" });
      await expect(keysOf(store, "a/")).rejects.toMatchObject({ code: "SERVER_UNREACHABLE" });
    },
  );
  expect(asked).toBe(0);
  elsewhere.close();
});
