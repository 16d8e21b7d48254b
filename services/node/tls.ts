import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { KithError } from "../../libs/base/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import type { ChannelTls } from "../../libs/rpc/client/index.js";
import type { ServerTls } from "../../libs/rpc/server/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { readSetting } from "./adapters.js";
import type { Reloadable } from "./reload.js";

type TlsSettings = NonNullable<NodeConfig["tls"]>;

interface Materials {
  server: ServerTls;
  linkServer: ServerTls;
  link: ChannelTls;
}

/** Of gRPC, or of HTTP. */
interface TlsPort {
  setTls(tls: ServerTls): void;
}

/** What a node's services show and ask for, and what its links to other nodes show and trust; as the files are by now. */
export class NodeTls implements Reloadable {
  readonly #logger: Logger;
  readonly #servers: { server: TlsPort; isLink: boolean }[] = [];
  #materials: Materials;
  /** One object for good: whoever connects reads it then. */
  readonly link: ChannelTls;

  private constructor(materials: Materials, logger: Logger) {
    this.#logger = logger;
    this.#materials = materials;
    this.link = { ...materials.link };
  }

  /** INVALID_CONFIG where a file cannot be read, or certificate and key do not belong together. Undefined without settings. */
  static async read(settings: TlsSettings | undefined, logger: Logger): Promise<NodeTls | undefined> {
    return settings && new NodeTls(await read(settings), logger);
  }

  get server(): ServerTls {
    return this.#materials.server;
  }

  get linkServer(): ServerTls {
    return this.#materials.linkServer;
  }

  /** For connections that come afterwards: as a whole, or, where something is wrong with the files, not at all. */
  async prepare({ tls: settings }: NodeConfig): Promise<() => readonly string[]> {
    if (settings === undefined) return () => [];
    const fresh = await read(settings);
    return () => {
      if (isSame(fresh, this.#materials)) return [];
      this.#materials = fresh;
      Object.assign(this.link, { ca: undefined }, fresh.link);
      for (const { server, isLink } of this.#servers) server.setTls(isLink ? fresh.linkServer : fresh.server);
      const { subject, validTo } = new X509Certificate(fresh.server.cert);
      this.#logger.info(`new certificates of tls.*: ${oneLine(subject)}, good until ${validTo}`);
      return ["tls.certificate"];
    };
  }

  /** A server that shows them, and takes others when there are others. */
  addServer(server: TlsPort, isLink = false): void {
    this.#servers.push({ server, isLink });
  }
}

async function read(settings: TlsSettings): Promise<Materials> {
  const { certificate, key, ca, clientCa, linkCa = clientCa } = settings;
  const own = { cert: await readSetting("tls.certificate", certificate), key: await readSetting("tls.key", key) };
  const isSelfSigned = checkPair(own, settings);
  const trusted = ca !== undefined ? await readSetting("tls.ca", ca) : isSelfSigned ? own.cert : undefined;
  const clients = clientCa === undefined ? undefined : await readSetting("tls.clientCa", clientCa);
  const nodes = linkCa === undefined ? undefined : await readSetting("tls.linkCa", linkCa);
  for (const each of [trusted, clients, nodes]) if (each !== undefined) checkAuthority(each);
  return {
    server: { ...own, ...(clients && { ca: clients }) },
    linkServer: { ...own, ...(nodes && { ca: nodes }) },
    link: { ...own, ...(trusted && { ca: trusted }) },
  };
}

/** INVALID_CONFIG where certificate and key are none, or do not belong together; tells whether the certificate is its own authority's. */
function checkPair({ cert, key }: { cert: Buffer; key: Buffer }, files: { certificate: string; key: string }): boolean {
  try {
    const parsed = new X509Certificate(cert);
    createSecureContext({ cert, key });
    return parsed.checkIssued(parsed);
  } catch (cause) {
    throw new KithError(
      "INVALID_CONFIG",
      `tls.certificate ${files.certificate} and tls.key ${files.key} are no PEM certificate with its key: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function checkAuthority(ca: Buffer): void {
  try {
    createSecureContext({ ca });
    new X509Certificate(ca);
  } catch (cause) {
    throw new KithError(
      "INVALID_CONFIG",
      `tls.ca, tls.clientCa or tls.linkCa is no PEM certificate: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
}

function isSame(one: Materials, other: Materials): boolean {
  const texts = ({ server, linkServer, link }: Materials): string[] =>
    [server.cert, server.key, server.ca, linkServer.ca, link.ca].map((each) => each?.toString("latin1") ?? "");
  const before = texts(other);
  return texts(one).every((text, i) => text === before[i]);
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ");
}
