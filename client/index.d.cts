import type * as client from "../dist/libs/client/index.js" with { "resolution-mode": "import" };

export type * from "../dist/libs/client/index.js" with { "resolution-mode": "import" };
// What is a value, too, is named: types alone can be passed on from an ES module to CommonJS.
export declare const connect: typeof client.connect;
export declare const defaultTarget: typeof client.defaultTarget;
export declare const KithError: typeof client.KithError;
export type KithError = client.KithError;
export declare const FilterBuilder: typeof client.FilterBuilder;
export type FilterBuilder<P> = client.FilterBuilder<P>;
export declare const where: typeof client.where;
export declare const payloadIndexKinds: typeof client.payloadIndexKinds;
export declare const textTokenizers: typeof client.textTokenizers;
export declare const hybridQuery: typeof client.hybridQuery;
export declare const highlightOf: typeof client.highlightOf;
