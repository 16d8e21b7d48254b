import { createPrivateKey } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Command } from "commander";
import { KithError, systemRuntime } from "../../../libs/base/index.js";
import { makeAuthority, makeCertificate } from "../certs/certificate.js";
import { contextOf } from "../context.js";
import type { Io } from "../io.js";
import { whole } from "../values.js";

interface CertsFlags {
  hosts: string;
  days: number;
  folder: string;
}

const authorityDays = 3_650;

export function certsCommand(io: Io): Command {
  return new Command("certs")
    .description("make an authority, and certificates for nodes and clients of a cluster of one's own")
    .argument("[names...]", "whom they are for: a file and a common name each", ["node"])
    .option("--hosts <hosts>", "names and addresses that servers have, with commas", "localhost,127.0.0.1,::1")
    .option("--days <days>", "how long they are good", whole(1, 3_650), 365)
    .option("--folder <folder>", "where they are; an authority that is there signs them", "./.kith/certs")
    .addHelpText(
      "after",
      `
The folder gets ca.crt and ca.key, which stay where they are, and for each name <name>.crt and <name>.key, in the place of those
of before. Nodes take new files without a restart. Keep ca.key away from servers: whoever has it can make certificates.

Examples:
  kith certs
  kith dev --tls-cert .kith/certs/node.crt --tls-key .kith/certs/node.key --client-ca .kith/certs/ca.crt
  kith certs node ingest --hosts db.internal,10.0.0.7 --days 90`,
    )
    .action(async (names: string[], flags: CertsFlags, self: Command) => {
      const { out } = contextOf(io, self);
      const { clock, random } = systemRuntime;
      const folder = resolve(io.cwd, flags.folder);
      for (const name of names) checkName(name);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const common = { nowMs: clock.nowMs(), random };
      const write = async (name: string, made: { certificate: string; key: string }): Promise<void> => {
        await writeFile(join(folder, `${name}.key`), made.key, { mode: 0o600 });
        await writeFile(join(folder, `${name}.crt`), made.certificate);
      };
      let authority = await readAuthority(folder);
      if (authority === undefined) {
        authority = makeAuthority({ commonName: "Kith authority", days: authorityDays, ...common });
        await write("ca", authority);
      }
      const signer = { certificate: authority.certificate, key: createPrivateKey(authority.key) };
      const hosts = flags.hosts.split(",").map((host) => host.trim());
      for (const name of names) {
        await write(name, makeCertificate({ commonName: name, hosts, days: flags.days, ...common }, signer));
      }
      if (out.json) return out.document({ folder, authority: "ca", certificates: names });
      await out.line(
        `${folder} has ca.crt, and certificates with keys for ${names.join(", ")}, good for ${flags.days} days`,
      );
    });
}

function checkName(name: string): void {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) && name !== "ca") return;
  throw new KithError(
    "INVALID_NAME",
    `${JSON.stringify(name)} is no name for a certificate; use letters, digits, ".", "_" and "-", and not "ca"`,
  );
}

/** Undefined where there is none; with one file of the two something is wrong. */
async function readAuthority(folder: string): Promise<{ certificate: string; key: string } | undefined> {
  const [certificate, key] = await Promise.all(
    ["ca.crt", "ca.key"].map((name) =>
      readFile(join(folder, name), "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return undefined;
        throw error;
      }),
    ),
  );
  if (certificate !== undefined && key !== undefined) return { certificate, key };
  if (certificate === undefined && key === undefined) return undefined;
  throw new KithError(
    "FAILED_PRECONDITION",
    `${folder} has ${key === undefined ? "ca.crt without ca.key" : "ca.key without ca.crt"}: put the other file there, or choose another folder`,
  );
}
