import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { KithError } from "../base/index.js";
import type { ChannelTls } from "../rpc/client/index.js";

/*
 * Why a server cannot be reached. gRPC tells little of it, and in words of its own; a plain connection and a handshake tell more.
 */

/** Why no call gets through to `target`: TLS_MISMATCH, CERTIFICATE_UNTRUSTED, else SERVER_UNREACHABLE, with `details.reason`. */
export async function diagnose(target: string, tls: ChannelTls | undefined, timeoutMs: number): Promise<KithError> {
  const address = /^(?:\[(.*)\]|([^:]+)):(\d+)$/.exec(target);
  // Named by a scheme: gRPC alone knows where that is.
  if (address === null) return unreachable(target, "no-answer", "it does not answer");
  const host = address[1] ?? address[2] ?? "";
  const port = Number(address[3]);
  const plain = await opened(connectTcp({ host, port }), "connect", timeoutMs);
  if (plain instanceof Error) {
    const { code = "" } = plain as NodeJS.ErrnoException;
    if (code === "ECONNREFUSED") return unreachable(target, "refused", "nothing listens there");
    if (code === "ENOTFOUND" || code === "EAI_AGAIN")
      return unreachable(target, "unknown-host", `the name ${host} is unknown`);
    return unreachable(target, "no-answer", plain.message);
  }
  const secure = connectTls({
    host,
    port,
    ALPNProtocols: ["h2"],
    // Looked at below: here only whether TLS is spoken counts.
    rejectUnauthorized: false,
    ...(tls?.serverName !== undefined
      ? { servername: tls.serverName }
      : !/^[\d.]+$|:/.test(host) && { servername: host }),
    ...(tls?.ca && { ca: tls.ca }),
    ...(tls?.cert && { cert: tls.cert }),
    ...(tls?.key && { key: tls.key }),
  });
  const handshake = await opened(secure, "secureConnect", timeoutMs);
  if (tls === undefined) {
    if (handshake !== undefined) return unreachable(target, "no-answer", "it takes connections, and does not answer");
    return new KithError(
      "TLS_MISMATCH",
      `${target} speaks TLS: connect with TLS, and with its authority where that is not a public one`,
      {
        details: { target },
      },
    );
  }
  if (handshake !== undefined) {
    return new KithError("TLS_MISMATCH", `${target} does not speak TLS: connect without it`, { details: { target } });
  }
  const { authorizationError } = secure;
  if (authorizationError !== null && authorizationError !== undefined) {
    const reason = authorizationError instanceof Error ? authorizationError.message : String(authorizationError);
    return new KithError(
      "CERTIFICATE_UNTRUSTED",
      `the certificate of ${target} is not trusted (${reason}): name its authority, or another server name`,
      { details: { target, reason } },
    );
  }
  if (tls.cert === undefined) {
    return unreachable(
      target,
      "no-answer",
      "it speaks TLS and does not answer; it may ask for a certificate of the client",
    );
  }
  return unreachable(target, "no-answer", "it speaks TLS and does not answer");
}

function unreachable(target: string, reason: string, why: string): KithError {
  return new KithError(
    "SERVER_UNREACHABLE",
    `no Kith server answers at ${target}: ${why}; start one with "kith dev", or give its address`,
    { details: { target, reason } },
  );
}

/** Undefined when the event has come; else why not. The connection is ended. */
function opened(
  socket: Socket | TLSSocket,
  event: "connect" | "secureConnect",
  timeoutMs: number,
): Promise<Error | undefined> {
  return new Promise((resolve) => {
    const done = (error?: Error): void => {
      socket.destroy();
      resolve(error);
    };
    socket.setTimeout(Math.max(1, timeoutMs), () => done(new Error(`no answer within ${Math.round(timeoutMs)} ms`)));
    socket.once("error", done);
    socket.once("close", () => done(new Error("the connection was closed")));
    socket.once(event, () => done());
  });
}
