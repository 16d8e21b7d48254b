import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { status as grpcStatus } from "@grpc/grpc-js";
import type { BidiDefinition } from "../common/definition.js";
import { type DescriptorSet, type ProtoFile, publicFiles } from "./descriptors.js";
import type { StreamHandler } from "./server-stream.js";

/**
 * Server reflection (grpc/reflection/v1/reflection.proto; v1alpha has the same messages). Our own, because it hands
 * out the files as the compiler described them; what goes through protobufjs comes back as one file per package,
 * without the names of the files and without their options.
 */

/** Fields of ServerReflectionRequest, in which exactly one of the oneof is set. */
const ask = { fileByFilename: 3, fileContainingSymbol: 4, extension: 5, extensionNumbers: 6, listServices: 7 } as const;

export interface ReflectionRequest {
  /** One of `ask`; 0 for none. */
  kind: number;
  value: string;
  /** The request itself, which the answer repeats. */
  bytes: Uint8Array;
}

const bytesTag = (field: number): number => (field << 3) | WireType.LengthDelimited;

function decodeRequest(bytes: Uint8Array): ReflectionRequest {
  const request: ReflectionRequest = { kind: 0, value: "", bytes };
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const isText = wireType === WireType.LengthDelimited && field >= ask.fileByFilename && field <= ask.listServices;
    if (isText) {
      request.kind = field;
      // The request for an extension is a message; Kith has none, so that its content does not matter.
      if (field === ask.extension) reader.skip(wireType, field);
      else request.value = reader.string();
    } else reader.skip(wireType, field);
  }
  return request;
}

const method = (version: string): BidiDefinition<ReflectionRequest, Uint8Array> => ({
  path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
  requestStream: true,
  responseStream: true,
  requestSerialize: (request) => Buffer.from(request.bytes),
  requestDeserialize: decodeRequest,
  responseSerialize: (bytes) => Buffer.from(bytes),
  responseDeserialize: (bytes) => bytes,
});

/** The service definitions: grpcurl asks v1 first, older tools v1alpha. */
export const reflectionServices = [
  { serverReflectionInfo: method("v1") },
  { serverReflectionInfo: method("v1alpha") },
] as const;

/** The handler of both versions. The descriptors are read when somebody asks for the first time. */
export function reflectionHandler(set: DescriptorSet): StreamHandler<ReflectionRequest, Uint8Array> {
  let known: ReflectionIndex | undefined;
  return async (stream) => {
    known ??= new ReflectionIndex(publicFiles(set));
    const index = known;
    stream.onMessage((request) => {
      if (stream.write(index.answer(request))) return;
      stream.pause();
      void stream.drained().then(() => stream.resume());
    });
    await stream.ended;
  };
}

class ReflectionIndex {
  readonly #files = new Map<string, ProtoFile>();
  readonly #symbols = new Map<string, ProtoFile>();
  readonly #services: string[];

  constructor(files: readonly ProtoFile[]) {
    for (const file of files) {
      this.#files.set(file.name, file);
      for (const symbol of file.symbols) this.#symbols.set(symbol, file);
    }
    this.#services = files.flatMap((file) => file.services).sort();
  }

  /** ServerReflectionResponse {original_request = 2, then one of 4 files, 6 services, 7 error}. */
  answer(request: ReflectionRequest): Uint8Array {
    const writer = new BinaryWriter();
    writer.uint32(bytesTag(2)).bytes(request.bytes);
    switch (request.kind) {
      case ask.listServices:
        return this.#listServices(writer);
      case ask.fileByFilename:
        return this.#describe(writer, this.#files.get(request.value), `the file "${request.value}" is not served`);
      case ask.fileContainingSymbol:
        return this.#describe(writer, this.#symbols.get(request.value), `"${request.value}" was not found`);
      case ask.extension:
      case ask.extensionNumbers:
        return refuse(writer, grpcStatus.NOT_FOUND, "the public services have no extensions");
      default:
        return refuse(writer, grpcStatus.INVALID_ARGUMENT, "the request asks for nothing that is known");
    }
  }

  #listServices(writer: BinaryWriter): Uint8Array {
    writer.uint32(bytesTag(6)).fork();
    for (const name of this.#services) {
      writer.uint32(bytesTag(1)).fork().uint32(bytesTag(1)).string(name).join();
    }
    return writer.join().finish();
  }

  /** The file and all that it imports, dependencies last. */
  #describe(writer: BinaryWriter, file: ProtoFile | undefined, missing: string): Uint8Array {
    if (file === undefined) return refuse(writer, grpcStatus.NOT_FOUND, missing);
    const found = new Set([file]);
    for (const each of found) {
      for (const name of each.dependencies) {
        const dependency = this.#files.get(name);
        if (dependency !== undefined) found.add(dependency);
      }
    }
    writer.uint32(bytesTag(4)).fork();
    for (const each of found) writer.uint32(bytesTag(1)).bytes(each.bytes);
    return writer.join().finish();
  }
}

/** ErrorResponse {error_code = 1, error_message = 2} */
function refuse(writer: BinaryWriter, code: number, message: string): Uint8Array {
  writer.uint32(bytesTag(7)).fork();
  writer.uint32((1 << 3) | WireType.Varint).int32(code);
  writer.uint32(bytesTag(2)).string(message);
  return writer.join().finish();
}
