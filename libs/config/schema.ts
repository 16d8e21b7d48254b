import * as v from "valibot";
import { auth } from "./auth.js";
import { backup, encryption, leveldb } from "./disk.js";
import { health, http, link, listen, qdrant, tls } from "./doors.js";
import { kubernetes } from "./kubernetes.js";
import { log, standby } from "./log.js";
import { bytes, clusterName, mib, name } from "./values.js";

export const roles = ["router", "shard", "coordinator"] as const;
export type Role = (typeof roles)[number];

/** The settings of a node. Of valibot: 2 MiB of each process, where zod took 12. */
export const settingsSchema = v.strictObject({
  cluster: v.optional(
    v.pipe(clusterName, v.description("Name of the cluster; part of the names of streams and buckets in NATS.")),
    "kith",
  ),
  nodeId: v.pipe(
    name,
    v.description("Id of this process, unique in the cluster and the same after a restart (a StatefulSet's pod name)."),
  ),
  roles: v.pipe(
    v.array(v.picklist(roles)),
    v.minLength(1),
    v.description("What this process does: router, shard, coordinator."),
  ),
  data: v.optional(
    v.pipe(
      v.string(),
      v.minLength(1),
      v.description("Folder for LevelDB and index files. Required for the shard role and the embedded log."),
    ),
  ),
  zone: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(64),
      v.description("Failure domain of this node; replicas of a shard go to different zones."),
    ),
    "",
  ),
  listen,
  http,
  qdrant,
  link,
  health,
  log,
  tls,
  allowInsecure: v.optional(
    v.pipe(
      v.boolean(),
      v.description(
        "Listen beyond loopback without TLS, or without asking who calls. Only where the network itself is protected.",
      ),
    ),
    false,
  ),
  auth,
  encryption,
  replicationFactor: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(1),
      v.maxValue(7),
      v.description("Replicas of a collection that asks for none."),
    ),
    1,
  ),
  searchThreads: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(256),
      v.description("Native search threads; 0: one per available core."),
    ),
    0,
  ),
  leveldb,
  payloadCacheBytes: v.optional(
    v.pipe(bytes, v.maxValue(64 * 1024 * mib), v.description("Memory of each replica for payloads that were read.")),
    32 * mib,
  ),
  answerCacheBytes: v.optional(
    v.pipe(
      bytes,
      v.maxValue(64 * 1024 * mib),
      v.description(
        "Memory of each replica for answers to reads, given again as long as nothing is written to the shard; 0: none are kept.",
      ),
    ),
    0,
  ),
  backup,
  logLevel: v.optional(
    v.pipe(v.picklist(["debug", "info", "warn", "error"]), v.description("Least severe level that is logged.")),
    "info",
  ),
  traceSample: v.optional(
    v.pipe(
      v.number(),
      v.minValue(0),
      v.maxValue(1),
      v.description("The part of the traces beginning here that is recorded; default: what OTEL_TRACES_SAMPLER says."),
    ),
  ),
  slowQueryMs: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(600_000),
      v.description("Queries that take so long in a router are kept for `kith cluster slow`; 0: none."),
    ),
    500,
  ),
  drainTimeoutMs: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(600_000),
      v.description("How long calls in flight may take at shutdown."),
    ),
    10_000,
  ),
  drainOnStopMs: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(24 * 3_600_000),
      v.description(
        "How long a shard node that is told to end moves its replicas to others first: for pods that are scaled in; 0: not at all.",
      ),
    ),
    0,
  ),
  standby,
  waitForShards: v.optional(
    v.pipe(
      v.boolean(),
      v.description(
        "A router without the shard role is not ready, and coordinates nothing, while a shard node that is up runs an older release: updates then go in the right order by themselves.",
      ),
    ),
    false,
  ),
  kubernetes,
});

/** The configuration of a node, checked and complete. */
export type NodeConfig = v.InferOutput<typeof settingsSchema>;
