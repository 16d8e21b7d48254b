import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Certificate {
  certificatePath: string;
  keyPath: string;
  certificate: Buffer;
  key: Buffer;
}

function openssl(directory: string, ...args: string[]): void {
  execFileSync("openssl", args, { cwd: directory, stdio: ["ignore", "ignore", "pipe"] });
}

function read(directory: string, name: string): Certificate {
  const certificatePath = join(directory, `${name}.crt`);
  const keyPath = join(directory, `${name}.key`);
  return { certificatePath, keyPath, certificate: readFileSync(certificatePath), key: readFileSync(keyPath) };
}

/** An authority of its own. */
export function makeAuthority(directory: string, name: string): Certificate {
  const subject = ["-subj", `/CN=${name}`, "-days", "2"];
  openssl(
    directory,
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", ...subject],
    ...["-keyout", `${name}.key`, "-out", `${name}.crt`],
  );
  return read(directory, name);
}

/** A certificate for this machine, for servers and clients alike, signed by the authority. */
export function makeCertificate(directory: string, name: string, authority: Certificate): Certificate {
  const extensions = join(directory, `${name}.ext`);
  writeFileSync(extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n");
  openssl(
    directory,
    ...["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", `/CN=${name}`],
    ...["-keyout", `${name}.key`, "-out", `${name}.csr`],
  );
  openssl(
    directory,
    ...["x509", "-req", "-in", `${name}.csr`, "-CA", authority.certificatePath, "-CAkey", authority.keyPath],
    ...["-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", `${name}.crt`],
  );
  return read(directory, name);
}
