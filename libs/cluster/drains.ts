import { toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import { CatalogView } from "./view.js";

/** A node is to give its replicas to others, and takes no new ones. */
export interface Drain {
  /** Wall clock at which that was asked for, milliseconds since the Unix epoch. For people. */
  sinceMs: number;
  /** The node itself asked for it, at its end: it takes it back when it starts again. */
  isOwn: boolean;
}

/** The nodes that are being drained, by id. Beside the nodes' own records: a node writes these anew all the time. */
export class DrainsView {
  readonly #view: CatalogView<Drain>;

  constructor(catalog: Catalog) {
    this.#view = new CatalogView(catalog, "drains", (json) => JSON.parse(json) as Drain);
  }

  start(signal?: AbortSignal): Promise<void> {
    return this.#view.start(signal);
  }

  get(node: string): Drain | undefined {
    return this.#view.get(node)?.value;
  }

  onChange(listener: (node: string) => void): () => void {
    return this.#view.onChange(listener);
  }

  /** No error where it is being drained already: what asked for it first stays. */
  async add(node: string, drain: Drain): Promise<void> {
    try {
      await this.#view.create(node, drain);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      await this.#view.read(node);
    }
  }

  /** No error where it is not. */
  async remove(node: string): Promise<void> {
    await this.#view.delete(node);
  }

  close(): Promise<void> {
    return this.#view.close();
  }
}
