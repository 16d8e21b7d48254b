import { createServer as createHttp, type Server as HttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import { minimumVersion } from "../../../libs/nats-server/index.js";
import { testIo } from "../testing/io.js";
import { checkNatsBinary, checkNatsSync, checkNatsUrl } from "./nats.js";

const servers: (Server | HttpServer)[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

function listening(server: Server | HttpServer): Promise<string> {
  servers.push(server);
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`127.0.0.1:${(server.address() as AddressInfo).port}`));
  });
}

/** What greets every client with these texts, one by one, and then closes where it is told to. */
function greeter(texts: string[], closes = false): Promise<string> {
  return listening(
    createServer((socket) => {
      socket.on("error", () => undefined);
      const next = (): void => {
        const text = texts.shift();
        if (text === undefined) {
          if (closes) socket.end();
          return;
        }
        socket.write(text);
        setTimeout(next, 5);
      };
      next();
    }),
  );
}

const info = (values: object): string => `INFO ${JSON.stringify({ server_id: "x", ...values })}\r\n`;

test("a server is known by its greeting, however it is cut", async () => {
  const good = await greeter(["IN", "FO ", info({ version: minimumVersion, jetstream: true }).slice(5)]);
  const old = await greeter([info({ version: "2.1.0", jetstream: true })]);
  const bare = await greeter([info({ version: minimumVersion })]);
  expect(await checkNatsUrl(`${good}, nats://${old},nats://${bare}`)).toEqual([
    { check: "NATS", verdict: "ok", found: `${good} runs version ${minimumVersion}` },
    {
      check: "NATS",
      verdict: "fail",
      found: `nats://${old} runs version 2.1.0`,
      remedy: expect.stringContaining(`older than ${minimumVersion}`) as string,
    },
    {
      check: "NATS",
      verdict: "fail",
      found: `nats://${bare} has no JetStream`,
      remedy: expect.stringContaining("store_dir") as string,
    },
  ]);
});

test("what is no NATS server is told from one that is not there", async () => {
  const other = await greeter(["SSH-2.0-OpenSSH_9.2\r\n"]);
  const silent = await greeter([], true);
  const unnamed = await greeter([info({})]);
  const findings = await checkNatsUrl(`${other},${silent},nats://127.0.0.1:1,${unnamed}`);
  expect(findings.map(({ verdict, found }) => [verdict, found])).toEqual([
    ["fail", `${other}: what answers is not a NATS server`],
    ["fail", `${silent}: it closed the connection without a greeting`],
    ["fail", expect.stringMatching(/^nats:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/)],
    ["fail", `${unnamed} runs version unknown`],
  ]);
});

test("how a server syncs is read from its monitoring port", async () => {
  let config: object = {};
  const asked: (string | undefined)[] = [];
  const monitor = await listening(
    createHttp((request, response) => {
      asked.push(request.url);
      response.end(JSON.stringify({ config }));
    }),
  );
  const check = async (): Promise<[string, string]> => {
    const { verdict, found } = await checkNatsSync(`http://${monitor}`);
    return [verdict, found];
  };
  config = { sync_always: true, sync_interval: 120e9 };
  expect(await check()).toEqual(["ok", "sync_interval: always"]);
  config = { sync_interval: 120e9 };
  expect(await check()).toEqual(["fail", "sync_interval: 120 s"]);
  config = {};
  expect(await check()).toEqual(["fail", expect.stringContaining("has no JetStream")]);
  expect(asked).toEqual(Array(3).fill("/jsz?config=true"));
  expect(await checkNatsSync(undefined)).toMatchObject({ verdict: "warn", found: "not visible to clients" });
  expect(await checkNatsSync("nowhere")).toMatchObject({ verdict: "fail", remedy: "Correct --nats-monitor." });
});

test("a nats-server that is not installed is no fault", async () => {
  const io = testIo({ env: { PATH: "/nowhere", KITH_CACHE: "/nowhere" } });
  expect(await checkNatsBinary(io)).toMatchObject({
    check: "nats-server",
    verdict: "warn",
    remedy: expect.stringContaining("kith dev needs none") as string,
  });
});
