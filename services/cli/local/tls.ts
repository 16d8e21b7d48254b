import { resolve } from "node:path";
import type { GlobalOptions } from "../context.js";
import { UsageError } from "../failure.js";

type TlsFlags = Partial<Pick<GlobalOptions, "tlsCertificate" | "tlsKey" | "tlsCa" | "tls">>;

/** Paths of files. */
export interface ServedTls {
  certificate: string | undefined;
  key: string | undefined;
  ca: string | undefined;
  clientCa: string | undefined;
}

/** The TLS settings of a node that this command runs: the flags by which other commands say what they show and trust. */
export function servedTls(globals: TlsFlags, clientCa: string | undefined, cwd: string): ServedTls {
  const path = (file: string | undefined): string | undefined => (file === undefined ? undefined : resolve(cwd, file));
  return {
    certificate: path(globals.tlsCertificate),
    key: path(globals.tlsKey),
    ca: path(globals.tlsCa),
    clientCa: path(clientCa),
  };
}

/** The same for a node that is started as a process of its own. */
export function tlsFlags({ certificate, key, ca, clientCa }: ServedTls): string[] {
  const flags = { "--tls-cert": certificate, "--tls-key": key, "--tls-ca": ca, "--client-ca": clientCa };
  return Object.entries(flags).flatMap(([flag, file]) => (file === undefined ? [] : [flag, file]));
}

/** For commands that serve without TLS: nobody must believe that it is on. */
export function refuseTls(globals: TlsFlags, command: string): void {
  const given = [globals.tlsCertificate, globals.tlsKey, globals.tlsCa].some((file) => file !== undefined);
  if (!given && globals.tls !== true) return;
  throw new UsageError(
    `${command} serves without TLS; leave the TLS options out, or run "kith start" or "kith dev" with them`,
  );
}
