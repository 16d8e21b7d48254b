import { createHash, generateKeyPairSync, type KeyObject, sign, X509Certificate } from "node:crypto";
import { isIP, isIPv4 } from "node:net";
import type { Random } from "../../../libs/base/index.js";

/*
 * X.509 certificates (RFC 5280) with keys of the curve P-256, as much of them as a cluster needs. Node reads certificates and makes none; each
 * value below is one of DER: a tag, a length, a content.
 */

/** PEM. */
export interface MadeCertificate {
  certificate: string;
  key: string;
}

export interface CertificateRequest {
  commonName: string;
  /** Names and addresses of hosts that it is for. */
  hosts: readonly string[];
  days: number;
  nowMs: number;
  random: Random;
}

const tags = { boolean: 1, integer: 2, bits: 3, octets: 4, oid: 6, utf8: 12, time: 24, sequence: 48, set: 49 } as const;

const oids = {
  commonName: [2, 5, 4, 3],
  ecdsaWithSha256: [1, 2, 840, 10045, 4, 3, 2],
  subjectKey: [2, 5, 29, 14],
  keyUsage: [2, 5, 29, 15],
  alternativeNames: [2, 5, 29, 17],
  basicConstraints: [2, 5, 29, 19],
  authorityKey: [2, 5, 29, 35],
  extendedKeyUsage: [2, 5, 29, 37],
  serverAuth: [1, 3, 6, 1, 5, 5, 7, 3, 1],
  clientAuth: [1, 3, 6, 1, 5, 5, 7, 3, 2],
} as const;

/** An authority, which signs certificates and is trusted by who has its own. */
export function makeAuthority(request: Omit<CertificateRequest, "hosts">): MadeCertificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const extensions = [
    extension(oids.basicConstraints, true, sequence(value(tags.boolean, Buffer.of(255)), integer(Buffer.of(0)))),
    // keyCertSign and cRLSign.
    extension(oids.keyUsage, true, value(tags.bits, Buffer.of(1, 0b0000_0110))),
    extension(oids.subjectKey, false, value(tags.octets, keyId(publicKey))),
  ];
  const name = nameOf(request.commonName);
  return made({ ...request, issuer: name, subject: name, publicKey, privateKey, extensions, signer: privateKey });
}

/** A certificate for servers and clients alike, signed by the authority. */
export function makeCertificate(
  request: CertificateRequest,
  authority: { certificate: string; key: KeyObject },
): MadeCertificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issued = new X509Certificate(authority.certificate);
  const hosts = request.hosts.map((host) =>
    isIP(host) === 0 ? value(0x82, Buffer.from(host, "latin1")) : value(0x87, addressBytes(host)),
  );
  const extensions = [
    extension(oids.basicConstraints, true, sequence()),
    // digitalSignature.
    extension(oids.keyUsage, true, value(tags.bits, Buffer.of(7, 0b1000_0000))),
    extension(oids.extendedKeyUsage, false, sequence(oid(oids.serverAuth), oid(oids.clientAuth))),
    extension(oids.subjectKey, false, value(tags.octets, keyId(publicKey))),
    extension(oids.authorityKey, false, sequence(value(0x80, keyId(issued.publicKey)))),
    ...(hosts.length > 0 ? [extension(oids.alternativeNames, false, sequence(...hosts))] : []),
  ];
  const issuer = nameOf(/^CN=(.*)$/m.exec(issued.subject)?.[1] ?? "");
  const subject = nameOf(request.commonName);
  return made({ ...request, issuer, subject, publicKey, privateKey, extensions, signer: authority.key });
}

interface Parts extends Omit<CertificateRequest, "hosts"> {
  issuer: Buffer;
  subject: Buffer;
  publicKey: KeyObject;
  privateKey: KeyObject;
  extensions: readonly Buffer[];
  signer: KeyObject;
}

/** Clocks of other machines may be behind. */
const backdatedMs = 3_600_000;
const dayMs = 24 * 3_600_000;

function made({
  issuer,
  subject,
  publicKey,
  privateKey,
  extensions,
  signer,
  days,
  nowMs,
  random,
}: Parts): MadeCertificate {
  const algorithm = sequence(oid(oids.ecdsaWithSha256));
  const serial = random.bytes(16);
  // Positive, and never shorter.
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const content = sequence(
    // Version 3.
    value(0xa0, integer(Buffer.of(2))),
    integer(serial),
    algorithm,
    issuer,
    sequence(time(nowMs - backdatedMs), time(nowMs + days * dayMs)),
    subject,
    publicKey.export({ type: "spki", format: "der" }),
    value(0xa3, sequence(...extensions)),
  );
  const signature = Buffer.concat([Buffer.of(0), sign("sha256", content, signer)]);
  const der = sequence(content, algorithm, value(tags.bits, signature));
  const lines = der.toString("base64").replaceAll(/.{64}/g, "$&\n").trimEnd();
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

function value(tag: number, content: Buffer): Buffer {
  const { length } = content;
  if (length < 128) return Buffer.concat([Buffer.of(tag, length), content]);
  const size = length < 256 ? Buffer.of(0x81, length) : Buffer.of(0x82, length >> 8, length & 255);
  return Buffer.concat([Buffer.of(tag), size, content]);
}

function sequence(...parts: Buffer[]): Buffer {
  return value(tags.sequence, Buffer.concat(parts));
}

function integer(bytes: Buffer): Buffer {
  return value(tags.integer, bytes);
}

function oid([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  const bytes = [first * 40 + second];
  for (const each of rest) {
    const groups = [each & 127];
    for (let left = each >>> 7; left > 0; left >>>= 7) groups.unshift((left & 127) | 128);
    bytes.push(...groups);
  }
  return value(tags.oid, Buffer.from(bytes));
}

function nameOf(commonName: string): Buffer {
  const attribute = sequence(oid(oids.commonName), value(tags.utf8, Buffer.from(commonName)));
  return sequence(value(tags.set, attribute));
}

/** GeneralizedTime where the year needs it, else UTCTime, as RFC 5280 wants it. */
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, "");
  return digits < "2050" ? value(23, Buffer.from(digits.slice(2))) : value(tags.time, Buffer.from(digits));
}

function extension(id: readonly number[], isCritical: boolean, content: Buffer): Buffer {
  const critical = isCritical ? [value(tags.boolean, Buffer.of(255))] : [];
  return sequence(oid(id), ...critical, value(tags.octets, content));
}

function keyId(key: KeyObject): Buffer {
  return createHash("sha1")
    .update(key.export({ type: "spki", format: "der" }))
    .digest();
}

function addressBytes(host: string): Buffer {
  if (isIPv4(host)) return Buffer.from(host.split(".").map(Number));
  const [head = "", tail] = new URL(`http://[${host}]`).hostname.slice(1, -1).split("::");
  const groups = (text: string): number[] =>
    text === "" ? [] : text.split(":").map((each) => Number.parseInt(each, 16));
  const [first, last] = [groups(head), groups(tail ?? "")];
  const all = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return Buffer.from(all.flatMap((each) => [each >> 8, each & 255]));
}
