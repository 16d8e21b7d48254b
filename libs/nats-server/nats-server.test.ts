import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KithError } from "../base/index.js";
import { resolveNatsServer, startNatsServer } from "./index.js";
import { downloadFor, isAtLeast, pinnedVersion } from "./releases.js";
import { testNatsBinary } from "./testing.js";

let directory: string;
let cacheDirectory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-resolver-"));
  cacheDirectory = join(directory, "cache");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A program that answers like a nats-server of some version, and counts nothing else. */
function fakeServer(version: string): string {
  return `#!/bin/sh\necho "nats-server: v${version}"\n`;
}

async function place(folder: string, name: string, content: string): Promise<string> {
  await mkdir(join(directory, folder), { recursive: true });
  const path = join(directory, folder, name);
  await writeFile(path, content);
  await chmod(path, 0o755);
  return path;
}

function tarOf(path: string, content: string): Buffer {
  const header = Buffer.alloc(512);
  header.write(path, 0);
  header.write(content.length.toString(8).padStart(11, "0"), 124);
  header.write("0", 156);
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  body.write(content);
  return Buffer.concat([header, body, Buffer.alloc(1_024)]);
}

async function serve(content: Buffer): Promise<{ url: string; requests: () => number; server: Server }> {
  let requests = 0;
  const server = createServer((_, response) => {
    requests++;
    response.end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/nats-server.tar.gz`, requests: () => requests, server };
}

describe("the resolver", () => {
  it("takes a given URL as it is", async () => {
    const server = await resolveNatsServer({ url: "nats://example:4222", cacheDirectory });
    expect(server).toEqual({ kind: "external", url: "nats://example:4222" });
  });

  it("prefers the search path, then the cache", async () => {
    const onPath = await place("bin", "nats-server", fakeServer("2.12.3"));
    const cached = await place("cache", `nats-server-${pinnedVersion}`, fakeServer(pinnedVersion));
    const searchPath = `${join(directory, "none")}:${join(directory, "bin")}`;
    expect(await resolveNatsServer({ searchPath, cacheDirectory })).toEqual({
      kind: "binary",
      path: onPath,
      version: "2.12.3",
      source: "path",
    });
    expect(await resolveNatsServer({ searchPath: "", cacheDirectory })).toMatchObject({
      path: cached,
      source: "cache",
    });
  });

  it("passes over a server that is too old or broken, and says why", async () => {
    await place("bin", "nats-server", fakeServer("2.9.10"));
    await place("cache", `nats-server-${pinnedVersion}`, "#!/bin/sh\nexit 3\n");
    const lines: string[] = [];
    const options = { searchPath: join(directory, "bin"), cacheDirectory, download: "none" as const };
    const failure = await resolveNatsServer({ ...options, log: (line) => lines.push(line) }).catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(KithError);
    expect(failure).toMatchObject({ code: "FAILED_PRECONDITION" });
    const { message } = failure as KithError;
    expect(message).toContain("is version 2.9.10, older than 2.12.0");
    expect(message).toContain("no go on the PATH");
    expect(message).toContain("kith dev");
    // Said once: here by the error, and where one is found in the end by the log.
    expect(lines).toEqual([]);
    await place("cache", `nats-server-${pinnedVersion}`, fakeServer(pinnedVersion));
    await resolveNatsServer({ ...options, log: (line) => lines.push(line) });
    expect(lines).toEqual([expect.stringContaining("is version 2.9.10, older than 2.12.0")]);
  });

  it("downloads once for many callers, and only what has the pinned checksum", async () => {
    const archive = gzipSync(tarOf("nats-server-v2.14.5-linux-amd64/nats-server", fakeServer("2.14.5")));
    const { url, requests, server } = await serve(archive);
    try {
      const sha256 = createHash("sha256").update(archive).digest("hex");
      const wrong = { version: "2.14.5", url, sha256: sha256.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) };
      const failure = resolveNatsServer({ cacheDirectory, download: wrong });
      await expect(failure).rejects.toThrow(/not the pinned/);
      const download = { version: "2.14.5", url, sha256 };
      const results = await Promise.all(
        Array.from({ length: 4 }, () => resolveNatsServer({ cacheDirectory, download })),
      );
      expect(results.filter((result) => result.kind === "binary" && result.source === "download")).toHaveLength(1);
      expect(results.filter((result) => result.kind === "binary" && result.source === "cache")).toHaveLength(3);
      expect(requests()).toBe(2);
      expect(await readdir(cacheDirectory)).toEqual(["nats-server-2.14.5"]);
    } finally {
      server.close();
    }
  });

  it("takes over the lock of a process that ended while it fetched", async () => {
    const ended = spawnSync(process.execPath, ["--version"]).pid;
    await place("cache", "nats-server.lock", `${ended}\n`);
    const failure = resolveNatsServer({ cacheDirectory, download: "none" });
    await expect(failure).rejects.toThrow(/no go on the PATH/);
    expect(await readdir(cacheDirectory)).toEqual([]);
  });

  it("builds with Go where it is present", async () => {
    const go = `#!/bin/sh
[ "$1 $2" = "install github.com/nats-io/nats-server/v2@v${pinnedVersion}" ] && [ "$GOFLAGS" = "-mod=mod" ] || exit 9
printf '%s' '${fakeServer(pinnedVersion)}' > "$GOBIN/nats-server" && chmod +x "$GOBIN/nats-server"
`;
    await place("bin", "go", go);
    const options = { searchPath: join(directory, "bin"), cacheDirectory, download: "none" as const };
    expect(await resolveNatsServer(options)).toMatchObject({ version: pinnedVersion, source: "go" });
    expect(await resolveNatsServer(options)).toMatchObject({ version: pinnedVersion, source: "cache" });
  });

  it("compares versions by number and knows checksums only for some platforms", () => {
    expect(isAtLeast("2.12.0", "2.12.0")).toBe(true);
    expect(isAtLeast("2.9.25", "2.12.0")).toBe(false);
    expect(isAtLeast("v2.14.0", "2.12.0")).toBe(true);
    expect(isAtLeast("2.12.0-RC.1", "2.12.0")).toBe(false);
    expect(isAtLeast("unknown", "2.12.0")).toBe(false);
    expect(downloadFor("linux-amd64")?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(downloadFor("plan9-amd64")).toBeUndefined();
  });
});

describe("a started server", () => {
  it("serves, is killed, and starts again on the same port and store", async () => {
    const binary = testNatsBinary();
    const dataDirectory = join(directory, "data");
    const lines: string[] = [];
    const first = await startNatsServer({ binary, dataDirectory, maxStoreBytes: 64 << 20, log: (l) => lines.push(l) });
    expect(first.url).toBe(`nats://127.0.0.1:${first.port}`);
    expect(lines.join("\n")).toContain("64.00 MB");
    const rival = startNatsServer({ binary, dataDirectory: join(directory, "rival"), port: first.port });
    await expect(rival).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await first.kill();
    expect(await first.exited).toEqual({ code: null, signal: "SIGKILL" });
    const second = await startNatsServer({ binary, dataDirectory, port: first.port });
    expect(second.port).toBe(first.port);
    await second.stop();
    await second.stop();
    expect((await second.exited).signal).toBeNull();
  });

  it("says what is wrong when the program cannot be started", async () => {
    const failure = startNatsServer({ binary: join(directory, "none"), dataDirectory: join(directory, "data") });
    await expect(failure).rejects.toThrow(/does not start/);
  });
});
