import { Agent, request as httpRequest } from "node:http";
import { connect as connectTcp } from "node:net";
import type { DescMethod } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, status } from "@grpc/grpc-js";
import type { Random } from "../../libs/base/index.js";
import { generateMessage, type Words } from "./generate.js";
import { RequestGenerator } from "./generate-json.js";
import { mutate } from "./mutate.js";
import { mutateJson, mutateMessage } from "./mutate-fields.js";
import { atOnce, concurrent, count, type Door, pick, type Tally, within } from "./sending.js";
import { collectionName, type Recorded, spareName, type Target } from "./target.js";

const asIs = (bytes: Buffer): Buffer => bytes;
/** What a fault of the server itself looks like. Everything else is documented as an answer to what a client sent. */
const faults = new Set<number>([status.INTERNAL, status.UNKNOWN, status.DATA_LOSS]);

/** What changes the cluster or a collection as a whole, makes logs or moves data: sent less often, and to the spare collection. */
const heavyCall =
  /^\/kith\.v1\.(Backups|Roles|Keys\/(Create|Rotate|Revoke)|Cluster\/(Cancel|Move|Drain|Undrain|Re|Abort|Update|Split|Isolate|Merge|Promote)|Collections\/(?!Get|List|Exists|Stats|Wait)|Points\/Truncate)/;
const heavyOperation =
  /^(POST|PUT|PATCH|DELETE) \/v1\/(?!collections\/\{collection\}\/(query|points(?!\/truncate)|wait-indexed))/;
const heavyShare = 0.004;
/** Of requests to all other calls, those that are made from what the descriptors or the OpenAPI document allow. */
const generatedShare = 0.5;

export function grpcDoor({ node, calls, streams, methods, words }: Target): Door {
  const client = new Client(node.address, credentials.createInsecure());
  const pathOf = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;
  const light = calls.filter(({ path }) => !heavyCall.test(path));
  const unaries = methods.filter(({ methodKind }) => methodKind === "unary");
  const lightMethods = unaries.filter((method) => !heavyCall.test(pathOf(method)));
  const heavyMethods = unaries.filter((method) => heavyCall.test(pathOf(method)));
  const streaming = methods.filter(({ methodKind }) => methodKind !== "unary");
  const spare: Words = { ...words, collections: [spareName, spareName, "nosuch", ""] };
  /** As it is, or with a change of a field or of bytes. */
  const bent = (bytes: Buffer, random: Random): Buffer => {
    const chance = random.float();
    if (chance < 0.4) return bytes;
    return chance < 0.7 ? mutateMessage(bytes, random) : mutate(bytes, pick(light, random).bytes, random);
  };
  const next = (random: Random): Recorded => {
    const chance = random.float();
    if (chance < heavyShare) {
      const method = pick(heavyMethods, random);
      return { path: pathOf(method), bytes: generateMessage(method.input, spare, random) };
    }
    if (chance < generatedShare) {
      const method = pick(lightMethods, random);
      return { path: pathOf(method), bytes: bent(generateMessage(method.input, words, random), random) };
    }
    const { path, bytes } = pick(light, random);
    return {
      path,
      bytes: chance < 0.75 ? mutateMessage(bytes, random) : mutate(bytes, pick(light, random).bytes, random),
    };
  };
  const unary = (path: string, bytes: Buffer): Promise<string> =>
    new Promise((resolve, reject) => {
      const deadline = Date.now() + 1_000;
      client.makeUnaryRequest(path, asIs, asIs, bytes, new Metadata(), { deadline }, (error) => {
        if (error === null) return resolve("OK");
        if (!faults.has(error.code)) return resolve(status[error.code] ?? "?");
        return reject(new Error(`${path} ${bytes.toString("base64")}: ${error.message}`));
      });
    });
  const stream = (path: string, messages: Buffer[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const call = client.makeBidiStreamRequest(path, asIs, asIs, new Metadata(), { deadline: Date.now() + 1_000 });
      call.on("data", () => undefined);
      call.on("error", (error: Error & { code: number }) => {
        if (!faults.has(error.code)) return resolve(status[error.code] ?? "?");
        return reject(
          new Error(`${path} ${messages.map((each) => each.toString("base64")).join(" ")}: ${error.message}`),
        );
      });
      call.on("end", () => resolve("OK"));
      for (const message of messages) call.write(message);
      call.end();
    });
  return {
    name: "gRPC",
    share: 250,
    async send(total, random, tally) {
      let sent = 0;
      await atOnce(total, async () => {
        if (sent >= total) return;
        if (random.float() < 0.02) {
          const method = pick(streaming, random);
          const path = pathOf(method);
          const own = streams.filter((each) => each.path === path);
          const length = method.methodKind === "bidi_streaming" ? 20 : 1;
          const messages = Array.from({ length }, () =>
            own.length > 0 && random.float() < 0.5
              ? mutate(pick(own, random).bytes, pick(own, random).bytes, random)
              : bent(generateMessage(method.input, words, random), random),
          );
          sent += messages.length;
          count(tally, await within(path, stream(path, messages)));
          return;
        }
        const { path, bytes } = next(random);
        sent++;
        count(tally, await within(path, unary(path, bytes)));
      });
      return sent;
    },
    close: () => client.close(),
  };
}

/** Statuses that are faults of the server: 500 for anything but a request that nobody understands. */
const bodies: readonly (readonly [method: string, path: string, body: string])[] = [
  [
    "POST",
    "query",
    '{"vector":[0.5,1,2],"limit":3,"filter":{"must":[{"key":"n","range":{"gte":1}}]},"select":{"payload":true}}',
  ],
  [
    "POST",
    "query",
    '{"query":{"recommend":{"positive":[{"point":2}],"strategy":"best_score"}},"prefetch":[{"limit":3}]}',
  ],
  ["POST", "points", '{"points":[{"id":1,"vector":[1,2,3],"payload":{"a":[1,{"b":"c"}]}}],"mode":"insert_only"}'],
  ["POST", "points/batch", '{"operations":[{"setPayload":{"target":{"ids":{"ids":[1]}},"payload":{"x":1}}}]}'],
  ["POST", "points/get", '{"ids":[1,"x",{"name":"y"}],"consistency":{"linearizable":true}}'],
  ["POST", "points/scroll", '{"limit":3,"filter":"n > 3","orderBy":{"key":"n"}}'],
  ["POST", "points/count", '{"filter":"n in (1, 2)","exact":true}'],
  ["POST", "points/facet", '{"key":"n","limit":3}'],
  ["POST", "points/import", '{"id":7,"vector":[1,2,3]}\n{"id":8,"vector":[1,2,3],"payload":{"n":1}}\n'],
  ["PUT", "points/9", '{"vector":[1,2,3],"payload":{"n":2}}'],
  ["GET", "points/9?vectors=true", ""],
  ["GET", "", ""],
];

export function restDoor({ node, openApi, words }: Target): Door {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrent });
  const { hostname, port } = new URL(`http://${node.httpAddress}`);
  const generator = new RequestGenerator(openApi, words);
  const spare = new RequestGenerator(openApi, { ...words, collections: [spareName, spareName, "nosuch", ""] });
  const isHeavy = (operation: string): boolean => heavyOperation.test(operation);
  const generated = (random: Random): { method: string; path: string; body: Buffer } => {
    const isHeavyNow = random.float() < heavyShare;
    const made = isHeavyNow ? spare.next(random, isHeavy) : generator.next(random, (operation) => !isHeavy(operation));
    const { method, path, body } = made;
    if (body === "" || random.float() < 0.4) return { method, path, body: Buffer.from(body) };
    return {
      method,
      path,
      body: Buffer.from(mutateJson(body, generator.next(random, () => true).body || "{}", random)),
    };
  };
  const ask = (method: string, path: string, body: Buffer, headers: Record<string, string>): Promise<string> =>
    new Promise((resolve, reject) => {
      const call = httpRequest({
        agent,
        hostname,
        port,
        method,
        path,
        headers: { ...headers, "kith-timeout-ms": "1000" },
      });
      call.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      call.on("response", (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("error", () => resolve("cut"));
        answer.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          const code = /"code":"([A-Z_]+)"/.exec(text)?.[1] ?? "";
          const isFault =
            answer.statusCode === 500 || code === "INTERNAL" || ((answer.statusCode ?? 0) > 500 && code === "");
          if (isFault)
            reject(
              new Error(`${method} ${path} ${body.toString("base64")}: ${answer.statusCode} ${text.slice(0, 400)}`),
            );
          else resolve(String(answer.statusCode));
        });
      });
      call.end(method === "GET" ? undefined : body);
    });
  const raw = (bytes: Buffer): Promise<string> =>
    new Promise((resolve) => {
      const socket = connectTcp(Number(port), hostname);
      socket.on("error", () => undefined);
      socket.on("data", () => socket.end());
      socket.on("close", () => resolve("raw"));
      // Half of a request is waited for longer than this: whether it goes away in the end is another test's.
      socket.setTimeout(1_000, () => socket.destroy());
      socket.write(bytes);
    });
  return {
    name: "REST",
    share: 150,
    send: (total, random, tally) =>
      atOnce(total, async () => {
        if (random.float() < generatedShare) {
          const { method, path, body } = generated(random);
          const headers = { "content-type": "application/json" };
          count(tally, await within(`${method} ${path}`, ask(method, path, body, headers)));
          return;
        }
        const [method, own, text] = pick(bodies, random);
        const body = Buffer.from(text);
        const other = Buffer.from(pick(bodies, random)[2]);
        const path = `/v1/collections/${collectionName}${own === "" ? "" : `/${own}`}`;
        const chance = random.float();
        if (chance < 0.01) {
          const head = `${method} ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n\r\n`;
          count(tally, await within(path, raw(mutate(Buffer.concat([Buffer.from(head), body]), other, random))));
          return;
        }
        const bent =
          chance < 0.1 ? path + encodeURIComponent(mutate(Buffer.from("x"), other, random).toString()) : path;
        const headers: Record<string, string> = {
          "content-type": own === "points/import" ? "application/x-ndjson" : "application/json",
          ...(chance > 0.97 && { "content-encoding": "gzip" }),
        };
        count(
          tally,
          await within(
            `${method} ${bent} ${JSON.stringify(headers)}`,
            ask(method, bent, mutate(body, other, random), headers),
          ),
        );
      }),
    close: () => agent.destroy(),
  };
}

/** Frames of one connection. Most are malformed, which ends it: what follows is not read, and not counted. */
const framesAtOnce = 8;
const frameHeadBytes = 16;
const pong = 0xf4;
const failure = 0xf2;

export function linkDoor({ linkPort, link }: Target): Door {
  const greetingBytes = 12 + link.readUInt16LE(10);
  const greeting = link.subarray(0, greetingBytes);
  const frames: Buffer[] = [];
  for (let at = greetingBytes; at < link.length; ) {
    const length = frameHeadBytes + link.readUInt32LE(at);
    frames.push(link.subarray(at, at + length));
    at += length;
  }
  const ping = Buffer.alloc(frameHeadBytes);
  ping.writeUInt8(0xf3, 4);
  /** Mutated behind its length, which is then right: a wrong one ends the connection, and is tried less often. */
  const bend = (random: Random, serial: number): { frame: Buffer; isWhole: boolean } => {
    const frame = mutate(pick(frames, random), pick(frames, random), random);
    if (random.float() < 0.002) return { frame, isWhole: false };
    const padded = Buffer.alloc(Math.max(frameHeadBytes, Math.ceil(frame.length / 4) * 4));
    frame.copy(padded);
    padded.writeUInt32LE(padded.length - frameHeadBytes, 0);
    padded.writeUInt16LE(0, 6);
    padded.writeUInt32LE(serial, 8);
    padded.writeUInt32LE(serial, 12);
    // Kinds that ask for something, mostly.
    if (random.float() < 0.9) padded[4] = pick(frames, random)[4] as number;
    return { frame: padded, isWhole: true };
  };
  const visit = (random: Random, tally: Tally): Promise<number> =>
    new Promise((resolve, reject) => {
      const socket = connectTcp(linkPort, "127.0.0.1");
      const isBent = random.float() < 0.05;
      const sent = Array.from({ length: framesAtOnce }, (_, serial) => bend(random, serial));
      let bytes = Buffer.alloc(0);
      socket.on("error", () => undefined);
      let answered = 0;
      socket.on("close", () => {
        count(tally, "closed");
        resolve(Math.min(answered + 1, framesAtOnce));
      });
      let at = 0;
      socket.on("data", (chunk: Buffer) => {
        bytes = Buffer.concat([bytes.subarray(at), chunk]);
        at = 0;
        if (bytes.subarray(0, 8).toString() === "kithlink") {
          if (bytes.length < 12) return;
          at = 12 + bytes.readUInt16LE(10);
        }
        while (bytes.length - at >= frameHeadBytes) {
          const length = frameHeadBytes + bytes.readUInt32LE(at);
          if (bytes.length - at < length) break;
          const type = bytes[at + 4] as number;
          const body = bytes.subarray(at + frameHeadBytes, at + length);
          at += length;
          answered++;
          count(tally, type === failure ? "failure" : "answer");
          if (type === failure && body.includes("INTERNAL")) {
            reject(new Error(`the link answers ${body.toString("latin1").slice(0, 300)}`));
          }
          if (type === pong) socket.destroy();
        }
      });
      socket.write(isBent ? mutate(greeting, frames[0] as Buffer, random) : greeting);
      for (const { frame } of sent) socket.write(frame);
      // What answers it has read all that came before.
      socket.write(ping);
      // Of a length that is too large the rest is waited for.
      if (isBent || sent.some(({ isWhole }) => !isWhole)) socket.setTimeout(1_000, () => socket.destroy());
    });
  return {
    name: "link",
    share: 320,
    async send(total, random, tally) {
      let sent = 0;
      while (sent < total) {
        const some = Array.from({ length: concurrent }, () => within("the link", visit(random, tally)));
        for (const each of await Promise.all(some)) sent += each;
      }
      return sent;
    },
    close: () => undefined,
  };
}

export function snapshotDoor({ linkPort, internal }: Target): Door {
  const client = new Client(`127.0.0.1:${linkPort}`, credentials.createInsecure());
  const ask = ({ path, bytes }: Recorded): Promise<string> =>
    new Promise((resolve, reject) => {
      const call = client.makeBidiStreamRequest(path, asIs, asIs, new Metadata(), { deadline: Date.now() + 1_000 });
      call.on("data", () => undefined);
      call.on("end", () => resolve("OK"));
      call.on("error", (error: Error & { code: number }) => {
        if (!faults.has(error.code)) resolve(status[error.code] ?? "?");
        else reject(new Error(`${path} ${bytes.toString("base64")}: ${error.message}`));
      });
      call.write(bytes);
      call.end();
    });
  return {
    name: "snapshots and backups",
    share: 30,
    send: (total, random, tally) =>
      atOnce(total, async () => {
        const { path, bytes } = pick(internal, random);
        const sent =
          random.float() < 0.5 ? mutateMessage(bytes, random) : mutate(bytes, pick(internal, random).bytes, random);
        count(tally, await within(path, ask({ path, bytes: sent })));
      }),
    close: () => client.close(),
  };
}
