import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type DescMethod,
  type FileRegistry,
  fromBinary,
  ScalarType,
} from "@bufbuild/protobuf";
import { type FileDescriptorSet, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { assert } from "../../../libs/base/index.js";
import { readDescriptorSet } from "../../../libs/rpc/server/index.js";

const publicPackage = "kith.v1";

/** The public messages and calls as their descriptors tell them, with what the comments in the proto files say. */
export class Descriptors {
  readonly #registry: FileRegistry;
  readonly #set: FileDescriptorSet;
  #comments: Map<string, string> | undefined;

  constructor(bytes: Uint8Array = readDescriptorSet()) {
    this.#set = fromBinary(FileDescriptorSetSchema, bytes);
    this.#registry = createFileRegistry(this.#set);
  }

  message(typeName: string): DescMessage {
    const found = this.#registry.getMessage(typeName);
    assert(found !== undefined, `${typeName} is no message of the descriptors`);
    return found;
  }

  /** Every call of the public services. */
  methods(): DescMethod[] {
    const methods: DescMethod[] = [];
    for (const file of this.#registry.files) {
      if (file.proto.package !== publicPackage) continue;
      for (const service of file.services) methods.push(...service.methods);
    }
    return methods;
  }

  /** What the proto file says of a message ("kith.v1.Point"), field ("kith.v1.Point.id"), value or method ("kith.v1.Points.Query"). */
  comment(name: string): string {
    this.#comments ??= commentsOf(this.#set);
    return this.#comments.get(name) ?? "";
  }
}

/** "kith.v1.Points/Query" */
export function callName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** Payloads are JSON already: their other form, for tools that know no bytes, is no part of the JSON API. */
export function isOffered(field: DescField): boolean {
  return field.name !== "payload_struct" && field.name !== "payload_format";
}

/** Fields that hold JSON text: they stand in JSON as what they are. */
export function isPayload(field: DescField): boolean {
  const isBytes = (field.fieldKind === "scalar" || field.fieldKind === "list") && field.scalar === ScalarType.BYTES;
  return isBytes && (field.name === "payload" || field.name === "payloads");
}

/** Vectors by name have a companion `vector` for the one without a name, as points have in the SDK. */
export function isVectorMap(field: DescField): boolean {
  return field.fieldKind === "map" && field.mapKind === "message" && field.message.typeName === "kith.v1.Vector";
}

/** The oneof `value` of scalars alone: one key `value`, whatever it holds. */
export function isPlainValue(field: DescField): boolean {
  const { oneof } = field;
  return oneof?.name === "value" && oneof.fields.every(({ fieldKind }) => fieldKind === "scalar");
}

/** "best_score" of RECOMMEND_STRATEGY_BEST_SCORE: the value without the name of its enum. */
export function shortName(enumName: string, value: string): string {
  const prefix = `${enumName.replaceAll(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toUpperCase()}_`;
  return (value.startsWith(prefix) ? value.slice(prefix.length) : value).toLowerCase();
}

/** Comments by full name, from the source info of each file (descriptor.proto, SourceCodeInfo.Location.path). */
function commentsOf(set: FileDescriptorSet): Map<string, string> {
  const comments = new Map<string, string>();
  for (const file of set.file) {
    if (file.package !== publicPackage) continue;
    const texts = new Map<string, string>();
    for (const { path, leadingComments, trailingComments } of file.sourceCodeInfo?.location ?? []) {
      const text = (leadingComments || trailingComments).trim().replaceAll(/\s*\n\s*/g, " ");
      if (text !== "") texts.set(path.join("."), text);
    }
    const note = (name: string, path: string): void => {
      const text = texts.get(path);
      if (text !== undefined) comments.set(name, text);
    };
    const message = (descriptor: (typeof file.messageType)[number], scope: string, path: string): void => {
      const name = `${scope}.${descriptor.name}`;
      note(name, path);
      descriptor.field.forEach((field, i) => note(`${name}.${field.name}`, `${path}.2.${i}`));
      descriptor.nestedType.forEach((nested, i) => message(nested, name, `${path}.3.${i}`));
    };
    file.messageType.forEach((each, i) => message(each, publicPackage, `4.${i}`));
    file.enumType.forEach((each, i) => note(`${publicPackage}.${each.name}`, `5.${i}`));
    file.service.forEach((service, i) => {
      note(`${publicPackage}.${service.name}`, `6.${i}`);
      service.method.forEach((method, j) => note(`${publicPackage}.${service.name}.${method.name}`, `6.${i}.2.${j}`));
    });
  }
  return comments;
}
