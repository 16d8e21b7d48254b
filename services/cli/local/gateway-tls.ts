import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { type Clock, KithError, toKithError } from "../../../libs/base/index.js";
import type { TlsOptions } from "../../../libs/client/index.js";
import type { ChannelTls } from "../../../libs/rpc/client/index.js";
import type { ServerTls } from "../../../libs/rpc/server/index.js";
import type { Logger } from "../../../libs/telemetry/index.js";

/** How often the files are looked at, as a node does. */
const lookEveryMs = 10_000;

/** What a gateway serves TLS with, and shows to the router and trusts there: as the files were when they last belonged together. */
export class GatewayTls {
  readonly #read: () => Promise<TlsOptions>;
  #current: ChannelTls;
  #told = "";

  private constructor(read: () => Promise<TlsOptions>, current: ChannelTls) {
    this.#read = read;
    this.#current = current;
  }

  /** INVALID_ARGUMENT where certificate and key do not belong together, or what is to be trusted is no certificate. */
  static async open(read: () => Promise<TlsOptions>): Promise<GatewayTls> {
    return new GatewayTls(read, checked(await read()));
  }

  /** For each connection to the router that is made from now on. */
  readonly channel = (): ChannelTls => this.#current;

  /** Undefined where there is nothing to serve TLS with. */
  get served(): ServerTls | undefined {
    const { cert, key } = this.#current;
    return cert !== undefined && key !== undefined ? { cert, key } : undefined;
  }

  /** Looks at the files from time to time. Gives what ends it. */
  follow(door: { setTls(tls: ServerTls): void }, clock: Clock, logger: Logger): { look: () => void; end: () => void } {
    const look = (isAsked: boolean): void => void this.#look(door, logger, isAsked);
    const timer = clock.every(() => look(false), lookEveryMs).unref();
    return { look: () => look(true), end: () => timer.close() };
  }

  /** Never rejects. */
  async #look(door: { setTls(tls: ServerTls): void }, logger: Logger, isAsked: boolean): Promise<void> {
    try {
      const fresh = checked(await this.#read());
      this.#told = "";
      if (textOf(fresh) === textOf(this.#current)) {
        if (isAsked) logger.info("took no new certificates: none has changed");
        return;
      }
      this.#current = fresh;
      const { served } = this;
      if (served !== undefined) door.setTls(served);
      logger.info("took new certificates, for connections that come from now on");
    } catch (error) {
      const { code, message } = toKithError(error);
      // A file may be half written: of what is only looked at it is said once.
      if (isAsked || message !== this.#told) logger.warn(`the certificates stay as they were: ${message}`, { code });
      this.#told = message;
    }
  }
}

function checked({ ca, cert, key, serverName }: TlsOptions): ChannelTls {
  const tls: ChannelTls = {
    ...(ca && { ca: Buffer.from(ca) }),
    ...(cert && { cert: Buffer.from(cert) }),
    ...(key && { key: Buffer.from(key) }),
    ...(serverName !== undefined && { serverName }),
  };
  try {
    for (const each of [tls.ca, tls.cert]) if (each !== undefined) new X509Certificate(each);
    createSecureContext(tls);
  } catch (cause) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `--tls-ca, --tls-cert or --tls-key is no PEM, or the key is another certificate's: ${(cause as Error).message}`,
      { cause },
    );
  }
  return tls;
}

function textOf({ ca, cert, key }: ChannelTls): string {
  return [ca, cert, key].map((each) => each?.toString("latin1") ?? "").join("|");
}
