import { execFile } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { repositoryRoot } from "../lib/paths.js";
import { programOf } from "../lib/server.js";

/** What a server is started with, and what its callers show. */
export interface Credentials {
  adminKey: string;
  /** Settings under which callers may, but need not, say who they are. */
  env: Record<string, string>;
  /** Options by which a server has TLS, and the authority of its certificate. */
  tlsArgs: string[];
  ca: Buffer;
  /** A JSON Web Token of a reader, signed by HS256. */
  token: string;
}

const tokenSeconds = 3_600;

/** Secrets and certificates in a folder of their own. */
export async function makeCredentials(folder: string): Promise<Credentials> {
  const secret = randomBytes(32).toString("base64url");
  const secretFile = join(folder, "tokens.secret");
  await writeFile(secretFile, secret, { mode: 0o600 });
  await promisify(execFile)(process.execPath, [programOf(repositoryRoot), "certs", "node", "--folder", folder]);
  const adminKey = randomBytes(32).toString("base64url");
  return {
    adminKey,
    env: {
      KITH_AUTH_REQUIRED: "false",
      KITH_AUTH_ADMIN_KEY: adminKey,
      KITH_AUTH_TOKENS_SECRET_FILE: secretFile,
    },
    tlsArgs: ["--tls-cert", join(folder, "node.crt"), "--tls-key", join(folder, "node.key")],
    ca: await readFile(join(folder, "ca.crt")),
    token: tokenOf({ sub: "bench", roles: ["reader"], exp: Math.floor(Date.now() / 1000) + tokenSeconds }, secret),
  };
}

function tokenOf(claims: object, secret: string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}
