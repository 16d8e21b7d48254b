/** `npm run audit:packages`, by a registry of its own: it fails at a known fault, and only warns where nobody can be asked. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
  packages: Record<string, { version?: string } | undefined>;
};

interface Asked {
  path: string;
  body: string;
}

/** A registry that answers what npm asks of audits; `advisories`: undefined where it does not know of such. */
async function registry(advisories: object | undefined): Promise<{ server: Server; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = decodeURIComponent(request.url ?? "").slice(1);
      const body = Buffer.concat(chunks);
      const text = request.headers["content-encoding"] === "gzip" ? gunzipSync(body).toString() : body.toString();
      asked.push({ path, body: text });
      const send = (status: number, answer: object): void => {
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify(answer));
      };
      if (path.startsWith("-/npm/v1/security")) {
        if (advisories === undefined || !path.endsWith("advisories/bulk")) return send(405, { error: "not allowed" });
        return send(200, advisories);
      }
      const version = lock.packages[`node_modules/${path}`]?.version ?? "0.0.0";
      return send(200, {
        name: path,
        "dist-tags": { latest: version },
        versions: { [version]: { name: path, version } },
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, asked };
}

async function audit(
  advisories: object | undefined,
  ...args: string[]
): Promise<{ code: unknown; text: string; asked: Asked[] }> {
  const { server, asked } = await registry(advisories);
  const cache = mkdtempSync(join(tmpdir(), "kith-audit-"));
  try {
    const env = {
      ...process.env,
      npm_config_registry: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
      ...{ npm_config_cache: cache, npm_config_fetch_retries: "0", npm_config_update_notifier: "false" },
    };
    const child = spawn(process.execPath, [join(root, "test/tools/packages.mjs"), ...args], { cwd: root, env });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
    const [code] = (await once(child, "close")) as [unknown];
    return { code, text, asked };
  } finally {
    server.closeAllConnections();
    server.close();
    rmSync(cache, { recursive: true, force: true });
  }
}

const fault = (severity: string): object => ({
  jose: [
    {
      ...{ id: 1, url: "https://example.org/1", title: "a fault", severity },
      ...{ vulnerable_versions: "*", cwe: [], cvss: { score: 9 } },
    },
  ],
});

test("a known fault that is high fails, one that is low and none do not", { timeout: 60_000 }, async () => {
  const [high, low, none] = await Promise.all([audit(fault("high")), audit(fault("low")), audit({})]);
  expect(high.text).toMatch(/1 high[^]*known faults in jose/);
  expect(high.code).toBe(1);
  // What was asked is what the lock file has.
  const [bulk] = high.asked.filter(({ path }) => path.endsWith("advisories/bulk"));
  expect(JSON.parse(bulk?.body ?? "{}")).toMatchObject({ jose: [lock.packages["node_modules/jose"]?.version] });
  expect([low.code, /1 low/.test(low.text)]).toEqual([0, true]);
  expect([none.code, /0 critical, 0 high/.test(none.text)]).toEqual([0, true]);
});

test("a registry that cannot be asked is told, and fails where it is required", { timeout: 60_000 }, async () => {
  const [usual, required] = await Promise.all([audit(undefined), audit(undefined, "--required")]);
  expect(usual.text).toMatch(/known faults: not asked/);
  expect([usual.code, required.code]).toEqual([0, 1]);
});
