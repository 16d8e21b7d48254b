import type { ServiceDefinition } from "@grpc/grpc-js";
import { KithError } from "../../base/index.js";
import { Encoded } from "../../wire/index.js";
import type { MethodStats } from "./call-stats.js";
import { checkRequestSize } from "./errors.js";

/** One method of a service as ts-proto generates it. */
export interface MethodDefinition<Req, Res, RequestStream extends boolean, ResponseStream extends boolean> {
  readonly path: string;
  readonly requestStream: RequestStream;
  readonly responseStream: ResponseStream;
  readonly requestSerialize: (value: Req) => Buffer;
  readonly requestDeserialize: (value: Buffer) => Req;
  readonly responseSerialize: (value: Res) => Buffer;
  readonly responseDeserialize: (value: Buffer) => Res;
}
export type UnaryDefinition<Req, Res> = MethodDefinition<Req, Res, false, false>;
export type BidiDefinition<Req, Res> = MethodDefinition<Req, Res, true, true>;
export type ServerStreamDefinition<Req, Res> = MethodDefinition<Req, Res, false, true>;

/** Takes the place of a request whose bytes are not the message that the method expects. */
export class Malformed {
  constructor(readonly error: KithError) {}
}

/** What the calls of one served method share. */
export class ServedMethod {
  readonly #serialize: (response: object) => Buffer;

  constructor(
    definition: { responseSerialize: unknown },
    readonly stats: MethodStats,
    /** Largest response. */
    readonly messageBytes: number,
  ) {
    this.#serialize = definition.responseSerialize as (response: object) => Buffer;
  }

  /**
   * The bytes of a response. Encoded here and not within grpc-js, which would end a whole stream, with all its
   * requests, because of one response that is too large or cannot be encoded.
   */
  encode(response: object): Buffer {
    const bytes = response instanceof Encoded ? response.bytes : this.#serialize(response);
    if (bytes.length <= this.messageBytes) return bytes;
    throw new KithError(
      "BATCH_TOO_LARGE",
      `the answer has ${bytes.length} bytes; at most ${this.messageBytes} are sent: ask for fewer points, or without vectors or payloads`,
      { details: { sizeBytes: bytes.length, limitBytes: this.messageBytes } },
    );
  }
}

/** Length and flag before every message of gRPC. */
const frameHeaderBytes = 5;

/**
 * Messages of a stream that leave as one write. grpc-js writes one message at a time and waits for the socket in between:
 * a system call and a turn of the event loop each, a fifth of what a query costs. It frames what a serializer returns by
 * allocating `byteLength` more than a header and having it `copy` itself behind that; a batch writes the header of every
 * message there, the first one over that of grpc-js.
 */
export class MessageBatch {
  readonly byteLength: number;

  constructor(private readonly messages: readonly Buffer[]) {
    this.byteLength = messages.reduce((sum, { length }) => sum + frameHeaderBytes + length, -frameHeaderBytes);
  }

  copy(target: Buffer, start: number): number {
    let at = start - frameHeaderBytes;
    for (const message of this.messages) {
      target[at] = 0;
      target.writeUInt32BE(message.length, at + 1);
      at += frameHeaderBytes + message.copy(target, at + frameHeaderBytes);
    }
    return at - start;
  }
}

/** Bytes of a large message that are framed, which copies them, in one turn of the event loop. */
const partBytes = 256 * 1024;

/**
 * A part of a large message with its header. grpc-js takes it for a message of its own, and makes room before it for a header, where the part has its
 * first bytes. So a message is copied a part at a time, as its client takes it, and not whole in one turn.
 */
export class MessagePart {
  readonly byteLength: number;
  readonly #message: Buffer;
  /** Place of the part in the message; the first one has the header before it. */
  readonly #from: number;
  readonly #to: number;

  constructor(message: Buffer, from = 0) {
    // What is left at the end must not be shorter than a header.
    const rest = message.length - from;
    this.#message = message;
    this.#from = from;
    this.#to = rest < partBytes + frameHeaderBytes ? message.length : from + partBytes;
    this.byteLength = this.#to - from - (from === 0 ? 0 : frameHeaderBytes);
  }

  /** Undefined where this is the last one. */
  get next(): MessagePart | undefined {
    return this.#to === this.#message.length ? undefined : new MessagePart(this.#message, this.#to);
  }

  copy(target: Buffer, start: number): number {
    const message = this.#message;
    if (this.#from === 0) {
      target.writeUInt32BE(message.length, start - frameHeaderBytes + 1);
      return message.copy(target, start, 0, this.#to);
    }
    return message.copy(target, start - frameHeaderBytes, this.#from, this.#to) - frameHeaderBytes;
  }
}

/** Messages of more bytes are written in parts. */
export const wholeBytesMax = partBytes;

type EncodedMessage = Buffer | MessageBatch | MessagePart;

/** ServedMethod.encode() has made the bytes already. */
const alreadyEncoded = (message: EncodedMessage): EncodedMessage => message;

/**
 * The definition for grpc-js. A decoder that throws is answered by grpc-js with INTERNAL, as if the server were at
 * fault; here it yields a Malformed instead, which the wrapper of the handler answers with INVALID_ARGUMENT. A request of
 * more than `messageBytes` is answered with BATCH_TOO_LARGE, which grpc-js would call RESOURCE_EXHAUSTED.
 */
export function servedDefinition(definition: ServiceDefinition, messageBytes: number): ServiceDefinition {
  const served: Record<string, ServiceDefinition[string]> = {};
  for (const [name, method] of Object.entries(definition)) {
    const decode = method.requestDeserialize as (bytes: Buffer) => object;
    served[name] = {
      ...method,
      responseSerialize: alreadyEncoded as unknown as (bytes: Buffer) => Buffer,
      requestDeserialize: (bytes: Buffer): object => {
        try {
          checkRequestSize(bytes.length, messageBytes);
          return decode(bytes);
        } catch (cause) {
          if (cause instanceof KithError) return new Malformed(cause);
          return new Malformed(
            new KithError(
              "INVALID_ARGUMENT",
              `the request of ${bytes.length} bytes is not a valid message for ${method.path}: ${(cause as Error).message}`,
              { details: { method: method.path, sizeBytes: bytes.length } },
            ),
          );
        }
      },
    };
  }
  return served;
}

/** "kith.v1.Points" of "/kith.v1.Points/Query". */
export function serviceOf(path: string): string {
  return path.slice(1, path.lastIndexOf("/"));
}
