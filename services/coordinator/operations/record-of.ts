import type { OperationSubject } from "../../../libs/cluster/index.js";
import type { Collection } from "../../../libs/model/index.js";
import type { OperationContext } from "./machine.js";

/** The key of the collection's record: its name, or what was its name when it was made. */
export function recordKey(subject: OperationSubject, { collections }: OperationContext): string {
  const isKey = (key: string): boolean => collections.get(key)?.value.id === subject.collectionId;
  return isKey(subject.collection) ? subject.collection : (collections.names().find(isKey) ?? subject.collection);
}

/** The collection as the catalog has it now; undefined where it is no more, or is being deleted. */
export async function recordOf(subject: OperationSubject, context: OperationContext): Promise<Collection | undefined> {
  const record = (await context.collections.read(recordKey(subject, context)))?.value;
  if (record === undefined || record.id !== subject.collectionId) return undefined;
  return record.state === "ready" ? record : undefined;
}
