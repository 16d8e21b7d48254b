import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/**
 * The descriptor of grpc/health/v1/health.proto, for reflection. Built here: the health package loads the file through
 * protobufjs, whose descriptor of a map field (HealthListResponse) other implementations refuse. Its List method is
 * left out; Check and Watch are what probes call.
 */
export function healthDescriptor(): Uint8Array {
  const scope = ".grpc.health.v1.";
  const file = new Descriptor();
  file.text(1, "grpc/health/v1/health.proto").text(2, "grpc.health.v1").text(12, "proto3");
  file.child(4, (message) => {
    message.text(1, "HealthCheckRequest");
    message.child(2, (field) => field.text(1, "service").number(3, 1).number(4, labelOptional).number(5, typeString));
  });
  file.child(4, (message) => {
    message.text(1, "HealthCheckResponse");
    message.child(2, (field) => {
      field.text(1, "status").number(3, 1).number(4, labelOptional).number(5, typeEnum);
      field.text(6, `${scope}HealthCheckResponse.ServingStatus`);
    });
    message.child(4, (status) => {
      status.text(1, "ServingStatus");
      ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].forEach((name, value) => {
        status.child(2, (entry) => entry.text(1, name).number(2, value));
      });
    });
  });
  file.child(6, (service) => {
    service.text(1, "Health");
    for (const name of ["Check", "Watch"]) {
      service.child(2, (method) => {
        method.text(1, name).text(2, `${scope}HealthCheckRequest`).text(3, `${scope}HealthCheckResponse`);
        if (name === "Watch") method.number(6, 1);
      });
    }
  });
  return file.bytes();
}

// google.protobuf.FieldDescriptorProto.Label and .Type
const labelOptional = 1;
const typeString = 9;
const typeEnum = 14;

/** Writes one message of google/protobuf/descriptor.proto, field by field. */
class Descriptor {
  readonly #writer: BinaryWriter;

  constructor(writer = new BinaryWriter()) {
    this.#writer = writer;
  }
  text(field: number, value: string): this {
    this.#writer.uint32((field << 3) | WireType.LengthDelimited).string(value);
    return this;
  }
  number(field: number, value: number): this {
    this.#writer.uint32((field << 3) | WireType.Varint).int32(value);
    return this;
  }
  child(field: number, write: (child: Descriptor) => unknown): this {
    this.#writer.uint32((field << 3) | WireType.LengthDelimited).fork();
    write(new Descriptor(this.#writer));
    this.#writer.join();
    return this;
  }
  bytes(): Uint8Array {
    return this.#writer.finish();
  }
}
