import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { type Clock, KithError, toKithError } from "../../libs/base/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import type { ChannelTls } from "../../libs/rpc/client/index.js";
import type { RpcServer, ServerTls } from "../../libs/rpc/server/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { readSetting } from "./adapters.js";

type TlsSettings = NonNullable<NodeConfig["tls"]>;

/** How often the files are looked at. What replaces them, and how, differs too much to be told by the file system. */
const lookEveryMs = 10_000;

interface Materials {
  server: ServerTls;
  linkServer: ServerTls;
  link: ChannelTls;
}

/** What a node's services show and ask for, and what its links to other nodes show and trust; as the files are by now. */
export class NodeTls {
  readonly #settings: TlsSettings;
  #materials: Materials;
  /** One object for good: whoever connects reads it then. */
  readonly link: ChannelTls;

  private constructor(settings: TlsSettings, materials: Materials) {
    this.#settings = settings;
    this.#materials = materials;
    this.link = { ...materials.link };
  }

  /** INVALID_CONFIG where a file cannot be read, or certificate and key do not belong together. Undefined without settings. */
  static async read(settings: TlsSettings | undefined): Promise<NodeTls | undefined> {
    return settings && new NodeTls(settings, await read(settings));
  }

  get server(): ServerTls {
    return this.#materials.server;
  }

  get linkServer(): ServerTls {
    return this.#materials.linkServer;
  }

  /**
   * Looks at the files from time to time. New ones are taken as a whole, for connections that come afterwards, or, where something is wrong with
   * them, not at all. Gives what ends it.
   */
  follow(
    servers: { link: RpcServer | undefined; public: RpcServer | undefined },
    clock: Clock,
    logger: Logger,
  ): () => Promise<void> {
    let looking: Promise<void> | undefined;
    let told = "";
    const look = async (): Promise<void> => {
      try {
        const fresh = await read(this.#settings);
        if (isSame(fresh, this.#materials)) return;
        this.#materials = fresh;
        Object.assign(this.link, fresh.link);
        servers.link?.setTls(fresh.linkServer);
        servers.public?.setTls(fresh.server);
        told = "";
        const { subject, validTo } = new X509Certificate(fresh.server.cert);
        logger.info(`took new certificates from the files of tls.*: ${oneLine(subject)}, good until ${validTo}`);
      } catch (error) {
        const { message } = toKithError(error);
        // They may be half written: said once.
        if (message !== told) logger.warn(`new files of tls.* are not taken, those of before go on: ${message}`);
        told = message;
      }
    };
    const timer = clock
      .every(() => {
        looking ??= look().finally(() => {
          looking = undefined;
        });
      }, lookEveryMs)
      .unref();
    return async () => {
      timer.close();
      await looking;
    };
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
