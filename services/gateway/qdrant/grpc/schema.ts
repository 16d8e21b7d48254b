import { createFileRegistry, type DescEnum, type DescMessage, type DescMethod, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { readDescriptorSet } from "../../../../libs/rpc/server/index.js";

const packageName = "qdrant";

/** Every call of Qdrant's services, by its name: "Points/Query". */
export function qdrantMethods(): Map<string, DescMethod> {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readDescriptorSet("qdrant.binpb")));
  const methods = new Map<string, DescMethod>();
  for (const file of registry.files) {
    if (file.proto.package !== packageName) continue;
    for (const { name: service, methods: own } of file.services) {
      for (const method of own) methods.set(`${service}/${method.name}`, method);
    }
  }
  return methods;
}

/** The name of a message without the package: "PointsUpdateOperation.SetPayload". */
export function shortName({ typeName }: DescMessage): string {
  return typeName.startsWith(`${packageName}.`) ? typeName.slice(packageName.length + 1) : typeName;
}

/** Enums whose values have in JSON the names that they have here. */
const asTheyAre = new Set(["Distance", "ReplicaState"]);

/** "stream_records" of StreamRecords: the word of REST for each number of an enum. Null where a number says that nothing is chosen. */
export function wordsOf(type: DescEnum): Map<number, string | null> {
  const words = new Map<number, string | null>();
  for (const { name, number } of type.values) words.set(number, wordOf(type.name, name));
  return words;
}

function wordOf(type: string, value: string): string | null {
  if (asTheyAre.has(type)) return value;
  if (type === "Datatype" && value === "Default") return null;
  if (type === "Memory" && value === "MemoryUnknown") return null;
  const bare = type === "FieldType" ? value.slice(type.length) : value;
  // RRF and DBSF are one word each.
  if (/^[A-Z]+$/.test(bare)) return bare.toLowerCase();
  return bare.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
}

/** Names of fields that REST has other words for, wherever they stand. */
export const renamed: Readonly<Record<string, string>> = {
  shard_key_selector: "shard_key",
  read_consistency: "consistency",
  with_vectors: "with_vector",
  vectors_config: "vectors",
  sparse_vectors_config: "sparse_vectors",
};
