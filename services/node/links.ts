import { KithError } from "../../libs/base/index.js";
import type { NodesView } from "../../libs/cluster/index.js";
import { LinkClient, type LinkClientOptions, type ShardApi } from "../../libs/rpc/index.js";
import type { ShardNode } from "../router/index.js";

export interface NodeLinksOptions {
  nodes: NodesView;
  /** This process, where it hosts replicas itself: called without a socket. */
  local?: { id: string; zone: string; api: ShardApi };
  link: Omit<LinkClientOptions, "address">;
}

/** One link to each shard node, made when it is first needed and made anew when the node moves to another address. */
export class NodeLinks {
  readonly #options: NodeLinksOptions;
  readonly #nodes = new Map<string, LinkedNode>();
  readonly #stopWatching: () => void;

  constructor(options: NodeLinksOptions) {
    this.#options = options;
    this.#stopWatching = options.nodes.onChange((id, record) => {
      this.#nodes.get(id)?.moveTo(record?.linkAddress ?? "", record?.zone ?? "");
    });
  }

  find(id: string): ShardNode {
    const { local, nodes, link } = this.#options;
    if (local !== undefined && id === local.id) return { ...local, usable: true };
    let node = this.#nodes.get(id);
    if (node === undefined) {
      node = new LinkedNode(id, link);
      this.#nodes.set(id, node);
      const record = nodes.get(id);
      node.moveTo(record?.linkAddress ?? "", record?.zone ?? "");
    }
    return node;
  }

  close(): void {
    this.#stopWatching();
    for (const node of this.#nodes.values()) node.moveTo("", "");
  }
}

class LinkedNode implements ShardNode {
  zone = "";
  #address = "";
  #client: LinkClient | undefined;

  constructor(
    readonly id: string,
    private readonly link: Omit<LinkClientOptions, "address">,
  ) {}

  get usable(): boolean {
    return this.#client !== undefined && this.#client.state === "connected";
  }

  get api(): ShardApi {
    if (this.#client !== undefined) return this.#client;
    throw new KithError("SHARD_UNAVAILABLE", `node ${this.id} has not told its address`, {
      details: { node: this.id },
    });
  }

  moveTo(address: string, zone: string): void {
    this.zone = zone;
    if (address === this.#address) return;
    this.#address = address;
    this.#client?.close();
    this.#client = address === "" ? undefined : new LinkClient({ ...this.link, address });
  }
}
