import { readFileSync } from "node:fs";
import { KithError } from "../base/index.js";
import type { ChannelTls } from "../rpc/client/index.js";

/** PEM, as it is or by the name of its file. Files are read again for each connection, so that certificates may be replaced while the client runs. */
export interface TlsOptions {
  /** The authorities to trust. Default: those of the system. */
  ca?: Uint8Array;
  caFile?: string;
  /** The client's certificate chain and key, where the server wants one. */
  cert?: Uint8Array;
  certFile?: string;
  key?: Uint8Array;
  keyFile?: string;
  /** The name on the server's certificate where it is not the one in the address. */
  serverName?: string;
}

const parts = ["ca", "cert", "key"] as const;

/** What a connection that is made now shows and trusts. INVALID_ARGUMENT where a file cannot be read, or something is given twice. */
export function readTls(options: TlsOptions): ChannelTls {
  const read: ChannelTls = {};
  for (const part of parts) {
    const contents = contentsOf(options, part);
    if (contents !== undefined) read[part] = contents;
  }
  if (options.serverName !== undefined) read.serverName = options.serverName;
  return read;
}

export function hasFiles(options: TlsOptions): boolean {
  return parts.some((part) => options[`${part}File`] !== undefined);
}

function contentsOf(options: TlsOptions, part: (typeof parts)[number]): Buffer | undefined {
  const { [part]: given, [`${part}File` as const]: file } = options;
  if (file === undefined) return given && Buffer.from(given);
  const field = `tls.${part}File`;
  if (given !== undefined) {
    throw new KithError("INVALID_ARGUMENT", `options.${field} and options.tls.${part} are both given; leave one out`, {
      details: { field },
    });
  }
  try {
    return readFileSync(file);
  } catch (cause) {
    const message = `options.${field} ${file} cannot be read: ${(cause as Error).message}`;
    throw new KithError("INVALID_ARGUMENT", message, { details: { field }, cause });
  }
}

/** Where what was read is of no use. */
export function noTls(cause: Error): KithError {
  const message = `options.tls has something that is no PEM, or a key of another certificate: ${cause.message}`;
  return new KithError("INVALID_ARGUMENT", message, { details: { field: "tls" }, cause });
}
