import { KithError, toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import { type Collection, parseCollection } from "../model/index.js";
import { type Directory, directoryToJson, emptyDirectory, Names, parseDirectory } from "./directory.js";
import { CatalogView, type Versioned } from "./view.js";

/** Of the directory, beside the collections. No collection can have it. */
const directoryName = "_names";
/** A change by compare-and-set is tried so often. */
const changeAttempts = 16;

/**
 * The collections of the cluster, by the keys of their records, and the directory of their names. Both are told by one watch, in the order in
 * which they changed: an alias never means a collection that this view does not have yet, and still means the new one when the old one goes.
 */
export class CollectionsView extends CatalogView<Collection> {
  readonly directory: CatalogView<Directory>;
  /** What each name means now. */
  readonly naming: Names;
  readonly #byId = new Map<string, Collection>();

  constructor(catalog: Catalog) {
    super(catalog, "collections", parseCollection);
    this.directory = this.beside(directoryName, parseDirectory, directoryToJson);
    this.naming = new Names([], emptyDirectory);
    // Before any other listener, which asks for what is known here.
    this.onChange((key, record, before) => {
      if (before !== undefined && this.#byId.get(before.id) === before) this.#byId.delete(before.id);
      if (record !== undefined) this.#byId.set(record.id, record);
      this.naming.set(key, record);
    });
    this.directory.onChange((_name, directory) => this.naming.setDirectory(directory ?? emptyDirectory));
  }

  /** The collection with this id, with the name of its record. */
  findById(id: string): Collection | undefined {
    return this.#byId.get(id);
  }

  /** The directory as it is in the catalog now, whatever the watch has told. */
  async readDirectory(): Promise<Directory> {
    return (await this.directory.read(directoryName))?.value ?? emptyDirectory;
  }

  /**
   * Changes the directory by compare-and-set. `change` may run again on a newer one, and returns undefined, or the same one, to leave it. The view has
   * the change when this resolves; it gives the directory of before, and the present one with its revision.
   */
  async changeDirectory(
    change: (directory: Directory) => Directory | undefined,
  ): Promise<{ before: Directory; after: Versioned<Directory> }> {
    for (let attempt = 0; attempt < changeAttempts; attempt++) {
      const present = await this.directory.read(directoryName);
      const before = present?.value ?? emptyDirectory;
      const value = change(before);
      if (value === undefined || value === before) return { before, after: present ?? { value: before, revision: 0 } };
      try {
        const after = await (present === undefined
          ? this.directory.create(directoryName, value)
          : this.directory.replace(directoryName, value, present.revision));
        return { before, after };
      } catch (error) {
        const { code } = toKithError(error);
        if (code !== "REVISION_MISMATCH" && code !== "ALREADY_EXISTS") throw error;
      }
    }
    throw new KithError("REVISION_MISMATCH", "the names of collections kept changing; try again");
  }
}

export function collectionsView(catalog: Catalog): CollectionsView {
  return new CollectionsView(catalog);
}
