import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { loadNodeConfig } from "../../../libs/config/index.js";
import { silentLogger } from "../../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../node/index.js";
import { run } from "../run.js";
import { testIo } from "./io.js";

export interface ServedNode {
  /** Of the data, and where programs run. */
  readonly folder: string;
  readonly node: RunningNode;
  /** Of programs: the address of the node, and a folder of their own for what they keep. */
  readonly env: Record<string, string>;
  /** Runs the program against the node. */
  readonly kith: (
    args: string[],
    over?: Parameters<typeof testIo>[0],
  ) => Promise<{ code: Awaited<ReturnType<typeof run>>; out: string; err: string }>;
}

/** A node of all roles for the tests of one file. */
export function useNode(): ServedNode {
  let folder = "";
  let node: RunningNode | undefined;
  const envOf = (): Record<string, string> => ({
    KITH_TARGET: running().address,
    KITH_STATE_DIR: join(folder, "kith-state"),
  });
  const running = (): RunningNode => {
    if (node === undefined) throw new Error("the node is not started yet");
    return node;
  };
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "kith-cli-"));
    const flags = {
      nodeId: "test",
      roles: ["router", "shard", "coordinator"],
      data: join(folder, "data"),
      listen: { port: 0 },
    };
    node = await startNode(loadNodeConfig({ flags }), { version: "test", logger: () => silentLogger });
  });
  afterAll(async () => {
    await node?.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    get folder() {
      return folder;
    },
    get node() {
      return running();
    },
    get env() {
      return envOf();
    },
    kith: async (args, over = {}) => {
      const io = testIo({ cwd: folder, env: envOf(), ...over });
      const code = await run(args, io);
      return { code, out: io.out(), err: io.err() };
    },
  };
}
