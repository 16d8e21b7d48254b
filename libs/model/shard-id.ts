/** One shard of one collection: names its log and its replicas. */
export interface ShardId {
  collectionId: string;
  /** Never reused within its collection; it says nothing about a position among the shards. */
  shard: number;
}
