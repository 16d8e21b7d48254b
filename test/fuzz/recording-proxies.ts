import { createServer, request as httpRequest } from "node:http";
import {
  connect,
  createServer as createHttp2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
} from "node:http2";
import type { AddressInfo, Server } from "node:net";

/** A request of a client of the REST API. */
export interface RecordedRequest {
  method: string;
  /** With the parameters. */
  path: string;
  body: string;
}

export interface Proxy {
  /** host:port */
  address: string;
  close(): void;
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Hands requests on to `target`, and each to `record`. */
export async function httpProxy(target: string, record: (request: RecordedRequest) => void): Promise<Proxy> {
  const [host, port] = target.split(":");
  const server = createServer((from, to) => {
    const { method = "", url = "", headers } = from;
    const chunks: Buffer[] = [];
    from.on("data", (chunk: Buffer) => chunks.push(chunk));
    from.on("end", () => {
      const body = Buffer.concat(chunks);
      record({ method, path: url, body: body.toString() });
      const onward = httpRequest({ host, port, method, path: url, headers }, (answer) => {
        to.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(to);
      });
      onward.on("error", (error) => to.destroy(error));
      onward.end(body);
    });
  });
  return {
    address: await listening(server),
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

const frameHeaderBytes = 5;

/** Hands unary calls of gRPC on to `target`, and the message of each to `record`. */
export async function grpcProxy(
  target: string,
  record: (request: { path: string; bytes: Buffer }) => void,
): Promise<Proxy> {
  const onward = connect(`http://${target}`);
  const sessions = new Set<ServerHttp2Session>();
  const server = createHttp2Server();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const frame = Buffer.concat(chunks);
      const path = headers[":path"] ?? "";
      record({ path, bytes: frame.subarray(frameHeaderBytes) });
      const sent = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
      const call = onward.request(sent);
      let trailers: Record<string, string | string[] | undefined> = {};
      call.on("response", ({ ":status": status, ...others }, flags) => {
        const isAll = (flags & endStream) !== 0;
        stream.respond({ ":status": status, ...others }, { endStream: isAll, waitForTrailers: !isAll });
      });
      call.on("trailers", ({ ...all }: IncomingHttpHeaders) => {
        trailers = all;
      });
      stream.on("wantTrailers", () => stream.sendTrailers(trailers));
      call.on("data", (chunk: Buffer) => stream.write(chunk));
      call.on("end", () => stream.end());
      call.on("error", () => stream.close());
      call.end(frame);
    });
  });
  return {
    address: await listening(server),
    close() {
      for (const session of sessions) session.destroy();
      server.close();
      onward.destroy();
    },
  };
}

/** The flag END_STREAM of HTTP/2. */
const endStream = 0x1;
