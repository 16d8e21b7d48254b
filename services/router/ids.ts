import { KithError } from "../../libs/base/index.js";
import { type IdKey, idFromKey, idFromName, idFromNum, idFromUuid } from "../../libs/model/index.js";
import type { pb } from "../../libs/wire/index.js";

/** The key form of an id from the wire; INVALID_ID names where it stood. */
export function keyOf(id: pb.PointId | undefined, where: () => string): IdKey {
  try {
    switch (id?.id?.$case) {
      case "num":
        return idFromNum(id.id.value);
      case "uuid":
        return idFromUuid(id.id.value);
      case "name":
        return idFromName(id.id.value);
      default:
        throw new KithError("INVALID_ID", "no id was given; set one of num, uuid or name");
    }
  } catch (error) {
    if (!(error instanceof KithError)) throw error;
    throw new KithError(error.code, `${where()}: ${error.message}`, { details: error.details });
  }
}

export function idOf(key: IdKey): pb.PointId {
  const id = idFromKey(key);
  if (id.kind === "num") return { id: { $case: "num", value: id.value } };
  return { id: { $case: id.kind, value: id.value } };
}
