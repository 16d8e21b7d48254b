/**
 * Generates libs/wire/gen from proto/ (buf + ts-proto), then fits eight spots of the generated code to this project:
 *
 * 1. `repeated float` is a Float32Array, read as bytes: packed floats are little-endian f32 on the wire already, so
 *    building a number[] of a 768-d vector would cost 768 boxed pushes for nothing. Unpacked and split encodings,
 *    which the specification allows, are still read.
 * 2. PointId.num is a bigint, so that all of u64 is representable.
 * 3. u64 fields that are counters become numbers without a detour over decimal text.
 * 4. The request ids of streams, which clients choose, are numbers where a double holds them, else bigints; and so are
 *    the integers of filters.
 * 5. Maps have no prototype: their keys are names that users choose, such as `__proto__` and `constructor`.
 * 6. google.protobuf.Struct stays bytes: struct.ts makes JSON text of it and back, with all digits and without recursion that the sender chooses.
 * 7. Text that is not UTF-8 is refused, where it would become U+FFFD: two ids would be one. INVALID_ID where it is an id.
 * 8. What serializers of gRPC give is the message as it was encoded, not a copy of it.
 *
 * Each replacement says how often it must apply; another count means that ts-proto's output changed, and fails the build.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const gen = join(root, "libs", "wire", "gen");
const bin = join(root, "node_modules", ".bin");

function protoFiles(directory) {
  return readdirSync(directory, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".proto"))
    .sort()
    .map((name) => join(directory, name));
}

function fingerprint() {
  const hash = createHash("sha256");
  const inputs = [...protoFiles(join(root, "proto")), join(root, "buf.gen.yaml"), fileURLToPath(import.meta.url)];
  inputs.push(join(root, "node_modules", "ts-proto", "package.json"));
  for (const file of inputs) hash.update(file.slice(root.length)).update("\0").update(readFileSync(file)).update("\0");
  return hash.digest("hex");
}

function replace(text, file, what, to, count) {
  const parts = text.split(what);
  if (parts.length - 1 !== count) {
    throw new Error(
      `${file}: expected ${count} × ${JSON.stringify(what)}, found ${parts.length - 1}: ts-proto's output changed`,
    );
  }
  return parts.join(to);
}

/** Makes the `repeated float` field `name`, whose tag number is `number`, a Float32Array within one message's code. */
function floats(text, file, message, name, number) {
  const packed = (number << 3) | 2;
  const unpacked = (number << 3) | 5;
  const start = text.indexOf(`export const ${message}: MessageFns<${message}>`);
  const end = text.indexOf("\n};\n", start);
  if (start < 0 || end < 0) throw new Error(`${file}: no message ${message}`);
  let body = text.slice(start, end);
  const loop = new RegExp(
    `if \\(tag === ${unpacked}\\) \\{\\s+message\\.${name}\\.push\\(reader\\.float\\(\\)\\);\\s+continue;\\s+\\}\\s+` +
      `if \\(tag === ${packed}\\) \\{\\s+const end2 = reader\\.uint32\\(\\) \\+ reader\\.pos;\\s+while \\(reader\\.pos < end2\\) \\{\\s+` +
      `message\\.${name}\\.push\\(reader\\.float\\(\\)\\);\\s+\\}\\s+continue;\\s+\\}`,
  );
  if (!loop.test(body)) throw new Error(`${file}: no decoder of ${message}.${name}: ts-proto's output changed`);
  body = body.replace(
    loop,
    `if (tag === ${packed}) { message.${name} = appendFloats(message.${name}, reader.bytes()); continue; }\n` +
      `            if (tag === ${unpacked}) { message.${name} = appendFloat(message.${name}, reader.float()); continue; }`,
  );
  const encode = new RegExp(
    `writer\\.uint32\\(${packed}\\)\\.fork\\(\\);\\s+for \\(const v of message\\.${name}\\) \\{\\s+writer\\.float\\(v\\);\\s+\\}\\s+writer\\.join\\(\\);`,
  );
  if (!encode.test(body)) throw new Error(`${file}: no encoder of ${message}.${name}: ts-proto's output changed`);
  body = body.replace(encode, `writer.uint32(${packed}).bytes(floatsToBytes(message.${name}));`);
  body = replace(
    body,
    file,
    `message.${name} = object.${name}?.map((e) => e) || [];`,
    `message.${name} = object.${name} === undefined ? emptyFloats : Float32Array.from(object.${name} as ArrayLike<number>);`,
    1,
  );
  text = text.slice(0, start) + body + text.slice(end);
  text = replace(text, file, `\n  ${name}: number[];`, `\n  ${name}: Float32Array;`, 1);
  const base = text.indexOf(`function createBase${message}(): ${message}`);
  const baseEnd = text.indexOf("\n}", base);
  text =
    text.slice(0, base) +
    replace(text.slice(base, baseEnd), file, `${name}: []`, `${name}: emptyFloats`, 1) +
    text.slice(baseEnd);
  return text;
}

/** Makes the fields `payloadStruct`, of these numbers in order, the bytes of their Struct. */
function structs(text, file, numbers) {
  const type = "\n  payloadStruct?: { [key: string]: any } | undefined;";
  text = replace(text, file, type, "\n  payloadStruct?: Uint8Array | undefined;", numbers.length);
  const decode = "message.payloadStruct = Struct.unwrap(Struct.decode(reader, reader.uint32()));";
  text = replace(text, file, decode, "message.payloadStruct = reader.bytes();", numbers.length);
  for (const number of new Set(numbers)) {
    const tag = (number << 3) | 2;
    const encode = `Struct.encode(Struct.wrap(message.payloadStruct), writer.uint32(${tag}).fork()).join();`;
    const count = numbers.filter((each) => each === number).length;
    text = replace(text, file, encode, `writer.uint32(${tag}).bytes(message.payloadStruct);`, count);
  }
  return replace(text, file, 'import { Struct } from "../../google/protobuf/struct.js";\n', "", 1);
}

function patch(file, change) {
  const path = join(gen, file);
  writeFileSync(path, change(readFileSync(path, "utf8"), file));
}

/** Gives every map that decoders and fromPartial() make no prototype. */
function maps(text, file) {
  const fields = text.split(/\n  \w+: \{ \[key: \w+\]: /).length - 1;
  const bare = "globalThis.Object.create(null)";
  let bases = 0;
  text = text.replace(/function createBase\w+\(\): \w+ \{\n  return \{[^;]*\};\n\}/g, (body) =>
    body.replace(/(\w+): \{\}/g, (_, name) => (bases++, `${name}: ${bare}`)),
  );
  if (bases !== fields) throw new Error(`${file}: ${fields} maps, but ${bases} empty ones: ts-proto's output changed`);
  return replace(text, file, "\n      {},\n    );", `\n      ${bare},\n    );`, fields);
}

/** Lets the serializers of a service give what was encoded. */
function serializers(text, file) {
  const count = text.split(/(?:request|response)Serialize: /).length - 1;
  if (count === 0) return text;
  let found = 0;
  let changed = text.replace(
    /Buffer\.from\((\w+)\.encode\(value\)\.finish\(\)\)/g,
    (_, message) => (found++, `asBuffer(${message}.encode(value).finish())`),
  );
  // Of those with many points, each point is written once.
  for (const message of file === "kith/v1/points.ts" ? ["GetPointsResponse", "ScrollResponse"] : []) {
    const whole = `asBuffer(${message}.encode(value).finish())`;
    const points = `pointsBuffer(value.points, Point, () => ${message}.encode({ ...value, points: [] }).finish())`;
    changed = replace(changed, file, `Buffer => ${whole}`, `Buffer => ${points}`, 1);
  }
  if (found !== count) throw new Error(`${file}: ${count} serializers, but ${found} copies: ts-proto's output changed`);
  const up = "../".repeat(file.split("/").length);
  return changed.replace(
    "import { BinaryReader, BinaryWriter }",
    `import { asBuffer${changed.includes("pointsBuffer(") ? ", pointsBuffer" : ""} } from "${up}buffer.js";\nimport { BinaryReader, BinaryWriter }`,
  );
}

/** One module that re-exports the messages of several; every generated file also exports the same helpers, left out here. */
function barrel(name, modules) {
  const helpers = new Set(["DeepPartial", "Exact", "MessageFns", "protobufFileName", "protobufPackage"]);
  const lines = modules.map((module) => {
    const text = readFileSync(join(gen, `${module}.ts`), "utf8");
    const values = new Set([...text.matchAll(/^export (?:const|enum|function) (\w+)/gm)].map((match) => match[1]));
    const types = new Set([...text.matchAll(/^export (?:interface|type) (\w+)/gm)].map((match) => match[1]));
    const names = [...values, ...[...types].filter((type) => !values.has(type)).map((type) => `type ${type}`)];
    const kept = names.filter((each) => !helpers.has(each.replace("type ", "")));
    return `export { ${kept.sort().join(", ")} } from "./${module}.js";`;
  });
  writeFileSync(join(gen, name), `${lines.join("\n")}\n`);
}

const importFloats =
  'import { appendFloat, appendFloats, emptyFloats, floatsToBytes } from "../../../floats.js";\nimport { BinaryReader, BinaryWriter }';

const importInt64 = 'import { readInt64 } from "../../../int64.js";';
const importName = 'import { readName } from "../../../point-name.js";';
const importRequestId = 'import { readRequestId } from "../../../request-id.js";';

function main() {
  const stamp = join(gen, ".fingerprint");
  const want = fingerprint();
  try {
    if (statSync(stamp).isFile() && readFileSync(stamp, "utf8") === want) return;
  } catch {
    console.log("generating libs/wire/gen from proto/");
  }
  rmSync(gen, { recursive: true, force: true });
  mkdirSync(gen, { recursive: true });
  const path = `${bin}${process.platform === "win32" ? ";" : ":"}${process.env.PATH}`;
  const run = (args) => {
    const result = spawnSync(join(bin, "buf"), args, {
      cwd: root,
      stdio: "inherit",
      env: { ...process.env, PATH: path },
    });
    if (result.status !== 0)
      throw new Error(`buf ${args.join(" ")} failed: ${result.error?.message ?? `exit code ${result.status}`}`);
  };
  // Qdrant's messages are read and written by their descriptors: code for 280 of them would be as much as for all of ours.
  const qdrant = join("proto", "qdrant");
  run(["generate", "--exclude-path", qdrant]);
  run(["build", "--exclude-path", qdrant, "-o", join("libs", "wire", "gen", "descriptors.binpb")]);
  run(["build", "--path", qdrant, "--exclude-source-info", "-o", join("libs", "wire", "gen", "qdrant.binpb")]);
  patch("kith/v1/common.ts", (text, file) => {
    text = floats(text, file, "Vector", "values", 1);
    text = replace(text, file, '{ $case: "num"; value: number }', '{ $case: "num"; value: bigint }', 1);
    text = replace(
      text,
      file,
      '{ $case: "num", value: longToNumber(reader.uint64()) }',
      '{ $case: "num", value: BigInt(reader.uint64()) }',
      1,
    );
    text = replace(
      text,
      file,
      '{ $case: "name", value: reader.string() }',
      '{ $case: "name", value: readName(reader) }',
      1,
    );
    return replace(text, file, "import { BinaryReader, BinaryWriter }", `${importName}\n${importFloats}`, 1);
  });
  patch("kith/v1/points.ts", (text, file) => {
    text = floats(text, file, "QueryRequest", "vector", 2);
    text = structs(text, file, [5, 7, 6, 5]);
    text = replace(text, file, "\n  requestId: number;", "\n  requestId: number | bigint;", 4);
    text = replace(
      text,
      file,
      "message.requestId = longToNumber(reader.uint64())",
      "message.requestId = readRequestId(reader)",
      4,
    );
    return replace(text, file, "import { BinaryReader, BinaryWriter }", `${importRequestId}\n${importFloats}`, 1);
  });
  patch("kith/v1/filter.ts", (text, file) => {
    text = replace(text, file, "longToNumber(reader.int64())", "readInt64(reader)", 8);
    text = replace(
      text,
      file,
      '{ $case: "integer"; value: number }',
      '{ $case: "integer"; value: number | bigint }',
      2,
    );
    text = replace(text, file, "\n  values: number[];", "\n  values: (number | bigint)[];", 1);
    for (const name of ["gtUs", "gteUs", "ltUs", "lteUs"]) {
      text = replace(text, file, `\n  ${name}?: number | undefined;`, `\n  ${name}?: number | bigint | undefined;`, 1);
    }
    return replace(
      text,
      file,
      "import { BinaryReader, BinaryWriter }",
      `${importInt64}\nimport { BinaryReader, BinaryWriter }`,
      1,
    );
  });
  for (const name of readdirSync(gen, { recursive: true }).map(String)) {
    if (!name.endsWith(".ts")) continue;
    patch(name, (text, file) =>
      maps(
        serializers(text, file)
          .replaceAll("globalThis.Number(int64.toString())", "globalThis.Number(int64)")
          .replaceAll("reader.string()", "reader.string(true)"),
        file,
      ),
    );
  }
  barrel("pb.ts", [
    "kith/v1/backup",
    "kith/v1/cluster",
    "kith/v1/collections",
    "kith/v1/common",
    "kith/v1/filter",
    "kith/v1/keys",
    "kith/v1/points",
    "kith/v1/sparse",
    "kith/v1/query",
    "kith/v1/text",
    "kith/v1/watch",
  ]);
  barrel("internal-pb.ts", [
    "kith/internal/v1/backup",
    "kith/internal/v1/link",
    "kith/internal/v1/record",
    "kith/internal/v1/snapshot",
  ]);
  writeFileSync(`${stamp}.tmp`, want);
  renameSync(`${stamp}.tmp`, stamp);
}

main();
