import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import { KithError } from "../../libs/base/index.js";
import { createOptionsOf, namedSparse, namedVector } from "./commands/create-options.js";
import { exitCode, ExitError, reportOf, UsageError } from "./failure.js";
import { readableLine } from "./local/log-lines.js";
import { formatTable } from "./table.js";
import { escapeControls } from "./cells.js";
import { formatBytes, formatDuration, Output, toJson } from "./output.js";
import { showId } from "./commands/points.js";
import { testIo } from "./testing/io.js";
import { duration, keyValue, parseId, parseVector, whole } from "./values.js";

describe("values of options", () => {
  it("ids keep their kind from the command line to the output and back", () => {
    const ids = [
      0,
      42,
      9007199254740991,
      18446744073709551615n,
      "user-7",
      "42",
      "7d444840-9dc0-11d1-b245-5ffdce74fad2",
      'a "b"',
    ];
    for (const id of ids) expect(parseId(showId(id))).toEqual(id);
    expect(() => parseId("18446744073709551616")).toThrow("quote it");
    expect(() => parseId('"open')).toThrow("not a JSON string");
  });

  it("vectors come as JSON, as numbers with commas, from a file and from standard input", async () => {
    const expected = Float32Array.of(1, -2.5, 3e-3);
    for (const text of ["[1, -2.5, 3e-3]", "1,-2.5,3e-3"]) expect(await parseVector(text, testIo())).toEqual(expected);
    expect(await parseVector("@-", testIo({ input: "[1, -2.5,\n 3e-3]\n" }))).toEqual(expected);
    await expect(parseVector("[1, null]", testIo())).rejects.toBeInstanceOf(UsageError);
    await expect(parseVector("[]", testIo())).rejects.toBeInstanceOf(UsageError);
    await expect(parseVector("one", testIo())).rejects.toThrow("not a vector");
    await expect(parseVector("@/no/such/file", testIo())).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("numbers, times and labels are checked", () => {
    expect(whole(1, 10)("7")).toBe(7);
    for (const text of ["0", "11", "1.5", "x", "", "-1"])
      expect(() => whole(1, 10)(text)).toThrow(InvalidArgumentError);
    expect([duration("500ms"), duration("30s"), duration("5m"), duration("2")]).toEqual([500, 30_000, 300_000, 2_000]);
    for (const text of ["0", "-1s", "1d", "soon", ""]) expect(() => duration(text)).toThrow(InvalidArgumentError);
    expect(keyValue("b=2=3", keyValue("a=1", undefined))).toEqual({ a: "1", b: "2=3" });
    expect(() => keyValue("=x", undefined)).toThrow(InvalidArgumentError);
  });

  it("describe a collection", () => {
    expect(createOptionsOf({ metric: "l2", shards: 2, links: 32 }, 128)).toEqual({
      vectors: { dimension: 128, metric: "l2", m: 32 },
      shards: 2,
    });
    const vector = namedVector("image:512:dot:i8", namedVector("title:384", undefined));
    expect(createOptionsOf({ vector }).vectors).toEqual({
      title: { dimension: 384 },
      image: { dimension: 512, metric: "dot", datatype: "i8" },
    });
    expect(() => createOptionsOf({})).toThrow("--dimension");
    const sparse = namedSparse("rare:idf", namedSparse("plain", undefined));
    expect(createOptionsOf({ sparse })).toEqual({ sparse: { plain: {}, rare: { modifier: "idf" } } });
    for (const text of ["", ":idf", "a:bm25", "a:idf:x"]) {
      expect(() => namedSparse(text, undefined)).toThrow(InvalidArgumentError);
    }
    expect(() => createOptionsOf({ vector, metric: "l2" })).toThrow("leave out");
    for (const text of ["a", "a:x", "a:1:nope", ":1", "a:1:l2:f32:x"]) {
      expect(() => namedVector(text, undefined)).toThrow(InvalidArgumentError);
    }
  });
});

describe("errors", () => {
  const at = (error: unknown, verbose = false) => reportOf(error, { verbose, interrupted: false, target: "host:1" });

  it("have the exit code of their kind", () => {
    expect(at(new KithError("COLLECTION_NOT_FOUND", "no")).exitCode).toBe(exitCode.notFound);
    expect(at(new KithError("SHARD_UNAVAILABLE", "no")).exitCode).toBe(exitCode.unavailable);
    expect(at(new KithError("DEADLINE_EXCEEDED", "no")).exitCode).toBe(exitCode.unavailable);
    expect(at(new KithError("INVALID_CONFIG", "no")).exitCode).toBe(exitCode.usage);
    expect(at(new KithError("DIMENSION_MISMATCH", "no")).exitCode).toBe(exitCode.failure);
    expect(at(new UsageError("no")).exitCode).toBe(exitCode.usage);
    expect(at(new ExitError(3))).toEqual({ exitCode: 3, text: "" });
    expect(at(new TypeError("no")).exitCode).toBe(exitCode.failure);
    const cancelled = new KithError("CANCELLED", "no");
    expect(reportOf(cancelled, { verbose: false, interrupted: true }).exitCode).toBe(exitCode.interrupted);
  });

  it("are one line with the code and a remedy; details and stack only with --verbose", () => {
    const error = new KithError("SHARD_UNAVAILABLE", "nothing\n answers", {
      details: { shard: 3 },
      cause: new Error("refused"),
    });
    expect(at(error).text).toBe(
      'error: nothing | answers [SHARD_UNAVAILABLE]\nIs Kith running at host:1? Start one with "kith dev", or name another with --target or KITH_TARGET.\n',
    );
    expect(at(error, true).text).toContain("shard: 3");
    expect(at(error, true).text).toContain("caused by: refused");
    expect(at(new TypeError("oops")).text).not.toContain("    at ");
    expect(at(new TypeError("oops"), true).text).toContain("    at ");
  });
});

describe("output", () => {
  it("tables are plain columns, numbers to the right", () => {
    const text = formatTable(
      ["NAME", "POINTS"],
      [
        ["a", 5],
        ["longer", 12_345],
      ],
    );
    expect(text.split("\n")).toEqual(["NAME    POINTS", "a            5", "longer   12345"]);
  });

  it("stored text cannot control the terminal", () => {
    expect(escapeControls("a\u001b[31mb\u0007\nc")).toBe("a\\x1b[31mb\\x07 c");
    expect(formatTable(["X"], [["\u001b[2J"]])).not.toContain("\u001b");
  });

  it("colours only a terminal", () => {
    const paint = (stdoutIsTerminal: boolean, colour: boolean) =>
      new Output(testIo({ stdoutIsTerminal }), { json: false, colour }).paint("red", "x");
    expect([paint(true, true), paint(true, false), paint(false, true)]).toEqual(["\u001b[31mx\u001b[39m", "x", "x"]);
  });

  it("JSON holds bigint ids and vectors", () => {
    expect(toJson({ id: 2n ** 60n, vector: Float32Array.of(1, 0.5) })).toBe(
      '{"id":"1152921504606846976","vector":[1,0.5]}',
    );
  });

  it("sizes and times are readable", () => {
    expect([0, 1023, 1536, 5 * 1024 ** 3].map(formatBytes)).toEqual(["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    expect([0.25, 2.34, 250, 1500, 125_000, 7_200_000].map(formatDuration)).toEqual([
      "250 µs",
      "2.3 ms",
      "250 ms",
      "1.5 s",
      "2 min 5 s",
      "2 h 0 min",
    ]);
  });

  it("log lines of children become readable", () => {
    expect(readableLine('{"level":"warn","time":"t","node":"n","msg":"slow","ms":12}')).toBe("warn  slow ms=12");
    expect(readableLine("plain \u001btext")).toBe("plain \\x1btext");
    expect(readableLine("{not json")).toBe("{not json");
  });
});
