import * as v from "valibot";

export const roles = ["router", "shard", "coordinator"] as const;
export type Role = (typeof roles)[number];

const mib = 1024 * 1024;
/** What cannot be guessed, of letters and digits. */
const adminKeyLength = 32;

const bytes = v.pipe(v.number(), v.integer(), v.minValue(0));
const name = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, "use 1..64 letters, digits, _ and -, beginning with a letter or digit"),
);
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
const file = v.pipe(v.string(), v.minLength(1));

/** The settings of a node. Of valibot: 2 MiB of each process, where zod took 12. */
export const settingsSchema = v.strictObject({
  cluster: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[A-Za-z0-9-]{1,32}$/, "use 1..32 letters, digits and -"),
      v.description("Name of the cluster; part of the names of streams and buckets in NATS."),
    ),
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
  listen: v.optional(
    v.pipe(
      v.strictObject({
        host: v.optional(
          v.pipe(v.string(), v.minLength(1), v.description("Address of the public gRPC service (router role).")),
          "127.0.0.1",
        ),
        port: v.optional(v.pipe(port, v.description("Its port; 0 picks a free one.")), 7700),
      }),
      v.description("Public gRPC service of the router role; port 0 picks a free one."),
    ),
    {},
  ),
  http: v.optional(
    v.pipe(
      v.strictObject({
        host: v.optional(
          v.pipe(v.string(), v.minLength(1), v.description("Address of the REST API (router role).")),
          "127.0.0.1",
        ),
        port: v.optional(
          v.pipe(
            port,
            v.description(
              "Its port; 0 picks a free one. Without it there is no REST API, and nothing of it is loaded.",
            ),
          ),
        ),
        corsOrigins: v.optional(
          v.pipe(
            v.array(
              v.pipe(v.string(), v.regex(/^\*$|^https?:\/\/[^\s/]+$/, "use origins such as https://example.org, or *")),
            ),
            v.maxLength(64),
            v.description("Origins of web pages that may call the REST API from browsers. Default: none."),
          ),
          [],
        ),
      }),
      v.description("REST API of the router role."),
    ),
    {},
  ),
  qdrant: v.optional(
    v.pipe(
      v.strictObject({
        host: v.optional(
          v.pipe(v.string(), v.minLength(1), v.description("Address of Qdrant's API (router role).")),
          "127.0.0.1",
        ),
        httpPort: v.optional(
          v.pipe(
            port,
            v.description(
              "Port of Qdrant's REST API (6333 there); 0 picks a free one. Without it there is none, and nothing of it is loaded.",
            ),
          ),
        ),
        grpcPort: v.optional(
          v.pipe(
            port,
            v.description(
              "Port of Qdrant's gRPC services (6334 there); 0 picks a free one. Without it there are none.",
            ),
          ),
        ),
      }),
      v.description("Qdrant's API of the router role, for its clients."),
    ),
    {},
  ),
  link: v.optional(
    v.pipe(
      v.strictObject({
        host: v.optional(
          v.pipe(v.string(), v.minLength(1), v.description("Address of the link service (shard role), for routers.")),
          "127.0.0.1",
        ),
        port: v.optional(v.pipe(port, v.description("Its port; 0 picks a free one.")), 7710),
        advertise: v.optional(
          v.pipe(v.string(), v.description("host:port by which routers reach this node; empty: the bound one.")),
          "",
        ),
        secret: v.optional(
          v.pipe(
            v.string(),
            v.minLength(adminKeyLength, `use ${adminKeyLength} random characters or more`),
            v.description("Secret of the cluster, by which nodes know each other; better in a file."),
          ),
        ),
        secretFile: v.optional(
          v.pipe(
            file,
            v.description(
              "File with that secret; a second line is for another one that is taken too, while it is changed.",
            ),
          ),
        ),
      }),
      v.description("Link service of the shard role, for routers."),
    ),
    {},
  ),
  health: v.optional(
    v.pipe(
      v.strictObject({
        host: v.optional(
          v.pipe(v.string(), v.minLength(1), v.description("Address of the health service for probes.")),
          "127.0.0.1",
        ),
        port: v.pipe(port, v.description("Its port; 0 picks a free one.")),
      }),
      v.description("The health service once more, alone and without TLS, for probes that know none."),
    ),
  ),
  log: v.optional(
    v.pipe(
      v.variant("kind", [
        v.strictObject({ kind: v.literal("embedded") }),
        v.strictObject({
          kind: v.literal("jetstream"),
          url: v.pipe(
            v.string(),
            v.minLength(1),
            v.description(
              "NATS URLs, comma-separated; with tls:// the connection has TLS, by tls.ca and this node's certificate.",
            ),
          ),
          replicas: v.optional(
            v.pipe(v.picklist([1, 3, 5]), v.description("Copies of each log and of the catalog on the NATS servers.")),
            1,
          ),
          credentials: v.optional(v.pipe(file, v.description("NATS credentials file."))),
          monitor: v.optional(
            v.pipe(
              v.string(),
              v.minLength(1),
              v.description(
                "NATS monitoring URLs (http://host:8222), comma-separated; asked at start whether writes are fsynced.",
              ),
            ),
          ),
          allowUnsynced: v.optional(
            v.pipe(
              v.boolean(),
              v.description(
                "Accept servers that acknowledge before the fsync: a loss of power loses acknowledged writes.",
              ),
            ),
            false,
          ),
        }),
      ]),
      v.description("Where logs and catalog live: in this process (embedded) or on NATS (jetstream)."),
    ),
    { kind: "embedded" },
  ),
  tls: v.optional(
    v.pipe(
      v.strictObject({
        certificate: v.pipe(file, v.description("PEM certificate of both services.")),
        key: v.pipe(file, v.description("PEM key of the certificate.")),
        ca: v.optional(
          v.pipe(
            file,
            v.description(
              "Authorities of the nodes' certificates, for the link; default: a self-signed certificate itself, else the system's.",
            ),
          ),
        ),
        clientCa: v.optional(
          v.pipe(file, v.description("Clients, and other nodes, must have a certificate signed by it.")),
        ),
        linkCa: v.optional(
          v.pipe(
            file,
            v.description(
              "Other nodes must have a certificate signed by it, which clients cannot get; default: tls.clientCa.",
            ),
          ),
        ),
      }),
      v.description("TLS of both services, PEM files."),
    ),
  ),
  allowInsecure: v.optional(
    v.pipe(
      v.boolean(),
      v.description(
        "Listen beyond loopback without TLS, or without asking who calls. Only where the network itself is protected.",
      ),
    ),
    false,
  ),
  auth: v.optional(
    v.pipe(
      v.strictObject({
        required: v.optional(
          v.pipe(
            v.boolean(),
            v.description(
              "Callers must say who they are. Default: where an admin key, tokens or certificates are set.",
            ),
          ),
        ),
        adminKey: v.optional(
          v.pipe(
            v.string(),
            v.minLength(adminKeyLength, `use ${adminKeyLength} random characters or more`),
            v.description("Key of the first administrator, to make others with; better in a file."),
          ),
        ),
        adminKeyFile: v.optional(v.pipe(file, v.description("File with that key."))),
        keysStaleMs: v.optional(
          v.pipe(
            v.number(),
            v.integer(),
            v.minValue(0),
            v.maxValue(7 * 24 * 3_600_000),
            v.description(
              "How long a router takes the keys that it knows while the catalog cannot be reached, and the keys of tokens that it cannot read again; then none: some may have been revoked.",
            ),
          ),
          900_000,
        ),
        tokens: v.optional(
          v.pipe(
            v.strictObject({
              secretFile: v.optional(
                v.pipe(file, v.description("File with the secret of JSON Web Tokens that are signed by HS256.")),
              ),
              keys: v.optional(
                v.pipe(
                  v.string(),
                  v.minLength(1),
                  v.description(
                    "JSON Web Key Set of who signs tokens: an https URL, or a file; read again as keys change.",
                  ),
                ),
              ),
              issuer: v.optional(v.pipe(v.string(), v.minLength(1), v.description("What tokens must have as iss."))),
              audience: v.optional(
                v.pipe(
                  v.string(),
                  v.minLength(1),
                  v.description(
                    "What tokens must have in aud. Needed with auth.tokens.keys: who signs may do so for others too.",
                  ),
                ),
              ),
              rolesClaim: v.optional(
                v.pipe(v.string(), v.minLength(1), v.description("Claim with the role or roles of a token.")),
                "roles",
              ),
              collectionsClaim: v.optional(
                v.pipe(
                  v.string(),
                  v.minLength(1),
                  v.description(
                    "Claim with patterns of collections; a token without it is for all that its roles allow.",
                  ),
                ),
                "collections",
              ),
              tenantClaim: v.optional(
                v.pipe(
                  v.string(),
                  v.minLength(1),
                  v.description("Claim with the tenant, which every token must have then."),
                ),
              ),
              tenantPath: v.optional(
                v.pipe(
                  v.string(),
                  v.minLength(1),
                  v.description(
                    "Field of the payload that is equal to the claim in all points that the token's caller may see.",
                  ),
                ),
              ),
              clockSkewMs: v.optional(
                v.pipe(
                  v.number(),
                  v.integer(),
                  v.minValue(0),
                  v.maxValue(300_000),
                  v.description("How far the clocks of who signs and of this node may differ."),
                ),
                30_000,
              ),
            }),
            v.description("JSON Web Tokens."),
          ),
        ),
        audit: v.optional(
          v.pipe(
            v.strictObject({
              file: v.optional(
                v.pipe(
                  file,
                  v.description("File for a line of JSON about each call: who did what with which outcome."),
                ),
              ),
              readSample: v.optional(
                v.pipe(
                  v.number(),
                  v.minValue(0),
                  v.maxValue(1),
                  v.description("The part of reads that succeed which is kept there; all else is kept."),
                ),
                0.01,
              ),
              maxBytes: v.optional(
                v.pipe(
                  bytes,
                  v.minValue(64 * 1024),
                  v.maxValue(16 * 1024 * mib),
                  v.description("Bytes of one file; a full one is renamed."),
                ),
                64 * mib,
              ),
              files: v.optional(
                v.pipe(
                  v.number(),
                  v.integer(),
                  v.minValue(1),
                  v.maxValue(1_000),
                  v.description("Files that are kept."),
                ),
                8,
              ),
            }),
            v.description("Who did what."),
          ),
          {},
        ),
        certificates: v.optional(
          v.pipe(
            v.record(
              v.pipe(v.string(), v.minLength(1)),
              v.pipe(v.array(v.pipe(v.string(), v.minLength(1))), v.minLength(1)),
            ),
            v.description(
              "Roles of clients by the common name of their certificates (with tls.clientCa); in the file alone.",
            ),
          ),
        ),
      }),
      v.description("Who may call the public service; see docs/security.md."),
    ),
    {},
  ),
  encryption: v.optional(
    v.pipe(
      v.strictObject({
        key: v.optional(
          v.pipe(v.string(), v.minLength(1), v.description("Master key of the encryption at rest; better in a file.")),
        ),
        keyFile: v.optional(
          v.pipe(
            file,
            v.description(
              "File with the master key of the encryption at rest: 32 random bytes as base64. Further lines have keys of before, which are needed while something is encrypted with them.",
            ),
          ),
        ),
        keyCommand: v.optional(
          v.pipe(
            v.string(),
            v.minLength(1),
            v.description("Command, for /bin/sh, that writes what such a file holds; run at the start, and on SIGHUP."),
          ),
        ),
      }),
      v.description("Encryption at rest; see docs/security.md. Without a key nothing is encrypted."),
    ),
    {},
  ),
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
  leveldb: v.optional(
    v.pipe(
      v.strictObject({
        writeBufferBytes: v.optional(
          v.pipe(
            bytes,
            v.minValue(1 * mib),
            v.maxValue(1024 * mib),
            v.description(
              "Memory of each replica's LevelDB, and of the embedded log's (16 MiB at most), for what is not in a table on the disk yet; up to twice as much while one is written out.",
            ),
          ),
          32 * mib,
        ),
        cacheBytes: v.optional(
          v.pipe(
            bytes,
            v.minValue(256 * 1024),
            v.maxValue(64 * 1024 * mib),
            v.description("Memory of each replica's LevelDB for blocks of tables that were read."),
          ),
          8 * mib,
        ),
      }),
      v.description("LevelDB's shares of the memory."),
    ),
    {},
  ),
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
  backup: v.optional(
    v.pipe(
      v.strictObject({
        folder: v.optional(
          v.pipe(
            v.string(),
            v.minLength(1),
            v.description(
              "Folder for backups, the same for all nodes. Default with an embedded log: backups in the data folder.",
            ),
          ),
        ),
        s3: v.optional(
          v.pipe(
            v.strictObject({
              bucket: v.pipe(
                v.string(),
                v.minLength(1),
                v.maxLength(255),
                v.description("Bucket of an S3-compatible store for backups."),
              ),
              prefix: v.optional(
                v.pipe(
                  v.string(),
                  v.regex(
                    /^$|^[A-Za-z0-9_][A-Za-z0-9_./-]*[A-Za-z0-9_.-]$|^[A-Za-z0-9_]$/,
                    "use steps of letters, digits, _, - and .",
                  ),
                  v.description("Folder in the bucket."),
                ),
                "",
              ),
              region: v.optional(
                v.pipe(v.string(), v.minLength(1), v.description("Region of the bucket.")),
                "us-east-1",
              ),
              endpoint: v.optional(
                v.pipe(v.string(), v.url(), v.description("URL of the store; default: Amazon's of the region.")),
              ),
              pathStyle: v.optional(
                v.pipe(
                  v.boolean(),
                  v.description("The bucket stands in the path of URLs, as most stores other than Amazon's want it."),
                ),
                false,
              ),
              accessKeyId: v.pipe(v.string(), v.minLength(1), v.description("Access key of the store.")),
              secretAccessKeyFile: v.pipe(file, v.description("File with the secret of the access key.")),
            }),
            v.description("Object store for backups."),
          ),
        ),
      }),
      v.description("Where backups are."),
    ),
    {},
  ),
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
  standby: v.optional(
    v.pipe(
      v.strictObject({
        primary: v.pipe(
          v.strictObject({
            url: v.pipe(
              v.string(),
              v.minLength(1),
              v.description("NATS URLs of the primary cluster, comma-separated; with tls:// as in log.url."),
            ),
            cluster: v.optional(
              v.pipe(
                v.string(),
                v.regex(/^[A-Za-z0-9-]{1,32}$/, "use 1..32 letters, digits and -"),
                v.description("Name of the primary cluster."),
              ),
              "kith",
            ),
            credentials: v.optional(v.pipe(file, v.description("NATS credentials file for the primary's servers."))),
          }),
          v.description("The cluster that is followed."),
        ),
      }),
      v.description(
        "This cluster is the standby of another one: it repeats all that is there, and takes no changes of its own before it is promoted (`kith standby`). The same on all nodes.",
      ),
    ),
  ),
  waitForShards: v.optional(
    v.pipe(
      v.boolean(),
      v.description(
        "A router without the shard role is not ready, and coordinates nothing, while a shard node that is up runs an older release: updates then go in the right order by themselves.",
      ),
    ),
    false,
  ),
  kubernetes: v.optional(
    v.pipe(
      v.strictObject({
        statefulSet: v.optional(
          v.pipe(
            name,
            v.description(
              "StatefulSet whose pod this node is; it then drains itself at its end (`drainOnStopMs`) only where the StatefulSet is to have fewer pods, not where the pod is replaced.",
            ),
          ),
        ),
        nodeName: v.optional(
          v.pipe(
            v.string(),
            v.minLength(1),
            v.maxLength(253),
            v.description(
              "Machine on which this pod runs; the node's zone is then the label topology.kubernetes.io/zone of the machine.",
            ),
          ),
        ),
        serviceAccount: v.optional(
          v.pipe(
            v.string(),
            v.minLength(1),
            v.description("Folder with the token, namespace and ca.crt by which Kubernetes is asked."),
          ),
          "/var/run/secrets/kubernetes.io/serviceaccount",
        ),
      }),
      v.description("What this node asks Kubernetes, as a pod."),
    ),
    {},
  ),
});

/** The configuration of a node, checked and complete. */
export type NodeConfig = v.InferOutput<typeof settingsSchema>;
