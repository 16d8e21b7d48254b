import type * as client from "../dist/libs/client/index.js" with { "resolution-mode": "import" };

export type * from "../dist/libs/client/index.js" with { "resolution-mode": "import" };
export declare const connect: typeof client.connect;
export declare const defaultTarget: typeof client.defaultTarget;
export declare const KithError: typeof client.KithError;
export type KithError = client.KithError;
