import { readdirSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, systemClock } from "../../../libs/base/index.js";
import { KithError } from "../../../libs/client/index.js";
import { filesBelow, flipByte } from "../../cluster/damage.js";
import { Ballast, noSmallDisk, onSmallDisk } from "../../cluster/small-disk.js";
import { outcomeOf } from "../history.js";
import { pointOf, type Stamp } from "../data.js";
import type { Scenario } from "../scenario.js";
import { expectProgress, untilActive } from "./crashes.js";

export const fullDisk: Scenario = {
  name: "full-disk",
  title: "the disk of a shard node is full for some seconds, then freed",
  rounds: 5,
  missing: () => noSmallDisk(tmpdir()),
  cluster: {
    shardNodes: 2,
    replicas: 2,
    routers: 1,
    prefix: (node, data) => (node === "shard-1" ? onSmallDisk(data, 96) : []),
  },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 2 },
  async round(stage) {
    const { cluster, random, fault } = stage;
    const ballast = new Ballast(cluster.pidOf("shard-1"), cluster.dataOf("shard-1"));
    await expectProgress(stage, 20, "writes before a disk is full");
    ballast.fill();
    fault("disk of a shard node full");
    try {
      await sleep(systemClock, 1_000 + random.below(5_000));
      await expectProgress(stage, 20, "writes beside a node whose disk is full");
    } finally {
      ballast.free();
    }
    await untilActive(stage);
  },
};

/** Enough for the load, so that others fill it. */
const storeBytes = 48 << 20;

export const fullLog: Scenario = {
  name: "full-log",
  title: "the store of NATS is full, then larger: writes are refused, searches go on",
  rounds: 1,
  cluster: { shardNodes: 2, replicas: 2, routers: 1, natsStoreBytes: storeBytes },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 20, writeDeadlineMs: 5_000 },
  async round(stage) {
    const { client, cluster, fault, violate } = stage;
    const ballast = client.collection("ballast");
    await ballast.create({ vectors: { dimension: 2, metric: "l2" }, replicas: 2 });
    const payload = { text: "x".repeat(60_000) };
    let code = "";
    for (let i = 0; i < 400 && code === ""; i++) {
      try {
        const points = Array.from({ length: 10 }, (_, at) => ({ id: i * 10 + at, vector: [1, 1], payload }));
        await ballast.upsert(points, { deadlineMs: 20_000 });
      } catch (error) {
        if (!(error instanceof KithError)) throw error;
        ({ code } = error);
      }
    }
    if (!["DISK_FULL", "RESOURCE_EXHAUSTED"].includes(code)) violate(`a full store of NATS is told as "${code}"`);
    fault("store of NATS full");
    await sleep(systemClock, 5_000);
    await cluster.killNats();
    await cluster.startNats(8 * storeBytes);
    await expectProgress(stage, 20, "until writes go on when there is space");
    await ballast.drop();
  },
};

/** What clients may be told while the disk of NATS is full: it leaves appends without an answer, or refuses them. */
const fullDiskCodes: ReadonlySet<string> = new Set(["LOG_UNAVAILABLE", "DISK_FULL", "RESOURCE_EXHAUSTED"]);

export const fullNatsDisk: Scenario = {
  name: "full-nats-disk",
  title: "the disk of NATS is full, then freed, and NATS started again: writes are refused, searches go on",
  rounds: 5,
  missing: () => noSmallDisk(tmpdir()),
  cluster: { shardNodes: 2, replicas: 2, routers: 1, natsDiskMiB: 192 },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 20 },
  async round(stage) {
    const { cluster, random, fault, history, worst, violate } = stage;
    await expectProgress(stage, 20, "writes before the disk of NATS is full");
    const readsBefore = history.readsOk;
    let refused = 0;
    cluster.natsDisk.fill();
    fault("disk of NATS full");
    // A client that does not try again sees what it is told; the load's clients do until their deadlines.
    const probe = (await cluster.connect({ retry: { attempts: 1 } })).collection<Stamp>("chaos");
    // Longer than nodes are believed without a word of theirs.
    const endMs = systemClock.monotonicMs() + 15_000 + random.below(5_000);
    while (systemClock.monotonicMs() < endMs) {
      const id = 2_000_000_000;
      const startMs = systemClock.monotonicMs();
      const write = history.begin("upsert", [id], { isFresh: false, nowMs: startMs });
      try {
        await probe.upsert([pointOf(id, write.serial)], { deadlineMs: 30_000 });
        history.end(write, "ok", systemClock.monotonicMs());
      } catch (error) {
        if (!(error instanceof KithError)) throw error;
        history.end(write, outcomeOf(error), systemClock.monotonicMs(), error.code);
        fault(`write: ${error.code}`);
        worst("until a write was told of a full disk of NATS, ms", systemClock.monotonicMs() - startMs);
        if (!fullDiskCodes.has(error.code)) violate(`a full disk of NATS is told as "${error.message}"`);
        refused++;
      }
    }
    if (refused === 0) violate("no write was refused while the disk of NATS was full");
    if (history.readsOk - readsBefore < 100) violate("searches did not go on while the disk of NATS was full");
    cluster.natsDisk.free();
    // A stream that could not be written takes nothing more until its nats-server is started again.
    await cluster.killNats();
    await cluster.startNats();
    await expectProgress(stage, 20, "until writes go on when the disk of NATS is freed");
  },
};

const damageable = /(db\/.*(\.ldb|\.log|MANIFEST-.*|CURRENT)|index-[^/]*\/[^/]+)$/;

export const damagedFiles: Scenario = {
  name: "damaged-files",
  title: "flipped bytes and cut ends in files of LevelDB and of indexes: no wrong answer, and all replicas equal again",
  rounds: 200,
  checkEvery: 10,
  cluster: { shardNodes: 2, replicas: 2, routers: 1 },
  shards: 1,
  replicas: 2,
  load: { pauseMs: 20, writers: 2, searchers: 1 },
  async round(stage, round) {
    const { cluster, random, fault } = stage;
    const victim = cluster.shardNodes[round % 2] as string;
    await expectProgress(stage, 5, "writes before files are damaged");
    if (random.float() < 0.5) await cluster.stop(victim);
    else await cluster.kill(victim);
    const folder = join(cluster.dataOf(victim), "replicas");
    const files = filesBelow(folder, damageable).filter((file) => statSync(file).size > 0);
    const file = files[random.below(files.length)];
    if (file === undefined) throw new Error(`no files in ${folder}: ${readdirSync(folder).join(", ")}`);
    const { size } = statSync(file);
    const kind = file.includes("/index-") ? "of an index" : "of LevelDB";
    if (random.float() < 0.7) {
      flipByte(file, random.below(size));
      fault(`flipped byte in a file ${kind}`);
    } else {
      truncateSync(file, random.below(size));
      fault(`cut end of a file ${kind}`);
    }
    await cluster.start(victim);
    await untilActive(stage);
  },
};
