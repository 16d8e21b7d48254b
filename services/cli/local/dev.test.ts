import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

import { eventually, makeAuthority, makeCertificate } from "../../../libs/base/testing.js";
import { connect } from "../../../libs/client/index.js";
import { run } from "../run.js";
import { testIo } from "../testing/io.js";

let folder: string;
let adminKeyFile: string;
const adminKey = "an-administrator-of-tests-and-of-nothing-else";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kith-dev-"));
  adminKeyFile = join(folder, "admin.key");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A running `kith dev`, with its address. */
async function dev(...args: string[]): Promise<{ target: string; stop(): Promise<number> }> {
  const io = testIo({ cwd: folder, env: { KITH_AUTH_ADMIN_KEY_FILE: args.includes("0.0.0.0") ? adminKeyFile : "" } });
  const ended = run(["dev", "--port", "0", "-o", "json", ...args], io);
  const line = await eventually(() => {
    if (!io.out().includes("\n")) throw new Error(`not ready: ${io.err()}`);
    return io.out();
  });
  return {
    target: (JSON.parse(line) as { target: string }).target,
    stop: () => {
      io.controller.abort();
      return ended;
    },
  };
}

/** What a command says that does not start. */
async function refused(...args: string[]): Promise<{ code: number; err: string }> {
  const io = testIo({ cwd: folder });
  return { code: await run(args, io), err: io.err() };
}

test("with a certificate and a key it serves TLS, also beyond this machine", async () => {
  const authority = makeAuthority(folder, "authority");
  const own = makeCertificate(folder, "server", authority);
  const tls = ["--tls-cert", own.certificatePath, "--tls-key", own.keyPath];
  expect(await refused("dev", "--host", "0.0.0.0", "--port", "0", "--data", "tls", ...tls)).toEqual({
    code: 2,
    err: expect.stringMatching(/callers need not say who they are.*KITH_AUTH_ADMIN_KEY_FILE/) as string,
  });
  writeFileSync(adminKeyFile, adminKey);
  const server = await dev("--data", "tls", "--host", "0.0.0.0", ...tls);
  const target = server.target.replace("0.0.0.0", "127.0.0.1");
  const client = await connect(target, { tls: { ca: authority.certificate }, apiKey: adminKey });
  expect(await client.collections.list()).toEqual([]);
  client.close();
  await expect(connect(target, { connectTimeoutMs: 500 })).rejects.toThrow();
  expect(await server.stop()).toBe(0);

  expect(await refused("dev", "--tls-cert", own.certificatePath)).toEqual({
    code: 2,
    err: expect.stringMatching(/--tls-key/) as string,
  });
  writeFileSync(join(folder, "no.pem"), "nothing");
  for (const wrong of ["missing.pem", "no.pem"]) {
    const { code, err } = await refused("dev", "--port", "0", "--tls-cert", wrong, "--tls-key", own.keyPath);
    expect({ code, err }).toEqual({
      code: 2,
      err: expect.stringMatching(/^error: tls\.certificate .*\[INVALID_CONFIG\]\n$/) as string,
    });
  }
  expect(await refused("quickstart", ...tls)).toEqual({
    code: 2,
    err: expect.stringMatching(/serves without TLS/) as string,
  });
});

test("a data folder that cannot be written is refused at once, with what to do", async () => {
  writeFileSync(join(folder, "file"), "");
  for (const data of ["/proc/x", "/dev/null/x", join(folder, "file"), join(folder, "file", "below")]) {
    const { code, err } = await refused("dev", "--port", "0", "--data", data);
    expect(code).toBe(2);
    expect(err).toMatch(
      /^error: the data folder \S+ cannot be written \(E[A-Z]+\).*--data|KITH_DATA.*\[INVALID_CONFIG\]\n$/,
    );
    expect(await refused("up", "--data", data)).toEqual({ code: 2, err });
  }
});

test("a port in use is one line that says what to do", async () => {
  const server = await dev("--data", "first");
  const port = server.target.split(":")[1] as string;
  const { code, err } = await refused("dev", "--data", "second", "--port", port);
  await server.stop();
  expect({ code, err }).toEqual({
    code: 2,
    err: `error: 127.0.0.1:${port} is in use: choose another port, or end the process that listens there [INVALID_CONFIG]\n`,
  });
});
