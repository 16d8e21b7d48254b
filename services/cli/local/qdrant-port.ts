export const qdrantHelp = "answer Qdrant's clients too, at this port (default: 6333)";

/** Qdrant's port of its REST API. */
const defaultPort = 6333;

/** Qdrant's API of a local server, where it is asked for. */
export function qdrantSettings(flags: { host: string; qdrant?: boolean | number }): {
  host: string;
  httpPort?: number;
} {
  const { host, qdrant } = flags;
  if (qdrant === undefined || qdrant === false) return { host };
  return { host, httpPort: qdrant === true ? defaultPort : qdrant };
}

/** Where Qdrant's API is, for people. */
export function qdrantLine(address: string, tls: boolean): string {
  return `Qdrant's API at ${tls ? "https" : "http"}://${address}`;
}
