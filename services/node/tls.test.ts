import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { eventually, makeAuthority, makeCertificate, ManualClock } from "../../libs/base/testing.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { createRpcServer } from "../../libs/rpc/server/index.js";
import { createLogger } from "../../libs/telemetry/index.js";
import { Reloader } from "./reload.js";
import { NodeTls } from "./tls.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-tls-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** What a client of HTTP/2 begins with: the preface, and a frame of no settings. */
const opening = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
]);

/** The name on the certificate that the server shows; "refused" where it does not take the client's. */
function shownBy(port: number, ca: Buffer, own?: { certificate: Buffer; key: Buffer }): Promise<string> {
  return new Promise((resolve) => {
    const options = {
      port,
      host: "127.0.0.1",
      ca,
      ALPNProtocols: ["h2"],
      ...(own && { cert: own.certificate, key: own.key }),
    };
    const socket: TLSSocket = connect(options);
    // With TLS 1.3 a refusal comes after the handshake: whom the server has let in, it answers.
    socket.write(opening);
    socket.on("data", () => {
      resolve(String(socket.getPeerCertificate().subject.CN));
      socket.destroy();
    });
    for (const event of ["error", "close"]) socket.on(event, () => resolve("refused"));
  });
}

test("certificates are taken from files that have changed, as a whole or not at all", async () => {
  const authority = makeAuthority(folder, "ca");
  const nodes = makeAuthority(folder, "nodes");
  const [first, second] = [makeCertificate(folder, "first", authority), makeCertificate(folder, "second", authority)];
  const [client, node] = [makeCertificate(folder, "client", authority), makeCertificate(folder, "node", nodes)];
  const files = {
    certificate: join(folder, "own.crt"),
    key: join(folder, "own.key"),
    clientCa: authority.certificatePath,
  };
  await cp(first.certificatePath, files.certificate);
  await cp(first.keyPath, files.key);
  const logged: string[] = [];
  const logger = createLogger({ level: "info", nodeId: "n", write: (line) => logged.push(line) });
  const config = loadNodeConfig({
    flags: {
      ...{ nodeId: "n", roles: ["router"], log: { kind: "jetstream", url: "nats://127.0.0.1" } },
      tls: { ...files, ca: authority.certificatePath, linkCa: nodes.certificatePath },
    },
  });
  const tls = await NodeTls.read(config.tls, logger);
  if (tls === undefined) throw new Error("there are settings of TLS");
  const clock = new ManualClock();
  const [server, link] = [tls.server, tls.linkServer].map((each) =>
    createRpcServer({ node: "n", ...systemRuntime, tls: each }),
  );
  if (server === undefined || link === undefined) throw new Error("there are two servers");
  const [port, linkPort] = [await server.listen("127.0.0.1", 0), await link.listen("127.0.0.1", 0)];
  tls.addServer(server);
  tls.addServer(link, true);
  const end = new Reloader({ config, readConfig: undefined, parts: [tls], clock, logger }).follow();
  const ca = authority.certificate;
  expect(await shownBy(port, ca, client)).toBe("first");
  expect(await shownBy(port, ca)).toBe("refused");
  // The link is for those that the authority of nodes has signed.
  expect([await shownBy(linkPort, ca, node), await shownBy(linkPort, ca, client)]).toEqual(["first", "refused"]);
  // The key is not there yet.
  await cp(second.certificatePath, files.certificate);
  await clock.advance(10_000);
  await eventually(() => logged.some((line) => line.includes("are not taken")));
  expect(await shownBy(port, ca, client)).toBe("first");
  await cp(second.keyPath, files.key);
  await clock.advance(10_000);
  await eventually(() =>
    logged.some((line) => line.includes("new certificates of tls.*") && line.includes("CN=second")),
  );
  expect([await shownBy(port, ca, client), await shownBy(linkPort, ca, node)]).toEqual(["second", "second"]);
  expect(tls.link.cert?.equals(await readFile(second.certificatePath))).toBe(true);
  await writeFile(files.certificate, "no certificate");
  await clock.advance(10_000);
  await eventually(() => logged.filter((line) => line.includes("are not taken")).length === 2);
  expect(await shownBy(port, ca)).toBe("refused");
  expect(await shownBy(port, ca, client)).toBe("second");
  await end();
  await Promise.all([server.drain(100), link.drain(100)]);
});
