import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { assert } from "../../base/index.js";
import { durationDescriptor, errorDetailsDescriptor } from "./error-proto.js";
import { healthDescriptor } from "./health-proto.js";

/** Files of descriptors that the build writes. */
export type DescriptorSet = "descriptors.binpb" | "qdrant.binpb";

const generated = join("libs", "wire", "gen");
/** Services that are no promise to anybody. */
const hiddenPackage = "kith.internal.";

/** One proto file: the bytes of its google.protobuf.FileDescriptorProto and what reflection needs to know of them. */
export interface ProtoFile {
  name: string;
  package: string;
  dependencies: string[];
  /** Full names of messages, enums, services and methods. */
  symbols: string[];
  services: string[];
  bytes: Uint8Array;
}

/** The files of the public services, of grpc.health.v1, and of what comes with errors, with all that they import. */
export function publicFiles(set: DescriptorSet): ProtoFile[] {
  const files = filesOfSet(readDescriptorSet(set)).filter((file) => !`${file.package}.`.startsWith(hiddenPackage));
  files.push(parseFile(healthDescriptor()), parseFile(errorDetailsDescriptor()), parseFile(durationDescriptor()));
  return files;
}

/** The descriptors that `npm run build:proto` writes; found from the sources (libs/rpc) and from dist/libs/rpc alike. */
export function readDescriptorSet(set: DescriptorSet = "descriptors.binpb"): Buffer {
  const setPath = join(generated, set);
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const path = join(directory, setPath);
    if (existsSync(path)) return readFileSync(path);
    const parent = dirname(directory);
    assert(parent !== directory, `${setPath} is missing; run "npm run build:proto"`);
    directory = parent;
  }
}

/** Calls `read` with the content of each length-delimited field. */
function eachField(bytes: Uint8Array, read: (field: number, content: Uint8Array) => void): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType === WireType.LengthDelimited) read(field, reader.bytes());
    else reader.skip(wireType, field);
  }
}

const decoder = new TextDecoder();

/** google.protobuf.FileDescriptorSet */
function filesOfSet(set: Uint8Array): ProtoFile[] {
  const files: ProtoFile[] = [];
  eachField(set, (field, content) => {
    if (field === 1) files.push(parseFile(content));
  });
  return files;
}

/** Reads FileDescriptorProto {name = 1, package = 2, dependency = 3, message_type = 4, enum_type = 5, service = 6}. */
function parseFile(bytes: Uint8Array): ProtoFile {
  const file: ProtoFile = { name: "", package: "", dependencies: [], symbols: [], services: [], bytes };
  const children: [field: number, content: Uint8Array][] = [];
  eachField(bytes, (field, content) => {
    if (field === 1) file.name = decoder.decode(content);
    else if (field === 2) file.package = decoder.decode(content);
    else if (field === 3) file.dependencies.push(decoder.decode(content));
    else children.push([field, content]);
  });
  const scope = file.package === "" ? "" : `${file.package}.`;
  for (const [field, content] of children) {
    if (field === 4) addMessage(file, scope, content);
    else if (field === 5) file.symbols.push(scope + nameOf(content));
    else if (field === 6) addService(file, scope, content);
  }
  return file;
}

/** `name = 1` of every kind of descriptor. */
function nameOf(descriptor: Uint8Array): string {
  let name = "";
  eachField(descriptor, (field, content) => {
    if (field === 1) name = decoder.decode(content);
  });
  return name;
}

/** DescriptorProto {nested_type = 3, enum_type = 4} */
function addMessage(file: ProtoFile, scope: string, descriptor: Uint8Array): void {
  const name = scope + nameOf(descriptor);
  file.symbols.push(name);
  eachField(descriptor, (field, content) => {
    if (field === 3) addMessage(file, `${name}.`, content);
    else if (field === 4) file.symbols.push(`${name}.${nameOf(content)}`);
  });
}

/** ServiceDescriptorProto {method = 2} */
function addService(file: ProtoFile, scope: string, descriptor: Uint8Array): void {
  const name = scope + nameOf(descriptor);
  file.symbols.push(name);
  file.services.push(name);
  eachField(descriptor, (field, content) => {
    if (field === 2) file.symbols.push(`${name}.${nameOf(content)}`);
  });
}
