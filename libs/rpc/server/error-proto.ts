import { Descriptor, fieldType, labelOptional, labelRepeated } from "./descriptor-writer.js";

/*
 * The descriptors of what comes with errors, for reflection: tools decode the details of a status by asking the server for the types. Built here
 * like that of health: Kith's own files import neither.
 */

/** google/rpc/error_details.proto, of which Kith sends ErrorInfo and RetryInfo. */
export function errorDetailsDescriptor(): Uint8Array {
  const scope = ".google.rpc.";
  const file = new Descriptor();
  file.text(1, "google/rpc/error_details.proto").text(2, "google.rpc").text(3, durationFile);
  file.child(4, (message) => {
    message.text(1, "ErrorInfo");
    field(message, "reason", 1, fieldType.text);
    field(message, "domain", 2, fieldType.text);
    field(message, "metadata", 3, fieldType.message, { repeated: true, typeName: `${scope}ErrorInfo.MetadataEntry` });
    message.child(3, (entry) => {
      entry.text(1, "MetadataEntry");
      field(entry, "key", 1, fieldType.text);
      field(entry, "value", 2, fieldType.text);
      // MessageOptions.map_entry
      entry.child(7, (options) => options.number(7, 1));
    });
  });
  file.child(4, (message) => {
    message.text(1, "RetryInfo");
    field(message, "retry_delay", 1, fieldType.message, { typeName: ".google.protobuf.Duration" });
  });
  return file.text(12, "proto3").bytes();
}

const durationFile = "google/protobuf/duration.proto";

/** google/protobuf/duration.proto */
export function durationDescriptor(): Uint8Array {
  const file = new Descriptor();
  file.text(1, durationFile).text(2, "google.protobuf");
  file.child(4, (message) => {
    message.text(1, "Duration");
    field(message, "seconds", 1, fieldType.int64);
    field(message, "nanos", 2, fieldType.int32);
  });
  return file.text(12, "proto3").bytes();
}

function field(
  message: Descriptor,
  name: string,
  number: number,
  type: number,
  { repeated = false, typeName = "" }: { repeated?: boolean; typeName?: string } = {},
): void {
  message.child(2, (each) => {
    each
      .text(1, name)
      .number(3, number)
      .number(4, repeated ? labelRepeated : labelOptional)
      .number(5, type);
    if (typeName !== "") each.text(6, typeName);
  });
}
