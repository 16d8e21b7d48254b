import { createRequire } from "node:module";
import type { z as Zod } from "zod";

export const roles = ["router", "shard", "coordinator"] as const;
export type Role = (typeof roles)[number];

let schema: ReturnType<typeof makeSchema> | undefined;

/** The settings of a node. Made when a configuration is read: zod and its messages in 50 languages are 6 MiB. */
export function settingsSchema(z: typeof Zod = loadZod()): ReturnType<typeof makeSchema> {
  schema ??= makeSchema(z);
  return schema;
}

export function loadZod(): typeof Zod {
  return (createRequire(import.meta.url)("zod") as { z: typeof Zod }).z;
}

const mib = 1024 * 1024;
/** What cannot be guessed, of letters and digits. */
const adminKeyLength = 32;

function makeSchema(z: typeof Zod) {
  const bytes = z.number().int().min(0);
  const name = z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, "use 1..64 letters, digits, _ and -, beginning with a letter or digit");
  const port = z.number().int().min(0).max(65_535);
  const file = z.string().min(1);

  return z.strictObject({
    cluster: z
      .string()
      .regex(/^[A-Za-z0-9-]{1,32}$/, "use 1..32 letters, digits and -")
      .default("kith")
      .describe("Name of the cluster; part of the names of streams and buckets in NATS."),
    nodeId: name.describe(
      "Id of this process, unique in the cluster and the same after a restart (a StatefulSet's pod name).",
    ),
    roles: z.array(z.enum(roles)).min(1).describe("What this process does: router, shard, coordinator."),
    data: z
      .string()
      .min(1)
      .optional()
      .describe("Folder for LevelDB and index files. Required for the shard role and the embedded log."),
    zone: z
      .string()
      .max(64)
      .default("")
      .describe("Failure domain of this node; replicas of a shard go to different zones."),
    listen: z
      .strictObject({
        host: z.string().min(1).default("127.0.0.1").describe("Address of the public gRPC service (router role)."),
        port: port.default(7700).describe("Its port; 0 picks a free one."),
      })
      .prefault({})
      .describe("Public gRPC service of the router role; port 0 picks a free one."),
    http: z
      .strictObject({
        host: z.string().min(1).default("127.0.0.1").describe("Address of the REST API (router role)."),
        port: port
          .optional()
          .describe("Its port; 0 picks a free one. Without it there is no REST API, and nothing of it is loaded."),
        corsOrigins: z
          .array(z.string().regex(/^\*$|^https?:\/\/[^\s/]+$/, "use origins such as https://example.org, or *"))
          .max(64)
          .default([])
          .describe("Origins of web pages that may call the REST API from browsers. Default: none."),
      })
      .prefault({})
      .describe("REST API of the router role."),
    qdrant: z
      .strictObject({
        host: z.string().min(1).default("127.0.0.1").describe("Address of Qdrant's API (router role)."),
        httpPort: port
          .optional()
          .describe(
            "Port of Qdrant's REST API (6333 there); 0 picks a free one. Without it there is none, and nothing of it is loaded.",
          ),
      })
      .prefault({})
      .describe("Qdrant's API of the router role, for its clients."),
    link: z
      .strictObject({
        host: z.string().min(1).default("127.0.0.1").describe("Address of the link service (shard role), for routers."),
        port: port.default(7710).describe("Its port; 0 picks a free one."),
        advertise: z.string().default("").describe("host:port by which routers reach this node; empty: the bound one."),
        secret: z
          .string()
          .min(adminKeyLength, `use ${adminKeyLength} random characters or more`)
          .optional()
          .describe("Secret of the cluster, by which nodes know each other; better in a file."),
        secretFile: file
          .optional()
          .describe("File with that secret; a second line is for another one that is taken too, while it is changed."),
      })
      .prefault({})
      .describe("Link service of the shard role, for routers."),
    health: z
      .strictObject({
        host: z.string().min(1).default("127.0.0.1").describe("Address of the health service for probes."),
        port: port.describe("Its port; 0 picks a free one."),
      })
      .optional()
      .describe("The health service once more, alone and without TLS, for probes that know none."),
    log: z
      .discriminatedUnion("kind", [
        z.strictObject({ kind: z.literal("embedded") }),
        z.strictObject({
          kind: z.literal("jetstream"),
          url: z
            .string()
            .min(1)
            .describe(
              "NATS URLs, comma-separated; with tls:// the connection has TLS, by tls.ca and this node's certificate.",
            ),
          replicas: z
            .union([z.literal(1), z.literal(3), z.literal(5)])
            .default(1)
            .describe("Copies of each log and of the catalog on the NATS servers."),
          credentials: file.optional().describe("NATS credentials file."),
          monitor: z
            .string()
            .min(1)
            .optional()
            .describe(
              "NATS monitoring URLs (http://host:8222), comma-separated; asked at start whether writes are fsynced.",
            ),
          allowUnsynced: z
            .boolean()
            .default(false)
            .describe("Accept servers that acknowledge before the fsync: a loss of power loses acknowledged writes."),
        }),
      ])
      .default({ kind: "embedded" })
      .describe("Where logs and catalog live: in this process (embedded) or on NATS (jetstream)."),
    tls: z
      .strictObject({
        certificate: file.describe("PEM certificate of both services."),
        key: file.describe("PEM key of the certificate."),
        ca: file
          .optional()
          .describe(
            "Authorities of the nodes' certificates, for the link; default: a self-signed certificate itself, else the system's.",
          ),
        clientCa: file.optional().describe("Clients, and other nodes, must have a certificate signed by it."),
        linkCa: file
          .optional()
          .describe(
            "Other nodes must have a certificate signed by it, which clients cannot get; default: tls.clientCa.",
          ),
      })
      .optional()
      .describe("TLS of both services, PEM files."),
    allowInsecure: z
      .boolean()
      .default(false)
      .describe(
        "Listen beyond loopback without TLS, or without asking who calls. Only where the network itself is protected.",
      ),
    auth: z
      .strictObject({
        required: z
          .boolean()
          .optional()
          .describe("Callers must say who they are. Default: where an admin key, tokens or certificates are set."),
        adminKey: z
          .string()
          .min(adminKeyLength, `use ${adminKeyLength} random characters or more`)
          .optional()
          .describe("Key of the first administrator, to make others with; better in a file."),
        adminKeyFile: file.optional().describe("File with that key."),
        keysStaleMs: z
          .number()
          .int()
          .min(0)
          .max(7 * 24 * 3_600_000)
          .default(900_000)
          .describe(
            "How long a router takes the keys that it knows while the catalog cannot be reached; then none: some may have been revoked.",
          ),
        tokens: z
          .strictObject({
            secretFile: file.optional().describe("File with the secret of JSON Web Tokens that are signed by HS256."),
            keys: z
              .string()
              .min(1)
              .optional()
              .describe("JSON Web Key Set of who signs tokens: an https URL, or a file; read again as keys change."),
            issuer: z.string().min(1).optional().describe("What tokens must have as iss."),
            audience: z
              .string()
              .min(1)
              .optional()
              .describe(
                "What tokens must have in aud. Needed with auth.tokens.keys: who signs may do so for others too.",
              ),
            rolesClaim: z.string().min(1).default("roles").describe("Claim with the role or roles of a token."),
            collectionsClaim: z
              .string()
              .min(1)
              .default("collections")
              .describe("Claim with patterns of collections; a token without it is for all that its roles allow."),
            tenantClaim: z
              .string()
              .min(1)
              .optional()
              .describe("Claim with the tenant, which every token must have then."),
            tenantPath: z
              .string()
              .min(1)
              .optional()
              .describe(
                "Field of the payload that is equal to the claim in all points that the token's caller may see.",
              ),
            clockSkewMs: z
              .number()
              .int()
              .min(0)
              .max(300_000)
              .default(30_000)
              .describe("How far the clocks of who signs and of this node may differ."),
          })
          .optional()
          .describe("JSON Web Tokens."),
        audit: z
          .strictObject({
            file: file.optional().describe("File for a line of JSON about each call: who did what with which outcome."),
            readSample: z
              .number()
              .min(0)
              .max(1)
              .default(0.01)
              .describe("The part of reads that succeed which is kept there; all else is kept."),
            maxBytes: bytes
              .min(64 * 1024)
              .max(16 * 1024 * mib)
              .default(64 * mib)
              .describe("Bytes of one file; a full one is renamed."),
            files: z.number().int().min(1).max(1_000).default(8).describe("Files that are kept."),
          })
          .prefault({})
          .describe("Who did what."),
        certificates: z
          .record(z.string().min(1), z.array(z.string().min(1)).min(1))
          .optional()
          .describe(
            "Roles of clients by the common name of their certificates (with tls.clientCa); in the file alone.",
          ),
      })
      .prefault({})
      .describe("Who may call the public service; see docs/security.md."),
    replicationFactor: z
      .number()
      .int()
      .min(1)
      .max(7)
      .default(1)
      .describe("Replicas of a collection that asks for none."),
    searchThreads: z
      .number()
      .int()
      .min(0)
      .max(256)
      .default(0)
      .describe("Native search threads; 0: one per available core."),
    leveldb: z
      .strictObject({
        writeBufferBytes: bytes
          .min(1 * mib)
          .max(1024 * mib)
          .default(32 * mib)
          .describe(
            "Memory of each replica's LevelDB, and of the embedded log's, for what is not in a table on the disk yet; up to twice as much while one is written out.",
          ),
        cacheBytes: bytes
          .min(256 * 1024)
          .max(64 * 1024 * mib)
          .default(8 * mib)
          .describe("Memory of each replica's LevelDB for blocks of tables that were read."),
      })
      .prefault({})
      .describe("LevelDB's shares of the memory."),
    payloadCacheBytes: bytes
      .max(64 * 1024 * mib)
      .default(32 * mib)
      .describe("Memory of each replica for payloads that were read."),
    backup: z
      .strictObject({
        folder: z
          .string()
          .min(1)
          .optional()
          .describe(
            "Folder for backups, the same for all nodes. Default with an embedded log: backups in the data folder.",
          ),
        s3: z
          .strictObject({
            bucket: z.string().min(1).max(255).describe("Bucket of an S3-compatible store for backups."),
            prefix: z
              .string()
              .regex(
                /^$|^[A-Za-z0-9_][A-Za-z0-9_./-]*[A-Za-z0-9_.-]$|^[A-Za-z0-9_]$/,
                "use steps of letters, digits, _, - and .",
              )
              .default("")
              .describe("Folder in the bucket."),
            region: z.string().min(1).default("us-east-1").describe("Region of the bucket."),
            endpoint: z.url().optional().describe("URL of the store; default: Amazon's of the region."),
            pathStyle: z
              .boolean()
              .default(false)
              .describe("The bucket stands in the path of URLs, as most stores other than Amazon's want it."),
            accessKeyId: z.string().min(1).describe("Access key of the store."),
            secretAccessKeyFile: file.describe("File with the secret of the access key."),
          })
          .optional()
          .describe("Object store for backups."),
      })
      .prefault({})
      .describe("Where backups are."),
    logLevel: z.enum(["debug", "info", "warn", "error"]).default("info").describe("Least severe level that is logged."),
    traceSample: z
      .number()
      .min(0)
      .max(1)
      .optional()
      .describe("The part of the traces beginning here that is recorded; default: what OTEL_TRACES_SAMPLER says."),
    slowQueryMs: z
      .number()
      .int()
      .min(0)
      .max(600_000)
      .default(500)
      .describe("Queries that take so long in a router are kept for `kith cluster slow`; 0: none."),
    drainTimeoutMs: z
      .number()
      .int()
      .min(0)
      .max(600_000)
      .default(10_000)
      .describe("How long calls in flight may take at shutdown."),
    drainOnStopMs: z
      .number()
      .int()
      .min(0)
      .max(24 * 3_600_000)
      .default(0)
      .describe(
        "How long a shard node that is told to end moves its replicas to others first: for pods that are scaled in; 0: not at all.",
      ),
    waitForShards: z
      .boolean()
      .default(false)
      .describe(
        "A router without the shard role is not ready, and coordinates nothing, while a shard node that is up runs an older release: updates then go in the right order by themselves.",
      ),
    kubernetes: z
      .strictObject({
        statefulSet: name
          .optional()
          .describe(
            "StatefulSet whose pod this node is; it then drains itself at its end (`drainOnStopMs`) only where the StatefulSet is to have fewer pods, not where the pod is replaced.",
          ),
        nodeName: z
          .string()
          .min(1)
          .max(253)
          .optional()
          .describe(
            "Machine on which this pod runs; the node's zone is then the label topology.kubernetes.io/zone of the machine.",
          ),
        serviceAccount: z
          .string()
          .min(1)
          .default("/var/run/secrets/kubernetes.io/serviceaccount")
          .describe("Folder with the token, namespace and ca.crt by which Kubernetes is asked."),
      })
      .prefault({})
      .describe("What this node asks Kubernetes, as a pod."),
  });
}

/** The configuration of a node, checked and complete. */
export type NodeConfig = Zod.output<ReturnType<typeof makeSchema>>;
