import { compareIds, fieldOf, type Filter, filterOf, type IdKey, idMapKey } from "../model/index.js";
import { both, type QuerySource } from "./run.js";

/** Which points are compared, and with how many others each. */
export interface MatrixRequest {
  /** Name of the vector field. */
  using: string;
  filter: Filter | undefined;
  /** Points drawn by chance. */
  sample: number;
  /** Nearest of the others wanted for each. */
  limit: number;
}

/** Of pairs of points how alike they are; pairs by place in `ids`, for each row the nearest first. */
export interface Matrix {
  /** In their order. */
  ids: IdKey[];
  rows: number[];
  columns: number[];
  scores: number[];
}

/** Points that are compared with the others at once. */
const searchesAtOnce = 8;

/** Draws points that have the vector and finds for each the nearest of the others, exactly. Empty for fewer than two. */
export async function runMatrix(source: QuerySource, request: MatrixRequest): Promise<Matrix> {
  const field = fieldOf(source.collection, request.using);
  const { name } = field;
  const filter = both(request.filter, filterOf({ must: [{ kind: "hasVector", name }] }));
  const scope = { filter, ids: undefined, exclude: [] };
  const drawn = await source.sample(scope, request.sample, { payload: false, vectors: [name] });
  const points = drawn
    .flatMap(({ id, vectors }) => {
      const vector = vectors?.get(name);
      return vector === undefined ? [] : [{ id, vector }];
    })
    .sort((a, b) => compareIds(a.id, b.id));
  const matrix: Matrix = { ids: [], rows: [], columns: [], scores: [] };
  if (points.length < 2) return matrix;
  matrix.ids = points.map(({ id }) => id);
  const places = new Map(matrix.ids.map((id, place) => [idMapKey(id), place]));
  for (let from = 0; from < points.length; from += searchesAtOnce) {
    const lists = await Promise.all(
      points.slice(from, from + searchesAtOnce).map(({ id, vector }) =>
        source.search({
          filter: undefined,
          ids: matrix.ids,
          exclude: [id],
          field,
          scorer: { kind: "nearest", vector },
          limit: request.limit,
          threshold: undefined,
          ef: 0,
          exact: true,
          select: { payload: false, vectors: [] },
        }),
      ),
    );
    for (const [i, hits] of lists.entries()) {
      for (const { id, score } of hits) {
        const column = places.get(idMapKey(id));
        if (column === undefined) continue;
        matrix.rows.push(from + i);
        matrix.columns.push(column);
        matrix.scores.push(score);
      }
    }
  }
  return matrix;
}
