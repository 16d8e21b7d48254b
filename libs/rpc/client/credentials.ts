import { X509Certificate } from "node:crypto";
import { CallCredentials, ChannelCredentials, credentials } from "@grpc/grpc-js";

/** PEM contents; all may be left out: the system's roots, no client certificate. */
export interface ChannelTls {
  ca?: Buffer;
  cert?: Buffer;
  key?: Buffer;
  /** The name on the server's certificate where it is not the one in the address. */
  serverName?: string;
}

type ConnectorArguments = Parameters<ChannelCredentials["_createSecureConnector"]>;
type SecureConnector = ReturnType<ChannelCredentials["_createSecureConnector"]>;

/** What is asked anew for each connection; where that throws, or certificate and key do not belong together, what was given before goes on. */
class AskedCredentials extends ChannelCredentials {
  readonly #ask: () => ChannelTls;
  #last: ChannelCredentials;

  constructor(ask: () => ChannelTls) {
    super();
    this.#ask = ask;
    this.#last = sslOf(ask());
  }

  _isSecure(): boolean {
    return true;
  }

  _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  _createSecureConnector(...[target, options, callCredentials]: ConnectorArguments): SecureConnector {
    const calls = callCredentials ?? CallCredentials.createEmpty();
    return {
      connect: (socket) => this.#current()._createSecureConnector(target, options, calls).connect(socket),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => calls,
      destroy: () => undefined,
    };
  }

  #current(): ChannelCredentials {
    try {
      this.#last = sslOf(this.#ask());
    } catch {
      // Files that are replaced just now: the next connection asks again.
    }
    return this.#last;
  }
}

function sslOf({ ca, key, cert }: ChannelTls): ChannelCredentials {
  // OpenSSL passes over what is no PEM, and would then trust nobody.
  if (ca !== undefined) new X509Certificate(ca);
  return credentials.createSsl(ca ?? null, key ?? null, cert ?? null);
}

/** Of one channel; plain text where there is no TLS. */
export function credentialsOf(tls: ChannelTls | (() => ChannelTls) | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  return typeof tls === "function" ? new AskedCredentials(tls) : sslOf(tls);
}
