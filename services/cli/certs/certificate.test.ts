import { createPrivateKey, X509Certificate } from "node:crypto";
import { connect, createServer, type TLSSocket } from "node:tls";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { systemRandom } from "../../../libs/base/index.js";
import { makeAuthority, makeCertificate } from "./certificate.js";

const common = { nowMs: Date.now(), random: systemRandom };
const hosts = ["localhost", "db.internal", "127.0.0.1", "::1", "2001:db8::7", "fe80:1:2:3:4:5:6:7"];

function given() {
  const authority = makeAuthority({ commonName: "Kith authority", days: 10_000, ...common });
  const signer = { certificate: authority.certificate, key: createPrivateKey(authority.key) };
  return { authority, signer, made: makeCertificate({ commonName: "node-1", hosts, days: 30, ...common }, signer) };
}

test("an authority signs certificates for hosts, and its own", () => {
  const { authority, made } = given();
  const [ca, certificate] = [new X509Certificate(authority.certificate), new X509Certificate(made.certificate)];
  expect([ca.ca, ca.verify(ca.publicKey), ca.checkIssued(ca)]).toEqual([true, true, true]);
  expect([certificate.ca, certificate.checkIssued(ca), certificate.verify(ca.publicKey)]).toEqual([false, true, true]);
  expect(certificate.subject).toBe("CN=node-1");
  expect(certificate.checkPrivateKey(createPrivateKey(made.key))).toBe(true);
  for (const host of hosts) {
    expect(
      (host.includes(":") || /^\d/.test(host) ? certificate.checkIP(host) : certificate.checkHost(host)) !== undefined,
    ).toBe(true);
  }
  expect(certificate.checkHost("other.internal")).toBeUndefined();
  // Behind 2050 times have another form.
  expect(new Date(ca.validTo).getTime()).toBe(Math.floor((common.nowMs + 10_000 * 86_400_000) / 1_000) * 1_000);
  expect(new Date(certificate.validFrom).getTime()).toBeLessThan(common.nowMs);
  expect(new X509Certificate(given().made.certificate).serialNumber).not.toBe(certificate.serialNumber);
});

test("both sides of a connection take them, and no others", async () => {
  const [own, foreign] = [given(), given()];
  const ca = own.authority.certificate;
  const server = createServer({ cert: own.made.certificate, key: own.made.key, ca, requestCert: true }, (socket) => {
    socket.end(String(socket.getPeerCertificate().subject.CN));
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const answer = (cert: string, key: string, trusted: string): Promise<string> =>
    new Promise((resolve) => {
      let text = "";
      const socket: TLSSocket = connect({ port, host: "localhost", cert, key, ca: trusted });
      socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
      for (const event of ["error", "close"]) socket.on(event, () => resolve(text === "" ? "refused" : text));
    });
  expect(await answer(own.made.certificate, own.made.key, ca)).toBe("node-1");
  expect(await answer(foreign.made.certificate, foreign.made.key, ca)).toBe("refused");
  expect(await answer(own.made.certificate, own.made.key, foreign.authority.certificate)).toBe("refused");
  server.close();
});
