import { existsSync } from "node:fs";
import { readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Clock, makeFolder } from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import type { Collection, ReplicaPlacement, ShardId } from "../../libs/model/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

interface ReplicaFoldersOptions {
  nodeId: string;
  /** Folder of this node. */
  data: string;
  collections: CollectionsView;
  clock: Clock;
  logger: Logger;
}

/** Where the replicas of a node lie: in replicas/<collection id>/<shard>, and in orphans/ those that nobody knows. */
export class ReplicaFolders {
  readonly #options: ReplicaFoldersOptions;
  readonly #root: string;

  constructor(options: ReplicaFoldersOptions) {
    this.#options = options;
    this.#root = join(options.data, "replicas");
  }

  of({ collectionId, shard }: ShardId): string {
    return join(this.#root, collectionId, String(shard));
  }

  has(name: ShardId): boolean {
    return existsSync(this.of(name));
  }

  /** Deletes the folder of a closed replica where that `isMeant`; otherwise moves it aside. */
  async drop(name: ShardId, collection: string, isMeant: boolean): Promise<void> {
    const { logger } = this.#options;
    const fields = { collection, shard: name.shard };
    const directory = this.of(name);
    if (isMeant) {
      await rm(directory, { recursive: true, force: true });
      logger.info("replica dropped", fields);
    } else {
      const aside = join(this.#asideOf(name.collectionId), String(name.shard));
      await moveAside(directory, aside);
      logger.error(
        `replica alarm: the catalog has lost the collection "${collection}", which nobody had deleted: its replica was moved to ${aside}. ` +
          `Once the catalog is restored, stop this node, move the replica back to ${directory} and start; delete it when it is not missed`,
        { ...fields, alarm: "catalog_lost" },
      );
    }
    // Only the last one finds the collection's folder empty.
    await rmdir(dirname(directory)).catch(() => undefined);
  }

  /**
   * Replicas on disk that the catalog does not know (a collection deleted while this node was down, or a catalog that
   * lost its data) are moved aside, never deleted: a wrong catalog must not cost a single point. Those that were given to other nodes
   * meanwhile are deleted, where one of these is active.
   */
  async setOrphansAside(): Promise<void> {
    const { collections, logger } = this.#options;
    await makeFolder(this.#root);
    for (const id of await readdir(this.#root)) {
      const record = collections.findById(id);
      if (record?.state === "deleting") await rm(join(this.#root, id), { recursive: true, force: true });
      else if (record?.state === "ready") await this.#deleteReplaced(record);
      if (record !== undefined) continue;
      const aside = this.#asideOf(id);
      await moveAside(join(this.#root, id), aside);
      logger.warn(
        `the catalog does not know the collection ${id}: its replicas were moved to ${aside}; delete them when they are not missed`,
        {},
      );
    }
  }

  async #deleteReplaced({ id, name, shards }: Collection): Promise<void> {
    const { nodeId, logger } = this.#options;
    for (const { shard, replicas } of shards) {
      const isElsewhere = !replicas.some(({ node }) => node === nodeId) && replicas.some(isActive);
      const replaced = { collectionId: id, shard };
      if (!isElsewhere || !this.has(replaced)) continue;
      await rm(this.of(replaced), { recursive: true, force: true });
      logger.info("replica dropped: other nodes have taken its place while this one was away", {
        collection: name,
        shard,
      });
    }
  }

  #asideOf(collectionId: string): string {
    return join(this.#options.data, "orphans", `${collectionId}-${this.#options.clock.nowMs()}`);
  }
}

function isActive({ state }: ReplicaPlacement): boolean {
  return state === "active";
}

async function moveAside(directory: string, aside: string): Promise<void> {
  await makeFolder(dirname(aside));
  await rename(directory, aside);
}
