import { KithError } from "../../libs/base/index.js";
import type { NodeRecord, NodesView } from "../../libs/cluster/index.js";
import { LinkClient, type LinkClientOptions } from "../../libs/link/index.js";
import type { ShardApi } from "../../libs/shard-api/index.js";
import type { ShardNode } from "../router/index.js";

export interface NodeLinksOptions {
  nodes: NodesView;
  /** This process, where it hosts replicas itself: called without a socket. */
  local?: { id: string; zone: string; api: ShardApi };
  link: Omit<LinkClientOptions, "address" | "node">;
}

/** One link to each shard node, made when it is first needed and made anew when the node moves to another address. */
export class NodeLinks {
  readonly #options: NodeLinksOptions;
  readonly #nodes = new Map<string, LinkedNode>();
  readonly #stopWatching: () => void;

  constructor(options: NodeLinksOptions) {
    this.#options = options;
    this.#stopWatching = options.nodes.onChange((id, record) => {
      this.#nodes.get(id)?.follow(record);
    });
  }

  find(id: string): ShardNode {
    const { local, nodes, link } = this.#options;
    if (local !== undefined && id === local.id) return { ...local, usable: true };
    let node = this.#nodes.get(id);
    if (node === undefined) {
      node = new LinkedNode(id, link, nodes);
      this.#nodes.set(id, node);
      node.follow(nodes.get(id));
    }
    return node;
  }

  close(): void {
    this.#stopWatching();
    for (const node of this.#nodes.values()) node.close();
  }
}

/** The link to one node, as the node's record says where it is and whether it takes requests. */
class LinkedNode implements ShardNode {
  zone = "";
  #client: LinkClient | undefined;
  #isDraining = false;
  #isGone = true;

  constructor(
    readonly id: string,
    private readonly link: Omit<LinkClientOptions, "address" | "node">,
    private readonly nodes: NodesView,
  ) {}

  get silent(): boolean {
    return this.nodes.isSilent(this.id);
  }

  /** A draining node is asked for nothing more, but its link stays for what is in flight. */
  get usable(): boolean {
    return this.#client?.state === "connected" && !this.#isDraining;
  }

  get api(): ShardApi {
    if (this.#client !== undefined) return this.#client;
    throw new KithError("SHARD_UNAVAILABLE", `node ${this.id} has not told its address`, {
      details: { node: this.id },
    });
  }

  follow(record: NodeRecord | undefined): void {
    this.#isGone = record === undefined;
    if (record === undefined) {
      this.#closeWhenLeft();
      return;
    }
    this.zone = record.zone;
    this.#isDraining = record.state === "draining";
    if (record.linkAddress !== (this.#client?.address ?? "")) this.#connect(record.linkAddress);
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  #connect(address: string): void {
    this.close();
    if (address === "") return;
    const client = new LinkClient({ ...this.link, address, node: this.id });
    this.#client = client;
    client.onState(() => {
      if (this.#isGone && client === this.#client) this.#closeWhenLeft();
    });
  }

  /** A node without a record has ended, or the catalog has lost the record: the node itself ends the link, or does not. */
  #closeWhenLeft(): void {
    if (this.#client?.state !== "connected") this.close();
  }
}
