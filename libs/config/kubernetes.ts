import * as v from "valibot";
import { name } from "./values.js";

/** What a pod asks Kubernetes. */
export const kubernetes = v.optional(
  v.pipe(
    v.strictObject({
      statefulSet: v.optional(
        v.pipe(
          name,
          v.description(
            "StatefulSet whose pod this node is; it then drains itself at its end (`drainOnStopMs`) only where the StatefulSet is to have fewer pods, not where the pod is replaced.",
          ),
        ),
      ),
      nodeName: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.maxLength(253),
          v.description(
            "Machine on which this pod runs; the node's zone is then the label topology.kubernetes.io/zone of the machine.",
          ),
        ),
      ),
      serviceAccount: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.description("Folder with the token, namespace and ca.crt by which Kubernetes is asked."),
        ),
        "/var/run/secrets/kubernetes.io/serviceaccount",
      ),
    }),
    v.description("What this node asks Kubernetes, as a pod."),
  ),
  {},
);
