import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

// google.protobuf.FieldDescriptorProto.Label and .Type
export const labelOptional = 1;
export const labelRepeated = 3;
export const fieldType = { int64: 3, int32: 5, text: 9, message: 11, enumeration: 14 } as const;

/** Writes one message of google/protobuf/descriptor.proto, field by field. */
export class Descriptor {
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
