import { UsageError } from "../failure.js";

export const httpPortHelp = "port of the REST API; 0 takes a free one, off: none (default: 80 above the port)";

/** Reads the value of --http-port. */
export function httpPort(text: string): number | "off" {
  if (text === "off") return "off";
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new UsageError(`--http-port ${text} is no port: give 0 to 65535, or off`);
}

/** The REST API of a local server: beside gRPC on the same address, unless told otherwise. A free port where that of gRPC is any free one. */
export function httpSettings(flags: { host: string; port: number; httpPort?: number | "off" }): {
  host: string;
  port?: number;
} {
  const { host, port, httpPort: wanted } = flags;
  if (wanted === "off") return { host };
  if (wanted !== undefined) return { host, port: wanted };
  return { host, port: port === 0 ? 0 : port + 80 <= 65_535 ? port + 80 : 0 };
}

/** Where the REST API is, for people. */
export function restLine(address: string, tls: boolean): string {
  return `REST API at ${tls ? "https" : "http"}://${address}, its reference at /docs`;
}
