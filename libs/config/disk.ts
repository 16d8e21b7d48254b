import * as v from "valibot";
import { bytes, file, mib } from "./values.js";

/* What a node keeps on disks, and in memory of them. */

/** Encryption at rest. */
export const encryption = v.optional(
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
);

/** LevelDB's shares of the memory. */
export const leveldb = v.optional(
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
);

/** Where backups are. */
export const backup = v.optional(
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
            region: v.optional(v.pipe(v.string(), v.minLength(1), v.description("Region of the bucket.")), "us-east-1"),
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
);
